"""The verb `pool check`. Heavy imports stand inside it, as in the command line itself."""

from typing import Annotated

import typer

from studies.terminal import JsonOption, PoolArgument, console, print_json, quiet_libraries


def add_pool_check_verb(pool_app: typer.Typer) -> None:
    """Add the verb to those of `pool`."""
    example = "Examples: `mixscout pool check pool.toml`, `mixscout pool check pool.toml --points 1 --json`"
    pool_app.command("check", epilog=example)(check)


def check(
    pool_file: PoolArgument,
    points: Annotated[int, typer.Option(min=1, help="Points on the line between two models.")] = 3,
    pairs: Annotated[int, typer.Option(min=0, help="Most pairs whose line is walked, the least alike first.")] = 36,
    as_json: JsonOption = False,
) -> None:
    """Tell whether a pool is likely to merge well: transfer between members, task vectors, loss barriers.

    Writes a picture of each matrix into the root's reports folder. Asked again, it merges nothing.
    """
    quiet_libraries()
    from pool.config.pool_file import read_pool_file
    from pool.parts.store import open_pool
    from studies.assessment.pool_check.picture import draw_pool_check
    from studies.assessment.pool_check.run import Lines, run_pool_check
    from studies.assessment.pool_check.table import show_pool_check
    from studies.assessment.pool_check.verdict import judge

    pool = open_pool(read_pool_file(pool_file))
    found = run_pool_check(pool, Lines(points, pairs))
    verdict = judge(found)
    pictures = draw_pool_check(found, pool.config.root / "reports")
    if as_json:
        print_json({**found.as_json(), "verdict": verdict.as_json()})
        return
    show_pool_check(console(), found, verdict)
    console().print("pictures: " + ", ".join(map(str, pictures)), soft_wrap=True)
