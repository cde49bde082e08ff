"""The facts behind all sections: an opened study, its evaluated trials, and a surface fitted to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from objectives.held_out import Floats
from pool.files.toml import as_options
from pool.mixture import Mixture
from search.trials import best_trial, completed_trials, value_of
from studies.answers.ages import doubts_of_ages
from studies.answers.doubts import doubts_of_study
from studies.answers.score import negated_in
from studies.answers.swarm_best import SwarmBest, find_swarm_best
from studies.opened.on_pool import Workbench
from studies.opened.on_table import SwarmBench
from studies.opened.opened_study import OpenedStudy, best_mixture
from studies.outcome.report.facts.surface import Surface, surface_of


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A study, opened to be read.

    trials: the N trials with a value, by number, minimised.
    truths: folder of models really trained elsewhere, to judge the proxy by; None for the study's own.
    """

    bench: OpenedStudy
    study: optuna.Study
    study_file: Path
    trials: Sequence[FrozenTrial]
    truths: Path | None = None

    @classmethod
    def of(cls, bench: OpenedStudy, study_file: Path, truths: Path | None = None) -> Facts:
        """Read a study's trials. Raises `StudyError` when there is no such study, and `StudyMismatchError`."""
        study = bench.known_study()
        trials = completed_trials(study)
        return cls(bench=bench, study=study, study_file=study_file, trials=trials, truths=truths)

    @property
    def typed(self) -> str:
        """The study file in a command line: its name, and what --set made of the two files."""
        pool = self.bench.config.pool
        return self.study_file.name + as_options(self.study_file) + (as_options(pool, "pool.") if pool else "")

    @property
    def on_pool(self) -> Workbench | None:
        """The opened study on a pool; None on a swarm."""
        return self.bench if isinstance(self.bench, Workbench) else None

    @property
    def on_table(self) -> SwarmBench | None:
        """The opened study on a swarm; None on a pool."""
        return self.bench if isinstance(self.bench, SwarmBench) else None

    @property
    def names(self) -> tuple[str, ...]:
        return self.bench.space.names

    @property
    def unit(self) -> str:
        """The quantity of the values, in words."""
        if self.bench.config.downstream:
            return "downstream error"
        if self.on_table:
            negated = negated_in(self.bench.target)
            return f"predicted value with {negated} negated" if negated else "predicted value"
        return f"held-out loss ({self.bench.target.measure.replace('-', ' ')})"

    @property
    def lead_unit(self) -> str:
        """The unit of a difference between two mixtures, in words; of a table not known."""
        if self.bench.config.downstream:
            return "of error"
        return "" if self.on_table else self.bench.target.measure.replace("-", " ")

    @property
    def best_is(self) -> str:
        """The best value in one word."""
        return "highest" if self.bench.target.direction == "maximise" else "lowest"

    @cached_property
    def mixtures(self) -> Sequence[Mixture]:
        return [self.bench.space.mixture_of(trial) for trial in self.trials]

    @cached_property
    def weights(self) -> Floats:
        """The weights of the mixtures (N, K)."""
        return np.array([mixture.array for mixture in self.mixtures]).reshape(-1, len(self.names))

    @cached_property
    def values(self) -> Floats:
        """The trials' values (N,), with their own sign; with several objectives, their means."""
        return np.array([self.bench.target.shown(value_of(trial)) for trial in self.trials])

    @property
    def best(self) -> Mixture | None:
        """The answer of `refine`, or the mixture with the best value; None before the first evaluation."""
        return best_mixture(self.bench, self.study) if best_trial(self.trials) else None

    @cached_property
    def swarm_best(self) -> SwarmBest | None:
        """The answer of a study on a swarm; None on a pool, and before the first evaluation."""
        return find_swarm_best(self.on_table, self.study) if self.on_table and self.trials else None

    @property
    def doubts(self) -> Sequence[str]:
        """Sentences to read before a mixture is believed."""
        if self.swarm_best:
            return self.swarm_best.doubts
        return doubts_of_study(self.on_table) if self.on_table else doubts_of_ages(self.bench, self.study)

    @cached_property
    def surface(self) -> Surface | None:
        """The predictor of values; None with too few evaluations."""
        return surface_of(self.bench, self.trials)

    @property
    def search_first(self) -> str:
        return f"No mixture has been evaluated yet. Run: mixscout search {self.typed}"
