"""Measure a pool's members: losses and barriers through the evaluation store, task vectors from the stacked weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from objectives.held_out import HeldOutLoss
from objectives.merged_loss import MergedLoss
from objectives.merging.merge import StackedPool
from objectives.merging.task_vectors import TaskVectors, barrier_nats, compare_task_vectors
from objectives.target.target import Target
from pool.corpus.corpus import Split
from pool.errors import CorpusError, NonFiniteLossError
from pool.mixture import Mixture
from pool.parts.store import Pool
from pool.progress import track
from pool.training.needs import own_domain
from studies.assessment.pool_check.found import DomainLosses, Pair, PoolCheck
from studies.database.database import open_database
from studies.database.evaluations import EvaluationStore
from studies.database.remembered import RememberedObjective

SPLIT: Split = "search"
"""The split that studies minimise on: a pool may be mended after looking, and the test split is not for choosing."""
DATABASE_TIMEOUT_SECONDS = 60.0

Ends = tuple[Mixture, Mixture]


@dataclass(frozen=True)
class Lines:
    """Which lines are walked: `points` between the ends of each, at most `most_pairs` pairs, lowest cosines first."""

    points: int = 3
    most_pairs: int = 36


def run_pool_check(pool: Pool, lines: Lines) -> PoolCheck:
    """Measure all members of a verified pool; asked again, what was evaluated is remembered in the root's database.

    Raises `PoolError` for a member that holds NaN, `CorpusError` without held-out text and `StorageError`.
    """
    stacked = StackedPool(pool.member_folders, folder=pool.folder)
    vectors = compare_task_vectors(stacked, pool.folder / "seed")
    with open_database(pool.config.root / "mixscout.db", timeout_seconds=DATABASE_TIMEOUT_SECONDS) as database:
        return _check(pool, Reader(pool, stacked, database.evaluations), vectors, lines)


class Reader:
    """Reads the loss of merges and of the seed on every held-out domain that has something to score."""

    def __init__(self, pool: Pool, stacked: StackedPool, store: EvaluationStore) -> None:
        scored = [name for name, windows in pool.corpus.held_out[SPLIT].items() if windows.tokens]
        if not scored:
            raise CorpusError(
                f"pool {pool.config.name!r} has no held-out text to check its members on; "
                "set held_out_share above 0, or add a [corpus.held_out.NAME] table, and build it again"
            )
        self._stacked, self._pool = stacked, pool
        self._merged = MergedLoss(pool, stacked, Target.over(scored, "macro"), SPLIT)
        self._objective = RememberedObjective(self._merged, store)

    def seed(self) -> DomainLosses:
        """Read the seed checkpoint."""
        self._stacked.load(self._pool.folder / "seed", "the seed")
        return self._resident()

    def merge(self, mixture: Mixture) -> DomainLosses:
        """Read a mixture's merge; one that is not finite is read all the same, and not remembered."""
        try:
            return _losses(self._objective(mixture).domains)
        except NonFiniteLossError:
            return self._resident()

    def mean_nats(self, mixture: Mixture) -> float:
        """Read a mixture's merge, as the mean over domains."""
        return self.merge(mixture).mean

    def _resident(self) -> DomainLosses:
        return _losses(self._merged.table.losses(self._merged.scorer.score()))


def _check(pool: Pool, reader: Reader, vectors: TaskVectors, lines: Lines) -> PoolCheck:
    vertices = {name: Mixture.vertex(pool.names, name) for name in pool.names}
    uniform = Mixture.uniform(pool.names)
    with track("members scored", len(vertices)) as show:
        members = {}
        for name, vertex in vertices.items():
            members[name] = reader.merge(vertex)
            show(len(members), name)
    pairs = least_alike(vectors, lines.most_pairs)
    ends: list[Ends] = [(vertices[one], vertices[other]) for one, other in pairs]
    to_mean: list[Ends] = [(vertex, uniform) for vertex in vertices.values() if len(vertices) > 1]
    walked = _walk([*ends, *to_mean], reader, lines.points)
    return PoolCheck(
        pool=pool.config.name,
        digest=pool.manifest.digest,
        split=SPLIT,
        points=lines.points,
        members=members,
        seed=reader.seed(),
        uniform=reader.merge(uniform),
        tokens={name: member.tokens for name, member in pool.manifest.members.items()},
        own_domains={
            name: domain for name in pool.names if (domain := own_domain(name, pool.manifest.corpus)) is not None
        },
        forgotten_nats={
            name: member.seed_text.rise_nats if member.seed_text else None
            for name, member in pool.manifest.members.items()
        },
        vectors=vectors,
        barriers=dict(zip(pairs, walked[: len(pairs)], strict=True)),
        barriers_to_mean=dict(zip(vertices if to_mean else (), walked[len(pairs) :], strict=True)),
    )


def least_alike(vectors: TaskVectors, most: int) -> Sequence[Pair]:
    """Choose at most `most` pairs of members, those of the lowest cosines, in the order of members."""
    first, second = np.triu_indices(len(vectors.names), k=1)
    chosen = np.sort(np.argsort(vectors.cosines[first, second], kind="stable")[:most])
    return [(vectors.names[first[place]], vectors.names[second[place]]) for place in chosen]


def _walk(ends: Sequence[Ends], reader: Reader, points: int) -> list[float]:
    barriers: list[float] = []
    with track("lines walked", len(ends)) as show:
        for start, end in ends:
            barriers.append(barrier_nats(start, end, reader.mean_nats, points=points))
            show(len(barriers), "")
    return barriers


def _losses(domains: Mapping[str, HeldOutLoss]) -> DomainLosses:
    return DomainLosses({name: loss.loss_nats for name, loss in domains.items()})
