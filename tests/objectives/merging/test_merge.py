"""The merge is exact."""

import gc
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from objectives.losses.merged_loss import MergedLoss, Unloaded, make_room
from objectives.merging.members import holding as holding_module
from objectives.merging.members.arrays import mapped, shared
from objectives.merging.members.holding import Free, Holding
from objectives.merging.merge import StackedPool
from objectives.scoring.paired import segments
from objectives.scoring.scorer import Scorer
from objectives.scoring.window_table import WindowTable
from objectives.target import Goal
from pool.checkpoints.checkpoint import load_model, new_model, parameters_of
from pool.config.recipe import ModelShape
from pool.engines.devices import ReadAhead, SharedPages
from pool.errors import PoolError
from pool.mixture import Mixture
from pool.parts.store import Pool

TARGET = Goal.of({"licences": 0.6, "prose": 0.4})


def _average_in_float64(pool: Pool, mixture: Mixture) -> dict[str, torch.Tensor]:
    """Average the members' tensors one by one, in float64, with nothing of ours."""
    total: dict[str, torch.Tensor] = {}
    for name, weight in mixture.as_dict().items():
        for key, tensor in parameters_of(load_model(pool.member_folders[name])).items():
            total[key] = total.get(key, torch.zeros(1, dtype=torch.float64)) + weight * tensor.double()
    return total


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=3, max_size=3).filter(lambda w: sum(w) > 0.01))
def test_any_mixture_is_the_float64_average_in_every_tensor(
    tiny_pool: Pool, tiny_stack: StackedPool, weights: list[float]
) -> None:
    mixture = Mixture.proportional(dict(zip(tiny_pool.names, weights, strict=True)))
    tiny_stack.merge(mixture.array)
    expected = _average_in_float64(tiny_pool, mixture)
    merged = parameters_of(tiny_stack.model)
    assert merged.keys() == expected.keys()
    for name, tensor in merged.items():
        error = (tensor.double() - expected[name]).norm() / expected[name].norm()
        assert error < 1e-6, name


@pytest.mark.parametrize("name", ["code", "docs", "prose"])
def test_vertex_mixture_returns_the_member_itself(tiny_pool: Pool, tiny_stack: StackedPool, name: str) -> None:
    member = load_model(tiny_pool.member_folders[name]).to(tiny_stack.device)
    vertex = Mixture.vertex(tiny_pool.names, name)
    merged = MergedLoss(tiny_pool, tiny_stack, TARGET, "test")(vertex)
    table = WindowTable.of(tiny_pool.corpus.held_out["test"], TARGET.domains)
    assert merged.domains == table.losses(Scorer(member, table, segments=segments(table, 0)).score())
    for key, tensor in parameters_of(tiny_stack.model).items():
        assert torch.equal(tensor, parameters_of(member)[key])


def test_tied_weights_are_merged_once_and_stay_tied(tiny_pool: Pool, tiny_stack: StackedPool) -> None:
    model = tiny_stack.model
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    once = sum(tensor.numel() for tensor in parameters_of(load_model(tiny_pool.folder / "seed")).values())
    assert once <= tiny_stack.stack.shape[1] < once + 16 * (len(parameters_of(model)) + 1)


def test_untied_heads_are_merged_too(tmp_path: Path) -> None:
    shape = ModelShape(hidden_size=16, attention_heads=2, layers=1, context=16, tie_embeddings=False)
    folders = {}
    for seed, name in enumerate("ab"):
        folders[name] = tmp_path / name
        new_model(shape, 300, initial_seed=seed).save_pretrained(folders[name])
    stack = StackedPool(folders)
    stack.merge(np.array([0.25, 0.75]))
    heads = [load_model(folders[name]).get_output_embeddings().weight for name in "ab"]
    merged = stack.model.get_output_embeddings().weight
    assert torch.allclose(merged.cpu(), 0.25 * heads[0] + 0.75 * heads[1], atol=1e-7)
    assert merged is not stack.model.get_input_embeddings().weight


def test_merging_makes_no_copy_of_the_model(tiny_pool: Pool, tiny_stack: StackedPool) -> None:
    places = [parameter.data_ptr() for parameter in tiny_stack.model.parameters()]
    tiny_stack.merge(Mixture.uniform(tiny_pool.names).array)
    tiny_stack.merge(Mixture.vertex(tiny_pool.names, "docs").array)
    assert [parameter.data_ptr() for parameter in tiny_stack.model.parameters()] == places


def test_a_nan_in_a_member_is_refused_by_name(tiny_pool: Pool, tmp_path: Path) -> None:
    folders = {}
    for name, folder in tiny_pool.member_folders.items():
        folders[name] = tmp_path / name
        shutil.copytree(folder, folders[name])
    model = load_model(folders["docs"])
    with torch.no_grad():
        next(model.parameters())[3, 1] = float("nan")
    model.save_pretrained(folders["docs"])
    with pytest.raises(PoolError, match="member 'docs' has NaN or infinite values in model.embed_tokens.weight"):
        StackedPool(folders)


