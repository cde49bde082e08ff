"""The verbs of `mixscout bench`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from studies.command_line.options import (
    FiguresFile,
    JsonOption,
    Picture,
    PoolArgument,
    StudyArgument,
    pool_bench,
    print_answer,
    study_files_of,
    tell_next,
)
from studies.command_line.verbs import Verbs
from studies.terminal import console, json_text, print_json, quiet_libraries

_COMPARE = "compare", None, "strategies on your own study; --dry-run says what that costs"

bench_verbs = Verbs(help="Measure strategies and the objective on your own pool.", no_args_is_help=True)


Entries = Annotated[
    str, typer.Option(metavar="STRATEGY:MERGES,...", help="Strategies, each with its number of merges.")
]
Seeds = Annotated[int, typer.Option(min=1, help="Repeats, each with its own seed.")]
Partitions = Annotated[str, typer.Option(metavar="K,K,...", help="Numbers of partitions of the formulas.")]
Noise = Annotated[float, typer.Option(min=0, help="Standard deviation of noise on the formulas' values, nats.")]
Jobs = Annotated[int, typer.Option(min=1, help="Processes.")]


@bench_verbs.command(
    epilog="Example: `mixscout bench search --entries auto:20,tpe:200 --partitions 8 --picture regret.png`"
)
def search(
    entries: Entries = "auto:20,gradient:20,surrogate:60,tpe:200,cmaes:200,nsga2:200,random:200",
    seeds: Seeds = 3,
    partitions: Partitions = "8,32,128",
    noise: Noise = 0.0,
    jobs: Jobs = 1,
    picture: Picture = None,
    as_json: JsonOption = False,
) -> None:
    """Compare strategies on formulas with a known optimum. `mixscout compare` compares them on your own study."""
    quiet_libraries()
    from studies.benchmarks.strategies import regret, shown
    from studies.benchmarks.strategies.regret import parse_entries
    from studies.terminal import parse_partitions

    wanted = parse_entries(entries)
    cases = regret.cases(parse_partitions(partitions), [noise])
    results = regret.run_regret(cases, wanted, seeds, jobs=jobs)
    if picture:
        shown.draw_regret(results, picture)
    print_answer(results, shown.show_regret, as_json=as_json, then=_COMPARE)


@bench_verbs.command(epilog="Examples: `mixscout bench truths --jobs 2 --picture truths.png`, `... study.toml`")
def truths(
    study_file: Annotated[
        Path | None,
        typer.Argument(metavar="[STUDY.toml]", help="Replay the truths of this study.", show_default="none"),
    ] = None,
    most: Annotated[int, typer.Option("--truths", min=3, help="Trainings; `refine` has a third of them.")] = 27,
    seeds: Seeds = 8,
    partitions: Partitions = "4,8,16",
    noise: Annotated[float, typer.Option(min=0, help="Standard deviation of a training's noise, nats.")] = 0.007,
    jobs: Jobs = 1,
    picture: Picture = None,
    as_json: JsonOption = False,
) -> None:
    """Compare ways to spend a few trainings: `refine`, the best merge alone, a Gaussian process, random mixtures."""
    quiet_libraries()
    from studies.benchmarks.strategies import shown
    from studies.benchmarks.strategies.training_problems import Replay, TruthCase
    from studies.benchmarks.strategies.truths import run_truths, truth_cases
    from studies.terminal import parse_partitions

    wanted: list[TruthCase | Replay] = [*truth_cases(parse_partitions(partitions), noise)]
    if study_file is not None:
        with pool_bench(study_file) as bench:
            wanted = [Replay.of(bench)]
    results = run_truths(wanted, most, seeds, jobs=jobs)
    if picture:
        shown.draw_truths(results, picture)
    then = "refine --dry-run", study_file, "what trainings of your own study would cost"
    print_answer(results, shown.show_truths, as_json=as_json, then=then)


@bench_verbs.command(epilog="Example: `mixscout bench gate --entries random:200,tpe:200 --partitions 8 --seeds 5`")
def gate(
    entries: Entries = "random:200,qmc:200,tpe:200,nsga2:200,gp:40,auto:20",
    seeds: Seeds = 3,
    partitions: Partitions = "8",
    noise: Noise = 0.0,
    gated_merges: Annotated[
        int | None, typer.Option(min=1, help="Merges of the gated searches.", show_default="as without the gate")
    ] = None,
    jobs: Jobs = 1,
    as_json: JsonOption = False,
) -> None:
    """Measure the gate's savings, false prunes and coverage, on formulas with a known optimum."""
    quiet_libraries()
    from studies.benchmarks.strategies import gate, shown
    from studies.benchmarks.strategies.regret import cases, parse_entries
    from studies.terminal import parse_partitions

    wanted = parse_entries(entries)
    plan = gate.GatePlan(seeds, gated_merges=gated_merges)
    results = gate.run_gate(cases(parse_partitions(partitions), [noise]), wanted, plan, jobs=jobs)
    then = "search", None, "prunes as [gate] of the study file says"
    print_answer(results, shown.show_gate, as_json=as_json, then=then)


