"""Studies from Python: opened, searched, answered, drawn, and what is made of their answer."""

from __future__ import annotations

import html
from contextlib import ExitStack, suppress
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import optuna

from objectives.evaluation import Objective
from objectives.merging.rules import USUAL_EXPONENTS
from pool.corpus.corpus import Split
from pool.engines.choice import chosen
from pool.errors import ConfigError, StudyError
from pool.mixture import Mixture
from search.space import CappedSimplex
from search.trials import START, VERDICT, Counts, best_trial, completed_trials, count_trials, value_of
from studies.answers.ages import MERGES, Ages, run_ages
from studies.answers.best import Best, find_best
from studies.answers.confirm import Confirmation, run_confirm, trained_loss
from studies.answers.swarm_best import SwarmBest, find_swarm_best
from studies.opened.ledger import charged, charging
from studies.opened.on_pool import Workbench
from studies.opened.on_table import SwarmBench
from studies.opened.opened_study import OpenedStudy, best_mixture
from studies.opened.opening import open_privately
from studies.opened.opening import open_study as opened
from studies.running.run import run_search
from studies.study_file.search_sections import TextPrior
from studies.study_file.study_file import StudyFile, read_study_file
from studies.terminal import quiet_libraries

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

    from pool.building.training.costs import Costs
    from studies.assessment.fidelity.priors import Priors
    from studies.assessment.fidelity.refined import Refined
    from studies.assessment.fidelity.report import FidelityReport
    from studies.outcome.cost.bill import Bill
    from studies.outcome.smaller.compress import Compressed
    from studies.outcome.smaller.distill import Distilled


