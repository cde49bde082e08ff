"""Every way of holding members: the same sums, wherever the values lie, and no more memory than said."""

import json
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import peak_of_a_merge
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from objectives.losses.merged_loss import MergedLoss
from objectives.merging.members.form import FlatLayout
from objectives.merging.members.holding import Free, Held, Holding, StoredAs, choose, memory_line
from objectives.merging.members.steps import LARGEST_CODE, dequantised, quantised
from objectives.merging.merge import StackedPool
from objectives.merging.task_vectors import compare_task_vectors
from objectives.target import Goal
from pool.checkpoints.checkpoint import load_model, new_model
from pool.config.pool_file import read_pool_file
from pool.config.recipe import ModelShape
from pool.errors import ConfigError, PoolError
from pool.mixture import Mixture
from pool.parts.store import Pool, open_pool

TARGET = Goal.of({"licences": 0.6, "prose": 0.4})


@dataclass(frozen=True)
class Way:
    """One way of holding, and what it promises: bits or distances of parameters, nats of a merged loss."""

    holding: Holding
    vertex: float
    """Largest distance of a member from itself, as a share of its task vector's norm."""
    loss_nats: float


WAYS = [
    Way(Holding("resident"), 0, 0),
    Way(Holding("streamed"), 0, 0),
    Way(Holding("mapped"), 0, 0),
    Way(Holding("resident", "bfloat16"), 0.05, 1e-3),
    Way(Holding("mapped", "bfloat16"), 0.05, 1e-3),
    Way(Holding("resident", "int8"), 0.02, 1e-3),
    Way(Holding("streamed", "int8"), 0.02, 1e-3),
    Way(Holding("mapped", "int8"), 0.02, 1e-3),
    Way(Holding("resident", "float32", 0.5), 0.6, 0.05),
    Way(Holding("mapped", "bfloat16", 0.5), 0.6, 0.05),
    Way(Holding("resident", "int8", 0.5), 0.6, 0.05),
    Way(Holding("mapped", "int8", 0.5), 0.6, 0.05),
]
EVERY = pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(map(str, vars(way.holding).values())))
FORMS = [way for way in WAYS if way.holding.held == "resident"]


@pytest.fixture(scope="module")
def stack_of(tiny_pool: Pool, tmp_path_factory: pytest.TempPathFactory):
    """Make the tiny pool's stack, each way once; what is mapped is packed beside a link to the pool's seed."""
    beside = tmp_path_factory.mktemp("beside")
    (beside / "seed").symlink_to(tiny_pool.folder / "seed")

    @cache
    def stack(holding: Holding) -> StackedPool:
        return StackedPool(tiny_pool.member_folders, device="cpu", holding=holding, folder=beside)

    return stack


@pytest.fixture(scope="module")
def exact(stack_of) -> StackedPool:
    return stack_of(Holding("resident"))


@pytest.fixture(scope="module")
def seed(exact: StackedPool, tiny_pool: Pool) -> torch.Tensor:
    exact.load(tiny_pool.folder / "seed", "the seed")
    return exact.flat.clone()


@EVERY
def test_a_member_is_itself_as_far_as_its_form_says(way: Way, stack_of, exact: StackedPool, seed: torch.Tensor) -> None:
    stack = stack_of(way.holding)
    for row, vertex in enumerate(np.eye(3)):
        stack.merge(vertex)
        member = exact.stack[row]
        assert (stack.flat - member).norm() <= way.vertex * (member - seed).norm()


@EVERY
@settings(max_examples=8, deadline=None)
@given(
    first=st.lists(st.floats(-1, 2), min_size=3, max_size=3), second=st.lists(st.floats(0, 1), min_size=3, max_size=3)
)
def test_merging_is_linear_for_any_weights_also_those_that_do_not_sum_to_one(
    way: Way, stack_of, first: list[float], second: list[float]
) -> None:
    stack = stack_of(way.holding)
    one, other, both = (stack.merge_many(np.array([w]))[0] for w in (first, second, np.add(first, second)))
    assert torch.allclose(one + other, both, atol=2e-6 * (1 + sum(map(abs, first)) + sum(second)))


