"""The pages of docs keep their word: short, linked, with commands and keys that exist."""

import ast
import importlib.util
import json
import re
import shlex
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import typer
import yaml
from pydantic import BaseModel
from verbs import all_verbs

from mixscout import _HOMES
from pool.config.pool_file import PoolFile
from studies.command_line.app import app
from studies.study_file.study_file import StudyFile

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
GENERATED = ("reference/command-line.md", "reference/json.md", "decisions/all.md")
"""Pages that are made before a build, and are not in the repository."""
COMMAND = typer.main.get_command(app)
UNMEASURED = ("experiments.md", "configuration.md", *GENERATED)
"""The log, and pages that a program writes."""


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def _name(path: Path) -> str:
    return path.relative_to(DOCS).as_posix()


PAGES = [path for path in sorted(DOCS.rglob("*.md")) if _name(path) not in GENERATED]
WRITTEN = [path for path in PAGES if _name(path) not in UNMEASURED and path.parent.name != "decisions"]


def _blocks(path: Path, *kinds: str) -> list[str]:
    return [text for kind, text in FENCED.findall(path.read_text(encoding="utf-8")) if kind in kinds]


@pytest.mark.parametrize("path", WRITTEN, ids=_name)
def test_paragraphs_and_sentences_are_short(path: Path) -> None:
    text = FENCED.sub("", path.read_text(encoding="utf-8"))
    paragraphs = [part for part in re.split(r"\n\s*\n", text) if part.strip() and part.lstrip()[0] not in "#|!"]
    words = [len(part.split()) for part in paragraphs] or [0]
    sentences = [len(one.split()) for part in paragraphs for one in re.split(r"(?<=[.:?!])\s+", part) if one.split()]
    assert max(words) <= 90, max(paragraphs, key=lambda part: len(part.split()))
    assert statistics.median(words) <= 40
    assert statistics.median(sentences or [0]) <= 15


def _anchors(path: Path) -> set[str]:
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title.lower()).strip()) for title in titles}


