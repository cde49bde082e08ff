"""The damage matrix: one damaged file, one verb; the verb answers as ever, or says a remedy that works as printed."""

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from damage import WAYS

LIGHT = {
    "build": "pool build pool.toml --json",
    "show": "pool show pool.toml --json",
    "add": "pool add pool.toml docs --checkpoint given/docs --replace --json",
    "overlap": "pool overlap pool.toml --json",
    "search": "search study.toml --json",
    "worker": "worker study.toml",
    "best": "best study.toml --json",
    "confirm": "confirm study.toml --json",
    "predict": "predict study.toml --mixture code=0.5,docs=0.5 --json",
    "table": "table study.toml {out}",
    "handover": "handover study.toml {out} --json",
    "export": "export study.toml {out}",
    "compare": "compare study.toml other.toml --json",
    "at an age": "search aged.toml --json",
}
HEAVY = {
    "check": "pool check pool.toml --points 1 --pairs 1 --json",
    "fidelity": "fidelity study.toml --mixtures 6 --json",
    "robustness": "robustness study.toml --json",
    "ablate": "ablate study.toml --json",
    "report": "report study.toml --json",
    "bench memory": "bench memory study.toml --mixtures 1 --json",
}
"""A few seconds each."""
_VARYING = re.compile("second|time|created|version|when|megabytes|root|picture|report|folder|files|pages|rss|bytes_of")
_ALIKE = ("members/docs/", "members/prose/", "/docs.", "/prose.", ".docs.", ".prose.")


@dataclass
class Damaged:
    """A root with a damaged file, and what was found out about it."""

    root: Path
    file: str
    way: str
    faults: list[str] = field(default_factory=list)


def files_of(root: Path) -> list[str]:
    """List the files of pool and database, one of each kind: those of the first partition, domain and truth."""
    paths = [path for path in root.rglob("*") if path.is_file() and ("pools" in path.parts or ".db" in path.name)]
    names = sorted(path.relative_to(root).as_posix() for path in paths)
    truths = sorted({name.split("/")[3] for name in names if "/trained/" in name and not name.endswith(".lock")})
    others = tuple(f"trained/{name}" for name in truths[1:]) + tuple(f"trained/.{name}" for name in truths[1:])
    return [name for name in names if not any(part in name for part in (*_ALIKE, *others))]


def commands_in(message: str) -> list[str]:
    """Extract the commands that a message recommends."""
    return [one for one in re.findall("`([^`]+)`", message) if one.split()[0] in ("mixscout", "rm", "mv")]


class Matrix:
    """Runs verbs in copies of a sound root, and compares their answers with those of the root itself."""

    def __init__(self, sound: Path, place: Path, run: Callable[..., Any], go: Callable[[Path], object]) -> None:
        self._sound, self._place, self._run, self._go = sound, place, run, go
        self._expected: dict[str, object] = {}
        self._copies = 0

    def faults_of(self, file: str, way: str, verbs: dict[str, str]) -> Iterator[str]:
        """Damage a file, and word all that verbs do wrong then."""
        told: dict[str, Path] = {}
        is_lost = ".db" in file  # what a study knew cannot be had again but by searching
        for name, line in verbs.items():
            expected = self._sound_answer(name, line)
            root = self._copy(self._sound)
            WAYS[way](root / file)
            code, answer, error = self._answer(root, line)
            where = f"{file} ({way}), {name}"
            if code == 0:
                if not is_lost and answer != expected:
                    yield f"{where}: another answer: {_difference(expected, answer)}"
                continue
            said = error.strip().splitlines()
            if "Traceback" in error or not said or not said[-1].startswith("mixscout: "):
                yield f"{where}: no line of ours: {error[-600:]}"
                continue
            message = said[-1]
            if Path(file).name not in message and str(Path(file).parent) not in message:
                yield f"{where}: the file is not named: {message}"
            if not commands_in(message):
                yield f"{where}: no command: {message}"
                continue
            key = message.replace(str(root), "")
            if key not in told:
                fault = self._repair(root, message)
                if fault:
                    yield f"{where}: {message}: {fault}"
                    continue
                told[key] = root
            code, answer, error = self._answer(told[key], line)
            if code != 0 or (not is_lost and answer != expected):
                yield f"{where}: {message}: after the remedy: {error.strip()[-300:] or _difference(expected, answer)}"

    def _repair(self, root: Path, message: str) -> str | None:
        for command in commands_in(message):
            if command.startswith("mixscout "):
                self._go(root)
                done = self._run(*shlex.split(command)[1:])
                if done.code:
                    return f"`{command}` says: {done.err.strip()[-400:]}"
            else:
                shell = subprocess.run(command, shell=True, cwd=root, capture_output=True, text=True, check=False)
                if shell.returncode:
                    return f"`{command}` says: {shell.stderr}"
        return None

    def _sound_answer(self, name: str, line: str) -> object:
        if name not in self._expected:
            code, answer, error = self._answer(self._copy(self._sound), line)
            assert code == 0, f"{line}: {error}"
            self._expected[name] = answer
        return self._expected[name]

    def _copy(self, root: Path) -> Path:
        self._copies += 1
        copy = self._place / str(self._copies) / "root"
        shutil.copytree(root, copy)
        return copy

    def _answer(self, root: Path, line: str) -> tuple[int, object, str]:
        self._copies += 1
        out = root / f"out{self._copies}"
        self._go(root)
        done = self._run(*line.format(out=out.name).split())
        answer: object = None
        if "--json" in line and not done.code:
            answer = _plain(json.loads(done.out))
        elif out.exists():
            weights = out / "model.safetensors"
            answer = weights.read_bytes() if weights.exists() else sorted(path.name for path in out.iterdir())
        return done.code, answer, done.err


def _plain(value: object) -> object:
    """Leave out times, places and sizes of a process, which no two runs share."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items() if not _VARYING.search(str(key))}
    return [_plain(part) for part in value] if isinstance(value, list) else value


def _difference(one: object, other: object, where: str = "") -> str:
    if isinstance(one, dict) and isinstance(other, dict):
        keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
        return _difference(one.get(keys[0]), other.get(keys[0]), f"{where}.{keys[0]}") if keys else ""
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        place = next((at for at, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1]), 0)
        return _difference(one[place], other[place], f"{where}[{place}]") if one else ""
    return f"{where}: {str(one)[:80]} -> {str(other)[:80]}"
