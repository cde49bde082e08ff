"""The command line. Answers go to stdout, progress to stderr; what a user can cause is one line and exit code 1.

Heavy imports stand inside the verbs, so that `--help` answers at once.

The order of the verbs in `mixscout --help`: that in which a newcomer needs them, wherever each is added.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer.core import TyperGroup

from pool.errors import MixscoutError
from studies.command_line.bench import bench_app
from studies.command_line.compare import add_comparison_verb
from studies.command_line.fidelity import add_fidelity_verbs
from studies.command_line.options import AddressOption, CpusOption, EngineOption, GpusOption, WorkersOption
from studies.command_line.outcome import add_outcome_verbs, add_report_verbs
from studies.command_line.pool import add_pool_add_verb, add_pool_check_verb, add_pool_overlap_verb, add_pool_units_verb
from studies.command_line.search import add_search_verbs
from studies.terminal import (
    JsonOption,
    PoolArgument,
    StudyArgument,
    TextRootOption,
    console,
    print_json,
    quiet_libraries,
)

if TYPE_CHECKING:
    from pool.parts.store import PoolManifest
    from studies.study_file.study_file import StudyFile


ORDER = (
    "demo",
    "pool",
    "search",
    "worker",
    "best",
    "robustness",
    "confirm",
    "fidelity",
    "predict",
    "ablate",
    "compare",
    "export",
    "table",
    "handover",
    "report",
    "dashboard",
    "bench",
)
"""From a pool to a study, to what can be believed of its answer, to what is done with it."""


class VerbsInOrder(TyperGroup):
    """Lists its verbs in `ORDER`, and those that are not in it last."""

    def list_commands(self, ctx: object) -> list[str]:
        """Name the verbs in the order they are shown in."""
        return sorted(self.commands, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


GameName = Literal["uniform", "best"]
Split = Literal["search", "test"]

app = typer.Typer(
    cls=VerbsInOrder,
    help="Find the best data mixture for a language model without training on every mixture.",
    no_args_is_help=True,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    add_completion=False,
)
pool_app = typer.Typer(help="Build, show and check pools.", no_args_is_help=True)
app.add_typer(pool_app, name="pool")
app.add_typer(bench_app, name="bench")


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Hold the options of the command itself."""
    if version:
        from importlib.metadata import version as version_of

        print(f"mixscout {version_of('mixscout')}")
        raise typer.Exit


@app.command(epilog="Example: `mixscout demo --root runs/demo`")
def demo(
    root: Annotated[Path, typer.Option(help="Folder for pool, database and picture.")] = Path("mixscout-demo"),
) -> None:
    """Do the whole job on real text found in the Python installation: pool, study, confirmation, picture."""
    quiet_libraries()
    from studies.demo import run_demo

    run_demo(root.resolve(), console())


@pool_app.command("build", epilog="Examples: `mixscout pool build pool.toml`, `... --rebuild news`, `... --workers 4`")
def pool_build(
    pool_file: PoolArgument,
    rebuild: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Train a member again; `seed` for seed and members, `all` for everything."),
    ] = None,
    workers: WorkersOption = None,
    engine: EngineOption = None,
    address: AddressOption = None,
    num_cpus: CpusOption = None,
    num_gpus: GpusOption = None,
    text_root: TextRootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build what is missing of a pool: corpus, tokenizer, seed, members. The same line goes on after a kill.

    With workers, members are trained side by side.
    """
    quiet_libraries()
    from pool.building.build import build_pool
    from pool.config.pool_file import read_pool_file
    from pool.engines.choice import EngineRequest, chosen

    config = read_pool_file(pool_file, text_root)
    wanted = EngineRequest(engine, workers, address, num_cpus, num_gpus)
    with chosen(wanted, otherwise=config.recipe.resources) as trains:
        manifest = build_pool(config, rebuild or [], trains).manifest
    _show_pool(manifest, as_json=as_json)


@pool_app.command("show", epilog="Example: `mixscout pool show pool.toml --json`")
def pool_show(pool_file: PoolArgument, as_json: JsonOption = False) -> None:
    """Verify a pool and show its partitions, members, held-out domains and digests."""
    quiet_libraries()
    from pool.config.pool_file import read_pool_file
    from pool.parts.store import open_pool

    _show_pool(open_pool(read_pool_file(pool_file)).manifest, as_json=as_json)


def _show_pool(manifest: "PoolManifest", *, as_json: bool) -> None:
    from studies.assessment.pool_check.tables import show_pool

    if as_json:
        print_json(manifest.model_dump(mode="json"))
    else:
        show_pool(console(), manifest)


@app.command(epilog="Examples: `mixscout best study.toml`, `mixscout best study.toml --diversity --json`")
def best(
    study_file: StudyArgument,
    diversity: Annotated[bool, typer.Option("--diversity", help="Also self-BLEU of sampled texts.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the best mixture beside uniform, token-proportional, the best single member and the seed.

    On a table of models already trained: as predicted, beside uniform and the best of those models.
    """
    quiet_libraries()
    from dataclasses import asdict

    from studies.answers.best import find_best, run_diversity
    from studies.answers.tables import show_best, show_diversity
    from studies.opened.on_pool import workbench
    from studies.study_file.study_file import read_study_file

    config = read_study_file(study_file)
    if config.table is not None and not diversity:
        _best_on_table(config, as_json)
        return
    with workbench(config, must_exist=True) as bench:
        found = find_best(bench, bench.known_study())
        texts = run_diversity(bench, found) if diversity else None
    if as_json:
        columns = {"diversity": {name: asdict(one) for name, one in texts.items()}} if texts else {}
        print_json({**found.as_json(), **columns})
        return
    show_best(console(), found)
    if texts:
        show_diversity(console(), texts)


