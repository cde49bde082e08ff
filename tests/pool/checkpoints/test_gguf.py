"""Promises of a seed in a GGUF file: it is the model that was trained, up to the rounding of its quantisation."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from families import FAMILIES, write_family, write_gguf
from given import name_seed
from tiny import snapshot
from transformers import AutoModelForCausalLM, AutoTokenizer

from pool.building.build import build_pool
from pool.checkpoints.foreign import find_foreign
from pool.checkpoints.weights import load_gguf
from pool.config.pool_file import read_pool_file
from pool.errors import PoolError, PoolMismatchError
from pool.files.digests import digest_file
from pool.parts.store import open_pool

TEXT = "Licensed under the Apache License <|end_of_text|>"


def _llama(root: Path, *, quantised: bool = False, frequencies: bool = False) -> Path:
    pytest.importorskip("gguf")
    write_family("llama", root / "given", [(root / "prose.txt").read_text()], tied=not quantised)
    write_gguf(root / "given", root / "tiny.gguf", quantised=quantised, frequencies=frequencies)
    name_seed(root / "pool.toml", 'checkpoint = "tiny.gguf"\ncontext = 32')
    return root / "tiny.gguf"


def test_a_pool_stands_on_a_gguf_file(empty_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _llama(empty_root)
    config = read_pool_file(empty_root / "pool.toml")
    pool = build_pool(config)
    assert "stored as F32 in tiny.gguf, are taken as float32, once" in capsys.readouterr().err
    origin = pool.manifest.seed.imported
    assert origin is not None and origin.weights_digest == origin.config_digest == digest_file(path)
    seed, given = (
        AutoModelForCausalLM.from_pretrained(one).eval() for one in (pool.folder / "seed", path.parent / "given")
    )
    tokens = torch.arange(40)[None]
    assert torch.equal(seed(tokens).logits, given(tokens).logits)
    assert "quantization_config" not in json.loads((pool.folder / "seed" / "config.json").read_text())
    ours, theirs = (AutoTokenizer.from_pretrained(one) for one in (pool.folder / "tokenizer", path.parent / "given"))
    assert ours(TEXT, add_special_tokens=False).input_ids == theirs(TEXT, add_special_tokens=False).input_ids
    assert (ours.bos_token_id, ours.eos_token_id) == (theirs.bos_token_id, theirs.eos_token_id)

    before = snapshot(pool.folder)
    path.write_bytes(path.read_bytes() + bytes(1))
    with pytest.raises(PoolMismatchError, match=r"the seed .*its checkpoint's weights \("):
        build_pool(config)
    path.unlink()
    assert build_pool(config).manifest.digest == open_pool(config).manifest.digest, "the file may be gone"
    assert snapshot(pool.folder) == before


def test_quantised_values_are_rounded_and_no_more(empty_root: Path) -> None:
    path = _llama(empty_root, quantised=True)
    loaded, given = load_gguf(path, "[seed]"), AutoModelForCausalLM.from_pretrained(empty_root / "given")
    assert "F32, Q8_0" in loaded.notes[0]
    for one, other in zip(loaded.model.parameters(), given.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=float(other.detach().abs().max()) / 127)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ["qwen2", "qwen3", "mistral"])
def test_other_families_come_from_a_gguf_file_as_they_were(empty_root, monkeypatch, name: str, tied: bool) -> None:
    pytest.importorskip("gguf")
    if name == "qwen3":  # transformers takes every Qwen3's heads for 128 wide, as the released ones are
        wide = replace(FAMILIES[name], config={**FAMILIES[name].config, "head_dim": 128})
        monkeypatch.setitem(FAMILIES, name, wide)
    folder, path = empty_root / "given", empty_root / "tiny.gguf"
    write_family(name, folder, [(empty_root / "prose.txt").read_text()], tied=tied)
    write_gguf(folder, path, quantised=False)
    loaded, given = load_gguf(path, "[seed]").model, AutoModelForCausalLM.from_pretrained(folder).eval()
    assert loaded.config.tie_word_embeddings == tied
    tokens = torch.arange(8)[None]
    assert torch.equal(loaded(tokens).logits, given(tokens).logits)


def test_a_file_whose_sizes_are_read_wrongly_is_refused(empty_root: Path) -> None:
    pytest.importorskip("gguf")
    write_family("qwen3", empty_root / "given", [(empty_root / "prose.txt").read_text()], tied=True)
    write_gguf(empty_root / "given", empty_root / "tiny.gguf", quantised=False)
    with pytest.raises(PoolError, match=r"tiny\.gguf has in another shape .*not be the model that was trained"):
        load_gguf(empty_root / "tiny.gguf", "[seed]")


def test_values_that_are_not_read_are_refused(empty_root: Path) -> None:
    path = _llama(empty_root, frequencies=True)
    with pytest.raises(PoolError, match=r"\(rope_freqs\.weight, say\); .*give it as safetensors"):
        load_gguf(path, "[seed]")


def test_a_file_that_does_not_serve_is_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, part, other = (tmp_path / name for name in ("m.gguf", "m-00001-of-00002.gguf", "other.gguf"))
    for one in (path, part):
        one.write_bytes(b"GGUF")
    other.write_bytes(b"GGML")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    refused = {
        part: r"is one of several parts; .*`llama-gguf-split --merge`",
        other: "does not begin as a GGUF file",
        tmp_path / "none.gguf": "No such file or directory; give a GGUF file",
        tmp_path: r"give the path of its GGUF file itself, .*m-00001-of-00002\.gguf",
    }
    for given, message in refused.items():
        with pytest.raises(PoolError, match=message):
            find_foreign(given, "[seed]")
    assert find_foreign(path, "[seed]").gguf == path, "a pool that is there opens without the package"
    with pytest.raises(PoolError, match=r"m\.gguf needs the package gguf: run `pip install 'mixscout\[gguf\]'`"):
        load_gguf(path, "[seed]")
