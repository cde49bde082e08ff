"""Promises about text that a tokenizer does not know, and text that spells special tokens, from build to check."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from given import name_seed
from tiny import edit
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pool.config.pool_file import PoolFile, ScoredText
from pool.parts.store import Pool
from pool.tokens.blank_tokens import special_within
from pool.tokens.held_out import held_out_windows
from pool.tokens.stream import StreamLimits, training_stream
from pool.tokens.tokenizer import end_of_text, load_tokenizer, plain

SPELT = ["one <|endoftext|> two <|endoftext|>", "<|endoftext|>three four five six seven eight nine ten"]


def test_text_that_spells_the_end_of_text_is_text(tiny_config: PoolFile, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_config.folder / "tokenizer")
    end, size = end_of_text(tokenizer), sum(map(len, SPELT))
    made = training_stream("p", SPELT, tokenizer, StreamLimits(1000, 8, size), tmp_path / "p.npy")
    windows = held_out_windows("d", SPELT, tokenizer, ScoredText(1000, 1000), 8)
    assert (np.asarray(made.tokens) == end).sum() == len(SPELT) and windows.count([end]) == 0
    assert windows.bytes == made.bytes == size
    assert tokenizer.decode(made.tokens[1:], skip_special_tokens=True) == "".join(SPELT)
    cut = training_stream("p", SPELT, tokenizer, StreamLimits(9, 8, size), tmp_path / "cut.npy")
    assert (np.asarray(cut.tokens) == end).sum() == cut.documents, "also where the limit cuts a document"
    assert len(tokenizer.encode(SPELT[0])) < len(plain(tokenizer).core.encode(SPELT[0]).ids), (
        "users' encode is as it was"
    )


def test_tokens_that_an_earlier_version_took_from_such_text_are_counted(tiny_pool: Pool) -> None:
    tokenizer = load_tokenizer(tiny_pool.folder / "tokenizer")
    text, end = plain(tokenizer), end_of_text(tokenizer)
    assert special_within(tiny_pool.corpus, text, end) == {}
    train = {**tiny_pool.corpus.train, "docs": np.append(tiny_pool.corpus.train["docs"], [end, end]).astype(np.int32)}
    earlier = replace(tiny_pool.corpus, train=train)
    assert special_within(earlier, text, end) == {"partition 'docs'": 2}


def _write_word_level_seed(folder: Path, texts: list[str]) -> None:
    backend = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(special_tokens=["[UNK]", "[EOS]"], vocab_size=8000, show_progress=False)
    backend.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="[EOS]", unk_token="[UNK]")
    tokenizer.save_pretrained(folder)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=8000, max_position_embeddings=64, **shape)).save_pretrained(folder)


def test_text_unknown_to_the_tokenizer_is_refused_or_said_by_build_and_check(
    empty_root: Path, tmp_path: Path, mixscout: Callable
) -> None:
    rows = map(json.loads, (empty_root / "code.jsonl").read_text().splitlines())
    known = [row["source"] for row in rows] + [(empty_root / "prose.txt").read_text()]
    _write_word_level_seed(tmp_path / "seed", known)
    pool = empty_root / "pool.toml"
    name_seed(pool, f'checkpoint = "{tmp_path / "seed"}"\ncontext = 32')
    refused = mixscout("pool", "build", pool)
    assert refused.code == 1 and refused.err.count("mixscout:") == 1
    said = r"partition 'docs': \d+\.\d% of its [\d,]+ tokens are \[UNK\], .* max_unknown_share 0\.1: .* raise max_unkno"
    assert re.search(said, refused.err)
    assert not (empty_root / "pools" / "tiny" / "corpus").exists()

    edit(pool, "[corpus]", "[corpus]\nmax_unknown_share = 1.0")
    shown = r"corpus: text unknown to the tokenizer \(\[UNK\]\), share of tokens: .*partition 'docs' \d+\.\d\d%"
    assert re.search(shown, mixscout("pool", "build", pool).err)
    shown = " ".join(mixscout("pool", "check", pool, "--points", "1", "--pairs", "0").out.split())
    assert re.search(r"Text unknown to the tokenizer, share of tokens: .*held-out domain 'docs'", shown)
    assert "unlikely to merge well" in shown and "a seed whose tokenizer knows this text" in shown
    shares = json.loads(mixscout("pool", "check", pool, "--points", "1", "--pairs", "0", "--json").out)[
        "unknown_shares"
    ]
    assert 0.1 < shares["partition 'docs'"] < 1 and "partition 'code'" not in shares

    edit(pool, "max_unknown_share = 1.0", "max_unknown_share = 0.05")
    assert "max_unknown_share 0.05" in mixscout("pool", "build", pool).err, "also of a corpus that is there"
