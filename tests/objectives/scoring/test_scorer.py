"""The loss is right: it equals a plain computation written separately, and bytes are those of the raw text."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import GraniteConfig, GraniteForCausalLM, PreTrainedTokenizerFast
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from objectives.held_out import HeldOutLoss
from objectives.losses.merged_loss import MergedLoss, ProxySettings
from objectives.merging.merge import StackedPool
from objectives.merging.rules import CommonSpecific, Identity, MergeRule, Power
from objectives.scoring import scorer as scorer_module
from objectives.scoring.scorer import Scorer
from objectives.scoring.window_table import WindowTable
from objectives.target import Goal, Target
from pool.checkpoints import forward
from pool.checkpoints.checkpoint import load_model
from pool.config.pool_file import ScoredText
from pool.errors import NonFiniteLossError
from pool.mixture import Mixture
from pool.parts.store import Pool
from pool.tokens.held_out import IGNORED, HeldOutWindows, held_out_windows
from pool.tokens.tokenizer import load_tokenizer

ALL = ScoredText(10**6, 10**6)
RULES = [Identity(), Power(0.5), Power(2.0), CommonSpecific(0.5), CommonSpecific(1.0)]
TEXTS = ["Grüße — 漢字 🙂 and plain words, " * 6, "short", "def f(x):\n\treturn x ** 2\n" * 9, "é"]


def _table(tokenizer: PreTrainedTokenizerFast, texts: list[str], context: int = 32) -> WindowTable:
    return WindowTable.of({"d": held_out_windows("d", texts, tokenizer, ALL, context)}, ["d"])


def _plain_nats(pool: Pool, texts: list[str], context: int) -> tuple[float, int]:
    """Score token by token, one forward pass a window, log-softmax by hand in float64.

    The last window of a document longer than one reaches back until it is full.
    """
    model = load_model(pool.folder / "seed", dtype=torch.float64)
    tokenizer = load_tokenizer(pool.folder / "tokenizer")
    nats, count = 0.0, 0
    for text in texts:
        ids = [tokenizer.bos_token_id, *tokenizer.encode(text)]
        for start in range(0, len(ids) - 1, context):
            end = min(start + context, len(ids) - 1)
            first = max(0, end - context)
            with torch.no_grad():
                logits = model(torch.tensor([ids[first:end]])).logits[0]
            for position, row in list(enumerate(logits.numpy()))[start - first :]:
                target = ids[first + position + 1]
                nats += math.log(np.exp(row - row.max()).sum()) + row.max() - row[target]
                count += 1
    return nats, count


def test_the_loss_equals_a_plain_computation_over_the_same_tokens(tiny_pool: Pool) -> None:
    tokenizer = load_tokenizer(tiny_pool.folder / "tokenizer")
    table = _table(tokenizer, TEXTS)
    model = load_model(tiny_pool.folder / "seed")
    loss = table.losses(Scorer(model, table).score())["d"]
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
    table = _table(tokenizer, [tokenizer.decode(ids)])
    batch = torch.tensor([[tokenizer.bos_token_id, *ids]])
    with torch.no_grad():
        expected = model(batch, labels=batch).loss.item()
    assert table.losses(Scorer(model, table).score())["d"].loss_nats == pytest.approx(expected, rel=1e-6)


def _norm_in_float64(self: LlamaRMSNorm, hidden: torch.Tensor) -> torch.Tensor:
    """What LlamaRMSNorm computes, without its detour through float32, which would drown the differences."""
    return self.weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_the_gradient_agrees_with_central_differences_in_float64(
    tiny_pool: Pool, rule: MergeRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LlamaRMSNorm, "forward", _norm_in_float64)
    target = Goal.of({"licences": 0.6, "prose": 0.4})
    exact = StackedPool(tiny_pool.member_folders, dtype=torch.float64)
    objective = MergedLoss(tiny_pool, exact, target, "search", settings=ProxySettings(rule))
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
    target = Goal.of({"licences": 1.0})
    mixture = Mixture.uniform(tiny_pool.names)
    exact = StackedPool(tiny_pool.member_folders, dtype=torch.float64)
    fine = MergedLoss(tiny_pool, exact, target, "search").gradient(mixture)
    coarse = MergedLoss(tiny_pool, tiny_stack, target, "search").gradient(mixture)
    assert coarse.value == pytest.approx(fine.value, rel=1e-6)
    assert np.allclose(coarse.gradient, fine.gradient, rtol=1e-3, atol=1e-5)


def test_the_jacobian_s_rows_are_the_gradients_of_the_domains_and_it_comes_with_the_loss(
    tiny_pool: Pool, tiny_stack: StackedPool
) -> None:
    target = Goal.of({"licences": 0.6, "prose": 0.4}, measure="bits-per-byte")
    mixture = Mixture.of({"prose": 0.5, "code": 0.3, "docs": 0.2})
    both = MergedLoss(tiny_pool, tiny_stack, target, "search").gradient(mixture)
    assert both.jacobian is not None and both.gradient is not None
    for name in target.domains:
        alone = MergedLoss(tiny_pool, tiny_stack, Goal.of({name: 1.0}, measure="bits-per-byte"), "search")
        assert np.allclose(both.jacobian[name], alone.gradient(mixture).gradient, rtol=1e-5)
    rows = np.array([both.jacobian[name] for name in target.domains])
    assert np.allclose(both.gradient, [0.6, 0.4] @ rows, rtol=1e-6)


def test_the_gradient_of_the_worst_domain_is_that_domain_s(tiny_pool: Pool, tiny_stack: StackedPool) -> None:
    target = Goal.over(("licences", "prose"), "worst")
    evaluation = MergedLoss(tiny_pool, tiny_stack, target, "search").gradient(Mixture.uniform(tiny_pool.names))
    assert evaluation.jacobian is not None
    worst = max(evaluation.domains, key=lambda name: evaluation.domains[name].loss_nats)
    assert evaluation.value == evaluation.domains[worst].loss_nats
    assert evaluation.gradient == evaluation.jacobian[worst]


def test_recomputed_layers_give_the_same_gradient(
    tiny_pool: Pool, tiny_stack: StackedPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = MergedLoss(tiny_pool, tiny_stack, Goal.of({"prose": 1.0}), "search")
    kept = objective.gradient(Mixture.uniform(tiny_pool.names))
    calls = []
    monkeypatch.setattr("objectives.scoring.scorer.ACTIVATION_VALUES", 0)
    hook = tiny_stack.model.base_model.layers[0].self_attn.q_proj.register_forward_hook(lambda *_: calls.append(1))
    recomputed = objective.gradient(Mixture.uniform(tiny_pool.names))
    hook.remove()
    assert np.allclose(kept.gradient, recomputed.gradient, rtol=1e-5)
    assert recomputed.value == pytest.approx(kept.value, rel=1e-6)
    assert not any(module.training for module in tiny_stack.model.modules())
    assert not tiny_stack.model.is_activation_checkpointing
    assert len(calls) >= 2, "the first layer ran forward, and again for its gradient"


def test_fewer_tokens_a_pass_are_taken_before_layers_are_computed_again(tiny_pool: Pool, monkeypatch) -> None:
    table = _table(load_tokenizer(tiny_pool.folder / "tokenizer"), TEXTS)
    stacked = StackedPool(tiny_pool.member_folders, device="cpu")
    stacked.merge(np.full(3, 1 / 3))
    whole, few = (Scorer(stacked.model, table) for _ in range(2))
    expected = whole.score_with_jacobian(stacked.flat_gradient(), stacked.weight_gradient)
    room = int(table.lengths.max()) * whole._activations_of_a_token()
    monkeypatch.setattr(scorer_module, "ACTIVATION_VALUES", room)
    monkeypatch.setattr(scorer_module, "LIKE_LENGTHS", 0)
    monkeypatch.setattr(scorer_module, "recomputing", _only(False))
    found = few.score_with_jacobian(stacked.flat_gradient(), stacked.weight_gradient)
    assert sum(map(len, few._by_domain)) > sum(map(len, whole._by_domain))
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(scorer_module, "ACTIVATION_VALUES", room - 1)
    monkeypatch.setattr(scorer_module, "recomputing", _only(True))
    again = Scorer(stacked.model, table)
    again.score_with_jacobian(stacked.flat_gradient(), stacked.weight_gradient)
    assert sum(map(len, again._by_domain)) == sum(map(len, whole._by_domain)), "a window alone is too large"


def test_a_large_model_reads_little_padding(tiny_pool: Pool, monkeypatch) -> None:
    table = _table(
        load_tokenizer(tiny_pool.folder / "tokenizer"), [text[:size] for text in TEXTS for size in (9, 20, 60)]
    )
    stacked = StackedPool(tiny_pool.member_folders, device="cpu")
    stacked.merge(np.full(3, 1 / 3))
    small = Scorer(stacked.model, table)
    monkeypatch.setattr(scorer_module, "ACTIVATION_VALUES", 0)
    large = Scorer(stacked.model, table)
    read = [sum(batch.inputs.numel() for batch in one._segments[0]) for one in (small, large)]
    assert read[1] < read[0] and read[1] * scorer_module.LIKE_LENGTHS <= table.lengths.sum()
    np.testing.assert_allclose(large.score(), small.score(), rtol=1e-5)


def _only(wanted: bool) -> Callable[[torch.nn.Module, bool], AbstractContextManager[None]]:
    """Check what is asked of `recomputing`, and keep activations."""

    def checked(model: torch.nn.Module, again: bool) -> AbstractContextManager[None]:
        assert again == wanted
        return nullcontext()

    return checked


def test_a_head_in_parts_gives_the_whole_head_s_losses_and_gradients(
    tiny_pool: Pool, tiny_stack: StackedPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = MergedLoss(tiny_pool, tiny_stack, Goal.of({"prose": 1.0}), "search")
    whole = objective.gradient(Mixture.uniform(tiny_pool.names))
    monkeypatch.setattr("pool.checkpoints.forward.LOGITS_KEPT", 0)
    monkeypatch.setattr("pool.checkpoints.forward.FEWEST_POSITIONS", 7)
    monkeypatch.setattr("pool.checkpoints.forward.LOGITS_AT_ONCE", {"cpu": 1, "cuda": 1})
    parts = objective.gradient(Mixture.uniform(tiny_pool.names))
    assert parts.value == pytest.approx(whole.value, rel=1e-6)
    assert np.allclose(parts.gradient, whole.gradient, rtol=1e-4)


def test_logits_that_a_model_changes_after_its_head_are_taken_from_the_model(tiny_pool: Pool) -> None:
    config = GraniteConfig(
        vocab_size=384, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        intermediate_size=64, max_position_embeddings=32, logits_scaling=0.125, pad_token_id=None,
    )  # fmt: skip
    model = GraniteForCausalLM(config).eval()
    table = _table(load_tokenizer(tiny_pool.folder / "tokenizer"), [TEXTS[2]])
    with torch.no_grad():
        logits = model(torch.tensor(table.inputs)).logits.flatten(0, 1)
    targets = torch.tensor(table.targets, dtype=torch.int64).flatten()
    expected = torch.nn.functional.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")
    assert Scorer(model, table).score().sum() == pytest.approx(expected.item(), rel=1e-5)


def test_several_mixtures_merged_at_once_have_the_values_they_have_one_by_one(
    tiny_pool: Pool, tiny_stack: StackedPool
) -> None:
    objective = MergedLoss(tiny_pool, tiny_stack, Goal.of({"prose": 1.0}), "search")
    rng = np.random.default_rng(0)
    mixtures = [Mixture.from_array(tiny_pool.names, rng.dirichlet(np.ones(3))) for _ in range(11)]
    together = list(objective.each(mixtures))
    assert [one.mixture for one in together] == mixtures
    assert [one.value for one in together] == pytest.approx([objective(one).value for one in mixtures], rel=1e-6)


def test_bfloat16_is_close_to_float32_has_its_own_digest_and_leaves_the_merge_alone(
    tiny_pool: Pool, tiny_stack: StackedPool
) -> None:
    target, mixture = Goal.of({"prose": 1.0}), Mixture.uniform(tiny_pool.names)
    fine = MergedLoss(tiny_pool, tiny_stack, target, "search")
    coarse = MergedLoss(tiny_pool, tiny_stack, target, "search", settings=ProxySettings(precision="bfloat16"))
    assert coarse.digest != fine.digest
    assert coarse(mixture).value != fine(mixture).value
    assert coarse(mixture).value == pytest.approx(fine(mixture).value, rel=2e-3)
    assert np.allclose(coarse.gradient(mixture).gradient, fine.gradient(mixture).gradient, rtol=0.1, atol=0.01)
    assert tiny_stack.flat.dtype == torch.float32


def test_a_compiled_forward_pass_gives_the_same_losses_after_every_merge(
    tiny_pool: Pool, tiny_stack: StackedPool
) -> None:
    target = Goal.of({"prose": 1.0})
    plain = MergedLoss(tiny_pool, tiny_stack, target, "search")
    compiled = MergedLoss(tiny_pool, tiny_stack, target, "search", settings=ProxySettings(compiled=True))
    for mixture in (Mixture.uniform(tiny_pool.names), Mixture.vertex(tiny_pool.names, "code")):
        assert compiled(mixture).value == pytest.approx(plain(mixture).value, rel=1e-6)
    assert np.allclose(compiled.gradient(mixture).gradient, plain.gradient(mixture).gradient, rtol=1e-5)


def test_windows_longer_than_the_context_are_refused(tiny_pool: Pool) -> None:
    table = _table(load_tokenizer(tiny_pool.folder / "tokenizer"), TEXTS, context=48)
    with pytest.raises(ValueError, match="windows of 48 tokens are longer than the model's context 32"):
        Scorer(load_model(tiny_pool.folder / "seed"), table)


def test_an_empty_domain_is_refused_by_name(tiny_pool: Pool) -> None:
    none = np.full((2, 8), IGNORED, dtype=np.int32)
    empty = HeldOutWindows(np.zeros((2, 8), np.int32), none, np.arange(2, dtype=np.int32), np.zeros(2, np.int64), 0)
    with pytest.raises(ValueError, match="held-out domain 'silence' has no token to score"):
        WindowTable.of({"silence": empty}, ["silence"])


def test_search_and_test_split_are_different_text_under_different_digests(
    tiny_pool: Pool, tiny_stack: StackedPool
) -> None:
    target = Goal.of({"prose": 1.0})
    search = MergedLoss(tiny_pool, tiny_stack, target, "search")
    test = MergedLoss(tiny_pool, tiny_stack, target, "test")
    assert search.digest != test.digest
    uniform = Mixture.uniform(tiny_pool.names)
    assert search(uniform).value != test(uniform).value


def test_a_target_domain_without_text_is_refused_by_name(tiny_pool: Pool, tiny_stack: StackedPool) -> None:
    with pytest.raises(ValueError, match="no held-out domain 'wiki'; there are code, docs, prose, licences"):
        MergedLoss(tiny_pool, tiny_stack, Goal.of({"wiki": 1.0}), "search")


def test_a_loss_that_is_not_finite_is_an_error_that_names_the_domain(tiny_pool: Pool, tiny_stack: StackedPool) -> None:
    objective = MergedLoss(tiny_pool, tiny_stack, Goal.of({"prose": 1.0}), "search")
    kept = tiny_stack.stack.clone()
    tiny_stack.stack[0, :] = float("inf")
    with pytest.raises(NonFiniteLossError, match="is not finite on held-out domain 'prose'"):
        objective(Mixture.vertex(tiny_pool.names, "code"))
    tiny_stack.stack.copy_(kept)


def _loss(nats: list[float], tokens: list[int], documents: list[int] | None = None) -> HeldOutLoss:
    home = np.array(documents if documents is not None else range(len(nats)))
    counts = np.array(tokens)
    return HeldOutLoss.of_windows(np.array(nats), counts, 2 * counts, home, words=7)


def test_two_losses_add_as_if_scored_together() -> None:
    one, two = _loss([1.0, 4.0], [2, 3]), _loss([2.0], [1])
    together = _loss([1.0, 4, 2], [2, 3, 1])
    assert one + two == replace(together, words=14)
    assert (one + two).loss_nats == pytest.approx(7 / 6)


def test_the_figures_are_those_of_lm_evaluation_harness() -> None:
    loss = _loss([3.0, 4.0], [2, 3])
    assert loss.bits_per_byte == pytest.approx(7 / 10 / math.log(2))
    assert loss.byte_perplexity == pytest.approx(math.exp(7 / 10))
    assert loss.word_perplexity == pytest.approx(math.exp(7 / 7))


def test_the_standard_error_is_over_documents_because_their_windows_are_not_independent() -> None:
    apart = _loss([1.0, 2, 3, 6], [1, 1, 1, 1])
    same = _loss([1.0, 2, 3, 6], [1, 1, 1, 1], [0, 0, 1, 1])
    assert same.standard_error == pytest.approx(np.std([1.5, 4.5], ddof=1) / math.sqrt(2))
    assert same.standard_error != pytest.approx(apart.standard_error)
    assert _loss([1.0, 2], [1, 1], [0, 0]).standard_error == math.inf


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


def _batch_of(pool: Pool) -> scorer_module._Batch:
    scorer = Scorer(load_model(pool.folder / "seed"), _table(load_tokenizer(pool.folder / "tokenizer"), TEXTS))
    return scorer._segments[0][0]


def test_sums_through_a_grid_are_the_sums_by_index(tiny_pool: Pool) -> None:
    batch = _batch_of(tiny_pool)
    nats = torch.rand(len(batch.targets), dtype=torch.float64, requires_grad=True)
    by_index, by_grid = scorer_module._by_window(nats, batch), scorer_module._by_grid(nats, batch)
    torch.testing.assert_close(by_grid, by_index, rtol=1e-13, atol=0)
    upstream = torch.rand(len(by_index), dtype=torch.float64)
    slopes = [torch.autograd.grad(sums, nats, upstream)[0] for sums in (by_index, by_grid)]
    assert torch.equal(*slopes)


def test_a_gpu_adds_nothing_by_index(tiny_pool: Pool) -> None:
    batch = _batch_of(tiny_pool)
    with FakeTensorMode(), Operations() as operations:
        shapes = {"inputs": batch.inputs.shape, "positions": batch.positions.shape}
        parts = {name: torch.empty(shape, dtype=torch.int64, device="cuda") for name, shape in shapes.items()}
        nats = torch.empty(len(batch.targets), dtype=torch.float64, device="cuda")
        assert scorer_module._by_window(nats, replace(batch, **parts)).shape == (len(batch.rows),)
    assert not any("index_add" in name or "scatter" in name for name in operations.seen)


class SmallMemory:
    """Lets no forward pass of a model have more than `tokens` tokens, and counts the passes refused."""

    def __init__(self, model: torch.nn.Module, tokens: int) -> None:
        self.tokens, self.refused = tokens, 0
        model.base_model.register_forward_pre_hook(self, with_kwargs=True)

    def __call__(self, module: torch.nn.Module, arguments: object, options: dict[str, torch.Tensor]) -> None:
        if options["input_ids"].numel() > self.tokens:
            self.refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory")


def test_without_memory_fewer_tokens_are_scored_at_a_time(tiny_pool: Pool, capsys) -> None:
    stacked = StackedPool(tiny_pool.member_folders)
    stacked.merge(np.full(3, 1 / 3))
    table = _table(load_tokenizer(tiny_pool.folder / "tokenizer"), TEXTS)
    roomy = Scorer(stacked.model, table)
    nats, slopes = roomy.score_with_jacobian(stacked.flat_gradient(), stacked.weight_gradient)
    cramped, memory = Scorer(stacked.model, table), SmallMemory(stacked.model, 70)
    np.testing.assert_allclose(cramped.score(), nats, rtol=1e-5)
    assert memory.refused > 0 and "out of memory: held-out text is scored " in capsys.readouterr().err
    memory.refused = 0
    found, again = cramped.score_with_jacobian(stacked.flat_gradient(), stacked.weight_gradient)
    np.testing.assert_allclose(found, nats, rtol=1e-5)
    np.testing.assert_allclose(again, slopes, rtol=1e-4)
    assert memory.refused == 0, "what it has learned stays"
    memory.tokens = 20
    with pytest.raises(torch.OutOfMemoryError):
        cramped.score()


def test_activations_are_computed_again_only_where_a_gpu_lacks_room(tiny_pool: Pool, monkeypatch) -> None:
    taken = {"mem_get_info": (80e9, 140e9), "memory_reserved": 30e9, "memory_allocated": 20e9}
    for name, answer in taken.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, answer=answer: answer)
    assert scorer_module._room([torch.device("cuda")]) == scorer_module.ACTIVATION_SHARE * 90e9 / 4
    stacked = StackedPool(tiny_pool.member_folders)
    stacked.merge(np.full(3, 1 / 3))
    scorer = Scorer(stacked.model, _table(load_tokenizer(tiny_pool.folder / "tokenizer"), TEXTS))
    scorer.score_with_jacobian(stacked.flat_gradient(), stacked.weight_gradient)
    assert not scorer._recomputes
    assert scorer._spare(backward=True) and scorer._recomputes, "first layers are computed again"
    most = scorer._most_tokens
    assert scorer._spare(backward=True) and scorer._most_tokens < most, "then fewer tokens are taken"


class Operations(TorchDispatchMode):
    """Notes the names of all operations."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        self.seen.append(str(function))
        return function(*arguments, **(options or {}))


