"""The verbs of `mixscout bench`. Heavy imports stand inside them, as in the command line itself."""

from pathlib import Path
from typing import Annotated

import typer

from studies.terminal import JsonOption, StudyArgument, console, print_json, quiet_libraries

bench_app = typer.Typer(help="Measure strategies and the objective on your own pool.", no_args_is_help=True)


@bench_app.command("search", epilog="Example: `mixscout bench search study.toml --entries gradient:10,tpe:100`")
def bench_search(
    study_file: StudyArgument,
    entries: Annotated[str, typer.Option(metavar="STRATEGY:MERGES,...", help="Who runs, with how many merges.")] = (
        "gradient:10,tpe:100,gp:50,random:100"
    ),
    seeds: Annotated[int, typer.Option(min=1, help="Repeats, each with its own seed.")] = 3,
    as_json: JsonOption = False,
) -> None:
    """Compare strategies on the study's merges: lowest search loss, at budgets counted in forward passes."""
    quiet_libraries()
    from studies.benchmarks import search as benchmark
    from studies.benchmarks.tables import show_bench_search
    from studies.config import read_study_file
    from studies.workbench import workbench

    wanted = benchmark.parse_entries(entries)
    with workbench(read_study_file(study_file)) as bench:
        results = benchmark.run_bench(bench, wanted, seeds)
    if as_json:
        print_json(benchmark.as_json(results))
    else:
        show_bench_search(console(), results)


@bench_app.command("objective", epilog="Example: `mixscout bench objective study.toml --seeds 20 --growth --precision`")
def bench_objective(
    study_file: StudyArgument,
    repeats: Annotated[int, typer.Option(min=1, help="Paired repeats of every timing.")] = 7,
    seeds: Annotated[int, typer.Option(min=1, help="Random searches with and without early stopping.")] = 3,
    merges: Annotated[int, typer.Option(min=2, help="Merges of each random search.")] = 100,
    growth: Annotated[bool, typer.Option("--growth", help="Also with 4 to 64 members and larger models.")] = False,
    precision: Annotated[bool, typer.Option("--precision", help="Also bfloat16 against float32, 50 mixtures.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure what an evaluation costs, as ratios: overhead, merge bandwidth, mergekit, early stopping."""
    quiet_libraries()
    from studies.benchmarks import tables
    from studies.benchmarks.adaptive import run_savings
    from studies.benchmarks.growth import run_growth
    from studies.benchmarks.objective import run_costs
    from studies.benchmarks.precision import run_precision
    from studies.config import read_study_file
    from studies.workbench import workbench

    with workbench(read_study_file(study_file)) as bench:
        costs = run_costs(bench, repeats)
        savings = run_savings(bench, seeds=seeds, merges=merges)
        check = run_precision(bench, 50) if precision else None
    points = run_growth(repeats) if growth else []
    if as_json:
        found = {"growth": [point.as_json() for point in points], "precision": check.as_json() if check else None}
        print_json({**costs.as_json(), **savings.as_json(), **found})
        return
    tables.show_costs(console(), costs, savings)
    if points:
        tables.show_growth(console(), points)
    if check:
        tables.show_precision(console(), check)


@bench_app.command("surrogate", epilog="Example: `mixscout bench surrogate --table regmix --metric the_pile_pile_cc`")
def bench_surrogate(
    table: Annotated[Path, typer.Option(metavar="DIR", help="Trained models: RegMix's tables, or ratios and metrics.")],
    metric: Annotated[list[str] | None, typer.Option(metavar="NAME", help="What to predict; all where none.")] = None,
    sizes: Annotated[str, typer.Option(metavar="N,N,...", help="From how many trained models.")] = "32,64,128,256,512",
    subsets: Annotated[int, typer.Option(min=1, help="Random subsets of each size.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Measure how every surrogate predicts trained models that it has not seen, beside RegMix's regression."""
    from studies.benchmarks import surrogate as benchmark
    from studies.benchmarks.tables import show_bench_surrogate

    results = benchmark.run_surrogates(table, metric or [], benchmark.parse_sizes(sizes), subsets)
    if as_json:
        print_json(benchmark.as_json(results))
    else:
        show_bench_surrogate(console(), results)