@EVERY
def test_the_sum_many_sums_the_blocks_and_the_gradient_are_of_the_same_members(way: Way, stack_of) -> None:
    stack = stack_of(way.holding)
    rng = np.random.default_rng(0)
    weights = np.vstack([rng.dirichlet(np.ones(3), size=2), rng.normal(size=(2, 3)), [[0, 0.4, 0.6]]])
    sums = []
    for row in weights:
        stack.merge(row)
        sums.append(stack.flat.clone())
    assert torch.allclose(torch.stack(sums), stack.merge_many(weights), atol=2e-6)
    covered = torch.zeros_like(stack.flat)
    for part, values in stack.members.blocks(1000):
        covered[part] += 1
        assert torch.allclose(torch.tensor(weights[3], dtype=torch.float32) @ values, sums[3][part], atol=2e-6)
    assert all(bool((covered[matrix.part] == 1).all()) for matrix in FlatLayout.of(stack.model).matrices.values())
    stack.flat_gradient().copy_(torch.randn(stack.flat.numel(), generator=torch.Generator().manual_seed(0)))
    expected = [float(stack.flat_gradient().double() @ member.double()) for member in stack.merge_many(np.eye(3))]
    assert stack.weight_gradient() == pytest.approx(expected, rel=1e-4, abs=1e-3)


@EVERY
def test_the_merged_loss_is_that_of_float32_as_far_as_promised_and_its_gradient_its_own(
    way: Way, stack_of, exact: StackedPool, tiny_pool: Pool
) -> None:
    mixture = Mixture.of({"code": 0.2, "docs": 0.5, "prose": 0.3})
    loss, true = (MergedLoss(tiny_pool, stack, TARGET, "search") for stack in (stack_of(way.holding), exact))
    found, expected = loss.gradient(mixture), true.gradient(mixture)
    assert abs(found.value - expected.value) <= max(way.loss_nats, 1e-6)
    assert loss(mixture).value == pytest.approx(found.value, abs=1e-6)
    step, direction = 0.02, np.array([-1, 0, 1])
    ahead, behind = (Mixture.from_array(mixture.names, mixture.array + sign * step * direction) for sign in (1, -1))
    slope = (loss(ahead).value - loss(behind).value) / (2 * step)
    assert np.dot(found.gradient, direction) == pytest.approx(slope, rel=0.02, abs=1e-3)


@pytest.mark.parametrize("way", FORMS, ids=lambda way: "-".join(map(str, vars(way.holding).values())))
def test_where_values_lie_changes_no_bit_of_a_merge(way: Way, stack_of) -> None:
    weights = np.array([0.2, 0.0, 0.8])
    merged = []
    for held in ("resident", "streamed", "mapped"):
        stack = stack_of(Holding(held, way.holding.stored, way.holding.keep_share))
        stack.merge(weights)
        merged.append(stack.flat.clone())
    assert torch.equal(merged[0], merged[1]) and torch.equal(merged[0], merged[2])


def test_int8_takes_a_quarter_of_float32_beside_scales_and_one_more_row(stack_of, exact: StackedPool) -> None:
    members, layout = stack_of(Holding("resident", "int8")).members, FlatLayout.of(exact.model)
    assert members.nbytes == (3 + 1) * (layout.size + 2 * layout.rows)
    assert exact.members.nbytes == 3 * layout.size * 4
    assert stack_of(Holding("resident", "bfloat16")).members.nbytes == exact.members.nbytes / 2
    assert stack_of(Holding("mapped", "int8")).members.nbytes == 4 * 2 * layout.rows, "only scales are in memory"


def test_pruning_keeps_the_largest_share_of_each_tensor_and_the_seed_elsewhere(
    stack_of, exact: StackedPool, seed: torch.Tensor
) -> None:
    stack = stack_of(Holding("resident", "float32", 0.5))
    stack.merge(np.array([1.0, 0.0, 0.0]))
    for name, matrix in FlatLayout.of(exact.model).matrices.items():
        step, kept = exact.stack[0][matrix.part] - seed[matrix.part], stack.flat[matrix.part] - seed[matrix.part]
        assert torch.allclose(kept[kept != 0], step[kept != 0], atol=1e-6), name
        assert step[kept == 0].abs().max() <= step[kept != 0].abs().min() + 1e-6, name
        assert int((kept != 0).sum()) == pytest.approx(step.numel() / 2, abs=1 + 0.02 * step.numel()), name
    assert stack.members.nbytes < 0.9 * exact.members.nbytes


