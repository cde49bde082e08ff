"""Promises of a seed that was trained already: it is what it was there, and so is its tokenizer."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from given import name_seed, write_foreign
from safetensors.torch import load_file
from tiny import edit, snapshot
from transformers import AutoModelForCausalLM, AutoTokenizer

from pool.building.build import build_pool
from pool.building.training.train import train
from pool.checkpoints.checkpoint import load_model, parameters_of
from pool.config.pool_file import CorpusConfig, PoolFile, read_pool_file
from pool.config.recipe import Recipe
from pool.errors import PoolError, PoolMismatchError
from pool.mixture import Mixture
from pool.parts.others import read_given_seed
from pool.parts.store import Pool, open_pool
from pool.tokens.held_out import IGNORED, held_out_windows
from pool.tokens.tokenizer import load_tokenizer

SEED = "pools/tiny/seed"


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small GPT-2 as on the hub, in bfloat16, with a head of its own. Shared: never write into it."""
    folder = tmp_path_factory.mktemp("foreign")
    text = (Path(__file__).parents[3] / "LICENSE").read_text()
    write_foreign(folder, [text], tied=False, dtype=torch.bfloat16)
    return folder


def _config(root: Path, table: str) -> PoolFile:
    name_seed(root / "pool.toml", table)
    return read_pool_file(root / "pool.toml")


def test_a_pool_stands_on_a_checkpoint_of_others(empty_root: Path, foreign: Path, tmp_path: Path) -> None:
    given = tmp_path / "given"
    shutil.copytree(foreign, given)
    config = _config(empty_root, f'checkpoint = "{given}"\ncontext = 24')
    pool = build_pool(config)

    stored = load_file(given / "model.safetensors")
    taken = load_file(pool.folder / "seed" / "model.safetensors")
    assert {name: tensor.float() for name, tensor in stored.items()}.keys() == taken.keys()
    assert all(torch.equal(taken[name], stored[name].float()) for name in taken)
    settings = json.loads((pool.folder / "seed" / "config.json").read_text())
    assert {value for key, value in settings.items() if "pdrop" in key} == {0.0}
    origin = pool.manifest.seed.imported
    assert origin is not None and pool.manifest.seed.recipe is None and pool.manifest.seed.tokens is None
    assert pool.manifest.members["code"].start_digest == pool.manifest.seed.weights_digest

    windows = pool.corpus.held_out["search"]["licences"]
    assert windows.inputs.shape[1] == 24 and windows.inputs[0, 0] == AutoTokenizer.from_pretrained(given).eos_token_id

    before = snapshot(pool.folder)
    (given / "model.safetensors").unlink()
    build_pool(config)
    assert open_pool(config).manifest.digest == pool.manifest.digest, "its weights may be gone"
    shutil.rmtree(given)
    assert open_pool(config).manifest.digest == pool.manifest.digest, "the folder may be gone"
    assert snapshot(pool.folder) == before


def test_a_tokenizer_of_others_neither_cuts_nor_fills_up_nor_leaves_white_space_out(foreign: Path) -> None:
    text = "Licensed under the Apache License, Version 2.0: you may not use this file.   \n\n  \n"
    tokenizer = load_tokenizer(foreign)
    assert len(tokenizer.backend_tokenizer.encode("word").ids) == 7, "its own way of encoding fills up"
    windows = held_out_windows("one", [text], tokenizer, CorpusConfig(source="demo").scored, 4)
    assert windows.bytes == len(text)
    assert tokenizer.decode(windows.targets[windows.targets != IGNORED]) == text


def test_a_changed_checkpoint_is_refused_by_name_and_taken_over_on_request(root: Path, tmp_path: Path) -> None:
    given = tmp_path / "given"
    shutil.copytree(root / SEED, given)
    table = f'checkpoint = "{given}"\ncontext = 32'
    with pytest.raises(PoolMismatchError, match="--rebuild all"):
        build_pool(_config(root, table))
    edit(root / "pool.toml", 'name = "tiny"', 'name = "second"')
    config = read_pool_file(root / "pool.toml")
    build_pool(config)
    model = load_model(given)
    next(model.parameters()).data.mul_(2)
    model.save_pretrained(given)
    before = snapshot(root)
    with pytest.raises(PoolMismatchError, match=r"the seed .*its checkpoint's weights \(.*--rebuild seed"):
        build_pool(config)
    assert snapshot(root) == before
    pool = build_pool(config, ["seed"])
    assert torch.equal(next(load_model(pool.folder / "seed").parameters()), next(model.parameters()))


def test_a_checkpoint_of_a_run_starts_a_pool(tiny_pool: Pool, empty_root: Path, tmp_path: Path) -> None:
    model = load_model(tiny_pool.folder / "seed")
    recipe = Recipe(tokens=512, batch_windows=8, checkpoint_steps=1)
    train(model, tiny_pool.corpus.train, Mixture.uniform(tiny_pool.names), recipe, scratch=tmp_path, label="run")
    last = tmp_path / "checkpoint-2"  # the one before is kept too
    assert list(last.glob("*.pt")) or list(last.glob("*.pth")), "its pickles are beside it, and not read"
    tokenizer = tiny_pool.folder / "tokenizer"
    config = _config(empty_root, f'checkpoint = "{last}"\ncontext = 32\ntokenizer = "{tokenizer}"')
    foreign = read_given_seed(config.seed, config.folder)
    trained = parameters_of(model)
    assert all(torch.equal(tensor, trained[name]) for name, tensor in parameters_of(foreign.model).items())


def test_shards_are_one_model(foreign: Path, empty_root: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(foreign, dtype=torch.bfloat16)
    model.save_pretrained(tmp_path, max_shard_size="8KB")
    shutil.copy(foreign / "tokenizer.json", tmp_path)
    shutil.copy(foreign / "tokenizer_config.json", tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    config = _config(empty_root, f'checkpoint = "{tmp_path}"\ncontext = 64')
    whole, shards = parameters_of(model), parameters_of(read_given_seed(config.seed, config.folder).model)
    assert all(torch.equal(shards[name], whole[name].float()) for name in whole)
    next(tmp_path.glob("*.safetensors")).unlink()
    with pytest.raises(PoolError, match=r"index\.json names '.*', which is no safetensors file beside it"):
        read_given_seed(config.seed, config.folder)


@pytest.mark.usefixtures("offline")
def test_a_model_of_the_hub_comes_from_the_cache_under_its_commit(
    foreign: Path, empty_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789" * 4
    cached = tmp_path / "models--owner--small"
    shutil.copytree(foreign, cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "v1.0").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    config = _config(empty_root, 'hub = "owner/small"\nrevision = "v1.0"\ncontext = 32')
    origin = read_given_seed(config.seed, config.folder).origin
    assert (origin.hub, origin.revision, origin.commit) == ("owner/small", "v1.0", commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "elsewhere"))
    with pytest.raises(PoolError, match=r"model 'owner/small' at v1\.0 is not in the local cache.*HF_HUB_OFFLINE=0"):
        read_given_seed(config.seed, config.folder)
