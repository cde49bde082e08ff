"""The verb `confirm`: really train the best mixture and the baselines, and compare with their merges."""

from collections.abc import Sequence
from dataclasses import dataclass

from objectives.evaluation import Evaluation
from pool.mixture import Mixture
from studies.answers.best import baseline_mixtures
from studies.answers.score import Json, rank_correlation
from studies.opened.on_pool import Workbench


@dataclass(frozen=True)
class Confirmed:
    """One mixture with the evaluations of its merge (`proxy`) and of the trained model, on the test split."""

    name: str
    mixture: Mixture
    proxy: Evaluation
    trained: Evaluation


@dataclass(frozen=True)
class Confirmation:
    """All confirmed mixtures, trained from the seed at equal tokens."""

    study: str
    confirmed: Sequence[Confirmed]

    @property
    def different(self) -> Sequence[Confirmed]:
        """The confirmed mixtures, equal ones once: the best mixture may be a baseline."""
        return list({one.mixture.digest: one for one in self.confirmed}.values())

    @property
    def spearman(self) -> float | None:
        """Rank correlation of proxy and trained test loss over different mixtures; None where undefined."""
        return rank_correlation(
            [one.proxy.value for one in self.different], [one.trained.value for one in self.different]
        )

    def as_json(self) -> Json:
        """Give the object that `confirm --json` prints."""
        return {
            "study": self.study,
            "confirmed": [
                {
                    "name": one.name,
                    "mixture": one.mixture.as_dict(),
                    "proxy": one.proxy.value,
                    "trained": one.trained.value,
                    "trained_standard_error": one.trained.standard_error,
                }
                for one in self.confirmed
            ],
            "spearman": self.spearman,
        }


def run_confirm(bench: Workbench, best: Mixture) -> Confirmation:
    """Train the best mixture and the baselines by the members' recipe; what was trained before is recalled."""
    contenders = {"best": best, **baseline_mixtures(bench)}
    confirmed = [
        Confirmed(name, mixture, bench.test_loss(mixture), bench.trained_loss(mixture))
        for name, mixture in contenders.items()
    ]
    return Confirmation(bench.config.name, confirmed)
