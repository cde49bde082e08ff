"""Promises about the files of checkpoints made elsewhere: the right ones are taken, and a wrong one is named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from pool.checkpoints.foreign import find_foreign
from pool.errors import PoolError
from pool.parts.others import load_foreign

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"


@pytest.fixture
def given(untied_foreign: Path, tmp_path: Path) -> Path:
    """A checkpoint that serves, to spoil."""
    return Path(shutil.copytree(untied_foreign, tmp_path / "given"))


def _sharded(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    names, half = sorted(tensors), len(tensors) // 2
    parts = {"model-00001-of-00002.safetensors": names[:half], "model-00002-of-00002.safetensors": names[half:]}
    for file, own in parts.items():
        save_file({name: tensors[name] for name in own}, folder / file, metadata={"format": "pt"})
    home = {name: file for file, own in parts.items() for name in own}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": home}))


def _only_shards(folder: Path) -> None:
    _sharded(folder)
    (folder / WEIGHTS).unlink()


def _without_index(folder: Path) -> None:
    _only_shards(folder)
    (folder / INDEX).unlink()


def _with_a_shard_of_another(folder: Path) -> None:
    _only_shards(folder)
    shutil.copy(folder / "model-00001-of-00002.safetensors", folder / "model-00003-of-00003.safetensors")


def _without_a_shard(folder: Path) -> None:
    _only_shards(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()


def _pointer(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(POINTER) and None


def _slow(name: str, *more: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "tokenizer.json").unlink()
        for one in (name, *more):
            (folder / one).write_text("x")

    return change


def _cached(folder: Path) -> None:
    inside = [*folder.iterdir()]
    for commit in ("one", "two"):
        (folder / "snapshots" / commit).mkdir(parents=True)
        for path in inside:
            shutil.copy(path, folder / "snapshots" / commit)
    for path in inside:
        path.unlink()


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "twice": (_sharded, "holds its weights twice, in model.safetensors and in the shards of"),
    "no index": (
        _without_index,
        r"holds shards \(model-00001-of-00002.safetensors\) without their model.safetensors.i",
    ),
    "a strange shard": (_with_a_shard_of_another, "holds model-00003-of-00003.safetensors, which .* does not name"),
    "a missing shard": (_without_a_shard, "names 'model-00002-of-00002.safetensors', which is no safetensors file bes"),
    "a pointer for weights": (_pointer(WEIGHTS), "model.safetensors is a Git LFS pointer.*`git lfs pull`"),
    "a pointer for a configuration": (_pointer("config.json"), "config.json is a Git LFS pointer"),
    "a pointer for a tokenizer": (_pointer("tokenizer.json"), "tokenizer.json is a Git LFS pointer"),
    "a pointer for its settings": (_pointer("tokenizer_config.json"), "tokenizer_config.json is a Git LFS pointer"),
    "words": (
        _slow("vocab.txt"),
        "vocab.txt beside it is of a slow tokenizer; .*import AutoTokenizer as T; T.from_pre",
    ),
    "merges": (_slow("vocab.json", "merges.txt"), "vocab.json beside it .*import GPT2Tokenizer as T; T.from_pretraine"),
    "pieces": (_slow("spiece.model"), "spiece.model beside it is of a slow tokenizer; .*AutoTokenizer"),
    "the cache's folder": (_cached, r"is a folder of the hub's cache; give one of its snapshots \(snapshots/one, snap"),
}


@pytest.mark.parametrize("fault", SPOILT)
def test_files_that_are_no_whole_checkpoint_are_refused_with_the_way_out(fault: str, given: Path) -> None:
    spoil, message = SPOILT[fault]
    spoil(given)
    with pytest.raises(PoolError, match=message):
        find_foreign(given, "[seed]")


def test_a_command_that_a_message_gives_makes_the_missing_file(given: Path) -> None:
    (given / "tokenizer.json").unlink()
    (given / "vocab.json").write_text(json.dumps({"<|endoftext|>": 0, "a": 1, "b": 2, "ab": 3}))
    (given / "merges.txt").write_text("#version: 0.2\na b\n")
    _run_the_command_of(given)
    assert json.loads((given / "tokenizer.json").read_text())["model"]["vocab"]["ab"] == 3

    torch.save(load_file(given / WEIGHTS), given / "pytorch_model.bin")
    (given / WEIGHTS).unlink()
    _run_the_command_of(given)
    assert find_foreign(given, "[seed]").weights == (given / WEIGHTS,)


def _run_the_command_of(folder: Path) -> None:
    with pytest.raises(PoolError) as refused:
        find_foreign(folder, "[seed]")
    code = str(refused.value).partition('python -c "')[2].removesuffix('"')
    exec(code, {})


def test_the_files_that_are_taken_are_said_and_the_types_of_their_weights(
    given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _sharded(given)
    for shard in given.glob("model-*"):
        shard.unlink()
    assert "is taken, as shards that" in find_foreign(given, "[seed]").notes[0]
    (given / INDEX).unlink()
    model = AutoModelForCausalLM.from_pretrained(given)
    cached = tmp_path / "models--owner--name"
    shutil.copytree(given, cached / "snapshots" / "abc")
    model.double().save_pretrained(cached / "snapshots" / "abc")
    files = find_foreign(cached, "[seed]")
    assert files.folder == files.tokenizer == cached / "snapshots" / "abc"
    found = load_foreign(files, "[seed]").model
    assert all(
        torch.equal(one, other.float()) for one, other in zip(found.parameters(), model.parameters(), strict=True)
    )
    said = capsys.readouterr().err.splitlines()
    assert said[0].endswith("is a folder of the hub's cache: its one snapshot, abc, is taken")
    assert said[1] == "[seed]: its weights, stored as float64, are rounded to float32"
    assert find_foreign(given, "[seed]").notes == ()
