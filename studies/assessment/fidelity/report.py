"""Everything that `fidelity` answers, as one JSON object."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from objectives.agreement.rule_choice import RuleScore
from pool.corpus.corpus import SPLITS, Split
from studies.answers.score import Json
from studies.assessment.fidelity.fidelity import Agreed, Fidelity
from studies.assessment.fidelity.forecast import Forecaster, forecast_json
from studies.assessment.fidelity.proposal import Proposal
from studies.assessment.fidelity.readings import VALUE
from studies.assessment.fidelity.truths import Truths


@dataclass(frozen=True, eq=False)
class FidelityReport:
    """The comparison, the corrections learnt from it, the proposal they lead to, and where the picture is.

    `trained_proposal` holds the truths of the proposal and of the best mixture, where they were asked for.
    """

    fidelity: Fidelity
    forecaster: Forecaster
    proposal: Proposal
    picture: Path
    trained_proposal: Truths | None = None

    def trained(self, split: Split) -> tuple[float, float] | None:
        """Return the trained values of the proposal and of the best mixture; None where not asked for."""
        if self.trained_proposal is None:
            return None
        proposal, best = self.trained_proposal.readings[split][VALUE].tolist()
        return proposal, best

    def as_json(self) -> Json:
        """Give the object that `fidelity --json` prints."""
        fidelity, choice = self.fidelity, self.fidelity.rules
        return {
            "study": fidelity.study,
            "measure": fidelity.measure,
            "truths": fidelity.truths.source,
            "ignored": list(fidelity.truths.ignored),
            "mixtures": [self._mixture_json(row, name) for row, name in enumerate(fidelity.mixtures)],
            **{split: _agreed_json(fidelity.by_split[split]) for split in SPLITS},
            "rules": {
                "own": choice.own,
                "recommended": choice.recommended,
                "told_apart": choice.told_apart,
                "scores": [_rule_json(score) for score in choice.scores],
            },
            "calibration": self.forecaster.as_json(),
            "proposal": self._proposal_json(),
            "picture": str(self.picture),
        }

    def _mixture_json(self, row: int, name: str) -> Json:
        def pair(agreed: Agreed, reading: str) -> Json:
            return {"proxy": float(agreed.proxy[reading][row]), "trained": float(agreed.truth[reading][row])}

        splits: Json = {
            split: {
                **pair(one, VALUE),
                "domains": {reading: pair(one, reading) for reading in one.truth if reading != VALUE},
            }
            for split, one in self.fidelity.by_split.items()
        }
        return {"name": name, "mixture": self.fidelity.mixtures[name].as_dict(), **splits}

    def _proposal_json(self) -> Json:
        proposal = self.proposal
        trained = {split: self.trained(split) for split in SPLITS}
        return {
            "mixture": proposal.mixture.as_dict(),
            "new_merges": proposal.new_merges,
            **forecast_json(proposal.forecasts),
            "best": {"mixture": proposal.best_mixture.as_dict(), **forecast_json(proposal.best)},
            "ahead": {
                split: {
                    "difference": proposal.ahead(split),
                    "margin": proposal.margins[split],
                    "told_apart": proposal.told_apart(split),
                }
                for split in SPLITS
            },
            "trained": {
                split: dict(zip(("proposal", "best"), pair, strict=True)) for split, pair in trained.items() if pair
            },
        }


def _agreed_json(agreed: Agreed) -> Json:
    domains = [name for name in agreed.truth if name != VALUE]
    return {
        "agreement": _agreement_json(agreed, VALUE),
        "domains": {name: _agreement_json(agreed, name) for name in domains},
        "pearson_ceiling": agreed.ceiling,
    }


def _agreement_json(agreed: Agreed, name: str) -> Json:
    floor = agreed.noise.get(name)
    statistics = {statistic: interval.as_json() for statistic, interval in agreed.agreement[name].items()}
    return {**statistics, "noise": {**asdict(floor), "margin": floor.margin} if floor else None}


def _rule_json(score: RuleScore) -> Json:
    return {**asdict(score), "criterion": score.criterion.as_json(), "behind": score.behind.as_json()}
