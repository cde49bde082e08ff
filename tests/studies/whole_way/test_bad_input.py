"""Bad input: one clear line that names the thing and the way out, exit code 1, and nothing written or lost."""

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny import edit, rewrite_record, snapshot

from pool.checkpoints.checkpoint import load_model
from pool.files.digests import digest_file


@pytest.fixture
def studied(root: Path, mixscout) -> Path:
    """A root whose study has begun."""
    answer = mixscout("search", root / "study.toml", "--merges", 5)
    assert answer.code == 0, answer.err
    return root


def _contents(root: Path) -> dict[str, bytes]:
    """Files, with the database as its rows: an opened database may differ in bytes. A refusal is in the ledger."""
    files = snapshot(root)
    database = files.pop("mixscout.db", None)
    if database is not None:
        with sqlite3.connect(root / "mixscout.db") as connection:
            rows = (line for line in connection.iterdump() if not line.startswith('INSERT INTO "commands"'))
            files["rows"] = "\n".join(rows).encode()
    return files


def _refused(mixscout, root: Path, message: str, *command: object) -> None:
    before = _contents(root)
    answer = mixscout(*command)
    assert answer.code == 1, answer.err
    lines = [line for line in answer.err.splitlines() if not line.startswith("corpus: ")]
    assert len(lines) == 1 and lines[0].startswith("mixscout: "), answer.err
    assert message in lines[0]
    assert _contents(root) == before


