"""`mixscout prior`: mixtures from text alone, before a pool is searched and after it was trained on."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from embedding_models import write_bert
from swarm.small_table import write_small_study
from tiny import edit

import mixscout as mixscout_api
from studies.assessment.fidelity.priors import Judged
from studies.opened.opening import open_to_read
from studies.running.plan import prior_mixture
from studies.study_file.study_file import read_study_file

TEXT = ["unigrams", "bigrams", "importance", "embeddings", "cross-entropy"]


def _priors(mixscout, root: Path, *options: str) -> dict[str, dict]:
    answer = mixscout("prior", root / "study.toml", "--json", *options)
    assert answer.code == 0, answer.err
    return {one["name"]: one for one in json.loads(answer.out)}


def test_priors_need_no_search_and_leave_no_database(built_root: Path, mixscout) -> None:
    found = _priors(mixscout, built_root)
    assert list(found) == [*TEXT, "uniform", "proportional", "unimax"]
    assert list(_priors(mixscout, built_root, "--counted")) == [*TEXT[:3], "uniform", "proportional", "unimax"]
    assert all(sum(one["mixture"].values()) == pytest.approx(1) for one in found.values())
    assert all(one["merges"] is None and one["truths"] is None for one in found.values())
    shown = mixscout("prior", built_root / "study.toml", "--counted").out
    assert shown.splitlines()[-1].startswith("next: mixscout search ")
    assert not list(built_root.rglob("*.db"))


@pytest.mark.parametrize("domain", ["code", "prose"])
def test_text_like_a_partition_asks_for_that_partition(root: Path, mixscout, domain: str) -> None:
    edit(root / "study.toml", "licences = 0.6\nprose = 0.4", f"{domain} = 1.0")
    shown = _priors(mixscout, root)
    told = [*TEXT[:3], *(["cross-entropy"] if domain == "prose" else [])]  # this seed knows no code yet
    assert {max(shown[name]["mixture"], key=shown[name]["mixture"].get) for name in told} == {domain}


def test_a_search_says_how_text_ranks_its_merges(begun_root: Path, mixscout) -> None:
    found = _priors(mixscout, begun_root)
    judged = found["bigrams"]["merges"]
    assert judged["mixtures"] >= 6 and -1 <= judged["spearman"] <= 1 and judged["regret"] >= 0
    answer = mixscout("prior", begun_root / "study.toml")
    assert "Spearman" in answer.out and f"start = {json.dumps(TEXT)}" in answer.out
    assert answer.out.splitlines()[-1].startswith("next: mixscout best ")


def test_a_search_begins_at_priors_which_are_then_baselines(root: Path, mixscout) -> None:
    edit(root / "study.toml", '["uniform", "vertices"]', '["bigrams", "cross-entropy"]')
    answer = mixscout("search", root / "study.toml", "--merges", 3)
    assert answer.code == 0, answer.err
    expected = _priors(mixscout, root)
    with mixscout_api.open_study(root / "study.toml") as study:
        for number, name in enumerate(("bigrams", "cross-entropy")):
            tried = study.space.mixture_of(study.optuna.trials[number]).as_dict()
            assert tried == pytest.approx(expected[name]["mixture"], abs=1e-6)
            assert study.prior(name).as_dict() == pytest.approx(tried, abs=1e-6)
        standings = study.best.baselines
        assert list(standings) == ["uniform", "proportional", "best_single_member", "bigrams", "cross-entropy", "seed"]
        assert standings["bigrams"].mixture.as_dict() == pytest.approx(expected["bigrams"]["mixture"], abs=1e-6)
        assert "unimax" in study.priors(counted=True)._repr_html_()
        confirmed = {one.name for one in study.confirm().confirmed}
        assert {"best", "bigrams", "cross-entropy"} <= confirmed
    compared = mixscout(
        "compare", root / "study.toml", "--strategies", "random", "--seeds", 1, "--forward-equivalents", 4
    )
    assert compared.code == 0, compared.err
    assert re.search(r"^.*bigrams .*\d\.\d{5}", compared.out, re.MULTILINE)


def test_a_prior_by_name_is_the_centre_of_the_penalty_and_stays(root: Path, mixscout) -> None:
    edit(root / "study.toml", "[gate]", 'prior = "unigrams"\nkl = 1000.0\n[gate]')
    edit(root / "study.toml", '["uniform", "vertices"]', '["uniform", "prior"]')
    assert mixscout("search", root / "study.toml", "--merges", 2).code == 0
    unigrams = _priors(mixscout, root)["unigrams"]["mixture"]
    with mixscout_api.open_study(root / "study.toml") as study:
        kept = study.optuna.user_attrs["mixscout:prior"]
        assert kept == pytest.approx({name: 0.99 * weight + 0.01 / 3 for name, weight in unigrams.items()}, abs=2e-4)
        assert study.best_mixture.as_dict() == pytest.approx(kept), "a strong penalty allows nothing else"
        study.optuna.set_user_attr("mixscout:prior", {"code": 0.1, "docs": 0.8, "prose": 0.1})
        assert study.best.baselines["unigrams"].mixture.as_dict()["docs"] == pytest.approx(0.8)
    with open_to_read(read_study_file(root / "study.toml")) as bench:
        assert prior_mixture(bench).as_dict()["docs"] == pytest.approx(0.8), "the kept weights decide"


def test_embeddings_are_those_of_a_given_encoder(root: Path, mixscout) -> None:
    (root / "encoder").mkdir()
    write_bert(root / "encoder", [(root / "prose.txt").read_text()])
    before = _priors(mixscout, root)["embeddings"]["mixture"]
    edit(root / "study.toml", "[gate]", 'encoder = "encoder"\n[gate]')
    edit(root / "study.toml", '["uniform", "vertices"]', '["embeddings"]')
    after = _priors(mixscout, root)["embeddings"]["mixture"]
    assert after != pytest.approx(before, abs=1e-3)
    assert mixscout("search", root / "study.toml", "--merges", 1).code == 0
    shutil.rmtree(root / "encoder")
    assert mixscout("search", root / "study.toml", "--merges", 2).code == 0, "what was begun needs no encoder"
    answer = mixscout("prior", root / "study.toml")
    assert answer.code == 1 and "[search] encoder" in answer.err and "Traceback" not in answer.err


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ('prior = "wiki"\nkl = 1.0', "expected partition = weight, or one of 'unigrams', 'bigrams'"),
        ('prior = {code = "much"}\nkl = 1.0', "the weight of 'code' is no number: got 'much'"),
        ('prior = "unigrams"', "[search.prior] does nothing: set kl"),
        ('encoder = "folder"', "encoder does nothing: put 'embeddings' into start"),
    ],
)
def test_a_prior_that_cannot_be_is_refused(root: Path, mixscout, written: str, message: str) -> None:
    edit(root / "study.toml", "[gate]", f"{written}\n[gate]")
    answer = mixscout("prior", root / "study.toml")
    assert answer.code == 1 and message in answer.err


def test_a_table_has_no_prior_by_name(tmp_path: Path, mixscout) -> None:
    edit(study := write_small_study(tmp_path), "[search]", '[search]\nprior = "unigrams"\nkl = 1.0')
    answer = mixscout("search", study)
    assert answer.code == 1 and "prior 'unigrams' needs text, which a table has not" in answer.err


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
