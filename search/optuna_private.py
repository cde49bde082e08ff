"""All that leans on Optuna's private names, in one file: another version of Optuna is tried here first.

Private are the ids of studies and trials, the trials a sampler sees, and the tables and the cache of the storage.
pyproject therefore caps Optuna below the first version that was not tested.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, check_distribution_compatibility, distribution_to_json
from optuna.exceptions import OptunaError, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.storages._rdb.models import (
    NOT_FOUND_MSG,
    TrialModel,
    TrialParamModel,
    TrialUserAttributeModel,
    TrialValueModel,
)
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import CursorResult, insert, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from pool.errors import MixscoutError


def id_of(study: optuna.Study) -> int:
    """Return the id of a study in its storage."""
    return study._study_id


def is_running(study: optuna.Study, trial: FrozenTrial) -> bool:
    """Read anew whether a trial is running."""
    return study._storage.get_trial(trial._trial_id).state is TrialState.RUNNING


def taken_up(study: optuna.Study, trial: FrozenTrial) -> optuna.Trial:
    """Take up a running trial under its own number."""
    return optuna.Trial(study, trial._trial_id)


def annotate(study: optuna.Study, trial: FrozenTrial, key: str, value: object) -> None:
    """Set an attribute of a trial while its sampler proposes for it."""
    study._storage.set_trial_user_attr(trial._trial_id, key, value)


class FilteredStudy(optuna.Study):
    """A study as a sampler may see it: with the trials that `shown` keeps."""

    def __init__(self, study: optuna.Study, shown: Callable[[list[FrozenTrial]], list[FrozenTrial]]) -> None:
        self.__dict__.update(study.__dict__)
        self._shown = shown

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        return self._shown(super()._get_trials(deepcopy=deepcopy, states=states, use_cache=use_cache))


@contextmanager
def reading_rows() -> Iterator[None]:
    """Turn the error of a damaged row in the block into Optuna's error of a storage; a missing row stays `KeyError`."""
    try:
        yield
    except (SQLAlchemyError, OptunaError, MixscoutError):
        raise
    except Exception as error:  # many types for one fact: the row is damaged
        if isinstance(error, KeyError) and NOT_FOUND_MSG in error.args:
            raise
        raise StorageInternalError(f"a row of the database is malformed: {error!r}") from error


