"""What was evaluated is remembered: an equal mixture is never merged twice under an equal objective.

The key is (objective digest, canonical mixture digest), so a changed pool, text or target finds nothing.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from sqlalchemy import JSON, Engine, Float, Integer, MetaData, String, UniqueConstraint, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from objectives.evaluation import DifferentiableObjective, Evaluation, Kind, Objective
from objectives.held_out import HeldOutLoss
from pool.mixture import Mixture

TABLES = MetaData()


class _Base(DeclarativeBase):
    metadata = TABLES


class EvaluationRow(_Base):
    """One evaluation: mixture, sums per domain, the scalar, and what it cost."""

    __tablename__ = "evaluations"
    __table_args__ = (UniqueConstraint("objective_digest", "mixture_digest"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    objective_digest: Mapped[str] = mapped_column(String(64))
    mixture_digest: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(16))
    mixture: Mapped[dict[str, float]] = mapped_column(JSON)
    value: Mapped[float] = mapped_column(Float)
    standard_error: Mapped[float | None] = mapped_column(Float, nullable=True)
    domains: Mapped[dict[str, dict[str, float]]] = mapped_column(JSON)
    gradient: Mapped[dict[str, float] | None] = mapped_column(JSON(none_as_null=True), nullable=True)
    seconds: Mapped[float] = mapped_column(Float)
    tokens_read: Mapped[int] = mapped_column(Integer)
    created_unix: Mapped[float] = mapped_column(Float)


class EvaluationStore:
    """The evaluations of one database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def find(self, objective_digest: str, mixture: Mixture) -> Evaluation | None:
        """Return what was remembered of a mixture, marked as cached and free, or None."""
        query = select(EvaluationRow).where(
            EvaluationRow.objective_digest == objective_digest, EvaluationRow.mixture_digest == mixture.digest
        )
        with Session(self._engine) as session:
            row = session.scalars(query).one_or_none()
            return _evaluation(row, mixture) if row else None

    def keep(self, evaluation: Evaluation) -> None:
        """Remember an evaluation. One with a gradient replaces one without, never the other way round."""
        key = {"objective_digest": evaluation.objective_digest, "mixture_digest": evaluation.mixture.digest}
        columns = _columns(evaluation)
        try:
            with Session(self._engine) as session, session.begin():
                session.execute(insert(EvaluationRow).values(**key, **columns))
        except IntegrityError:  # it is there already, perhaps from another process a moment ago
            if evaluation.gradient is None:
                return
            with Session(self._engine) as session, session.begin():
                session.execute(update(EvaluationRow).filter_by(**key).values(**columns))


class RememberedObjective:
    """An objective that looks into the store before it computes, and keeps what it computed."""

    def __init__(self, objective: Objective, store: EvaluationStore) -> None:
        self._objective = objective
        self._store = store
        self.digest = objective.digest

    @property
    def partitions(self) -> tuple[str, ...]:
        """The partitions of the objective within."""
        return self._objective.partitions

    def __call__(self, mixture: Mixture) -> Evaluation:
        """Recall or evaluate."""
        found = self._store.find(self.digest, mixture)
        return found or self._kept(self._objective(mixture))

    def _kept(self, evaluation: Evaluation) -> Evaluation:
        self._store.keep(evaluation)
        return evaluation


class RememberedDifferentiableObjective(RememberedObjective):
    """The same, for an objective with gradients; what was remembered without one is computed again for it."""

    def __init__(self, objective: DifferentiableObjective, store: EvaluationStore) -> None:
        super().__init__(objective, store)
        self._differentiable = objective

    def gradient(self, mixture: Mixture) -> Evaluation:
        """Recall or evaluate, with the gradient."""
        found = self._store.find(self.digest, mixture)
        if found and found.gradient is not None:
            return found
        return self._kept(self._differentiable.gradient(mixture))


def remembered(objective: Objective, store: EvaluationStore) -> RememberedObjective:
    """Wrap an objective so that it remembers; gradients stay available where there are any."""
    if isinstance(objective, DifferentiableObjective):
        return RememberedDifferentiableObjective(objective, store)
    return RememberedObjective(objective, store)


def _columns(evaluation: Evaluation) -> dict[str, Any]:
    names = evaluation.mixture.names
    gradient = evaluation.gradient
    finite_error = evaluation.standard_error if evaluation.standard_error < float("inf") else None
    return {
        "kind": evaluation.kind,
        "mixture": evaluation.mixture.as_dict(),
        "value": evaluation.value,
        "standard_error": finite_error,
        "domains": {name: dataclasses.asdict(loss) for name, loss in evaluation.domains.items()},
        "gradient": dict(zip(names, gradient, strict=True)) if gradient is not None else None,
        "seconds": evaluation.seconds,
        "tokens_read": evaluation.tokens_read,
        "created_unix": time.time(),
    }


def _evaluation(row: EvaluationRow, mixture: Mixture) -> Evaluation:
    partials = row.gradient or {}
    complete = all(name in partials for name in mixture.names)
    kind: Kind = "trained" if row.kind == "trained" else "analytic" if row.kind == "analytic" else "merged"
    return Evaluation(
        mixture,
        value=row.value,
        standard_error=row.standard_error if row.standard_error is not None else float("inf"),
        domains={name: _loss(sums) for name, sums in row.domains.items()},
        kind=kind,
        objective_digest=row.objective_digest,
        seconds=0.0,
        tokens_read=0,
        gradient=tuple(partials[name] for name in mixture.names) if complete else None,
        cached=True,
    )


def _loss(sums: dict[str, float]) -> HeldOutLoss:
    return HeldOutLoss(
        nats=sums["nats"],
        tokens=int(sums["tokens"]),
        bytes=int(sums["bytes"]),
        windows=int(sums["windows"]),
        nats_squared=sums["nats_squared"],
        nats_times_tokens=sums["nats_times_tokens"],
        tokens_squared=sums["tokens_squared"],
    )
