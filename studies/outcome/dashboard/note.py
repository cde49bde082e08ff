"""The note that the dashboard shows of a study: its best mixture, digests and figures, in Markdown.

What somebody has written there stays: ours stands between two marks, and only what is between them is replaced.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from studies.outcome.report.facts.facts import Facts
from studies.outcome.report.report import Report

BEGIN, END = "[//]: # (mixscout: begin)", "[//]: # (mixscout: end)"
"""Markdown that shows nothing: the dashboard shows comments of HTML as text."""
_OURS = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)


def note_of(facts: Facts, report: Report, pictures: Mapping[str, str]) -> str:
    """Write the note; `pictures` are the addresses of the report's charts by name."""
    mixture = "".join(f"| {name} | {weight:.4f} |\n" for name, weight in _weights(facts))
    digests = [f"- objective `{facts.bench.objective.digest}`"]
    if facts.best is not None:
        digests.append(f"- best mixture `{facts.best.digest}`")
    if facts.on_pool is not None:
        digests.append(f"- pool `{facts.on_pool.pool.manifest.digest}`")
    figures = [f"### {chart.caption}\n\n![{chart.alt}]({pictures[chart.name]})" for chart in report.charts]
    parts = [
        f"## Mixscout study {report.study}",
        report.summary,
        f"| partition | weight |\n|---|---|\n{mixture}" if mixture else "",
        "## Digests\n\n" + "\n".join(digests),
        "The parameters of a trial are a point of the cube; its mixture is the projection of that onto the simplex. "
        "The figures below show mixtures.",
        *figures,
    ]
    return "\n\n".join(part for part in parts if part)


def merged_with(known: str, ours: str) -> str:
    """Put our note into the one that is there, in place of the one of before, or below what somebody else wrote."""
    block = f"{BEGIN}\n\n{ours}\n\n{END}"
    if _OURS.search(known):
        return _OURS.sub(lambda _: block, known, count=1)
    return f"{known.rstrip()}\n\n{block}" if known.strip() else block


def _weights(facts: Facts) -> list[tuple[str, float]]:
    if facts.best is None:
        return []
    return sorted(facts.best.as_dict().items(), key=lambda item: -item[1])
