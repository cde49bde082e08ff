"""The verbs of `mixscout pool`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from pool.engines.choice import EngineRequest
from pool.errors import ConfigError
from studies.command_line.options import (
    AddressOption,
    CpusOption,
    DryRunOption,
    EngineOption,
    FilesOption,
    GpusOption,
    JsonOption,
    PoolArgument,
    TextRootOption,
    WorkersOption,
    folder_of_files,
    study_files_of,
    tell_next,
)
from studies.command_line.verbs import Verbs
from studies.terminal import console, named_weights, print_costs, print_json, print_next, quiet_models, since_start

if TYPE_CHECKING:
    from pool.mixture import Groups, Mixture
    from pool.parts.store import PoolManifest

pool_verbs = Verbs(help="Build, show and check pools.", no_args_is_help=True)


@pool_verbs.command(
    epilog="Examples: `mixscout pool build pool.toml`, `... --dry-run`, `... --all-members`, `... --workers 4`"
)
def build(
    pool_file: PoolArgument,
    rebuild: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            show_default="none",
            help="Train a member again; `seed` for seed and members, `all` for everything.",
        ),
    ] = None,
    all_members: Annotated[bool, typer.Option("--all-members", help="Train every member again.")] = False,
    workers: WorkersOption = None,
    engine: EngineOption = None,
    address: AddressOption = None,
    num_cpus: CpusOption = None,
    num_gpus: GpusOption = None,
    text_root: TextRootOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Build the missing parts of a pool: corpus, tokenizer, seed, members. After a kill, the same line resumes.

    With --workers, members are trained side by side; those of a small model on CPUs always are.
    """
    from pool.config.pool_file import read_pool_file
    from pool.corpus.reading.source_files import check_sources

    wanted = EngineRequest(engine, workers, address, num_cpus, num_gpus)
    config = read_pool_file(pool_file, text_root)
    check_sources(config.corpus.partitions | config.corpus.held_out)
    quiet_models()
    from pool.building.build import build_pool
    from pool.engines.choice import chosen
    from pool.parts.provenance import ALL_MEMBERS

    with chosen(wanted, demand=config.demand) as trains:
        again = [*(rebuild or []), *([ALL_MEMBERS] if all_members else [])]
        if dry_run:
            from pool.building.costs import build_costs

            starting = since_start()
            costs = build_costs(config, again, trains)
            print_costs(costs.beginning_with("start", starting), as_json=as_json)
            return
        manifest = build_pool(config, again, trains).manifest
    _print_pool(manifest, as_json=as_json)
    if not as_json:
        _tell_next(pool_file)


@pool_verbs.command(epilog="Example: `mixscout pool show pool.toml --json`")
def show(pool_file: PoolArgument, as_json: JsonOption = False) -> None:
    """Verify a pool and show its partitions, members, held-out domains and digests."""
    quiet_models()
    from pool.config.pool_file import read_pool_file
    from pool.parts.store import open_pool

    _print_pool(open_pool(read_pool_file(pool_file)).manifest, as_json=as_json)
    if not as_json:
        _tell_next(pool_file)


def _tell_next(pool_file: Path) -> None:
    """Name the search of a study file that stands beside the pool file and names it, or of one to write."""

    found = study_files_of(pool_file)
    if found:
        tell_next("search", found[0], "the best mixture by merges; --dry-run says what that costs")
    else:
        print_next("mixscout search STUDY.toml", f'with pool = "{pool_file.name}" and a [target] in STUDY.toml')


def _print_pool(manifest: "PoolManifest", *, as_json: bool) -> None:
    from pool.progress import say
    from studies.assessment.pool_check.tables import show_pool
    from studies.assessment.pool_check.verdict import suspect_members

    for suspect in suspect_members(manifest):
        say(suspect)
    if as_json:
        print_json(manifest.model_dump(mode="json"))
    else:
        show_pool(console(), manifest)


