"""The verb `pool units`. Heavy imports stand inside it, as in the command line itself."""

from typing import TYPE_CHECKING, Annotated

import typer

from studies.terminal import JsonOption, PoolArgument, console, print_json, quiet_libraries

if TYPE_CHECKING:
    from pool.mixture import Groups, Mixture


def add_pool_units_verb(pool_app: typer.Typer) -> None:
    """Add the verb to those of `pool`."""
    example = "Examples: `mixscout pool units pool.toml --macro`, `... --mixture news=0.7,wiki=0.3 --json`"
    pool_app.command("units", epilog=example)(units)


def units(
    pool_file: PoolArgument,
    mixture: Annotated[
        str | None, typer.Option(metavar="NAME=WEIGHT,...", help="A mixture over groups, or over units.")
    ] = None,
    macro: Annotated[bool, typer.Option("--macro", help="All groups alike; without it, all units alike.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the groups of a pool's base units, and turn weights over groups into weights over units and back."""
    quiet_libraries()
    from pool.config.pool_file import read_pool_file
    from pool.mixture import Mixture, even_within_groups, to_groups, to_units
    from pool.parts.store import open_pool

    groups = open_pool(read_pool_file(pool_file)).by_groups().groups
    if mixture is not None:
        by_unit = _asked(mixture, groups, macro=macro)
    elif macro:
        by_unit = to_units(Mixture.uniform(tuple(groups)), groups)
    else:
        by_unit = Mixture.uniform([unit for some in groups.values() for unit in some])
    by_group, even = to_groups(by_unit, groups), even_within_groups(by_unit, groups)
    if as_json:
        members = {group: list(some) for group, some in groups.items()}
        print_json({"groups": members, "macro": by_group.as_dict(), "micro": by_unit.as_dict(), "even": even})
    else:
        _show(by_group, by_unit, groups, even=even)


def _asked(text: str, groups: "Groups", *, macro: bool) -> "Mixture":
    """Read a mixture over groups or over units, whichever its first name is of."""
    from pool.errors import ConfigError
    from pool.mixture import to_units
    from studies.terminal import named_weights

    if macro:
        raise ConfigError("--macro and --mixture both say what the weights are: give one of them")
    if text.partition("=")[0].strip() in groups:
        return to_units(named_weights(text, tuple(groups), option="--mixture"), groups)
    every = tuple(unit for some in groups.values() for unit in some)
    return named_weights(text, every, option="--mixture")


def _show(by_group: "Mixture", by_unit: "Mixture", groups: "Groups", *, even: bool) -> None:
    from rich.table import Table

    table = Table("group", "weight", "unit", "weight")
    weights = by_unit.as_dict()
    for group, weight in by_group.as_dict().items():
        for place, unit in enumerate(groups[group]):
            first = (group, f"{weight:.4f}") if place == 0 else ("", "")
            table.add_row(*first, unit, f"{weights[unit]:.4f}")
    console().print(table)
    if not even:
        console().print("The units of a group weigh differently: their group's weight alone does not give them back.")
