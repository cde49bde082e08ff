"""Infer a JSON schema of every verb's `--json` from real answers, and write docs/reference/json-schemas.json.

    PYTHONPATH=.:tests/support:tests/support/swarm python docs/schemas.py

A tiny pool is built, every verb is run on it, and what it prints is described. Objects keyed by the user's own
names (partitions, domains, mixtures, strategies), or whose values are all alike, become `additionalProperties`.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

OUTPUT = Path(__file__).parent / "reference" / "json-schemas.json"
DRAFT = "https://json-schema.org/draft/2020-12/schema"
OWN = {"code", "docs", "prose", "licences", "tiny", "second", "text"}
"""Names on the tiny pool: an object with one of them is keyed by names of the user."""


def schema_of(value: Any) -> dict[str, Any]:
    """Describe one value."""
    if isinstance(value, dict):
        if value and any(key in OWN or "/" in key or "=" in key or " " in key for key in value):
            return {"type": "object", "additionalProperties": merged([schema_of(part) for part in value.values()])}
        inner = {key: schema_of(part) for key, part in value.items()}
        shapes = {tuple(sorted(one["properties"])) if "properties" in one else None for one in inner.values()}
        if len(inner) > 1 and len(shapes) == 1 and None not in shapes:
            alike = merged(list(inner.values()))
            return {"type": "object", "additionalProperties": alike, "examples": [list(inner)]}
        return {"type": "object", "properties": inner, "required": sorted(inner)}
    if isinstance(value, list):
        return {"type": "array", **({"items": merged(list(map(schema_of, value)))} if value else {})}
    kinds = {bool: "boolean", int: "number", float: "number", str: "string", type(None): "null"}
    return {"type": kinds[type(value)]}


def merged(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    """Describe what any of the schemas describes."""
    first, *others = schemas
    for other in others:
        first = _both(first, other)
    return first


def _both(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    kinds = sorted({*_kinds(one), *_kinds(other)})
    result: dict[str, Any] = {"type": kinds[0] if len(kinds) == 1 else kinds}
    if "properties" in one and "properties" in other:
        mine, theirs = one["properties"], other["properties"]
        result["properties"] = {
            key: _both(mine[key], theirs[key]) if key in mine and key in theirs else (mine.get(key) or theirs[key])
            for key in [*mine, *(key for key in theirs if key not in mine)]
        }
        result["required"] = sorted({*one["required"]} & {*other["required"]})
    elif "properties" in one or "properties" in other:
        holder = one if "properties" in one else other
        result |= {key: holder[key] for key in ("properties", "required")}
    if one.get("examples") == other.get("examples") and "examples" in one:
        result["examples"] = one["examples"]
    for key in ("items", "additionalProperties"):
        parts = [part[key] for part in (one, other) if key in part]
        if parts:
            result[key] = merged(parts)
    return result


def _kinds(schema: dict[str, Any]) -> list[str]:
    kinds = schema["type"]
    return kinds if isinstance(kinds, list) else [kinds]


def answers(folder: Path) -> dict[str, Any]:
    """Run every verb that takes `--json` on a tiny pool, and return what each printed."""
    from forked import forks
    from tiny import write_sources
    from typer.main import get_command
    from verbs import ENTRIES, prepare, words_of

    from studies.command_line.app import app

    root = folder / "root"
    root.mkdir()
    write_sources(root)
    found: dict[str, Any] = {}
    with forks(folder / "forks") as forked:
        built = forked.run("pool", "build", root / "pool.toml")
        assert built.code == 0, built.err
        prepare(root, forked)
        for verb in ENTRIES:
            command = get_command(app)
            for word in verb.split():
                command = command.commands[word]
            if not any("--json" in one.opts and one.is_flag for one in command.params):
                continue
            until = "Ctrl-C" if verb == "dashboard" else None
            said = forked.run(*words_of(verb, root, folder), "--json", until=until)
            print(verb, said.code, file=sys.stderr)
            if said.code == 0 and said.out.lstrip()[:1] in ("{", "["):
                found[verb] = json.loads(said.out)
            else:
                print(said.err[-500:], said.out[:200], file=sys.stderr)
    return found


def main() -> None:
    """Write the schemas of all verbs."""
    with tempfile.TemporaryDirectory() as folder:
        found = answers(Path(folder))
    schemas = {verb: {"$schema": DRAFT, **schema_of(answer)} for verb, answer in found.items()}
    lines = [f"{json.dumps(verb)}: {json.dumps(schema, separators=(',', ':'))}" for verb, schema in schemas.items()]
    OUTPUT.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
