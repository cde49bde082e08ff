"""The report: what is on the page, that nothing is computed for it, and that a real browser shows all of it."""

import csv
import json
import re
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import optuna
import pytest
from browser import Browser
from small_table import write_small_study
from tiny import edit, snapshot

from objectives.stand_ins.problems import problem
from pool.errors import NotRememberedError
from pool.mixture import Mixture
from search.gate import without_trees
from search.surrogates.surrogate import ConformalSurrogate, Observations
from studies.answers.best import find_best
from studies.answers.confirm import trained_loss
from studies.opened.on_pool import workbench
from studies.opened.opening import open_to_read
from studies.outcome.report.facts.facts import Facts
from studies.outcome.report.facts.surface import Surface
from studies.outcome.report.report import DIAGNOSTICS, SECTIONS, run_report
from studies.outcome.report.sections.members import contributions_section, transfer_section
from studies.outcome.report.sections.mixtures import mixtures_section
from studies.outcome.report.sections.reproduction import masked
from studies.outcome.report.sections.trade_off import Plane, _draw, trade_off_section
from studies.outcome.report.sections.verdict import best_section
from studies.running.run import run_search
from studies.study_file.study_file import read_study_file
from studies.terminal import json_text

TARGET = "[target]\nlicences = 0.6\nprose = 0.4\n"
TARGETS = "[targets.law]\nlicences = 1.0\n[targets.tales]\nprose = 1.0\n"
NAMES = ("code", "docs", "prose")


