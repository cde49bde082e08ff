"""What a model writes: its continuations of prompts, their likeness to each other, and their coherence with prompts.

Self-BLEU grows with length and number of texts: compare figures of equal `samples`, lengths and prompts only.
sacrebleu and torchmetrics are extras, imported at the first call.
"""

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from objectives.held_out import Floats
from pool.checkpoints.weights import most_positions
from pool.corpus.embeddings import Embedder, EmbeddingModel
from pool.errors import ConfigError
from pool.tokens.tokenizer import end_of_text

SAMPLES_AT_ONCE = 32
"""Texts generated together; fixed, since random numbers are drawn batch by batch."""

Prompt = str | Sequence[int]
Tokens = list[int]


@dataclass(frozen=True)
class Diversity:
    """The likeness of generated texts.

    self_bleu: in [0, 100], lower is more diverse
    distinct_2: share of different token pairs, in (0, 1] (Li et al. 2016, arXiv 1510.03055)
    tokens: generated tokens of all texts
    """

    self_bleu: float
    distinct_2: float
    samples: int
    tokens: int


def self_bleu_of(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[Prompt],
    *,
    samples: int,
    new_tokens: int,
    seed: int,
) -> Diversity:
    """Sample continuations at temperature 1, text i from prompt i modulo their number, and compare them.

    Every continuation has `new_tokens` tokens, without an end of text; an empty prompt begins a text. The global random
    state is restored. Raises `ValueError` for too few samples, tokens or prompts, or a prompt too long for the
    context, and `ConfigError` without sacrebleu.
    """
    if samples < 2 or new_tokens < 2 or not prompts:
        raise ValueError(
            f"diversity needs 2 samples of 2 new tokens or more, and a prompt: got {samples} samples of {new_tokens} "
            f"tokens and {len(prompts)} prompts"
        )
    _bleu()
    repeated = [prompts[i % len(prompts)] for i in range(samples)]
    written = continuations(model, tokenizer, repeated, new_tokens=new_tokens, seed=seed)
    texts = tokenizer.batch_decode(written, skip_special_tokens=True)
    return Diversity(self_bleu(texts), distinct_2(written), samples, sum(map(len, written)))


def continuations(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prompts: Sequence[Prompt], *, new_tokens: int, seed: int
) -> list[Tokens]:
    """Continue every prompt at temperature 1 by `new_tokens` tokens, without an end of text.

    The global random state is restored. Raises `ValueError` for a prompt too long for the context.
    """
    tokens = [_tokens(tokenizer, prompt) for prompt in prompts]
    _check_room(model, max(map(len, tokens)), new_tokens)
    cuda = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        return list(_continuations(model, tokenizer, tokens, new_tokens))


def self_bleu(texts: Sequence[str]) -> float:
    """Average the sentence BLEU of each text against all others as its references (Zhu et al. 2018, arXiv 1802.01886).

    In [0, 100]; n-grams of at most four words; a text without words has BLEU 0. Raises `ValueError` for fewer than two
    texts and `ConfigError` without sacrebleu.
    """
    if len(texts) < 2:
        raise ValueError(f"self-BLEU compares texts with each other: got {len(texts)}, expected 2 or more")
    bleu = _bleu()
    scores = [float(bleu.sentence_score(text, [*texts[:i], *texts[i + 1 :]]).score) for i, text in enumerate(texts)]
    return min(100.0, sum(scores) / len(scores))  # sacrebleu's 100 is a rounding above


def distinct_2(sequences: Sequence[Tokens]) -> float:
    """Return the share of different pairs among all pairs of neighbours. Raises `ValueError` without a pair."""
    pairs = [pair for tokens in sequences for pair in pairwise(tokens)]
    if not pairs:
        raise ValueError("distinct-2 counts pairs of tokens: expected a sequence of 2 tokens or more")
    return len(set(pairs)) / len(pairs)


def coherence(embedder: Embedder, prompts: Sequence[str], texts: Sequence[str]) -> Floats:
    """Return the cosine (N,) of each text with its prompt, in [-1, 1], by the vectors of a local encoder."""
    both = embedder.of([*prompts, *texts]).astype(np.float64)
    cosines: Floats = (both[: len(prompts)] * both[len(prompts) :]).sum(axis=1)
    return cosines


def bert_scores(encoder: EmbeddingModel, texts: Sequence[str], references: Sequence[str]) -> Floats:
    """Return BERTScore's F1 (N,) of texts and their references by torchmetrics (Zhang et al. 2020, arXiv 1904.09675).

    By the encoder's last hidden states, without weights of rare words. Raises `ConfigError` without torchmetrics.
    """
    try:
        library = importlib.import_module("torchmetrics.functional.text.bert")
    except ModuleNotFoundError as error:
        raise ConfigError(f"BERTScore needs torchmetrics ({error}); run `pip install 'mixscout[bertscore]'`") from None

    def batch(texts: Sequence[str], *_: object, **__: object) -> dict[str, torch.Tensor]:
        ids = [each.ids or [encoder.filler] for each in encoder.tokenizer.encode_batch_fast(list(texts))]
        longest = max(map(len, ids))
        rows = [[*row, *[encoder.filler] * (longest - len(row))] for row in ids]
        masks = [[1] * len(row) + [0] * (longest - len(row)) for row in ids]
        return {"input_ids": torch.tensor(rows), "attention_mask": torch.tensor(masks)}

    def states(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        device = model.device
        found: torch.Tensor = model(**{name: one.to(device) for name, one in inputs.items()}).last_hidden_state
        return found

    def score(text: str, reference: str) -> float:
        # A pair a call: of several, torchmetrics 1.9 sorts both lists by length and pairs the wrong ones.
        told = {
            "model": encoder.model,
            "user_tokenizer": batch,
            "user_forward_fn": states,
            "device": encoder.model.device,
        }
        return float(library.bert_score([text], [reference], **told)["f1"])

    return np.array([score(text, reference) for text, reference in zip(texts, references, strict=True)])


def _bleu() -> Any:
    try:
        metrics = importlib.import_module("sacrebleu")
    except ModuleNotFoundError as error:
        raise ConfigError(f"diversity needs sacrebleu ({error}); run `pip install 'mixscout[diversity]'`") from None
    return metrics.BLEU(effective_order=True)


def _tokens(tokenizer: PreTrainedTokenizerFast, prompt: Prompt) -> Tokens:
    tokens = tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt)
    return tokens or [end_of_text(tokenizer)]


def _check_room(model: PreTrainedModel, longest: int, new_tokens: int) -> None:
    context = most_positions(model.config)
    if context is not None and longest + new_tokens > context:
        raise ValueError(
            f"a prompt of {longest} tokens and {new_tokens} new ones do not fit into the model's context of {context}; "
            "shorten the prompts, or ask for fewer new tokens"
        )


def _continuations(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prompts: Sequence[Tokens], new_tokens: int
) -> Iterator[Tokens]:
    for start in range(0, len(prompts), SAMPLES_AT_ONCE):
        some = prompts[start : start + SAMPLES_AT_ONCE]
        longest = max(map(len, some))
        pad = end_of_text(tokenizer)
        inputs = torch.tensor([[pad] * (longest - len(row)) + row for row in some], device=model.device)
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in some], device=model.device)
        generated = model.generate(  # type: ignore[operator]
            inputs,
            attention_mask=mask,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            min_new_tokens=new_tokens,
            max_new_tokens=new_tokens,
            use_cache=True,
            pad_token_id=pad,
            eos_token_id=tokenizer.eos_token_id,
        )
        yield from generated[:, longest:].tolist()
