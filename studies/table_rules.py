"""What a study file may not ask for on a table, which has no tokens, no seed and no models: refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from search.strategies.registry import STRATEGIES

if TYPE_CHECKING:
    from studies.config import StudyFile


def check_table_study(config: StudyFile) -> None:
    """Raise `ValueError` that names the first key that a table cannot serve, why, and the way out."""
    for problem in _problems(config):
        raise ValueError(f"{problem} (the study is on a table)")


def _problems(config: StudyFile) -> Iterator[str]:
    if config.space.max_epochs is not None:
        yield "[space] max_epochs needs token counts, which a table has not: leave it out, and set caps"
    if config.space.units == "macro":
        yield "[space] units = 'macro' needs a pool's groups, which a table has not: leave it out"
    for choice in ("proportional", "unimax"):
        if choice in config.search.start:
            yield f"[search] start {choice!r} needs token counts, which a table has not: take it away"
    if config.search.kl and not config.search.prior:
        yield "[search] kl needs [search.prior]: proportional to tokens cannot be known from a table"
    if config.search.stop.tokens is not None:
        yield "[search.stop] tokens does nothing: predictions read no held-out text; leave it out"
    strategy = config.search.strategy_found
    if strategy.uses_gradient and not strategy.gradient_optional:
        able = [one.name for one in STRATEGIES.values() if not one.uses_gradient or one.gradient_optional]
        yield f"strategy {strategy.name!r} needs gradients, which predictions have not: use {', '.join(able)}"
    if config.downstream is not None:
        yield "[downstream] needs models to score: leave it out, and name metrics of the table under [target]"
    if config.constraints:
        yield "[constraints] are relative to the seed, which a table has not: leave them out"
    yield from _objective_problems(config)


def _objective_problems(config: StudyFile) -> Iterator[str]:
    if config.objective.aggregate == "micro":
        yield "[objective] aggregate 'micro' needs token counts, which a table has not: use macro, worst, or [target]"
    if config.objective.aggregate == "worst-excess":
        yield "[objective] aggregate 'worst-excess' is relative to the seed, which a table has not: use worst"
    for name in sorted(config.objective.model_fields_set - {"aggregate", "domains"}):
        yield f"[objective] {name} does nothing: nothing is merged or scored, metrics keep their own unit; leave it out"
    if config.early_stopping.model_fields_set:
        yield "[early_stopping] does nothing: predictions read no held-out text; leave it out"