@pytest.fixture(scope="module")
def searched(built_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a finished study whose pairs of partitions were merged as well. Shared: only reports are written."""
    folder = tmp_path_factory.mktemp("reported") / "root"
    shutil.copytree(built_root, folder)
    with workbench(read_study_file(folder / "study.toml")) as bench:
        run_search(bench, 12)
        for left_out in NAMES:
            bench.losses["search"](Mixture.proportional({name: float(name != left_out) for name in NAMES}))
        find_best(bench, bench.known_study())
    return folder


@pytest.fixture(scope="module")
def report(searched: Path) -> dict:
    """What `report --json` says of it."""
    written = run_report(read_study_file(searched / "study.toml"), searched / "study.toml")
    return json.loads(json_text(written.as_json()))


@pytest.fixture(scope="module")
def page(report: dict) -> Path:
    return Path(report["page"])


def _report(mixscout, study: Path, *told: str) -> dict:
    answer = mixscout("report", study, *told, "--json")
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


def _evaluations(database: Path) -> list[tuple]:
    with sqlite3.connect(database) as opened:
        return opened.execute("select id, objective_digest, mixture_digest, value from evaluations").fetchall()


def _trials(database: Path, study: str) -> list:
    loaded = optuna.load_study(storage=f"sqlite:///{database}", study_name=study)
    return [(one.number, one.params, one.values, one.user_attrs, one.system_attrs) for one in loaded.get_trials()]


def test_a_second_report_is_the_same_and_neither_merges_nor_trains_nor_changes_the_study(
    searched: Path, page: Path, report: dict, mixscout
) -> None:
    def state() -> tuple:
        database = searched / "mixscout.db"
        return _evaluations(database), _trials(database, "tiny"), snapshot(searched / "pools"), page.read_bytes()

    before = state()
    (page.parent / "stale.png").write_bytes(b"")
    assert _report(mixscout, searched / "study.toml") == report
    assert state() == before
    assert not (page.parent / "stale.png").exists(), "a report replaces the one before"


def test_what_only_recalls_refuses_to_merge_and_to_train(searched: Path) -> None:
    other = Mixture.of({"code": 0.123, "docs": 0.456, "prose": 0.421})
    with workbench(read_study_file(searched / "study.toml"), must_exist=True, only_recalls=True) as bench:
        best = bench.losses["search"](Mixture.uniform(NAMES))
        assert best.cached
        for objective in (bench.losses["search"], bench.losses["test"], trained_loss(bench)):
            with pytest.raises(NotRememberedError, match="was not evaluated before"):
                objective(other)
        with pytest.raises(NotRememberedError, match="only what is remembered may be read"):
            bench.proxy.make_resident(other)


def test_every_section_is_there_or_says_which_command_makes_it(report: dict) -> None:
    sections = report["sections"]
    assert len(sections) == len(SECTIONS) + len(DIAGNOSTICS) + 1
    missing = {key: section["missing"] for key, section in sections.items() if section["missing"]}
    assert set(missing) == {"fidelity", "samples"}
    assert missing["fidelity"].endswith("Run: mixscout fidelity study.toml")
    assert missing["samples"].endswith("Run: mixscout samples study.toml")
    (unknown,) = [note for note in sections["elsewhere"]["notes"] if "outside the goal" in note]
    assert unknown.endswith("Run: mixscout robustness study.toml")


def test_figures_tables_and_data_are_files_that_agree(searched: Path, report: dict) -> None:
    folder = Path(report["page"]).parent
    assert folder == searched / "reports" / "tiny"
    assert json.loads((folder / "report.json").read_text())["sections"] == report["sections"]
    tables = {name: rows for part in report["sections"].values() for name, rows in part["tables"].items()}
    assert {"best-mixture", "standings", "slices", "ternary", "mixtures", "calibration", "transfer"} <= set(tables)
    for name, rows in tables.items():
        with (folder / f"{name}.csv").open(newline="") as stream:
            assert len(list(csv.DictReader(stream))) == len(rows) > 0
    for picture in folder.glob("*.png"):
        assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 5_000, picture
    assert {path.stem for path in folder.glob("*.png")} >= {
        "leads",
        "weights",
        "progress",
        "predicted-measured",
        "gate-course",
    }


def test_standings_are_those_of_best(searched: Path, report: dict, mixscout) -> None:
    best = json.loads(mixscout("best", searched / "study.toml", "--json").out)
    rows = report["sections"]["best"]["tables"]["standings"]
    unit = "held-out loss (nats per token)"
    found = {(row["mixture"], row["measured on"]): row for row in rows}
    for split in ("search", "test"):
        mine = found["best mixture", f"{split} split, merged"]
        assert mine[unit] == best[split]["value"]
        assert mine["high"] - mine["low"] == pytest.approx(2 * 1.96 * best[split]["standard_error"])
        behind = found["uniform", f"{split} split, merged"]["behind the best mixture"]
        difference = best["baselines"]["uniform"]["behind"][split]["difference"]
        assert behind.startswith(f"{difference:+.4f}")


def test_shapley_values_come_from_coalitions_that_were_merged_anyway(searched: Path, report: dict, mixscout) -> None:
    rows = report["sections"]["contributions"]["tables"]["contributions-uniform-search"]
    best = json.loads(mixscout("best", searched / "study.toml", "--json").out)
    gain = best["baselines"]["seed"]["search"]["value"] - best["baselines"]["uniform"]["search"]["value"]
    assert sum(row["goal"] for row in rows) == pytest.approx(gain), "they sum to what all gain on the seed"


def test_what_ablate_wrote_is_shown(searched: Path, report: dict, mixscout) -> None:
    study = searched / "study.toml"
    ablation = json.loads(mixscout("ablate", study, "--game", "best", "--goal-only", "--json").out)
    with open_to_read(read_study_file(study)) as bench:
        section = contributions_section(Facts.of(bench, study))
    (table,) = [table for table in section.all_tables if table.name == "contributions-best-search"]
    expected = ablation["contributions"]["shapley"]["values"]
    assert {row[0]: row[1] for row in table.rows} == {name: one["goal"] for name, one in expected.items()}
    assert "written by ablate on" in section.charts[0].caption
    for path in (searched / "reports").glob("tiny-ablation*"):
        path.unlink()


def test_the_page_needs_nothing_beside_it(page: Path) -> None:
    text = page.read_text()
    assert "<script" not in text and "@import" not in text
    sources = re.findall(r'src="([^"]*)"', text)
    assert len(sources) > 8 and all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    links = [link for link in re.findall(r'href="([^"]*)"', text) if not link.startswith(("#", "data:"))]
    assert links and all((page.parent / link).is_file() for link in links)


@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_draws_every_figure_within_the_page(page: Path, browser: Browser, width: int) -> None:
    browser.open(page.as_uri(), width=width)
    assert browser.complaints() == []
    assert browser.ask("document.documentElement.scrollWidth <= window.innerWidth")
    browser.ask("document.querySelectorAll('details.fold').forEach(one => one.open = true)")
    boxes = browser.ask(
        "[...document.images].map(one => [one.complete, one.naturalWidth, one.getBoundingClientRect().width, one.alt])"
    )
    assert len(boxes) > 8
    for complete, natural, drawn, alt in boxes:
        assert complete and natural > 0 and drawn > 250 and len(alt) > 10
    smallest = browser.ask(
        "Math.min(...[...document.images].map(one => one.getBoundingClientRect().width / one.naturalWidth))"
    )
    assert smallest > 0.79, "letters of 9.5 points, 12.7 pixels, are drawn with ten pixels at least"
    browser.ask("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert browser.ask("document.documentElement.scrollWidth <= window.innerWidth"), "with all tables unfolded"


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_the_first_screen_names_mixture_lead_interval_and_whether_it_was_trained(
    page: Path, report: dict, browser: Browser, width: int, height: int
) -> None:
    browser.open(page.as_uri(), width=width)
    said = browser.ask("document.querySelector('.verdict').innerText").replace("\n", " ")
    assert said == report["verdict"]["headline"]
    assert "% " in said.replace("\N{NO-BREAK SPACE}", " ") and "±" in said and "merged only: not trained yet" in said
    assert browser.ask(f"document.querySelector('.verdict').getBoundingClientRect().bottom < {height}")
    assert browser.ask("document.getElementById('diagnostics').getBoundingClientRect().top < 5 * 900") or width < 500
    folded = browser.ask("[...document.querySelectorAll('details.fold')].map(one => one.open)")
    assert len(folded) == len(DIAGNOSTICS) and not any(folded)


def test_a_dark_page_has_dark_figures_and_paper_has_neither(page: Path, browser: Browser) -> None:
    def look() -> tuple[object, object, object]:
        paper = "getComputedStyle(document.body).backgroundColor"
        filtered = "getComputedStyle(document.images[0]).filter"
        links = "getComputedStyle(document.querySelector('nav')).display"
        return browser.ask(paper), browser.ask(filtered), browser.ask(links)

    browser.open(page.as_uri())
    try:
        browser.prefer("light")
        assert look() == ("rgb(255, 255, 255)", "none", "block")
        browser.prefer("dark")
        assert look() == ("rgb(20, 20, 20)", "invert(1) hue-rotate(180deg)", "block")
        browser.prefer("dark", media="print")
        assert look() == ("rgb(255, 255, 255)", "none", "none")
    finally:
        browser.prefer("light")


def test_a_phone_sees_the_decisive_column_beside_the_first(page: Path, browser: Browser) -> None:
    browser.open(page.as_uri(), width=390)
    browser.ask("document.querySelectorAll('details').forEach(one => one.open = true)")
    decisive = {"leads": "better by", "standings": "behind the best mixture", "elsewhere": "better by"}
    for name, column in decisive.items():
        heads = (
            f"[...document.querySelector('a[href=\"{name}.csv\"]').closest('figure, section').querySelectorAll('th')]"
        )
        edge = browser.ask(f"{heads}.find(one => one.innerText === '{column}').getBoundingClientRect().right")
        assert edge <= 390, name


def test_the_keyboard_reaches_everything(page: Path, browser: Browser) -> None:
    browser.open(page.as_uri())
    browser.ask("document.querySelectorAll('details.fold').forEach(one => one.open = true)")
    wanted = browser.ask("document.querySelectorAll('a[href], summary').length")
    browser.ask("window.reached = new Set()")
    for _ in range(400):
        browser.tab()
        name = browser.ask("(window.reached.add(document.activeElement), document.activeElement.tagName)")
        if name == "BODY":
            break
    reached = browser.ask("[...window.reached].filter(one => one.matches('a[href], summary')).length")
    assert reached == wanted > 30


def test_the_skip_link_shows_when_it_is_reached(page: Path, browser: Browser) -> None:
    browser.open(page.as_uri())
    browser.tab()
    assert browser.ask("document.activeElement.className") == "skip"
    assert browser.ask("document.activeElement.getBoundingClientRect().left >= 0")
    assert browser.ask("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_a_study_of_several_targets_has_its_front(searched: Path, mixscout) -> None:
    study = searched / "several.toml"
    shutil.copy(searched / "study.toml", study)
    edit(study, 'name = "tiny"', 'name = "several"')
    edit(study, TARGET, TARGETS)
    edit(study, '"gradient"', '"nsga2"')
    assert mixscout("search", study, "--merges", 9).code == 0
    report = _report(mixscout, study)
    rows = report["sections"]["trade-off"]["tables"]["trade-off"]
    loaded = optuna.load_study(storage=f"sqlite:///{searched / 'mixscout.db'}", study_name="several")
    front = {f"trial {trial.number}" for trial in loaded.best_trials}
    values = {f"trial {trial.number}": trial.values for trial in loaded.trials}
    on_front = {row["mixture"] for row in rows if row["on the front"]}
    assert report["sections"]["trade-off"]["title"] == "Pareto front"
    assert {tuple(values[name]) for name in on_front} == {tuple(values[name]) for name in front}


@pytest.mark.parametrize(
    "goal",
    [
        TARGET + "[constraints]\nprose = -0.02\n",
        '[objective]\naggregate = "worst-excess"\nmeasure = "bits-per-byte"\ndomains = ["licences", "prose"]\n',
    ],
)
def test_a_goal_relative_to_the_seed_is_read_as_it_was_searched(root: Path, goal: str) -> None:
    study = root / "study.toml"
    edit(study, TARGET, goal)
    config = read_study_file(study)
    with workbench(config) as bench:
        run_search(bench, 5)
        expected = find_best(bench, bench.known_study()).best.scores["search"].value
    with open_to_read(config) as bench:
        (table, *_) = best_section(Facts.of(bench, study)).tables
    row = next(row for row in table.rows if row[0] == "best mixture")
    assert row[2] == pytest.approx(expected, abs=1e-12)


def test_a_study_without_any_evaluation_has_a_report(searched: Path, mixscout) -> None:
    study = searched / "empty.toml"
    shutil.copy(searched / "study.toml", study)
    edit(study, 'name = "tiny"', 'name = "empty"')
    with workbench(read_study_file(study)) as bench:
        bench.new_or_known_study()
    shutil.copy(searched / "study.toml", study)
    report = _report(mixscout, study, "--set", "name=empty")
    assert report["summary"] == "0 of 12 evaluations are spent; there is no best mixture yet."
    missing = [section["missing"] for section in report["sections"].values() if section["missing"]]
    assert sum("Run: mixscout search empty.toml --set name=empty" in line for line in missing) >= 5
    passages = report["sections"]["reproduction"]["passages"]
    assert passages["Study file empty.toml"] == study.read_text() + "\n# --set name=empty"
    assert "\nmixscout best empty.toml --set name=empty\n" in passages["Commands"]


def test_a_study_on_a_table_has_a_report(tmp_path: Path, mixscout) -> None:
    study = write_small_study(tmp_path)
    assert mixscout("search", study).code == 0
    report = _report(mixscout, study)
    best = json.loads(mixscout("best", study, "--json").out)
    rows = report["sections"]["best"]["tables"]["standings"]
    assert rows[0]["predicted value"] == best["best"]["predicted"]["value"]
    assert (rows[0]["low"], rows[0]["high"]) == (best["best"]["predicted"]["low"], best["best"]["predicted"]["high"])
    (accuracy,) = report["sections"]["surrogate"]["tables"]["surrogate"]
    assert accuracy["RMSE"] == best["out_of_fold"]["rmse"] and accuracy["mixtures"] == 16
    assert len(report["sections"]["trade-off"]["tables"]["trade-off"]) == 16
    assert "table" in report["sections"]["transfer"]["missing"]
    assert report["verdict"]["headline"].endswith(", predicted only: no model was trained on it.")
    lead = next(one for one in report["verdict"]["leads"] if one["baseline"].startswith("best run"))
    predicted = best["best"]["predicted"]
    assert lead["better"] == pytest.approx(best["baselines"]["best_run"]["measured"] - predicted["value"])
    assert lead["high"] - lead["low"] == pytest.approx(predicted["high"] - predicted["low"]), (
        "what is measured has none"
    )
    assert report["sections"]["samples"]["missing"].startswith("A table has no models to write")
    rows = report["sections"]["elsewhere"]["tables"]["elsewhere"]
    assert [row["baseline"] for row in rows] == ["uniform"] * len(best["best"]["metrics"])


def test_everything_needed_to_reproduce_is_there(searched: Path, report: dict) -> None:
    part = report["sections"]["reproduction"]
    assert part["passages"]["Study file study.toml"] == (searched / "study.toml").read_text()
    assert part["passages"]["Pool file pool.toml"] == (searched / "pool.toml").read_text()
    assert "mixscout search study.toml --merges 12" in part["passages"]["Commands"]
    of = {row["of"] for row in part["tables"]["digests"]}
    assert {"objective", "best mixture", "pool", "seed", "tokenizer", "member code", "held-out prose, test"} <= of
    assert all(row["when started"] == row["now"] for row in part["tables"]["versions"])


def test_slices_start_at_what_was_merged(report: dict) -> None:
    rows = report["sections"]["slices"]["tables"]["slices"]
    values = [row["held-out loss (nats per token)"] for row in report["sections"]["mixtures"]["tables"]["mixtures"]]
    starts = {row["partition"]: row for row in reversed(rows)}
    for start in starts.values():
        assert start["low"] <= min(values) <= start["high"], "each line starts at the best mixture"
    assert all(row["low"] < row["mean"] < row["high"] for row in rows)
    assert np.isclose(max(row["weight"] for row in rows), 1)


def test_a_folder_that_holds_something_else_is_left_alone(searched: Path, mixscout) -> None:
    study = searched / "other.toml"
    shutil.copy(searched / "study.toml", study)
    edit(study, 'name = "tiny"', 'name = "other"')
    with workbench(read_study_file(study)) as bench:
        bench.new_or_known_study()
    (searched / "reports" / "other").mkdir(parents=True)
    (searched / "reports" / "other" / "mine.txt").write_text("keep me")
    answer = mixscout("report", study)
    assert answer.code == 1 and "holds no report of before; move it away" in answer.err
    assert (searched / "reports" / "other" / "mine.txt").read_text() == "keep me"


def test_a_study_that_was_not_started_has_no_report(searched: Path, mixscout) -> None:
    study = searched / "unknown.toml"
    shutil.copy(searched / "study.toml", study)
    edit(study, 'name = "tiny"', 'name = "unknown"')
    answer = mixscout("report", study)
    assert answer.code == 1 and answer.err.count("\n") == 1
    assert "no study 'unknown'" in answer.err and "run `mixscout search " in answer.err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('database = "postgresql://me:hunter2@host/db"', 'database = "postgresql://me:***@host/db"'),
        (
            'database = "postgresql://host/db?user=me&password=hunter2"',
            'database = "postgresql://host/db?user=me&password=***"',
        ),
        ("api_key = 'hunter2'", "api_key = '***'"),
        ('hub_token = "hunter2"  # mine', 'hub_token = "***"  # mine'),
        ('{"password": "hunter2"}', '{"password": "***"}'),
        ("tokens = 1_200_000\n", "tokens = 1_200_000\n"),
        ('url = "https://example.org/a:b@c"', 'url = "https://example.org/a:b@c"'),
    ],
)
def test_secrets_are_masked_and_nothing_else(text: str, expected: str) -> None:
    assert masked(text) == expected


@pytest.mark.parametrize("place", ["inside", "face"])
@pytest.mark.parametrize("seed", [0, 1])
def test_intervals_hold_more_between_a_search_s_cluster_and_the_vertices_than_the_predictor_s_own(
    place: str, seed: int
) -> None:
    law, rng = problem("exponential", place, 6, seed=seed), np.random.default_rng(seed)

    def loss(weights: np.ndarray) -> np.ndarray:
        return np.array([law(Mixture(law.partitions, tuple(row / row.sum()))).value for row in weights])

    near = np.abs(law.optimum.array + rng.normal(0, 0.03, size=(30, 6)))
    weights = np.vstack([np.eye(6), np.full((1, 6), 1 / 6), near / near.sum(axis=1, keepdims=True)])
    surrogate = ConformalSurrogate(without_trees())
    surrogate.fit(Observations.of_values(weights, loss(weights)))
    surface = Surface(weights, loss(weights), surrogate.out_of_fold(), surrogate.predict, "merges")
    steps = np.linspace(0.1, 0.9, 9)[:, None]
    lines = np.vstack([(1 - steps) * law.optimum.array + steps * vertex for vertex in np.eye(6)])
    errors = np.abs(loss(lines) - surrogate.predict(lines).mean)
    own = surface.reach * surrogate.predict(lines).deviation
    assert np.mean(errors <= own) < 0.5
    assert np.mean(errors <= surface.half_widths(lines)) > 2 * np.mean(errors <= own)
    at_measured = surface.half_widths(weights)
    assert at_measured == pytest.approx(surface.reach * surrogate.predict(weights).deviation), "nothing is added there"


def test_no_line_joins_what_nothing_is_between_and_each_domain_is_traded_off(searched: Path) -> None:
    with open_to_read(read_study_file(searched / "study.toml")) as bench:
        facts = Facts.of(bench, searched / "study.toml")
        charts = [*trade_off_section(facts).charts, *mixtures_section(facts).charts[1:]]
    traded, weights = charts
    assert traded.table.columns == ("mixture", "on the front", "licences", "prose")
    assert weights.name == "weights"
    for chart in charts:
        lines = [line for axes in chart.draw().axes for line in axes.lines]
        assert lines and {line.get_linestyle() for line in lines} == {"None"}, chart.name


def test_the_front_of_more_domains_has_a_panel_for_each_pair_with_the_first() -> None:
    plane = Plane(["one", "two", "three"], list("abcd"), np.array([[1.0, 4, 1, 1], [2, 3, 1, 1], [2, 4, 1, 2]]))
    assert plane.front.tolist() == [True, True, False], "the third is no better anywhere, and worse somewhere"
    figure = _draw(plane, plane.names[1:])
    assert [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()] == ["b", "c", "d"]


def test_differences_are_called_minus(report: dict, searched: Path) -> None:
    with open_to_read(read_study_file(searched / "study.toml")) as bench:
        (chart,) = transfer_section(Facts.of(bench, searched / "study.toml")).charts
    assert chart.draw().axes[-1].get_ylabel() == "minus the members' mean"


def test_what_was_found_elsewhere_is_shown_with_its_command(searched: Path, mixscout) -> None:
    shutil.copytree(searched, root := searched.parent / "elsewhere")
    told = json.loads(mixscout("robustness", root / "study.toml", "--json").out)
    report = _report(mixscout, root / "study.toml")
    part = report["sections"]["elsewhere"]
    rows = {(row["domain"], row["baseline"]): row for row in part["tables"]["elsewhere"]}
    others = told["out_of_domain"]["contenders"]["best"]["domains"]
    assert {domain for domain, _ in rows} == {"licences", "prose", *others} and len(others) == 2
    assert {row["in the goal"] for (domain, _), row in rows.items() if domain in others} == {False}
    for domain in others:
        nats = [
            told["out_of_domain"]["contenders"][name]["domains"][domain]["loss_nats"] for name in ("uniform", "best")
        ]
        row = rows[domain, "uniform"]
        assert row["better by"] == pytest.approx(nats[0] - nats[1])
        side = "better" if row["low"] > 0 else "worse" if row["high"] < 0 else "unclear"
        assert row["verdict"] == side
    worst = min((row["better by"], domain) for (domain, name), row in rows.items() if name == "uniform")
    assert f"Its worst domain is {worst[1]}" in part["notes"][0]
    noisy = {(row["text"], row["baseline"]): row["better by"] for row in part["tables"]["robustness"]}
    behind = told["conditions"]["upper-case"]["behind"]["uniform"]["difference"]
    assert noisy["upper-case", "uniform"] == pytest.approx(behind)
    commands = report["sections"]["reproduction"]["passages"]["Commands"].splitlines()
    assert commands == [
        "mixscout pool build pool.toml",
        "mixscout search study.toml --merges 12",
        "mixscout best study.toml",
        "mixscout robustness study.toml",
        "mixscout report study.toml",
    ]


def test_a_search_from_text_shows_how_text_ranks_its_mixtures(searched: Path, mixscout) -> None:
    study = searched / "texts.toml"
    shutil.copy(searched / "study.toml", study)
    edit(study, 'name = "tiny"', 'name = "texts"')
    edit(study, 'start = ["uniform", "vertices"]', 'start = ["unigrams", "uniform", "vertices"]')
    assert mixscout("search", study, "--merges", 6).code == 0
    told = {one["name"]: one for one in json.loads(mixscout("prior", study, "--counted", "--json").out)}
    part = _report(mixscout, study)["sections"]["priors"]["tables"]
    assert {row["prior"]: row["Spearman"] for row in part["priors"]} == {
        name: one["merges"]["spearman"] for name, one in told.items()
    }
    assert part["prior-mixtures"][0] == {"prior": "unigrams", **told["unigrams"]["mixture"]}
