"""`distill`: students with a teacher beside those without, on every held-out domain, each trained once."""

import io
import json
from contextlib import redirect_stderr
from pathlib import Path
from shutil import copytree

import pytest
from tiny import edit, snapshot
from transformers import AutoModelForCausalLM, AutoTokenizer

from objectives.scoring.scorer import Scorer
from pool.checkpoints.checkpoint import load_model
from pool.checkpoints.manifest import CheckpointManifest
from pool.config.recipe import Distillation
from pool.errors import ConfigError
from pool.files.records import MANIFEST, read_record
from studies.answers.score import PairedOrders
from studies.opened.on_pool import workbench
from studies.outcome.smaller.compress import whole_table
from studies.outcome.smaller.distill import GOAL, Asked, settings_of
from studies.study_file.study_file import read_study_file

SECTION = "\n[distill]\ntokens = 1_100\norders = 2\ntemperature = 3.0\nhard_share = 0.25\n"


@pytest.fixture(scope="module")
def taught_root(begun_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a begun study whose students are trained. Shared: never write into it."""
    from mixscout import open_study

    root = copytree(begun_root, tmp_path_factory.mktemp("taught") / "root")
    (root / "study.toml").write_text((root / "study.toml").read_text() + SECTION)
    with open_study(root / "study.toml") as study, redirect_stderr(io.StringIO()) as said:
        found = study.distill(output=str(root / "by-python"))
    (root / "said").write_text(said.getvalue())
    assert found.exported == root / "by-python" and (found.exported / "README.md").is_file()
    assert found.student == "1 layer, begun with the teacher's 0" and "<pre" in found._repr_html_()
    return root


@pytest.fixture
def taught(taught_root: Path, tmp_path: Path) -> Path:
    return copytree(taught_root, tmp_path / "root")


def test_progress_says_which_student_of_how_many(taught_root: Path) -> None:
    said = (taught_root / "said").read_text()
    told = [f"student {how} teacher, order {order}" for order in (0, 1) for how in ("with", "without")]
    for number, student in enumerate(told, start=1):
        assert f"training {number} of 4: {student}" in said
    assert "students of study 'tiny': 1 layer, begun with the teacher's 0" in said


def test_a_second_call_trains_nothing_and_says_the_losses_of_every_domain(taught: Path, mixscout) -> None:
    before = snapshot(taught / "pools")
    answer = mixscout("distill", taught / "study.toml", "--json")
    assert answer.code == 0 and "training" not in answer.err, answer.err
    assert snapshot(taught / "pools") == before
    found = json.loads(answer.out)
    assert found["tokens"] == 1_024 and found["settings"]["hard_share"] == 0.25
    assert found["teacher_parameters"] > found["student_parameters"]
    assert set(found["students"]) == {"code", "docs", "prose", "licences", GOAL}
    for name, one in found["students"].items():
        assert len(one["taught"]) == len(one["alone"]) == 2 and name in found["teacher"]
        mean = sum(one["taught"]) / 2 - sum(one["alone"]) / 2
        assert one["difference"] == pytest.approx(mean)
        assert one["told_apart"] == (abs(mean) > one["margin"])
    manifest = read_record(Path(found["folder"]) / MANIFEST, CheckpointManifest)
    assert manifest.tokens == 1_024 and manifest.data_digests.keys() == {
        name for name, weight in manifest.mixture.items() if weight > 0
    }
    with workbench(read_study_file(taught / "study.toml")) as bench:
        table = whole_table(bench)
        losses = table.losses(Scorer(load_model(Path(found["folder"])), table).score())
    order = found["chosen"]
    for name, loss in losses.items():
        assert found["students"][name]["taught"][order] == pytest.approx(loss.loss_nats, rel=1e-6)


def test_the_best_student_is_written_as_a_checkpoint_with_a_card(taught: Path, mixscout) -> None:
    answer = mixscout("distill", taught / "study.toml")
    assert answer.code == 0 and "--output DIR  # writes the best student" in answer.out and GOAL in answer.out
    answer = mixscout("distill", taught / "study.toml", "--output", taught / "student")
    assert answer.code == 0 and "training" not in answer.err, answer.err
    assert str(taught / "student") in answer.out and "next:" not in answer.out
    model = AutoModelForCausalLM.from_pretrained(taught / "student")
    tokens = AutoTokenizer.from_pretrained(taught / "student")("import os", return_tensors="pt")
    assert model.config.num_hidden_layers == 1 and model(**tokens).logits.shape[-1] == 384
    found = json.loads((taught / "student" / "distillation.json").read_text())
    card = (taught / "student" / "README.md").read_text()
    assert found["verdict"] in card and "temperature 3, hard share 0.25; 1,024 tokens each, 2 orders" in card
    assert all(f"| {name} |" in card for name in found["students"])
    assert not [path for path in (taught / "student").iterdir() if path.suffix in (".bin", ".pt", ".pkl")]
    again = mixscout("distill", taught / "study.toml", "--output", taught / "student")
    assert again.code == 1 and "exists and is not empty" in again.err


def test_a_dry_run_counts_what_is_missing_and_makes_nothing(taught: Path, mixscout) -> None:
    before = snapshot(taught)
    done = json.loads(mixscout("distill", taught / "study.toml", "--dry-run", "--json").out)
    assert done["runs"] == 0 and done["remembered"]["students"] == 4
    more = json.loads(mixscout("distill", taught / "study.toml", "--orders", "3", "--dry-run", "--json").out)
    assert more["runs"] == 2 and more["train_tokens"] == 2 * 1_024 and more["remembered"]["students"] == 4
    assert more["seconds_by_part"]["students"] > 0 and more["disk_bytes"] > 0
    assert snapshot(taught) == before


def test_a_model_of_another_kind_learns_from_a_teacher_really_trained(taught: Path, tmp_path: Path, mixscout) -> None:
    config = {"model_type": "gpt2", "vocab_size": 384, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32}
    (tmp_path / "config.json").write_text(json.dumps(config))
    edit(taught / "study.toml", "tokens = 1_100", "tokens = 256")
    options = ("--model", tmp_path, "--teacher", "trained", "--output", tmp_path / "small", "--json")
    answer = mixscout("distill", taught / "study.toml", *options)
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert found["student"] == "1 layer (gpt2), begun at random" and found["settings"]["teacher"] == "trained"
    written = AutoModelForCausalLM.from_pretrained(tmp_path / "small")
    assert written.config.model_type == "gpt2" and written.config.resid_pdrop == 0, "dropout would hinder resuming"


def test_what_cannot_be_is_refused_by_name(taught: Path, tmp_path: Path, mixscout) -> None:
    with pytest.raises(ConfigError, match="layers and model both say what the student is"):
        Asked(Distillation(), layers=1, model=tmp_path)
    with pytest.raises(ConfigError, match=r"\[distill\] hard_share: .* less than 1"):
        settings_of(Distillation(), {"hard_share": 1.0, "orders": None})
    answer = mixscout("distill", taught / "study.toml", "--layers", "2")
    assert answer.code == 1 and "layers 2: the teacher has 2; give fewer" in answer.err
    edit(taught / "study.toml", "orders = 2", "orders = 1")
    answer = mixscout("distill", taught / "study.toml")
    assert answer.code == 1 and "distill.orders" in answer.err.replace("[distill] ", "distill.")


def test_the_interval_is_students_t_over_the_orders() -> None:
    pair = PairedOrders((1.0, 2.0, 3.0), (1.1, 2.3, 3.2))
    assert pair.difference == pytest.approx(-0.2) and pair.margin == pytest.approx(4.302653 * 0.1 / 3**0.5, rel=1e-5)
    assert not pair.told_apart and str(pair) == "-0.2000 ± 0.2484: can't be told apart"
    assert str(PairedOrders((1.0, 2.0), (1.5, 2.5))) == "-0.5000 ± 0.0000"
