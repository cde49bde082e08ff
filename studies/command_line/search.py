"""The verbs of a search: `prior` before it, `search` and `worker`, and `refine` after it."""

from pathlib import Path
from typing import Annotated

import typer

from pool.engines.choice import EngineRequest
from studies.command_line.options import (
    WORKERS_HELP,
    AddressOption,
    CpusOption,
    DryRunOption,
    EngineOption,
    GpusOption,
    JsonOption,
    StudyArgument,
    pool_bench,
    print_answer,
    print_study_costs,
    private_pool_bench,
    read_study,
    tell_next,
)
from studies.command_line.verbs import Verbs
from studies.terminal import console, print_json, quiet_libraries, since_start

MergesOption = Annotated[
    int | None,
    typer.Option(
        min=1, show_default="the study file's", help="Total budget of the study, merges already done included."
    ),
]


def _devices(text: str | None) -> str | None:
    """Check devices before any file is read. Raises `ConfigError`."""
    from pool.engines.devices import parse_devices

    parse_devices(text)
    return text


DevicesOption = Annotated[
    str | None,
    typer.Option(
        metavar="0,1",
        show_default="all",
        is_eager=True,
        callback=_devices,
        help="GPUs of the workers, in turn, as CUDA_VISIBLE_DEVICES counts them; `cpu` for none. One worker each.",
    ),
]
AcceptOption = Annotated[
    bool,
    typer.Option(
        "--accept", help="Go on after a change of strategy, seed, gate, start or versions. The study records it."
    ),
]

WorkersOption = Annotated[int | None, typer.Option(min=1, show_default="one, or one a device", help=WORKERS_HELP)]

search_verbs = Verbs()


