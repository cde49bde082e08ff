"""Bad seeds in a pool file: one clear line that names the thing and the way out, and nothing written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from given import name_seed
from safetensors.torch import load_file, save_file
from tiny import edit, snapshot
from transformers import AutoTokenizer, BertConfig, BertLMHeadModel

WEIGHTS = "model.safetensors"
GIVEN = 'checkpoint = "given"\ncontext = 32'


@pytest.fixture
def given(empty_root: Path, untied_foreign: Path) -> Path:
    """A checkpoint that serves, beside a pool file that names it."""
    shutil.copytree(untied_foreign, empty_root / "given")
    name_seed(empty_root / "pool.toml", GIVEN)
    return empty_root / "given"


def _refused(mixscout, root: Path, message: str) -> None:
    before = snapshot(root)
    answer = mixscout("pool", "build", root / "pool.toml")
    assert answer.code == 1
    assert len(answer.err.splitlines()) == 1 and answer.err.startswith("mixscout: "), answer.err
    assert message in answer.err
    assert snapshot(root) == before and not (root / "pools").exists()


def _set(file: str, key: str, value: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        table = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({**table, key: value}))

    return change


def _tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    return rewrite


def _pickle(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()


def _truncated(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])


def _unknown_type(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes().replace(b'"F32"', b'"Q32"'))


def _two_way(folder: Path) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertLMHeadModel(BertConfig(vocab_size=320, max_position_embeddings=64, **sizes)).save_pretrained(folder)


def _many_tokens(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"<word {number}>" for number in range(100)])
    tokenizer.save_pretrained(folder)


def _no_end(folder: Path) -> None:
    table = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**table, "eos_token": None, "bos_token": None}))
    _set("config.json", "eos_token_id", None)(folder)


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pickle": (_pickle, "pickles (pytorch_model.bin) can run code when they are loaded; where you trust it, save it"),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), "model.safetensors is missing; only"),
    "no configuration": (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
    "no tokenizer": (
        lambda folder: (folder / "tokenizer.json").unlink(),
        "tokenizer.json is missing; save",
    ),
    "code of its own": (_set("config.json", "auto_map", {"AutoModel": "x.Y"}), "asks for code of its own (auto_map)"),
    "a tokenizer's code": (_set("tokenizer_config.json", "auto_map", {"AutoTokenizer": ["x.Y", None]}), "(auto_map)"),
    "quantised": (_set("config.json", "quantization_config", {"bits": 4}), "says that the model is quantised"),
    "an adapter": (lambda folder: (folder / "adapter_config.json").write_text("{}"), "holds an adapter, not a whole"),
    "an unknown architecture": (_set("config.json", "model_type", "oracle"), "not a language model that can be loaded"),
    "truncated": (_truncated, "is not a whole safetensors file"),
    "no safetensors": (lambda folder: (folder / WEIGHTS).write_bytes(b"x" * 100), "is not a whole safetensors file"),
    "an unknown type": (_unknown_type, "if it names an unknown type, give the checkpoint in float32"),
    "a missing tensor": (_tensors(lambda all_: all_.pop("transformer.ln_f.weight")), "lacks transformer.ln_f.weight"),
    "a headless model": (_tensors(lambda all_: all_.pop("lm_head.weight")), "lacks lm_head.weight"),
    "another tensor": (_tensors(lambda all_: all_.update(extra=torch.ones(2))), "has to spare extra"),
    "another shape": (_set("config.json", "n_inner", 32), "has in another shape transformer.h.0.mlp"),
    "whole numbers": (
        _tensors(lambda all_: all_.update({"lm_head.weight": torch.ones(320, 16).to(torch.int8)})),
        "weight as I8, which is quantised",
    ),
    "not finite": (_tensors(lambda all_: all_["lm_head.weight"].fill_(float("nan"))), "has NaN or infinite values in"),
    "looks ahead": (_two_way, "BertLMHeadModel sees the tokens it is to predict"),
    "too many tokens": (_many_tokens, ", and its embedding 320 rows; give the tokenizer"),
    "no end of text": (_no_end, "has neither a bos_token nor an eos_token to stand before a document"),
}


@pytest.mark.parametrize("fault", SPOILT)
def test_a_checkpoint_that_cannot_be_a_seed(fault: str, given: Path, mixscout) -> None:
    spoil, message = SPOILT[fault]
    spoil(given)
    _refused(mixscout, given.parent, message)


MISTAKES = {
    "no folder": ('"given"', '"gone"', "gone is no folder; give that of a checkpoint"),
    "too long a context": ("context = 32", "context = 65", "[seed] context 65 is more than the 64 tokens"),
    "no context": ("\ncontext = 32", "", "a seed that was trained already needs `context`"),
    "a seed of the pool itself": ('"given"', '"pools/tiny/seed"', "is in the pool itself, which may be rebuilt"),
    "two sources": (GIVEN, f'{GIVEN}\nhub = "a/b"\nrevision = "v1"', "checkpoint and hub both say what to start from"),
    "a recipe for nothing": (
        GIVEN,
        f"{GIVEN}\ninitial_seed = 3",
        "`initial_seed` says how a seed is trained",
    ),
    "a model beside it": ("[recipe]", "[model]\nlayers = 2\n[recipe]", "[model] describes a seed that is trained here"),
    "a tokenizer beside it": (
        "[recipe]",
        "[tokenizer]\nvocabulary = 300\n[recipe]",
        "[tokenizer] describes a",
    ),
    "a context for nothing": (
        GIVEN,
        "context = 32",
        "`context` and `tokenizer` belong to a `checkpoint`",
    ),
    "replay of unknown text": ("[recipe]", "[recipe]\nreplay_share = 0.1", "[recipe] reads the seed's training text"),
    "its optimizer": ("[recipe]", "[recipe]\ncontinue_optimizer = true", "[recipe] continue_optimizer: of a seed that"),
    "no revision": ('checkpoint = "given"', 'hub = "a/b"', "hub model 'a/b' has no `revision`: give its commit"),
    "a branch": ('checkpoint = "given"', 'hub = "a/b"\nrevision = "main"', "a branch would be another model tomorrow"),
    "a revision for nothing": (GIVEN, f'{GIVEN}\nrevision = "v1"', "`revision` belongs to a `hub` model"),
    "a path for a hub name": ('checkpoint = "given"', 'hub = "../given"\nrevision = "v1"', "'seed.hub': String should"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_seed_table(mistake: str, given: Path, mixscout) -> None:
    old, new, message = MISTAKES[mistake]
    edit(given.parent / "pool.toml", old, new)
    _refused(mixscout, given.parent, message)


@pytest.mark.usefixtures("offline")
def test_a_model_of_the_hub_without_a_network(given: Path, mixscout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(given / "cache"))
    edit(given.parent / "pool.toml", 'checkpoint = "given"', 'hub = "owner/name"\nrevision = "v1.0"')
    message = "[seed] hub model 'owner/name' at v1.0 is not in the local cache"
    _refused(mixscout, given.parent, message)
