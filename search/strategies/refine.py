"""Refinement: the mixture most worth training for real, by one model of merges and truths.

Merges cover the space and are a little wrong; truths correct them where they matter. The next mixture is the one of
largest expected improvement on the best trained mixture (Jones, Schonlau and Welch 1998), as all truths cost alike. A
single member is a contender at no cost, for its merge is the trained model. Members teach the model nothing: merge and
truth agree there alone, and intervals elsewhere would become too narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from objectives.agreement.two_fidelity import TwoFidelity, Yardstick
from pool.mixture import Mixture
from search.space import CappedSimplex, Weights
from search.strategies.designs import draw
from search.strategies.strategy import ReplayingSampler, Strategy
from search.strategies.surrogate import expected_improvement, fitted
from search.surrogates.surrogate import Floats, Observations, Prediction
from search.trials import value_of

DRAWN = 384
"""Random mixtures of the space among the candidates."""
LOWEST = 96
"""Merged mixtures of lowest proxy among the candidates."""
MOVES = 96
RADII = (0.2, 0.07, 0.02)
"""Moves around the most promising candidate, round after round."""
MOST_MERGES = 4
"""New merges made for a proposal: a candidate's proxy is predicted first, and known before its training is paid."""
SAME = 1e-9
"""The largest difference of weights that rounding makes."""
CLOSE = 0.01
"""Total variation below which two mixtures are one for a training."""
CAUTIOUS = 0.2
"""The smallest correction, in units, that certainty supposes: truths close together agree and hide larger ones."""
LEAST_TRUTHS = 2
"""Truths before certainty is judged."""
JUDGED, DRAWS = 160, 2000
"""Candidates and joint draws behind the chance that another mixture is better."""


@dataclass(frozen=True, eq=False)
class Merges:
    """What is known of the proxy.

    observations: of the N merges made, perhaps with gradients.
    merge: the proxy of any mixture.
    space: the mixtures that may be proposed.
    vertices: weights (V, K) and truths (V,) of the members trained as truths are.
    noise: deviation of a truth trained again; None, not known.
    rows: the only mixtures (R, K) that may be trained; None, all of the space.
    """

    observations: Observations
    merge: Callable[[Mixture], float]
    space: CappedSimplex
    vertices: tuple[Weights, Floats]
    noise: float | None = None
    rows: Weights | None = None

    def proxies(self, weights: Weights) -> Floats:
        """Merge mixtures (M, K), or recall them."""
        return np.array([self.merge(Mixture.from_array(self.space.names, row)) for row in weights])

    @cached_property
    def drawn(self) -> Weights:
        """Mixtures of all kinds (M, K), always the same for a space."""
        rng = np.random.default_rng(len(self.space.names))
        return np.stack([draw(self.space, rng).array for _ in range(DRAWN)])

    @cached_property
    def yardstick(self) -> Yardstick:
        """The spread of proxies over the space, by the merges made before any truth: truths do not move it."""
        proxies = Landscape(self, np.empty((0, len(self.space.names)))).proxies(self.drawn).mean
        noise = None if self.noise is None else np.array([self.noise])
        return Yardstick.of(self.drawn, proxies[:, None], noise=noise)

    @property
    def margin(self) -> float:
        """A difference too small to matter: the noise of a training, or what the model supposes of an unknown one."""
        return float((self.yardstick.noise_in_units * self.yardstick.unit)[0])


