"""A study that minimises the error on a task: its trials' values are those errors."""

import json
from pathlib import Path
from pydoc_data.topics import topics

import datasets
import optuna
import pytest
from tiny import edit

pytest.importorskip("lm_eval", reason="needs the extra lm-eval")

TASK_YAML = """
task: next_word
dataset_path: json
dataset_kwargs:
  data_files:
    test: DATA
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_target: 0
doc_to_choice: "{{choices}}"
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""
DOWNSTREAM = """
[downstream]
tasks = ["next_word"]
task_folder = "tasks"

[search]
strategy = "random"
merges = 4"""

DOCUMENTS = 24


@pytest.fixture
def downstream_root(root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
    texts = [text.split() for _, text in sorted(topics.items())[:DOCUMENTS]]
    rows = [
        {"question": " ".join(words[6:12]), "choices": [" " + other[12] for other in (words, texts[row - 1])]}
        for row, words in enumerate(texts)
    ]
    (root / "tasks").mkdir()
    (root / "tasks" / "choices.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "tasks" / "next_word.yaml").write_text(TASK_YAML.replace("DATA", str(root / "tasks" / "choices.jsonl")))
    edit(root / "study.toml", '\n[search]\nstrategy = "gradient"\nmerges = 12', DOWNSTREAM)
    return root


def test_a_downstream_study_is_searched_and_resumed(downstream_root: Path, mixscout) -> None:
    file = downstream_root / "study.toml"
    answer = mixscout("search", file, "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["counts"]["merges"] == 4, "stdout holds the answer alone"
    assert "it/s" not in answer.err and "lm_eval" not in answer.err

    study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{downstream_root / 'mixscout.db'}")
    wrong = [trial.value * DOCUMENTS for trial in study.trials if trial.value is not None]
    assert len(wrong) == 4 and len(set(wrong)) > 1
    assert all(0 < count < DOCUMENTS for count in wrong)
    assert wrong == pytest.approx([round(count) for count in wrong]), "a share of the task's documents"

    assert mixscout("search", file, "--merges", 5).code == 0
    best = mixscout("best", file, "--json")
    assert best.code == 0, best.err
    assert json.loads(best.out)["counts"]["merges"] == 5


def test_other_task_data_is_another_study(downstream_root: Path, mixscout) -> None:
    file = downstream_root / "study.toml"
    assert mixscout("search", file, "--merges", 1).code == 0
    data = downstream_root / "tasks" / "choices.jsonl"
    data.write_text("".join(data.read_text().splitlines(keepends=True)[:-1]))
    answer = mixscout("search", file)
    assert answer.code == 1 and "another downstream tasks" in answer.err and answer.out == ""


def test_an_unknown_metric_is_one_line(downstream_root: Path, mixscout) -> None:
    edit(downstream_root / "study.toml", 'task_folder = "tasks"', 'task_folder = "tasks"\nmetric = "acc_norm"')
    answer = mixscout("search", downstream_root / "study.toml")
    assert (answer.code, answer.out) == (1, "")
    assert len(answer.err.splitlines()) == 1 and "it reports acc: set [downstream] metric" in answer.err


def test_a_downstream_study_is_reported_in_its_own_unit(downstream_root: Path, mixscout) -> None:
    file = downstream_root / "study.toml"
    assert mixscout("search", file, "--merges", 9).code == 0
    answer = mixscout("report", file)
    assert answer.code == 0, answer.err
    assert answer.out.splitlines()[-1].startswith("next: mixscout handover ")
    report = json.loads((downstream_root / "reports" / "tiny" / "report.json").read_text())
    rows = report["sections"]["mixtures"]["tables"]["mixtures"]
    (unit,) = (column for column in rows[0] if "error" in column)
    assert [row[unit] * DOCUMENTS for row in rows] == pytest.approx([round(row[unit] * DOCUMENTS) for row in rows])
    assert "nats per token" not in json.dumps(report["sections"]["slices"])