@pool_verbs.command(
    epilog="Examples: `mixscout pool add pool.toml news --checkpoint runs/news`, `... --replace --json`"
)
def add(
    pool_file: PoolArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A partition of the pool file.")],
    checkpoint: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the checkpoint: safetensors only.")],
    tokenizer: Annotated[
        Path | None, typer.Option(metavar="DIR", show_default="the checkpoint's", help="Folder of tokenizer.json.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the member that is there.")] = False,
    text_root: TextRootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a member that was trained elsewhere from the pool's seed, after checking that it fits.

    `pool build` then does not train its partition. A checkpoint that does not fit leaves the pool unchanged.
    """
    quiet_models()
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
        _tell_next(pool_file)


@pool_verbs.command(
    epilog="Examples: `mixscout pool check pool.toml`, `mixscout pool check pool.toml --points 1 --json`"
)
def check(
    pool_file: PoolArgument,
    points: Annotated[int, typer.Option(min=1, help="Points on the line between two models.")] = 3,
    pairs: Annotated[int, typer.Option(min=0, help="Most pairs of models to examine, the least alike first.")] = 36,
    output: FilesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell whether a pool is likely to merge well: transfer between members, task vectors, loss barriers.

    Writes a picture of each matrix into the root's reports folder. A second run merges nothing.
    """
    quiet_models()
    from pool.config.pool_file import naming, read_pool_file
    from pool.parts.store import open_pool
    from studies.assessment.pool_check.picture import draw_pool_check
    from studies.assessment.pool_check.tables import show_pool_check
    from studies.assessment.pool_check.verdict import judge

    pool = open_pool(read_pool_file(pool_file))
    from studies.assessment.pool_check.check import Lines, run_pool_check  # loads torch: after all is checked

    reports = folder_of_files(output, pool.config.root / "reports")
    with naming(pool.config):
        found = run_pool_check(pool, Lines(points, pairs))
    verdict = judge(found)
    pictures = draw_pool_check(found, reports) if reports else []
    if as_json:
        print_json({**found.as_json(), "verdict": verdict.as_json()})
        return
    show_pool_check(console(), found, verdict)
    if pictures:
        console().print("pictures: " + ", ".join(map(str, pictures)), soft_wrap=True)
    _tell_next(pool_file)


@pool_verbs.command(epilog="Examples: `mixscout pool overlap pool.toml`, `mixscout pool overlap pool.toml --json`")
def overlap(pool_file: PoolArgument, text_root: TextRootOption = None, as_json: JsonOption = False) -> None:
    """List the held-out documents that share a passage of 13 words with training text. Builds nothing."""
    from pool.config.pool_file import naming, read_pool_file
    from pool.corpus.reading.source_files import check_sources

    config = read_pool_file(pool_file, text_root)
    check_sources(config.corpus.partitions | config.corpus.held_out)
    quiet_models()
    from pool.corpus.overlap import find_overlap
    from pool.tokens.preparing import read_text
    from studies.assessment.pool_check.tables import show_overlap

    with naming(config):
        found = find_overlap(read_text(config.corpus).corpus, config.corpus.scored)
    if as_json:
        print_json({"pool": config.name, **found.as_json()})
    else:
        show_overlap(console(), found)


@pool_verbs.command(
    epilog="Examples: `mixscout pool units pool.toml --macro`, `... --mixture news=0.7,wiki=0.3 --json`"
)
def units(
    pool_file: PoolArgument,
    mixture: Annotated[
        str | None,
        typer.Option(metavar="NAME=WEIGHT,...", show_default="uniform", help="A mixture over groups, or over units."),
    ] = None,
    macro: Annotated[bool, typer.Option("--macro", help="Weigh all groups alike; by default, all units.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the groups of a pool's base units, and convert weights between groups and units."""
    quiet_models()
    from pool.config.pool_file import read_pool_file
    from pool.mixture import Mixture, even_within_groups, to_groups, to_units
    from pool.parts.store import open_pool

    groups = open_pool(read_pool_file(pool_file)).by_groups().groups
    if mixture is not None:
        by_unit = _asked_mixture(mixture, groups, macro=macro)
    elif macro:
        by_unit = to_units(Mixture.uniform(tuple(groups)), groups)
    else:
        by_unit = Mixture.uniform([unit for some in groups.values() for unit in some])
    by_group, even = to_groups(by_unit, groups), even_within_groups(by_unit, groups)
    if as_json:
        members = {group: list(some) for group, some in groups.items()}
        print_json({"groups": members, "macro": by_group.as_dict(), "micro": by_unit.as_dict(), "even": even})
    else:
        _show_units(by_group, by_unit, groups, even=even)


def _asked_mixture(text: str, groups: "Groups", *, macro: bool) -> "Mixture":
    """Read a mixture over groups or over units: the first name decides."""
    from pool.mixture import to_units

    if macro:
        raise ConfigError("--macro and --mixture both say what the weights are: give one of them")
    if text.partition("=")[0].strip() in groups:
        return to_units(named_weights(text, tuple(groups), option="--mixture"), groups)
    every = tuple(unit for some in groups.values() for unit in some)
    return named_weights(text, every, option="--mixture")


def _show_units(by_group: "Mixture", by_unit: "Mixture", groups: "Groups", *, even: bool) -> None:
    table = Table("group", "weight", "unit", "weight")
    weights = by_unit.as_dict()
    for group, weight in by_group.as_dict().items():
        for place, unit in enumerate(groups[group]):
            first = (group, f"{weight:.4f}") if place == 0 else ("", "")
            table.add_row(*first, unit, f"{weights[unit]:.4f}")
    console().print(table)
    if not even:
        console().print("The units of a group weigh differently: their group's weight alone does not give them back.")
