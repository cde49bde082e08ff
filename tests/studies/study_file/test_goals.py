"""What a study can minimise, end to end: aggregates, constraints, several targets, and early stopping on the way."""

import json
from pathlib import Path

import optuna
import pytest
from tiny import edit

from search.trials import STOPPED_EARLY, TOKENS_READ, completed_trials

TARGET = "[target]\nlicences = 0.6\nprose = 0.4\n"
STRATEGY = 'strategy = "gradient"'


def _best(mixscout, root: Path, merges: int) -> dict:
    answer = mixscout("search", root / "study.toml", "--merges", merges)
    assert answer.code == 0, answer.err
    answer = mixscout("best", root / "study.toml", "--json")
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [
        ("macro", lambda search: search["macro"]["loss_nats"]),
        ("micro", lambda search: search["micro"]["loss_nats"]),
        ("worst", lambda search: max(one["loss_nats"] for one in search["domains"].values())),
    ],
)
def test_an_aggregate_without_weights_is_minimised_with_its_gradient(root, mixscout, aggregate, expected) -> None:
    goal = f'[objective]\naggregate = "{aggregate}"\ndomains = ["licences", "prose", "code"]\n'
    edit(root / "study.toml", TARGET, goal)
    best = _best(mixscout, root, 9)
    assert best["search"]["value"] == pytest.approx(expected(best["search"]))
    assert all(best["search"]["value"] <= one["search"]["value"] for one in best["baselines"].values())


def test_worst_excess_is_in_excess_of_the_seed_on_each_split(root: Path, mixscout) -> None:
    goal = '[objective]\naggregate = "worst-excess"\ndomains = ["licences", "prose"]\n'
    edit(root / "study.toml", TARGET, goal)
    best = _best(mixscout, root, 6)
    for split in ("search", "test"):
        seed = best["baselines"]["seed"][split]
        assert seed["value"] == pytest.approx(0, abs=1e-6)
        excess = [one["loss_nats"] - seed["domains"][name]["loss_nats"] for name, one in best[split]["domains"].items()]
        assert best[split]["value"] == pytest.approx(max(excess), abs=1e-6)


def test_bits_per_byte_are_minimised_where_asked_for(root: Path, mixscout) -> None:
    edit(root / "study.toml", "[search]", '[objective]\nmeasure = "bits-per-byte"\n\n[search]')
    best = _best(mixscout, root, 6)
    assert best["search"]["value"] == pytest.approx(best["search"]["bits_per_byte"])
    assert "bits per byte" in mixscout("best", root / "study.toml").out


def test_a_constraint_is_kept_at_the_cost_of_the_target(root: Path, mixscout) -> None:
    edit(root / "study.toml", TARGET, "[target]\ncode = 0.9\nprose = 0.1\n")
    free = _best(mixscout, root, 8)
    standings = {"best": free, **free["baselines"]}
    prose = {name: standing["search"]["domains"]["prose"]["loss_nats"] for name, standing in standings.items()}
    ceiling = (prose["best"] + prose["uniform"]) / 2
    assert ceiling < prose["best"], "what is best for code is not best for prose"
    edit(root / "study.toml", 'name = "tiny"', 'name = "constrained"')
    edit(root / "study.toml", "[search]", f"[constraints]\nprose = {ceiling - prose['seed']}\n\n[search]")
    best = _best(mixscout, root, 16)
    assert best["search"]["violations"]["prose"] <= 0
    assert best["search"]["domains"]["prose"]["loss_nats"] == pytest.approx(ceiling, abs=0.03), "at its ceiling"
    assert free["search"]["value"] < best["search"]["value"] == pytest.approx(best["search"]["loss_nats"])
    assert "constraint on prose kept" in mixscout("best", root / "study.toml").out


def test_a_constraint_that_nothing_keeps_is_said_to_be_broken(root: Path, mixscout) -> None:
    edit(root / "study.toml", "[search]", "[constraints]\nprose = -3.0\n\n[search]")
    best = _best(mixscout, root, 5)
    assert best["search"]["violations"]["prose"] > 0
    assert best["search"]["value"] > best["search"]["loss_nats"] + 5, "the penalty is in the value, not in the loss"
    assert "constraint on prose BROKEN" in mixscout("best", root / "study.toml").out


