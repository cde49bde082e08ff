"""The verbs on the trust in an answer: `fidelity`, `predict`, `ablate`, `compare`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

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
    NoiseOption,
    StudyArgument,
    TruthsOption,
    WorkersOption,
    checked_study_files,
    folder_of_files,
    pool_bench,
    print_answer,
    print_study_costs,
    private_pool_bench,
    read_study,
    tell_next,
)
from studies.command_line.verbs import Verbs, renamed
from studies.terminal import console, named_weights, print_json, quiet_libraries, since_start

DEFAULT_STRATEGIES, DEFAULT_SEEDS, DEFAULT_FORWARDS = "auto,tpe,gp,random", 5, 100

assessment_verbs = Verbs()


USUAL_EXPONENTS = "0.5,0.75"
ExponentsOption = Annotated[
    str, typer.Option(metavar="A,A,...", help="Exponents of the merge rules compared, and averaged in predictions.")
]


@assessment_verbs.command(
    epilog="Examples: `mixscout fidelity study.toml --mixtures 24 --repeats 2`, `... --workers 4`, `... --truths runs/`"
)
def fidelity(
    study_file: StudyArgument,
    mixtures: Annotated[
        int, typer.Option(help="Mixtures to train in all. A larger number later keeps those trained.")
    ] = 12,
    repeats: Annotated[
        int, typer.Option(min=0, help="Further data orders in which some mixtures are trained again.")
    ] = 0,
    workers: WorkersOption = None,
    engine: EngineOption = None,
    address: AddressOption = None,
    num_cpus: CpusOption = None,
    num_gpus: GpusOption = None,
    truths: TruthsOption = None,
    exponents: ExponentsOption = USUAL_EXPONENTS,
    train_proposal: Annotated[bool, typer.Option("--train-proposal", help="Really train the proposal too.")] = False,
    unions: Annotated[
        bool,
        typer.Option(
            "--unions", help="Also train even unions of partitions, each on as many tokens as its members together."
        ),
    ] = False,
    output: FilesOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Really train a spread of mixtures, and measure how well the loss of a merge predicts the loss of training."""
    told = EngineRequest(engine, workers, address, num_cpus, num_gpus)
    quiet_libraries()
    from pool.engines.choice import chosen
    from studies.assessment.fidelity.fidelity import parse_exponents
    from studies.assessment.fidelity.report import FidelityRequest, fidelity_costs, make_report
    from studies.assessment.fidelity.table import show_fidelity

    wanted = FidelityRequest(mixtures, repeats, truths, parse_exponents(exponents), train_proposal, unions, output)
    with (
        private_pool_bench(study_file) if dry_run else pool_bench(study_file) as bench,
        chosen(told, demand=bench.proxy.pool.config.demand) as trains,
    ):
        if dry_run:
            opening = since_start()
            costs = fidelity_costs(bench, bench.known_study(), wanted, trains)
            print_study_costs(costs, opening, as_json=as_json)
            return
        report = make_report(bench, bench.known_study(), wanted, trains)
    then = "report", study_file, "everything on one page"
    print_answer(report, show_fidelity, as_json=as_json, then=then)


@assessment_verbs.command(epilog="Example: `mixscout predict study.toml --mixture news=0.7,wiki=0.3`")
def predict(
    study_file: StudyArgument,
    mixture: Annotated[
        str | None,
        typer.Option(metavar="NAME=WEIGHT,...", show_default="the study's best", help="The mixture to predict."),
    ] = None,
    truths: TruthsOption = None,
    exponents: ExponentsOption = USUAL_EXPONENTS,
    as_json: JsonOption = False,
) -> None:
    """Predict the loss of training on a mixture, from its merge and the known truths. Nothing is trained."""
    quiet_libraries()
    from studies.assessment.fidelity.fidelity import parse_exponents
    from studies.assessment.fidelity.forecast import forecast_json
    from studies.assessment.fidelity.report import forecast_mixture
    from studies.assessment.fidelity.table import show_forecast

    with pool_bench(study_file) as bench:
        asked = named_weights(mixture, bench.proxy.pool.names, option="--mixture") if mixture else None
        rules = parse_exponents(exponents)
        found, forecaster, forecasts = forecast_mixture(bench, bench.known_study(), asked, truths, rules)
    if as_json:
        about = {"study": bench.config.name, "mixture": found.as_dict()}
        print_json({**about, **forecast_json(forecasts), "calibration": forecaster.as_json()})
    else:
        show_forecast(console(), found, forecaster, forecasts)
        tell_next("handover", study_file, "the best mixture as files for training stacks", more="DIR")


