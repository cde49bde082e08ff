"""Downstream errors: the harness's own figures, on the resident model, with nothing written."""

import json
import math
import random
import sys
from pathlib import Path
from pydoc_data.topics import topics

import datasets
import numpy
import pytest
import torch
from tiny import edit, snapshot

from objectives.evaluation import Objective
from objectives.merging.merge import StackedPool
from objectives.merging.rules import Identity, make_rule
from pool.errors import ConfigError, NonFiniteLossError
from pool.mixture import Mixture
from pool.parts.store import Pool

pytest.importorskip("lm_eval", reason="needs the extra lm-eval")

from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from objectives.losses.downstream import DownstreamError
from objectives.losses.tasks import Tasks

NAMES = ("code", "docs", "prose")
MIXED = Mixture.of({"code": 0.25, "docs": 0.25, "prose": 0.5})

TASK_YAML = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
metadata:
  version: 1
"""
CHOICE_YAML = """
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_target: "{{label}}"
doc_to_choice: "{{choices}}"
fewshot_split: test
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
  - metric: acc_norm
    aggregation: mean
    higher_is_better: true
"""
ROLLING_YAML = """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{passage}}"
metric_list:
  - metric: bits_per_byte
  - metric: byte_perplexity
"""
GROUP_YAML = """
group: both
task: [next_word, passages]
"""

SHUFFLE = """
import random, numpy
def shuffled(docs):
    chosen = random.sample(range(len(docs)), 12)
    return docs.select([chosen[row] for row in numpy.random.permutation(12)])
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two tasks over real text, each word to be told from two of other texts, and their group."""
    texts = [text.split() for _, text in sorted(topics.items())[:24]]
    rows = []
    for row, words in enumerate(texts):
        choices = [" " + texts[(row + step) % len(texts)][12] for step in range(3)]
        label = row % 3
        choices[0], choices[label] = choices[label], choices[0]
        rows.append({"question": " ".join(words[6:12]), "choices": choices, "label": label})
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "choices.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    passages = [{"passage": " ".join(words[:40])} for words in texts[:6]]
    (folder / "passages.jsonl").write_text("".join(json.dumps(row) + "\n" for row in passages))
    write_task(folder, "next_word", CHOICE_YAML, "choices.jsonl")
    write_task(folder, "passages", ROLLING_YAML, "passages.jsonl")
    (folder / "both.yaml").write_text(GROUP_YAML)
    return folder


def write_task(folder: Path, name: str, yaml: str, data: str) -> None:
    (folder / f"{name}.yaml").write_text(TASK_YAML.format(name=name, data=folder / data) + yaml)


def tasks_of(
    folder: Path | None, *names: str, metric: str = "acc", shots: int = 0, documents: int | None = None
) -> Tasks:
    return Tasks(names or ("next_word",), folder, metric, shots, documents)


def objective_of(pool: Pool, stack: StackedPool, tasks: Tasks) -> DownstreamError:
    return DownstreamError(pool, stack, tasks, rule=Identity())


def global_states() -> list[object]:
    return [
        torch.random.get_rng_state().tolist(),
        random.getstate(),
        str(numpy.random.get_state()),  # noqa: NPY002
    ]


def harness_results(pool: Pool, member: str, folder: Path, task: str, shots: int = 0) -> dict:
    """Ask the harness itself, about the member's checkpoint on disk."""
    model = HFLM(pretrained=str(pool.folder / "members" / member), device="cpu", dtype="float32", batch_size=32)
    manager = TaskManager(include_path=folder, include_defaults=False)
    asked = simple_evaluate(model, tasks=[task], task_manager=manager, num_fewshot=shots, bootstrap_iters=10)
    assert asked is not None
    return asked["results"][task]


def test_it_is_an_objective_over_the_pool_s_partitions(tiny_pool: Pool, tiny_stack: StackedPool, folder: Path) -> None:
    objective = objective_of(tiny_pool, tiny_stack, tasks_of(folder))
    assert isinstance(objective, Objective)
    assert objective.partitions == NAMES and len(objective.digest) == 64
    evaluation = objective(MIXED)
    assert (evaluation.kind, evaluation.objective_digest) == ("downstream", objective.digest)
    assert 0 < evaluation.value < 1 and evaluation.mixture == MIXED
    with pytest.raises(ValueError, match="wiki"):
        objective(Mixture.of({"code": 0.5, "wiki": 0.5}))