def _best_on_table(config: "StudyFile", as_json: bool) -> None:
    from studies.answers.swarm_best import find_swarm_best, show_swarm_best
    from studies.opened.on_table import swarm_bench

    with swarm_bench(config, must_exist=True) as bench:
        found = find_swarm_best(bench, bench.known_study())
    if as_json:
        print_json(found.as_json())
    else:
        show_swarm_best(console(), found)


@app.command(epilog="Examples: `mixscout robustness study.toml`, `mixscout robustness study.toml --noise 0.1 --json`")
def robustness(
    study_file: StudyArgument,
    noise: Annotated[float, typer.Option(min=0, max=1, help="Share of characters that the noise edits.")] = 0.05,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the noise.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Show whether the best mixture stays ahead on noisy text, on text in other case, and out of domain."""
    quiet_libraries()
    from studies.answers.robustness import run_robustness
    from studies.answers.robustness_table import show_robustness
    from studies.opened.on_pool import workbench
    from studies.study_file.study_file import read_study_file

    with workbench(read_study_file(study_file), must_exist=True) as bench:
        answer = run_robustness(bench, bench.known_study(), noise=noise, seed=seed)
    if as_json:
        print_json(answer.as_json())
    else:
        show_robustness(console(), answer)


@app.command(epilog="Examples: `mixscout ablate study.toml`, `mixscout ablate study.toml --game best --json`")
def ablate(
    study_file: StudyArgument,
    merges: Annotated[int, typer.Option(min=1, help="Most coalitions to merge for the Shapley values.")] = 255,
    game: Annotated[GameName, typer.Option(help="Which mixture coalitions of partitions are taken from.")] = "uniform",
    split: Annotated[Split, typer.Option(help="Held-out text to score on.")] = "search",
    goal_only: Annotated[bool, typer.Option("--goal-only", help="Score the goal's domains alone.")] = False,
    noise: Annotated[float, typer.Option(min=0, max=1, help="Share of characters that the noise edits.")] = 0.05,
    seed: Annotated[int, typer.Option(min=0, help="Seed of orders, noise and resampling.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Show what each partition contributes to each held-out domain, and how far that can be believed.

    Writes a heat map and a CSV file into the root's reports folder. Asked again, it merges nothing.
    """
    quiet_libraries()
    from studies.assessment.ablation.csv_file import ablation_stem, write_csv
    from studies.assessment.ablation.heat_map import draw_ablation
    from studies.assessment.ablation.other_text import Noise
    from studies.assessment.ablation.run import AblationRequest, run_ablation
    from studies.assessment.ablation.tables import show_ablation
    from studies.opened.on_pool import workbench
    from studies.study_file.study_file import read_study_file

    asked = AblationRequest(merges, Noise(noise, seed), game, split, not goal_only)
    with workbench(read_study_file(study_file), must_exist=True) as bench:
        ablation = run_ablation(bench, bench.known_study(), asked)
        reports = bench.pool.config.root / "reports"
    stem = ablation_stem(ablation.study, game, split)
    picture = draw_ablation(ablation, reports / f"{stem}.png")
    table = write_csv(ablation, reports / f"{stem}.csv")
    if as_json:
        print_json(ablation.as_json())
        return
    show_ablation(console(), ablation)
    console().print(f"heat map: {picture}\ntable: {table}", soft_wrap=True)


@app.command(epilog="Examples: `mixscout confirm study.toml`, `mixscout confirm study.toml --json`")
def confirm(study_file: StudyArgument, as_json: JsonOption = False) -> None:
    """Really train the best mixture and the baselines at equal tokens, and compare with their merges."""
    quiet_libraries()
    from studies.answers.confirm import run_confirm
    from studies.answers.tables import show_confirmation
    from studies.opened.on_pool import workbench
    from studies.opened.opened_study import best_mixture
    from studies.study_file.study_file import read_study_file

    with workbench(read_study_file(study_file), must_exist=True) as bench:
        confirmation = run_confirm(bench, best_mixture(bench, bench.known_study()))
    if as_json:
        print_json(confirmation.as_json())
    else:
        show_confirmation(console(), confirmation)


add_pool_add_verb(pool_app)
add_pool_check_verb(pool_app)
add_pool_overlap_verb(pool_app)
add_pool_units_verb(pool_app)
add_search_verbs(app)
add_comparison_verb(app)
add_fidelity_verbs(app)
add_outcome_verbs(app)
add_report_verbs(app)


def main() -> None:
    """Run the command line; a `MixscoutError`, or a file that cannot be used, is printed as one line."""
    try:
        app()
    except MixscoutError as error:
        _fail(str(error))
    except OSError as error:
        if error.filename is None:
            raise
        _fail(f"{error.filename}: {error.strerror}; see that it can be read and written, and run the command again")


def _fail(line: str) -> None:
    print(f"mixscout: {line}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    main()
