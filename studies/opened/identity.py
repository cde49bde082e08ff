"""The identity of a study, recorded at its start: a search with another identity is refused by name."""

from collections.abc import Mapping, Sequence

import optuna

from objectives.evaluation import Objective
from objectives.losses.merged_loss import ProxySettings
from pool.errors import StudyMismatchError
from pool.files.digests import digest_json
from pool.files.records import library_versions
from pool.parts.store import Pool
from search.space import CappedSimplex
from studies.study_file.sections import Changeable, Question, parts_marked
from studies.study_file.study_file import StudyFile

IDENTITY = "mixscout:identity"
VERSIONS = "mixscout:versions"
ACCEPTED = "mixscout:accepted"
"""Accepted changes: a list of {trials: how many there were, changed: part -> [before, after]}."""

Identity = dict[str, object]
"""By part, in JSON types. The options of the study file are marked with the parts that record them."""


def identity_of(
    config: StudyFile, pool: Pool, space: CappedSimplex, proxy: ProxySettings, objective: Objective
) -> Identity:
    """Make the identity of a study on a pool."""
    domains = dict.fromkeys([*config.target.weights, *config.objective.domains, *config.constraints])
    domains |= dict.fromkeys(name for target in config.targets.values() for name in target.weights)
    held_out = {name: pool.manifest.corpus.search[name].digest for name in domains}
    return {
        "pool": pool.manifest.digest,
        "recipe": pool.config.recipe.digest_parts,
        "held-out text": digest_json(held_out),
        "measure": config.objective.measure,
        "constraints": dict(config.constraints),
        "merge rule": proxy.rule.digest_parts,
        "precision": proxy.precision,
        "compiled": proxy.compiled,
        "stored members": config.objective.holding.digest_parts or None,
        "early stopping": config.early_stopping.model_dump(),
        "groups": {name: list(units) for name, units in pool.groups.items()} or None,
        "downstream tasks": objective.digest if config.downstream else None,
        **common_parts(config, space),
    }


def common_parts(config: StudyFile, space: CappedSimplex) -> Identity:
    """Make the parts of every study's identity; budget and stop rules may always change."""
    strategy = config.search.strategy_found
    patience = {"patience": strategy.patience} if strategy.patience is not None else {}
    return {
        "target": config.target_parts,
        "aggregate": config.objective.aggregate or ("macro" if config.objective.domains else "weighted"),
        "space": {
            "partitions": list(space.names),
            "caps": dict(zip(space.names, space.caps, strict=True)),
            "max_members": space.max_members,
        },
        "floors": dict(zip(space.names, space.floors, strict=True)) if any(space.floors) else None,
        "strategy": {"name": strategy.name, **strategy.settings, **patience},
        "seed": config.search.seed,
        "start": list(config.search.start),
        "start_from": config.search.start_from,
        "evidence_from": config.search.evidence_from,
        "prior": _prior_part(config.search.prior),
        "kl": config.search.kl or None,
        "gate": config.gate.model_dump(),
    }


def _prior_part(prior: Mapping[str, float] | str) -> object:
    return prior if isinstance(prior, str) else dict(prior) or None


def different_questions(one: Identity, other: Identity) -> list[str]:
    """Name the parts in which two studies ask different questions; otherwise their values compare."""
    penalised = one.get("kl") or other.get("kl")
    parts = [part for part in parts_marked(StudyFile, Question) if penalised or part != "prior"]
    return [part for part in parts if one.get(part) != other.get(part)]


