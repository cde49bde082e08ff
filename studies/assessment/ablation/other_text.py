"""Whether partitions rank alike on other text: the other split, character noise, other case.

The ranking is that of leaving each partition out of the uniform mixture, by the goal in bits per byte, for perturbed
text has other tokens: K + 1 merges for each kind of text.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from transformers import PreTrainedTokenizerFast

from objectives.evaluation import Evaluation
from objectives.held_out import Floats
from objectives.scoring.perturbation import PERTURBATIONS, Kind, perturbed, rewritten_windows
from objectives.scoring.scorer import Scorer
from objectives.scoring.window_table import WindowTable
from objectives.target import Goal
from pool.corpus.corpus import SPLITS, Split
from pool.files.digests import digest_json
from pool.mixture import Mixture
from pool.tokens.held_out import HeldOutWindows
from pool.tokens.tokenizer import load_tokenizer
from studies.assessment.ablation.resampling import RankAgreement, agreement, draw_documents, resampled
from studies.assessment.ablation.shapley import without
from studies.database.remembered import RememberedObjective
from studies.opened.on_pool import Workbench


@dataclass(frozen=True)
class Noise:
    """The share of characters that the character noise edits, and its seed."""

    share: float
    seed: int


class TextLoss:
    """The loss of merges on any windows: those of text that the pool does not have as it is."""

    gradient = challenge = foundation = None

    def __init__(self, bench: Workbench, goal: Goal, windows: Mapping[str, HeldOutWindows]) -> None:
        self._bench = bench
        self._goal = goal
        self.table = WindowTable.of(windows, goal.domains)
        self._scorer = Scorer(bench.stacked.model, self.table, precision=bench.proxy.precision)
        self.digest = digest_json(
            {
                "kind": "other text",
                "pool": bench.pool.manifest.digest,
                "held_out": {name: windows[name].digest for name in goal.domains},
                "goal": goal.digest_parts,
                "settings": bench.proxy.digest_parts,
            }
        )

    @property
    def partitions(self) -> tuple[str, ...]:
        """The pool's partitions."""
        return self._bench.stacked.names

    def __call__(self, mixture: Mixture) -> Evaluation:
        """Evaluate a mixture: one merge, one pass."""
        started = time.perf_counter()
        self._bench.make_resident(mixture)
        nats = self._scorer.score()
        losses = self.table.losses(nats)
        return Evaluation(
            mixture,
            value=self._goal.value(losses),
            values=self._goal.values(losses),
            standard_error=self._goal.standard_error(losses),
            domains=losses,
            kind="merged",
            objective_digest=self.digest,
            seconds=time.perf_counter() - started,
            tokens_read=self._scorer.tokens,
            windows=self.table.by_domain(nats),
        )


def rank_agreements(bench: Workbench, split: Split, noise: Noise) -> dict[str, RankAgreement]:
    """Compare the ranking on a split's text with that on each other kind of text, by name."""
    goal = bench.goals[split].plain("bits-per-byte")
    tokenizer = load_tokenizer(bench.pool.folder / "tokenizer")
    plain = bench.pool.corpus.held_out[split]
    (other,) = (one for one in SPLITS if one != split)
    texts: dict[str, Mapping[str, HeldOutWindows]] = {f"{other}-split": bench.pool.corpus.held_out[other]}
    for kind in PERTURBATIONS:
        texts[kind] = {name: _perturbed(name, plain[name], tokenizer, kind, noise) for name in goal.domains}
    here, here_drawn = _ranking(bench, goal, plain, noise.seed)
    found = {}
    for name, windows in texts.items():
        # perturbed documents keep their order, so equal seeds draw the same ones; those of the other split are others
        there, there_drawn = _ranking(bench, goal, windows, noise.seed + (name not in PERTURBATIONS))
        found[name] = agreement(here, there, here_drawn, there_drawn)
    return found


def _perturbed(
    name: str, windows: HeldOutWindows, tokenizer: PreTrainedTokenizerFast, kind: Kind, noise: Noise
) -> HeldOutWindows:
    """Perturb a domain; its noise is its own, whatever other domains the goal has."""
    rng = np.random.default_rng([noise.seed, *name.encode()])
    return rewritten_windows(name, windows, tokenizer, partial(perturbed, kind=kind, noise=noise.share, rng=rng))


def _ranking(bench: Workbench, goal: Goal, windows: Mapping[str, HeldOutWindows], seed: int) -> tuple[Floats, Floats]:
    """Return what each partition adds to the uniform mixture (K,), and the same on text drawn again (B, K)."""
    loss = TextLoss(bench, goal, windows)
    objective = RememberedObjective(loss, bench.database.evaluations)
    uniform = Mixture.uniform(bench.pool.names)
    models = [uniform, *(without(uniform, name) or uniform for name in uniform.names)]
    nats = np.stack([loss.table.together(objective(model).windows or {}) for model in models])
    plain = np.array([goal.value(loss.table.losses(one)) for one in nats])
    drawn = resampled(goal, loss.table, nats, draw_documents(loss.table, np.random.default_rng(seed)))[:, :, 0]
    return plain[1:] - plain[0], drawn[:, 1:] - drawn[:, :1]
