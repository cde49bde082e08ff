"""`export --quantise` and `--prune`: the smaller winner is read back, and its figures are those of what is read."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from objectives.scoring.scorer import Scorer
from pool.checkpoints.checkpoint import load_model, parameters_of
from pool.errors import ConfigError, StudyError
from studies.answers.best import find_best
from studies.opened.on_pool import workbench
from studies.outcome.handover.export import merged_model
from studies.outcome.smaller.compress import Compression, calibration_windows, run_compressed, whole_table
from studies.study_file.study_file import read_study_file


def _export(mixscout: Callable, root: Path, *options: object) -> dict[str, object]:
    folder = root / "smaller"
    answer = mixscout("export", root / "study.toml", folder, *options)
    assert answer.code == 0, answer.err
    record = json.loads((folder / "compression.json").read_text())
    return {**record, "out": answer.out, "read": folder}


@pytest.fixture
def searched(begun_root: Path, tmp_path: Path) -> Path:
    from shutil import copytree

    return copytree(begun_root, tmp_path / "root")


def test_int8_is_a_checkpoint_that_transformers_loads_with_figures_of_every_domain(searched: Path, mixscout) -> None:
    pytest.importorskip("compressed_tensors")
    found = _export(mixscout, searched, "--quantise", "int8")
    model = AutoModelForCausalLM.from_pretrained(found["read"])
    tokenizer = AutoTokenizer.from_pretrained(found["read"])
    assert model(**tokenizer("import os", return_tensors="pt")).logits.shape[-1] == 384
    assert found["bytes"]["share"] < 0.4, "a tiny model's norms and names weigh much"
    assert set(found["domains"]) == {"code", "docs", "prose", "licences"}, "domains outside the goal too"
    for name, losses in found["domains"].items():
        behind = losses["behind"]
        assert losses["after"] - losses["before"] == pytest.approx(behind["difference"], abs=1e-9)
        assert abs(behind["difference"]) < 0.005, f"eight bits are nearly the same: {name}"
        assert name in found["out"] and f"{losses['after']:.4f}" in found["out"]
    assert "Bytes of the weights" in found["out"] and "Given up for" in found["out"]
    card = (found["read"] / "README.md").read_text()
    assert "weights as int8" in card and "pip install compressed-tensors" in card and "compression" not in card


def test_pruned_weights_are_zero_and_the_loss_is_that_of_what_is_read(searched: Path, mixscout) -> None:
    found = _export(mixscout, searched, "--prune", "0.5")
    model = load_model(found["read"])
    linear = [one for name, one in parameters_of(model).items() if "proj" in name]
    zeros = sum(int((one == 0).sum()) for one in linear) / sum(one.numel() for one in linear)
    assert zeros == pytest.approx(0.5, abs=0.01)
    assert found["bytes"]["share"] == pytest.approx(1, abs=0.02), "zeros take the room of any number"
    assert "zeros, which take the room of any number" in found["out"]
    with workbench(read_study_file(searched / "study.toml")) as bench:
        table = whole_table(bench)
        losses = table.losses(Scorer(model, table).score())
        best = find_best(bench, bench.known_study())
        before = table.losses(Scorer(merged_model(bench.proxy, best.mixture), table).score())
    for name, loss in losses.items():
        assert found["domains"][name]["after"] == pytest.approx(loss.loss_nats, rel=1e-6)
        assert found["domains"][name]["before"] == pytest.approx(before[name].loss_nats, rel=1e-6)


def test_both_together_by_python_and_a_folder_in_the_way_is_refused_first(searched: Path, tmp_path: Path) -> None:
    pytest.importorskip("compressed_tensors")
    import mixscout

    with mixscout.open_study(searched / "study.toml") as study:
        found = study.export(tmp_path / "out", quantise="int4", prune=0.25, pruning="magnitude")
        assert found.done == "25% of its linear weights pruned by magnitude, weights as int4"
        assert found.bytes < 0.35 * found.bytes_before and "<pre" in found._repr_html_()
        assert study.export(tmp_path / "plain") is None and (tmp_path / "plain" / "config.json").is_file()
        with pytest.raises(StudyError, match="exists and is not empty"):
            study.export(tmp_path / "out", prune=0.5)


def test_calibration_is_training_text_of_the_winning_mixture(searched: Path) -> None:
    with workbench(read_study_file(searched / "study.toml")) as bench:
        pool, best = bench.proxy.pool, find_best(bench, bench.known_study())
        windows = calibration_windows(pool, best.mixture).numpy()
        texts = {name: np.asarray(stream) for name, stream in pool.corpus.train.items()}
    assert windows.shape == (256, 32)
    starts = {name: {tuple(text[at : at + 32]) for at in range(0, len(text) - 31, 32)} for name, text in texts.items()}
    used = [name for name in best.mixture.support if any(tuple(window) in starts[name] for window in windows)]
    assert used == list(best.mixture.support)


def test_what_cannot_be_is_refused_before_anything_is_opened(searched: Path, monkeypatch, mixscout) -> None:
    with pytest.raises(ConfigError, match="prune 1.5: expected the share of weights to drop, above 0 and below 1"):
        Compression(prune=1.5)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    answer = mixscout("export", searched / "study.toml", searched / "out", "--quantise", "int8")
    assert answer.code == 1 and "pip install 'mixscout[quantise]'" in answer.err
    assert not (searched / "out").exists()


def test_a_failure_leaves_no_folder(searched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.outcome.smaller.compress.paired", lambda *_: 1 / 0)
    with workbench(read_study_file(searched / "study.toml")) as bench:
        best = find_best(bench, bench.known_study())
        with pytest.raises(ZeroDivisionError):
            run_compressed(bench, best, searched / "smaller", Compression(prune=0.5))
    assert not list(searched.glob("*smaller*"))
