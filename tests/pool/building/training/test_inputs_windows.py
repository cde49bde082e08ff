"""Promises of the data order: exact shares, the same windows whatever else is in the mixture."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pool.building.training import inputs
from pool.building.training.inputs import HeldOutText, held_out_text, training_windows
from pool.checkpoints.checkpoint import load_model
from pool.checkpoints.forward import without_masks
from pool.config.recipe import Recipe
from pool.mixture import Mixture, apportion
from pool.parts.store import Pool

CONTEXT = 4
STREAMS = {
    "a": np.arange(0, 400, dtype=np.int32),
    "b": np.arange(1000, 1400, dtype=np.int32),
    "c": np.arange(2000, 2020, dtype=np.int32),
}


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20).filter(lambda w: sum(w) > 0.01), st.integers(0, 5000))
def test_apportioned_counts_sum_to_the_total_and_are_within_one_of_the_share(weights: list[float], n: int) -> None:
    shares = np.array(weights) / sum(weights)
    counts = apportion(shares, n)
    assert counts.sum() == n
    assert np.all(np.abs(counts - shares * n) <= 1 + 1e-6)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(any), st.integers(1, 10**12))
def test_tokens_are_spread_to_the_last_one_and_each_partition_gets_its_share(parts: list[int], total: int) -> None:
    weights = np.array(parts) / sum(parts)
    counts = apportion(weights, total)
    assert counts.sum() == total
    assert np.all(np.abs(counts - weights * total) < 1 + 1e-9 * total)
    assert np.all(counts[weights == 0] == 0)


def _windows(weights: dict[str, float], recipe: Recipe) -> np.ndarray:
    windows = training_windows(STREAMS, Mixture.of(weights), recipe, CONTEXT)
    return np.stack([windows[number] for number in range(len(windows))])


def test_windows_come_in_the_mixture_s_proportions_and_never_cross_partitions() -> None:
    recipe = Recipe(tokens=40 * CONTEXT, batch_windows=4)
    windows = _windows({"a": 0.75, "b": 0.25, "c": 0.0}, recipe)
    assert windows.shape == (40, CONTEXT)
    assert (windows[:, 0] < 1000).sum() == 30
    assert np.all(np.diff(windows, axis=1) == 1)


def test_a_partition_gives_the_same_windows_in_any_mixture() -> None:
    recipe = Recipe(tokens=20 * CONTEXT, batch_windows=4)
    alone = {tuple(row) for row in _windows({"a": 1.0, "b": 0.0, "c": 0.0}, recipe)}
    mixed = {tuple(row) for row in _windows({"a": 0.5, "b": 0.5, "c": 0.0}, recipe) if row[0] < 1000}
    assert mixed < alone


def test_a_run_needs_the_text_of_no_partition_without_weight() -> None:
    recipe, mixture = Recipe(tokens=20 * CONTEXT, batch_windows=4), Mixture.of({"a": 0.0, "b": 1.0, "c": 0.0})
    windows = training_windows({"b": STREAMS["b"]}, mixture, recipe, CONTEXT)
    assert np.array_equal(np.stack([windows[n] for n in range(20)]), _windows(mixture.as_dict(), recipe))


def test_a_used_up_partition_is_repeated_whole_before_any_window_comes_a_third_time() -> None:
    recipe = Recipe(tokens=12 * CONTEXT, batch_windows=4)
    starts = _windows({"a": 0.0, "b": 0.0, "c": 1.0}, recipe)[:, 0]
    counts = np.unique(starts, return_counts=True)[1]
    assert len(counts) == 5
    assert set(counts) <= {2, 3}


def test_the_order_is_a_function_of_its_seed() -> None:
    weights = {"a": 0.5, "b": 0.5, "c": 0.0}
    one = _windows(weights, Recipe(tokens=160, batch_windows=4, order_seed=1))
    assert np.array_equal(one, _windows(weights, Recipe(tokens=160, batch_windows=4, order_seed=1)))
    assert not np.array_equal(one, _windows(weights, Recipe(tokens=160, batch_windows=4, order_seed=2)))


def test_repeats_of_a_shifted_partition_are_other_windows_and_the_first_pass_is_the_same() -> None:
    recipe = Recipe(tokens=50 * CONTEXT, batch_windows=5)
    shifted = recipe.model_copy(update={"window_offset": True})
    plain_starts, starts = (_windows({"a": 0.0, "b": 0.0, "c": 1.0}, one)[:, 0] - 2000 for one in (recipe, shifted))
    assert set(plain_starts % CONTEXT) == {0} and len(set(starts % CONTEXT)) > 1
    assert set(plain_starts) <= set(starts), "the first pass is unshifted"
    assert starts.max() + CONTEXT <= 20
    once = recipe.model_copy(update={"tokens": 40 * CONTEXT})
    both = [
        _windows({"a": 1.0, "b": 0.0, "c": 0.0}, one) for one in (once, once.model_copy(update={"window_offset": True}))
    ]
    assert np.array_equal(*both), "what is not repeated is not shifted"


def test_blended_mixtures_read_the_share_asked_for() -> None:
    blended = Mixture.of({"a": 1.0, "b": 0.0}).blended(Mixture.of({"b": 0.5, "c": 0.5}), 0.25)
    assert blended.as_dict() == {"a": 0.75, "b": 0.125, "c": 0.125}
    windows = _windows(blended.as_dict(), Recipe(tokens=40 * CONTEXT, batch_windows=4))
    assert (windows[:, 0] < 1000).sum() == 30 and (windows[:, 0] >= 2000).sum() == 5


def _text(pool: Pool) -> HeldOutText:
    return held_out_text(pool.folder / "corpus", pool.manifest.corpus, Mixture.uniform(pool.names))


class Waits(torch.utils._python_dispatch.TorchDispatchMode):
    """Counts how often a value is asked of the device."""

    count = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*arguments, **(options or {}))


def test_held_out_text_waits_once_a_domain_and_for_no_batch(tiny_pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    text, model = _text(tiny_pool), load_model(tiny_pool.folder / "seed")
    monkeypatch.setattr(inputs, "_TOKENS_AT_ONCE", 1)
    batches = sum(len(one.inputs) for one in text.windows.values())
    with Waits() as waits:
        text.loss_nats(model)
    assert waits.count == len(text.windows) + batches, "transformers looks for packed sequences in each batch"
    with Waits() as waits, without_masks(model, True):  # as on a GPU
        text.loss_nats(model)
    assert waits.count == len(text.windows) < batches


def test_the_head_alone_gives_the_nats_of_whole_logits(tiny_pool: Pool) -> None:
    text, model, wrapped = _text(tiny_pool), *(load_model(tiny_pool.folder / "seed") for _ in range(2))
    wrapped.forward = torch.autocast("cpu", torch.bfloat16)(wrapped.forward)
    for windows in text.windows.values():
        assert inputs._has_plain_head(model, windows)
        with torch.autocast("cpu", torch.bfloat16):
            assert inputs._has_plain_head(wrapped, windows), "training's mixed precision is no change of the head"
        with torch.no_grad():
            whole, few = (nats(model, windows.inputs, windows.targets).double().sum() for nats in BOTH)
        assert float(few) == pytest.approx(float(whole), rel=1e-6)


BOTH = (inputs._nats_of_logits, inputs._nats_by_head)


@pytest.mark.parametrize("is_full", [False, True])
def test_a_model_is_measured_by_a_gpu_with_room_and_comes_back(
    is_full: bool, tiny_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, model, places, whole = _text(tiny_pool), load_model(tiny_pool.folder / "seed"), [], HeldOutText.loss_nats
    here = text.loss_nats(model)

    def nats(self: HeldOutText, model: torch.nn.Module) -> float:
        if is_full and places[-1] == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(self, model)

    monkeypatch.setattr(torch.nn.Module, "to", lambda _, place: places.append(place))
    monkeypatch.setattr(HeldOutText, "loss_nats", nats)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert text.loss_nats_by_gpu(model) == here and places == ["cuda", "cpu"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_loss_on_held_out_text_of_the_cpu(tiny_pool: Pool) -> None:
    text, model = _text(tiny_pool), load_model(tiny_pool.folder / "seed")
    assert text.loss_nats_by_gpu(model) == pytest.approx(text.loss_nats(model), rel=1e-4)
    assert model.device.type == "cpu"
