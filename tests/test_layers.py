"""The building stands: imports only point down, and importing does nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = ["pool", "objectives", "search", "studies"]


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_only_point_down(floor: str) -> None:
    above = set(FLOORS[FLOORS.index(floor) + 1 :])
    for path in (ROOT / floor).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            used = {name.partition(".")[0] for name in names}
            assert not used & above, f"{path} imports {used & above}, which is above it"


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
    third_party = "\n".join(sorted(others))
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
