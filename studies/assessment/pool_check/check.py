"""Measure a pool's members: losses, task vectors and loss barriers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from objectives.held_out import Floats, HeldOutLoss
from objectives.losses.merged_loss import MergedLoss
from objectives.merging.merge import StackedPool
from objectives.merging.task_vectors import TaskVectors, barrier_nats, compare_task_vectors
from objectives.target import Goal
from pool.building.training.inputs import own_domain
from pool.corpus.corpus import Split
from pool.errors import CorpusError, NonFiniteLossError
from pool.mixture import Mixture
from pool.parts.store import Pool
from pool.progress import track
from pool.tokens.blank_tokens import unknown_shares
from studies.answers.score import Json
from studies.database.address import DATABASE_FILE
from studies.database.database import open_database
from studies.database.evaluations import EvaluationStore
from studies.database.remembered import RememberedObjective

SPLIT: Split = "search"
"""The split that studies minimise on: users may mend a pool after its check, and the test split is not for choosing."""
DATABASE_TIMEOUT_SECONDS = 60.0

Pair = tuple[str, str]
Ends = tuple[Mixture, Mixture]


@dataclass(frozen=True)
class Lines:
    """At most `most_pairs` lines, lowest cosines first, with `points` inside each."""

    points: int = 3
    most_pairs: int = 36


@dataclass(frozen=True)
class DomainLosses:
    """Nats per token of one model by held-out domain; may be NaN or infinite."""

    by_domain: Mapping[str, float]

    @property
    def mean(self) -> float:
        return float(np.mean(list(self.by_domain.values())))

    def as_json(self) -> Json:
        return {"loss_nats": dict(self.by_domain), "mean_loss_nats": self.mean}


@dataclass(frozen=True, kw_only=True)
class PoolCheck:
    """The members of a pool, measured on one split.

    uniform: the merge at equal weights
    tokens: trained on; None if unknown
    own_domains: the held-out domain of a member's own text; members without one are left out
    forgotten_nats: rise of the loss on the seed's mixture; None if not measured
    barriers: nats on the mean of domains, for the pairs whose line was walked
    barriers_to_mean: the same between each member and the uniform merge
    unknown_shares: share of tokens for text unknown to the tokenizer, by the name of a text with any
    """

    pool: str
    digest: str
    split: Split
    points: int
    members: Mapping[str, DomainLosses]
    seed: DomainLosses
    uniform: DomainLosses
    tokens: Mapping[str, int | None]
    own_domains: Mapping[str, str]
    forgotten_nats: Mapping[str, float | None]
    vectors: TaskVectors
    barriers: Mapping[Pair, float]
    barriers_to_mean: Mapping[str, float]
    unknown_shares: Mapping[str, float] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        return self.vectors.names

    @property
    def domains(self) -> tuple[str, ...]:
        return tuple(self.seed.by_domain)

    @property
    def pairs(self) -> tuple[Pair, ...]:
        return tuple(combinations(self.names, 2))

    def of_pairs(self, matrix: Floats) -> dict[Pair, float]:
        """Read pairs off a symmetric matrix (K, K)."""
        rows = {name: row for row, name in enumerate(self.names)}
        return {(one, other): float(matrix[rows[one], rows[other]]) for one, other in self.pairs}

    @property
    def cosines(self) -> dict[str, float]:
        """Cosines of the task vectors of pairs, by ONE/OTHER."""
        return _by_pair_name(self.of_pairs(self.vectors.cosines))

    @property
    def named_barriers(self) -> dict[str, float]:
        return _by_pair_name(self.barriers)

    def barrier_matrix(self) -> Floats:
        """Return barriers (K, K + 1), the last column to the uniform merge; NaN where not walked."""
        rows = {name: row for row, name in enumerate(self.names)}
        matrix = np.full((len(rows), len(rows) + 1), np.nan)
        for (one, other), nats in self.barriers.items():
            matrix[rows[one], rows[other]] = matrix[rows[other], rows[one]] = nats
        for name, nats in self.barriers_to_mean.items():
            matrix[rows[name], -1] = nats
        return matrix

    def as_json(self) -> Json:
        vectors = self.vectors
        norms, relative = vectors.norms.tolist(), vectors.relative_norms.tolist()
        return {
            "pool": self.pool,
            "pool_digest": self.digest,
            "split": self.split,
            "points": self.points,
            "members": {
                name: {
                    **self.members[name].as_json(),
                    "task_vector_norm": norms[row],
                    "relative_task_vector_norm": relative[row],
                    "tokens": self.tokens[name],
                    "own_domain": self.own_domains.get(name),
                    "forgotten_nats": self.forgotten_nats[name],
                }
                for row, name in enumerate(self.names)
            },
            "seed": self.seed.as_json() | {"norm": vectors.seed_norm},
            "uniform": self.uniform.as_json(),
            "cosines": self.cosines,
            "sign_conflicts": _by_pair_name(self.of_pairs(vectors.sign_conflicts)),
            "barriers": self.named_barriers,
            "barriers_to_mean": dict(self.barriers_to_mean),
            **({"unknown_shares": dict(self.unknown_shares)} if self.unknown_shares else {}),
        }


def _by_pair_name(values: Mapping[Pair, float]) -> dict[str, float]:
    r"""Name each pair ONE/OTHER; a slash in a name becomes `\/`."""
    return {"/".join(name.replace("/", "\\/") for name in pair): value for pair, value in values.items()}


def run_pool_check(pool: Pool, lines: Lines) -> PoolCheck:
    """Measure all members of a verified pool; evaluations are remembered in the root's database.

    Raises `PoolError` for NaN in a member, `CorpusError` without held-out text, and `StorageError`.
    """
    stacked = StackedPool(pool.member_folders, folder=pool.folder)
    vectors = compare_task_vectors(stacked, pool.folder / "seed")
    file = pool.config.root / DATABASE_FILE
    with open_database(file, timeout_seconds=DATABASE_TIMEOUT_SECONDS, writes=False) as database:
        return _check(pool, _Reader(pool, stacked, database.evaluations), vectors, lines)


class _Reader:
    def __init__(self, pool: Pool, stacked: StackedPool, store: EvaluationStore) -> None:
        scored = [name for name, windows in pool.corpus.held_out[SPLIT].items() if windows.tokens]
        if not scored:
            raise CorpusError(
                f"pool {pool.config.name!r} has no held-out text to check its members on; "
                "set held_out_share above 0, or add a [corpus.held_out.NAME] section, and build it again"
            )
        self._stacked, self._seed_folder = stacked, pool.folder / "seed"
        self._merged = MergedLoss(pool, stacked, Goal.over(scored, "macro"), SPLIT)
        self._objective = RememberedObjective(self._merged, store)

    def seed(self) -> DomainLosses:
        self._stacked.load(self._seed_folder, "the seed")
        return self._resident()

    def merge(self, mixture: Mixture) -> DomainLosses:
        """Read a merge; losses that are not finite are not remembered."""
        try:
            return _losses(self._objective(mixture).domains)
        except NonFiniteLossError:
            return self._resident()

    def _resident(self) -> DomainLosses:
        return _losses(self._merged.table.losses(self._merged.scorer.score()))


def _check(pool: Pool, reader: _Reader, vectors: TaskVectors, lines: Lines) -> PoolCheck:
    vertices = {name: Mixture.vertex(pool.names, name) for name in pool.names}
    uniform = Mixture.uniform(pool.names)
    with track("members scored", len(vertices)) as show:
        members = {}
        for name, vertex in vertices.items():
            members[name] = reader.merge(vertex)
            show(len(members), name)
    pairs = _least_alike(vectors, lines.most_pairs)
    ends: list[Ends] = [(vertices[one], vertices[other]) for one, other in pairs]
    to_mean: list[Ends] = [(vertex, uniform) for vertex in vertices.values() if len(vertices) > 1]
    walked = _walk([*ends, *to_mean], reader, lines.points)
    manifests = pool.manifest.members
    own_domains = {name: own_domain(name, pool.manifest.corpus) for name in pool.names}
    return PoolCheck(
        pool=pool.config.name,
        digest=pool.manifest.digest,
        split=SPLIT,
        points=lines.points,
        members=members,
        seed=reader.seed(),
        uniform=reader.merge(uniform),
        tokens={name: member.tokens for name, member in manifests.items()},
        own_domains={name: domain for name, domain in own_domains.items() if domain is not None},
        forgotten_nats={name: one.seed_text.rise_nats if one.seed_text else None for name, one in manifests.items()},
        vectors=vectors,
        barriers=dict(zip(pairs, walked[: len(pairs)], strict=True)),
        barriers_to_mean=dict(zip(vertices if to_mean else (), walked[len(pairs) :], strict=True)),
        unknown_shares=unknown_shares(pool.manifest.corpus),
    )


def _least_alike(vectors: TaskVectors, most: int) -> Sequence[Pair]:
    first, second = np.triu_indices(len(vectors.names), k=1)
    chosen = np.sort(np.argsort(vectors.cosines[first, second], kind="stable")[:most])
    return [(vectors.names[first[place]], vectors.names[second[place]]) for place in chosen]


def _walk(ends: Sequence[Ends], reader: _Reader, points: int) -> list[float]:
    barriers: list[float] = []
    with track("lines walked", len(ends)) as show:
        for start, end in ends:
            barriers.append(barrier_nats(start, end, lambda mixture: reader.merge(mixture).mean, points=points))
            show(len(barriers), "")
    return barriers


def _losses(domains: Mapping[str, HeldOutLoss]) -> DomainLosses:
    return DomainLosses({name: loss.loss_nats for name, loss in domains.items()})