STUDY_MISTAKES = {
    "unknown key": ("[search]", "[search]\nmerge = 3", "unknown key 'search.merge'; did you mean 'merges'?"),
    "unknown strategy": (
        '"gradient"',
        '"simplex"',
        "'search.strategy': unknown strategy 'simplex'; use auto, gradient",
    ),
    "target does not sum to one": ("licences = 0.6", "licences = 0.5", "[target] the target weights must sum to 1"),
    "unknown domain": ("licences = 0.6", "wiki = 0.6", "[target] 'wiki' is no held-out domain of the pool"),
    "infeasible cap": ("[search]", "[space]\ncaps = {code = 0.3, docs = 0.3, prose = 0.3}\n[search]", "sum to 0.9"),
    "infeasible epochs": ("[search]", "[space]\nmax_epochs = 0.01\n[search]", "no mixture is feasible"),
    "budget without epochs": (
        "[search]",
        "[space]\ntraining_budget_tokens = 9\n[search]",
        "training_budget_tokens does nothing without max_epochs",
    ),
    "unknown partition": ("[search]", "[space]\ncaps = {wiki = 0.3}\n[search]", "'wiki' is no partition of the pool"),
    "too many members": ("[search]", "[space]\nmax_members = 9\n[search]", "max_members must be from 1 to 3: got 9"),
    "two goals": (
        "[search]",
        '[objective]\naggregate = "macro"\ndomains = ["prose"]\n[search]',
        "say what is minimised by one of [target]",
    ),
    "weights for an aggregate without": (
        "[search]",
        '[objective]\naggregate = "micro"\n[search]',
        "aggregate 'micro' uses no weights: list the domains under [objective] domains",
    ),
    "no weights for weights": (
        "[target]\nlicences = 0.6\nprose = 0.4",
        '[objective]\naggregate = "weighted"\ndomains = ["prose"]',
        "aggregate 'weighted' needs weights: give [target]",
    ),
    "unknown domain of an aggregate": (
        "[target]\nlicences = 0.6\nprose = 0.4",
        '[objective]\ndomains = ["prose", "wiki"]',
        "[objective] 'wiki' is no held-out domain of the pool",
    ),
    "unknown constrained domain": (
        "[search]",
        "[constraints]\nwiki = 0.1\n[search]",
        "[constraints] 'wiki' is no held-out domain of the pool",
    ),
    "a single one of several targets": (
        '[target]\nlicences = 0.6\nprose = 0.4\n\n[search]\nstrategy = "gradient"',
        '[targets.one]\nprose = 1.0\n\n[search]\nstrategy = "random"',
        "[targets] several targets are at least two; give a single one as [target]",
    ),
    "several targets and one gradient": (
        "[target]\nlicences = 0.6\nprose = 0.4",
        "[targets.a]\nprose = 1.0\n[targets.b]\nlicences = 1.0",
        "strategy 'gradient' follows one objective; with several [targets] use auto, surrogate, tpe, gp",
    ),
    "unbalanced weights of several": (
        '[target]\nlicences = 0.6\nprose = 0.4\n\n[search]\nstrategy = "gradient"',
        '[targets.a]\nprose = 0.5\n[targets.b]\nlicences = 1.0\n\n[search]\nstrategy = "random"',
        "[targets.a] the target weights must sum to 1: they sum to 0.5",
    ),
    "gradient of downstream scores": (
        "[search]",
        '[downstream]\ntasks = ["piqa"]\n[search]',
        "downstream scores have no gradient; use strategy auto, surrogate, tpe",
    ),
    "impossible error rate": (
        "[search]",
        "[early_stopping]\nerror_rate = 0.7\n[search]",
        "'early_stopping.error_rate': Input should be less than 0.5",
    ),
    "a sampler that is not there": (
        '"gradient"',
        '"nowhere.samplers:make"',
        "strategy 'nowhere.samplers:make' cannot be imported: No module named 'nowhere'; install its package",
    ),
    "a sampler that is none": ('"gradient"', '"json:__name__"', "must be a function make(space, seed): got str"),
    "a sampler that makes none": (
        '"gradient"',
        '"operator:eq"',
        "strategy 'operator:eq' must return an optuna.samplers.BaseSampler: got bool",
    ),
    "floor of no partition": (
        "[search]",
        "[space]\nfloors = {wiki = 0.3}\n[search]",
        "[space.floors] 'wiki' is no part",
    ),
    "excluded no partition": ("[search]", '[space]\nexclude = ["wiki"]\n[search]', "[space.exclude] 'wiki' is no part"),
    "fixed and excluded": (
        "[search]",
        '[space]\nexclude = ["code"]\nfixed = {code = 0.3}\n[search]',
        "'space': 'code' is in both exclude and fixed: keep one",
    ),
    "fixed and capped": (
        "[search]",
        "[space]\ncaps = {code = 0.2}\nfixed = {code = 0.3}\n[search]",
        "'space': 'code' is in both fixed and caps: keep one",
    ),
    "everything excluded": (
        "[search]",
        '[space]\nexclude = ["code", "docs", "prose"]\n[search]',
        "[space] no mixture is feasible: the 3 largest caps sum to 0",
    ),
    "floors above one": (
        "[search]",
        "[space]\nfloors = {code = 0.6, docs = 0.6}\n[search]",
        "[space] no mixture is feasible: floors and fixed weights sum to 1.2",
    ),
    "more floors than members": (
        "[search]",
        "[space]\nmax_members = 1\nfloors = {code = 0.1, docs = 0.1}\n[search]",
        "2 partitions have a floor or a fixed weight (code, docs), but max_members is 1; raise it",
    ),
    "a fixed weight above what epochs allow": (
        "[search]",
        "[space]\nmax_epochs = 0.5\nfixed = {code = 0.99}\ntraining_budget_tokens = 1_000_000\n[search]",
        "[space] the floor of 'code' must be from 0 to its cap",
    ),
    "a prior that does not sum to one": (
        "[gate]",
        "prior = {code = 0.5}\nkl = 1.0\n[gate]",
        "[search.prior] the weights of a mixture must sum to 1: they sum to 0.5",
    ),
    "a prior of no partition": (
        "[gate]",
        "kl = 0.1\nprior = {wiki = 1.0}\n[gate]",
        "[search.prior] 'wiki' is no partition of the pool",
    ),
    "a prior that is zero where mixtures are not": (
        "[gate]",
        "kl = 0.1\nprior = {code = 0.5, docs = 0.5}\n[gate]",
        "[search.prior] the weight of 'prose' is 0, so the divergence of any mixture that uses it is infinite",
    ),
    "a start from no prior": ('"uniform"', '"prior"', "start names 'prior', but there is no [search.prior]"),
    "a prior for nothing": ("[gate]", "prior = {code = 1.0}\n[gate]", "[search.prior] does nothing: set kl, or put"),
    "a start from itself": ("[gate]", 'start_from = "tiny"\n[gate]', "start_from names the study itself, 'tiny'"),
    "a penalty on several targets": (
        '[target]\nlicences = 0.6\nprose = 0.4\n\n[search]\nstrategy = "gradient"',
        '[targets.a]\nprose = 1.0\n[targets.b]\nlicences = 1.0\n\n[search]\nkl = 0.1\nstrategy = "random"',
        "[search] kl is a penalty on one objective: leave it out with several [targets]",
    ),
    "expected improvement of several targets": (
        '[target]\nlicences = 0.6\nprose = 0.4\n\n[search]\nstrategy = "gradient"',
        "[targets.a]\nprose = 1.0\n[targets.b]\nlicences = 1.0\n[search.stop]\nmin_expected_improvement = 0.1\n"
        '[search]\nstrategy = "random"',
        "[search.stop] min_expected_improvement judges one objective",
    ),
    "no patience to improve": (
        "[gate]",
        "[search.stop]\nmin_improvement = 0.1\n[gate]",
        "min_improvement does nothing without patience: set both",
    ),
    "no pool file": ('pool = "pool.toml"', 'pool = "gone.toml"', "gone.toml: no such file"),
}


