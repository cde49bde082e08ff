"""Promises of a build's first look: what needs no text to be seen wrong is refused before any text is read."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import edit

from pool.building import build, foresight, material
from pool.building.build import build_pool
from pool.config.pool_file import read_pool_file
from pool.errors import MixscoutError

SEED = 'mixture = "proportional"'
SHARE = "held_out_share = 0.2"
STOPS = "[recipe.early_stopping]\n\n[recipe]"

MISTAKES: dict[str, tuple[list[tuple[str, str]], str]] = {
    "a mixture of strangers": (
        [(SEED, "mixture = {code = 0.5, wiki = 0.5}")],
        r"\[seed\] mixture: .* not there: wiki; there are code, docs, prose: correct the name",
    ),
    "a mixture of units of strangers": (
        [(SEED, "mixture = {code-1 = 0.5, wiki-1 = 0.5}"), (SHARE, f"{SHARE}\nbase_units_tokens = 9_000")],
        r"\[seed\] mixture: .* not there: wiki-1",
    ),
    "a group of nothing": (
        [("[tokenizer]", '[corpus.groups]\ntext = ["news*"]\n\n[tokenizer]')],
        r"group 'text': no partition matches 'news\*'; there are code, docs, prose",
    ),
    "stopping without held-out text": (
        [(SHARE, "held_out_share = 0.0"), ("[recipe]", STOPS)],
        r"\[recipe\] early_stopping: nothing of partition 'code' is held out",
    ),
    "a seed's stopping without held-out text": (
        [(SHARE, "held_out_share = 0.0"), ("[seed.recipe]", "[seed.recipe.early_stopping]\n\n[seed.recipe]")],
        r"\[seed.recipe\] early_stopping: nothing of partition 'code' is held out",
    ),
    "less than a window": (
        [("train_tokens = 30_000", "train_tokens = 31")],
        r"partition 'code' has at most the 31 tokens of \[corpus\] train_tokens, fewer than one window of 32; raise it",
    ),
    "adapters nowhere": (
        [("[recipe]", '[recipe.lora]\ntargets = ["attention"]\n\n[recipe]')],
        r"\[recipe.lora\] targets attention: Target modules .*not found",
    ),
    "adapters on tied weights": (
        [("[recipe]", '[recipe.lora]\ntargets = ["lm_head"]\n\n[recipe]')],
        r"targets lm_head: model.embed_tokens and lm_head are one matrix",
    ),
}


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object) -> None:
        raise AssertionError("text is read")

    monkeypatch.setattr(build, "prepare_material", read)


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_refused_before_text_is_read(mistake: str, empty_root: Path) -> None:
    edits, message = MISTAKES[mistake]
    for old, new in edits:
        edit(empty_root / "pool.toml", old, new)
    with pytest.raises(MixscoutError, match=message):
        build_pool(read_pool_file(empty_root / "pool.toml"))
    assert not (empty_root / "pools" / "tiny").exists()


@pytest.mark.usefixtures("unread")
def test_a_member_to_rebuild_and_missing_peft_and_a_full_disk_are_seen_first(
    empty_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = empty_root / "pool.toml"
    with pytest.raises(MixscoutError, match="--rebuild prosa: no such member; there are all, seed, code, docs, prose"):
        build_pool(read_pool_file(pool), ["prosa"])
    with pytest.raises(AssertionError, match="text is read"):
        build_pool(read_pool_file(pool))
    usage = shutil.disk_usage(empty_root)
    with (
        monkeypatch.context() as patch,
        pytest.raises(MixscoutError, match=r"its new models take 0\.0 GB, and the disk"),
    ):
        patch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=100_000))
        build_pool(read_pool_file(pool))
    edit(pool, "[recipe]", "[recipe.lora]\n\n[recipe]")
    with (
        monkeypatch.context() as patch,
        pytest.raises(MixscoutError, match=r"\[recipe.lora\] needs peft: run `pip ins"),
    ):
        patch.setattr(foresight.importlib.util, "find_spec", lambda name: None)
        build_pool(read_pool_file(pool))


@pytest.mark.usefixtures("unread")
def test_more_shards_than_gpus_are_seen_first(empty_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(empty_root / "pool.toml", "[recipe]\n", "[recipe]\nfsdp = 2\n")
    config = read_pool_file(empty_root / "pool.toml")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(MixscoutError, match=r"\[recipe\] fsdp = 2 takes 2 GPUs, and 1 of them can be seen"):
        build_pool(config)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(AssertionError, match="text is read"):
        build_pool(config)


def test_a_changed_recipe_is_refused_before_changed_text_is_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object) -> None:
        raise AssertionError("text is read")

    monkeypatch.setattr(material, "read_text", read)
    edit(root / "pool.toml", "learning_rate = 3e-3", "learning_rate = 4e-3")
    edit(root / "prose.txt", "a", "A changed a")
    with pytest.raises(MixscoutError, match=r"3 members were trained before a change of recipe.learning_rate 0.003 ->"):
        build_pool(read_pool_file(root / "pool.toml"))
    with pytest.raises(AssertionError, match="text is read"):
        build_pool(read_pool_file(root / "pool.toml"), ["code", "docs", "prose"])


def test_a_seed_that_was_trained_may_have_been_trained_on_partitions_gone_since(root: Path, mixscout: Callable) -> None:
    edit(root / "pool.toml", SEED, "mixture = {code = 0.5, docs = 0.25, gone = 0.25}")
    said = mixscout("pool", "build", root / "pool.toml").err
    assert "what it starts from" in said and "not there" not in said