@pytest.mark.parametrize("scale", [1e-30, 1e-4, 1.0, 1e4])
def test_a_code_is_off_by_half_a_scale_at_most(scale: float) -> None:
    layout = FlatLayout.of(new_model(ModelShape(hidden_size=16, attention_heads=2, layers=1), 300, initial_seed=0))
    values = torch.randn(layout.size, generator=torch.Generator().manual_seed(1)) * scale
    first = next(iter(layout.matrices.values()))
    values[: first.width] = 0
    decoded = dequantised(*quantised(values, layout), layout, torch.float32)
    for matrix in layout.matrices.values():
        rows, back = (one[matrix.part].view(-1, matrix.width) for one in (values, decoded))
        assert ((rows - back).abs() <= rows.abs().amax(dim=1, keepdim=True) * 0.51 / LARGEST_CODE).all()


def test_members_of_task_vectors_compare_as_they_are(stack_of, exact: StackedPool, tiny_pool: Pool) -> None:
    for held, tolerance in (("mapped", 1e-9), ("resident", 0.02)):
        stored: StoredAs = "float32" if held == "mapped" else "int8"
        stack = stack_of(Holding(held, stored))
        found, expected = (compare_task_vectors(one, tiny_pool.folder / "seed") for one in (stack, exact))
        assert found.cosines == pytest.approx(expected.cosines, abs=tolerance)
        assert found.norms == pytest.approx(expected.norms, rel=tolerance)


def test_the_digest_says_what_decides_a_value_and_not_where_it_lies(stack_of, tiny_pool: Pool) -> None:
    def digest(holding: Holding) -> str:
        return MergedLoss(tiny_pool, stack_of(holding), TARGET, "search").digest

    places: list[Held] = ["resident", "streamed", "mapped", "auto"]
    assert len({digest(Holding(place)) for place in places}) == 1
    assert len({digest(Holding(place, "int8")) for place in places}) == 1
    different = [Holding("resident", *form) for form in (("float32", 1), ("bfloat16", 1), ("int8", 1), ("int8", 0.5))]
    assert len({digest(holding) for holding in different}) == 4
    reader = StackedPool.of_seed(tiny_pool.names, tiny_pool.folder / "seed", holding=Holding("mapped", "int8"))
    assert MergedLoss(tiny_pool, reader, TARGET, "search").digest == digest(Holding("resident", "int8"))


@pytest.mark.parametrize("holding", [Holding("mapped"), Holding("resident", "int8"), Holding("mapped", "int8", 0.5)])
def test_a_group_is_the_mean_of_its_units(holding: Holding, united_root: Path, tmp_path: Path) -> None:
    united = open_pool(read_pool_file(united_root / "pool.toml"))
    (tmp_path / "seed").symlink_to(united.folder / "seed")
    grouped = united.by_groups()
    stack = StackedPool(grouped.merged_folders, holding=holding, folder=tmp_path, device="cpu")
    true = StackedPool(grouped.merged_folders, device="cpu")
    weights = np.random.default_rng(0).dirichlet(np.ones(len(grouped.names)))
    for one in (stack, true):
        one.merge(weights)
    assert torch.allclose(stack.flat, true.flat, atol=0 if holding.stored == "float32" else 0.01)


