"""Optuna's cache of finished trials, for a worker whose steps each see one history, read once.

Optuna sorts all trials anew each time a list of them is asked for, and a step asks some ten times: with thousands of
trials that was most of a step.
"""

from __future__ import annotations

import copy
from collections.abc import Container, Iterator
from contextlib import contextmanager

from optuna.storages._cached_storage import _CachedStorage
from optuna.trial import FrozenTrial, TrialState

from studies.trial_storage import TrialStorage


class StudyStorage(_CachedStorage):
    """What a study is opened on. From one `look` to the next nothing changes but for new trials of one's own."""

    def __init__(self, trials: TrialStorage) -> None:
        super().__init__(trials)
        self.trials = trials
        self._in_order: dict[int, list[FrozenTrial | None]] = {}
        self._lists: dict[tuple[int, frozenset[TrialState]], list[FrozenTrial]] = {}

    def look(self, study_id: int) -> None:
        """Read what is new, and hold it still."""
        self._stir()
        self._read_trials_from_remote_storage(study_id)
        self.trials.still = True

    def send(self) -> None:
        """Send what was held back of the trial in hand."""
        self.trials.send()

    @contextmanager
    def worked_with(self) -> Iterator[None]:
        """Start a worker's dealings with no trial in hand, and end them with nothing held back or still."""
        self.trials.let_go()
        try:
            yield
        finally:
            self.trials.let_go()
            self._stir()

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """List a study's trials in the order of their numbers."""
        if not self.trials.still:
            return super().get_all_trials(study_id, deepcopy, states)
        wanted = frozenset(TrialState if states is None else (state for state in TrialState if state in states))
        if (study_id, wanted) not in self._lists:
            known = self._in_order.get(study_id, [])
            self._lists[study_id, wanted] = [trial for trial in known if trial is not None and trial.state in wanted]
        found = self._lists[study_id, wanted]
        return copy.deepcopy(found) if deepcopy else list(found)

    def _add_trials_to_cache(self, study_id: int, trials: list[FrozenTrial]) -> None:
        super()._add_trials_to_cache(study_id, trials)
        known = self._in_order.setdefault(study_id, [])
        for trial in trials:
            known.extend([None] * (trial.number + 1 - len(known)))
            known[trial.number] = trial
        self._lists.clear()

    def _stir(self) -> None:
        self.trials.still = False
        self._lists.clear()
