"""Pages of the site that no hand writes: the command line, the JSON of every verb, the list of decisions.

`make docs` runs this file before each build, so the pages are never stale. They are not committed. Any builder of
Markdown finds them where the links of other pages point.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
MOST_NAMED = 4
SCHEMAS = DOCS / "reference" / "json-schemas.json"


def command_line() -> str:
    """Return every verb with its arguments and options, as Typer's own `utils docs` writes them."""
    import typer
    from typer.cli import get_docs_for_click

    from studies.command_line.app import app

    command = typer.main.get_command(app)
    made = get_docs_for_click(obj=command, ctx=typer.Context(command), name="mixscout", title="Command line")
    return _with_whole_summaries(made)


def _with_whole_summaries(page: str) -> str:
    """Put the first sentence of each verb where Typer's lists of verbs have its beginning."""
    summaries = dict(re.findall(r"^#+ `mixscout ([\w ]+)`\n\n(.+)$", page, re.MULTILINE))
    group, lines = "", []
    for line in page.splitlines():
        if heading := re.match(r"#+ `mixscout ([\w ]+)`", line):
            group = f"{heading[1]} "
        entry = re.match(r"\* `(\w+)`: ", line)
        whole = summaries.get(f"{group}{entry[1]}") if entry else None
        lines.append(f"* `{entry[1]}`: {whole}" if entry and whole else line)
    return "\n".join(lines) + "\n"


def json_of_verbs() -> str:
    """Return a section for each verb with `--json`: the fields of its object, and the schema itself."""
    verbs = json.loads(SCHEMAS.read_text(encoding="utf-8"))
    return "\n".join([_JSON_HEAD, *(part for verb, schema in verbs.items() for part in _section(verb, schema))])


def decisions() -> str:
    """Return a list of all decisions by number and title."""
    lines = []
    for path in sorted((DOCS / "decisions").glob("0*.md")):
        title = re.sub(r"^#\s*(\d+[.:]?\s*)?", "", path.read_text(encoding="utf-8").partition("\n")[0])
        lines.append(f"- [{path.name[:4]}]({path.name}): {title}\n")
    return "\n".join([_DECISIONS_HEAD, *lines])


PAGES: dict[str, Callable[[], str]] = {
    "reference/command-line.md": command_line,
    "reference/json.md": json_of_verbs,
    "decisions/all.md": decisions,
}
"""Page of the site -> the function that writes its Markdown."""

_DECISIONS_HEAD = """# Decisions

Each decision is half a page: what was decided, why, and what was rejected.
"""

_JSON_HEAD = """# JSON of every verb

With `--json` a verb prints one object (some benchmarks: an array) on stdout, and nothing else there.
The schemas below were inferred from real answers of every verb on a small pool by `docs/schemas.py`.
A number that is not finite is `null`.
A key in angle brackets stands for names of yours: partitions, domains, strategies.

A program can read them all from `docs/reference/json-schemas.json` (JSON Schema, draft 2020-12).
"""


def _section(verb: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f"## `mixscout {verb} --json`\n"
    yield "| field | type |\n|---|---|"
    yield from (f"| `{path.replace('|', ' or ')}` | {kind} |" for path, kind in _fields(schema, ""))
    yield ""


def _fields(schema: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for name, inner in schema.get("properties", {}).items():
        below = f"{path}.{name}" if path else name
        optional = "" if name in schema.get("required", []) else ", not always"
        yield below, _kind(inner) + optional
        yield from _fields(inner, below)
    if isinstance(named := schema.get("additionalProperties"), dict):
        names = schema.get("examples", [[]])[0]
        shown = "<" + "|".join(names) + ">" if 0 < len(names) <= MOST_NAMED else "<name>"
        below = f"{path}.{shown}" if path else shown
        yield below, _kind(named)
        yield from _fields(named, below)
    if "items" in schema:
        yield from _fields(schema["items"], f"{path}[]")


def _kind(schema: dict[str, Any]) -> str:
    kinds = schema.get("type", "anything")
    text = " or ".join(kinds if isinstance(kinds, list) else [kinds])
    return f"array of {_kind(schema['items'])}" if kinds == "array" and schema.get("items") else text


def main() -> None:
    """Write the generated pages into their folders."""
    for name, make in PAGES.items():
        (DOCS / name).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()
