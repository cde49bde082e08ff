"""A model cut over devices: the same losses in every bit, the same gradients, and clear refusals."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from objectives.losses.merged_loss import MergedLoss, ProxySettings
from objectives.merging import merge as merge_module
from objectives.merging.members import holding as holding_module
from objectives.merging.members.holding import Choice, Free, Holding, choose_for_all
from objectives.merging.merge import AS_TRAINED, StackedPool
from objectives.merging.rules import make_rule
from objectives.merging.shards import connect, cut, devices_of, sharded
from objectives.target import Goal
from pool.checkpoints.checkpoint import load_model, new_model, parameters_of
from pool.checkpoints.forward import head_is_plain, recomputing, target_nats, whole_target_nats, without_masks
from pool.config.recipe import Family, ModelShape
from pool.engines.devices import ReadAhead
from pool.errors import ConfigError
from pool.mixture import Mixture
from pool.parts.store import Pool

GOAL = Goal.of({"licences": 0.6, "prose": 0.4})
HOLDINGS = [
    Holding(),
    Holding("mapped"),
    Holding("streamed", "bfloat16"),
    Holding("mapped", "int8"),
    Holding("resident", "int8", 0.5),
    Holding("streamed", keep_share=0.5),
]


@pytest.fixture
def beside(tiny_pool: Pool, tmp_path: Path) -> Path:
    """A folder with the seed, for packed members."""
    (tmp_path / "seed").symlink_to(tiny_pool.folder / "seed")
    return tmp_path


def _both(pool: Pool, beside: Path, holding: Holding = AS_TRAINED) -> list[StackedPool]:
    """Stack a pool on one device and on two, which are both the CPU."""
    return [
        StackedPool(pool.member_folders, device="cpu", folder=beside, holding=replace(holding, devices=count))
        for count in (1, 2)
    ]


@pytest.mark.parametrize("holding", HOLDINGS, ids=str)
def test_two_shards_give_the_losses_and_gradients_of_one(holding: Holding, tiny_pool: Pool, beside: Path) -> None:
    some = [Mixture.from_array(tiny_pool.names, np.array(row)) for row in ((0.2, 0.3, 0.5), (0.0, 0.9, 0.1))]
    found, parameters, slopes = [], [], []
    for stacked in _both(tiny_pool, beside, holding):
        loss = MergedLoss(tiny_pool, stacked, GOAL, "search")
        values = [loss(some[0]).domains, *(one.domains for one in loss.each(some))]
        sloped = loss.gradient(some[0])
        found.append([loss.digest, values, sloped.domains])
        parameters.append({name: one.grad for name, one in stacked.model.named_parameters()})
        slopes.append(sloped.gradient)
    assert len(stacked.shards) == 2 and all(flat.numel() for flat in stacked.flats)
    assert found[0] == found[1]
    assert all(torch.equal(parameters[0][name], parameters[1][name]) for name in parameters[0])
    assert slopes[0] == pytest.approx(slopes[1], rel=1e-4, abs=1e-6), "inner products are added by shard"


@pytest.mark.parametrize("rule", ["power", "common-specific"])
def test_shards_merge_by_every_rule(rule: str, tiny_pool: Pool, beside: Path) -> None:
    settings = ProxySettings(make_rule(rule, 0.5))
    mixture = Mixture.from_array(tiny_pool.names, np.array([0.1, 0.3, 0.6]))
    losses = [
        MergedLoss(tiny_pool, stacked, GOAL, "search", settings=settings)(mixture).value
        for stacked in _both(tiny_pool, beside)
    ]
    assert losses[0] == losses[1]


def test_means_of_members_and_released_members_are_the_same_in_shards(tiny_pool: Pool) -> None:
    code, docs, prose = tiny_pool.member_folders.values()
    merged = []
    for count in (1, 2):
        stacked = StackedPool({"text": (docs, prose), "code": code}, device="cpu", holding=Holding(devices=count))
        _ = stacked.gradients()
        stacked.release()
        assert stacked._members is None and all(one.grad is None for one in stacked.model.parameters())
        stacked.release(resident=True)
        assert not any(flat.numel() for flat in stacked.flats)
        stacked.merge(np.array([0.7, 0.3]))
        merged.append(parameters_of(stacked.model))
    assert all(torch.equal(merged[0][name], merged[1][name]) for name in merged[0])


def test_a_merge_of_shards_writes_into_the_model_and_copies_nothing(tiny_pool: Pool, beside: Path) -> None:
    stacked = _both(tiny_pool, beside)[1]
    places = [parameter.data_ptr() for parameter in stacked.model.parameters()]
    stacked.merge(np.array([0.7, 0.2, 0.1]))
    assert [parameter.data_ptr() for parameter in stacked.model.parameters()] == places
    owners = [
        {shard.flat.untyped_storage().data_ptr() for shard in stacked.shards} & {one.untyped_storage().data_ptr()}
        for one in stacked.model.parameters()
    ]
    assert all(owners)


def _model(family: Family = "llama", layers: int = 4, *, tied: bool = True):
    shape = ModelShape(family=family, hidden_size=32, attention_heads=2, layers=layers, tie_embeddings=tied, context=16)
    return new_model(shape, 300, initial_seed=0)


def test_layers_are_cut_in_order_and_evenly_and_a_tied_head_stays_with_its_embedding() -> None:
    tied, own = (cut(_model(tied=tied), 3) for tied in (True, False))
    for places in (tied, own):
        layers = [places[f"model.layers.{number}"] for number in range(4)]
        assert layers == sorted(layers) and set(places.values()) == {0, 1, 2}
        assert places["model.embed_tokens"] == 0 and places["model.rotary_emb"] == 0
    assert tied["lm_head"] == 0 and own["lm_head"] == 2
    sizes = [shard.layout.size for shard in sharded(_model("gpt2"), devices_of(2, "cpu"), torch.float32)]
    assert max(sizes) < 0.75 * sum(sizes)


@pytest.mark.parametrize(("family", "tied"), [("llama", True), ("llama", False), ("gpt2", True), ("olmo2", False)])
def test_passes_over_two_devices_mix_nothing(family: Family, tied: bool) -> None:
    """Fake tensors refuse an operation on two devices: here two CPUs, as PyTorch without CUDA computes for no GPU."""
    first, second = gpus = [torch.device("cpu"), torch.device("cpu", 1)]
    with FakeTensorMode():
        model = _model(family, tied=tied)
        places = {name: gpus[number] for name, number in cut(model, 2).items()}
        _move(model, places)
        connect(model, places)
        inputs, positions, targets = (
            torch.zeros(shape, dtype=torch.int64, device=first) for shape in ((2, 16), (20,), (20,))
        )
        with without_masks(model, True):
            for nats_of in (target_nats, whole_target_nats):
                for again in (False, True):
                    with recomputing(model, again):
                        nats = nats_of(model, inputs, positions, targets)
                        nats.sum().backward()
                    assert nats.device == first
            with pytest.raises(Exception, match=r"aten\.allclose"):
                head_is_plain(model, inputs)  # fake values are not compared
        with pytest.raises(RuntimeError, match="on the same device"):
            _ = inputs + inputs.to(second)
    devices = {parameter.device for parameter in model.parameters()}
    assert devices == {first, second} and all(one.grad.device == one.device for one in model.parameters())


def _move(model: torch.nn.Module, places: dict[str, torch.device]) -> None:
    moved: dict[torch.Tensor, torch.nn.Parameter] = {}
    for name, device in places.items():
        for part in model.get_submodule(name).modules():
            for key, one in part._parameters.items():
                if one is not None:
                    moved.setdefault(one, torch.nn.Parameter(torch.empty(one.shape, device=device)))
                    part._parameters[key] = moved[one]
            for key, buffer in part._buffers.items():
                part._buffers[key] = None if buffer is None else buffer.to(device)


def test_what_cannot_be_cut_is_refused_with_the_way_out(
    tiny_pool: Pool, beside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="LlamaForCausalLM has 2 layers here, and each device takes one at least"):
        StackedPool(tiny_pool.member_folders, device="cpu", holding=Holding(devices=3))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(merge_module, "load_model", lambda *_, **__: pytest.fail("refused before a model is read"))
    with pytest.raises(ConfigError, match="over 2 GPUs, and this process sees 1: lower it, or show more .*--num-gpus"):
        StackedPool(tiny_pool.member_folders, device="cuda", holding=Holding(devices=2))
    monkeypatch.undo()
    model = load_model(tiny_pool.folder / "seed")
    model._no_split_modules = None
    with pytest.raises(ConfigError, match=r"does not say which of its modules are layers .*\n*set \[objective\] dev"):
        cut(model, 2)
    with pytest.raises(ValueError, match="on one device at least: got 0"):
        Holding(devices=0)
    stacked = _both(tiny_pool, beside)[1]
    for ask in ("flat", "members", "stack"):
        with pytest.raises(ConfigError, match=r"whole models on one device: set \[objective\] devices = 1"):
            getattr(stacked, ask)


def test_every_gpu_must_have_room_for_its_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus, room = [torch.device("cuda", number) for number in range(2)], {"host": 90.0}
    monkeypatch.setattr(holding_module, "free_memory", lambda one: Free(room["host"], room.get(str(one), 90)))

    def choice(*devices: torch.device, host: float = 90, paid: float = 0, **free: float) -> Choice:
        room.update({"host": host}, **{name.replace("cuda", "cuda:"): left for name, left in free.items()})
        return choose_for_all([40, 20], [4, 2], devices, paid)

    assert choice(*gpus, host=0, cuda0=66, cuda1=34).place == "resident"
    assert choice(*gpus, host=90, cuda0=66, cuda1=20).place == "streamed"
    assert choice(*gpus, host=60, cuda0=60, cuda1=34).place == "mapped"
    assert choice(*gpus, host=30, cuda0=60, cuda1=34, paid=60).place == "streamed"
    assert "too much for GPU 1" in choice(*gpus, host=0, cuda0=66, cuda1=20).why
    assert choice(*[torch.device("cpu")] * 2).place == "mapped", "shards on one device need room together"


def test_shards_wait_for_all_their_gpus_and_say_what_each_holds(
    tiny_pool: Pool, beside: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stacked, turns = _both(tiny_pool, beside)[1], []

    @contextmanager
    def turn(what: str) -> Iterator[None]:
        turns.append(what)
        yield

    for number, shard in enumerate(stacked.shards):
        shard.device = torch.device("cuda", number)
    of = {device: SimpleNamespace(uuid=f"b{9 - device.index}", name=f"H{device.index}") for device in stacked._devices}
    monkeypatch.setattr(torch.cuda, "get_device_properties", of.get)
    monkeypatch.setattr(holding_module, "free_memory", lambda device: Free(host=9e9, device=1e9 * (1 + device.index)))
    monkeypatch.setattr(holding_module, "one_at_a_time", turn)
    held = tuple(SimpleNamespace(nbytes=5e9, device_nbytes=4e9 - 1e9 * number) for number in range(2))
    monkeypatch.setattr(stacked, "_held", lambda: (stacked.choice, held))
    stacked._held_in_turn()
    assert turns == ["gpu-b8", "gpu-b9"], "in the same order in every process"
    line = "4.00 GB of H0, 1.00 GB left, 3.00 GB of H1, 2.00 GB left, and 3.00 GB of the host's memory, 9.00 GB left"
    assert line in capsys.readouterr().err


def test_a_buffer_waits_for_the_gpu_that_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded, copied = [], torch.Tensor.to
    monkeypatch.setattr(torch.cuda, "Event", lambda: SimpleNamespace(record=recorded.append, synchronize=list))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    monkeypatch.setattr(torch, "empty", lambda size, dtype, pin_memory: torch.zeros(size, dtype=dtype))
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, _, **options: copied(tensor, "cpu", copy=True))
    there = SimpleNamespace(row=lambda number, part: torch.arange(6.0)[part])
    for number in range(2):
        read = ReadAhead(there, torch.device("cuda", number)).row(0, slice(2, 4))
        assert read.tolist() == [2, 3]
    assert recorded == ["stream of cuda:0", "stream of cuda:1"]


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
@pytest.mark.parametrize("holding", HOLDINGS, ids=str)
def test_two_gpus_give_the_losses_of_one(holding: Holding, tiny_pool: Pool, beside: Path) -> None:
    mixture = Mixture.from_array(tiny_pool.names, np.array([0.2, 0.3, 0.5]))
    found = []
    for count in (1, 2):
        asked = replace(holding, devices=count)
        stacked = StackedPool(tiny_pool.member_folders, device="cuda", folder=beside, holding=asked)
        loss = MergedLoss(tiny_pool, stacked, GOAL, "search")
        found.append((loss(mixture).value, loss.gradient(mixture).gradient))
    assert {flat.device.index for flat in stacked.flats} == {0, 1}
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-6)
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-3, abs=1e-5)