def test_members_of_another_architecture_are_refused_by_name(tiny_pool: Pool, tmp_path: Path) -> None:
    new_model(ModelShape(hidden_size=16, attention_heads=2), 384, initial_seed=0).save_pretrained(tmp_path)
    with pytest.raises(PoolError, match="member 'odd' is of another architecture than the pool"):
        StackedPool({**tiny_pool.member_folders, "odd": tmp_path})


def test_a_pickle_checkpoint_is_not_read(tmp_path: Path) -> None:
    new_model(ModelShape(hidden_size=16, attention_heads=2), 384, initial_seed=0).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(PoolError, match="only safetensors checkpoints are read"):
        StackedPool({"a": tmp_path})


def test_weights_are_merged_as_given_to_many_digits(tiny_pool: Pool, tiny_stack: StackedPool) -> None:
    tiny_stack.merge(np.array([1 / 3, 1 / 3, 1 / 3]))
    thirds = tiny_stack.flat.clone()
    tiny_stack.merge(Mixture.uniform(tiny_pool.names).array)
    assert np.allclose(thirds.cpu().numpy(), tiny_stack.flat.cpu().numpy(), rtol=1e-6)


def test_released_members_come_back_as_they_were(tiny_pool: Pool) -> None:
    stacked, weights = StackedPool(tiny_pool.member_folders, device="cpu"), np.array([0.5, 0.2, 0.3])
    stacked.merge(weights)
    merged = stacked.flat.clone()
    gradient = torch.linspace(-1, 1, len(merged))
    stacked.flat_gradient().copy_(gradient)
    slopes = stacked.weight_gradient()
    stacked.release()
    assert stacked._members is None and all(one.grad is None for one in stacked.model.parameters())
    assert torch.equal(stacked.flat, merged), "the resident model stays"
    stacked.flat_gradient().copy_(gradient)
    assert np.array_equal(stacked.weight_gradient(), slopes) and torch.equal(stacked.flat, merged)
    stacked.release()
    stacked.merge(weights)
    assert torch.equal(stacked.flat, merged)


def live_bytes() -> int:
    """Count the bytes of all tensors that live in this process, shared ones once."""
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # gc holds deprecated objects of other libraries
        tensors = [one for one in gc.get_objects() if isinstance(one, torch.Tensor)]
    return sum({one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in tensors}.values())


def test_a_training_beside_a_pool_has_the_memory_of_a_training_alone(tiny_pool: Pool) -> None:
    before, weights = live_bytes(), np.array([0.5, 0.2, 0.3])
    stacked = StackedPool(tiny_pool.member_folders, device="cpu")
    stacked.merge(weights)
    stacked.flat_gradient()
    merged, held = stacked.flat.clone(), live_bytes() - before
    one_model = stacked.flat.nbytes
    assert held > 5 * one_model, "three members, the resident model, its gradient"
    make_room(stacked)
    assert live_bytes() - before - merged.nbytes < 0.1 * one_model
    stacked.load(tiny_pool.folder / "seed", "the seed")
    assert torch.equal(next(stacked.model.parameters()), next(load_model(tiny_pool.folder / "seed").parameters()))
    make_room(stacked)
    stacked.merge(weights)
    assert torch.equal(stacked.flat, merged)
    assert stacked.model(torch.zeros(1, 4, dtype=torch.long)).logits.isfinite().all()


def test_members_that_no_merge_needs_stay_on_disk(tiny_pool: Pool) -> None:
    at_once = StackedPool(tiny_pool.member_folders, device="cpu")
    later = StackedPool(tiny_pool.member_folders, device="cpu", at_once=False)
    later.load(tiny_pool.folder / "seed", "the seed")
    assert later._members is None
    seed = parameters_of(load_model(tiny_pool.folder / "seed"))
    assert all(torch.equal(one, seed[name]) for name, one in later.model.named_parameters())
    for one in (at_once, later):
        one.merge(np.array([0.5, 0.2, 0.3]))
    assert torch.equal(later.flat, at_once.flat) and later.choice.place == "resident"


def test_members_leave_for_a_training_and_are_not_loaded_to_leave(tiny_pool: Pool) -> None:
    stacked = StackedPool(tiny_pool.member_folders, device="cpu")
    there: list[StackedPool] = []
    members = Unloaded(
        stacked.names, stacked.holding, lambda: pytest.fail("loaded"), lambda: there[0] if there else None
    )
    make_room(members)
    there.append(stacked)
    make_room(members)
    assert stacked._members is None


def test_members_that_stay_in_the_host_s_memory_merge_after_a_training(tiny_pool: Pool) -> None:
    stacked, weights = StackedPool(tiny_pool.member_folders, device="cpu"), np.array([0.5, 0.2, 0.3])
    stacked.merge(weights)
    merged, (members,) = stacked.flat.clone(), stacked._held_members
    members.device_nbytes = 0  # as streamed to a GPU
    make_room(stacked)
    assert stacked._members == (members,) and not stacked.flat.numel()
    stacked.merge(weights)
    assert torch.equal(stacked.flat, merged)
    assert next(stacked.model.parameters()).numel()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_released_members_leave_the_gpu(tiny_pool: Pool) -> None:
    stacked = StackedPool(tiny_pool.member_folders, device="cuda")
    stacked.merge(np.full(3, 1 / 3))
    held, merged = torch.cuda.memory_allocated(), stacked.flat.clone()
    size = stacked.members.device_nbytes
    make_room(stacked)
    assert torch.cuda.memory_allocated() <= held - size + merged.nbytes
    stacked.merge(np.full(3, 1 / 3))
    assert torch.equal(stacked.flat, merged)


