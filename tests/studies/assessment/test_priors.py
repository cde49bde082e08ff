"""`mixscout prior`: mixtures from text alone, before a pool is searched and after it was trained on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from swarm.small_table import write_small_study
from tiny import edit

from studies.assessment.fidelity.priors import Judged


def _priors(mixscout, root: Path) -> dict[str, dict]:
    answer = mixscout("prior", root / "study.toml", "--json")
    assert answer.code == 0, answer.err
    return {one["name"]: one for one in json.loads(answer.out)}


def test_priors_need_no_search_and_leave_no_database(built_root: Path, mixscout) -> None:
    found = _priors(mixscout, built_root)
    assert list(found) == ["unigrams", "bigrams", "importance"]
    assert all(sum(one["mixture"].values()) == pytest.approx(1) for one in found.values())
    assert all(one["merges"] is None and one["truths"] is None for one in found.values())
    assert not list(built_root.rglob("*.db"))


@pytest.mark.parametrize("domain", ["code", "prose"])
def test_text_like_a_partition_asks_for_that_partition(root: Path, mixscout, domain: str) -> None:
    edit(root / "study.toml", "licences = 0.6\nprose = 0.4", f"{domain} = 1.0")
    shown = _priors(mixscout, root)
    assert {max(one["mixture"], key=one["mixture"].get) for one in shown.values()} == {domain}


def test_a_search_says_how_text_ranks_its_merges(begun_root: Path, mixscout) -> None:
    found = _priors(mixscout, begun_root)
    judged = found["bigrams"]["merges"]
    assert judged["mixtures"] >= 6 and -1 <= judged["spearman"] <= 1 and judged["regret"] >= 0
    answer = mixscout("prior", begun_root / "study.toml")
    assert "Spearman" in answer.out and 'start = ["unigrams", "bigrams", "importance"]' in answer.out
    assert answer.out.splitlines()[-1].startswith("next: mixscout search ")


def test_ranks_are_judged_from_six_mixtures_on() -> None:
    values = np.array([3.0, 1.0, 2.0, 4.0, 5.0, 6.0])
    assert Judged.of(values[:5], values[:5]) is None
    perfect = Judged.of(values * 2, values)
    assert perfect is not None and perfect.spearman == pytest.approx(1) and perfect.regret == 0
    wrong = Judged.of(-values, values)
    assert wrong is not None and wrong.spearman == pytest.approx(-1) and wrong.regret == 5


def test_a_table_is_refused(tmp_path: Path, mixscout) -> None:
    answer = mixscout("prior", write_small_study(tmp_path))
    assert answer.code == 1 and "has no text: give a study with pool = FILE" in answer.err
