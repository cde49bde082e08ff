"""A study on a pool, opened and checked: the pool, its members, goals and losses; no model loads before a merge."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from objectives.scoring.window_table import WindowTable
from objectives.target import Goal, Target, measures_of
from pool.config.pool_file import naming, read_pool_file
from pool.corpus.corpus import SPLITS, Split
from pool.engines.resources import device_line
from pool.errors import ConfigError
from pool.parts.store import Pool, open_pool
from studies.database.address import DATABASE_FILE, address_of
from studies.database.evaluations import EvaluationStore
from studies.database.remembered import RememberedObjective
from studies.opened.goal import goal_of, targets_of
from studies.opened.identity import Identity, identity_of
from studies.opened.opened_study import OpenedStudy, checked_space, study_database
from studies.opened.proxy import Proxy, proxy_of
from studies.opened.space import Basis
from studies.opened.text_priors import TextPriors
from studies.study_file.sections import DownstreamConfig
from studies.study_file.study_file import StudyFile, naming_file


@dataclass(frozen=True, kw_only=True)
class Workbench(OpenedStudy):
    """An opened study file on a pool.

    losses: remembered loss of the merge, by split; `objective` is the search split's, or downstream scores.
    text: mixtures from text alone.
    """

    proxy: Proxy
    text: TextPriors
    losses: Mapping[Split, RememberedObjective]

    @property
    def identity(self) -> Identity:
        return identity_of(self.config, self.proxy.pool, self.space, self.proxy.settings, self.objective)

    @property
    def members_held(self) -> str | None:
        choice = self.proxy.stacked.choice  # loads them, so that no merge is charged for it
        return str(choice) if self.config.objective.held == "auto" else None

    @property
    def merges_hold(self) -> str | None:
        return self.proxy.merges_hold

    @property
    def device(self) -> str | None:
        return device_line(self.config.objective.precision, self.config.objective.devices)

    def table(self, split: Split) -> WindowTable:
        """Return the windows of the goal's domains on a split."""
        return WindowTable.of(self.proxy.pool.corpus.held_out[split], self.goals[split].domains)


@contextmanager
def workbench(
    config: StudyFile,
    *,
    must_exist: bool = False,
    only_recalls: bool = False,
    writes: bool = False,
    private: Path | None = None,
) -> Iterator[Workbench]:
    """Open and check a study file on a pool; with `must_exist`, make no database; with `writes`, it must be writable.

    With `private`, the study is worked at in that folder, and forgotten: the database and the pool stay as they are.
    With `only_recalls` the members stay on disk, and a merge or a training run raises `NotRememberedError`.
    Raises a `MixscoutError` of the thing at fault; `ConfigError` for a study on a table.
    """
    if config.pool is None:
        raise ConfigError(
            f"study {config.name!r} is on a table of models already trained ({config.table}), and this needs a pool to "
            "merge from: `search` and `best` work on a table; give a study with pool = FILE for the rest"
        )
    config.check_pool_there()
    pool = asked_pool(config.pool, age=config.objective.member_age, by_groups=config.space.units == "macro")
    basis = basis_of(pool)
    with naming_file(config):
        targets = targets_of(config, basis)
        space = checked_space(config, basis)
    address = address_of(config.database, basis.root / DATABASE_FILE)
    with (
        naming(pool.config),
        study_database(config, address, must_exist=must_exist, writes=writes, private=private) as database,
    ):
        if only_recalls:
            database = replace(database, evaluations=database.evaluations.to_recall_from())
        proxy = proxy_of(pool, config.objective, config.early_stopping, merges=not only_recalls, packed=private)
        goals = goals_of(config, targets, proxy, database.evaluations)
        losses = proxy.remembered(goals, database.evaluations)
        objective = losses["search"]
        if config.downstream:
            objective = downstream_error(config.downstream, proxy, database.evaluations)
        yield Workbench(
            config=config,
            basis=basis,
            space=space,
            goals=goals,
            database=database,
            objective=objective,
            proxy=proxy,
            text=TextPriors.of(pool, goals["search"].targets, config.search.encoder),
            losses=losses,
        )


def one_loss_of(bench: OpenedStudy, what: str) -> Workbench:
    """Return a study on a pool with one held-out loss; `what` a verb does, in words. Raises `ConfigError`."""
    config = bench.config
    if not isinstance(bench, Workbench):
        raise ConfigError(
            f"study {config.name!r} is on a table of models already trained, and {what}: there is no pool for that"
        )
    if bench.several or config.downstream:
        kind = "several [targets]" if bench.several else "[downstream]"
        raise ConfigError(
            f"study {config.name!r} has {kind}, and {what} by one held-out loss: give a study with [target] or "
            "[objective] domains"
        )
    return bench


def asked_pool(file: Path, *, age: int | None, by_groups: bool) -> Pool:
    """Open a pool with members of an age in steps (None: as they ended), by partitions or groups."""
    config = read_pool_file(file)
    pool = open_pool(config)
    with naming(config):
        if age is not None:
            pool = pool.at_age(age)
        return pool.by_groups() if by_groups else pool


def basis_of(pool: Pool) -> Basis:
    recipe, root = pool.config.recipe, pool.config.root
    tokens = {name: pool.tokens[name] for name in pool.names}
    return Basis("pool", root, pool.names, tuple(pool.manifest.corpus.search), tokens, recipe.tokens)


def goals_of(
    config: StudyFile, targets: Mapping[str, Target], proxy: Proxy, store: EvaluationStore
) -> dict[Split, Goal]:
    """Make the goal on each split; parts relative to the seed differ."""

    def seed_measures(split: Split, domains: tuple[str, ...]) -> dict[str, float]:
        table = WindowTable.of(proxy.pool.corpus.held_out[split], domains)
        losses = table.losses(proxy.seed_nats(table, split, store))
        return dict(zip(domains, measures_of(losses, domains, config.objective.measure).tolist(), strict=True))

    return {
        split: goal_of(targets, config.constraints, config.objective.aggregate, partial(seed_measures, split))
        for split in SPLITS
    }


def downstream_error(wanted: DownstreamConfig, proxy: Proxy, store: EvaluationStore) -> RememberedObjective:
    """Make the objective of downstream scores. Raises `ConfigError` where its extra is missing."""
    from objectives.losses.downstream import DownstreamError  # an extra
    from objectives.losses.tasks import Tasks

    tasks = Tasks(wanted.tasks, wanted.task_folder, wanted.metric, wanted.shots, wanted.documents)
    return RememberedObjective(DownstreamError(proxy.pool, proxy.stacked, tasks, rule=proxy.ready_rule), store)
