"""How one model did on one split: every figure that people ask for, from the same sums."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import add

from objectives.held_out import Floats, HeldOutLoss, perplexity_of
from objectives.scoring.window_table import WindowTable
from objectives.target.aggregates import Aggregate
from objectives.target.target import Goal, Target

Json = dict[str, object]


@dataclass(frozen=True)
class Score:
    """The nats (W,) of one model on the windows of a table, with the goal they are judged by."""

    goal: Goal
    table: WindowTable
    nats: Floats

    @cached_property
    def domains(self) -> Mapping[str, HeldOutLoss]:
        """Held-out loss by domain."""
        return self.table.losses(self.nats)

    @property
    def value(self) -> float:
        """The scalar minimised, in the goal's measure, penalties for broken constraints included."""
        return self.goal.value(self.domains)

    @property
    def loss_nats(self) -> float:
        """The goal's aggregate in nats per token, without penalties."""
        return self.goal.loss_nats(self.domains)

    @property
    def violations(self) -> Mapping[str, float]:
        """How far each constrained domain is above its ceiling; negative below it."""
        return self.goal.violations(self.domains)

    def as_json(self) -> Json:
        """Give the value, its standard error, the usual aggregates, the constraints and every domain."""
        return {
            "value": self.value,
            "measure": self.goal.measure,
            "standard_error": self.goal.standard_error(self.domains),
            "loss_nats": self.loss_nats,
            "perplexity": perplexity_of(self.loss_nats),
            "bits_per_byte": self.goal.bits_per_byte(self.domains),
            "violations": dict(self.violations),
            "micro": _domain_json(reduce(add, self.domains.values())),
            "macro": self._unweighted_json("macro"),
            "worst": self._unweighted_json("worst"),
            "domains": {name: _domain_json(loss) for name, loss in self.domains.items()},
        }

    def _unweighted_json(self, aggregate: Aggregate) -> Json:
        over = Target.over(tuple(self.domains), aggregate)
        loss_nats, bits = over.loss_nats(self.domains), over.bits_per_byte(self.domains)
        return {"loss_nats": loss_nats, "perplexity": perplexity_of(loss_nats), "bits_per_byte": bits}


def _domain_json(loss: HeldOutLoss) -> Json:
    return {
        "loss_nats": loss.loss_nats,
        "standard_error": loss.standard_error,
        "perplexity": loss.perplexity,
        "bits_per_byte": loss.bits_per_byte,
        "word_perplexity": loss.word_perplexity,
        "byte_perplexity": loss.byte_perplexity,
        "tokens": loss.tokens,
        "bytes": loss.bytes,
        "words": loss.words,
        "documents": loss.documents,
    }
