"""The building stands: imports only point down, and importing does nothing."""

import ast
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = ["pool", "objectives", "search", "studies", "mixscout"]


ORDER = """
pool/errors.py  pool/progress.py  pool/files  pool/mixture.py  pool/engines  pool/config
pool/checkpoints  pool/corpus/reading  pool/corpus  pool/tokens  pool/building/training  pool/parts  pool/building
objectives/held_out.py  objectives/evaluation.py  objectives/aggregates.py  objectives/target.py
objectives/agreement  objectives/stand_ins
objectives/merging/members  objectives/merging  objectives/scoring  objectives/losses
search/surrogates  search/trials.py  search/space.py  search/optuna_private.py  search/strategies
search/per_trial_sampler.py  search/stop.py  search/gate.py  search/history.py  search/crew.py  search/loop.py
studies/terminal.py  studies/database/migrations  studies/database  studies/study_file
studies/opened  studies/running  studies/answers  studies/assessment/pool_check  studies/assessment/fidelity
studies/assessment/comparison  studies/assessment/ablation
studies/benchmarks/ratio.py  studies/benchmarks/training.py  studies/benchmarks/surrogates.py
studies/benchmarks/evaluation  studies/benchmarks/gpu.py  studies/benchmarks/strategies
studies/outcome/handover  studies/outcome/smaller  studies/outcome/cost  studies/outcome/samples.py
studies/outcome/rating.py  studies/outcome/report/facts
studies/outcome/report/sections  studies/outcome/report  studies/outcome/dashboard  studies/command_line  mixscout
"""
ROOMS = ORDER.split()
"""From the ground up: a room, or a file of a floor, imports only what is named before it."""


SOURCES = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in SOURCES}


@cache
def imports_of(path: Path) -> frozenset[Path]:
    """Our own files that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {MODULES[alias.name] for alias in node.names if alias.name in MODULES}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                found |= {MODULES[name] for name in (module, node.module) if name in MODULES}
    return frozenset(used for used in found if used.name != "__init__.py")


def room_of(path: Path) -> int:
    """The place of a file in ROOMS: that of the longest entry it lies under."""
    name = path.relative_to(ROOT).as_posix()
    under = [room for room in ROOMS if name == room or name.startswith(f"{room}/")]
    assert under, f"{name} is in no room of ROOMS"
    return ROOMS.index(max(under, key=len))


@pytest.mark.parametrize("path", [path for path in SOURCES if path.name != "__init__.py"], ids=lambda path: path.name)
def test_imports_between_rooms_only_point_down(path: Path) -> None:
    above = sorted(str(used.relative_to(ROOT)) for used in imports_of(path) if room_of(used) > room_of(path))
    assert not above, f"{path.relative_to(ROOT)} imports {above}, which are above it"


def test_a_room_holds_at_most_twelve_entries_and_says_its_duty() -> None:
    for folder in sorted({path.parent for path in SOURCES}):
        entries = [path for path in folder.iterdir() if path.name not in ("__pycache__", "__init__.py")]
        assert len(entries) <= 12, f"{folder.relative_to(ROOT)} holds {len(entries)} entries"
        duty = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
        assert duty, f"{folder.relative_to(ROOT)}/__init__.py says nothing"


def test_a_small_file_has_two_callers() -> None:
    callers = {path: [other for other in SOURCES if other != path and path in imports_of(other)] for path in SOURCES}
    small = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if path.name != "__init__.py"
        and len(path.read_text().splitlines()) < 40
        and len(callers[path]) < 2
        and path.parent.name != "versions"  # Alembic reads revisions
    ]
    assert small == [], "a file of one thought that one other uses belongs into that one"


def test_importing_every_module_of_ours_changes_no_global_state() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for floor in FLOORS
        for path in sorted((ROOT / floor).rglob("*.py"))
    ]
    others = {
        ast.unparse(node)
        for floor in FLOORS
        for path in (ROOT / floor).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Import) and node.names[0].name.partition(".")[0] not in FLOORS)
        or (isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] not in [*FLOORS, "__future__"])
    }
    has_triton = find_spec("triton") is not None  # PyTorch's wheels for CPUs come without
    third_party = "\n".join(sorted(line for line in others if has_triton or "triton" not in line))
    script = f"""
{third_party}
import importlib, logging, random
import numpy, optuna, torch
before = (random.getstate(), str(numpy.random.get_state()), torch.random.get_rng_state().tolist(),
          logging.getLogger().handlers[:], torch.get_num_threads(), optuna.logging.get_verbosity())
for name in {modules!r}:
    importlib.import_module(name)
after = (random.getstate(), str(numpy.random.get_state()), torch.random.get_rng_state().tolist(),
         logging.getLogger().handlers[:], torch.get_num_threads(), optuna.logging.get_verbosity())
assert before == after, "importing changed global state"
assert not torch.cuda.is_initialized()
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


def test_no_file_is_longer_than_its_one_duty_needs() -> None:
    long = [
        str(path)
        for floor in FLOORS
        for path in (ROOT / floor).rglob("*.py")
        if len(path.read_text().splitlines()) > 300
    ]
    assert long == []
