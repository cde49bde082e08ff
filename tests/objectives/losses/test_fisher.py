"""Merges row by row: right in every form, measured once, and measured again when what is kept is damaged."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from objectives.losses.fisher import ready, row_information
from objectives.losses.merged_loss import MergedLoss, ProxySettings
from objectives.merging.members.holding import Holding
from objectives.merging.merge import StackedPool
from objectives.merging.rules import Fisher, make_rule
from objectives.target import Goal
from pool.checkpoints.checkpoint import load_model, parameters_of
from pool.config.pool_file import read_pool_file
from pool.mixture import Mixture
from pool.parts.store import Pool, open_pool

TARGET = Goal.of({"licences": 0.6, "prose": 0.4})
RULE = ProxySettings(make_rule("fisher", 0.7))


@pytest.fixture(scope="module")
def pool(built_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """A copy of the tiny pool: what is measured is kept in it."""
    folder = tmp_path_factory.mktemp("fisher") / "root"
    shutil.copytree(built_root, folder)
    return open_pool(read_pool_file(folder / "pool.toml"))


@pytest.fixture(scope="module")
def information(pool: Pool) -> np.ndarray:
    return row_information(pool, StackedPool(pool.member_folders))


def _kept(pool: Pool) -> list[Path]:
    return sorted((pool.folder / "packed").glob("fisher-*.safetensors"))


def test_every_tensor_is_the_float64_average_of_its_rows(pool: Pool) -> None:
    stacked = StackedPool(pool.member_folders)
    rule = ready(make_rule("fisher", 0.7), pool, stacked)
    weights = rule.weights(np.array([0.5, 0.2, 0.3]))
    stacked.merge(weights)
    members = [parameters_of(load_model(folder)) for folder in pool.member_folders.values()]
    row = 0
    for name, merged in parameters_of(stacked.model).items():
        width = merged.shape[-1]
        count = merged.numel() // width
        shares = torch.tensor(weights[:, row : row + count])
        row += count
        expected = sum(
            share[:, None] * one[name].double().view(-1, width) for share, one in zip(shares, members, strict=True)
        )
        assert torch.allclose(merged.double().view(-1, width), expected, rtol=1e-6, atol=1e-7), name
    assert row == weights.shape[1] == stacked.by_rows.count


def test_information_is_the_mean_squared_gradient_of_windows(pool: Pool, information: np.ndarray) -> None:
    assert information.shape == (3, StackedPool(pool.member_folders).by_rows.count)
    assert (information >= 0).all() and (information.max(axis=1) > 0).all()
    seen = [set(np.unique(stream).tolist()) for stream in pool.corpus.train.values()]
    for k, name in enumerate(pool.names):  # rows of the tied embedding: a token's own text asks for its row
        own, others = seen[k], set.union(*(one for j, one in enumerate(seen) if j != k))
        alone, never = sorted(own - others), sorted(others - own)
        if alone and never:
            assert information[k, alone].mean() > information[k, never].mean(), name


@pytest.mark.parametrize(
    "holding", [Holding(stored="bfloat16"), Holding(stored="int8"), Holding(keep_share=0.5), Holding("mapped")], ids=str
)
def test_every_form_of_members_merges_by_rows(pool: Pool, holding: Holding) -> None:
    whole = StackedPool(pool.member_folders)
    weights = ready(make_rule("fisher", 0.7), pool, whole).weights(np.array([0.5, 0.2, 0.3]))
    held = StackedPool(pool.member_folders, holding=holding, folder=pool.folder)
    held.merge(weights)
    expected, numbers = torch.zeros_like(held.flat), held.by_rows._numbers
    for part, values in held.members.blocks():
        expected[part] = (values * torch.tensor(weights, dtype=torch.float32)[:, numbers[part].long()]).sum(0)
    assert torch.allclose(held.flat, expected, atol=1e-6)
    whole.merge(weights)
    close = {"float32": 1e-6 if holding.keep_share == 1 else 1.0, "bfloat16": 0.01, "int8": 0.01}[holding.stored]
    assert (held.flat - whole.flat).norm() <= close * whole.flat.norm()


def test_several_merges_at_once_are_those_one_by_one(pool: Pool) -> None:
    loss = MergedLoss(pool, StackedPool(pool.member_folders), TARGET, "search", settings=RULE)
    mixtures = [Mixture.from_array(pool.names, np.array(one)) for one in ([0.2, 0.3, 0.5], [0.9, 0.1, 0.0])]
    for mixture, found in zip(mixtures, loss.each(mixtures), strict=True):
        assert found.value == pytest.approx(loss(mixture).value, rel=1e-7)


def test_what_is_measured_is_kept_and_verified(pool: Pool, information: np.ndarray) -> None:
    files = _kept(pool)
    assert len(files) == len(pool.names)
    before = {path: path.stat().st_mtime_ns for path in files}
    assert np.array_equal(row_information(pool, StackedPool(pool.member_folders)), information)
    assert {path: path.stat().st_mtime_ns for path in _kept(pool)} == before, "measured once"
    bad = bytearray(files[0].read_bytes())
    bad[-1] ^= 1
    files[0].write_bytes(bad)
    files[1].write_bytes(b"")
    files[2].unlink()
    assert np.array_equal(row_information(pool, StackedPool(pool.member_folders)), information)
    assert len(_kept(pool)) == len(files)


def test_a_pool_that_cannot_be_written_is_measured_all_the_same(
    pool: Pool, information: np.ndarray, tmp_path: Path
) -> None:
    blocked = tmp_path / "a-file"
    blocked.write_text("no folder")
    stacked = StackedPool(pool.member_folders)
    stacked.holding = replace(stacked.holding, packed=blocked)
    assert np.array_equal(row_information(pool, stacked), information)


def test_the_rule_is_part_of_the_digest_and_only_used_members_of_the_foundation(pool: Pool) -> None:
    stacked = StackedPool(pool.member_folders)
    loss = MergedLoss(pool, stacked, TARGET, "search", settings=RULE)
    other = MergedLoss(pool, stacked, TARGET, "search", settings=ProxySettings(make_rule("fisher", 0.6)))
    assert len({loss.digest, other.digest, MergedLoss(pool, stacked, TARGET, "search").digest}) == 3
    assert loss.foundation(Mixture.vertex(pool.names, pool.names[0])) is not None
    assert isinstance(loss._rule, Fisher) and loss._rule.information is stacked.by_rows.information