@bench_verbs.command(epilog="Example: `mixscout bench proposals --partitions 128 --trials 1000`")
def proposals(
    strategies: Annotated[
        str | None, typer.Option(metavar="STRATEGY,...", show_default="all", help="Strategies to measure.")
    ] = None,
    partitions: Annotated[int, typer.Option(min=3, help="Partitions of the formula.")] = 128,
    trials: Annotated[int, typer.Option(min=3, help="Trials already in the study.")] = 1000,
    repeats: Annotated[int, typer.Option(min=1, help="Proposals after the first.")] = 5,
    as_json: JsonOption = False,
) -> None:
    """Measure the cost of a proposal in a study with many trials, in processor seconds."""
    quiet_libraries()
    from studies.benchmarks.strategies import shown
    from studies.benchmarks.strategies.proposals import run_proposals
    from studies.benchmarks.strategies.regret import parse_strategies

    costs = run_proposals(parse_strategies(strategies), partitions, trials, repeats)
    print_answer(costs, shown.show_proposals, as_json=as_json, then=_COMPARE)


@bench_verbs.command(epilog="Example: `mixscout bench stopping study.toml --strategies tpe --search-merges 100`")
def stopping(
    study_file: StudyArgument,
    strategies: Annotated[
        str, typer.Option(metavar="STRATEGY,...", help="Strategies without gradients to search by.")
    ] = "random,tpe",
    seeds: Seeds = 3,
    search_merges: Annotated[int, typer.Option(min=2, help="Merges of each search.")] = 60,
    as_json: JsonOption = False,
) -> None:
    """Measure what stopping early reads, and how many decisions it changes: all that was stopped is read in full."""
    quiet_libraries()
    from studies.benchmarks.evaluation.stopping import run_stopping, show_stopping
    from studies.benchmarks.strategies.regret import parse_strategies

    wanted = parse_strategies(strategies)
    with pool_bench(study_file, must_exist=False) as bench:
        found = run_stopping(bench, wanted, seeds=seeds, merges=search_merges)
    then = "search --dry-run", study_file, "what the merges of this study would cost here"
    print_answer(found, show_stopping, as_json=as_json, then=then)