def test_packed_members_are_written_once_and_written_again_when_damaged(
    tiny_pool: Pool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def flat() -> torch.Tensor:
        stack = StackedPool(tiny_pool.member_folders, device="cpu", holding=Holding("mapped"), folder=tmp_path)
        stack.merge(np.array([0.1, 0.2, 0.7]))
        return stack.flat

    first = flat()
    (path,) = tmp_path.glob("packed/*/values.npy")
    written = path.stat().st_mtime_ns
    assert torch.equal(flat(), first) and path.stat().st_mtime_ns == written
    content = bytearray(path.read_bytes())
    content[4000] ^= 1
    path.write_bytes(content)
    assert torch.equal(flat(), first) and path.stat().st_mtime_ns != written
    assert "is damaged: its members are packed again" in capsys.readouterr().err


def test_members_of_another_pool_are_packed_beside_them(tiny_pool: Pool, tmp_path: Path) -> None:
    names = list(tiny_pool.member_folders)
    for some in (names, names[::-1], names[:2]):
        stack = StackedPool(
            {name: tiny_pool.member_folders[name] for name in some},
            holding=Holding("mapped"),
            folder=tmp_path,
            device="cpu",
        )
        stack.merge(np.eye(len(some))[0])
        member = load_model(tiny_pool.member_folders[some[0]]).get_input_embeddings().weight
        assert torch.equal(stack.model.get_input_embeddings().weight, member)
    assert len(list(tmp_path.glob("packed/*/values.npy"))) == 3


@pytest.mark.parametrize(
    ("device", "free", "place"),
    [
        ("cpu", Free(100e9, 100e9), "resident"),
        ("cpu", Free(40e9, 40e9), "mapped"),
        ("cuda", Free(20e9, 100e9), "resident"),
        ("cuda", Free(100e9, 20e9), "streamed"),
        ("cuda", Free(20e9, 20e9), "mapped"),
    ],
)
def test_the_first_place_with_room_is_chosen_and_the_reason_given(device: str, free: Free, place: str) -> None:
    choice = choose(int(40e9), int(4e9), torch.device(device), free)
    assert choice.place == place
    assert "40.00 GB of members and 12.00 GB for models" in choice.why and "GB free" in choice.why


def test_the_types_of_members_are_told_apart_by_bytes_and_error() -> None:
    line = memory_line(4, int(4e9), Holding())
    assert line == (
        "merges hold about 16.00 GB of 4 members in float32, and 8.00 GB of a merge and its gradient; members would "
        "take 8.00 GB in bfloat16 or 5.00 GB in int8 ([objective] stored, in a study of another name); losses by "
        "bfloat16 and int8 were off by at most 0.00013 nats where measured"
    )
    assert "5.00 GB of 4 members in int8, and" in memory_line(4, int(4e9), Holding(stored="int8"))
    assert "float32, 0.5 of each task vector, and" in memory_line(4, int(4e9), Holding(keep_share=0.5))
    rows = memory_line(4, int(4e9), Holding(), by_rows=True)
    assert "in float32, and 12.00 GB of a merge, its gradient and numbers of rows; members" in rows
    cut = line.replace("its gradient;", "its gradient; each of 2 devices about 12.00 GB of both;")
    assert memory_line(4, int(4e9), Holding(devices=2)) == cut


def test_what_cannot_be_had_is_refused_with_the_way_out(tiny_pool: Pool, tmp_path: Path, stack_of) -> None:
    with pytest.raises(ValueError, match="in \\(0, 1\\]: got 0"):
        Holding(keep_share=0)
    with pytest.raises(ValueError, match="steps from a seed: give the pool's folder"):
        StackedPool(tiny_pool.member_folders, holding=Holding(stored="int8"))
    with pytest.raises(ValueError, match="mapped from files beside the pool: give the pool's folder"):
        StackedPool(tiny_pool.member_folders, holding=Holding("mapped"))
    with pytest.raises(
        ConfigError, match='this needs members as they are in memory: set \\[objective\\] held = "resident"'
    ):
        _ = stack_of(Holding("mapped")).stack
    (tmp_path / "packed").write_text("in the way")
    with pytest.raises(PoolError, match="cannot write 0.00 GB of packed members there: .*; make room, or set"):
        StackedPool(tiny_pool.member_folders, holding=Holding("mapped"), folder=tmp_path, device="cpu")


def test_merging_mapped_members_takes_little_memory_beside_one_model(tmp_path: Path) -> None:
    """40 members of 2.2 million parameters, 357 MB in float32: packed and merged, opened again, and in memory."""
    shape = ModelShape(hidden_size=256, layers=2, attention_heads=4, intermediate_size=768)
    new_model(shape, 2048, initial_seed=0).save_pretrained(tmp_path / "m")
    command = [sys.executable, peak_of_a_merge.__file__, str(tmp_path), "40"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    *both, resident = (json.loads(line) for line in done.stdout.splitlines())
    assert resident["members"] > 350e6
    assert resident["grown"] > 0.8 * resident["members"]
    for mapped in both:
        assert mapped["members"] == 0
        assert mapped["grown"] < resident["members"] / 2, "nothing adds up as one member after the other is read"
        assert mapped["checksum"] == resident["checksum"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@EVERY
def test_a_gpu_merges_what_a_cpu_does(way: Way, stack_of, tiny_pool: Pool) -> None:
    beside = stack_of(way.holding)._folder
    there = StackedPool(tiny_pool.member_folders, device="cuda", holding=way.holding, folder=beside)
    weights = np.array([[0.2, 0.0, 0.8], [0.5, 0.9, -0.4]])
    assert torch.allclose(there.merge_many(weights).cpu(), stack_of(way.holding).merge_many(weights), atol=2e-6)
    for one in (there, stack_of(way.holding)):
        one.merge(weights[0])
        one.flat_gradient().copy_(one.flat)
    assert torch.allclose(there.flat.cpu(), stack_of(way.holding).flat, atol=2e-6)
    assert there.weight_gradient() == pytest.approx(stack_of(way.holding).weight_gradient(), rel=1e-4)
    if way.holding.held == "streamed":
        assert there.members.device_nbytes < there.members.nbytes
