"""Promises of a pool that is there: a failed build leaves it whole, and a killed one leaves the old or the new."""

import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock
from given import name_seed
from interrupted import build_until
from tiny import edit, snapshot

from pool.building import build
from pool.building.build import build_pool
from pool.checkpoints.checkpoint import load_model
from pool.config.pool_file import read_pool_file
from pool.errors import PoolError, PoolMismatchError
from pool.files.digests import digest_file
from pool.parts import store
from pool.parts.store import Pool, open_pool

POOL = "pools/tiny"
SQUARES = '\n[corpus.partitions.squares]\nfiles = ["squares.txt"]\nformat = "text"\n'


def _build(root: Path, *rebuild: str) -> Pool:
    return build_pool(read_pool_file(root / "pool.toml"), rebuild)


def _open(root: Path) -> Pool:
    return open_pool(read_pool_file(root / "pool.toml"))


def _in_the_pool(root: Path) -> dict[str, bytes]:
    return {name: content for name, content in snapshot(root / POOL).items() if not name.startswith(".new-")}


def _weights(root: Path) -> dict[str, str]:
    files = (root / POOL).rglob("model.safetensors")
    return {path.relative_to(root / POOL).as_posix(): digest_file(path) for path in files}


def _leftovers(root: Path) -> list[Path]:
    return [path for path in (root / "pools").rglob(".*") if path.suffix != ".lock" and path.name != ".docs.lock"]


def _add_squares(root: Path) -> None:
    text = "\n\n".join(f"line {i}: {i * i} is the square of {i}, says table {i % 7}" for i in range(400))
    (root / "squares.txt").write_text(text)
    with (root / "pool.toml").open("a") as stream:
        stream.write(SQUARES)


FULL_DISK = """
import resource, sys
from pool.building import job
original = job.train
def full(*arguments, **options):
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
    return original(*arguments, **options)
job.train = full
sys.argv = ["mixscout", "pool", "build", *sys.argv[1:]]
from studies.command_line.app import main
main()
"""


