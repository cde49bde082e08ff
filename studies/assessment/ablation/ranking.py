"""Does the ranking of partitions hold on other text: documents drawn again, the other split, noise, other case?

Documents are drawn with replacement within each domain (Efron and Tibshirani 1993, chapter 8), the same for every
model, so their common part cancels in differences and ranks. Windows of one document stay together.

Other text ranks partitions by leaving each out of the uniform mixture, by the goal in bits per byte, as perturbed text
has other tokens: K + 1 merges for each kind of text.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.stats import rankdata
from transformers import PreTrainedTokenizerFast

from objectives.evaluation import Evaluation
from objectives.held_out import Floats
from objectives.scoring.paired import window_sizes
from objectives.scoring.perturbation import PERTURBATIONS, Kind, perturbed, rewritten_windows
from objectives.scoring.scorer import Scorer
from objectives.scoring.window_table import WindowTable
from objectives.target import Goal
from pool.corpus.corpus import SPLITS, Split
from pool.files.digests import digest_json
from pool.mixture import Mixture
from pool.tokens.held_out import HeldOutWindows
from pool.tokens.tokenizer import load_tokenizer
from studies.assessment.ablation.contributions import without
from studies.assessment.ablation.evidence import merged_evaluation
from studies.database.remembered import RememberedObjective
from studies.opened.on_pool import Workbench
from studies.opened.proxy import Proxy

RESAMPLES = 400

Draws = tuple[Floats, ...]
"""How often each document of each domain was drawn: (B, D_e) for every domain e."""


@dataclass(frozen=True)
class RankAgreement:
    """Spearman correlation of two rankings of partitions, and its 95 % interval; None if undefined."""

    spearman: float | None
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.spearman is None:
            return "not defined"
        interval = "no interval" if self.low is None else f"95 % interval {self.low:.2f} to {self.high:.2f}"
        return f"{self.spearman:.2f} ({interval})"


def draw_documents(table: WindowTable, rng: np.random.Generator) -> Draws:
    """Draw as many documents of each domain as it has, `RESAMPLES` times."""
    counts = [len(np.unique(table.document[table.rows_of(e)])) for e in range(len(table.domains))]
    return tuple(rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64) for n in counts)


def resampled(goal: Goal, table: WindowTable, nats: Floats, draws: Draws) -> Floats:
    """Return the goal and each domain's measure (B, N, C) on drawn documents, from the nats (N, W) of N models.

    The table has the goal's domains, and may have more. NaN if a draw has nothing to divide by.
    """
    sizes = window_sizes(goal, table)
    measures = np.empty((len(draws[0]), len(nats), len(table.domains)))
    drawn_sizes = np.empty((len(draws[0]), len(table.domains)))
    for e, times in enumerate(draws):
        rows = table.rows_of(e)
        home = np.unique(table.document[rows], return_inverse=True)[1]
        by_document = np.stack([np.bincount(home, weights=one) for one in nats[:, rows]])
        drawn_sizes[:, e] = times @ np.bincount(home, weights=sizes[rows])
        measures[:, :, e] = times @ by_document.T / drawn_sizes[:, e, None]
    places = [table.domains.index(name) for name in goal.domains]
    drawn = zip(measures, drawn_sizes, strict=True)
    values = [[goal.value_of(row[places], size[places]) for row in rows] for rows, size in drawn]
    return np.concatenate([np.array(values)[:, :, None], measures], axis=2)


def spread(draws: Draws, goal: Goal, table: WindowTable, figures: Floats) -> Floats:
    """Return the deviation of figures (B, ..., C) over the draws; infinite in columns of a single document."""
    single = [drawn.shape[1] < 2 for drawn in draws]
    of_goal = any(alone for name, alone in zip(table.domains, single, strict=True) if name in goal.domains)
    errors: Floats = np.where([of_goal, *single], np.inf, figures.std(axis=0, ddof=1))
    return errors


def agreement(first: Floats, second: Floats, first_drawn: Floats, second_drawn: Floats) -> RankAgreement:
    """Compare two rankings (K,), with the interval over pairs of drawn rankings (B, K)."""
    drawn = [spearman(one, other) for one, other in zip(first_drawn, second_drawn, strict=True)]
    return RankAgreement(spearman(first, second), *_interval([value for value in drawn if value is not None]))


def stability(figures: Floats, drawn: Floats) -> RankAgreement:
    """Compare a ranking (K,) with each draw's (B, K): the mean correlation, and 95 % of all."""
    known = [value for value in (spearman(figures, one) for one in drawn) if value is not None]
    return RankAgreement(float(np.mean(known)) if known else None, *_interval(known))


