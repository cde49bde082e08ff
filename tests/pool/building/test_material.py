"""Promises about `train_tokens`: where it makes a run repeat the text of a larger partition, a build says so."""

from pathlib import Path

import pytest
from tiny import edit

from pool.building.foresight import Request
from pool.building.material import prepare_material
from pool.config.pool_file import read_pool_file


def _said(root: Path, scratch: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    prepare_material(Request(read_pool_file(root / "pool.toml"), frozenset({"all"})), scratch)
    return [line for line in capsys.readouterr().err.splitlines() if "train_tokens" in line]


def test_a_recipe_that_reads_more_than_is_kept_of_a_larger_partition_is_told_so(
    empty_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(empty_root / "pool.toml", "train_tokens = 30_000", "train_tokens = 2_000")
    edit(empty_root / "pool.toml", "tokens = 12_000", "tokens = 24_000")
    edit(empty_root / "pool.toml", 'mixture = "proportional"', "mixture = {code = 0.75, docs = 0.25, prose = 0.0}")
    member, seed = _said(empty_root, tmp_path, capsys)
    assert member.startswith("[recipe]: a member reads 5,888 tokens of partition '")
    assert "train_tokens keeps 2,000: these 2.9 times over, and likewise 2 more; raise [corpus]" in member
    assert member.endswith("train_tokens, up to 5,888, for text that is new")
    assert seed.startswith("[seed.recipe]: the seed reads 17,856 tokens of partition 'code', of whose ")
    assert "2,000: these 8.9 times over, and likewise 1 more" in seed


def test_a_partition_that_is_kept_whole_may_be_repeated_without_a_word(
    empty_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(empty_root / "pool.toml", "train_tokens = 30_000", "train_tokens = 1_000_000")
    edit(empty_root / "pool.toml", "tokens = 6_000", "tokens = 900_000")
    assert _said(empty_root, tmp_path, capsys) == []


def test_base_units_larger_than_what_is_kept_of_them_are_named(
    empty_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(empty_root / "pool.toml", "train_tokens = 30_000", "train_tokens = 6_000\nbase_units_tokens = 15_000")
    unit, *others = _said(empty_root, tmp_path, capsys)
    assert unit.startswith(
        "[corpus] base_units_tokens is 15,000, and train_tokens keeps 6,000 of a base unit, which has"
    )
    assert unit.endswith("the rest is never trained on; raise train_tokens, or cut smaller units") and others == []
