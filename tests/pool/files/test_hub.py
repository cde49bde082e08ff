"""Promises of what comes from the hub: the real client, against a hub on loopback that knows what it was asked for."""

import gzip
import shutil
from pathlib import Path

from hub_world import NOWHERE, World, at, contents, manifest, refused
from safetensors.torch import load_file, save_file
from tiny import edit, snapshot


def again(world: World, from_hub: Path, name: str) -> Path:
    """Take the shared pool file to a root of its own, where nothing is built."""
    root = world.folder / "roots" / name
    shutil.copytree(from_hub.parent, root, ignore=shutil.ignore_patterns("pools"))
    return root / from_hub.name


def test_a_pool_from_the_hub_is_the_pool_from_the_same_files(world: World, built: dict) -> None:
    shards = ", ".join(f'"{path}"' for path in sorted((world.folder / "docs" / "data").glob("train-*")))
    local = world.pool(
        "local",
        seed=f'checkpoint = "{world.folder / "seed"}"',
        docs=f'files = [{shards}]\nformat = "parquet"',
        licences=f'files = ["{world.folder / "lines" / "licences.jsonl.gz"}"]',
    )
    assert contents(built) == contents(manifest(world.offline.run("pool", "build", local, "--json")))
    origin = built["seed"]["imported"]
    assert (origin["hub"], origin["revision"], origin["commit"]) == ("owner/seed", "v1.0", world.seed)


def test_nothing_is_asked_of_the_hub_but_what_is_read(world: World, built: dict) -> None:
    seed = {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"}
    shards = {f"data/train-0000{number}-of-00002.parquet" for number in range(2)}
    files = {
        *(f"/owner/seed/resolve/{world.seed}/{name}" for name in seed),
        *(f"/datasets/owner/docs/resolve/{world.docs}/{name}" for name in ("README.md", *shards)),
        f"/datasets/owner/lines/resolve/{world.lines}/licences.jsonl.gz",
    }
    assert set(world.asked_first) == {
        "GET /api/models/owner/seed/revision/v1.0",
        f"GET /api/models/owner/seed/tree/{world.seed}",
        f"GET /api/datasets/owner/docs/tree/{world.docs}",
        f"GET /api/datasets/owner/lines/tree/{world.lines}",
        *(f"{verb} {path}" for verb in ("HEAD", "GET") for path in files),
    }
    assert {"pytorch_model.bin", "modeling_seed.py", "docs.py", "lines.py", "lines.pkl"}.isdisjoint(world.cached())
    assert {"model.safetensors", "licences.jsonl.gz"} <= world.cached()


def test_what_was_downloaded_once_is_there_without_a_network(world: World, from_hub: Path, built: dict) -> None:
    before, asked = snapshot(from_hub.parent), len(world.hub.asked)
    elsewhere = again(world, from_hub, "elsewhere")
    with world.hub.away():
        assert contents(manifest(world.offline.run("pool", "build", from_hub, "--json"))) == contents(built)
        assert snapshot(from_hub.parent) == before
        assert contents(manifest(world.offline.run("pool", "build", elsewhere, "--json"))) == contents(built)
        ran = world.online.run("pool", "build", world.pool("cached", seed=at("owner/seed", "v1.0")), "--json")
        assert manifest(ran)["seed"]["imported"] == built["seed"]["imported"], "a hub that is away is not needed either"
        unknown = world.pool("unknown", seed=at("owner/unknown", "v1.0"))
        refused(
            world.online.run("pool", "build", unknown), r"'owner/unknown' at v1\.0 cannot be had: .*refused; see to"
        )
    assert len(world.hub.asked) == asked


def test_another_commit_in_the_cache_is_never_read_for_the_one_that_is_named(world: World, built: dict) -> None:
    newer = world.variant("newer", "lines")
    (newer / "licences.jsonl.gz").write_bytes(gzip.compress(b'{"text": "one"}\n{"text": "two"}\n'))
    for commit in (world.hub.publish("datasets", "owner/lines", newer), NOWHERE):
        pool = world.pool(f"commit-{commit}", licences=at("owner/lines", commit))
        refused(world.offline.run("pool", "build", pool), f"at {commit} is not in the local cache; .*HF_HUB_OFFLINE=0")


def test_a_tag_that_moves_changes_nothing_until_the_seed_is_rebuilt(world: World, from_hub: Path, built: dict) -> None:
    by_tag, by_commit = again(world, from_hub, "by_tag"), again(world, from_hub, "by_commit")
    for pool in (by_tag, by_commit):
        shutil.copytree(from_hub.parent / "pools", pool.parent / "pools")
    edit(by_commit, '"v1.0"', f'"{world.seed}"')
    moved = world.variant("moved", "seed")
    weights = {name: tensor * 2 for name, tensor in load_file(moved / "model.safetensors").items()}
    save_file(weights, moved / "model.safetensors", metadata={"format": "pt"})
    commit = world.hub.publish("models", "owner/seed", moved, "v1.0")
    asked = len(world.hub.asked)
    for pool in (by_tag, by_commit):
        assert contents(manifest(world.online.run("pool", "build", pool, "--json"))) == contents(built)
    assert len(world.hub.asked) == asked, "a tag is not looked up for a seed that is there"

    ran = world.online.run("pool", "build", by_commit, "--rebuild", "seed", "--json")
    assert contents(manifest(ran)) == contents(built) and "was commit" not in ran.err
    ran = world.online.run("pool", "build", by_tag, "--rebuild", "seed", "--json")
    assert manifest(ran)["seed"]["imported"]["commit"] == commit
    assert f"the seed: owner/seed at v1.0 was commit {world.seed}, and is {commit} now" in ran.err
    assert manifest(ran)["seed"]["weights_digest"] != built["seed"]["weights_digest"]


def test_a_download_that_broke_off_leaves_no_pool_and_goes_on_at_the_next_command(
    world: World, from_hub: Path, built: dict
) -> None:
    seed, lines = world.variant("broken_seed", "seed"), world.variant("broken_lines", "lines")
    world.hub.publish("models", "owner/broken", seed, "v1.0")
    commit = world.hub.publish("datasets", "owner/broken", lines)
    pool = again(world, from_hub, "broken")
    edit(pool, "owner/seed", "owner/broken")
    edit(pool, at("owner/lines", world.lines), at("owner/broken", commit))
    before = snapshot(pool.parent)

    model = world.hub.repositories["models", "owner/broken"]
    model.in_trouble, model.trouble, model.failures = "model.safetensors", "500", 1
    refused(world.online.run("pool", "build", pool), r"'owner/broken' at v1\.0 cannot be had: the hub answers 500; see")
    text = world.hub.repositories["datasets", "owner/broken"]
    text.in_trouble, text.trouble, text.failures = "licences.jsonl.gz", "breaks off", 6
    refused(
        world.online.run("pool", "build", pool), f"'owner/broken' at {commit} cannot be had: peer closed connection"
    )
    assert snapshot(pool.parent) == before and not (pool.parent / "pools").exists()

    text.failures = 1
    assert contents(manifest(world.online.run("pool", "build", pool, "--json"))) == contents(built)
    assert text.failures < 0, "it broke off once more, and went on from there"
