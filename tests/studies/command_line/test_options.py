"""Verbs that merge and train nothing answer without torch, and so does every mistake in options or files."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from small_table import write_small_study
from tiny import edit

from pool.config.pool_file import PoolFile, read_pool_file
from pool.files.toml import assigned, read_config
from studies.study_file.study_file import read_study_file

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
    said[name] = [code, stream.getvalue(), sorted({"torch", "transformers", "datasets"} & set(sys.modules))]
print("\\n" + json.dumps(said))
"""


ASSIGNED_WRONGLY = {
    "search.mergs=60": "unknown key 'search.mergs'; did you mean 'merges'? (by --set search.mergs=60)",
    "merges=60": "unknown key 'merges'; did you mean 'search.merges'? (by --set merges=60)",
    "search.merges=few": "'search.merges': Input should be a valid integer",
    "search.merges=[": "--set search.merges=[: [ is no value of TOML",
    "search.merges": "--set search.merges: expected KEY=VALUE, say --set search.merges=60",
    "search merges=6": "'search merges' is no key of TOML; say SECTION.KEY",
    "name.x=3": "study.toml: 'name' is 'small' and no section (by --set name.x=3)",
    "pool.recipe.tokens=3": "the study is on a table and has no pool file (by --set pool.recipe.tokens=3)",
}


def _said(commands: dict[str, list[object]]) -> dict[str, tuple[int | None, str, list[str]]]:
    """Run command lines one after the other in a fresh process: exit code, stderr, and heavy modules loaded by then."""
    script = [sys.executable, "-c", CHECK, json.dumps(commands)]
    ran = subprocess.run(script, capture_output=True, text=True, check=True)
    said: dict[str, tuple[int | None, str, list[str]]] = json.loads(ran.stdout.splitlines()[-1])
    return said


@pytest.fixture
def finished(root: Path, mixscout) -> Path:
    """A root with a study searched to its budget, whose best mixture was asked for once."""
    edit(root / "study.toml", "merges = 12", "merges = 5")
    assert mixscout("search", root / "study.toml").code == 0
    assert mixscout("best", root / "study.toml").code == 0
    return root


def test_verbs_that_merge_nothing_answer_without_torch(finished: Path) -> None:
    study, pool = str(finished / "study.toml"), str(finished / "pool.toml")
    verbs: dict[str, list[object]] = {
        "pool show": [{}, "pool", "show", pool],
        "best": [{}, "best", study],
        "best --json": [{}, "best", study, "--json"],
        "search without budget": [{}, "search", study],
        "table": [{}, "table", study, str(finished / "table")],
        "handover": [{}, "handover", study, str(finished / "handover"), "--text"],
        "report": [{}, "report", study],
    }
    for verb, (code, said, heavy) in _said(verbs).items():
        assert not code, (verb, said)
        assert heavy == [], verb


def test_mistakes_in_a_built_pool_and_its_study_are_said_without_torch(finished: Path) -> None:
    study, pool = finished / "study.toml", finished / "pool.toml"
    for name, (file, old, new) in {
        "key": (pool, "[recipe]", "[recipe]\ntokenz = 1"),
        "toml": (pool, "[recipe]", "[recipe"),
        "recipe": (pool, "tokens = 6_000", "tokens = 6_001"),
        "domain": (study, "prose", "proze"),
        "gone": (study, "pool.toml", "nowhere.toml"),
        "other": (study, 'name = "tiny"', 'name = "other"'),
    }.items():
        (finished / f"{name}.toml").write_text(file.read_text())
        edit(finished / f"{name}.toml", old, new)
    weights = next(path for path in (finished / "pools").rglob("members/*/model.safetensors"))
    mistakes: dict[str, list[object]] = {
        "unknown key 'recipe.tokenz'": [{}, "pool", "show", str(finished / "key.toml")],
        "not valid TOML": [{}, "pool", "show", str(finished / "toml.toml")],
        "recipe.tokens 6000 -> 6001": [{}, "pool", "show", str(finished / "recipe.toml")],
        "'proze' is no held-out domain": [{}, "best", str(finished / "domain.toml")],
        "nowhere.toml: no such file": [{}, "report", str(finished / "gone.toml")],
        "'proze' is no": [{}, "ablate", str(finished / "domain.toml")],
        "no study 'other'": [{}, "robustness", str(finished / "other.toml")],
    }
    said = _said(mistakes)
    weights.write_bytes(weights.read_bytes()[:-1])
    said |= _said({"truncated or altered": [{}, "best", str(study)]})
    for message, (code, text, heavy) in said.items():
        lines = 5 if message.startswith("recipe.") else 1
        assert code == 1 and message in text and text.count("\n") == lines, (message, text)
        assert heavy == [], message


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
    mistakes: dict[str, list[object]] = {
        "is no list of devices": [{}, "search", there, "--devices=-1"],
        "give --engine ray with it": [{}, "search", there, "--address", "auto"],
        "no such file": [{}, "best", str(tmp_path / "none.toml")],
        "unknown strategy 'nope'": [{}, "search", str(tmp_path / "strategy.toml")],
        "gone: no such folder": [{}, "report", str(tmp_path / "table.toml")],
        "unknown key 'gate.enabeld'": [{}, "compare", str(tmp_path / "tracker.toml")],
        "gone.toml: no such file": [{}, "robustness", str(tmp_path / "pool.toml")],
        f"'pool': {tmp_path}/gone.toml: no such": [{}, "confirm", str(tmp_path / "pool.toml")],
        "a study file, by its key 'table'": [{}, "pool", "show", there],
        "has more than one @": [{"MIXSCOUT_STORAGE": "postgresql://me:a@b@c/d"}, "worker", there],
        "is no loopback address": [{}, "dashboard", there, "--host", "0.0.0.0"],
        "none.toml: no such": [{}, "pool", "build", str(tmp_path / "none.toml")],
        **{message: [{}, "search", there, "--set", told] for told, message in ASSIGNED_WRONGLY.items()},
    }
    for message, (code, said, heavy) in _said(mistakes).items():
        assert code == 1 and message in said and said.count("\n") == 1, (message, said)
        assert heavy == [], message


