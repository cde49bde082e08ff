"""The damage matrix: one damaged file, one verb; the verb answers as ever, or says a remedy that works as printed."""

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from damage import WAYS

LIGHT = {
    "build": "pool build pool.toml --json",
    "rebuild": "pool build pool.toml --rebuild all --json",
    "show": "pool show pool.toml --json",
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
    "add": "pool add pool.toml docs --checkpoint given/docs --replace --json",
}
"""The last changes the root for those after it."""
HEAVY = {
    "check": "pool check pool.toml --points 1 --pairs 1 --json",
    "fidelity": "fidelity study.toml --mixtures 6 --json",
    "robustness": "robustness study.toml --json",
    "ablate": "ablate study.toml --json",
    "report": "report study.toml --json",
    "dashboard": "dashboard study.toml --port 0 --json",
    "bench": "bench landscape study.toml --values 3 --gradients 3 --unseen 3 --json",
}
"""A few seconds each. Where an earlier verb was refused by the same line, its remedy is not tried again."""
_VARYING = re.compile(
    "second|time|created|version|when|megabytes|root|picture|report|folder|files|table|missing|pages|rss|bytes_of|url|page"
)
_OF_A_LOCK = ("build", "search", "confirm")
"""A lock's content is never read."""
_ALIKE = ("members/docs/", "members/prose/", "/docs.", "/prose.", ".docs.", ".prose.")


def files_of(root: Path) -> list[str]:
    """List the files of pool and database, one of each kind: those of the first partition, domain and truth."""
    paths = [path for path in root.rglob("*") if path.is_file() and ("pools" in path.parts or ".db" in path.name)]
    names = sorted(path.relative_to(root).as_posix() for path in paths)
    truths = sorted({name.split("/")[3] for name in names if "/trained/" in name and not name.endswith(".lock")})
    others = tuple(f"trained/{name}" for name in truths[1:]) + tuple(f"trained/.{name}" for name in truths[1:])
    return [name for name in names if not any(part in name for part in (*_ALIKE, *others))]


def verbs_for(file: str) -> dict[str, str]:
    """Choose the verbs to try where a file is damaged: the light ones first, whose remedies the heavy ones share."""
    return {name: LIGHT[name] for name in _OF_A_LOCK} if file.endswith(".lock") else LIGHT | HEAVY


def commands_in(message: str) -> list[str]:
    """Extract the commands that a message recommends."""
    return [one for one in re.findall("`([^`]+)`", message) if one.split()[0] in ("mixscout", "rm", "mv")]


_REMEDIES = 3
"""Most messages with a remedy each, one after the other."""


class Matrix:
    """Runs verbs in copies of a sound root, and compares their answers with those of the root itself."""

    def __init__(self, sound: Path, place: Path, run: Callable[..., Any], go: Callable[[Path], object]) -> None:
        self._sound, self._place, self._run, self._go = sound, place, run, go
        self._expected: dict[str, object] = {}
        self._copies = 0

    def faults_of(self, file: str, way: str, verbs: dict[str, str]) -> Iterator[str]:
        """Damage a file, and word all that verbs do wrong then."""
        repaired: dict[str, Path] = {}
        for name, line in verbs.items():
            expected = self._sound_answer(name, line)
            root = self._copy(self._sound)
            WAYS[way](root / file)
            code, answer, error = self._answer(root, line)
            if code != 0:
                fault = _fault_of_message(error, file)
                for _ in range(_REMEDIES):
                    if fault or code == 0:
                        break
                    told = error.replace(str(root), "")
                    if told in repaired and name in HEAVY:
                        code, answer = 0, expected
                        break
                    fault = None if told in repaired else self._repair(root, _last(error))
                    root = repaired.setdefault(told, root)
                    code, answer, error = self._answer(root, line)
                if fault or code != 0:
                    yield f"{file} ({way}), {name}: {fault or 'after the remedy'}: {error[-900:]}"
                    continue
            # what a study knew is in its database alone
            if ".db" not in file and answer != expected:
                yield f"{file} ({way}), {name}: another answer: {_difference(expected, answer)}"
        self._go(self._place)
        for copy in self._place.glob("*/root"):
            shutil.rmtree(copy)

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


def _last(error: str) -> str:
    return (error.strip().splitlines() or [""])[-1]


def _fault_of_message(error: str, file: str) -> str | None:
    message = _last(error)
    if "Traceback" in error or not message.startswith("mixscout: "):
        return "no line of ours"
    if Path(file).name not in message and str(Path(file).parent) not in message:
        return "the file is not named"
    return None if commands_in(message) else "no command"


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
