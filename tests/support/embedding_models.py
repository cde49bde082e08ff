"""Tiny models that embed text, as others save them: encoders and a decoder, with tokenizers trained on the text.

Their parameters are random, until they are trained as sentence encoders are.
"""

from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModel,
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def write_bert(folder: Path, texts: Iterable[str]) -> None:
    """Write a BERT with a head of its own and no pooler, whose tokenizer adds [CLS] and [SEP]."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=1000, special_tokens=special, show_progress=False)
    )
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    config = BertConfig(vocab_size=1000, max_position_embeddings=64, pad_token_id=0, **SIZES)
    _write(folder, tokenizer, BertForMaskedLM, config)


def write_roberta(folder: Path, texts: Iterable[str]) -> None:
    """Write a RoBERTa, which counts positions by the padding token, from the row after it."""
    config = RobertaConfig(vocab_size=600, max_position_embeddings=514, pad_token_id=1, **SIZES)
    _write(folder, _byte_level(texts), RobertaModel, config)


def write_llama(folder: Path, texts: Iterable[str]) -> None:
    """Write a Llama as a seed checkpoint is one: a causal model without a padding token."""
    config = LlamaConfig(vocab_size=600, max_position_embeddings=64, **SIZES)
    _write(folder, _byte_level(texts), LlamaForCausalLM, config)


def train_encoder(folder: Path, texts: Iterable[str], *, steps: int = 60, crop: int = 24) -> None:
    """Train a model until two crops of one text are alike, and those of two texts are not."""
    tokenizer, random = Tokenizer.from_file(str(folder / "tokenizer.json")), torch.Generator().manual_seed(0)
    ids = [torch.tensor(each.ids) for each in tokenizer.encode_batch(list(texts)) if len(each.ids) >= 2 * crop]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModel.from_pretrained(folder).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        for _ in range(steps):
            some = [ids[at] for at in torch.randperm(len(ids), generator=random)[:24]]
            first, second = (_means(model, some, crop, random) for _ in range(2))
            torch.nn.functional.cross_entropy(20 * first @ second.T, torch.arange(len(some))).backward()
            optimizer.step()
            optimizer.zero_grad()
    model.save_pretrained(folder)


def _means(model: PreTrainedModel, texts: list[torch.Tensor], crop: int, random: torch.Generator) -> torch.Tensor:
    starts = [int(torch.randint(len(text) - crop + 1, (1,), generator=random)) for text in texts]
    crops = torch.stack([text[start : start + crop] for text, start in zip(texts, starts, strict=True)])
    return torch.nn.functional.normalize(model(input_ids=crops).last_hidden_state.mean(1))


def _byte_level(texts: Iterable[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<s>", "<pad>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _write(folder: Path, tokenizer: Tokenizer, kind: type[PreTrainedModel], config: object) -> None:
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        kind(config).save_pretrained(folder)
