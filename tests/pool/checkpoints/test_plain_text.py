"""Promises of tokenizers for text: names of special tokens are text, and all other text keeps its tokens."""

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from pool.checkpoints.plain_text import for_text

TEXT = ["hello world, this is some text", "a b c d e </s> / <unk>", "more text with </s> </s> inside"] * 3


def _word_level() -> Tokenizer:
    made = Tokenizer(models.WordLevel(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.train_from_iterator(TEXT, trainers.WordLevelTrainer(special_tokens=["<unk>", "</s>"], show_progress=False))
    return made


def _word_piece() -> Tokenizer:
    made = Tokenizer(models.WordPiece(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.train_from_iterator(TEXT, trainers.WordPieceTrainer(special_tokens=["<unk>", "</s>"], show_progress=False))
    return made


def _unigram() -> Tokenizer:
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    special = {"special_tokens": ["<unk>", "</s>"], "unk_token": "<unk>"}
    made.train_from_iterator(TEXT, trainers.UnigramTrainer(vocab_size=60, show_progress=False, **special))
    return made


def _bpe_that_merges_letters_to_its_end_of_text() -> Tokenizer:
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.normalizer = normalizers.NFC()
    made.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=90, special_tokens=["<unk>"], show_progress=False))
    made.add_special_tokens(["</s>"])
    made.add_tokens(["hello wor"])
    return made


def _byte_level() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(special_tokens=["</s>"], initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(TEXT, trainer)
    return made


MADE = [_word_level, _word_piece, _unigram, _bpe_that_merges_letters_to_its_end_of_text, _byte_level]


@pytest.mark.parametrize("made", MADE, ids=lambda made: made.__name__.strip("_"))
def test_no_text_becomes_a_special_token_and_other_text_keeps_its_tokens(made) -> None:
    plain = made()
    written = plain.to_str()
    text = for_text(written, bare=True)
    end = plain.token_to_id("</s>")
    for spelling in ("</s>", "a </s> b", "a</s>b", "</s></s>", " </s>", "hello</s>\n"):
        ids = text.core.encode(spelling, add_special_tokens=False).ids
        assert end not in ids and ids, spelling
    for other in ("hello world, text", "hello world z", "a b / c < s >"):
        assert text.core.encode(other).ids == plain.encode(other).ids
    assert plain.to_str() == written, "the tokenizer itself is as it was"
    assert text.special == {end}
    assert text.unknown == plain.token_to_id("<unk>")


def test_a_special_token_of_one_letter_stays_within_reach_of_text() -> None:
    plain = _byte_level()
    plain.add_special_tokens(["!"])
    core = for_text(plain.to_str(), bare=True).core
    assert core.encode("yes!").ids[-1] == plain.token_to_id("!")


def test_models_that_fall_back_to_bytes_have_no_unknown_token() -> None:
    made = Tokenizer(models.BPE({"<unk>": 0, "a": 1}, [], unk_token="<unk>", byte_fallback=True))
    assert for_text(made.to_str(), bare=True).unknown is None