@pytest.mark.parametrize("shots", [0, 1])
def test_a_vertex_has_the_accuracy_that_the_harness_gives_the_member(
    shots: int, tiny_pool: Pool, tiny_stack: StackedPool, folder: Path
) -> None:
    expected = harness_results(tiny_pool, "docs", folder, "next_word", shots)
    found = objective_of(tiny_pool, tiny_stack, tasks_of(folder, shots=shots))(Mixture.vertex(NAMES, "docs"))
    assert found.value == 1 - expected["acc,none"]
    assert found.standard_error == expected["acc_stderr,none"] > 0


def test_a_vertex_has_the_bits_per_byte_that_the_harness_gives_the_member(
    tiny_pool: Pool, tiny_stack: StackedPool, folder: Path
) -> None:
    objective = objective_of(tiny_pool, tiny_stack, tasks_of(folder, "passages", metric="bits_per_byte"))
    for name in ("code", "prose"):
        found = objective(Mixture.vertex(NAMES, name))
        assert found.value == harness_results(tiny_pool, name, folder, "passages")["bits_per_byte,none"]
        assert found.standard_error == math.inf, "the harness has no standard error of a ratio of sums"


def test_several_tasks_count_alike(tiny_pool: Pool, tiny_stack: StackedPool, folder: Path) -> None:
    write_task(folder, "previous", CHOICE_YAML + "process_docs: !function code.reverse", "choices.jsonl")
    (folder / "code.py").write_text("def reverse(docs):\n    return docs.select(range(len(docs) // 2))\n")
    one = objective_of(tiny_pool, tiny_stack, tasks_of(folder, "next_word"))(MIXED)
    other = objective_of(tiny_pool, tiny_stack, tasks_of(folder, "previous"))(MIXED)
    both = objective_of(tiny_pool, tiny_stack, tasks_of(folder, "next_word", "previous"))
    assert both(MIXED).value == pytest.approx((one.value + other.value) / 2)
    combined = math.sqrt(one.standard_error**2 + other.standard_error**2) / 2
    assert both(MIXED).standard_error == pytest.approx(combined)
    again = objective_of(tiny_pool, tiny_stack, tasks_of(folder, "next_word", "previous"))
    assert again.digest == both.digest, "the compiled code that is left behind is no part of the tasks"


def test_an_equal_mixture_has_an_equal_value_and_global_state_stays(
    tiny_pool: Pool, tiny_stack: StackedPool, folder: Path
) -> None:
    (folder / "shuffle.py").write_text(SHUFFLE)
    edit(folder / "next_word.yaml", "test_split: test", "test_split: test\nprocess_docs: !function shuffle.shuffled")
    before = global_states()
    objective = objective_of(tiny_pool, tiny_stack, tasks_of(folder, shots=2, documents=9))
    first = objective(MIXED)
    objective(Mixture.vertex(NAMES, "code"))
    again = objective(MIXED.over(("prose", "docs", "code")))
    assert (again.value, again.standard_error) == (first.value, first.standard_error)
    assert global_states() == before


