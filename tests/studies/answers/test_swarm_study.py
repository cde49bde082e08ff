"""A study on a table of models already trained, by the commands a user types."""

import csv
import json
import random
from io import StringIO
from pathlib import Path

import numpy as np
import optuna
import pytest
from rich.console import Console
from small_table import BEST_FOR_TALES, small_table, write_small_study
from tiny import edit

from objectives.stand_ins.swarm_table import read_swarm
from studies.answers.goal_predictor import GoalPredictor
from studies.answers.swarm_best import find_swarm_best, show_swarm_best
from studies.opened.on_table import swarm_bench
from studies.running.run import run_search
from studies.study_file.study_file import read_study_file

REGMIX = Path(__file__).parents[2] / "support" / "swarm" / "regmix"
PILE_CC = "the_pile_pile_cc"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_small_study(tmp_path)


@pytest.fixture(scope="module")
def regmix_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("regmix")
    text = f'name = "regmix"\ntable = "{REGMIX}"\n[target]\n{PILE_CC} = 1.0\n[search]\nstrategy = "auto"\n'
    (folder / "study.toml").write_text(f"{text}merges = 20\n[gate]\nenabled = false\n")
    return folder / "study.toml"


def _answer(mixscout, *command: object) -> dict:
    answer = mixscout(*command, "--json")
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


def _trials(study: Path) -> list[tuple[dict, float]]:
    loaded = optuna.load_study(storage=f"sqlite:///{study.parent / 'mixscout.db'}", study_name="small")
    return [(trial.params, trial.value) for trial in loaded.get_trials()]


def test_a_search_on_regmix_s_table_is_answered_beside_its_best_run(regmix_study: Path, mixscout) -> None:
    counts = _answer(mixscout, "search", regmix_study)["counts"]
    assert (counts["merges"], counts["tokens_read"], counts["failed"]) == (20, 0, 0)
    found = _answer(mixscout, "best", regmix_study)
    table = read_swarm(REGMIX)
    assert set(found["mixture"]) == set(table.names) and sum(found["mixture"].values()) == pytest.approx(1)
    for standing in (found["best"], *found["baselines"].values()):
        for forecast in (standing, standing["metrics"][PILE_CC]):
            assert forecast["predicted"]["low"] < forecast["predicted"]["value"] < forecast["predicted"]["high"]
    with (REGMIX / "train_pile_loss_1m.csv").open() as stream:
        losses = {row["index"]: float(row[f"metric/{PILE_CC}_val_loss"]) for row in csv.DictReader(stream)}
    run = found["baselines"]["best_run"]
    assert found["best_run"] == min(losses, key=losses.__getitem__)
    assert run["measured"] == run["metrics"][PILE_CC]["measured"] == min(losses.values())
    assert abs(run["predicted"]["value"] - run["measured"]) < 0.1
    assert found["best"]["measured"] is None
    values = {name: standing["predicted"]["value"] for name, standing in found["baselines"].items()}
    assert found["best"]["predicted"]["value"] < min(values.values())
    assert found["unseen"]["runs"] == 32 and found["unseen"]["spearman"] > 0.95
    assert found["out_of_fold"]["inside"] >= 0.9
    assert [path.name for path in sorted(regmix_study.parent.iterdir()) if path.suffix != ".lock"] == [
        "mixscout.db",
        "study.toml",
    ]


def test_the_answer_for_people_says_what_was_measured_and_what_was_not(regmix_study: Path, mixscout) -> None:
    assert mixscout("search", regmix_study).code == 0
    shown = mixscout("best", regmix_study).out
    assert "as predicted: no model was trained on it" in shown
    assert "The best mixture is predicted 0.0" in shown and "measured" in shown
    assert "Predicted without having seen them: 32 runs with Spearman 0.9" in shown


def test_a_known_optimum_is_found_from_sixteen_runs(study: Path, mixscout) -> None:
    _answer(mixscout, "search", study, "--merges", 14)
    found = _answer(mixscout, "best", study)
    assert np.abs(np.array(list(found["mixture"].values())) - BEST_FOR_TALES).max() < 0.05
    assert found["best"]["predicted"]["value"] == pytest.approx(3, abs=0.02)
    assert found["unseen"] is None and found["front"] == []


