"""Going on with a study, checked: what may change on the way, and what of another study still holds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from tiny import edit

from search.trials import IMPORTED
from studies.opened.identity import ACCEPTED, VERSIONS
from studies.opened.on_pool import workbench
from studies.study_file.study_file import read_study_file


@pytest.fixture
def begun(begun_root: Path, tmp_path: Path) -> Path:
    shutil.copytree(begun_root, tmp_path / "begun")
    return tmp_path / "begun"


def _study(root: Path, name: str = "tiny") -> optuna.Study:
    return optuna.load_study(storage=f"sqlite:///{root / 'mixscout.db'}", study_name=name)


def _merges(answer) -> int:
    assert answer.code == 0, answer.err
    return json.loads(answer.out)["counts"]["merges"]


def test_a_changed_course_is_gone_on_with_when_accepted_and_recorded(begun: Path, mixscout) -> None:
    edit(begun / "study.toml", '"gradient"', '"random"\nseed = 5')
    refused = mixscout("search", begun / "study.toml", "--merges", 8)
    assert refused.code == 1 and "go on all the same with `search --accept`" in refused.err
    assert _merges(mixscout("search", begun / "study.toml", "--merges", 8, "--accept", "--json")) == 8
    (record,) = _study(begun).user_attrs[ACCEPTED]
    assert record["trials"] == 6 and set(record["changed"]) == {"strategy", "seed"}
    assert record["changed"]["seed"] == [0, 5]
    assert _merges(mixscout("search", begun / "study.toml", "--merges", 9, "--json")) == 9, "accepted once is enough"


def test_what_trials_are_compared_by_cannot_be_accepted(begun: Path, mixscout) -> None:
    edit(begun / "study.toml", "licences = 0.6\nprose = 0.4", "licences = 1.0")
    refused = mixscout("search", begun / "study.toml", "--accept")
    assert (
        refused.code == 1
        and "--accept cannot change the held-out text or the target: its trials would not compare" in refused.err
    )
    assert ACCEPTED not in _study(begun).user_attrs


def test_other_versions_are_gone_on_with_when_accepted_and_recorded(begun: Path, mixscout) -> None:
    study = _study(begun)
    installed = study.user_attrs[VERSIONS]
    study.set_user_attr(VERSIONS, {**installed, "torch": "1.0"})
    before = len(study.trials)
    refused = mixscout("search", begun / "study.toml", "--merges", 7)
    assert refused.code == 1 and len(_study(begun).trials) == before
    assert "study 'tiny' was started with other versions (torch 1.0 -> " in refused.err
    assert "go on all the same with `search --accept`" in refused.err
    assert mixscout("best", begun / "study.toml").code == 0, "what is there may be looked at"
    assert _merges(mixscout("search", begun / "study.toml", "--merges", 7, "--accept", "--json")) == 7
    (record,) = _study(begun).user_attrs[ACCEPTED]
    assert record == {"trials": before, "changed": {"torch": ["1.0", installed["torch"]]}}
    assert _merges(mixscout("search", begun / "study.toml", "--merges", 8, "--json")) == 8, "accepted once is enough"


def test_an_extended_pool_takes_over_what_the_new_partition_has_no_part_in(begun: Path, mixscout) -> None:
    shutil.copy(begun / "prose.txt", begun / "more.txt")
    more = (begun / "more.txt").read_text().upper()
    (begun / "more.txt").write_text(more)
    with (begun / "pool.toml").open("a") as stream:
        stream.write('\n[corpus.partitions.shouting]\nfiles = ["more.txt"]\nformat = "text"\n')
    assert mixscout("pool", "build", begun / "pool.toml").code == 0
    before = _study(begun).trials
    edit(begun / "study.toml", 'name = "tiny"', 'name = "larger"')
    edit(begun / "study.toml", '"gradient"', '"tpe"\nevidence_from = "tiny"')
    edit(begun / "study.toml", '["uniform", "vertices"]', '["vertices"]')
    edit(begun / "study.toml", "[search]", "[early_stopping]\nenabled = false\n[search]")
    counts = json.loads(mixscout("search", begun / "study.toml", "--merges", 5, "--json").out)["counts"]
    assert counts["merges"] == 5, "evidence is no part of the budget"
    assert counts["cached"] == 3, "the old members' vertices are remembered; the new one is merged"
    trials = _study(begun, "larger").trials
    imported = [trial for trial in trials if IMPORTED in trial.user_attrs]
    assert [trial.value for trial in imported] == [trial.value for trial in before]
    assert all(trial.params["shouting"] == 0 for trial in imported)
    again = json.loads(mixscout("search", begun / "study.toml", "--merges", 6, "--json").out)["counts"]
    assert again["merges"] == 6
    assert sum(IMPORTED in trial.user_attrs for trial in _study(begun, "larger").trials) == len(before)
    assert TrialState.RUNNING not in {trial.state for trial in _study(begun, "larger").trials}


def test_a_study_says_that_its_pool_has_other_partitions_now(begun: Path, mixscout) -> None:
    table = '[corpus.partitions.docs]\nfiles = ["docs.parquet"]\nformat = "parquet"\n'
    edit(begun / "pool.toml", table, table.replace("partitions.docs", "partitions.papers"))
    assert mixscout("pool", "build", begun / "pool.toml").code == 0
    for verb in ("search", "best"):
        answer = mixscout(verb, begun / "study.toml")
        assert answer.code == 1
        assert "was started with another pool and another space" in answer.err
        assert "space: partitions +papers, -docs)" in answer.err
        assert "give the study another name to start a new one" in answer.err
    before = _study(begun).trials
    edit(begun / "study.toml", 'name = "tiny"', 'name = "smaller"')
    edit(begun / "study.toml", '"gradient"', '"tpe"\nevidence_from = "tiny"')
    edit(begun / "study.toml", '["uniform", "vertices"]', '["vertices"]')
    assert mixscout("search", begun / "study.toml", "--merges", 3).code == 0
    held = [trial for trial in before if trial.params["docs"] == 0]
    imported = [trial for trial in _study(begun, "smaller").trials if IMPORTED in trial.user_attrs]
    assert [trial.value for trial in imported] == [trial.value for trial in held] and held


def test_what_is_carried_over_is_what_would_be_computed(begun: Path) -> None:
    config = read_study_file(begun / "study.toml")
    with workbench(config) as bench:
        (trial, *_) = (trial for trial in _study(begun).trials if len(set(trial.params.values())) > 1)
        mixture = bench.space.mixture_of(trial)
        founded = bench.losses["search"]._objective.foundation(mixture)  # type: ignore[attr-defined]
        assert bench.database.evaluations.find("no such objective", mixture, founded).value == trial.value
        assert bench.losses["search"]._objective(mixture).value == pytest.approx(trial.value, abs=1e-9)  # type: ignore[attr-defined]


def test_evidence_that_holds_nowhere_is_refused(begun: Path, mixscout) -> None:
    edit(begun / "study.toml", 'name = "tiny"', 'name = "other"')
    edit(begun / "study.toml", "[search]", '[search]\nevidence_from = "tiny"')
    edit(begun / "study.toml", "licences = 0.6\nprose = 0.4", "licences = 1.0")
    refused = mixscout("search", begun / "study.toml")
    assert refused.code == 1 and "none of its 6 evaluations holds here" in refused.err
    edit(begun / "study.toml", 'evidence_from = "tiny"', 'evidence_from = "nobody"')
    assert "study 'nobody' is not in this database" in mixscout("search", begun / "study.toml").err
    edit(begun / "study.toml", 'evidence_from = "nobody"', 'evidence_from = "other"')
    assert "evidence_from names the study itself" in mixscout("search", begun / "study.toml").err
    assert optuna.get_all_study_names(f"sqlite:///{begun / 'mixscout.db'}") == ["tiny"], "a mistake leaves no study"
