"""The commands a user types, end to end on the tiny pool, and what they print."""

import json
import math
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from tiny import edit, snapshot
from transformers import AutoModelForCausalLM, AutoTokenizer

from objectives.scoring.scorer import Scorer
from objectives.scoring.window_table import WindowTable
from objectives.target import Goal
from pool.parts.store import Pool

NAMES = {"code", "docs", "prose"}


@pytest.fixture(scope="module")
def searched_root(built_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a finished study. Shared: never write into it."""
    from studies.opened.on_pool import workbench
    from studies.running.run import run_search
    from studies.study_file.study_file import read_study_file

    folder = tmp_path_factory.mktemp("searched") / "root"
    shutil.copytree(built_root, folder)
    with workbench(read_study_file(folder / "study.toml")) as bench:
        run_search(bench, 12)
    return folder


@pytest.fixture
def searched(searched_root: Path, tmp_path: Path) -> Path:
    shutil.copytree(searched_root, tmp_path / "searched")
    return tmp_path / "searched"


def _check_block(block: dict) -> None:
    assert block["perplexity"] == pytest.approx(math.exp(block["loss_nats"]))
    assert block["standard_error"] > 0
    weights = {"licences": 0.6, "prose": 0.4}
    assert set(block["domains"]) == set(weights)
    for key in ("loss_nats", "bits_per_byte"):
        mean = sum(weight * block["domains"][name][key] for name, weight in weights.items())
        assert block[key] == pytest.approx(mean)


def test_best_prints_the_promised_object(searched: Path, mixscout) -> None:
    answer = mixscout("best", searched / "study.toml", "--json")
    assert answer.code == 0, answer.err
    best = json.loads(answer.out)
    assert {"study", "mixture", "counts", "search", "test", "baselines"} <= set(best)
    assert best["study"] == "tiny"
    assert set(best["mixture"]) == NAMES and math.isclose(sum(best["mixture"].values()), 1, abs_tol=1e-9)
    assert best["counts"]["merges"] == 12
    assert {"merges", "pruned", "audited", "cached"} <= set(best["counts"])
    assert set(best["baselines"]) == {"uniform", "proportional", "best_single_member", "seed"}
    for standing in [best, *best["baselines"].values()]:
        _check_block(standing["search"])
        _check_block(standing["test"])
    for name, baseline in best["baselines"].items():
        assert best["search"]["loss_nats"] <= baseline["search"]["loss_nats"], name


def test_best_for_people_says_where_it_is_and_is_not_ahead(searched: Path, mixscout) -> None:
    answer = mixscout("best", searched / "study.toml")
    assert answer.code == 0
    assert "search, merged: the best mixture is ahead of every baseline." in answer.out
    assert "false-prune rate" in answer.out
    assert "test, merged: the best mixture is" in answer.out


def test_search_goes_on_to_a_larger_total_and_prints_its_counts(searched: Path, mixscout) -> None:
    answer = mixscout("search", searched / "study.toml", "--merges", 15, "--json")
    assert json.loads(answer.out)["counts"]["merges"] == 15
    again = mixscout("search", searched / "study.toml", "--merges", 15, "--json")
    assert again.out == answer.out
    people = mixscout("search", searched / "study.toml", "--merges", 15)
    assert people.out.startswith("merges 15 ") and "pruned" in people.out and "audited" in people.out
    found, best = json.loads(answer.out), json.loads(mixscout("best", searched / "study.toml", "--json").out)
    assert found["mixture"] == best["mixture"] and found["value"] == pytest.approx(best["search"]["value"], rel=1e-9)
    assert f", value {found['value']:.4f}" in people.out and found["trial"] >= 0 and found["by_objective"] == {}


def test_an_equal_mixture_is_never_merged_twice(searched: Path, mixscout) -> None:
    edit(searched / "study.toml", 'name = "tiny"', 'name = "second"')
    answer = mixscout("search", searched / "study.toml", "--json")
    counts = json.loads(answer.out)["counts"]
    assert counts["cached"] == counts["merges"] == 12, "the same study under another name merges nothing anew"
    with sqlite3.connect(searched / "mixscout.db") as database:
        (rows,) = database.execute("select count(*) from evaluations").fetchone()
        (different,) = database.execute(
            "select count(distinct objective_digest || mixture_digest) from evaluations"
        ).fetchone()
    assert rows == different


def test_confirm_really_trains_and_prints_the_promised_object(searched: Path, mixscout) -> None:
    answer = mixscout("confirm", searched / "study.toml", "--json")
    assert answer.code == 0, answer.err
    held = "confirm tiny: merges hold about ", "confirm tiny: each training holds about ", "members are freed meanwhile"
    assert all(line in answer.err for line in held), "what will be held, before it is held"
    confirmation = json.loads(answer.out)
    assert [one["name"] for one in confirmation["confirmed"]] == [
        "best",
        "uniform",
        "proportional",
        "best_single_member",
    ]
    for one in confirmation["confirmed"]:
        assert {"name", "mixture", "proxy", "trained"} <= set(one)
        assert abs(one["proxy"] - one["trained"]) < 0.5
    single = confirmation["confirmed"][-1]
    assert single["proxy"] == single["trained"], "a vertex is the member itself"
    assert -1 <= confirmation["spearman"] <= 1
    before = snapshot(searched / "pools")
    assert mixscout("confirm", searched / "study.toml", "--json").out == answer.out
    assert snapshot(searched / "pools") == before, "nothing is trained twice"
    assert "Spearman" in mixscout("confirm", searched / "study.toml").out


def test_export_is_a_checkpoint_that_transformers_loads_with_the_same_loss(
    searched: Path, tiny_pool: Pool, mixscout, tmp_path: Path
) -> None:
    best = json.loads(mixscout("best", searched / "study.toml", "--json").out)
    answer = mixscout("export", searched / "study.toml", tmp_path / "out")
    assert answer.out.splitlines()[-1].startswith("next: mixscout handover ")
    assert answer.code == 0, answer.err
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert AutoTokenizer.from_pretrained(tmp_path / "out").bos_token == "<|endoftext|>"
    target = Goal.of({"licences": 0.6, "prose": 0.4})
    table = WindowTable.of(tiny_pool.corpus.held_out["test"], target.domains)
    loss = target.value(table.losses(Scorer(model, table).score()))
    assert loss == pytest.approx(best["test"]["loss_nats"], rel=1e-6)
    assert json.loads((tmp_path / "out" / "mixture.json").read_text())["mixture"] == best["mixture"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers") and f"{loss:.4f}" in card


def test_export_refuses_a_folder_that_is_not_empty(searched: Path, mixscout) -> None:
    before = snapshot(searched)
    answer = mixscout("export", searched / "study.toml", searched / "pools")
    assert answer.code == 1
    assert "pools exists and is not empty; name a new folder" in answer.err
    assert snapshot(searched / "pools") == {
        name.removeprefix("pools/"): content for name, content in before.items() if name.startswith("pools/")
    }


def test_pool_show_prints_counts_and_digests(root: Path, mixscout) -> None:
    shown = json.loads(mixscout("pool", "show", root / "pool.toml", "--json").out)
    assert set(shown["members"]) == NAMES
    assert shown["corpus"]["search"]["licences"]["bytes"] > shown["corpus"]["search"]["licences"]["tokens"]
    people = mixscout("pool", "show", root / "pool.toml").out
    assert "licences" in people and shown["seed"]["weights_digest"][:12] in people


def test_pool_build_builds_and_says_so(empty_root: Path, mixscout) -> None:
    answer = mixscout("pool", "build", empty_root / "pool.toml")
    assert answer.code == 0, answer.err
    assert "Pool tiny" in answer.out
    assert "member 'docs'" in answer.err


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["demo"],
        ["pool"],
        ["pool", "build"],
        ["pool", "show"],
        ["pool", "add"],
        ["pool", "check"],
        ["pool", "overlap"],
        ["pool", "units"],
        ["search"],
        ["worker"],
        ["best"],
        ["confirm"],
        ["fidelity"],
        ["predict"],
        ["export"],
        ["table"],
        ["ablate"],
        ["handover"],
        ["compare"],
        ["report"],
        ["dashboard"],
        ["bench", "search"],
        ["bench", "gate"],
        ["bench", "landscape"],
        ["bench", "surrogate"],
        ["bench", "objective"],
        ["bench", "memory"],
        ["bench", "training"],
    ],
)
def test_every_verb_explains_itself(command: list[str], mixscout) -> None:
    answer = mixscout(*command, "--help")
    assert answer.code == 0
    assert "Usage:" in answer.out
    assert command in ([], ["pool"], ["bench"]) or "Example" in answer.out


def test_help_loads_no_heavy_library() -> None:
    heavy = {"datasets", "numpy", "optuna", "pandas", "pydantic", "torch", "transformers"}
    code = f"import sys, studies.command_line.app; print({heavy} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "set()"


def test_other_strategies_share_the_study_s_evaluations(searched: Path, mixscout) -> None:
    edit(searched / "study.toml", 'name = "tiny"', 'name = "by-chance"')
    edit(searched / "study.toml", '"gradient"', '"random"')
    counts = json.loads(mixscout("search", searched / "study.toml", "--json").out)["counts"]
    assert counts["merges"] == 12
    assert counts["cached"] >= 4, "the start design was evaluated by the other study"
    studies = optuna.get_all_study_names(f"sqlite:///{searched / 'mixscout.db'}")
    assert sorted(studies) == ["by-chance", "tiny"]


def test_a_baseline_outside_the_space_is_marked(searched: Path, mixscout) -> None:
    edit(searched / "study.toml", 'name = "tiny"', 'name = "capped"')
    edit(searched / "study.toml", "[search]", "[space]\nmax_members = 2\ncaps = {prose = 0.5}\n[search]")
    assert mixscout("search", searched / "study.toml").code == 0
    best = json.loads(mixscout("best", searched / "study.toml", "--json").out)
    assert sum(weight > 0 for weight in best["mixture"].values()) <= 2
    assert best["mixture"]["prose"] <= 0.5 + 1e-9
    assert not best["baselines"]["uniform"]["feasible"]
    people = mixscout("best", searched / "study.toml").out
    assert "uniform *" in people and "outside the study's space" in people


def test_a_domain_of_one_window_prints_json_all_the_same(root: Path, mixscout) -> None:
    (root / "short.txt").write_text("one short line\n\nanother short line")
    with (root / "pool.toml").open("a") as stream:
        stream.write('\n[corpus.held_out.short]\nfiles = ["short.txt"]\nformat = "text"\n')
    assert mixscout("pool", "build", root / "pool.toml").code == 0
    edit(root / "study.toml", "licences = 0.6\nprose = 0.4", "short = 1.0")
    assert mixscout("search", root / "study.toml", "--merges", 5).code == 0
    best = json.loads(mixscout("best", root / "study.toml", "--json").out)
    assert best["search"]["standard_error"] is None
    assert mixscout("best", root / "study.toml").code == 0
    assert json.loads(mixscout("confirm", root / "study.toml", "--json").out)["confirmed"]


def test_the_readme_s_files_make_a_pool_and_a_study(tmp_path: Path) -> None:
    from pool.config.pool_file import read_pool_file
    from search.space import CappedSimplex
    from studies.study_file.study_file import read_study_file

    readme = (Path(__file__).parents[3] / "README.md").read_text()
    for block in readme.split("```toml\n")[1:]:
        content = block.split("```")[0]
        (tmp_path / content.split("\n")[0].removeprefix("# ").strip()).write_text(content)
    pool, study = read_pool_file(tmp_path / "pool.toml"), read_study_file(tmp_path / "study.toml")
    names = set(pool.corpus.partitions)
    assert set(study.target.weights) <= names | set(pool.corpus.held_out)
    assert CappedSimplex.of(sorted(names)).max_members == len(names)
