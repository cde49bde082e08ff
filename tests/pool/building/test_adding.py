"""Promises of members trained elsewhere: only what fits is taken in, and what does not leaves the pool as it was."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from given import write_foreign
from safetensors.torch import load_file, save_file
from tiny import edit, rewrite_record, snapshot

from pool.building.build import build_pool
from pool.building.job import TruthRun, folder_of
from pool.checkpoints.checkpoint import load_model, new_model
from pool.checkpoints.manifest import CheckpointManifest
from pool.config.pool_file import PoolFile, read_pool_file
from pool.config.recipe import ModelShape
from pool.files.records import MANIFEST, read_record
from pool.mixture import Mixture
from pool.parts.layout import member_folder

MEMBER = "pools/tiny/members/docs"


@pytest.fixture
def elsewhere(root: Path, tmp_path: Path) -> Path:
    """The member for docs of the tiny pool, moved out of it."""
    shutil.move(root / MEMBER, tmp_path / "docs")
    return tmp_path / "docs"


def _config(root: Path) -> PoolFile:
    return read_pool_file(root / "pool.toml")


def _add(mixscout, root: Path, folder: Path, *options: str, name: str = "docs"):
    return mixscout("pool", "add", root / "pool.toml", name, "--checkpoint", folder, *options)


def test_a_member_trained_elsewhere_is_taken_in_bit_for_bit(root: Path, elsewhere: Path, mixscout) -> None:
    before = snapshot(root)
    answer = _add(mixscout, root, elsewhere, "--json")
    assert answer.code == 0, answer.err
    added = json.loads(answer.out)
    assert added["member"] == "docs" and added["missing"] == [] and 0.9 < added["cosine_to_seed"] < 1
    assert added["manifest"]["imported"]["seed_recorded"] is True
    assert added["manifest"]["tokens"] == 5_888, "its record says so"
    assert (root / MEMBER / "model.safetensors").read_bytes() == (elsewhere / "model.safetensors").read_bytes()
    after = snapshot(root)
    touched = {name for name in after.keys() | before.keys() if after.get(name) != before.get(name)}
    assert touched <= {"pools/tiny/pool.json", *(name for name in after if name.startswith(MEMBER))}

    pool = build_pool(_config(root))
    assert snapshot(root) == after, "nothing of it is trained again"
    vertex = TruthRun(Mixture.vertex(pool.names, "docs"), pool.config.recipe)
    assert folder_of(pool, vertex) != root / MEMBER, "by which recipe it was trained nobody knows"
    assert folder_of(pool, TruthRun(Mixture.vertex(pool.names, "code"), pool.config.recipe)).name == "code"
    assert "imported" in mixscout("pool", "show", root / "pool.toml").out


def test_without_a_record_the_seed_is_judged_by_the_parameters(root: Path, elsewhere: Path, mixscout) -> None:
    (elsewhere / MANIFEST).unlink()
    answer = _add(mixscout, root, elsewhere)
    assert answer.code == 0 and "the pool is complete" in answer.out
    assert "member 'docs': imported; no record says which seed it began as; the cosine" in answer.err
    kept = read_record(root / MEMBER / MANIFEST, CheckpointManifest).imported
    assert kept is not None and not kept.seed_recorded
    checked = json.loads(mixscout("pool", "check", root / "pool.toml", "--json", "--points", 1).out)["members"]
    assert (checked["docs"]["tokens"], checked["code"]["tokens"]) == (None, 5_888), "on how many, nobody knows"


def test_a_pool_may_be_put_together_before_it_is_built(root: Path, elsewhere: Path, mixscout, tmp_path: Path) -> None:
    _give_seed(root, tmp_path)
    members = {name: root / "pools/tiny/members" / name for name in ("code", "prose")} | {"docs": elsewhere}
    missing = []
    for name, folder in members.items():
        answer = _add(mixscout, root, folder, "--json", name=name)
        assert answer.code == 0, answer.err
        missing.append(json.loads(answer.out)["missing"])
    assert missing == [["docs", "prose"], ["docs"], []]
    shown = json.loads(mixscout("pool", "show", root / "pool.toml", "--json").out)
    assert {name for name, member in shown["members"].items() if member["imported"]} == set(members)


def _give_seed(root: Path, folder: Path) -> None:
    """Make the pool file that of another pool, not built, on the same seed."""
    shutil.copytree(root / "pools/tiny/seed", folder / "seed")
    text = (root / "pool.toml").read_text()
    start, end = text.index("[tokenizer]"), text.index("[recipe]")
    (root / "pool.toml").write_text(f'{text[:start]}[seed]\ncheckpoint = "../seed"\ncontext = 32\n\n{text[end:]}')
    edit(root / "pool.toml", 'name = "tiny"', 'name = "second"')


def test_a_member_by_another_recipe_is_refused(root: Path, elsewhere: Path, mixscout, tmp_path: Path) -> None:
    _give_seed(root, tmp_path)
    edit(root / "pool.toml", "tokens = 6_000", "tokens = 600")
    before = snapshot(root)
    answer = _add(mixscout, root, elsewhere)
    assert answer.code == 1
    message = "its manifest.json says recipe.tokens 6000, and the pool's is 600; merges of it would stand for another"
    assert message in answer.err.splitlines()[-1]
    assert snapshot(root) == before and not (root / "pools/second").exists()


def test_a_member_is_replaced_and_trained_here_only_on_request(root: Path, tmp_path: Path, mixscout) -> None:
    model = load_model(root / MEMBER)
    next(model.parameters()).data.mul_(1.5)
    model.save_pretrained(tmp_path / "other")
    shutil.copy(root / MEMBER / "tokenizer.json", tmp_path / "other")
    shutil.copy(root / MEMBER / "tokenizer_config.json", tmp_path / "other")
    trained, before = (root / MEMBER / "model.safetensors").read_bytes(), snapshot(root)
    refused = _add(mixscout, root, tmp_path / "other")
    assert refused.code == 1 and "has a member 'docs' already; --replace puts" in refused.err
    assert snapshot(root) == before
    assert _add(mixscout, root, tmp_path / "other", "--replace").code == 0
    assert (root / MEMBER / "model.safetensors").read_bytes() != trained
    answer = mixscout("pool", "build", root / "pool.toml", "--rebuild", "docs")
    assert "member 'docs' was imported and is trained here now" in answer.err
    assert (root / MEMBER / "model.safetensors").read_bytes() == trained


def _save(folder: Path, model: torch.nn.Module) -> None:
    (folder / MANIFEST).unlink()
    model.save_pretrained(folder)


def _other_tokenizer(folder: Path) -> None:
    write_foreign(folder.with_name("other"), ["another text for another tokenizer"])
    shutil.copy(folder.with_name("other") / "tokenizer.json", folder)


def _another_width(folder: Path) -> None:
    _save(folder, new_model(ModelShape(hidden_size=16, attention_heads=2, layers=2, context=32), 384, initial_seed=0))


def _another_family(folder: Path) -> None:
    shape = ModelShape(family="qwen2", hidden_size=32, attention_heads=2, layers=2, intermediate_size=64, context=32)
    _save(folder, new_model(shape, 384, initial_seed=0))


def _unrelated(folder: Path) -> None:
    shape = ModelShape(hidden_size=32, attention_heads=2, layers=2, intermediate_size=64, context=32)
    _save(folder, new_model(shape, 384, initial_seed=7))


def _other_positions(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    edit(folder / "config.json", '"rope_theta": 10000.0', '"rope_theta": 500.0')


def _another_recorded_seed(folder: Path) -> None:
    rewrite_record(folder / MANIFEST, lambda content: content.update(start_digest="0" * 64))


def _not_what_its_record_says(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] += 1
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _not_finite(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


MISFITS: dict[str, tuple[Callable[[Path], None], str]] = {
    "another tokenizer": (_other_tokenizer, "its tokenizer is not the pool's"),
    "another width": (
        _another_width,
        "of another architecture than the pool: model.embed_tokens.weight is (384, 16)",
    ),
    "another family": (_another_family, "Qwen2ForCausalLM there and LlamaForCausalLM in the pool"),
    "an unrelated model": (_unrelated, "was not trained from the pool's seed: the cosine"),
    "other positions": (_other_positions, "computes otherwise than the pool: rope_parameters is"),
    "another recorded seed": (_another_recorded_seed, "says that it was trained from another seed (000000000000, not"),
    "an altered copy": (_not_what_its_record_says, "was truncated or altered since it was trained"),
    "not finite": (_not_finite, "has NaN or infinite values in model.norm.weight"),
    "a pickle": (_pickle, "has no model.safetensors, and pickles (pytorch_model.bin) can run code"),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_what_does_not_fit_leaves_the_pool_as_it_was(misfit: str, root: Path, elsewhere: Path, mixscout) -> None:
    spoil, message = MISFITS[misfit]
    spoil(elsewhere)
    _refused(mixscout, root, elsewhere, "docs", message)


def _refused(mixscout, root: Path, elsewhere: Path, name: str, message: str) -> None:
    before = snapshot(root)
    answer = _add(mixscout, root, elsewhere, name=name)
    assert answer.code == 1 and message in answer.err
    assert len(answer.err.splitlines()) == 1 and answer.err.startswith("mixscout: "), answer.err
    assert snapshot(root) == before


@pytest.mark.parametrize("name", ["wiki", "../docs", "/tmp", ""])
def test_a_name_is_a_partition_s_and_never_a_path(name: str, root: Path, elsewhere: Path, mixscout) -> None:
    message = f"{name!r} is no partition of pool 'tiny'; there are code, docs, prose"
    _refused(mixscout, root, elsewhere, name, message)


def test_a_member_of_another_partition_is_refused(root: Path, elsewhere: Path, mixscout) -> None:
    assert elsewhere.name == "docs"
    _refused(
        mixscout, root, root / "pools/tiny/members/code", "docs", "says that it was trained on code, and 'code' is"
    )


def test_a_member_without_a_seed_to_compare_it_with(empty_root: Path, built_root: Path, mixscout) -> None:
    before = snapshot(empty_root)
    answer = _add(mixscout, empty_root, built_root / MEMBER)
    assert answer.code == 1 and "has no seed yet" in answer.err.splitlines()[-1]
    assert snapshot(empty_root) == before and not member_folder(empty_root, "docs").exists()