@pytest.mark.parametrize("mistake", STUDY_MISTAKES)
def test_a_mistake_in_the_study_file(mistake: str, root: Path, mixscout) -> None:
    old, new, message = STUDY_MISTAKES[mistake]
    edit(root / "study.toml", old, new)
    _refused(mixscout, root, message, "search", root / "study.toml")
    assert not (root / "mixscout.db").exists()


def test_a_missing_study_file(root: Path, mixscout) -> None:
    _refused(mixscout, root, "gone.toml: no such file", "search", root / "gone.toml")


def test_a_study_that_was_not_started(root: Path, mixscout) -> None:
    for verb in (["best"], ["confirm"]):
        answer = mixscout(*verb, root / "study.toml")
        assert answer.code == 1
        assert "no study 'tiny' in" in answer.err and "run `mixscout search " in answer.err
        assert not (root / "mixscout.db").exists()


def test_a_wrong_mixture_is_named_before_a_study_that_was_not_started(studied: Path, mixscout) -> None:
    edit(studied / "study.toml", 'name = "tiny"', 'name = "another"')
    asked = ("predict", studied / "study.toml", "--mixture")
    assert "--mixture: 'gone' is no partition" in mixscout(*asked, "gone=1").err
    assert "no study 'another' in" in mixscout(*asked, "prose=1").err


def test_a_pool_that_was_not_built(empty_root: Path, mixscout) -> None:
    _refused(mixscout, empty_root, "pool 'tiny' is not built", "search", empty_root / "study.toml")


def _change_recipe(root: Path, mixscout) -> None:
    edit(root / "pool.toml", "learning_rate = 3e-3", "learning_rate = 1e-3")
    assert mixscout("pool", "build", root / "pool.toml", "--all-members").code == 0


def _change_pool(root: Path, mixscout) -> None:
    edit(root / "code.jsonl", "return", "yield")
    assert mixscout("pool", "build", root / "pool.toml", "--rebuild", "code").code == 0