@pytest.mark.parametrize("rebuild", [("docs",), ()], ids=["a member again", "a new partition"])
def test_a_full_disk_leaves_the_pool_as_it_was_and_the_same_command_goes_on(
    rebuild: Sequence[str], root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, undisturbed, old_file = _in_the_pool(root), _weights(root), (root / "pool.toml").read_text()
    if not rebuild:
        _add_squares(root)
        shutil.copytree(root, tmp_path / "undisturbed")
    options = [part for name in rebuild for part in ("--rebuild", name)]
    command = [sys.executable, "-c", FULL_DISK, root / "pool.toml", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert re.search(r"cannot write .*pools/tiny\S*: the disk is full.*; make room .* run the same command again", last)
    assert "serializ" not in last and "\n" not in last

    assert _in_the_pool(root) == before
    new_file = (root / "pool.toml").read_text()
    (root / "pool.toml").write_text(old_file)
    assert _open(root).names == ("code", "docs", "prose")
    (root / "pool.toml").write_text(new_file)

    capsys.readouterr()
    _build(root, *rebuild)
    assert "reading text" not in capsys.readouterr().err, "the new corpus was kept too"
    if not rebuild:
        _build(tmp_path / "undisturbed")
        undisturbed = _weights(tmp_path / "undisturbed")
    assert _weights(root) == undisturbed
    assert _leftovers(root) == []


def test_members_that_are_not_finite_leave_the_pool_as_it_was(root: Path) -> None:
    before = _in_the_pool(root)
    edit(root / "pool.toml", "learning_rate = 3e-3", "learning_rate = 1e30")
    with pytest.raises(PoolError, match="has NaN or infinite values in"):
        _build(root, "code", "docs", "prose")
    assert _in_the_pool(root) == before
    edit(root / "pool.toml", "learning_rate = 1e30", "learning_rate = 3e-3")
    assert _open(root).names == ("code", "docs", "prose")
    _build(root)
    assert _in_the_pool(root) == before and _leftovers(root) == []


def test_what_waits_and_is_damaged_is_made_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _weights(root)
    build_until(root, monkeypatch, "code", "docs", at="docs")
    (path,) = (root / POOL).glob(".new-*/members/code/model.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    _build(root, "code", "docs")
    assert _weights(root) == before and _leftovers(root) == []


def test_what_waits_is_discarded_by_a_build_of_something_else(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = _in_the_pool(root)
    build_until(root, monkeypatch, "code", "docs", at="docs")
    capsys.readouterr()
    _build(root)
    assert "what an interrupted build of something else had made is discarded" in capsys.readouterr().err
    assert _in_the_pool(root) == before and _leftovers(root) == []


def test_what_waits_is_not_of_another_checkpoint_than_the_one_that_is_given(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tmp_path / "given"
    shutil.copytree(root / POOL / "seed", given)
    name_seed(root / "pool.toml", f'checkpoint = "{given}"\ncontext = 32')
    build_until(root, monkeypatch, "all", at="docs")
    model = load_model(given)
    next(model.parameters()).data.mul_(2)
    model.save_pretrained(given)
    pool = _build(root, "all")
    assert pool.manifest.seed.weights_digest == digest_file(given / "model.safetensors")
    assert {member.start_digest for member in pool.manifest.members.values()} == {pool.manifest.seed.weights_digest}
    assert _leftovers(root) == []


def test_members_on_another_disk_are_refused_before_anything_is_trained(root: Path) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == root.stat().st_dev:
        pytest.skip("there is no second file system here")
    with tempfile.TemporaryDirectory(dir=memory) as elsewhere:
        shutil.move(root / POOL / "members", elsewhere)
        (root / POOL / "members").symlink_to(Path(elsewhere) / "members")
        assert _open(root).names == ("code", "docs", "prose")
        with pytest.raises(PoolError, match="members is on another disk than .*; keep all of a pool on one disk"):
            _build(root, "docs")


@dataclass(frozen=True)
class Ready:
    """A root with a new partition and a rebuilt member, all of it there and nothing exchanged yet."""

    root: Path
    stage: str
    new: Sequence[str]
    old_file: str
    old: dict[str, bytes]
    undisturbed: dict[str, str]


@pytest.fixture(scope="module")
def ready(built_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Ready:
    root = tmp_path_factory.mktemp("ready") / "root"
    shutil.copytree(built_root, root)
    old_file, old = (root / "pool.toml").read_text(), _in_the_pool(root)
    _add_squares(root)
    undisturbed = root.with_name("undisturbed")
    shutil.copytree(root, undisturbed)
    _build(undisturbed, "docs")
    caught: list[tuple[Path, Sequence[str]]] = []

    def stop(stage: Path, new: Sequence[str], gone: Sequence[str]) -> None:
        assert gone == []
        caught.append((stage, new))
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(build, "exchange", stop)
        _build(root, "docs")
    ((stage, new),) = caught
    return Ready(root, stage.name, new, old_file, old, _weights(undisturbed))


KILLED = """
import json, os, signal, sys
from pathlib import Path
from pool.parts import layout
stage, new, where, nth = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3], int(sys.argv[4])
def killed(original):
    calls = 0
    def wrapped(*arguments, **options):
        global calls
        calls += 1
        if calls == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)
    return wrapped
calls = 0
place = layout.shutil if where == "rmtree" else layout
setattr(place, where, killed(getattr(place, where)))
layout.exchange(stage, new, [])
"""
PLACES = [("write_record", 1), *(("_move", nth) for nth in range(1, 7)), ("rmtree", 1), ("rmtree", 2)]


@pytest.mark.parametrize(("where", "nth"), PLACES)
def test_an_exchange_killed_at_an_exact_place_leaves_the_old_pool_or_the_new(
    where: str, nth: int, ready: Ready, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, opened = tmp_path / "root", tmp_path / "opened"
    shutil.copytree(ready.root, root)
    arguments = [root / POOL / ready.stage, json.dumps(ready.new), where, str(nth)]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False)
    assert done.returncode == -signal.SIGKILL
    shutil.copytree(root, opened)

    if where == "write_record":
        (opened / "pool.toml").write_text(ready.old_file)
        assert _open(opened).names == ("code", "docs", "prose")
        assert _in_the_pool(opened) == ready.old
    else:
        assert _open(opened).names == ("code", "docs", "prose", "squares")
        assert _weights(opened) == ready.undisturbed and _leftovers(opened) == []

    capsys.readouterr()
    _build(root, "docs")
    said = capsys.readouterr().err
    assert "reading text" not in said and "member '" not in said, "nothing is made twice"
    assert _weights(root) == ready.undisturbed and _leftovers(root) == []


def test_who_opens_a_pool_while_another_process_exchanges_its_parts_waits_for_it(
    ready: Ready, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    shutil.copytree(ready.root, root)
    (root / POOL / ready.stage / ".old/members").mkdir(parents=True)
    (root / POOL / ready.stage / "exchange.json").write_text(json.dumps({"new": ready.new, "gone": []}))
    monkeypatch.setattr(store, "_EXCHANGE_SECONDS", 0.1)
    with FileLock(root / "pools/.tiny.lock"), pytest.raises(PoolError, match="is being built by another process"):
        _open(root)
    assert _open(root).names == ("code", "docs", "prose", "squares")
    with pytest.raises(PoolMismatchError):
        (root / "pool.toml").write_text(ready.old_file)
        _open(root)
