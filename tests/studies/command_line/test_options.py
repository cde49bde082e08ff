"""A command with a mistake in its options or files says so before torch loads, whatever the verb."""

import json
import subprocess
import sys
from pathlib import Path

from small_table import write_small_study
from tiny import edit

CHECK = """
import io, json, os, sys
from contextlib import redirect_stderr
from studies.command_line.app import main

said = {}
for name, command in json.loads(sys.argv[1]).items():
    variables, sys.argv = command[0], ["mixscout", *command[1:]]
    os.environ.update(variables)
    with redirect_stderr(io.StringIO()) as stream:
        try:
            main()
        except SystemExit as stop:
            code = stop.code
    for variable in variables:
        del os.environ[variable]
    said[name] = [code, stream.getvalue(), "torch" in sys.modules or "transformers" in sys.modules]
print(json.dumps(said))
"""


def test_mistakes_are_said_before_torch_loads(tmp_path: Path) -> None:
    good = write_small_study(tmp_path)
    for name, (old, new) in {
        "strategy": ('"auto"', '"nope"'),
        "table": ('"swarm"', '"gone"'),
        "tracker": ("[gate]", "[gate]\nenabeld = true"),
    }.items():
        (tmp_path / f"{name}.toml").write_text(good.read_text())
        edit(tmp_path / f"{name}.toml", old, new)
    (tmp_path / "pool.toml").write_text('name = "s"\npool = "gone.toml"\n[target]\nh = 1.0\n')
    there = str(good)
    mistakes = {
        "is no list of devices": [{}, "search", there, "--devices=-1"],
        "give --engine ray with it": [{}, "search", there, "--address", "auto"],
        "no such file": [{}, "best", str(tmp_path / "none.toml")],
        "unknown strategy 'nope'": [{}, "search", str(tmp_path / "strategy.toml")],
        "gone: no such folder": [{}, "report", str(tmp_path / "table.toml")],
        "unknown key 'gate.enabeld'": [{}, "compare", str(tmp_path / "tracker.toml")],
        "gone.toml: no such file": [{}, "robustness", str(tmp_path / "pool.toml")],
        "has more than one @": [{"MIXSCOUT_STORAGE": "postgresql://me:a@b@c/d"}, "worker", there],
        "is no loopback address": [{}, "dashboard", there, "--host", "0.0.0.0"],
        "none.toml: no such": [{}, "pool", "build", str(tmp_path / "none.toml")],
    }
    ran = subprocess.run(
        [sys.executable, "-c", CHECK, json.dumps(mistakes)], capture_output=True, text=True, check=True
    )
    for message, (code, said, heavy) in json.loads(ran.stdout).items():
        assert code == 1 and message in said and said.count("\n") == 1, (message, said)
        assert not heavy, message