def test_several_targets_make_a_pareto_front(root: Path, mixscout) -> None:
    edit(root / "study.toml", TARGET, "[targets.law]\nlicences = 1.0\n\n[targets.others]\nprose = 0.5\ncode = 0.5\n")
    edit(root / "study.toml", STRATEGY, 'strategy = "tpe"')
    best = _best(mixscout, root, 14)
    assert best["counts"]["stopped_early"] == 0 and best["counts"]["merges"] == 14
    front = [tuple(point["search"].values()) for point in best["front"]]
    assert len(front) >= 2 and set(best["front"][0]["search"]) == {"law", "others"}
    assert not any(a != b and a[0] <= b[0] and a[1] <= b[1] for a in front for b in front)
    study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{root / 'mixscout.db'}")
    values = [tuple(trial.values) for trial in completed_trials(study)]
    assert all(any(a[0] <= b[0] and a[1] <= b[1] for a in front) for b in values), "nothing evaluated is beyond it"
    assert "Pareto front" in mixscout("best", root / "study.toml").out
    assert mixscout("export", root / "study.toml", root / "merged").code == 0


def test_early_stopping_reads_less_and_finds_the_same(root: Path, mixscout) -> None:
    edit(root / "study.toml", STRATEGY, 'strategy = "random"')
    edit(root / "study.toml", "[gate]", "[early_stopping]\nerror_rate = 0.3\n\n[gate]\nenabled = false")
    early = _best(mixscout, root, 20)
    trials = optuna.load_study(study_name="tiny", storage=f"sqlite:///{root / 'mixscout.db'}").trials
    stopped = [trial for trial in trials if trial.user_attrs[STOPPED_EARLY]]
    full = max(trial.user_attrs[TOKENS_READ] for trial in trials)
    assert len(stopped) == early["counts"]["stopped_early"] > 0
    assert all(0 < trial.user_attrs[TOKENS_READ] < full for trial in stopped)
    assert all(trial.value > early["search"]["value"] for trial in stopped)
    assert "stopped early" in mixscout("search", root / "study.toml", "--merges", 20).out

    edit(root / "study.toml", 'name = "tiny"', 'name = "in-full"')
    edit(root / "study.toml", "[early_stopping]", "[early_stopping]\nenabled = false")
    plain = _best(mixscout, root, 20)
    assert plain["counts"]["stopped_early"] == 0
    assert plain["mixture"] == early["mixture"]


def test_best_says_what_can_be_told_apart(root: Path, mixscout) -> None:
    best = _best(mixscout, root, 6)
    for baseline in best["baselines"].values():
        for split, behind in baseline["behind"].items():
            assert behind["difference"] == pytest.approx(baseline[split]["value"] - best[split]["value"])
            assert behind["standard_error"] is None or behind["standard_error"] >= 0
    people = mixscout("best", root / "study.toml").out
    assert "can't be told apart" in people or "beyond chance" in people


def test_the_texts_of_every_contender_can_be_compared(root: Path, mixscout) -> None:
    assert mixscout("search", root / "study.toml", "--merges", 5).code == 0
    found = json.loads(mixscout("best", root / "study.toml", "--diversity", "--json").out)["diversity"]
    assert set(found) == {"best", "uniform", "proportional", "best_single_member", "seed"}
    assert all(0 <= one["self_bleu"] <= 100 and 0 < one["distinct_2"] <= 1 for one in found.values())
    assert "self-BLEU" in mixscout("best", root / "study.toml", "--diversity").out


def test_bfloat16_is_another_study(root: Path, mixscout) -> None:
    assert mixscout("search", root / "study.toml", "--merges", 4).code == 0
    edit(root / "study.toml", "[search]", '[objective]\nprecision = "bfloat16"\n\n[search]')
    answer = mixscout("search", root / "study.toml")
    assert answer.code == 1 and "another precision (precision: float32 -> bfloat16)" in answer.err


def test_bench_objective_prints_its_ratios(root: Path, mixscout) -> None:
    command = ("bench", "objective", root / "study.toml", "--repeats", 1)
    found = json.loads(mixscout(*command, "--precision", "--json").out)
    ratios = {
        "overhead_ratio",
        "merge_bandwidth_ratio",
        "versus_mergekit_ready",
        "versus_mergekit_candidate",
    }
    for name in ratios:
        assert set(found[name]) == {"median", "min", "max", "repeats"}
        assert found[name]["min"] <= found[name]["median"] <= found[name]["max"]
    assert found["versus_mergekit_ready"]["median"] > 1
    assert found["precision"]["mixtures"] == 50
    people = mixscout(*command).out
    assert "mergekit over ours" in people