class Landscape:
    """The proxy everywhere: merges as they are, and a Scheffe quadratic between them."""

    def __init__(self, merges: Merges, trained: Weights) -> None:
        self._merges = merges
        self._observations = merges.observations.plus(Observations.of_values(trained, merges.proxies(trained)))
        self._fit()

    def add(self, weights: Weights) -> float:
        """Merge a mixture (K,) and learn from its proxy."""
        value = float(self._merges.proxies(weights[None])[0])
        self._observations = self._observations.plus(Observations.of_values(weights[None], [value]))
        self._fit()
        return value

    def knows(self, weights: Weights) -> bool:
        return bool((np.abs(self._observations.weights - weights).max(axis=1) < SAME).any())

    def proxies(self, weights: Weights) -> Prediction:
        """Return the proxies (M,) of mixtures (M, K), predicted where they were not merged."""
        found = self._surrogate.predict(weights)
        distances = np.abs(weights[:, None] - self._observations.weights).max(axis=-1)
        nearest = distances.argmin(axis=1)
        known = distances[np.arange(len(weights)), nearest] < SAME
        mean = np.where(known, self._observations.values[nearest], found.mean)
        return Prediction(mean, np.where(known, 0.0, found.deviation))

    @property
    def lowest(self) -> Weights:
        """The merged mixtures of lowest proxy that the space allows."""
        order = np.argsort(self._observations.values, kind="stable")[:LOWEST]
        return self._merges.space.weights_of(self._observations.weights[order])

    def _fit(self) -> None:
        self._surrogate = fitted(self._observations)


@dataclass(frozen=True, eq=False)
class Beliefs:
    """What T >= 1 trained mixtures and the merges say of the truth.

    trained: (T, K), with `truths` (T,) as measured.
    """

    merges: Merges
    landscape: Landscape
    model: TwoFidelity
    trained: Weights
    truths: Floats

    @classmethod
    def of(cls, merges: Merges, trained: Weights, truths: Floats) -> Beliefs:
        """Learn from truths. Raises `ValueError` for none."""
        landscape = Landscape(merges, trained)
        proxies = landscape.proxies(trained).mean
        model = TwoFidelity.fit(trained, proxies[:, None], truths[:, None], merges.yardstick)
        return cls(merges, landscape, model, trained, truths)

    def predict(self, weights: Weights) -> Prediction:
        """Predict the truths (M,) of mixtures (M, K), without the noise of a training."""
        proxies = self.landscape.proxies(weights)
        found = self.model.predict(weights, proxies.mean[:, None], noisy=False)
        return Prediction(found.mean[:, 0], np.hypot(found.scale[:, 0], proxies.deviation))

    def draws(self, weights: Weights, rng: np.random.Generator) -> Floats:
        """Draw truths (DRAWS, M) of mixtures (M, K), jointly and with caution; a member's is known.

        Proxies that were not measured err together, by one normal number a draw.
        """
        proxies = self.landscape.proxies(weights)
        drawn = self._cautious.draws(weights, proxies.mean[:, None], 0, rng, count=DRAWS)
        drawn = drawn + rng.standard_normal((DRAWS, 1)) * proxies.deviation
        for vertex, truth in zip(*self.merges.vertices, strict=True):
            drawn[:, np.abs(weights - vertex).max(axis=1) < SAME] = truth
        return drawn

    @cached_property
    def _cautious(self) -> TwoFidelity:
        """The model by its laws of large corrections, or by the largest that are left."""
        laws = self.model.posteriors
        least = min(CAUTIOUS, max(one.law.delta for one in laws))
        return replace(self.model, posteriors=[one for one in laws if one.law.delta >= least])

    @cached_property
    def contenders(self) -> tuple[Weights, Floats]:
        """The trained mixtures and the members, with their truths: predicted, as a measurement may be lucky."""
        vertices, known = self.merges.vertices
        return np.vstack([self.trained, vertices]), np.concatenate([self.predict(self.trained).mean, known])

    @cached_property
    def best(self) -> Weights:
        """The contender of lowest truth (K,)."""
        weights, truths = self.contenders
        best: Weights = weights[int(np.argmin(truths))]
        return best

    def most_promising(self, rng: np.random.Generator) -> Weights:
        """Return the mixture (K,) of largest expected improvement on the best that is no contender yet."""
        if self.merges.rows is not None:
            return self._promising(self.merges.rows)
        found = self._promising(np.vstack([self.landscape.lowest, self.merges.drawn]))
        for radius in RADII:
            moves = radius * rng.normal(size=(MOVES, len(found))) * (rng.random((MOVES, len(found))) < 0.5)
            found = self._promising(np.vstack([found[None], self.merges.space.weights_of(found + moves)]))
        return found

    def chance_of_better(self, margin: float, seed: int) -> float:
        """Return the probability that some candidate's truth is lower than the best's by more than `margin`."""
        rng = np.random.default_rng([seed, len(self.truths)])
        around = self.best + RADII[-1] * rng.normal(size=(MOVES, len(self.best)))
        found = np.vstack([self.landscape.lowest, self.merges.drawn, self.merges.space.weights_of(around)])
        prediction = self.predict(found)
        order = np.argsort(prediction.mean - 2 * prediction.deviation, kind="stable")[:JUDGED]
        drawn = self.draws(np.vstack([self.best[None], found[order]]), rng)
        return float((drawn[:, 1:].min(axis=1) < drawn[:, 0] - margin).mean())

    def _promising(self, candidates: Weights) -> Weights:
        contenders, truths = self.contenders
        improvement = self._improvement(candidates, float(truths.min()))
        gaps = np.abs(candidates[:, None] - contenders).sum(axis=-1).min(axis=1) / 2
        best: Weights = candidates[int(np.argmax(np.where(gaps > CLOSE, improvement, -1.0)))]
        return best

    def _improvement(self, candidates: Weights, lowest: float) -> Floats:
        """EI (1 - tau / sqrt(s^2 + tau^2)), for a training of noise tau teaches little where s is small.

        Huang et al. 2006, J. Global Optimization 34, eq. 12.
        """
        prediction, noise = self.predict(candidates), self.merges.margin
        learnt: Floats = 1 - noise / np.hypot(prediction.deviation, noise)
        return expected_improvement(prediction, lowest) * learnt


