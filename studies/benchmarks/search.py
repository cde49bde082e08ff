"""The verb `bench search`: strategies on one study's real merges, at budgets counted in forward passes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median

import optuna

from pool.mixture import Mixture
from pool.progress import track
from search.loop import Search, advance
from search.strategies.registry import STRATEGIES
from search.trials import completed_trials, value_of
from studies.benchmarks.entries import Entry
from studies.workbench import Workbench


@dataclass(frozen=True)
class Result:
    """Lowest search loss over the seeds, nats per token."""

    strategy: str
    merges: int
    forward_equivalents: int
    median: float
    min: float
    max: float
    seeds: int


def run_bench(bench: Workbench, entries: Sequence[Entry], seeds: int) -> list[Result]:
    """Run every entry from the uniform mixture, ungated, once a seed. Studies are kept in memory only."""
    return [_run_entry(bench, entry, seeds) for entry in entries]


def _run_entry(bench: Workbench, entry: Entry, seeds: int) -> Result:
    with track(f"{entry.strategy} x {entry.merges} merges", seeds) as advance_bar:
        best = []
        for seed in range(seeds):
            best.append(_best(bench, entry, seed))
            advance_bar(seed + 1, f"best {best[-1]:.4f}")
    return Result(entry.strategy, entry.merges, entry.forwards, median(best), min(best), max(best), seeds)


def _best(bench: Workbench, entry: Entry, seed: int) -> float:
    study = optuna.create_study()
    start = {"uniform": Mixture.uniform(bench.pool.names)}
    search = Search(bench.search_loss, bench.space, STRATEGIES[entry.strategy], seed, None, start)
    advance(study, search, entry.merges)
    return min((value_of(trial) for trial in completed_trials(study)), default=float("nan"))


def as_json(results: Sequence[Result]) -> list[dict[str, object]]:
    """Give what `bench search --json` prints."""
    return [asdict(result) for result in results]
