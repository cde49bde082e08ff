"""The verbs `fidelity` and `predict`. Heavy imports stand inside them, as in the command line itself."""

from typing import Annotated

import typer

from studies.command_line.options import AddressOption, CpusOption, EngineOption, GpusOption, WorkersOption
from studies.terminal import JsonOption, StudyArgument, TruthsOption, console, print_json, quiet_libraries


def add_fidelity_verbs(app: typer.Typer) -> None:
    """Add both verbs to the command line."""
    example = (
        "Examples: `mixscout fidelity study.toml --mixtures 24 --repeats 2`, `... --workers 4`, `... --truths runs/`"
    )
    app.command(epilog=example)(fidelity)
    app.command(epilog="Example: `mixscout predict study.toml --mixture news=0.7,wiki=0.3`")(predict)


def fidelity(
    study_file: StudyArgument,
    mixtures: Annotated[int, typer.Option(help="How many to train; asking for more later keeps those there are.")] = 12,
    repeats: Annotated[int, typer.Option(min=0, help="Train some again in so many other data orders.")] = 0,
    workers: WorkersOption = None,
    engine: EngineOption = None,
    address: AddressOption = None,
    num_cpus: CpusOption = None,
    num_gpus: GpusOption = None,
    truths: TruthsOption = None,
    exponents: Annotated[str, typer.Option(metavar="A,A,...", help="Exponents of the rules compared.")] = "0.5,0.75",
    train_proposal: Annotated[bool, typer.Option("--train-proposal", help="Really train the proposal too.")] = False,
    unions: Annotated[
        bool,
        typer.Option("--unions", help="Train even unions of partitions, each for as long as its members together."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Really train a spread of mixtures, and see whether the loss of the merge tells how training would end."""
    quiet_libraries()
    from pool.engines import choice as engines
    from studies.assessment.fidelity.run import FidelityRequest, make_report, parse_exponents
    from studies.assessment.fidelity.table import show_fidelity
    from studies.opened.on_pool import workbench
    from studies.study_file.study_file import read_study_file

    wanted = FidelityRequest(mixtures, repeats, truths, parse_exponents(exponents), train_proposal, unions)
    told = engines.EngineRequest(engine, workers, address, num_cpus, num_gpus)
    with (
        workbench(read_study_file(study_file), must_exist=True) as bench,
        engines.chosen(told, otherwise=bench.pool.config.recipe.resources) as trains,
    ):
        report = make_report(bench, bench.known_study(), wanted, trains)
    if as_json:
        print_json(report.as_json())
    else:
        show_fidelity(console(), report)


def predict(
    study_file: StudyArgument,
    mixture: Annotated[
        str | None, typer.Option(metavar="NAME=WEIGHT,...", help="What to predict; the study's best where left out.")
    ] = None,
    truths: TruthsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Predict what training a mixture would give, from its merge and the truths known; nothing is trained."""
    quiet_libraries()
    from studies.assessment.fidelity.forecast import forecast_json
    from studies.assessment.fidelity.run import forecast_mixture, parse_mixture
    from studies.assessment.fidelity.table import show_forecast
    from studies.opened.on_pool import workbench
    from studies.study_file.study_file import read_study_file

    config = read_study_file(study_file)
    with workbench(config, must_exist=True) as bench:
        asked = parse_mixture(mixture, bench) if mixture else None
        found, forecaster, forecasts = forecast_mixture(bench, bench.known_study(), asked, truths)
    if as_json:
        calibration = forecaster.as_json()
        print_json(
            {"study": config.name, "mixture": found.as_dict(), **forecast_json(forecasts), "calibration": calibration}
        )
    else:
        show_forecast(console(), found, forecaster, forecasts)