def _change_held_out_text(root: Path, mixscout) -> None:
    lines = (root / "licences.jsonl").read_text().splitlines(keepends=True)
    (root / "licences.jsonl").write_text("".join(lines[: len(lines) // 2]))
    assert mixscout("pool", "build", root / "pool.toml").code == 0


def _edit_study(old: str, new: str) -> Callable[[Path, object], None]:
    return lambda root, mixscout: edit(root / "study.toml", old, new)


CHANGES = {
    "recipe": (_change_recipe, "recipe: {'learning_rate': 0.003} -> {'learning_rate': 0.001})"),
    "pool": (_change_pool, "was started with another pool (pool: "),
    "held-out text": (_change_held_out_text, "was started with another held-out text ("),
    "space": (_edit_study("[search]", "[space]\nmax_members = 2\n[search]"), "was started with another space ("),
    "strategy": (_edit_study('"gradient"', '"tpe"'), "was started with another strategy ("),
    "target": (_edit_study("licences = 0.6\nprose = 0.4", "licences = 0.4\nprose = 0.6"), "another target ("),
    "merge rule": (_edit_study("[search]", '[objective]\nrule = "power"\n[search]'), "another merge rule ("),
    "seed": (_edit_study("[search]", "[search]\nseed = 7"), "was started with another seed (seed: 0 -> 7)"),
    "start": (_edit_study('start = ["uniform", "vertices"]', 'start = ["uniform"]'), "another start ("),
    "floors": (_edit_study("[search]", "[space]\nfloors = {code = 0.1}\n[search]"), "another floors ("),
    "kl": (_edit_study("[gate]", "kl = 0.1\n[gate]"), "was started with another kl (kl: None -> 0.1)"),
    "gate": (_edit_study("min_evidence = 5", "min_evidence = 6"), "was started with another gate ("),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_study_resumed_after_a_change_is_refused_by_name(change: str, studied: Path, mixscout) -> None:
    make, message = CHANGES[change]
    make(studied, mixscout)
    _refused(mixscout, studied, message, "search", studied / "study.toml", "--merges", 9)
    _refused(mixscout, studied, "or give the study another name", "best", studied / "study.toml")


def test_held_out_text_edited_but_not_rebuilt_is_refused(studied: Path, mixscout) -> None:
    edit(studied / "licences.jsonl", "License", "Lizenz")
    _refused(mixscout, studied, "has changed since it was built", "search", studied / "study.toml")


@pytest.mark.parametrize("damage", ["truncated", "altered"])
def test_a_damaged_member(damage: str, studied: Path, mixscout) -> None:
    path = studied / "pools/tiny/members/docs/model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-64] if damage == "truncated" else content[:-1] + bytes([content[-1] ^ 1]))
    for verb in ("search", "best", "confirm"):
        _refused(mixscout, studied, "member 'docs': ", verb, studied / "study.toml")
    _refused(mixscout, studied, "was truncated or altered", "pool", "build", studied / "pool.toml")


def test_a_nan_in_a_member_is_named(studied: Path, mixscout) -> None:
    """Even one whose digests have been made to agree."""
    folder = studied / "pools/tiny/members/docs"
    model = load_model(folder)
    with torch.no_grad():
        next(model.parameters())[0, 0] = float("nan")
    model.save_pretrained(folder)
    digest = digest_file(folder / "model.safetensors")
    rewrite_record(folder / "manifest.json", lambda content: content.update(weights_digest=digest))
    pool_record = studied / "pools/tiny/pool.json"
    rewrite_record(pool_record, lambda content: content["members"]["docs"].update(weights_digest=digest))
    edit(studied / "study.toml", 'name = "tiny"', 'name = "other"')
    answer = mixscout("search", studied / "study.toml")
    assert answer.code == 1 and "member 'docs' has NaN or infinite values in" in answer.err.splitlines()[-1]


def test_a_locked_database(studied: Path, mixscout) -> None:
    edit(studied / "study.toml", "[target]", "[target]")
    text = (studied / "study.toml").read_text()
    (studied / "study.toml").write_text("database_timeout_seconds = 0.2\n" + text)
    before = _contents(studied)
    connection = sqlite3.connect(studied / "mixscout.db", isolation_level=None)
    connection.execute("begin exclusive")
    answer = mixscout("search", studied / "study.toml", "--merges", 9)
    connection.execute("rollback")
    connection.close()
    assert answer.code == 1
    assert len(answer.err.splitlines()) == 1
    assert "is locked by another process; nothing was lost" in answer.err
    assert _contents(studied) == before
    assert mixscout("search", studied / "study.toml", "--merges", 9).code == 0


def test_a_database_in_a_place_that_cannot_be_written(studied: Path, mixscout) -> None:
    (studied / "file").write_text("not a folder")
    text = (studied / "study.toml").read_text()
    (studied / "study.toml").write_text('database = "file/mixscout.db"\n' + text)
    _refused(mixscout, studied, "cannot be written", "search", studied / "study.toml")


@pytest.mark.parametrize("name", ["a{x}.db", "a?.db", "a#b.db"])
def test_a_database_path_that_would_open_another_file(name: str, studied: Path, mixscout) -> None:
    text = (studied / "study.toml").read_text()
    (studied / "study.toml").write_text(f'database = "{name}"\n' + text)
    message = "cannot be opened; set `database` in the study file to another"
    _refused(mixscout, studied, message, "search", studied / "study.toml")


def test_a_file_that_may_not_be_read_is_one_line(studied: Path, mixscout, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pool.parts.store.verify_checkpoint", lambda folder, what, remedy: forbidden(folder))
    answer = mixscout("search", studied / "study.toml")
    assert answer.code == 1
    assert len(answer.err.splitlines()) == 1 and "Permission denied" in answer.err


def test_a_database_that_is_none(studied: Path, mixscout) -> None:
    (studied / "mixscout.db").write_bytes(b"this is no database, but it is long enough to be read as one " * 40)
    answer = mixscout("search", studied / "study.toml")
    assert answer.code == 1
    assert "is not a database that can be read" in answer.err


def test_a_study_of_that_name_that_is_not_ours(root: Path, mixscout) -> None:
    import optuna

    study = optuna.create_study(storage=f"sqlite:///{root / 'mixscout.db'}", study_name="tiny")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    answer = mixscout("search", root / "study.toml")
    assert answer.code == 1
    assert "that Mixscout did not make; give this one another name" in answer.err


@pytest.mark.parametrize("file", ["code.jsonl", "licences.jsonl"])
@pytest.mark.parametrize("how", ["missing", "empty"])
def test_a_corpus_file(file: str, how: str, empty_root: Path, mixscout) -> None:
    if how == "missing":
        (empty_root / file).unlink()
    else:
        (empty_root / file).write_text("")
    message = "No such file" if how == "missing" else "is empty"
    _refused(mixscout, empty_root, message, "pool", "build", empty_root / "pool.toml")
    assert not (empty_root / "pools").exists()


def test_a_demo_root_that_cannot_be_made(tmp_path: Path, mixscout) -> None:
    (tmp_path / "file").write_text("x")
    answer = mixscout("demo", "--root", tmp_path / "file" / "root")
    assert answer.code == 1
    assert len(answer.err.splitlines()) == 1 and "cannot" in answer.err


def test_a_moved_root_is_the_same_study(studied: Path, mixscout, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.move(studied, moved)
    assert mixscout("search", moved / "study.toml", "--merges", 7).code == 0