class TrialStorage(RDBStorage):
    """Storage for one worker with one trial in hand, in one thread.

    Optuna commits every parameter and attribute by itself, and reads whole trials several times a step: with eight
    partitions more cost than all else. Here the values of the trial in hand are held back until `send`, or until its
    state is set, and the trial is not read back. Values lost with a dead worker are written again by its successor.
    With `still`, other workers' trials stay as they were last read, so that a step sees one history.
    """

    def __init__(self, url: str, engine_kwargs: dict[str, Any]) -> None:
        self.still = False
        self._in_hand: FrozenTrial | None = None
        self._known: set[str] = set()
        self._params: dict[str, tuple[float, BaseDistribution]] = {}
        self._attributes: dict[str, Any] = {}
        super().__init__(url.replace("{", "{{").replace("}", "}}"), engine_kwargs)

    def send(self) -> None:
        """Write the held-back values in one transaction. Raises `UpdateFinishedTrialError` for a finished trial."""
        if self._in_hand is None or not (self._params or self._attributes):
            return
        with self._transaction() as session:
            trial = select(TrialModel.state).where(TrialModel.trial_id == self._in_hand._trial_id).with_for_update()
            if session.scalar(trial) is not TrialState.RUNNING:
                raise UpdateFinishedTrialError(f"trial {self._in_hand.number} was finished by another worker")
            self._write(session, self._in_hand._trial_id)
        self._sent()

    def let_go(self) -> None:
        """Forget the trial in hand and its held-back values."""
        self._take_in_hand(None)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Return the trial in hand from memory, another trial from the database."""
        if self._in_hand is not None and self._in_hand._trial_id == trial_id:
            return copy.deepcopy(self._in_hand)
        trial = super().get_trial(trial_id)
        if trial.state is TrialState.RUNNING and not (self._params or self._attributes):
            self._take_in_hand(copy.deepcopy(trial))
        return trial

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Hold back an attribute of the trial in hand; write another trial's at once."""
        if self._in_hand is None or self._in_hand._trial_id != trial_id:
            super().set_trial_user_attr(trial_id, key, value)
            return
        self._in_hand.user_attrs[key] = self._attributes[key] = value

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Write held-back values, the trial's values and its state in one transaction."""
        trial = self._in_hand
        if trial is None or trial._trial_id != trial_id or not state.is_finished():
            return super().set_trial_state_values(trial_id, state, values)
        now = datetime.now(UTC).replace(tzinfo=None)
        finish = update(TrialModel).where(TrialModel.trial_id == trial_id, TrialModel.state == TrialState.RUNNING)
        with self._transaction() as session:
            result = session.execute(finish.values(state=state, _datetime_complete_utc=now))
            assert isinstance(result, CursorResult)
            if result.rowcount != 1:
                raise UpdateFinishedTrialError(f"trial {trial.number} was finished by another worker")
            self._write(session, trial_id)
            if values:
                stored = [TrialValueModel.value_to_stored_repr(value) for value in values]
                rows = [
                    {"trial_id": trial_id, "objective": objective, "value": value, "value_type": kind}
                    for objective, (value, kind) in enumerate(stored)
                ]
                session.execute(insert(TrialValueModel), rows)
        self._sent()
        trial.state, trial.values = state, list(values) if values else None
        return True

    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        trial = super()._create_new_trial(study_id, template_trial)
        if trial.state is TrialState.RUNNING:
            self._take_in_hand(copy.deepcopy(trial))
        return trial

    def _set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
        previous_distribution: BaseDistribution | None,
    ) -> None:
        trial = self._in_hand
        if trial is None or trial._trial_id != trial_id:
            super()._set_trial_param(trial_id, param_name, param_value_internal, distribution, previous_distribution)
            return
        if previous_distribution is not None:
            check_distribution_compatibility(previous_distribution, distribution)
        self._params[param_name] = (param_value_internal, distribution)
        trial.params[param_name] = distribution.to_external_repr(param_value_internal)
        trial.distributions[param_name] = distribution

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        if self.still:
            return []
        with reading_rows():
            return super()._get_trials(study_id, states, included_trial_ids, trial_id_greater_than)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Return the study's own facts."""
        with reading_rows():
            return super().get_study_user_attrs(study_id)

    @contextmanager
    def _transaction(self) -> Iterator[Session]:
        with _create_scoped_session(self.scoped_session) as session:
            yield session

    def _write(self, session: Session, trial_id: int) -> None:
        params = [
            {
                "trial_id": trial_id,
                "param_name": name,
                "param_value": value,
                "distribution_json": distribution_to_json(distribution),
            }
            for name, (value, distribution) in self._params.items()
        ]
        if params:
            session.execute(insert(TrialParamModel), params)
        texts = {key: json.dumps(value) for key, value in self._attributes.items()}
        new = [
            {"trial_id": trial_id, "key": key, "value_json": text}
            for key, text in texts.items()
            if key not in self._known
        ]
        if new:
            session.execute(insert(TrialUserAttributeModel), new)
        for key in texts.keys() & self._known:
            attribute = update(TrialUserAttributeModel).filter_by(trial_id=trial_id, key=key)
            session.execute(attribute.values(value_json=texts[key]))

    def _sent(self) -> None:
        self._known |= self._attributes.keys()
        self._params, self._attributes = {}, {}

    def _take_in_hand(self, trial: FrozenTrial | None) -> None:
        self._in_hand = trial
        self._known = set(trial.user_attrs) if trial else set()
        self._params, self._attributes = {}, {}


class StudyStorage(_CachedStorage):
    """Optuna's cache over `TrialStorage`. From one `look` to the next, only this worker's own trials are new.

    Optuna sorts all trials each time a list of them is asked for, some ten times a step: with thousands of trials that
    was most of a step. Here the lists are kept until a trial is added.
    """

    def __init__(self, trials: TrialStorage) -> None:
        super().__init__(trials)
        self.trials = trials
        self._in_order: dict[int, list[FrozenTrial | None]] = {}
        self._lists: dict[tuple[int, frozenset[TrialState]], list[FrozenTrial]] = {}

    def look(self, study_id: int) -> None:
        """Read the new trials, and hold the history still."""
        self._stir()
        self._read_trials_from_remote_storage(study_id)
        self.trials.still = True

    def send(self) -> None:
        """Write the held-back values of the trial in hand."""
        self.trials.send()

    @contextmanager
    def worked_with(self) -> Iterator[None]:
        """Begin a worker's steps with no trial in hand, and end them with nothing held back or still."""
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
