"""What was found of a pool's members: losses, task vectors and barriers. Facts only; the verdict is made of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from objectives.held_out import Floats
from objectives.merging.task_vectors import TaskVectors
from pool.corpus.corpus import Split

Json = dict[str, object]
Pair = tuple[str, str]


@dataclass(frozen=True)
class DomainLosses:
    """Losses of one model in nats per token, by held-out domain; NaN or infinite where the model breaks down."""

    by_domain: Mapping[str, float]

    @property
    def mean(self) -> float:
        """Mean over domains, each alike."""
        return float(np.mean(list(self.by_domain.values())))


@dataclass(frozen=True, kw_only=True)
class PoolCheck:
    """The members of a pool, measured on one split.

    `members`, `seed` and `uniform` (the merge of all members at equal weights) have a loss on every domain; `tokens`
    says how many tokens each member was trained on (None: nobody knows), `own_domains` which domain is of its own text
    (none: left out), `forgotten_nats` by how much the loss on held-out text of the seed's mixture rose meanwhile (None:
    not measured). `barriers` are nats on the mean of domains, of the pairs whose line was walked, `barriers_to_mean`
    those between each member and the uniform merge; both over `points` points a line.
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

    @property
    def names(self) -> tuple[str, ...]:
        """The K members."""
        return self.vectors.names

    @property
    def domains(self) -> tuple[str, ...]:
        """The E held-out domains."""
        return tuple(self.seed.by_domain)

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """All K (K - 1) / 2 pairs of members."""
        return tuple(combinations(self.names, 2))

    def of_pairs(self, matrix: Floats) -> dict[Pair, float]:
        """Read the pairs off a symmetric matrix (K, K)."""
        rows = {name: row for row, name in enumerate(self.names)}
        return {(one, other): float(matrix[rows[one], rows[other]]) for one, other in self.pairs}

    def barrier_matrix(self) -> Floats:
        """Return barriers (K, K + 1), the last column to the uniform merge; NaN where no line was walked."""
        rows = {name: row for row, name in enumerate(self.names)}
        matrix = np.full((len(rows), len(rows) + 1), np.nan)
        for (one, other), nats in self.barriers.items():
            matrix[rows[one], rows[other]] = matrix[rows[other], rows[one]] = nats
        for name, nats in self.barriers_to_mean.items():
            matrix[rows[name], -1] = nats
        return matrix

    def as_json(self) -> Json:
        """Give everything measured, in JSON types; a pair is written as ONE/OTHER, a sign no name may contain."""
        vectors = self.vectors
        norms, relative = vectors.norms.tolist(), vectors.relative_norms.tolist()
        return {
            "pool": self.pool,
            "pool_digest": self.digest,
            "split": self.split,
            "points": self.points,
            "members": {
                name: {
                    "loss_nats": dict(self.members[name].by_domain),
                    "mean_loss_nats": self.members[name].mean,
                    "task_vector_norm": norms[row],
                    "relative_task_vector_norm": relative[row],
                    "tokens": self.tokens[name],
                    "own_domain": self.own_domains.get(name),
                    "forgotten_nats": self.forgotten_nats[name],
                }
                for row, name in enumerate(self.names)
            },
            "seed": _losses_json(self.seed) | {"norm": vectors.seed_norm},
            "uniform": _losses_json(self.uniform),
            "cosines": _by_pair(self.of_pairs(vectors.cosines)),
            "sign_conflicts": _by_pair(self.of_pairs(vectors.sign_conflicts)),
            "barriers": _by_pair(self.barriers),
            "barriers_to_mean": dict(self.barriers_to_mean),
        }


def pair_name(pair: Pair) -> str:
    """Write a pair as ONE/OTHER."""
    return "/".join(pair)


def _by_pair(values: Mapping[Pair, float]) -> dict[str, float]:
    return {pair_name(pair): value for pair, value in values.items()}


def _losses_json(losses: DomainLosses) -> Json:
    return {"loss_nats": dict(losses.by_domain), "mean_loss_nats": losses.mean}