def test_a_study_that_is_not_in_the_database_of_the_environment_is_said_to_be_sought_there(
    tmp_path: Path, mixscout: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = write_small_study(tmp_path)
    assert "mixscout.db; run `mixscout search" in mixscout("best", study).err
    monkeypatch.setenv("MIXSCOUT_STORAGE", str(tmp_path / "other.db"))
    assert "other.db, the database of MIXSCOUT_STORAGE in the environment; run" in mixscout("best", study).err


def test_an_assignment_is_said_and_acts_for_one_command(tmp_path: Path, mixscout) -> None:
    study = write_small_study(tmp_path)
    text = study.read_text()
    said = ("search.merges=3", "name=other", "target.manuals=0.5", "target.tales=0.5")
    told = [word for one in said for word in ("--set", one)]
    searched = mixscout("search", study, *told, "--json")
    answer = json.loads(searched.out)
    assert (answer["study"], answer["counts"]["merges"]) == ("other", 3)
    assert searched.err.startswith("".join(f"{study}: {one}, by --set\n" for one in said))
    assert study.read_text() == text and assigned(study) == () and read_study_file(study).search.merges == 12
    unknown = mixscout("best", study)
    assert unknown.err.endswith(f"run `mixscout search {study}` first\n"), "what was assigned before is forgotten"
    gone = mixscout("best", study, "--set", "name=a name")
    assert gone.err.endswith(f"run `mixscout search {study} --set 'name=a name'` first\n"), "the command is complete"


def test_an_assignment_reaches_a_study_s_pool_file(empty_root: Path, mixscout) -> None:
    refused = mixscout("search", empty_root / "study.toml", "--set", "pool.recipe.tokns=3")
    assert refused.code == 1 and "pool.toml: unknown key 'recipe.tokns'; did you mean 'tokens'?" in refused.err
    answer = mixscout("best", empty_root / "study.toml", "--set", "pool.recipe.tokens=640", "--set", "pool.name=short")
    assert f"{empty_root / 'pool.toml'}: recipe.tokens=640, by --set" in answer.err
    remedy = f"run `mixscout pool build {empty_root / 'pool.toml'} --set recipe.tokens=640 --set name=short`"
    assert answer.code == 1 and remedy in answer.err
    assert read_pool_file(empty_root / "pool.toml").recipe.tokens == 6_000
    assert read_config(empty_root / "pool.toml", PoolFile).name == "tiny"


def test_quiet_leaves_the_answer_and_errors_alone(tmp_path: Path, mixscout) -> None:
    study = write_small_study(tmp_path)
    searched = mixscout("search", study, "--set", "search.merges=2", "--quiet", "--json")
    assert json.loads(searched.out)["counts"]["merges"] == 2 and searched.err == ""
    refused = mixscout("--quiet", "search", study, "--set", "search.mergs=2")
    assert refused.err.startswith("mixscout: ") and refused.err.count("\n") == 1
    loud = mixscout("best", study, "--set", "name=another")
    assert loud.code == 1 and loud.err.startswith(f"{study}: name=another, by --set\n"), "the next command speaks again"


def test_verbose_shows_an_error_s_traceback(tmp_path: Path, mixscout) -> None:
    refused = mixscout("best", write_small_study(tmp_path), "--verbose")
    traceback, last = refused.err.rstrip("\n").rsplit("\n", 1)
    assert refused.code == 1 and "Traceback (most recent call last)" in traceback
    assert last.startswith("mixscout: no study 'small'")


INTO = {
    "fidelity": ["--output"],
    "ablate": ["--output"],
    "compare": ["--output"],
    "report": ["--output"],
    "export": [],
    "table": [],
    "handover": [],
}
"""Verbs that write files, and the option of their place."""


@pytest.mark.parametrize("verb", INTO)
def test_a_place_that_takes_no_files_is_said_before_any_work(verb: str, tmp_path: Path, mixscout) -> None:
    study = write_small_study(tmp_path)
    for place in (tmp_path / "study.toml" / "below", Path("/proc/none")):
        refused = mixscout(verb, study, *INTO[verb], place)
        assert refused.code == 1 and refused.err.count("\n") == 1, refused.err
        assert refused.err.startswith(f"mixscout: {place}: cannot write there: "), refused.err
    assert not (tmp_path / "mixscout.db").exists()


def test_a_picture_and_a_check_without_a_place_are_said_before_any_work(empty_root: Path, mixscout) -> None:
    for words in (
        ("bench", "search", "--picture", "/proc/none/a.png"),
        ("pool", "check", empty_root / "pool.toml", "--output", "/proc/none"),
    ):
        refused = mixscout(*words)
        assert refused.code == 1 and refused.err.startswith("mixscout: /proc/none: cannot write there: "), refused.err


def test_a_mistake_about_a_target_names_its_file(tmp_path: Path, mixscout) -> None:
    study = write_small_study(tmp_path)
    refused = mixscout("search", study, "--set", "target.tails=1.0")
    assert (
        refused.code == 1 and refused.err.splitlines()[-1].startswith(f"mixscout: {study}: ") and "tails" in refused.err
    )
