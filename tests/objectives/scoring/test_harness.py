"""The figures are lm-evaluation-harness's: its rolling log-likelihood on the same model and text gives the same."""

import json
from pathlib import Path

import lm_eval
import pytest
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from objectives.scoring.scorer import Scorer
from objectives.scoring.window_table import WindowTable
from pool.checkpoints.checkpoint import load_model
from pool.config.pool_file import ScoredText
from pool.parts.store import Pool
from pool.tokens.held_out import held_out_windows
from pool.tokens.tokenizer import load_tokenizer

ALL = ScoredText(10**6, 10**6)
TASK = """
task: rolling
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
output_type: loglikelihood_rolling
test_split: test
doc_to_text: ""
doc_to_target: text
metric_list: [{{metric: word_perplexity}}, {{metric: byte_perplexity}}, {{metric: bits_per_byte}}]
"""


def _texts() -> list[str]:
    licence = (Path(__file__).parents[3] / "LICENSE").read_text()
    return [*licence.split("\n\n")[:12], "Grüße — 漢字 🙂 and plain words, " * 6, "é", licence[:3000]]


def test_word_and_byte_perplexity_and_bits_per_byte_are_the_harness_s(tiny_pool: Pool, tmp_path: Path) -> None:
    texts = _texts()
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (tmp_path / "rolling.yaml").write_text(TASK.format(file=file))
    tokenizer = load_tokenizer(tiny_pool.folder / "tokenizer")
    model = load_model(tiny_pool.folder / "seed")
    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4)
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    answer = lm_eval.simple_evaluate(harness, tasks=["rolling"], task_manager=manager, bootstrap_iters=0)
    theirs = answer["results"]["rolling"]
    windows = held_out_windows("d", texts, tokenizer, ALL, tiny_pool.config.model.context)
    table = WindowTable.of({"d": windows}, ["d"])
    ours = table.losses(Scorer(model, table).score())["d"]
    assert ours.windows > 2 * ours.documents, "documents of several windows are among them"
    for figure in ("word_perplexity", "byte_perplexity", "bits_per_byte"):
        assert getattr(ours, figure) == pytest.approx(theirs[f"{figure},none"], rel=1e-4), figure