@pytest.mark.parametrize("task, metric", [("next_word", "acc"), ("passages", "bits_per_byte")])
def test_the_resident_model_stays_as_it_is_and_nothing_is_written_or_printed(
    task: str, metric: str, tiny_pool: Pool, tiny_stack: StackedPool, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def state() -> list[object]:
        parts = {**dict(tiny_stack.model.named_parameters()), **dict(tiny_stack.model.named_buffers())}
        tensors = [(name, part.data_ptr(), part.dtype, part.device, part.requires_grad) for name, part in parts.items()]
        return [tensors, tiny_stack.model.training, tiny_stack.model.config.to_dict()]

    before, files, tasks = state(), snapshot(tiny_pool.config.root), snapshot(folder)
    objective_of(tiny_pool, tiny_stack, tasks_of(folder, task, metric=metric))(MIXED)
    assert state() == before
    assert (snapshot(tiny_pool.config.root), snapshot(folder)) == (files, tasks)
    assert capfd.readouterr() == ("", "")


def test_whatever_decides_the_value_decides_the_digest(tiny_pool: Pool, tiny_stack: StackedPool, folder: Path) -> None:
    def digest(**settings: object) -> str:
        return objective_of(tiny_pool, tiny_stack, tasks_of(folder, **settings)).digest  # type: ignore[arg-type]

    first = digest()
    assert digest() == first
    powers = DownstreamError(tiny_pool, tiny_stack, tasks_of(folder), rule=make_rule("power", 0.5)).digest
    others = {digest(metric="acc_norm"), digest(shots=1), digest(documents=5), powers}
    edit(folder / "next_word.yaml", "version: 1", "version: 2")
    others.add(digest())
    elsewhere = folder.parent / "moved.jsonl"
    elsewhere.write_text((folder / "choices.jsonl").read_text())
    edit(folder / "next_word.yaml", str(folder / "choices.jsonl"), str(elsewhere))
    others.add(digest())
    edit(elsewhere, '"label": 1', '"label": 2')
    others.add(digest())
    assert len(others - {first}) == 7, "data outside the folder counts too"


def test_nan_is_no_score(tiny_pool: Pool, folder: Path) -> None:
    stack = StackedPool(tiny_pool.member_folders)
    objective = objective_of(tiny_pool, stack, tasks_of(folder))
    stack.stack[0].fill_(math.nan)
    with pytest.raises(NonFiniteLossError, match="not finite"):
        objective(MIXED)
    assert math.isfinite(objective(Mixture.vertex(NAMES, "docs")).value)


REFUSED = {
    "a group": (("both",), {}, "'both' is a group of tasks; name its tasks .*: next_word, passages"),
    "another metric": ((), {"metric": "f1"}, "task 'next_word' has no one metric 'f1'; it reports acc, acc_norm"),
    "one task without it": (("next_word", "passages"), {}, "task 'passages' .* reports bits_per_byte, byte_perplexity"),
    "another filter": ((), {"metric": "acc,strict"}, "no one metric 'acc,strict'; it reports acc,none, acc_norm,none"),
    "a name twice": (("next_word", "next_word"), {}, "has 'next_word' twice"),
    "too many shots": ((), {"shots": 99}, "'next_word' with 99 examples .* set fewer"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_had_is_refused(what: str, tiny_pool: Pool, tiny_stack: StackedPool, folder: Path) -> None:
    names, settings, message = REFUSED[what]
    with pytest.raises(ConfigError, match=message):
        objective_of(tiny_pool, tiny_stack, tasks_of(folder, *names, **settings))(MIXED)  # type: ignore[arg-type]


def test_an_unknown_task_is_refused_with_the_nearest(tiny_pool: Pool, tiny_stack: StackedPool, folder: Path) -> None:
    with pytest.raises(ConfigError, match=f"no task 'next_wort' in {folder} .*next_word.*task_folder"):
        objective_of(tiny_pool, tiny_stack, tasks_of(folder, "next_wort"))


BAD_FILES = {
    "no data": ("choices.jsonl", "gone.jsonl", "'next_word' cannot be loaded: .*HF_DATASETS_OFFLINE=0"),
    "code of a model": ("test_split", "unsafe_code: true\ntest_split", "'next_word' runs code that a model wrote"),
    "fixed shots": ("test_split", "num_fewshot: 0\ntest_split", "'next_word' is fixed at 0 examples"),
    "too long a choice": ('"{{choices}}"', '"{{[question * 9, question, question]}}"', "context of 32 tokens"),
}


@pytest.mark.parametrize("what", BAD_FILES)
def test_a_task_file_that_does_not_do_is_refused(
    what: str, tiny_pool: Pool, tiny_stack: StackedPool, folder: Path
) -> None:
    old, new, message = BAD_FILES[what]
    edit(folder / "next_word.yaml", old, new)
    shots = 1 if what == "fixed shots" else 0
    with pytest.raises(ConfigError, match=message):
        objective_of(tiny_pool, tiny_stack, tasks_of(folder, shots=shots))(MIXED)


def test_tasks_that_pull_in_opposite_directions_are_refused(
    tiny_pool: Pool, tiny_stack: StackedPool, folder: Path
) -> None:
    write_task(folder, "wrong", CHOICE_YAML.replace("true", "false"), "choices.jsonl")
    with pytest.raises(ConfigError, match="higher on next_word but when lower on wrong; give them a study each"):
        objective_of(tiny_pool, tiny_stack, tasks_of(folder, "next_word", "wrong"))


def test_a_task_folder_that_is_none_is_refused(tiny_pool: Pool, tiny_stack: StackedPool, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere is no folder"):
        objective_of(tiny_pool, tiny_stack, tasks_of(tmp_path / "nowhere"))


def test_a_missing_harness_is_named_with_the_extra(
    tiny_pool: Pool, tiny_stack: StackedPool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", None)
    with pytest.raises(ConfigError, match=r"pip install 'mixscout\[lm-eval\]'"):
        objective_of(tiny_pool, tiny_stack, tasks_of(folder))
