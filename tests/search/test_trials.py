"""Counts say why merges failed."""

import io
import json
from dataclasses import asdict

import optuna
import pytest
from optuna.trial import TrialState, create_trial
from rich.console import Console
from scipy.stats import binomtest

from search.trials import REASON, Counts, count_trials, wilson_interval
from studies.answers.tables import show_counts
from studies.terminal import json_text


def _failed(*reasons: str) -> optuna.Study:
    study = optuna.create_study()
    for reason in reasons:
        study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={REASON: reason} if reason else {}))
    return study


def test_equal_reasons_are_counted_together_and_the_most_frequent_comes_first() -> None:
    counts = count_trials(
        _failed(
            "MemoryError: no room\nand more (tried 3 times)",
            "the gradient at mixture {'a': 0.5, 'b': 0.5} is not finite",
            "",
            "the gradient at mixture {'a': 0.25, 'b': 0.75} is not finite",
        )
    )
    assert counts.failed == 4
    assert counts.failures() == [
        "2 failed: the gradient at mixture ... is not finite",
        "1 failed: MemoryError: no room",
        "1 failed: no reason was recorded",
    ]


def test_counts_for_people_name_the_reasons() -> None:
    shown = io.StringIO()
    show_counts(Console(file=shown, width=120), count_trials(_failed("no room")))
    assert "1 failed" in shown.getvalue() and "\n1 failed: no room\n" in shown.getvalue()


def test_json_holds_the_reasons() -> None:
    counts = count_trials(_failed("no room", "no room"))
    assert json.loads(json_text({"counts": counts}))["counts"]["reasons"] == {"no room": 2}
    assert asdict(Counts().plus(counts, []))["reasons"] == {"no room": 2}


def test_counts_without_failures_say_nothing() -> None:
    assert Counts(merges=3).failures() == []


def test_wilson_s_interval_is_scipy_s() -> None:
    for among in (1, 2, 7, 20, 333):
        for found in {0, 1, among // 2, among}:
            expected = binomtest(found, among).proportion_ci(method="wilson")
            assert wilson_interval(found, among) == pytest.approx(tuple(expected), abs=1e-14)
