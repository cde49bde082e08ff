"""The verb `pool add`. Heavy imports stand inside it, as in the command line itself."""

from pathlib import Path
from typing import Annotated

import typer

from studies.terminal import JsonOption, PoolArgument, TextRootOption, console, print_json, quiet_libraries


def add_pool_add_verb(pool_app: typer.Typer) -> None:
    """Add the verb to those of `pool`."""
    example = "Examples: `mixscout pool add pool.toml news --checkpoint runs/news`, `... --replace --json`"
    pool_app.command("add", epilog=example)(add)


def add(
    pool_file: PoolArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A partition of the pool file.")],
    checkpoint: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the checkpoint: safetensors only.")],
    tokenizer: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of its tokenizer.json, where that is another one.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Put it in the place of the member there is.")] = False,
    text_root: TextRootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take in a member that was trained elsewhere from the pool's seed, after checking that it fits.

    Its partition is not trained by `pool build` then. A checkpoint that does not fit leaves the pool as it was.
    """
    quiet_libraries()
    from pool.building.adding import Source, add_member
    from pool.config.pool_file import read_pool_file

    config = read_pool_file(pool_file, text_root)
    added = add_member(config, name, Source(checkpoint, tokenizer, replace))
    if as_json:
        print_json(
            {
                "pool": config.name,
                "member": name,
                "manifest": added.manifest.model_dump(mode="json"),
                "cosine_to_seed": added.cosine_to_seed,
                "missing": list(added.missing),
            }
        )
        return
    console().print(f"member {name!r} is in pool {config.name}", soft_wrap=True)
    if added.missing:
        console().print(f"still missing: {', '.join(added.missing)}; `mixscout pool build` trains them", soft_wrap=True)
    else:
        console().print("the pool is complete", soft_wrap=True)
