"""What [space] and [search] can ask for, end to end: start designs, another study's best, a prior, stop rules."""

import json
import sqlite3
import sys
from pathlib import Path

import optuna
import pytest
from tiny import edit

from pool.errors import ConfigError
from search.trials import START
from studies.opened.on_pool import workbench
from studies.running.plan import start_mixtures
from studies.study_file.study_file import read_study_file


def _trials(root: Path, study: str = "tiny") -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(storage=f"sqlite:///{root / 'mixscout.db'}", study_name=study).get_trials()


def _search(mixscout, root: Path, *options: object) -> dict[str, object]:
    answer = mixscout("search", root / "study.toml", *options, "--json")
    assert answer.code == 0, answer.err
    return {**json.loads(answer.out), "err": answer.err}


def test_a_start_design_is_evaluated_in_its_order_and_projected(root: Path, mixscout) -> None:
    start = 'start = ["proportional", "unimax", "prior", "vertices"]\nprior = {code = 0.7, docs = 0.3}'
    edit(root / "study.toml", 'start = ["uniform", "vertices"]', start)
    edit(root / "study.toml", "[search]", '[space]\nexclude = ["docs"]\ncaps = {code = 0.6}\n[search]')
    _search(mixscout, root, "--merges", 5)
    trials = _trials(root)
    names = [trial.user_attrs[START] for trial in trials]
    assert names == ["proportional", "unimax", "prior", "vertex:code", "vertex:prose"]
    assert all(set(trial.params) == {"code", "prose"} for trial in trials)
    assert trials[2].params == pytest.approx({"code": 0.6, "prose": 0.4})


def test_bounds_of_every_kind_hold_in_the_study_and_in_its_answer(root: Path, mixscout) -> None:
    edit(root / "study.toml", "[search]", "[space]\nfixed = {code = 0.25}\nfloors = {docs = 0.1}\n[search]")
    _search(mixscout, root, "--merges", 8)
    best = json.loads(mixscout("best", root / "study.toml", "--json").out)["mixture"]
    assert best["code"] == 0.25 and best["docs"] >= 0.1
    assert all("code" not in trial.params for trial in _trials(root))


@pytest.mark.parametrize(("strategy", "apart"), [("qmc", 0.0), ("gradient", 1e-5)])
def test_a_search_with_models_in_shards_makes_the_same_trials(
    strategy: str, apart: float, root: Path, mixscout
) -> None:
    """Without GPUs both shards are the CPU; a gradient's inner products are added by shard, so its last digits move."""
    edit(root / "study.toml", 'strategy = "gradient"', f'strategy = "{strategy}"')
    whole = _search(mixscout, root, "--merges", 7)
    trials = _trials(root)
    (root / "mixscout.db").unlink()
    edit(root / "study.toml", "[search]", "[objective]\ndevices = 2\n[search]")
    cut = _search(mixscout, root, "--merges", 7)
    assert "the 2 shards of each model lie side by side in memory" in cut["err"]
    assert "side by side" not in whole["err"]
    for one, other in zip(trials, _trials(root), strict=True):
        assert other.params == pytest.approx(one.params, rel=0, abs=apart)
        assert other.state == one.state
        assert one.value is None or other.value == pytest.approx(one.value, rel=0, abs=apart)
    edit(root / "study.toml", "devices = 2", "devices = 1")
    again = _search(mixscout, root, "--merges", 7)
    assert again["mixture"] == cut["mixture"], "a study goes on with another number of devices"


@pytest.mark.parametrize(("key", "named"), [("compiled = true", "compiled"), ('rule = "fisher"', "rule = 'fisher'")])
def test_what_needs_a_whole_model_is_not_cut(key: str, named: str, root: Path, mixscout) -> None:
    edit(root / "study.toml", "[search]", f"[objective]\ndevices = 2\n{key}\n[search]")
    answer = mixscout("search", root / "study.toml")
    assert answer.code == 1
    assert f"{named} is for a whole model on one device: take out {named}, or devices" in answer.err


