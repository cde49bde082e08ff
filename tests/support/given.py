"""Checkpoints as others make them, and the tiny pool's file with one of them as its seed."""

import re
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast


def name_seed(pool_file: Path, table: str) -> None:
    """Replace the tables of a seed that is trained by a table [seed], and train the members hardly at all."""
    text = pool_file.read_text()
    start, end = text.index("[tokenizer]"), text.index("[recipe]")
    text = f"{text[:start]}[seed]\n{table}\n\n{text[end:]}"
    pool_file.write_text(re.sub(r"tokens = 6_000", "tokens = 600", text))


def write_foreign(folder: Path, texts: list[str], *, tied: bool = True, dtype: torch.dtype = torch.float32) -> None:
    """Write a GPT-2 as on the hub: with dropout, and a tokenizer that trims offsets, cuts texts and fills them up."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=sorted(alphabet), special_tokens=["<end>"], show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    backend.enable_truncation(5)
    backend.enable_padding(length=7)
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>").save_pretrained(folder)
    config = GPT2Config(
        vocab_size=320, n_positions=64, n_embd=16, n_layer=2, n_head=2, tie_word_embeddings=tied, bos_token_id=None
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        GPT2LMHeadModel(config).to(dtype).save_pretrained(folder)