class Study:
    """A study file, opened on its pool or table. Use it in a `with` block, or close it.

    Every method works on the same database as the command line: a study begun there goes on here.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        quiet_libraries()
        self.path = Path(path)
        self.config: StudyFile = read_study_file(self.path)
        self._open = ExitStack()
        with charged(self.config, "open"):
            self._bench: OpenedStudy = self._open.enter_context(opened(self.config))

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def space(self) -> CappedSimplex:
        """The mixture space, for a study of your own: `space.suggest(trial)`."""
        return self._bench.space

    @property
    def optuna(self) -> optuna.Study:
        """The study as Optuna has it. Raises `StudyError` before the first search."""
        return self._bench.known_study()

    @charging
    def search(self, merges: int | None = None, *, accept: bool = False) -> Counts:
        """Advance the study to `merges` evaluations in all; with `accept`, also after a change of its course."""
        return run_search(self._bench, merges or self.config.search.merges, accept=accept)

    def costs(self, merges: int | None = None) -> Costs:
        """Measure what `search` would cost, in a private copy; `Costs.check_room` raises for too little room."""
        from studies.running.costs import search_costs

        with open_privately(self.config) as bench:
            return search_costs(bench, merges or self.config.search.merges)

    def cost(self, *, swarm: int = 512, price_per_hour: float | None = None) -> Bill:
        """Add up what the study has cost, beside a swarm of so many models and other ways."""
        from studies.outcome.cost.find import find_bill

        return find_bill(self._bench, swarm=swarm, price_per_hour=price_per_hour)

    def priors(self, *, counted: bool = False) -> Priors:
        """Compute mixtures from text alone, and judge them by what the study knows; `counted` leaves models out."""
        from studies.assessment.fidelity.priors import find_priors

        return find_priors(self._on_pool("priors"), counted=counted)

    def prior(self, name: TextPrior) -> Mixture:
        """Compute a mixture from text alone by its name, as in [search] start, projected to the study's space."""
        return self.space.project(self._on_pool("prior").text.mixture(name).over(self.space.names).array)

    @property
    @charging
    def best(self) -> Best | SwarmBest:
        """The best mixture beside the baselines, each scored in full. Raises `StudyError` without a value yet."""
        if isinstance(self._bench, SwarmBench):
            return find_swarm_best(self._bench, self.optuna)
        return find_best(self._on_pool("best"), self.optuna)

    @property
    def best_mixture(self) -> Mixture:
        """The mixture of the best value; nothing is scored. Raises `StudyError` without a value yet."""
        return best_mixture(self._bench, self.optuna)

    def loss(self, split: Split = "search") -> Objective:
        """Return the remembered loss of merges on a split: call it with a mixture."""
        return self._on_pool("loss").losses[split]

    def trained_loss(self) -> Objective:
        """Return the remembered test loss of models really trained: a call with a new mixture trains."""
        return trained_loss(self._on_pool("trained_loss"))

    @charging
    def confirm(self) -> Confirmation:
        """Really train the best mixture and the baselines, or recall them, and compare with their merges."""
        bench, best = self._on_pool("confirm"), self.best_mixture
        with chosen(demand=bench.proxy.pool.config.demand) as engine:
            return run_confirm(bench, best, engine)

    @charging
    def ages(self, merges: int = MERGES) -> Ages:
        """Search for the best mixture at every kept age, by `merges` merges at most, or recall it, and compare."""
        return run_ages(self._on_pool("ages"), self.optuna, merges)

    @charging
    def fidelity(
        self, mixtures: int = 12, *, repeats: int = 0, exponents: tuple[float, ...] = USUAL_EXPONENTS
    ) -> FidelityReport:
        """Really train a spread of mixtures, and measure how well the loss of a merge predicts the loss of training."""
        from studies.assessment.fidelity.report import FidelityRequest, make_report

        bench, wanted = self._on_pool("fidelity"), FidelityRequest(mixtures, repeats, exponents=exponents)
        with chosen(demand=bench.proxy.pool.config.demand) as engine:
            return make_report(bench, self.optuna, wanted, engine)

    @charging
    def refine(self, truths: int | None = None) -> Refined:
        """Really train the mixtures most worth knowing, `truths` in all; `best` then answers by them too."""
        from studies.assessment.fidelity.refine import RefineRequest, run_refine
        from studies.assessment.fidelity.refined import conclude

        bench, asked = self._on_pool("refine"), self.config.refine
        wanted = RefineRequest(truths or asked.truths, asked.margin, asked.chance)
        run_refine(bench, wanted)
        return conclude(bench, wanted)

    @charging
    def export(
        self,
        folder: str | PathLike[str],
        *,
        quantise: Literal["int8", "int4"] | None = None,
        prune: float | None = None,
        pruning: Literal["wanda", "magnitude"] = "wanda",
    ) -> Compressed | None:
        """Write the merge of the best mixture as a Hugging Face checkpoint into a new folder.

        quantise: weights as packed integers (extra `quantise`); prune: share of the linear layers' weights set to zero.
        Either returns the figures of what is read back, beside the merge.
        """
        from studies.outcome.handover.export import run_export
        from studies.outcome.smaller.compress import Compression, run_compressed

        bench, wanted = self._on_pool("export"), Compression(quantise, prune, pruning)
        best = find_best(bench, self.optuna)
        if wanted.asked:
            return run_compressed(bench, best, Path(folder), wanted)
        run_export(bench, best, Path(folder))
        return None

    @charging
    def distill(
        self, layers: int | None = None, *, model: Path | None = None, output: str | PathLike[str] | None = None
    ) -> Distilled:
        """Train smaller students of the best mixture with a teacher and without, by [distill], and compare them.

        layers: of the student, half of the teacher's when left out; model: a config.json instead.
        output: new folder for the best student, with a card.
        """
        from studies.outcome.smaller.distill import Asked, run_distill

        asked = Asked(self.config.distill, layers, model)
        return run_distill(self._on_pool("distill"), self.best_mixture, asked, Path(output) if output else None)

    def report(self) -> Path:
        """Write the report, and return the path of its page."""
        from studies.outcome.report.report import run_report

        return run_report(self.config, self.path).page

    def trials_dataframe(self) -> pandas.DataFrame:
        """Return one row a trial: number, state, values, the weights of the mixture, verdict of the gate and start."""
        import pandas

        study, space, rows = self.optuna, self.space, list[dict[str, object]]()
        for trial in study.get_trials(deepcopy=False):
            weights = space.mixture_of(trial).as_dict() if space.stands_for_mixture(trial) else {}
            names = list(self.config.targets) or ["value"]
            values = dict(zip(names, trial.values or [None] * len(names), strict=True))
            marks = {"verdict": trial.user_attrs.get(VERDICT), "start": trial.user_attrs.get(START)}
            rows.append({"number": trial.number, "state": trial.state.name, **values, **weights, **marks})
        return pandas.DataFrame(rows)

    def plot_best(self) -> Figure:
        """Draw the weights of the best mixture."""
        return self._chart("best-mixture")

    def plot_standings(self) -> Figure:
        """Draw how far the best mixture is better than each baseline."""
        return self._chart("leads")

    def plot_progress(self) -> Figure:
        """Draw every evaluation in order, and the best so far."""
        return self._chart("progress")

    def plot_mixtures(self) -> Figure:
        """Draw every mixture evaluated, one point a weight."""
        return self._chart("weights")

    def plot_slices(self) -> Figure:
        """Draw the predicted value around the best mixture."""
        return self._chart("slices")

    def plot_surrogate(self) -> Figure:
        """Draw predicted beside measured values."""
        return self._chart("predicted-measured")

    def close(self) -> None:
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<mixscout.Study {self._summary()}>"

    def _repr_html_(self) -> str:
        with suppress(StudyError):
            return f"<p>{html.escape(self._summary())}</p>{self.best_mixture._repr_html_()}"
        return f"<p>{html.escape(self._summary())}</p>"

    def _summary(self) -> str:
        try:
            study = self.optuna
        except StudyError:
            return f"{self.name!r}, not begun"
        counts, best = count_trials(study), best_trial(completed_trials(study))
        shown = f", best {self._bench.target.shown(value_of(best)):.4f}" if best and not self._bench.several else ""
        return f"{self.name!r}, {counts.merges} of {self.config.search.merges} evaluations{shown}"

    def _on_pool(self, what: str) -> Workbench:
        if isinstance(self._bench, Workbench):
            return self._bench
        raise ConfigError(
            f"{what} needs a pool to merge from, and study {self.name!r} is on a table; open a study with pool = FILE"
        )

    def _chart(self, name: str) -> Figure:
        from mixscout.charts import draw_chart

        return draw_chart(self.config, self.path, name)


def open_study(path: str | PathLike[str]) -> Study:
    """Open a study file, on its pool or table. Raises a `MixscoutError` that names the thing at fault."""
    return Study(path)
