"""What was evaluated is remembered: an equal mixture is never merged twice under an equal objective.

The key is (objective digest, canonical mixture digest), so a changed pool, text or target finds nothing.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any, get_args

from safetensors.numpy import load, save
from sqlalchemy import (
    JSON,
    Engine,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    UniqueConstraint,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from objectives.evaluation import DifferentiableObjective, Evaluation, Kind, Objective, Partials, SequentialObjective
from objectives.held_out import HeldOutLoss
from pool.mixture import Mixture

TABLES = MetaData()


class _Base(DeclarativeBase):
    metadata = TABLES


class EvaluationRow(_Base):
    """One full evaluation: mixture, the scalar, sums by domain, nats by window (as safetensors), and what it cost."""

    __tablename__ = "evaluations"
    __table_args__ = (UniqueConstraint("objective_digest", "mixture_digest"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    objective_digest: Mapped[str] = mapped_column(String(64))
    mixture_digest: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(16))
    mixture: Mapped[dict[str, float]] = mapped_column(JSON)
    value: Mapped[float] = mapped_column(Float)
    standard_error: Mapped[float | None] = mapped_column(Float, nullable=True)
    objective_values: Mapped[list[float]] = mapped_column(JSON)
    violation: Mapped[float] = mapped_column(Float)
    domains: Mapped[dict[str, dict[str, float]]] = mapped_column(JSON)
    windows: Mapped[bytes | None] = mapped_column(LargeBinary(2**31), nullable=True)
    gradient: Mapped[dict[str, float] | None] = mapped_column(JSON(none_as_null=True), nullable=True)
    jacobian: Mapped[dict[str, dict[str, float]] | None] = mapped_column(JSON(none_as_null=True), nullable=True)
    seconds: Mapped[float] = mapped_column(Float)
    tokens_read: Mapped[int] = mapped_column(Integer)
    created_unix: Mapped[float] = mapped_column(Float)


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a remembered evaluation had cost when it was computed."""

    seconds: float
    tokens_read: int
    with_gradient: bool


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

    def all_of(self, objective_digest: str) -> list[Evaluation]:
        """Return all that was remembered of an objective, in the order in which it was evaluated first."""
        query = (
            select(EvaluationRow).where(EvaluationRow.objective_digest == objective_digest).order_by(EvaluationRow.id)
        )
        with Session(self._engine) as session:
            return [_evaluation(row, Mixture.of(row.mixture)) for row in session.scalars(query)]

    def costs(self, objective_digest: str) -> dict[str, Cost]:
        """Return what the evaluations of an objective had cost, by mixture digest."""
        row = EvaluationRow
        columns = (row.mixture_digest, row.seconds, row.tokens_read, row.gradient.is_not(None))
        with Session(self._engine) as session:
            found = session.execute(select(*columns).where(row.objective_digest == objective_digest))
            return {mixture: Cost(seconds, tokens, bool(steep)) for mixture, seconds, tokens, steep in found}

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


class RememberedSequentialObjective(RememberedDifferentiableObjective):
    """The same, for an objective that can stop early; what stopped early is not kept: its value is an estimate."""

    def __init__(self, objective: SequentialObjective, store: EvaluationStore) -> None:
        assert isinstance(objective, DifferentiableObjective), "what stops early has gradients too"
        super().__init__(objective, store)
        self._sequential = objective

    def challenge(self, mixture: Mixture, incumbent: Evaluation) -> Evaluation:
        """Recall, or evaluate until it is clear that the incumbent is not beaten."""
        found = self._store.find(self.digest, mixture)
        if found:
            return found
        evaluation = self._sequential.challenge(mixture, incumbent)
        return evaluation if evaluation.stopped_early else self._kept(evaluation)


def remembered(objective: Objective, store: EvaluationStore) -> RememberedObjective:
    """Wrap an objective so that it remembers; gradients and early stopping stay available where they are."""
    if isinstance(objective, SequentialObjective) and isinstance(objective, DifferentiableObjective):
        return RememberedSequentialObjective(objective, store)
    if isinstance(objective, DifferentiableObjective):
        return RememberedDifferentiableObjective(objective, store)
    return RememberedObjective(objective, store)


def _columns(evaluation: Evaluation) -> dict[str, Any]:
    names = evaluation.mixture.names
    gradient = evaluation.gradient
    jacobian, windows = evaluation.jacobian, evaluation.windows
    finite_error = evaluation.standard_error if evaluation.standard_error < float("inf") else None
    return {
        "kind": evaluation.kind,
        "mixture": evaluation.mixture.as_dict(),
        "value": evaluation.value,
        "standard_error": finite_error,
        "violation": evaluation.violation,
        "objective_values": list(evaluation.values),
        "domains": {name: dataclasses.asdict(loss) for name, loss in evaluation.domains.items()},
        "windows": save(dict(windows)) if windows is not None else None,
        "gradient": dict(zip(names, gradient, strict=True)) if gradient is not None else None,
        "jacobian": _by_partition(names, jacobian) if jacobian is not None else None,
        "seconds": evaluation.seconds,
        "tokens_read": evaluation.tokens_read,
        "created_unix": time.time(),
    }


def _evaluation(row: EvaluationRow, mixture: Mixture) -> Evaluation:
    names = mixture.names
    complete = row.gradient is not None and all(name in row.gradient for name in names)
    kinds: dict[str, Kind] = {kind: kind for kind in get_args(Kind)}
    return Evaluation(
        mixture,
        value=row.value,
        standard_error=row.standard_error if row.standard_error is not None else float("inf"),
        domains={name: _loss(sums) for name, sums in row.domains.items()},
        kind=kinds[row.kind],
        objective_digest=row.objective_digest,
        seconds=0.0,
        tokens_read=0,
        values=tuple(row.objective_values),
        violation=row.violation,
        gradient=_in_order(row.gradient, names) if row.gradient and complete else None,
        jacobian={e: _in_order(part, names) for e, part in row.jacobian.items()} if row.jacobian and complete else None,
        windows=load(row.windows) if row.windows is not None else None,
        cached=True,
    )


def _by_partition(names: tuple[str, ...], jacobian: Mapping[str, Partials]) -> dict[str, dict[str, float]]:
    return {domain: dict(zip(names, row, strict=True)) for domain, row in jacobian.items()}


def _in_order(partials: Mapping[str, float], names: tuple[str, ...]) -> Partials:
    return tuple(partials[name] for name in names)


def _loss(sums: dict[str, float]) -> HeldOutLoss:
    counts = ("tokens", "bytes", "words", "windows", "documents")
    return HeldOutLoss(**{**sums, **{name: int(sums[name]) for name in counts}})  # type: ignore[arg-type]
