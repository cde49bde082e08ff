"""Promises of base units and groups: near-equal, by document, the same again; weights go there and back."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import edit

from objectives.merging.merge import StackedPool
from pool.building.build import build_pool
from pool.building.foresight import Request
from pool.building.job import TruthRun, folder_of
from pool.building.material import prepare_material
from pool.config.pool_file import read_pool_file
from pool.errors import ConfigError, CorpusError
from pool.mixture import Mixture, even_within_groups, group_units, to_groups, to_units
from pool.parts.store import Pool, open_pool

GROUPS = {"a": ("a-1", "a-2", "a-3"), "b": ("b",)}


@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=2))
def test_weights_over_groups_go_to_units_and_back(amounts: list[float]) -> None:
    mixture = Mixture.proportional(dict(zip(GROUPS, amounts, strict=True)))
    units = to_units(mixture, GROUPS)
    assert units.names == ("a-1", "a-2", "a-3", "b")
    assert np.allclose(to_groups(units, GROUPS).array, mixture.array, atol=1e-12)
    assert even_within_groups(units, GROUPS)


def test_macro_and_micro_are_the_paper_s_weights() -> None:
    assert to_units(Mixture.uniform(tuple(GROUPS)), GROUPS).weights == pytest.approx((1 / 6, 1 / 6, 1 / 6, 1 / 2))
    uneven = Mixture.of({"a-1": 0.5, "a-2": 0.25, "a-3": 0.0, "b": 0.25})
    assert to_groups(uneven, GROUPS).as_dict() == {"a": 0.75, "b": 0.25}
    assert not even_within_groups(uneven, GROUPS)


def test_groups_are_patterns_of_partitions_and_the_others_stand_alone() -> None:
    units = {"x-1": ("x-1",), "x-2": ("x-2-1", "x-2-2"), "y": ("y",)}
    assert group_units(tuple(units), units, {"x": ("x-*",)}) == {"x": ("x-1", "x-2-1", "x-2-2"), "y": ("y",)}
    for wanted, message in (
        ({"x": ("z*",)}, "group 'x': no partition matches 'z\\*'; there are x-1, x-2, y"),
        ({"x": ("x-*",), "w": ("x-1",)}, "partition 'x-1' is in the groups 'x' and 'w'"),
        ({"y": ("x-*",)}, "group 'y' has the name of one of several units"),
    ):
        with pytest.raises(CorpusError, match=message):
            group_units(tuple(units), units, wanted)


@pytest.fixture(scope="module")
def united(united_root: Path) -> Pool:
    return open_pool(read_pool_file(united_root / "pool.toml"))


def test_big_partitions_are_cut_into_near_equal_units_and_nothing_is_lost(united: Pool, tiny_pool: Pool) -> None:
    groups = united.manifest.corpus.groups
    assert set(groups) == {"code", "text"} and len(groups["code"]) > 1
    assert united.names == tuple(unit for units in groups.values() for unit in units)
    parts = united.manifest.corpus.partitions
    bytes_of = [parts[unit].bytes for unit in groups["code"]]
    longest = max(len(json.loads(line)["source"].encode()) for line in (united.config.root / "code.jsonl").open())
    assert max(bytes_of) - min(bytes_of) <= longest
    for units in (groups["code"], [unit for unit in groups["text"] if unit.startswith("docs")]):
        tokens = sum(parts[unit].available_tokens for unit in units)
        assert tokens / len(units) == pytest.approx(15_000, rel=0.25)
    assert set(united.manifest.corpus.search) == {"code", "docs", "prose", "licences"}, "domains are not cut"


def test_the_same_text_gives_the_same_units(united: Pool, tmp_path: Path) -> None:
    again = prepare_material(Request(united.config, frozenset({"all"})), tmp_path).corpus.manifest
    assert (again.partitions, again.groups) == (united.manifest.corpus.partitions, united.manifest.corpus.groups)


def test_a_group_s_merge_is_that_of_its_units_weighing_alike(united: Pool) -> None:
    by_groups = united.by_groups()
    assert by_groups.names == ("code", "text")
    assert sum(by_groups.tokens.values()) == sum(united.tokens.values())
    macro, micro = StackedPool(by_groups.merged_folders), StackedPool(united.merged_folders)
    mixture = Mixture.of({"code": 0.3, "text": 0.7})
    macro.merge(mixture.array)
    micro.merge(by_groups.unit_mixture(mixture).over(united.names).array)
    assert np.allclose(macro.flat.cpu(), micro.flat.cpu(), atol=1e-6)
    assert by_groups.by_units().names == united.names


def test_what_is_trained_on_a_mixture_of_groups_is_trained_on_its_units(united: Pool) -> None:
    by_groups, recipe = united.by_groups(), united.config.recipe
    mixture = Mixture.of({"code": 0.3, "text": 0.7})
    over_units = by_groups.unit_mixture(mixture).over(united.names)
    assert folder_of(by_groups, TruthRun(mixture, recipe)) == folder_of(united, TruthRun(over_units, recipe))
    vertex = TruthRun(Mixture.vertex(by_groups.names, "code"), recipe)
    assert folder_of(by_groups, vertex).parent.name == "trained", "a group of several units has no member of its own"


def test_a_pool_without_groups_says_how_to_get_them(tiny_pool: Pool) -> None:
    with pytest.raises(ConfigError, match="pool 'tiny' has no groups to weigh: set .corpus. base_units_tokens"):
        tiny_pool.by_groups()


def test_a_unit_that_would_have_another_partition_s_name_is_refused(empty_root: Path) -> None:
    edit(empty_root / "pool.toml", "held_out_share = 0.2", "held_out_share = 0.2\nbase_units_tokens = 15_000")
    edit(empty_root / "pool.toml", "[corpus.partitions.docs]", "[corpus.partitions.code-1]")
    with pytest.raises(CorpusError, match="the name of another partition, 'code-1'; rename that one"):
        build_pool(read_pool_file(empty_root / "pool.toml"))


def test_a_held_out_domain_that_would_have_a_unit_s_name_is_refused(empty_root: Path) -> None:
    edit(empty_root / "pool.toml", "held_out_share = 0.2", "held_out_share = 0.2\nbase_units_tokens = 15_000")
    edit(empty_root / "pool.toml", "[corpus.held_out.licences]", "[corpus.held_out.code-2]")
    with pytest.raises(CorpusError, match="held-out domain 'code-2' has the name of a base unit; rename the domain"):
        build_pool(read_pool_file(empty_root / "pool.toml"))
