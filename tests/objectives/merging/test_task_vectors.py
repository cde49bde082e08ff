"""Task vectors are what numpy finds in the safetensors files, and what geometry says of made ones."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import objectives.merging.task_vectors
from objectives.merging.merge import StackedPool
from objectives.merging.task_vectors import compare_task_vectors
from pool.checkpoints.checkpoint import load_model
from pool.errors import PoolError
from pool.parts.store import Pool


def _plain(folder: Path) -> np.ndarray:
    tensors = load_file(folder / "model.safetensors")
    return np.concatenate([tensors[key].ravel().astype(np.float64) for key in sorted(tensors)])


def _stepped(folder: Path, seed: Path, steps: dict[int, float]) -> Path:
    """Write the seed with some of its tensors, by number, moved by a step."""
    model = load_model(seed)
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter += steps.get(number, 0.0)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("block", [1000, 2**20])
def test_norms_cosines_and_signs_are_those_of_the_files(
    block: int, tiny_pool: Pool, tiny_stack: StackedPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objectives.merging.task_vectors, "BLOCK_ELEMENTS", block)
    found = compare_task_vectors(tiny_stack, tiny_pool.folder / "seed")
    seed = _plain(tiny_pool.folder / "seed")
    steps = np.array([_plain(folder) - seed for folder in tiny_pool.member_folders.values()])
    norms = np.linalg.norm(steps, axis=1)
    assert found.seed_norm == pytest.approx(np.linalg.norm(seed), rel=1e-9)
    assert found.norms == pytest.approx(norms, rel=1e-6)
    assert found.relative_norms == pytest.approx(norms / np.linalg.norm(seed), rel=1e-6)
    assert found.cosines == pytest.approx(steps @ steps.T / np.outer(norms, norms), abs=1e-6)
    signs = np.sign(steps)
    for i in range(3):
        for j in range(3):
            both = (signs[i] != 0) & (signs[j] != 0)
            share = np.mean(signs[i][both] != signs[j][both])
            assert found.sign_conflicts[i, j] == pytest.approx(share, abs=1e-12)


def test_parallel_orthogonal_opposite_and_missing_steps(tiny_pool: Pool, tmp_path: Path) -> None:
    seed = tiny_pool.folder / "seed"
    steps = {"on": {1: 0.5}, "further": {1: 2.0}, "aside": {2: 0.5}, "back": {1: -0.5}, "still": {}}
    folders = {name: _stepped(tmp_path / name, seed, step) for name, step in steps.items()}
    found = compare_task_vectors(StackedPool(folders), seed)
    cosines, conflicts = found.cosines, found.sign_conflicts
    assert cosines[0, :4] == pytest.approx([1, 1, 0, -1], abs=1e-6)
    assert conflicts[0, [0, 1, 3]] == pytest.approx([0, 0, 1])
    assert found.norms[1] == pytest.approx(4 * found.norms[0], rel=1e-6)
    assert found.norms[4] == 0
    assert np.isnan(cosines[4]).all() and np.isnan(conflicts[4]).all()
    assert np.isnan(conflicts[0, 2]), "no parameter was changed by both"


def test_a_seed_of_another_architecture_is_refused(tiny_pool: Pool, tiny_stack: StackedPool, tmp_path: Path) -> None:
    with pytest.raises(PoolError, match="model.safetensors is missing"):
        compare_task_vectors(tiny_stack, tmp_path)
