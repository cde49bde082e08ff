"""Texts side by side: blinded, repeatable, measured by encoders on disk, and never written over a rater's scores."""

import csv
import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from embedding_models import write_bert

from objectives.scoring.diversity import continuations
from pool.building.job import folder_of
from pool.parts.provenance import TruthRun
from pool.tokens.tokenizer import load_tokenizer
from studies.opened.on_pool import workbench
from studies.opened.opened_study import best_mixture
from studies.opened.opening import open_to_read
from studies.outcome.report.facts.facts import Facts
from studies.outcome.report.facts.section import Section
from studies.outcome.report.sections.samples import samples_section
from studies.outcome.samples import COLUMNS, TRAINED, Samples, read_samples
from studies.study_file.study_file import read_study_file

CONTENDERS = ["seed", "uniform", "best single member", "best mixture"]


@pytest.fixture(scope="module")
def sampled(begun_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a study of six merges whose best mixture counts as really trained."""
    folder = tmp_path_factory.mktemp("sampled") / "root"
    shutil.copytree(begun_root, folder)
    with workbench(read_study_file(folder / "study.toml")) as bench:
        pool = bench.proxy.pool
        run = TruthRun(best_mixture(bench, bench.known_study()).over(pool.names), pool.config.recipe)
        shutil.copytree(pool.member_folders["code"], folder_of(pool, run))
    return folder


def _files(root: Path) -> tuple[list[dict], Samples]:
    key = root / "reports" / "tiny.samples.json"
    with key.with_suffix(".csv").open(newline="") as stream:
        return list(csv.DictReader(stream)), read_samples(key)


def _section(root: Path) -> Section:
    with open_to_read(read_study_file(root / "study.toml")) as bench:
        return samples_section(Facts.of(bench, root / "study.toml"))


@pytest.fixture(scope="module")
def written(sampled: Path) -> tuple[list[dict], Samples]:
    from studies.outcome.samples import SamplesRequest, run_samples

    with workbench(read_study_file(sampled / "study.toml")) as bench:
        run_samples(bench, best_mixture(bench, bench.known_study()), SamplesRequest(2), sampled / "reports")
    return _files(sampled)


def test_a_rater_sees_every_text_and_no_name(written: tuple[list[dict], Samples]) -> None:
    rows, samples = written
    assert samples.contenders == [*CONTENDERS, TRAINED]
    assert {one.domain for one in samples.prompts} == {"code", "docs", "prose", "licences"}
    assert len(samples.prompts) <= 2 * 4 and len(rows) == 5 * len(samples.prompts)
    assert tuple(rows[0]) == COLUMNS and {row["score"] for row in rows} == {""}
    names = {*samples.contenders, "merged", "trained"}
    assert not any(name in cell for row in rows for cell in (row["sample"], row["letter"]) for name in names)
    for one in samples.prompts:
        mine = [row for row in rows if row["prompt"] == one.name]
        assert {row["letter"]: row["continuation"] for row in mine} == one.texts
        assert sorted(one.writers.values()) == sorted(samples.contenders)
    orders = {tuple(one.writers.values()) for one in samples.prompts}
    assert len(orders) > 1, "letters are given anew for every prompt"


def test_the_texts_are_those_of_the_models_by_one_seed(sampled: Path, written: tuple[list[dict], Samples]) -> None:
    samples = written[1]
    with workbench(read_study_file(sampled / "study.toml")) as bench:
        tokenizer = load_tokenizer(bench.proxy.pool.folder / "tokenizer")
        windows = bench.proxy.pool.corpus.held_out["test"]
        prompts, contexts = [], bench.proxy.pool.config.context
        for one in samples.prompts:
            rows = windows[one.domain].inputs[:, : contexts // 4].tolist()
            prompts.append(
                next(row for row in rows if tokenizer.decode(row, skip_special_tokens=True) == one.beginning)
            )
        bench.proxy.make_resident(None)
        tokens = continuations(bench.proxy.stacked.model, tokenizer, prompts, new_tokens=contexts // 2, seed=0)
    expected = tokenizer.batch_decode(tokens, skip_special_tokens=True)
    of_seed = [next(one.texts[at] for at, name in one.writers.items() if name == "seed") for one in samples.prompts]
    assert of_seed == expected


def test_the_same_seed_repeats_both_files_and_another_changes_them(sampled: Path, written: object, mixscout) -> None:
    names = [f"tiny.samples.{kind}" for kind in ("csv", "json")]
    before = [(sampled / "reports" / name).read_bytes() for name in names]
    for seed, folder in ((0, "same"), (1, "other")):
        told = ("--prompts", 2, "--seed", seed, "--output", sampled / folder)
        answer = mixscout("samples", sampled / "study.toml", *told)
        assert answer.code == 0, answer.err
        found = [(sampled / folder / name).read_bytes() for name in names]
        assert (found == before) == (seed == 0)
    assert "Coherence was not measured: --encoder DIR names" in answer.out
    assert "BERTScore was not measured: --bertscore DIR names" in answer.out
    assert "higher for better: " in answer.out and "mixscout rate" in answer.out


def test_the_report_shows_the_texts_and_folds_up_the_key(sampled: Path, written: tuple, mixscout) -> None:
    report = json.loads(mixscout("report", sampled / "study.toml", "--json").out)
    part, samples = report["sections"]["samples"], written[1]
    assert [one["texts"] for one in part["quotations"]] == [dict(one.texts) for one in samples.prompts]
    page = Path(report["page"]).read_text()
    assert page.count("<summary>Who wrote which</summary>") == len(samples.prompts)
    assert [row["model"] for row in part["tables"]["texts"]] == samples.contenders
    commands = report["sections"]["reproduction"]["passages"]["Commands"]
    assert "\nmixscout samples study.toml --prompts 2 --seed 0\n" in commands and "mixscout rate" not in commands


def test_raters_scores_are_read_back_shown_and_never_written_over(
    sampled: Path, written: tuple, tmp_path: Path, mixscout
) -> None:
    shutil.copytree(sampled, root := tmp_path / "root")
    study, table = root / "study.toml", root / "reports" / "tiny.samples.csv"
    answer = mixscout("rate", study)
    assert answer.code == 1 and "no text has a score yet; write a number under `score`" in answer.err
    rows, samples = written
    best = {
        one.samples[letter] for one in samples.prompts for letter, name in one.writers.items() if "best mix" in name
    }
    with table.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows({**row, "score": 2 if row["sample"] in best else 1} for row in rows)
    found = json.loads(mixscout("rate", study, "--json").out)
    sides = {one["other"]: one for one in found["preferences"] if one["contender"] == "best mixture"}
    assert set(sides) == set(CONTENDERS[:3])
    assert {one["better"] for one in sides.values()} == {len(samples.prompts)} and sides["seed"]["share"] == 1
    assert "preferred" in mixscout("rate", study, table).out
    section = _section(root)
    assert next(one for one in section.tables if one.name == "preferences").rows[0][0] == "best mixture to seed"
    assert section.commands[-1] == "mixscout rate study.toml"
    refused = mixscout("samples", study)
    assert refused.code == 1 and "holds scores of a rater; move it away, or name another folder" in refused.err


def test_texts_of_another_mixture_are_not_shown(sampled: Path, written: tuple, tmp_path: Path) -> None:
    shutil.copytree(sampled, root := tmp_path / "root")
    key = root / "reports" / "tiny.samples.json"
    content = json.loads(key.read_text())
    content["mixture"] = {"code": 1.0, "docs": 0.0, "prose": 0.0}
    key.write_text(json.dumps(content))
    assert (_section(root).missing or "").startswith(
        "The texts are of another mixture than the best one. Run: mixscout samples"
    )


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (folder := tmp_path_factory.mktemp("encoder") / "bert").mkdir()
    write_bert(folder, ["the licence grants you rights", "def f(x): return x", "prose is read by many people"] * 9)
    return folder


def test_an_encoder_on_disk_measures_coherence_and_one_elsewhere_is_refused_first(
    sampled: Path, encoder: Path, tmp_path: Path, mixscout
) -> None:
    told = ("samples", sampled / "study.toml", "--prompts", 1, "--output", tmp_path / "new", "--json")
    found = json.loads(mixscout(*told, "--encoder", encoder).out)
    for one in found["measured"].values():
        assert len(one["coherence"]) == len(found["prompts"]) and one["bert_score"] is None
        assert all(-1 <= cosine <= 1 for cosine in one["coherence"])
    answer = mixscout(*told, "--encoder", tmp_path / "nowhere")
    assert answer.code == 1 and answer.err.count("\n") == 1
    assert f"--encoder: {tmp_path / 'nowhere'} is no folder; give that of a checkpoint" in answer.err


def test_bertscore_is_measured_or_its_extra_named(
    sampled: Path, encoder: Path, tmp_path: Path, mixscout, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = ("samples", sampled / "study.toml", "--prompts", 1, "--output", tmp_path / "new", "--bertscore", encoder)
    if find_spec("torchmetrics"):
        found = json.loads(mixscout(*told, "--json").out)
        assert all(0 < score <= 1.001 for one in found["measured"].values() for score in one["bert_score"])
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.text.bert", None)
    answer = mixscout(*told)
    assert answer.code == 1 and "pip install 'mixscout[bertscore]'" in answer.err
