"""Promises of a folder pushed to the hub: the real client, against a hub on loopback; the token is never printed."""

import shutil
from pathlib import Path

import pytest
from hub_world import World, refused
from tiny import snapshot

TOKEN = "hf_secretOfTheWriter"


@pytest.fixture(scope="module")
def study(world: World, built_root: Path) -> Path:
    """A study with a few merges. Shared: export from it into folders of your own."""
    root = world.folder / "roots" / "pushed"
    shutil.copytree(built_root, root)
    searched = world.online.run("search", root / "study.toml", "--set", "search.merges=4", "--quiet")
    assert searched.code == 0, searched.err
    return root / "study.toml"


def test_an_export_is_pushed_as_it_was_written_and_the_token_is_not_printed(world: World, study: Path) -> None:
    world.hub.writer = TOKEN
    command = ("export", study, study.parent / "merged", "--push-to-hub", "owner/merged")
    ran = world.online.run(*command, token=TOKEN)
    assert ran.code == 0, ran.err
    ((commit, folder),) = world.hub.repositories["models", "owner/merged"].commits.items()
    assert f"pushed to owner/merged at {commit}" in ran.out.splitlines() and TOKEN not in ran.out + ran.err
    assert snapshot(folder) == snapshot(study.parent / "merged") and "model.safetensors" in snapshot(folder)
    assert world.hub.created[-1]["visibility"] == "private"
    assert len(world.hub.large) == 1, "the weights went by Git LFS"
    again = world.online.run(*command[:2], study.parent / "again", *command[3:], token=TOKEN)
    assert again.code == 0 and len(world.hub.repositories["models", "owner/merged"].commits) <= 2


def test_what_cannot_be_pushed_is_refused_before_anything_is_merged(world: World, study: Path) -> None:
    folder = study.parent / "not written"
    export = ("export", study, folder, "--push-to-hub")
    refused(world.offline.run(*export, "owner/no", token=TOKEN), "'owner/no' needs a network: .* HF_HUB_OFFLINE=0")
    refused(world.online.run(*export, "owner/no"), "'owner/no' needs a token: log in .*, or set HF_TOKEN to a token")
    refused(world.online.run(*export, "merged", token=TOKEN), "'merged' is no name on the hub; give OWNER/NAME")
    assert not folder.exists()


def test_a_push_that_is_refused_leaves_the_folder_and_says_so(world: World, study: Path) -> None:
    world.hub.writer, folder = TOKEN, study.parent / "kept"
    ran = world.online.run("export", study, folder, "--push-to-hub", "owner/other", token="hf_secretOfAnother")
    refused(
        ran, r"'owner/other' is refused by the hub \(403\): .*HF_TOKEN to a token that may write there; .* complete"
    )
    assert "push it later by `hf upload owner/other roots/pushed/kept`" in ran.err
    world.hub.is_full = True
    full = world.online.run("export", study, study.parent / "full", "--push-to-hub", "owner/merged", token=TOKEN)
    world.hub.is_full = False
    refused(
        full,
        "'owner/merged' was not taken: the hub answers 507; its folder is complete, .*full`",
    )
    with world.hub.away():
        away = world.online.run("export", study, study.parent / "away", "--push-to-hub", "owner/merged", token=TOKEN)
    refused(away, "'owner/merged' was not taken: .*refused.*; .*away`")
    assert (folder / "model.safetensors").is_file() and "hf_secret" not in ran.out + ran.err