def test_a_search_in_two_goes_is_the_same_as_at_once(tmp_path: Path, mixscout) -> None:
    trials = []
    for name, totals in {"at-once": [10], "in-two": [5, 10]}.items():
        (tmp_path / name).mkdir()
        study = write_small_study(tmp_path / name)
        done = [_answer(mixscout, "search", study, "--merges", total)["counts"]["merges"] for total in totals]
        assert done == totals
        trials.append(_trials(study))
    assert trials[0] == trials[1] and len(trials[0]) == 10


def test_space_prior_start_gate_and_stop_rules_work_as_on_a_pool(study: Path, mixscout) -> None:
    edit(study, "[gate]\nenabled = false", "[gate]\nmin_evidence = 6\nthreshold = 0.5")
    options = 'start = ["vertices", "prior"]\nkl = 0.05\nprior = {code = 0.25, docs = 0.25, prose = 0.5}'
    edit(study, "merges = 12", f"merges = 40\n{options}\n[search.stop]\npatience = 8")
    edit(study, "[search]", "[space]\ncaps = {prose = 0.6}\nfloors = {docs = 0.1}\nmax_members = 2\n[search]")
    edit(study, '"auto"', '"random"')
    searched = mixscout("search", study, "--json")
    counts = json.loads(searched.out)["counts"]
    assert 8 <= counts["merges"] < 40 and counts["pruned"] > 0
    assert "by patience: 8 merges" in searched.err
    trials = optuna.load_study(storage=f"sqlite:///{study.parent / 'mixscout.db'}", study_name="small").get_trials()
    starts = [trial.user_attrs.get("mixscout:start") for trial in trials[:4]]
    assert starts == ["vertex:code", "vertex:docs", "vertex:prose", "prior"]
    found = _answer(mixscout, "best", study)
    mixture = found["mixture"]
    assert mixture["prose"] <= 0.6 + 1e-9 and mixture["docs"] >= 0.1 and sum(one > 0 for one in mixture.values()) <= 2
    assert not found["baselines"]["uniform"]["feasible"]


def test_several_targets_have_a_front_of_predictions(study: Path, mixscout) -> None:
    edit(study, "[target]\ntales = 1.0", "[targets.fiction]\ntales = 1.0\n[targets.reference]\nmanuals = 1.0")
    edit(study, '"auto"', '"random"')
    edit(study, "[search]", "[space]\nmax_members = 2\n[search]")
    with swarm_bench(read_study_file(study)) as bench:
        run_search(bench, 10)
        best = find_swarm_best(bench, bench.known_study())
    front = [tuple(point.by_objective.values()) for point in best.front]
    assert len(front) >= 2 and front == sorted(front)
    assert [reference for _, reference in front] == sorted((one for _, one in front), reverse=True)
    assert set(best.best.metrics) == {"tales", "manuals"}
    console = Console(record=True, width=200, file=StringIO())
    show_swarm_best(console, best)
    shown = console.export_text()
    assert "Pareto front: no evaluated mixture is predicted better in every objective" in shown
    assert "uniform *" in shown and "* outside the study's space." in shown