FORMS = [Holding(), Holding(stored="bfloat16"), Holding(stored="int8"), Holding(keep_share=0.5)]
"""Also as their seed and some arrays are small, which lie on the device."""


@pytest.fixture
def beside(tiny_pool: Pool, tmp_path: Path) -> Path:
    """A folder with the seed, for packed members."""
    (tmp_path / "seed").symlink_to(tiny_pool.folder / "seed")
    return tmp_path


@pytest.mark.parametrize("holding", FORMS, ids=str)
def test_members_of_a_file_read_ahead_merge_with_the_same_bits(holding: Holding, tiny_pool: Pool, beside: Path) -> None:
    cpu, weights = torch.device("cpu"), np.array([0.2, 0.3, 0.5])
    stacked = StackedPool(
        tiny_pool.member_folders, device="cpu", holding=replace(holding, held="mapped"), folder=beside
    )
    stacked.merge(weights)
    merged, form = stacked.flat.clone(), stacked._form()
    there = mapped(form.shapes(), lambda: pytest.fail("packed before"), cpu, stacked._packed_folder(form))
    ahead = {name: array if array.whole() is not None else ReadAhead(array, cpu) for name, array in there.items()}
    again = torch.zeros_like(merged)
    form.held(ahead)[0].sum(weights, again)
    assert torch.equal(again, merged)


@pytest.mark.parametrize("holding", FORMS, ids=str)
def test_shared_members_are_encoded_once_and_merge_with_the_same_bits(
    holding: Holding, tiny_pool: Pool, beside: Path
) -> None:
    weights = np.array([0.2, 0.3, 0.5])
    stacked = StackedPool(tiny_pool.member_folders, device="cpu", holding=holding, folder=beside)
    stacked.merge(weights)
    merged, form, name = stacked.flat.clone(), stacked._form(), f"test-{os.getpid()}-{holding.stored}"
    first = shared(name, form.shapes(), lambda: form.encode(stacked._each()), form.places())
    second = shared(name, form.shapes(), lambda: pytest.fail("encoded again"), form.places())
    for arrays in (first, second):
        again = torch.zeros_like(merged)
        form.held(arrays)[0].sum(weights, again)
        assert torch.equal(again, merged)


def test_members_that_another_process_streams_take_no_more_of_the_host(
    tiny_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stacked = StackedPool(tiny_pool.member_folders, device="cpu", folder=tiny_pool.folder)
    stacked.shards[0].device, model = torch.device("cuda"), stacked.flat.nbytes
    monkeypatch.setattr(holding_module, "free_memory", lambda device: Free(host=4 * model, device=model))
    monkeypatch.setattr(SharedPages, "exist", lambda name: name == "there")
    found = [stacked._choice([10 * model], pages).place for pages in (None, "not there", "there")]
    assert found == ["mapped", "mapped", "streamed"]


def test_processes_hold_members_on_a_gpu_in_turn_and_say_what_they_hold(
    tiny_pool: Pool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stacked, turns = StackedPool(tiny_pool.member_folders, device="cpu", folder=tiny_pool.folder), []

    @contextmanager
    def turn(what: str) -> Iterator[None]:
        turns.append(what)
        yield
        turns.append("over")

    def held() -> object:
        turns.append("looks at free memory")
        return stacked.choice, (SimpleNamespace(nbytes=5_000_000_000, device_nbytes=4_000_000_000),)

    stacked.shards[0].device = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="a1", name="H200"))
    monkeypatch.setattr(holding_module, "free_memory", lambda device: Free(host=9e9, device=1e9))
    monkeypatch.setattr(holding_module, "one_at_a_time", turn)
    monkeypatch.setattr(stacked, "_held", held)
    stacked._held_in_turn()
    assert turns == ["gpu-a1", "looks at free memory", "over"]
    line = "members are resident: 4.00 GB of H200, 1.00 GB left, and 1.00 GB of the host's memory, 9.00 GB left"
    assert line in capsys.readouterr().err


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("holding", FORMS, ids=str)
@pytest.mark.parametrize("held", ["streamed", "mapped"])
def test_a_gpu_reads_members_of_the_host_and_of_files(
    held: str, holding: Holding, tiny_pool: Pool, beside: Path
) -> None:
    here, there = (
        StackedPool(tiny_pool.member_folders, device=device, holding=replace(holding, held=held), folder=beside)
        for device in ("cpu", "cuda")
    )
    for stacked in (here, there):
        stacked.merge(np.array([0.2, 0.3, 0.5]))
    torch.testing.assert_close(there.flat.cpu(), here.flat, atol=2e-6, rtol=0)
