"""The example files work as they stand: by the commands in their heads, or as far as files go without their text."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import typer

from pool.config.pool_file import read_pool_file
from studies.command_line.app import app
from studies.study_file.study_file import read_study_file

EXAMPLES = Path(__file__).parents[3] / "studies" / "examples"
FILES = sorted(path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*.toml"))
POOLS = [name for name in FILES if name.endswith("_pool.toml")]
ON_TABLES = ["two_scales_study.toml"]
STUDIES = [name for name in FILES if name not in (*POOLS, *ON_TABLES)]
COMMAND = re.compile(r"^#   mixscout (.+)$", re.MULTILINE)

SMALL = {
    "corpus.train_tokens": 4_000,
    "corpus.held_out_tokens": 600,
    "corpus.held_out_document_tokens": 200,
    "tokenizer.vocabulary": 300,
    "tokenizer.sample_bytes": 40_000,
    "model.hidden_size": 16,
    "model.intermediate_size": 32,
    "model.layers": 1,
    "model.attention_heads": 1,
    "model.context": 64,
    "seed.recipe.tokens": 1_280,
    "recipe.tokens": 640,
}
"""Keys of the demo's pool file for a pool in seconds."""


def _commands(name: str) -> list[list[str]]:
    return [shlex.split(line) for line in COMMAND.findall((EXAMPLES / name).read_text(encoding="utf-8"))]


def _small(prefix: str, keys: dict[str, int]) -> list[str]:
    return [word for key, value in keys.items() for word in ("--set", f"{prefix}{key}={value}")]


@pytest.mark.parametrize("name", FILES)
def test_the_head_of_an_example_names_commands_and_files_that_are_there(name: str) -> None:
    commands = _commands(name)
    assert commands
    for words in commands:
        command = typer.main.get_command(app)
        while inner := getattr(command, "commands", None):
            command = inner[words.pop(0)]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options
        assert {word for word in words if word.endswith(".toml")} <= {Path(file).name for file in FILES}


@pytest.mark.parametrize("name", POOLS)
def test_a_pool_without_its_text_says_where_to_get_it(name: str, mixscout, tmp_path: Path) -> None:
    config = read_pool_file(EXAMPLES / name)
    if config.corpus.source == "demo":
        return
    head = (EXAMPLES / name).read_text(encoding="utf-8").split("\nname = ")[0]
    assert all(f"#   {partition} " in head for partition in config.corpus.partitions)
    file = shutil.copy(EXAMPLES / name, tmp_path)
    refused = mixscout("pool", "build", file)
    assert refused.code == 1 and f"{tmp_path / 'corpora'}" in refused.err and refused.err.count("\n") == 1


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_names_a_pool_that_is_there_and_its_domains(name: str) -> None:
    config = read_study_file(EXAMPLES / name)
    assert config.pool is not None and config.pool.relative_to(EXAMPLES).as_posix() in POOLS
    pool = read_pool_file(config.pool)
    if pool.corpus.source == "files":
        domains = {*pool.corpus.partitions, *pool.corpus.held_out}
        assert {*config.target.weights, *config.objective.domains} <= domains


@pytest.mark.parametrize("name", ON_TABLES)
def test_a_study_on_a_table_runs_by_the_commands_in_its_head(
    name: str, mixscout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    monkeypatch.chdir(tmp_path / "examples")
    search, best = _commands(name)
    assert mixscout(*search, "--set", "search.merges=12").code == 0
    shown = mixscout(*best).out
    assert "What the scales tell of 1B: its 5 runs" in shown and "Next run at 1B: " in shown


def test_the_demos_pair_and_the_pool_from_its_seed_run_by_the_commands_in_their_heads(
    tmp_path: Path, mixscout, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("demo_pool.toml", "demo_study.toml", "checkpoint_seed_pool.toml"):
        shutil.copy(EXAMPLES / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pool.corpus.files.MAX_PARTITION_BYTES", 40_000)
    monkeypatch.setattr("pool.corpus.files.MAX_DOCUMENT_CHARACTERS", 1_000)
    build, search = _commands("demo_pool.toml")
    assert mixscout(*build, *_small("", SMALL)).code == 0
    answer = mixscout(*search, *_small("pool.", SMALL), "--set", "search.merges=3", "--json")
    assert answer.code == 0 and json.loads(answer.out)["counts"]["merges"] == 3, answer.err

    given = {key: value for key, value in SMALL.items() if key.startswith(("corpus.", "recipe."))}
    given["seed.context"] = SMALL["model.context"]
    build, add = _commands("checkpoint_seed_pool.toml")
    assert mixscout(*build, *_small("", given)).code == 0
    added = mixscout(*add, *_small("", given))
    assert added.code == 0 and "member 'unit_tests' is in pool from-checkpoint" in added.out, added.err