def beliefs_of(trials: Sequence[FrozenTrial], merges: Merges) -> Beliefs | None:
    """Learn from the completed trials; running ones count as predicted, so that workers do not meet. None for none.

    Before the first truth a running trial counts as its merge.
    """
    done = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    busy = [trial for trial in trials if trial.state is TrialState.RUNNING]
    if not done and not busy:
        return None
    space = merges.space
    weights = space.weights_of_trials([*done, *busy])
    trained, waiting = weights[: len(done)], weights[len(done) :]
    if not done:
        return Beliefs.of(merges, waiting, merges.proxies(waiting))
    found = Beliefs.of(merges, trained, np.array([value_of(trial) for trial in done]))
    if not busy:
        return found
    return Beliefs.of(merges, weights, np.concatenate([found.truths, found.predict(waiting).mean]))


def propose(trials: Sequence[FrozenTrial], space: CappedSimplex, seed: int, *, merges: Merges) -> Weights | None:
    """Propose the mixture to train next: the most promising one, once its merge is made and it still is."""
    beliefs = beliefs_of(trials, merges)
    if beliefs is None:
        return None
    for number in range(MOST_MERGES):
        point = beliefs.most_promising(np.random.default_rng([seed, len(trials), number]))
        if beliefs.landscape.knows(point):
            break
        beliefs.landscape.add(point)
    return point


@dataclass
class Settled:
    """Stops once the chance that another mixture is better by more than `margin` is below `chance`.

    The rule is silent before `LEAST_TRUTHS` truths. The last answer is kept, as waiting workers ask again and again.
    """

    merges: Merges
    margin: float
    chance: float
    seed: int
    _asked: tuple[int, ...] = ()
    _answer: str | None = None

    def __call__(self, trials: Sequence[FrozenTrial]) -> str | None:
        done = tuple(trial.number for trial in trials if trial.state is TrialState.COMPLETE)
        if len(done) >= LEAST_TRUTHS and done != self._asked:
            self._asked, self._answer = done, self._judged(trials)
        return self._answer

    def _judged(self, trials: Sequence[FrozenTrial]) -> str | None:
        beliefs = beliefs_of(trials, self.merges)
        assert beliefs is not None, "there are truths"
        found = beliefs.chance_of_better(self.margin, self.seed)
        if found >= self.chance:
            return None
        return f"certainty: another mixture is better by more than {self.margin:.2g} with probability {found:.1%}"


def refining(merges: Merges) -> Strategy:
    """Make the strategy of a search among truths, given the merges."""
    return Strategy(
        "refine",
        partial(ReplayingSampler, propose=partial(propose, merges=merges)),
        pruned_trials="hidden",
        running_trials="shown",
    )