class Casts(TorchDispatchMode):
    """Counts the casts of parameters to bfloat16, by their shape."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.places = {parameter.data_ptr() for parameter in model.parameters()}
        self.count = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        cast = function is torch.ops.aten._to_copy.default and (options or {}).get("dtype") is torch.bfloat16
        self.count += cast and arguments[0].data_ptr() in self.places
        return function(*arguments, **(options or {}))


def test_each_weight_is_cast_once_a_segment_however_many_batches(tiny_pool: Pool, monkeypatch) -> None:
    monkeypatch.setitem(scorer_module.TOKENS_AT_ONCE, "cpu", 64)
    monkeypatch.setitem(forward.LOGITS_AT_ONCE, "cpu", 1)
    stacked = StackedPool(tiny_pool.member_folders)
    stacked.merge(np.full(3, 1 / 3))
    scorer = Scorer(stacked.model, _table(load_tokenizer(tiny_pool.folder / "tokenizer"), TEXTS), precision="bfloat16")
    assert len(scorer._segments[0]) > 2
    scorer.score()
    linear = sum(isinstance(module, torch.nn.Linear) for module in stacked.model.modules())
    with Casts(stacked.model) as casts:
        scorer.score()
    assert casts.count == linear


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_full_gpu_scores_fewer_tokens_at_a_time(tiny_pool: Pool, monkeypatch) -> None:
    stacked = StackedPool(tiny_pool.member_folders, device="cuda")
    stacked.merge(np.full(3, 1 / 3))
    table = _table(load_tokenizer(tiny_pool.folder / "tokenizer"), TEXTS * 200)
    nats = Scorer(stacked.model, table).score()
    torch.cuda.empty_cache()
    share = (torch.cuda.memory_allocated() + 2**26) / torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(share)
    monkeypatch.setitem(forward.LOGITS_AT_ONCE, "cuda", 2**27)
    try:
        cramped = Scorer(stacked.model, table)
        np.testing.assert_allclose(cramped.score(), nats, rtol=1e-4)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_tf32_is_around_the_passes_of_a_model_alone(tiny_pool: Pool, monkeypatch) -> None:
    set_to: list[str] = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", set_to.append)
    for device, precision in (("cpu", "tf32"), ("cuda", "float32"), ("cuda", "bfloat16")):
        with forward.rounding(torch.device(device), precision):
            pass
    assert set_to == []
    with forward.rounding(torch.device("cuda"), "tf32"):
        assert set_to == ["high"]
    assert set_to == ["high", "highest"]
    monkeypatch.undo()
    stacked, seen = StackedPool(tiny_pool.member_folders, device="cpu"), []
    monkeypatch.setattr(scorer_module, "rounding", lambda device, precision: _noting(seen, precision))
    scorer = Scorer(stacked.model, _table(load_tokenizer(tiny_pool.folder / "tokenizer"), TEXTS), precision="tf32")
    stacked.merge(np.full(3, 1 / 3))
    scorer.score_with_jacobian(stacked.flat_gradient(), lambda: seen.append("pull") or stacked.weight_gradient())
    assert seen == ["tf32", "over", "pull"], "the inner products with members are float32"


@contextmanager
def _noting(seen: list[str], precision: str) -> Iterator[None]:
    seen.append(precision)
    yield
    seen.append("over")


def test_tf32_is_part_of_the_digest_and_float32_on_a_cpu(tiny_pool: Pool, tiny_stack: StackedPool) -> None:
    goal, mixture = Goal.of({"prose": 1.0}), Mixture.uniform(tiny_pool.names)
    exact, rounded = (
        MergedLoss(tiny_pool, tiny_stack, goal, "search", settings=ProxySettings(precision=precision))
        for precision in ("float32", "tf32")
    )
    assert exact.digest != rounded.digest and exact(mixture).value == rounded(mixture).value


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("precision", "close"), [("tf32", 1e-3), ("bfloat16", 1e-2)])
def test_a_rounded_forward_pass_is_near_float32(precision: str, close: float, tiny_pool: Pool) -> None:
    stacked, goal = StackedPool(tiny_pool.member_folders, device="cuda"), Goal.of({"licences": 0.6, "prose": 0.4})
    exact, rounded = (
        MergedLoss(tiny_pool, stacked, goal, "search", settings=ProxySettings(precision=way))(
            Mixture.uniform(tiny_pool.names)
        ).value
        for way in ("float32", precision)
    )
    assert rounded == pytest.approx(exact, rel=close) and rounded != exact
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_repeats_its_losses_bit_for_bit(tiny_pool: Pool) -> None:
    goal, mixture = Goal.of({"licences": 0.6, "prose": 0.4}), Mixture.uniform(tiny_pool.names)
    loss = MergedLoss(tiny_pool, StackedPool(tiny_pool.member_folders, device="cuda"), goal, "search")
    assert len({loss(mixture).value for _ in range(5)}) == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("compiled", [False, True])
def test_a_gpu_gives_the_losses_of_the_cpu(compiled: bool, tiny_pool: Pool) -> None:
    target = Goal.of({"licences": 0.6, "prose": 0.4})
    mixture, settings = Mixture.uniform(tiny_pool.names), ProxySettings(compiled=compiled)
    values = [
        MergedLoss(tiny_pool, StackedPool(tiny_pool.member_folders, device=device), target, "search", settings=way)(
            mixture
        ).value
        for device, way in (("cpu", ProxySettings()), ("cuda", settings))
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-4)
