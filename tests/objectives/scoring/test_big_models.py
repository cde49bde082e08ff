"""Models of real size: memory while scoring stays bounded, whatever the vocabulary and the number of windows."""

import json
import subprocess
import sys
from pathlib import Path

SCORE = """
import json, resource, sys
from pathlib import Path
import numpy as np
from pool.checkpoints.checkpoint import new_model
from pool.config.recipe import ModelShape
from objectives.merging.merge import StackedPool
from objectives.scoring.scorer import Scorer
from objectives.scoring.window_table import WindowTable
from pool.tokens.held_out import HeldOutWindows

mode, size, folder, windows = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
SHAPE, VOCABULARY = {
    "130m": (ModelShape(hidden_size=768, layers=12, attention_heads=12, intermediate_size=2304, context=1024), 50_304),
    "1m": (ModelShape(hidden_size=128, layers=4, attention_heads=4, intermediate_size=384, context=256), 1_024),
}[size]
CONTEXT = SHAPE.context
if mode == "make":
    for seed, name in enumerate("ab"):
        new_model(SHAPE, VOCABULARY, initial_seed=seed).save_pretrained(folder / name)
    sys.exit()
stack = StackedPool({name: folder / name for name in "ab"}, device="cpu")
tokens = np.random.default_rng(0).integers(0, VOCABULARY, size=(windows, CONTEXT), dtype=np.int32)
text = HeldOutWindows(tokens, tokens, np.arange(windows, dtype=np.int32), np.full(windows, 4096), windows)
scorer = Scorer(stack.model, WindowTable.of({"d": text}, ["d"]))
stack.merge(np.array([0.5, 0.5]))
if mode == "score":
    nats = scorer.score()
else:
    nats, _ = scorer.score_with_jacobian(stack.flat_gradient(), stack.weight_gradient)
model_bytes = stack.flat.numel() * 4
print(json.dumps({
    "parameters": stack.flat.numel(),
    "loss": float(nats.sum() / tokens.size),
    "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    "model_and_pool": model_bytes + stack.stack.numel() * 4,
}))
"""


def _run(mode: str, size: str, folder: Path, windows: int = 0) -> dict[str, float]:
    command = [sys.executable, "-c", SCORE, mode, size, str(folder), str(windows)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    return json.loads(done.stdout.splitlines()[-1]) if mode != "make" else {}


def test_scoring_a_130m_model_with_a_50k_vocabulary_takes_less_than_a_gigabyte_beside_it(tmp_path: Path) -> None:
    _run("make", "130m", tmp_path)
    figures = _run("score", "130m", tmp_path, 4)
    assert 100e6 < figures["parameters"] < 140e6
    assert 10 < figures["loss"] < 12, "an untrained model is about uniform over the vocabulary"
    assert figures["peak"] < figures["model_and_pool"] + 1e9


def test_the_memory_of_a_gradient_does_not_grow_with_the_number_of_windows(tmp_path: Path) -> None:
    _run("make", "1m", tmp_path)
    few, many = (_run("gradient", "1m", tmp_path, windows) for windows in (8, 128))
    assert many["peak"] < few["peak"] + 100e6