def _second_study(root: Path, **changes: str) -> Path:
    text = (root / "study.toml").read_text().replace('name = "tiny"', 'name = "second"')
    for old, new in changes.items():
        text = text.replace(old, new)
    (root / "second.toml").write_text(text.replace("[gate]", 'start_from = "tiny"\n\n[gate]'))
    return root / "second.toml"


def test_a_study_starts_from_another_study_s_best_and_goes_on_without_it(root: Path, mixscout) -> None:
    edit(root / "study.toml", "[search]", "[space]\nfloors = {docs = 0.05}\n[search]")
    _search(mixscout, root, "--merges", 8)
    best = json.loads(mixscout("best", root / "study.toml", "--json").out)["mixture"]
    second = _second_study(root)
    assert mixscout("search", second, "--merges", 5).code == 0
    trial = next(trial for trial in _trials(root, "second") if trial.user_attrs.get(START) == "best-of:tiny")
    assert trial.params == pytest.approx(best)
    optuna.delete_study(storage=f"sqlite:///{root / 'mixscout.db'}", study_name="tiny")
    assert mixscout("search", second, "--merges", 6).code == 0


def test_a_study_to_start_from_that_is_none_leaves_nothing_behind(root: Path, mixscout) -> None:
    second = _second_study(root)

    def refused(message: str) -> None:
        answer = mixscout("search", second)
        assert answer.code == 1 and len(answer.err.splitlines()) == 1
        assert message in answer.err
        assert "second" not in optuna.get_all_study_names(f"sqlite:///{root / 'mixscout.db'}")

    refused("[search] start_from: study 'tiny' is not in")
    study = optuna.create_study(storage=f"sqlite:///{root / 'mixscout.db'}", study_name="tiny")
    refused("was not made by Mixscout")
    study.set_user_attr("mixscout:identity", {"space": {"partitions": ["x"], "caps": {}, "max_members": 1}})
    refused("is over other partitions than this pool (code, docs, prose, x only in one of them)")
    partitions = ["prose", "docs", "code"]
    study.set_user_attr("mixscout:identity", {"space": {"partitions": partitions, "caps": {}, "max_members": 3}})
    refused("has no evaluated mixture yet; run `mixscout search`")


def test_a_penalty_is_in_what_is_minimised_and_not_in_what_is_reported(root: Path, mixscout) -> None:
    edit(root / "study.toml", "[gate]", "kl = 5.0\n\n[gate]")
    _search(mixscout, root, "--merges", 8)
    answer = json.loads(mixscout("best", root / "study.toml", "--json").out)
    lowest = min(trial.value for trial in _trials(root) if trial.value is not None)
    with sqlite3.connect(root / "mixscout.db") as connection:
        losses = [value for (value,) in connection.execute("select value from evaluations")]
    assert answer["search"]["value"] in losses
    assert lowest > answer["search"]["value"], "the trial's value has the penalty"
    with workbench(read_study_file(root / "study.toml")) as bench:
        proportional = bench.proxy.pool.proportional().as_dict()
    assert max(abs(answer["mixture"][name] - weight) for name, weight in proportional.items()) < 0.1


def test_a_stop_rule_ends_the_search_says_so_and_may_be_changed(root: Path, mixscout) -> None:
    edit(root / "study.toml", "[gate]", "[search.stop]\npatience = 2\nmin_improvement = 10.0\n\n[gate]")
    found = _search(mixscout, root, "--merges", 30)
    assert "search tiny: stopped after 6 of 30 merges by patience: 2 merges improved by no more than 10" in found["err"]
    assert found["err"] and len(_trials(root)) == 6
    edit(root / "study.toml", "patience = 2", "patience = 3")
    assert "stopped after 7 of 30 merges" in _search(mixscout, root, "--merges", 30)["err"]


def test_expected_improvement_ends_a_search(root: Path, mixscout) -> None:
    edit(root / "study.toml", "[gate]", "[search.stop]\nmin_expected_improvement = 5.0\n\n[gate]")
    assert "by expected improvement: " in _search(mixscout, root, "--merges", 30)["err"]
    assert len(_trials(root)) == 5