def claim_identity(study: optuna.Study, identity: Identity, *, accept: bool = False) -> None:
    """Record the identity in a new study, or compare an old study's.

    With `accept`, the course may differ, and the change is recorded. Raises `StudyMismatchError` with every part that
    differs, and the ways out.
    """
    recorded = study.user_attrs.get(IDENTITY)
    if recorded is None:
        if study.get_trials(deepcopy=False):
            raise StudyMismatchError(
                f"the database has a study {study.study_name!r} that Mixscout did not make; give this one another name"
            )
        study.set_user_attr(IDENTITY, identity)
        return
    different = [part for part in identity if recorded.get(part) != identity[part]]
    if accept and different and not _fixed(different):
        _accept(study, {part: [recorded.get(part), identity[part]] for part in different})
        study.set_user_attr(IDENTITY, identity)
        return
    if different:
        changes = "; ".join(f"{part}: {_change(recorded.get(part), identity[part])}" for part in different)
        raise StudyMismatchError(
            f"study {study.study_name!r} was started with another {' and another '.join(different)} ({changes}). "
            f"{_way_out(different, accept=accept)}"
        )


def claim_versions(study: optuna.Study, *, accept: bool = False) -> None:
    """Record the versions in a new study, or compare an old study's: losses may differ in their last digits.

    With `accept`, the change is recorded. Raises `StudyMismatchError` with every library of another version.
    """
    before, now = study.user_attrs.get(VERSIONS), current_versions()
    old = before or {}
    changed = {name: [old[name], now[name]] for name in now if name in old and old[name] != now[name]}
    if changed and not accept:
        said = ", ".join(f"{name} {old} -> {new}" for name, (old, new) in changed.items())
        raise StudyMismatchError(
            f"study {study.study_name!r} was started with other versions ({said}), and losses may differ a little. "
            "Install those again, go on all the same with `search --accept`, or give the study another name to start a "
            "new one"
        )
    if changed:
        _accept(study, changed)
    if changed or before is None:
        study.set_user_attr(VERSIONS, now)


def recorded_space(study: optuna.Study) -> CappedSimplex | None:
    """Return the recorded space; None for a study of others."""
    recorded = study.user_attrs.get(IDENTITY)
    if recorded is None:
        return None
    space = recorded["space"]
    floors = recorded.get("floors") or {}
    return CappedSimplex.of(space["partitions"], caps=space["caps"], floors=floors, max_members=space["max_members"])


def _accept(study: optuna.Study, changed: Mapping[str, Sequence[object]]) -> None:
    record = {"trials": len(study.get_trials(deepcopy=False)), "changed": dict(changed)}
    study.set_user_attr(ACCEPTED, [*study.user_attrs.get(ACCEPTED, []), record])


def _fixed(different: Sequence[str]) -> list[str]:
    """Keep the parts outside the course; trials under others would not compare."""
    course = parts_marked(StudyFile, Changeable)
    return [part for part in different if part not in course]


def _way_out(different: list[str], *, accept: bool) -> str:
    fixed = _fixed(different)
    new = "give the study another name to start a new one; evaluations that are still valid are reused"
    if not fixed:
        return f"Put it back, go on all the same with `search --accept`, or {new}"
    if accept:
        return (
            f"--accept cannot change the {' or the '.join(fixed)}: its trials would not compare. Put it back, or {new}"
        )
    return f"Put it back, or {new}, and with [search] evidence_from cost nothing"


def _change(before: object, now: object) -> str:
    """Show both sides of a change; of partitions, the names added and removed."""
    lists = [part.get("partitions") if isinstance(part, dict) else None for part in (before, now)]
    old, new = (list(names) if isinstance(names, list) else [] for names in lists)
    moved = [f"+{name}" for name in new if name not in old] + [f"-{name}" for name in old if name not in new]
    if old and new and moved:
        return f"partitions {', '.join(moved)}"
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [key for key in before.keys() | now.keys() if before.get(key) != now.get(key)]
        before, now = ({key: part.get(key) for key in sorted(keys)} for part in (before, now))
    return f"{_shown(before)} -> {_shown(now)}"


def _shown(part: object) -> str:
    text = str(part)
    return text if len(text) <= 60 else f"{text[:57]}..."


def current_versions() -> dict[str, str]:
    """Return the versions of Python and the libraries behind losses, by name."""
    return library_versions(("mixscout", "optuna", "torch", "transformers", "scikit-learn"))
