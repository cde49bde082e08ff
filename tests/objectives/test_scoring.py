"""The loss is right: it equals a plain computation written separately, and bytes are those of the raw text."""

import math

import numpy as np
import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from objectives.held_out import HeldOutLoss
from objectives.merge import StackedPool
from objectives.merged_loss import MergedLoss
from objectives.rules import CommonSpecific, Identity, MergeRule, Power
from objectives.scoring import Scorer
from objectives.target import Target
from pool.checkpoint import load_model, load_tokenizer
from pool.config import CorpusConfig
from pool.errors import NonFiniteLossError
from pool.mixture import Mixture
from pool.store import Pool
from pool.tokens import held_out_windows

ALL = CorpusConfig(source="demo", held_out_tokens=10**6, held_out_document_tokens=10**6)
RULES = [Identity(), Power(0.5), Power(2.0), CommonSpecific(0.5), CommonSpecific(1.0)]
TEXTS = ["Grüße — 漢字 🙂 and plain words, " * 6, "short", "def f(x):\n\treturn x ** 2\n" * 9, "é"]


def _plain_nats(pool: Pool, texts: list[str], context: int) -> tuple[float, int]:
    """Score token by token, one forward pass a window, log-softmax by hand in float64."""
    model = load_model(pool.folder / "seed", dtype=torch.float64)
    tokenizer = load_tokenizer(pool.folder / "tokenizer")
    nats, count = 0.0, 0
    for text in texts:
        ids = [tokenizer.bos_token_id, *tokenizer.encode(text)]
        for start in range(0, len(ids) - 1, context):
            inputs = ids[start : start + context]
            with torch.no_grad():
                logits = model(torch.tensor([inputs[: len(ids) - 1 - start]])).logits[0]
            for position, row in enumerate(logits.numpy()):
                target = ids[start + position + 1]
                nats += math.log(np.exp(row - row.max()).sum()) + row.max() - row[target]
                count += 1
    return nats, count


def test_the_loss_equals_a_plain_computation_over_the_same_tokens(tiny_pool: Pool) -> None:
    tokenizer = load_tokenizer(tiny_pool.folder / "tokenizer")
    windows = held_out_windows("d", TEXTS, tokenizer, ALL, 32)
    model = load_model(tiny_pool.folder / "seed")
    loss = Scorer(model, {"d": windows}, Target({"d": 1.0})).score()["d"]
    nats, count = _plain_nats(tiny_pool, TEXTS, 32)
    assert loss.tokens == count
    assert loss.nats == pytest.approx(nats, rel=1e-6)
    raw_bytes = sum(len(text.encode()) for text in TEXTS)
    assert loss.bytes == raw_bytes > sum(map(len, TEXTS))
    assert loss.bits_per_byte == pytest.approx(nats / math.log(2) / raw_bytes, rel=1e-6)
    assert loss.perplexity == pytest.approx(math.exp(nats / count), rel=1e-6)


def test_the_loss_is_that_of_transformers_on_one_full_window(tiny_pool: Pool) -> None:
    tokenizer = load_tokenizer(tiny_pool.folder / "tokenizer")
    text = "The quick brown fox jumps over the lazy dog and the return statement leaves the function."
    ids = tokenizer.encode(text)[:31]
    model = load_model(tiny_pool.folder / "seed")
    windows = held_out_windows("d", [tokenizer.decode(ids)], tokenizer, ALL, 32)
    batch = torch.tensor([[tokenizer.bos_token_id, *ids]])
    with torch.no_grad():
        expected = model(batch, labels=batch).loss.item()
    assert Scorer(model, {"d": windows}, Target({"d": 1.0})).score()["d"].loss_nats == pytest.approx(expected, rel=1e-6)


