"""Promises of topics by a model's embeddings: real models, the same every time, and one clear line for each bad one."""

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from embedding_models import SIZES, train_encoder, write_bert, write_llama, write_roberta
from given import write_foreign
from safetensors.torch import load_file, save_file
from tiny import edit, snapshot
from transformers import AutoModel, AutoTokenizer, RobertaConfig, RobertaModel, T5Config, T5Model, ViTConfig, ViTModel

from pool import progress
from pool.building.build import build_pool
from pool.config.pool_file import read_pool_file
from pool.config.sources import PartitionSource
from pool.corpus.corpus import training_place
from pool.corpus.document_store import DocumentStore
from pool.corpus.embeddings import TOKENS, Embedder, load_embedding_model
from pool.corpus.files import describe_source
from pool.corpus.partitioning import fill_partitions
from pool.errors import ConfigError, CorpusError, PoolMismatchError
from pool.files.digests import digest_json
from pool.parts.store import open_pool

WRITERS = {"bert": write_bert, "roberta": write_roberta, "llama": write_llama, "gpt2": write_foreign}
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="session")
def texts(mixed: Path) -> list[str]:
    return list(dict.fromkeys(str(row["text"]) for row in map(json.loads, mixed.open())))


@pytest.fixture(scope="session")
def models(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each model, with random parameters. Shared: never write into them."""
    folder = tmp_path_factory.mktemp("models")
    for name, write in WRITERS.items():
        (folder / name).mkdir()
        write(folder / name, texts)
    return folder


def _split(path: Path, **cluster: object) -> dict[str, list[str]]:
    store = DocumentStore()
    filled = fill_partitions(store, {"n": PartitionSource(files=(path,), cluster=cluster)})
    return {name: sorted(store.documents(training_place(name))) for name in filled["n"].partitions}


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama"])
def test_topics_by_a_trained_model_recover_two_sources(
    mixed: Path, models: Path, texts: list[str], tmp_path: Path, kind: str
) -> None:
    shutil.copytree(models / kind, tmp_path / kind)
    train_encoder(tmp_path / kind, texts)
    found = _split(mixed, k=2, embeddings=tmp_path / kind)
    assert sorted(text for part in found.values() for text in part) == sorted(texts), "nothing is lost"
    sources = {row["text"]: row["kind"] for row in map(json.loads, mixed.open())}
    shares = sorted(sum(sources[text] == "code" for text in part) / len(part) for part in found.values())
    assert shares[0] < 0.1 and shares[1] > 0.9
    assert any({"self", "action", "return"} & set(name.split("-")) for name in found), "names are of words still"
    assert _split(mixed, k=2, embeddings=tmp_path / kind) == found


def test_documents_outside_the_sample_join_the_topics_found_on_it(mixed: Path, models: Path, texts: list[str]) -> None:
    found = _split(mixed, k=2, sample_documents=60, embeddings=models / "llama")
    assert sum(map(len, found.values())) == len(texts)
    assert all(len(part) > 30 for part in found.values())


@pytest.mark.parametrize("kind", WRITERS)
def test_an_embedding_hangs_neither_on_what_else_is_in_the_batch_nor_on_padding(
    models: Path, texts: list[str], kind: str
) -> None:
    embedder = Embedder(load_embedding_model("n", models / kind))
    together = embedder.of(texts)
    alone = np.concatenate([embedder.of([text]) for text in texts[:20]])
    np.testing.assert_allclose(together[:20], alone, atol=1e-5, rtol=0)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


def test_an_embedding_is_the_mean_of_the_last_hidden_states_of_the_beginning(models: Path, texts: list[str]) -> None:
    folder, text = models / "bert", max(texts, key=len)
    ids = AutoTokenizer.from_pretrained(folder)(text, truncation=True, max_length=64, return_tensors="pt")["input_ids"]
    assert ids.shape == (1, 64), "as many as the model was made for"
    with torch.no_grad():
        expected = AutoModel.from_pretrained(folder).eval()(ids).last_hidden_state.mean(1)
    found = Embedder(load_embedding_model("n", folder)).of([text, "", text + " and more that nobody reads"])
    np.testing.assert_allclose(found[0], torch.nn.functional.normalize(expected)[0], atol=1e-5, rtol=0)
    np.testing.assert_array_equal(found[0], found[2])


def test_no_more_than_so_many_tokens_are_read_however_long_the_document(models: Path) -> None:
    model = load_embedding_model("n", models / "roberta")
    assert [len(model.tokenizer.encode(text).ids) for text in ("x" * 9_000, "x")] == [TOKENS, 1]


def test_the_number_of_threads_changes_no_bit_and_is_left_as_it_was(models: Path, texts: list[str]) -> None:
    embedder, before = Embedder(load_embedding_model("n", models / "bert")), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = embedder.of(texts)
        torch.set_num_threads(3)
        np.testing.assert_array_equal(one, embedder.of(texts))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_vectors_of_a_cpu(models: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = Embedder(load_embedding_model("n", models / "bert"))
    there = embedder.of(texts)
    embedder.leave()
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    here = Embedder(load_embedding_model("n", models / "bert")).of(texts)
    np.testing.assert_allclose(there, here, atol=1e-4, rtol=0)


def test_it_is_seen_to_move_and_asks_no_network(
    mixed: Path, models: Path, texts: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a network is asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    _split(mixed, k=2, embeddings=models / "llama")
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"corpus: embedding n, documents: 0/{len(texts)}"
    assert said[-1] == f"corpus: embedding n, documents: {len(texts)}/{len(texts)}" and len(said) > 3


def test_a_table_without_a_model_has_the_digest_it_had_before_there_were_models(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n')
    plain = describe_source("n", PartitionSource(files=(path,)))
    by_words = describe_source("n", PartitionSource(files=(path,), cluster={"k": 3, "seed": 1}))
    assert digest_json(plain) == "dd339cebea51c87967e411bfea5e5660861f0bb89ff44cfb9d2ada29fd76105a"
    assert digest_json(by_words) == "3fdbce96c7869be51ff1fbcd6f5fa987fbe2d0d8f82ffeaa3d60b0b230a640d6"


def _scaled(by: float) -> Callable[[Path], None]:
    """Scale what the last hidden states are multiplied by."""

    def change(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        tensors["model.norm.weight"] *= by
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    return change


def _without(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        del tensors[name]
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    return change


def _settings(**settings: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))

    return change


def _pickled(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")


def _larger_vocabulary(folder: Path) -> None:
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["model"]["vocab"]["one more"] = 600
    path.write_text(json.dumps(tokenizer))


def _other_model(kind: type, config: object) -> Callable[[Path], None]:
    return lambda folder: kind(config).save_pretrained(folder)


T5 = T5Config(vocab_size=600, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0)
ROBERTA = RobertaConfig(vocab_size=600, max_position_embeddings=64, **SIZES)
"""Its positions begin at the second, so that it reads 62 tokens and says 64."""
VIT = ViTConfig(image_size=8, patch_size=4, **SIZES)


@pytest.mark.parametrize("change", [_scaled(2.0), _settings(new=1), _larger_vocabulary])
def test_a_model_is_known_by_its_weights_configuration_and_tokenizer_not_by_its_place(
    mixed: Path, models: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    def described(folder: Path) -> dict[str, object]:
        return describe_source("n", PartitionSource(files=(mixed,), cluster={"k": 2, "embeddings": folder}))

    copy = tmp_path / "copy"
    shutil.copytree(models / "llama", copy)
    assert described(copy) == described(models / "llama")
    change(copy)
    assert described(copy) != described(models / "llama")


def test_every_file_of_a_model_is_digested_by_who_knows_what_was_seen_before(mixed: Path, models: Path) -> None:
    table = PartitionSource(files=(mixed,), cluster={"k": 2, "embeddings": models / "llama"})
    cluster = describe_source("n", table, lambda path: f"seen {path.name}")["cluster"]
    seen = {"weights": "seen model.safetensors", "config": "seen config.json", "tokenizer": "seen tokenizer.json"}
    assert cluster == {"k": 2, "sample_documents": 20_000, "seed": 0, "embeddings": seen}


@pytest.fixture(scope="session")
def embedded_root(models: Path, built_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a pool whose code is split by a model, beside it. Shared: never write into it."""
    folder = tmp_path_factory.mktemp("embedded")
    for path in built_root.iterdir():
        if path.is_file() and path.suffix != ".db":
            shutil.copy(path, folder)
    shutil.copytree(models / "llama", folder / "model")
    edit(folder / "pool.toml", 'column = "source"\n', 'column = "source"\ncluster = {k = 2, embeddings = "model"}\n')
    edit(folder / "pool.toml", "tokens = 6_000", "tokens = 600")
    edit(folder / "pool.toml", "tokens = 12_000", "tokens = 600")
    build_pool(read_pool_file(folder / "pool.toml"))
    return folder


@pytest.fixture
def root(embedded_root: Path, tmp_path: Path) -> Path:
    """A copy of it, to change at will."""
    shutil.copytree(embedded_root, tmp_path / "root")
    return tmp_path / "root"


def test_a_pool_has_a_member_for_every_topic_and_the_model_may_be_gone_afterwards(root: Path) -> None:
    config = read_pool_file(root / "pool.toml")
    pool = open_pool(config)
    assert pool.names[2:] == ("docs", "prose") and all(name.startswith("code-") for name in pool.names[:2])
    before = snapshot(root)
    assert build_pool(config).manifest.digest == pool.manifest.digest and snapshot(root) == before
    shutil.rmtree(root / "model")
    assert open_pool(config).manifest.digest == pool.manifest.digest


def test_a_changed_model_is_a_changed_corpus(root: Path) -> None:
    _scaled(-1.0)(root / "model")
    before = snapshot(root)
    with pytest.raises(PoolMismatchError, match="its text, or the .corpus. section, has changed since it was built"):
        open_pool(read_pool_file(root / "pool.toml"))
    assert snapshot(root) == before


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shutil.rmtree, r"model is no folder; give that of a checkpoint \(config\.json, model\.safetensors and tok"),
        (
            _pickled,
            r"pickles \(pytorch_model\.bin\) can run code .* save it anew as safetensors: .* AutoModel as M;",
        ),
        (lambda folder: (folder / WEIGHTS).unlink(), r"model\.safetensors is missing; only safetensors checkpoints"),
        (lambda folder: (folder / WEIGHTS).write_bytes(b"half"), r"is not a whole safetensors file: .*; copy it again"),
        (lambda folder: (folder / "config.json").unlink(), r"config\.json is missing; give a folder that save_pret"),
        (lambda folder: (folder / "tokenizer.json").unlink(), r"tokenizer\.json is missing; save the tokenizer it was"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), r"not a tokenizer that can be loaded: .*; save"),
        (_settings(auto_map={"AutoModel": "code.Model"}), r"asks for code of its own .* code of others is never run"),
        (_settings(model_type="unheard-of"), r"is not a model that can be loaded: "),
        (_without("model.layers.0.mlp.up_proj.weight"), r"lacks layers\.0\.mlp\.up_proj\.weight; what is loaded would"),
        (_larger_vocabulary, r"its tokenizer has a token 600, and its embedding 600 rows; give the tokenizer that"),
        (_scaled(float("nan")), r"has NaN or infinite values in norm\.weight; give a checkpoint from before"),
        (_scaled(3e38), r"its hidden states of some text are not finite; give another model"),
        (_other_model(T5Model, T5), r"is an encoder with a decoder; give one or the other, saved by itself"),
        (_other_model(ViTModel, VIT), r"ViTModel embeds no tokens; give a model of text"),
        (_other_model(RobertaModel, ROBERTA), r"cannot embed 64 tokens of text: .*; give an encoder or a decoder of"),
    ],
)
def test_a_model_that_cannot_serve_is_one_clear_line_and_leaves_the_pool_as_it_was(
    root: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(root / "model")
    before, config = snapshot(root), read_pool_file(root / "pool.toml")
    with pytest.raises(CorpusError, match=message) as caught:
        build_pool(config)
    assert str(caught.value).startswith(f"[corpus.partitions.code.cluster] embeddings: {root / 'model'}")
    assert "\n" not in str(caught.value)
    assert snapshot(root) == before


def test_fewer_documents_than_topics_are_refused_before_a_model_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n{"text": "two"}\n')
    with pytest.raises(CorpusError, match=r"n: 2 documents cannot be split into 3 clusters; lower cluster\.k"):
        _split(path, k=3, embeddings=tmp_path / "nowhere")


def test_the_folder_is_relative_to_the_pool_file_and_none_of_the_pool_s_own(
    root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MIXSCOUT_TEXT_ROOT", str(tmp_path / "elsewhere"))
    cluster = read_pool_file(root / "pool.toml").corpus.partitions["code"].cluster
    assert cluster is not None and cluster.embeddings == (root / "model").resolve()
    edit(root / "pool.toml", 'embeddings = "model"', 'embeddings = "pools/tiny/seed"')
    with pytest.raises(
        ConfigError, match=r"code\.cluster\] embeddings: .*/seed is in the pool itself.*copy it elsewhere"
    ):
        read_pool_file(root / "pool.toml")
