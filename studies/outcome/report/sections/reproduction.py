"""Everything needed to get the same again: digests, versions, both files, and the commands.

The page may be passed on, so passwords in it are masked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import optuna

from pool.files.secrets import MASK, SECRET_OPTIONS, without_passwords
from pool.files.toml import as_options, assigned
from search.trials import count_trials
from studies.opened.identity import ACCEPTED, IDENTITY, VERSIONS, current_versions
from studies.outcome.report.facts.facts import Facts
from studies.outcome.report.facts.section import Cell, Passage, Section, Table

_IN_QUERY = re.compile(rf"(?P<before>[?&](?:{'|'.join(sorted(SECRET_OPTIONS))}|token|secret)=)[^\s\"']+", re.IGNORECASE)
"""An & in a password ends no password here."""
_ASSIGNED = re.compile(
    r"(?P<before>[\w.-]*(?:password|passwd|secret|token|api_?key)[\"']?\s*[=:]\s*)(?P<quote>[\"']).*?(?P=quote)",
    re.IGNORECASE,
)


def reproduction_section(facts: Facts) -> Section:
    """Show the study's identity, versions then and now, and both files."""
    passages = [
        Passage("Commands", masked(_commands(facts))),
        Passage(f"Study file {facts.study_file.name}", _text(facts.study_file)),
    ]
    pool_file = facts.bench.config.pool
    if pool_file:
        passages.append(Passage(f"Pool file {pool_file.name}", _text(pool_file)))
    notes = []
    accepted = facts.study.user_attrs.get(ACCEPTED)
    if accepted:
        notes.append(f"The study's course was changed on the way: {json.dumps(accepted)}")
    return Section(
        "reproduction",
        "Reproduce this",
        notes=notes,
        tables=[_digests(facts), _identity(facts.study), _versions(facts.study)],
        passages=passages,
    )


def _commands(facts: Facts) -> str:
    pool, merges = facts.bench.config.pool, count_trials(facts.study).merges
    build = [f"mixscout pool build {pool.name}{as_options(pool)}"] if pool else []
    file = facts.typed
    search = [f"mixscout search {file} --merges {merges}", f"mixscout best {file}", f"mixscout report {file}"]
    return "\n".join([*build, *search])


def _digests(facts: Facts) -> Table:
    rows: list[list[Cell]] = [["objective", facts.bench.objective.digest]]
    if facts.best is not None:
        rows.append(["best mixture", facts.best.digest])
    if facts.on_pool:
        manifest = facts.on_pool.proxy.pool.manifest
        rows += [["pool", manifest.digest], ["seed", manifest.seed.weights_digest]]
        rows.append(["tokenizer", manifest.corpus.tokenizer_digest])
        rows += [[f"member {name}", member.weights_digest] for name, member in manifest.members.items()]
        rows += [[f"held-out {name}, search", one.digest] for name, one in manifest.corpus.search.items()]
        rows += [[f"held-out {name}, test", one.digest] for name, one in manifest.corpus.test.items()]
    if facts.on_table:
        rows.append(["table", facts.on_table.swarm.table.digest])
    rows.append(["database", str(facts.bench.database.address)])
    return Table("digests", "Digests, and where the study is kept", ("of", "digest"), rows)


def _identity(study: optuna.Study) -> Table:
    identity: Mapping[str, object] = study.user_attrs[IDENTITY]
    rows = [[part, masked(value if isinstance(value, str) else json.dumps(value))] for part, value in identity.items()]
    return Table("identity", "What the study was started with", ("part", "value"), rows)


def _versions(study: optuna.Study) -> Table:
    before, now = study.user_attrs.get(VERSIONS, {}), current_versions()
    rows = [[name, before.get(name), version] for name, version in now.items()]
    return Table("versions", "Versions", ("library", "when started", "now"), rows)


def _text(path: Path) -> str:
    told = "".join(f"\n# --set {assignment}" for assignment in assigned(path))
    return masked(path.read_text(encoding="utf-8") + told)


def masked(text: str) -> str:
    """Replace passwords in URLs, and quoted values of keys that sound secret, by asterisks."""
    text = _IN_QUERY.sub(rf"\g<before>{MASK}", without_passwords(text))
    return _ASSIGNED.sub(rf"\g<before>\g<quote>{MASK}\g<quote>", text)