@assessment_verbs.command(
    epilog="Examples: `mixscout ablate study.toml --game best --json`, `... --factors rule=identity,power:0.65`"
)
def ablate(
    study_file: StudyArgument,
    coalitions: Annotated[
        int, typer.Option(min=1, help="Most coalitions of partitions to merge for the Shapley values.")
    ] = 255,
    merges: Annotated[str | None, renamed("--merges", "--coalitions")] = None,
    game: Annotated[
        Literal["uniform", "best"], typer.Option(help="The mixture from which coalitions of partitions are cut.")
    ] = "uniform",
    split: Annotated[Literal["search", "test"], typer.Option(help="Held-out text to score on.")] = "search",
    goal_only: Annotated[bool, typer.Option("--goal-only", help="Score the goal's domains alone.")] = False,
    noise: NoiseOption = 0.05,
    seed: Annotated[int, typer.Option(min=0, help="Seed of orders, noise and resampling.")] = 0,
    factors: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=A,B",
            show_default="none",
            help="Instead: does the best mixture depend on the merge `rule`, or on `recipe.KEY`? Every combination.",
        ),
    ] = None,
    workers: WorkersOption = None,
    output: FilesOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show the contribution of each partition to each held-out domain, and how sure it is.

    Writes a heat map and a CSV file into the root's reports folder. A second run merges nothing. With --factors, each
    recipe's members are trained, and each setting's best mixture is judged under every other.
    """
    quiet_libraries()
    if factors:
        _ablate_factors(study_file, factors, workers, dry_run=dry_run, as_json=as_json)
        return
    from pool.files.whole import new_files
    from studies.assessment.ablation.files import ablation_stem, draw_ablation, write_csv
    from studies.assessment.ablation.tables import show_ablation

    with private_pool_bench(study_file) if dry_run else pool_bench(study_file) as bench:
        reports, study = folder_of_files(output, bench.root / "reports"), bench.known_study()
        from studies.assessment.ablation.ranking import Noise  # loads torch: after all is checked
        from studies.assessment.ablation.run import AblationRequest, ablation_costs, run_ablation

        asked = AblationRequest(coalitions, Noise(noise, seed), game, split, not goal_only)
        if dry_run:
            opening = since_start()
            print_study_costs(ablation_costs(bench, study, asked), opening, as_json=as_json)
            return
        ablation = run_ablation(bench, study, asked)
    if reports:
        stem = ablation_stem(ablation.study, game, split)
        with new_files(reports):
            picture = draw_ablation(ablation, reports / f"{stem}.png")
            table = write_csv(ablation, reports / f"{stem}.csv")
    print_answer(ablation, show_ablation, as_json=as_json)
    if reports and not as_json:
        console().print(f"heat map: {picture}\ntable: {table}", soft_wrap=True)
    if not as_json:
        tell_next("report", study_file, "everything on one page")


def _ablate_factors(study_file: Path, factors: list[str], workers: int | None, *, dry_run: bool, as_json: bool) -> None:
    from pool.engines.choice import chosen
    from studies.assessment.ablation.factors import factor_costs, run_factors, settings_of
    from studies.assessment.ablation.tables import show_factors

    with (
        private_pool_bench(study_file) if dry_run else pool_bench(study_file) as bench,
        chosen(EngineRequest(workers=workers), demand=bench.proxy.pool.config.demand) as trains,
    ):
        settings, study = settings_of(bench, factors), bench.known_study()
        if dry_run:
            opening = since_start()
            print_study_costs(factor_costs(bench, study, settings, trains), opening, as_json=as_json)
            return
        found = run_factors(bench, study, settings, trains)
    print_answer(found, show_factors, as_json=as_json, then=("report", study_file, "everything on one page"))


@assessment_verbs.command(
    epilog="Examples: `mixscout compare study.toml --strategies auto,tpe`, `mixscout compare a.toml b.toml`"
)
def compare(
    study_files: Annotated[
        list[Path],
        typer.Argument(
            metavar="STUDY.toml...",
            help="One study file, or several files of studies already run.",
            callback=checked_study_files,
        ),
    ],
    strategies: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", show_default=DEFAULT_STRATEGIES, help="The competing strategies."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, show_default=str(DEFAULT_SEEDS), help="Searches of each strategy.")
    ] = None,
    forward_equivalents: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default=str(DEFAULT_FORWARDS),
            help="Budget of each search. A merge counts one forward-equivalent, a merge with its gradient three.",
        ),
    ] = None,
    merges: Annotated[str | None, renamed("--merges", "--forward-equivalents")] = None,
    output: FilesOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare strategies on one study at equal budgets over several seeds, or compare studies already run.

    A second run continues: after a kill, or with more seeds, strategies or budget. Writes a picture and a CSV file
    into the folder `reports` beside the study's database.
    """
    configs = [read_study(file) for file in study_files]
    quiet_libraries()
    from pool.files.names import file_name
    from pool.files.whole import new_files
    from studies.assessment.comparison.comparison import write_comparison
    from studies.assessment.comparison.run import compare_strategies, compare_studies, comparison_costs
    from studies.assessment.comparison.table import draw_comparison, show_comparison
    from studies.opened.opening import open_privately, open_study

    if dry_run and len(study_files) == 1:
        names = _strategy_names(strategies or DEFAULT_STRATEGIES)
        with open_privately(configs[0]) as bench:
            opening = since_start()
            costs = comparison_costs(bench, names, seeds or DEFAULT_SEEDS, forward_equivalents or DEFAULT_FORWARDS)
            print_study_costs(costs, opening, as_json=as_json)
        return
    if dry_run:
        raise ConfigError("--dry-run is for one study file; studies already run are compared without a merge")
    if len(study_files) > 1:
        if strategies or seeds or forward_equivalents:
            raise ConfigError(
                "--strategies, --seeds and --forward-equivalents are for one study file; several are compared as they "
                "are"
            )
        comparison, reports = compare_studies(study_files)
        folder = folder_of_files(output, reports)
        name = "-".join(one.name for one in comparison.contenders)
    else:
        names = _strategy_names(strategies or DEFAULT_STRATEGIES)
        with open_study(configs[0]) as bench:
            folder = folder_of_files(output, bench.root / "reports")
            forwards = forward_equivalents or DEFAULT_FORWARDS
            comparison = compare_strategies(bench, names, seeds or DEFAULT_SEEDS, forwards)
        name = comparison.name
    stem, files = file_name(name), {}
    if folder:
        with new_files(folder):
            files["picture"] = str(draw_comparison(comparison, folder / f"{stem}.compare.png"))
            files["table"] = str(write_comparison(comparison, folder / f"{stem}.compare.csv"))
    if as_json:
        print_json(comparison.as_json() | files)
        return
    show_comparison(console(), comparison)
    for kind, path in files.items():
        console().print(f"{kind}: {path}", soft_wrap=True)
    tell_next("search", study_files[0], "with the strategy you choose under [search] of the study file")


def _strategy_names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if not name or names.count(name) > 1:
            raise ConfigError(f"--strategies: {name!r} is given twice or empty in {text!r}; name every strategy once")
    return names
