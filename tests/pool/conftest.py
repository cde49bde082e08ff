"""Shared by this floor's suites: a hub on loopback, clients whose libraries know its address, a pool built from it."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

import pytest
from hub_world import World, at, manifest


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The hub with what is published on it. Shared: publish and build under names of your own."""
    made = World(tmp_path_factory.mktemp("world"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def from_hub(world: World) -> Path:
    """A pool file whose seed, a partition and a held-out domain are of the hub.

    A folder where it is built has a data set's name, and is not taken for it.
    """
    decoy = world.folder / "owner" / "docs"
    decoy.mkdir(parents=True)
    (decoy / "train.jsonl").write_text('{"text": "not of the hub"}\n')
    return world.pool(
        "from_hub",
        seed=at("owner/seed", "v1.0"),
        docs=at("owner/docs", world.docs, 'subset = "numbers"'),
        licences=at("owner/lines", world.lines),
    )


@pytest.fixture(scope="session")
def built(world: World, from_hub: Path) -> dict:
    """The manifest of the pool built from the hub. Shared: never write into it."""
    world.hub.asked.clear()
    made = manifest(world.online.run("pool", "build", from_hub, "--json"))
    world.asked_first = list(world.hub.asked)
    return made


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real prose about the language, and real code, in one file. Shared: never write into it."""
    prose = [part for text in topics.values() for part in text.split("\n\n\n") if len(part) > 300][:150]
    code = Path(argparse.__file__).read_text().split("\n    def ")
    rows = [{"text": text, "kind": "prose"} for text in prose] + [{"text": text, "kind": "code"} for text in code]
    path = tmp_path_factory.mktemp("mixed") / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
