"""The evaluations of a database: one row a mixture and objective, by their digests.

An evaluation of another pool holds where both rest on the same members (`Objective.foundation`).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, get_args

import sqlalchemy as sa
from safetensors.numpy import load, save
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from objectives.evaluation import Evaluation, Kind, Partials
from objectives.held_out import HeldOutLoss
from pool.mixture import Mixture
from search.optuna_private import reading_rows
from studies.database.leases import TABLES, Leases


class Row(DeclarativeBase):
    """A row of Mixscout's own tables."""

    metadata = TABLES


class EvaluationRow(Row):
    """One full evaluation; `windows` are nats by window, as safetensors, and `domains` sums of losses."""

    __tablename__ = "evaluations"
    __table_args__ = (sa.UniqueConstraint("objective_digest", "mixture_digest"),)

    id: Mapped[int] = mapped_column(sa.Integer, primary_key=True)
    objective_digest: Mapped[str] = mapped_column(sa.String(64))
    mixture_digest: Mapped[str] = mapped_column(sa.String(64))
    kind: Mapped[str] = mapped_column(sa.String(16))
    mixture: Mapped[dict[str, float]] = mapped_column(sa.JSON)
    value: Mapped[float] = mapped_column(sa.Double)
    standard_error: Mapped[float | None] = mapped_column(sa.Double, nullable=True)
    objective_values: Mapped[list[float]] = mapped_column(sa.JSON)
    violation: Mapped[float] = mapped_column(sa.Double)
    domains: Mapped[dict[str, dict[str, float]]] = mapped_column(sa.JSON)
    windows: Mapped[bytes | None] = mapped_column(sa.LargeBinary(2**31), nullable=True)
    gradient: Mapped[dict[str, float] | None] = mapped_column(sa.JSON(none_as_null=True), nullable=True)
    jacobian: Mapped[dict[str, dict[str, float]] | None] = mapped_column(sa.JSON(none_as_null=True), nullable=True)
    seconds: Mapped[float] = mapped_column(sa.Double)
    tokens_read: Mapped[int] = mapped_column(sa.BigInteger)
    created_unix: Mapped[float] = mapped_column(sa.Double)
    foundation: Mapped[str | None] = mapped_column(sa.String(64), index=True, nullable=True)
    processor_seconds: Mapped[float | None] = mapped_column(sa.Double, nullable=True)


_OWN = sa.and_(
    EvaluationRow.objective_digest == sa.bindparam("objective"), EvaluationRow.mixture_digest == sa.bindparam("mixture")
)
_FIND = (
    sa.select(EvaluationRow.id)
    .where(sa.or_(_OWN, EvaluationRow.foundation == sa.bindparam("foundation")))
    .order_by(sa.case((_OWN, 0), else_=1), EvaluationRow.id)
    .limit(1)
)
"""Finds only the id, the objective's own evaluation first: most mixtures are asked for before there is a row."""


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of a remembered evaluation when it was computed; `ended_unix` is the end, in Unix seconds.

    processor_seconds: None where not recorded
    """

    seconds: float
    tokens_read: int
    with_gradient: bool
    processor_seconds: float | None
    ended_unix: float


class EvaluationStore:
    """The evaluations of one database; with `only_recalls`, its objectives refuse to compute."""

    def __init__(self, engine: sa.Engine, leases: Leases, *, only_recalls: bool = False) -> None:
        self._engine = engine
        self._leases = leases
        self.only_recalls = only_recalls

    def to_recall_from(self) -> EvaluationStore:
        """Return the same evaluations for readers, who must compute nothing new."""
        return EvaluationStore(self._engine, self._leases, only_recalls=True)

    def find(self, objective_digest: str, mixture: Mixture, foundation: str | None = None) -> Evaluation | None:
        """Return the evaluation of a mixture, marked as cached and free, or None.

        An evaluation under another objective serves only with the same `foundation`.
        """
        asked = {"objective": objective_digest, "mixture": mixture.digest, "foundation": foundation}
        with Session(self._engine) as session:
            found = session.scalar(_FIND, asked)
            with reading_rows():
                row = session.get(EvaluationRow, found) if found is not None else None
                return _evaluation(row, mixture, objective_digest) if row else None

    def all_of(self, objective_digest: str) -> list[Evaluation]:
        """Return all evaluations of an objective, the earliest first."""
        row = EvaluationRow
        query = sa.select(row).where(row.objective_digest == objective_digest).order_by(row.id)
        with Session(self._engine) as session, reading_rows():
            return [_evaluation(one, Mixture.of(one.mixture), objective_digest) for one in session.scalars(query)]

    def costs(self, objective_digest: str) -> dict[str, Cost]:
        """Return the costs of an objective's evaluations, by mixture digest."""
        row = EvaluationRow
        columns = (row.mixture_digest, row.seconds, row.tokens_read, row.gradient.is_not(None))
        query = sa.select(*columns, row.processor_seconds, row.created_unix)
        with Session(self._engine) as session:
            found = session.execute(query.where(row.objective_digest == objective_digest))
            return {digest: Cost(took, read, bool(steep), paid, at) for digest, took, read, steep, paid, at in found}

    def keep(
        self, evaluation: Evaluation, foundation: str | None = None, *, processor_seconds: float | None = None
    ) -> None:
        """Remember an evaluation and its processor time.

        An earlier row is replaced only by an evaluation with a gradient.
        """
        key = {"objective_digest": evaluation.objective_digest, "mixture_digest": evaluation.mixture.digest}
        columns = {**_columns(evaluation), "foundation": foundation, "processor_seconds": processor_seconds}
        try:
            with Session(self._engine) as session, session.begin():
                session.execute(sa.insert(EvaluationRow).values(**key, **columns))
        except IntegrityError:  # it is there already, perhaps from another process a moment ago
            if evaluation.gradient is None:
                return
            with Session(self._engine) as session, session.begin():
                session.execute(sa.update(EvaluationRow).filter_by(**key).values(**columns))

    @contextmanager
    def alone(self, objective_digest: str, mixture: Mixture) -> Iterator[None]:
        """Let no other worker evaluate a mixture while the block runs; wait for a worker at it."""
        self._leases.wait_for(objective_digest, mixture.digest)
        try:
            yield
        finally:
            self._leases.give_back(objective_digest, mixture.digest)


def _columns(evaluation: Evaluation) -> dict[str, Any]:
    names, error = evaluation.mixture.names, evaluation.standard_error
    gradient, jacobian, windows = evaluation.gradient, evaluation.jacobian, evaluation.windows
    return {
        "kind": evaluation.kind,
        "mixture": evaluation.mixture.as_dict(),
        "value": evaluation.value,
        "standard_error": error if error < float("inf") else None,
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


def _evaluation(row: EvaluationRow, mixture: Mixture, objective_digest: str) -> Evaluation:
    names = mixture.names
    complete = row.gradient is not None and all(name in row.gradient for name in names)
    kinds: dict[str, Kind] = {kind: kind for kind in get_args(Kind)}
    return Evaluation(
        mixture,
        value=row.value,
        standard_error=row.standard_error if row.standard_error is not None else float("inf"),
        domains={name: _loss(sums) for name, sums in row.domains.items()},
        kind=kinds[row.kind],
        objective_digest=objective_digest,
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