@bench_verbs.command(epilog="Example: `mixscout bench objective study.toml --growth --precision`")
def objective(
    study_file: StudyArgument,
    repeats: Annotated[int, typer.Option(min=1, help="Paired repeats of every timing.")] = 7,
    growth: Annotated[bool, typer.Option("--growth", help="Also with 4 to 64 members and larger models.")] = False,
    precision: Annotated[bool, typer.Option("--precision", help="Also bfloat16 against float32, 50 mixtures.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure the cost of an evaluation, as ratios: overhead, merge bandwidth, mergekit."""
    quiet_libraries()
    from dataclasses import asdict

    from studies.benchmarks.evaluation import tables
    from studies.benchmarks.evaluation.costs import run_costs
    from studies.benchmarks.evaluation.precision import run_precision

    with pool_bench(study_file, must_exist=False) as bench:
        costs = run_costs(bench, repeats)
        check = run_precision(bench, 50) if precision else None
    points = tables.run_growth(repeats) if growth else []
    if as_json:
        print_json({**asdict(costs), "growth": points, "precision": check})
        return
    tables.show_costs(console(), costs)
    if points:
        tables.show_growth(console(), points)
    if check:
        tables.show_precision(console(), check)
    tell_next("search --dry-run", study_file, "what the merges of this study would cost here")


@bench_verbs.command(epilog="Example: `mixscout bench memory study.toml --mixtures 20 --large`")
def memory(
    study_file: StudyArgument,
    mixtures: Annotated[int, typer.Option(min=2, help="Random mixtures whose merged loss is compared.")] = 20,
    repeats: Annotated[int, typer.Option(min=1, help="Paired repeats of every timing.")] = 7,
    large: Annotated[bool, typer.Option("--large", help="Also random models of 98 million parameters (7 GB).")] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure each way of holding the members: bytes, error of the merged loss, seconds of a merge as a ratio."""
    quiet_libraries()
    from studies.benchmarks.evaluation.memory import run_large, run_memory
    from studies.benchmarks.evaluation.tables import show_memory

    with pool_bench(study_file, must_exist=False) as bench:
        found = [run_memory(bench, mixtures, repeats)]
    if large:
        found.append(run_large(repeats))
    then = "search --dry-run", study_file, "what the study takes with `held` and `stored` of its [objective]"
    print_answer(found, show_memory, as_json=as_json, then=then)


@bench_verbs.command(epilog="Examples: `mixscout bench training pool.toml`, `... --model 130M --peak 989`")
def training(
    pool_file: PoolArgument,
    steps: Annotated[
        int | None, typer.Option(min=2, show_default="50, and 300 on a GPU", help="Optimiser steps of a timed run.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Paired runs, after one that is not timed.")] = 5,
    model: Annotated[Literal["pool", "130M"], typer.Option(help="The pool's model, or a Llama of 130M.")] = "pool",
    peak: Annotated[
        float | None,
        typer.Option(min=0.001, show_default="none", help="Peak teraflops of the device, for its utilisation."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the speed of training members against a bare PyTorch loop: same model, batch, dtype, windows."""
    quiet_libraries()
    from pool.config.pool_file import read_pool_file
    from pool.parts.store import open_pool
    from studies.benchmarks.evaluation.tables import show_training
    from studies.benchmarks.training import TrainingRequest, run_training

    pool = open_pool(read_pool_file(pool_file))
    found = run_training(pool, TrainingRequest(steps, repeats, is_130m=model == "130M", peak_teraflops=peak))
    study = next(iter(study_files_of(pool_file)), None)
    then = "confirm --dry-run", study, "what really training the answer would cost"
    print_answer(found, show_training, as_json=as_json, then=then)


@bench_verbs.command(epilog="Examples: `mixscout bench gpu --json gpu.json`, `... --tiny`")
def gpu(
    tiny: Annotated[bool, typer.Option("--tiny", help="Every part on the CPU, in tiny sizes.")] = False,
    json_file: FiguresFile = None,
) -> None:
    """Check merging, scoring and training on this machine's GPU against their targets, in at most eight minutes."""
    quiet_libraries()
    from studies.benchmarks.evaluation.tables import show_gpu
    from studies.benchmarks.gpu import run_gpu

    print_answer(run_gpu(tiny=tiny, file=json_file), show_gpu, as_json=False)


@bench_verbs.command(epilog="Example: `mixscout bench surrogate --table regmix --metric the_pile_pile_cc`")
def surrogate(
    table: Annotated[Path, typer.Option(metavar="DIR", help="Trained models: RegMix's tables, or ratios and metrics.")],
    metric: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", show_default="each", help="Metric to predict, `mean` for the mean of all."),
    ] = None,
    sizes: Annotated[str, typer.Option(metavar="N,N,...", help="Numbers of models to fit.")] = "32,64,128,256,512",
    subsets: Annotated[int, typer.Option(min=1, help="Random subsets of each size.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Measure every surrogate's predictions of unseen trained models, beside RegMix's regression."""
    from studies.benchmarks import surrogates as benchmark
    from studies.benchmarks.evaluation.tables import show_bench_surrogate
    from studies.terminal import parse_numbers

    wanted = parse_numbers("--sizes", sizes, "runs", least=benchmark.LEAST_RUNS)
    results = benchmark.run_surrogates(table, metric or [], wanted, subsets)
    then = "search", None, f"with table = {json_text(str(table))} in the study file, searches by such predictions"
    print_answer(results, show_bench_surrogate, as_json=as_json, then=then)


@bench_verbs.command(epilog="Example: `mixscout bench landscape study.toml --values 20,40 --gradients 4,8`")
def landscape(
    study_file: StudyArgument,
    values: Annotated[str, typer.Option(metavar="N,N,...", help="Numbers of merges to fit.")] = "10,20,40,80",
    gradients: Annotated[str, typer.Option(metavar="N,N,...", help="The same, with gradients.")] = "3,5,8",
    unseen: Annotated[int, typer.Option(min=3, help="Merges to predict.")] = 60,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the mixtures.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Measure surrogates' predictions of unseen merges of your pool, from values alone and with gradients."""
    quiet_libraries()
    from studies.benchmarks.strategies.shown import show_landscape
    from studies.benchmarks.surrogates import run_landscape
    from studies.terminal import parse_numbers

    merges = parse_numbers("--values", values, "merges", least=3)
    steep = parse_numbers("--gradients", gradients, "merges", least=3)
    with pool_bench(study_file, must_exist=False) as bench:
        fits = run_landscape(bench.objective, bench.space, merges, steep, unseen=unseen, seed=seed)
    then = "search", study_file, 'with strategy = "surrogate" in the study file, searches by such predictions'
    print_answer(fits, show_landscape, as_json=as_json, then=then)