def test_another_target_is_predicted_by_the_fits_there_are(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Intervals of an aggregate are calibrated anew, on its own out-of-fold errors, without a fit."""
    edit(study, "tales = 1.0", "tales = 0.5\nmanuals = 0.5")
    with swarm_bench(read_study_file(study)) as bench:
        uniform = np.full((1, 3), 1 / 3)
        both = GoalPredictor(bench.swarm, bench.target, coverage=0.9)
        both.predict(uniform)
        fits = capsys.readouterr().err
        singles = [GoalPredictor.of_metric(bench.swarm, name, coverage=0.9) for name in ("tales", "manuals")]
        values = [one.predict(uniform)[0].value for one in singles]
        assert both.predict(uniform)[0].value == pytest.approx(sum(values) / 2)
        assert fits.count("fitting") == 2 and "fitting" not in capsys.readouterr().err
        assert both.accuracy().inside >= 0.9
        table = small_table()
        assert np.allclose(both.measured(table), (table.metrics["tales"] + table.metrics["manuals"]) / 2)


def test_names_need_not_be_file_names(tmp_path: Path, mixscout) -> None:
    study = write_small_study(tmp_path)
    for path, old, new in (
        (tmp_path / "swarm" / "ratios.csv", "train_code", "train_dclm:adult content"),
        (tmp_path / "swarm" / "metrics.csv", "metric/tales_val_loss", "metric/eval/c4 (en)_val_loss"),
        (study, "tales = 1.0", '"eval/c4 (en)" = 1.0'),
        (study, "[search]", '[space]\ncaps = {"dclm:adult content" = 0.1}\n[search]'),
    ):
        edit(path, old, new)
    assert _answer(mixscout, "search", study, "--merges", 2)["counts"]["merges"] == 2
    assert set(_trials(study)[0][0]) == {"dclm:adult content", "docs", "prose"}


OBJECTIVE = "[target]\ntales = 1.0"
MISTAKES = {
    "a pool as well": (
        'table = "swarm"',
        'table = "swarm"\npool = "pool.toml"',
        "by one of pool = FILE and table =",
    ),
    "neither": ('table = "swarm"\n', "", "say what the study stands on by one of pool = FILE and table = FOLDER"),
    "no such folder": ('"swarm"', '"gone"', "gone: no such folder; give one with ratios.csv and metrics.csv"),
    "an unknown metric": ("tales", "poems", "[target] 'poems' is no metric of the table; it has tales, manuals"),
    "an unknown metric of several": (
        OBJECTIVE,
        '[objective]\ndomains = ["tales", "poems"]',
        "[objective] 'poems' is no metric of the table",
    ),
    "an unknown partition": (
        "[search]",
        "[space]\ncaps = {wiki = 0.5}\n[search]",
        "[space.caps] 'wiki' is no partition of the table; it has code, docs, prose",
    ),
    "epochs": ("[search]", "[space]\nmax_epochs = 2\n[search]", "[space] max_epochs needs token counts, which a table"),
    "token-proportional": ("[gate]", 'start = ["proportional"]\n[gate]', "start 'proportional' needs token counts"),
    "UniMax": ("[gate]", 'start = ["uniform", "unimax"]\n[gate]', "[search] start 'unimax' needs token counts, which"),
    "text": ("[gate]", 'start = ["bigrams"]\n[gate]', "[search] start 'bigrams' needs text, which a table has not"),
    "a penalty without a prior": (
        "[gate]",
        "kl = 0.1\n[gate]",
        "[search] kl needs [search.prior]: proportional to",
    ),
    "tokens to stop at": ("[gate]", "[search.stop]\ntokens = 9\n[gate]", "[search.stop] tokens does nothing"),
    "gradients": ('"auto"', '"gradient"', "strategy 'gradient' needs gradients, which predictions have not: use auto"),
    "downstream tasks": ("[search]", '[downstream]\ntasks = ["x"]\n[search]', "[downstream] needs models to score"),
    "constraints": ("[search]", "[constraints]\nmanuals = 0.1\n[search]", "[constraints] are relative to the seed"),
    "token-weighted": (
        OBJECTIVE,
        '[objective]\naggregate = "micro"\ndomains = ["tales"]',
        "[objective] aggregate 'micro' needs token counts",
    ),
    "relative to the seed": (
        OBJECTIVE,
        '[objective]\naggregate = "worst-excess"\ndomains = ["tales"]',
        "[objective] aggregate 'worst-excess' is relative to the seed",
    ),
    "a merge rule": ("[search]", '[objective]\nrule = "power"\n[search]', "[objective] rule does nothing"),
    "a measure": ("[search]", '[objective]\nmeasure = "bits-per-byte"\n[search]', "metrics keep their own unit"),
    "early stopping": ("[search]", "[early_stopping]\nenabled = true\n[search]", "[early_stopping] does nothing"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_a_table_cannot_serve_is_refused_by_name(mistake: str, study: Path, mixscout) -> None:
    old, new, message = MISTAKES[mistake]
    edit(study, old, new)
    _refused(mixscout, message, "search", study)
    assert not (study.parent / "mixscout.db").exists()


def _refused(mixscout, message: str, *command: object) -> None:
    answer = mixscout(*command)
    assert answer.code == 1 and len(answer.err.splitlines()) == 1 and answer.err.startswith("mixscout: "), answer.err
    assert message in answer.err


def test_too_few_runs_are_refused(tmp_path: Path, mixscout) -> None:
    study = write_small_study(tmp_path, runs=7)
    _refused(mixscout, "7 runs are too few to predict from; give 8", "search", study)
    (tmp_path / "more").mkdir()
    assert mixscout("search", write_small_study(tmp_path / "more", runs=8), "--merges", 3).code == 0


def test_a_table_saved_by_a_spreadsheet_is_the_same_study(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with swarm_bench(read_study_file(study)) as bench:
        identity = bench.identity
    for path in (study.parent / "swarm").iterdir():
        text = path.read_text().replace(",", ";").replace(".", ",").replace("run;", "Run;", 1)
        path.write_bytes(("sep=;\r\n" + text.replace("\n", "\r\n")).encode("utf-16"))
    with swarm_bench(read_study_file(study)) as bench:
        assert bench.identity == identity
    said = capsys.readouterr().err
    assert "ratios.csv: read as UTF-16; fields are separated by semicolons; decimal commas\n" in said


def test_a_run_that_lacks_a_metric_matters_only_to_targets_with_that_metric(study: Path, mixscout) -> None:
    path = study.parent / "swarm" / "metrics.csv"
    *lines, last = path.read_text().splitlines()
    path.write_text("\n".join([*lines, f"{last.rpartition(',')[0]},nan"]))
    searched = mixscout("search", study, "--merges", 1)
    assert searched.code == 0 and "metrics.csv: metric 'metric/manuals_val_loss' lacks a" in searched.err
    edit(study, "tales = 1.0", "tales = 0.5\nmanuals = 0.5")
    message = "metrics.csv: line 17, run 'r15', column 'metric/manuals_val_loss': expected a finite number, got 'nan'"
    _refused(mixscout, message, "search", study)


def test_damaged_tables_are_refused_in_one_line(study: Path, mixscout) -> None:
    rng = random.Random(0)
    for at in range(12):
        path = study.parent / "swarm" / ("ratios.csv" if at % 2 else "metrics.csv")
        whole = path.read_bytes()
        noise = bytes(rng.randrange(256) for _ in range(40))
        path.write_bytes(noise if at < 4 else whole[:200] + noise + whole[240:])
        _refused(mixscout, path.name, "search", study)
        path.write_bytes(whole)


NEED_A_POOL = (
    ["confirm"],
    ["robustness"],
    ["export", "out"],
    ["table", "out"],
    ["best", "--diversity"],
    ["bench", "landscape"],
    ["bench", "objective"],
    ["bench", "memory"],
    ["bench", "stopping"],
)


@pytest.mark.parametrize("verb", NEED_A_POOL, ids=" ".join)
def test_verbs_that_need_a_pool_say_so(verb: list[str], study: Path, mixscout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study.parent)
    at = 2 if verb[0] == "bench" else 1
    _refused(mixscout, "study 'small' is on a table of models already trained", *verb[:at], "study.toml", *verb[at:])
    assert not Path("out").exists() and not Path("mixscout.db").exists()


def test_a_table_that_has_changed_is_another_study(study: Path, mixscout) -> None:
    _refused(mixscout, f"run `mixscout search {study}` first", "best", study)
    _answer(mixscout, "search", study, "--merges", 4)
    edit(study.parent / "swarm" / "metrics.csv", "r0,4", "r0,5")
    _refused(mixscout, "study 'small' was started with another table (table: ", "best", study)
    _refused(mixscout, "or give the study another name", "search", study, "--merges", 5)