@pytest.mark.parametrize("path", [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    text = FENCED.sub("", path.read_text(encoding="utf-8"))
    for target in re.findall(r"(?<!\\)\]\(([^)\s]+)\)", text):
        if target.startswith(("http:", "https:")):
            continue
        file, _, anchor = target.partition("#")
        place = (path.parent / file).resolve() if file else path
        made = place.is_relative_to(DOCS) and _name(place) in GENERATED
        assert made or place.exists(), f"{path.name}: {target}"
        assert not anchor or made or anchor in _anchors(place), f"{path.name}: no heading {anchor!r} in {place.name}"


@pytest.mark.parametrize("path", [*PAGES, ROOT / "README.md"], ids=lambda path: path.name)
def test_every_command_has_a_verb_and_options_that_exist(path: Path) -> None:
    if path.parent.name == "decisions" or path.name == "experiments.md":
        return  # they tell of commands as they were
    for line in "\n".join(_blocks(path, "sh")).splitlines():
        words = shlex.split(line, comments=True)
        if "mixscout" not in words:
            continue
        words, command = words[words.index("mixscout") + 1 :], COMMAND
        while words and hasattr(command, "commands") and not words[0].startswith("-"):
            assert words[0] in command.commands, f"no verb {words[0]!r}: {line}"
            command = command.commands[words.pop(0)]
        known = {name for parameter in command.params for name in parameter.opts} | {"--help", "-h"}
        assert {word for word in words if re.match(r"--?[a-z]", word)} <= known, line


def _check_keys(values: dict, kind: type[BaseModel], where: str) -> None:
    for key, value in values.items():
        if key not in kind.model_fields:
            assert kind.model_config.get("extra") == "allow", f"{where}: no key {key!r} in {kind.__name__}"
            continue
        inner = [one for one in _types(kind.model_fields[key].annotation) if issubclass(one, BaseModel)]
        if inner and isinstance(value, dict):
            named = "dict[" in str(kind.model_fields[key].annotation)
            for part in value.values() if named else [value]:
                _check_keys(part, inner[0], where)


def _types(annotation: object) -> Iterator[type]:
    if isinstance(annotation, type):
        yield annotation
    for option in getattr(annotation, "__args__", ()):
        yield from _types(option)


@pytest.mark.parametrize("path", [*WRITTEN, ROOT / "README.md"], ids=lambda path: path.name)
def test_toml_and_python_that_is_shown_can_be_read(path: Path) -> None:
    for block in _blocks(path, "toml"):
        kind = PoolFile if "pool.toml" in block.partition("\n")[0] else StudyFile
        _check_keys(tomllib.loads(block), kind, f"{path.name}: {block[:40]!r}")
    for block in _blocks(path, "python"):
        ast.parse(block)


def test_the_navigation_has_every_page_once() -> None:
    def places(part: object) -> Iterator[str]:
        for one in part.values() if isinstance(part, dict) else part if isinstance(part, list) else []:
            yield from places(one)
        if isinstance(part, str):
            yield part

    named = sorted(places(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert named == sorted({*map(_name, PAGES), *GENERATED} - {_name(p) for p in DOCS.glob("decisions/0*.md")})


def test_generated_pages_name_every_verb() -> None:
    generated, shown = _module("generated"), json.loads((DOCS / "reference" / "json-schemas.json").read_text())
    page = generated.command_line()
    for words in all_verbs():
        assert f"`mixscout {' '.join(words)}`" in page
    described = generated.json_of_verbs()
    assert shown and all(f"## `mixscout {verb} --json`" in described for verb in shown)
    assert "0082" in generated.decisions()


def test_the_api_page_has_every_public_name() -> None:
    page = (DOCS / "reference" / "api.md").read_text(encoding="utf-8")
    entries = re.findall(r"^::: ([\w.]+)\n((?: .*\n)*)", page, re.MULTILINE)
    shown = {place for place, _ in entries}
    shown |= {
        f"{place}.{name}" for place, told in entries for name in re.findall(r"\w+", told.partition("members:")[2])
    }
    homes = {home.replace(":", ".") if ":" in home else f"{home}.{name}" for name, home in _HOMES.items()}
    assert homes - shown == {"pool.errors.MixscoutError"}, "the page shows all of pool.errors"
    assert "pool.errors" in shown


def test_answers_have_the_described_fields(root: Path, mixscout) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schemas = json.loads((DOCS / "reference" / "json-schemas.json").read_text())
    for verb, *rest in (("pool show", "pool.toml"), ("search", "study.toml", "--merges", 6), ("best", "study.toml")):
        answer = mixscout(*verb.split(), root / rest[0], *rest[1:], "--json")
        jsonschema.validate(json.loads(answer.out), schemas[verb])


def test_the_faq_quotes_messages_that_the_program_says() -> None:
    source = "\n".join(
        path.read_text(encoding="utf-8")
        for floor in ("pool", "objectives", "search", "studies")
        for path in (ROOT / floor).rglob("*.py")
    )
    said = re.sub(r'"\s*\n\s*f?"', "", source)
    quoted = re.findall(r'^### "(.+)"$', (DOCS / "troubleshooting.md").read_text(), re.MULTILINE)
    assert len(quoted) >= 15
    assert [message for message in quoted if message not in said] == []


def test_the_log_s_index_is_in_the_log_s_order() -> None:
    text = (DOCS / "experiments.md").read_text(encoding="utf-8")
    index, *_ = re.split(r"^## 20", text, maxsplit=1, flags=re.MULTILINE)
    listed = re.findall(r"\]\(#([\w-]+)\)", index)
    titles = re.findall(r"^## (20.+)$", text, re.MULTILINE)
    order = [re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title.lower()).strip()) for title in titles]
    assert len(listed) > 40 and listed == [anchor for anchor in order if anchor in listed]


@pytest.mark.long
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    subprocess.run([sys.executable, DOCS / "generated.py"], check=True, cwd=ROOT)
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "index.html").is_file() and (tmp_path / "site" / "search" / "search_index.js").is_file()