def test_a_sampler_of_the_user_s_own_searches_and_is_in_the_identity(
    root: Path, mixscout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_samplers.py").write_text(
        "import optuna\n\ndef make(space, seed):\n    return optuna.samplers.RandomSampler(seed=seed)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    edit(root / "study.toml", '"gradient"', '"their_samplers:make"')
    _search(mixscout, root, "--merges", 6)
    edit(root / "study.toml", '"their_samplers:make"', '"random"')
    answer = mixscout("search", root / "study.toml", "--merges", 8)
    assert answer.code == 1
    assert "was started with another strategy (strategy: {'name': 'their_samplers:make'}" in answer.err
    sys.modules.pop("their_samplers")


def test_vertices_of_excluded_partitions_are_not_asked_for(root: Path) -> None:
    edit(root / "study.toml", "[search]", '[space]\nexclude = ["code"]\n[search]')
    config = read_study_file(root / "study.toml")
    with workbench(config) as bench:
        start = start_mixtures(bench, known=())
    assert list(start) == ["uniform", "vertex:docs", "vertex:prose"]


def test_a_search_starts_from_the_text_alone(root: Path, mixscout) -> None:
    edit(root / "study.toml", 'start = ["uniform", "vertices"]', 'start = ["bigrams", "importance"]')
    _search(mixscout, root, "--merges", 2)
    trials = _trials(root)
    assert [trial.user_attrs[START] for trial in trials] == ["bigrams", "importance"]
    shown = json.loads(mixscout("prior", root / "study.toml", "--json").out)
    mixtures = {one["name"]: one["mixture"] for one in shown}
    assert trials[0].params == pytest.approx({name: weight for name, weight in mixtures["bigrams"].items() if weight})


def test_what_makes_no_mixture_feasible_is_a_configuration_error(root: Path) -> None:
    edit(root / "study.toml", "[search]", "[space]\nfloors = {code = 0.9}\ncaps = {code = 0.5}\n[search]")
    config = read_study_file(root / "study.toml")
    with (
        pytest.raises(ConfigError, match=r"\[space\] the floor of 'code' must be from 0 to its cap 0.5: got 0.9"),
        workbench(config),
    ):
        pass


def test_weights_as_published_are_divided_by_their_sum(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = root / "study.toml"
    edit(path, "licences = 0.6\nprose = 0.4", "licences = 60\nprose = 40")
    edit(path, "[gate]", "prior = {code = 0.3, docs = 0.3001, prose = 0.4}\nkl = 0.1\n[gate]")
    config = read_study_file(path)
    assert config.target.weights == {"licences": 0.6, "prose": 0.4}
    assert sum(config.search.prior.values()) == pytest.approx(1, abs=1e-15)
    said = [line.removeprefix(f"{path}: ") for line in capsys.readouterr().err.splitlines()]
    assert said == [
        "[search.prior] weights sum to 1.0001: divided by it",
        "[target] weights sum to 100, as percent: divided by it",
    ]


def test_other_sums_name_the_key_that_takes_them(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = root / "study.toml"
    edit(path, "licences = 0.6", "licences = 3.6")
    message = r"\[target\] the target weights must sum to 1: they sum to 4; divide each by 4, or set normalise = true"
    with pytest.raises(ConfigError, match=message), workbench(read_study_file(path)):
        pass
    edit(path, 'name = "tiny"', 'name = "tiny"\nnormalise = true')
    assert read_study_file(path).target.weights == {"licences": 0.9, "prose": 0.1}
    assert "[target] weights sum to 4: divided by it" in capsys.readouterr().err


def test_bounds_in_percent_are_refused_with_the_share(root: Path) -> None:
    path = root / "study.toml"
    edit(path, "[search]", "[space]\ncaps = {code = 50}\nfloors = {docs = -1.0}\n[search]")
    message = (
        r"'space.caps.code': a weight is above 0 and at most 1; for 50 percent write 0.5 \(got 50\); .* at most 1 \("
    )
    with pytest.raises(ConfigError, match=message):
        read_study_file(path)