def _norm_in_float64(self: LlamaRMSNorm, hidden: torch.Tensor) -> torch.Tensor:
    """What LlamaRMSNorm computes, without its detour through float32, which would drown the differences."""
    return self.weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_the_gradient_agrees_with_central_differences_in_float64(
    tiny_pool: Pool, rule: MergeRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LlamaRMSNorm, "forward", _norm_in_float64)
    target = Target({"licences": 0.6, "prose": 0.4})
    exact = StackedPool(tiny_pool.member_folders, dtype=torch.float64)
    objective = MergedLoss(tiny_pool, exact, target, "search", rule=rule)
    mixture = Mixture.of({"code": 0.3, "docs": 0.2, "prose": 0.5})
    gradient = np.array(objective.gradient(mixture).gradient)
    step = 1e-4
    for up, down in [(0, 1), (1, 2), (2, 0)]:
        moved = np.zeros(3)
        moved[up], moved[down] = step, -step
        above = objective(Mixture.from_array(mixture.names, mixture.array + moved)).value
        below = objective(Mixture.from_array(mixture.names, mixture.array - moved)).value
        assert gradient[up] - gradient[down] == pytest.approx((above - below) / (2 * step), rel=1e-4)


def test_the_float32_gradient_is_that_of_float64(tiny_pool: Pool, tiny_stack: StackedPool) -> None:
    target = Target({"licences": 1.0})
    mixture = Mixture.uniform(tiny_pool.names)
    exact = StackedPool(tiny_pool.member_folders, dtype=torch.float64)
    fine = MergedLoss(tiny_pool, exact, target, "search").gradient(mixture)
    coarse = MergedLoss(tiny_pool, tiny_stack, target, "search").gradient(mixture)
    assert coarse.value == pytest.approx(fine.value, rel=1e-6)
    assert np.allclose(coarse.gradient, fine.gradient, rtol=1e-3, atol=1e-5)


def test_search_and_test_split_are_different_text_under_different_digests(
    tiny_pool: Pool, tiny_stack: StackedPool
) -> None:
    target = Target({"prose": 1.0})
    search = MergedLoss(tiny_pool, tiny_stack, target, "search")
    test = MergedLoss(tiny_pool, tiny_stack, target, "test")
    assert search.digest != test.digest
    uniform = Mixture.uniform(tiny_pool.names)
    assert search(uniform).value != test(uniform).value


def test_a_target_domain_without_text_is_refused_by_name(tiny_pool: Pool, tiny_stack: StackedPool) -> None:
    with pytest.raises(ValueError, match="no held-out domain 'wiki'; there are code, docs, prose, licences"):
        MergedLoss(tiny_pool, tiny_stack, Target({"wiki": 1.0}), "search")


def test_a_loss_that_is_not_finite_is_an_error_that_names_the_domain(tiny_pool: Pool, tiny_stack: StackedPool) -> None:
    objective = MergedLoss(tiny_pool, tiny_stack, Target({"prose": 1.0}), "search")
    kept = tiny_stack.stack.clone()
    tiny_stack.stack[0, :] = float("inf")
    with pytest.raises(NonFiniteLossError, match="is not finite on held-out domain 'prose'"):
        objective(Mixture.vertex(tiny_pool.names, "code"))
    tiny_stack.stack.copy_(kept)


def _loss(nats: list[float], tokens: list[int]) -> HeldOutLoss:
    return HeldOutLoss.of_windows(np.array(nats), np.array(tokens), text_bytes=7)


def test_two_losses_add_as_if_scored_together() -> None:
    one, two = _loss([1.0, 4.0], [2, 3]), _loss([2.0], [1])
    assert one + two == HeldOutLoss.of_windows(np.array([1.0, 4, 2]), np.array([2, 3, 1]), text_bytes=14)
    assert (one + two).loss_nats == pytest.approx(7 / 6)


def test_the_standard_error_is_that_of_the_mean_for_equal_windows() -> None:
    rng = np.random.default_rng(0)
    nats = rng.normal(30, 4, size=50)
    loss = _loss(nats.tolist(), [10] * 50)
    assert loss.standard_error == pytest.approx(np.std(nats, ddof=1) / 10 / math.sqrt(50))
    assert _loss([3.0], [4]).standard_error == math.inf


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "at least one"),
        ({"a": 0.5, "b": 0.4}, "sum to 0.9"),
        ({"a": 1.0, "b": 0.0}, "'b' must be finite and above"),
    ],
)
def test_what_is_no_target_is_refused(weights: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Target(weights)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_losses_of_the_cpu(tiny_pool: Pool) -> None:
    target = Target({"licences": 0.6, "prose": 0.4})
    mixture = Mixture.uniform(tiny_pool.names)
    values = [
        MergedLoss(tiny_pool, StackedPool(tiny_pool.member_folders, device=device), target, "search")(mixture).value
        for device in ("cpu", "cuda")
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-4)