@search_verbs.command(epilog="Examples: `mixscout prior study.toml`, `mixscout prior study.toml --counted --json`")
def prior(
    study_file: StudyArgument,
    counted: Annotated[bool, typer.Option("--counted", help="Only priors that need no model, in seconds.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show mixtures from text alone, which take no training, and how they rank what the study knows already."""
    config = read_study(study_file)
    quiet_libraries()
    from studies.assessment.fidelity.priors import find_priors, show_priors
    from studies.opened.opening import open_privately

    with open_privately(config) as bench:
        found = find_priors(bench, counted=counted)
    searched = any(one.merges for one in found.priors)
    then = ("best", "the mixture of the search") if searched else ("search", "merges members, and searches")
    print_answer(found, show_priors, as_json=as_json, then=(then[0], study_file, then[1]))


@search_verbs.command(
    epilog="Examples: `mixscout search study.toml --merges 200`, `... --workers 4 --devices 0,1`, `... --engine ray`"
)
def search(
    study_file: StudyArgument,
    merges: MergesOption = None,
    workers: WorkersOption = None,
    devices: DevicesOption = None,
    engine: EngineOption = None,
    address: AddressOption = None,
    num_cpus: CpusOption = None,
    num_gpus: GpusOption = None,
    accept: AcceptOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Advance a study to its budget of merges. The same line starts, resumes after a kill, and extends."""
    wanted = EngineRequest(engine, workers, address, num_cpus, num_gpus)
    if dry_run:
        _print_search_costs(study_file, merges, places=workers or 1, as_json=as_json)
        return
    _advance(study_file, merges, wanted, devices, accept=accept, as_json=as_json)


@search_verbs.command(epilog="Examples: `mixscout worker study.toml`, `... --workers 2 --devices 0,1`")
def worker(
    study_file: StudyArgument,
    merges: MergesOption = None,
    workers: WorkersOption = None,
    devices: DevicesOption = None,
    accept: AcceptOption = False,
    as_json: JsonOption = False,
) -> None:
    """Join a study as one more worker, at any time, from any machine that reaches its database.

    The worker ends when the study has its budget. A killed worker leaves its trial to the others.
    """
    _advance(study_file, merges, EngineRequest(workers=workers), devices, accept=accept, as_json=as_json)


@search_verbs.command(epilog="Examples: `mixscout refine study.toml --truths 6`, `... --workers 2`, `... --dry-run`")
def refine(
    study_file: StudyArgument,
    truths: Annotated[
        int | None,
        typer.Option(
            min=1, show_default="the study file's", help="Mixtures to train in all, those already trained included."
        ),
    ] = None,
    workers: WorkersOption = None,
    devices: DevicesOption = None,
    engine: EngineOption = None,
    address: AddressOption = None,
    num_cpus: CpusOption = None,
    num_gpus: GpusOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Really train the mixtures most worth knowing, and answer by trainings and merges together.

    It ends when no other mixture is likely to be better, or when the trainings are spent. `best`, `report`, `handover`
    and `export` then use its answer. The same line goes on after a kill, and extends.
    """
    told = EngineRequest(engine, workers, address, num_cpus, num_gpus)
    from pool.engines.devices import parse_devices

    places = parse_devices(devices)
    config = read_study(study_file)
    quiet_libraries()
    from pool.engines.choice import chosen
    from studies.assessment.fidelity.refine import RefineRequest, advancing, refine_costs, run_refine
    from studies.assessment.fidelity.refined import conclude, show_refined
    from studies.running.workers import run_workers

    wanted = RefineRequest(truths or config.refine.truths, config.refine.margin, config.refine.chance)
    with chosen(told, places) as trains:
        if dry_run:
            with private_pool_bench(study_file) as bench:
                opening = since_start()
                print_study_costs(refine_costs(bench, wanted, trains), opening, as_json=as_json)
            return
        if trains.elsewhere:
            run_workers(study_file, advancing(config.name, wanted), trains)
        with pool_bench(study_file) as bench:
            if not trains.elsewhere:
                run_refine(bench, wanted)
            found = conclude(bench, wanted)
    then = "best", study_file, "the best mixture beside the obvious baselines"
    print_answer(found, show_refined, as_json=as_json, then=then)


def _print_search_costs(study_file: Path, merges: int | None, *, places: int, as_json: bool) -> None:
    config = read_study(study_file)
    quiet_libraries()
    from studies.opened.opening import open_privately
    from studies.running.costs import search_costs

    with open_privately(config) as bench:
        opening = since_start()
        costs = search_costs(bench, merges or config.search.merges, places=places)
    print_study_costs(costs, opening, as_json=as_json)


def _advance(
    study_file: Path, merges: int | None, wanted: EngineRequest, devices: str | None, *, accept: bool, as_json: bool
) -> None:
    from pool.engines.choice import chosen
    from pool.engines.devices import parse_devices
    from studies.running.trackers import check_tracker

    places = parse_devices(devices)
    config = read_study(study_file)
    check_tracker(config.search.tracker)
    quiet_libraries()
    from studies.answers.doubts import doubts_of_search, doubts_of_table
    from studies.answers.tables import best_in_words, best_json, show_counts
    from studies.opened.opening import open_study, open_to_read
    from studies.running.plan import say_gate
    from studies.running.run import run_search
    from studies.running.workers import Advancing, run_workers

    total = merges or config.search.merges
    say_gate(config)
    with chosen(wanted, places) as engine:
        if engine.elsewhere:
            counts = run_workers(study_file, Advancing.of_search(config.name, total, accept=accept), engine)
            doubts = doubts_of_table(config)
            with open_to_read(config) as bench:
                best, found = best_json(bench), best_in_words(bench)
        else:
            with open_study(config) as bench:
                counts = run_search(bench, total, accept=accept)
                doubts, best, found = doubts_of_search(bench), best_json(bench), best_in_words(bench)
    if as_json:
        print_json({"study": config.name, **best, "counts": counts, "doubts": doubts})
        return
    show_counts(console(), counts)
    for doubt in doubts:
        console().print(doubt)
    console().print(found, soft_wrap=True)
    tell_next("best", study_file, "the best mixture beside the obvious baselines")