def _interval(drawn: Sequence[float]) -> tuple[float | None, float | None]:
    low, high = np.quantile(drawn, [0.025, 0.975]).tolist() if drawn else (None, None)
    return low, high


def spearman(first: Floats, second: Floats) -> float | None:
    """Return the rank correlation of two (K,), ties at their mean rank; None if one is constant."""
    ranks = [rankdata(one) - (len(one) + 1) / 2 for one in (first, second)]
    scale = float(np.sqrt((ranks[0] @ ranks[0]) * (ranks[1] @ ranks[1])))
    return float(ranks[0] @ ranks[1]) / scale if scale > 0 and np.isfinite(scale) else None


@dataclass(frozen=True)
class Noise:
    """Character noise: the share of characters edited, and its seed."""

    share: float
    seed: int


class TextLoss:
    """The loss of merges on windows of other text than the pool's."""

    gradient = challenge = foundation = None

    def __init__(self, proxy: Proxy, goal: Goal, windows: Mapping[str, HeldOutWindows]) -> None:
        self._proxy = proxy
        self._goal = goal
        self.table = WindowTable.of(windows, goal.domains)
        self._scorer = Scorer(proxy.stacked.model, self.table, precision=proxy.settings.precision)
        self.digest = digest_json(
            {
                "kind": "other text",
                "pool": proxy.pool.manifest.digest,
                "held_out": {name: windows[name].digest for name in goal.domains},
                "goal": goal.digest_parts,
                "settings": proxy.settings.digest_parts,
            }
        )

    @property
    def partitions(self) -> tuple[str, ...]:
        return self._proxy.stacked.names

    def __call__(self, mixture: Mixture) -> Evaluation:
        started = time.perf_counter()
        self._proxy.make_resident(mixture)
        return merged_evaluation(
            mixture, self._goal, self.table, self._scorer.score(), digest=self.digest, started=started
        )


def rank_agreements(bench: Workbench, split: Split, noise: Noise) -> dict[str, RankAgreement]:
    """Compare the ranking on a split with the ranking on each other kind of text, by name."""
    goal = bench.goals[split].plain("bits-per-byte")
    tokenizer = load_tokenizer(bench.proxy.pool.folder / "tokenizer")
    plain = bench.proxy.pool.corpus.held_out[split]
    (other,) = (one for one in SPLITS if one != split)
    texts: dict[str, Mapping[str, HeldOutWindows]] = {f"{other}-split": bench.proxy.pool.corpus.held_out[other]}
    for kind in PERTURBATIONS:
        texts[kind] = {name: _perturbed(name, plain[name], tokenizer, kind, noise) for name in goal.domains}
    here, here_drawn = _ranking(bench, goal, plain, noise.seed)
    found = {}
    for name, windows in texts.items():
        # perturbed documents keep their order, so equal seeds draw the same documents
        there, there_drawn = _ranking(bench, goal, windows, noise.seed + (name not in PERTURBATIONS))
        found[name] = agreement(here, there, here_drawn, there_drawn)
    return found


def _perturbed(
    name: str, windows: HeldOutWindows, tokenizer: PreTrainedTokenizerFast, kind: Kind, noise: Noise
) -> HeldOutWindows:
    """Perturb a domain, by noise of its own whatever the goal's other domains."""
    rng = np.random.default_rng([noise.seed, *name.encode()])
    return rewritten_windows(name, windows, tokenizer, partial(perturbed, kind=kind, noise=noise.share, rng=rng))


def _ranking(bench: Workbench, goal: Goal, windows: Mapping[str, HeldOutWindows], seed: int) -> tuple[Floats, Floats]:
    """Return the gain of each partition in the uniform mixture (K,), and on drawn documents (B, K)."""
    loss = TextLoss(bench.proxy, goal, windows)
    objective = RememberedObjective(loss, bench.database.evaluations)
    uniform = Mixture.uniform(bench.proxy.pool.names)
    models = [uniform, *(without(uniform, name) or uniform for name in uniform.names)]
    nats = np.stack([loss.table.together(objective(model).windows or {}) for model in models])
    plain = np.array([goal.value(loss.table.losses(one)) for one in nats])
    drawn = resampled(goal, loss.table, nats, draw_documents(loss.table, np.random.default_rng(seed)))[:, :, 0]
    return plain[1:] - plain[0], drawn[:, 1:] - drawn[:, :1]
