"""Promises of studies over base units and groups, of unions really trained, and of the verbs about a pool's text."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import edit, snapshot

from pool.config.pool_file import read_pool_file
from pool.mixture import Mixture
from pool.parts.store import open_pool
from studies.assessment.fidelity.report import union_design
from studies.assessment.fidelity.truths import TruthPlan
from studies.opened.on_pool import workbench
from studies.study_file.study_file import read_study_file

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "studies" / "examples"


@pytest.fixture
def units(united_root: Path, tmp_path: Path) -> Path:
    """A root with base units and a study over their groups."""
    shutil.copytree(united_root, tmp_path / "units")
    edit(tmp_path / "units/study.toml", "[search]", '[space]\nunits = "macro"\n\n[search]')
    edit(tmp_path / "units/study.toml", '"gradient"', '"exhaustive"')
    edit(tmp_path / "units/study.toml", "merges = 12", "merges = 4")
    return tmp_path / "units"


def test_a_macro_study_searches_groups_and_hands_over_their_units(units: Path, mixscout, tmp_path: Path) -> None:
    assert mixscout("search", units / "study.toml").code == 0
    best = json.loads(mixscout("best", units / "study.toml", "--json").out)
    assert set(best["mixture"]) == {"code", "text"}
    answer = mixscout("handover", units / "study.toml", tmp_path / "out", "--tokens", 1000, "--text")
    assert answer.code == 0, answer.err
    plan = json.loads((tmp_path / "out/mixture.json").read_text())
    pool = open_pool(read_pool_file(units / "pool.toml"))
    shares = pool.by_groups().unit_mixture(Mixture.of(best["mixture"])).as_dict()
    assert {name: one["weight"] for name, one in plan["partitions"].items()} == pytest.approx(shares)
    assert {path.stem for path in (tmp_path / "out/text").iterdir()} == {name for name in shares if shares[name] > 0}


def test_a_study_over_groups_cannot_go_on_over_units(units: Path, mixscout) -> None:
    assert mixscout("search", units / "study.toml").code == 0
    edit(units / "study.toml", 'units = "macro"', 'units = "micro"')
    answer = mixscout("search", units / "study.toml")
    assert answer.code == 1 and "was started with another groups and another space" in answer.err


def test_unions_are_even_and_trained_for_as_long_as_their_members_together(units: Path, mixscout) -> None:
    with workbench(read_study_file(units / "study.toml")) as bench:
        (union,) = union_design(bench.space, 1, seed=bench.config.search.seed).values()
        assert union.weights == (0.5, 0.5)
        recipe = TruthPlan(as_long_as_members=True).recipe(bench.proxy.pool, union)
        assert recipe.tokens == 7 * bench.proxy.pool.config.recipe.tokens
    edit(units / "study.toml", 'units = "macro"', "max_members = 3")
    assert mixscout("search", units / "study.toml").code == 0
    answer = mixscout("fidelity", units / "study.toml", "--unions", "--mixtures", 6, "--exponents", "0.5", "--json")
    assert answer.code == 0, answer.err
    report = json.loads(answer.out)
    assert "as long as its members together" in json.dumps(report)
    trained = [json.loads(path.read_text()) for path in units.glob("pools/tiny/trained/*/manifest.json")]
    members = {len([weight for weight in one["mixture"].values() if weight > 0]) for one in trained}
    assert len(trained) == 6 and members <= {2, 3}
    for one in trained:
        used = sum(weight > 0 for weight in one["mixture"].values())
        assert one["recipe"]["tokens"] == 600 * used
    too_many = mixscout("fidelity", units / "study.toml", "--unions", "--mixtures", 500)
    assert too_many.code == 1 and "even mixtures of two partitions or more, fewer than 500" in too_many.err


def test_pool_units_turns_weights_over_groups_into_weights_over_units_and_back(units: Path, mixscout) -> None:
    pool = units / "pool.toml"
    macro = json.loads(mixscout("pool", "units", pool, "--macro", "--json").out)
    assert macro["macro"] == pytest.approx({"code": 0.5, "text": 0.5}) and macro["even"]
    asked = ",".join(f"{name}={weight!r}" for name, weight in macro["micro"].items())
    assert json.loads(mixscout("pool", "units", pool, "--mixture", asked, "--json").out) == macro
    micro = json.loads(mixscout("pool", "units", pool, "--json").out)
    assert len(set(micro["micro"].values())) == 1 and micro["macro"]["text"] == pytest.approx(4 / 7)
    assert "differently" in mixscout("pool", "units", pool, "--mixture", "code-1=0.6,code-2=0.4").out
    assert "no partition of the pool" in mixscout("pool", "units", pool, "--mixture", "code=0.5,x=0.5").err
    assert "give one of them" in mixscout("pool", "units", pool, "--macro", "--mixture", "code=1").err


def test_pool_overlap_reads_text_and_builds_nothing(empty_root: Path, mixscout) -> None:
    before = snapshot(empty_root)
    found = json.loads(mixscout("pool", "overlap", empty_root / "pool.toml", "--json").out)
    assert set(found["share"]) == {"code", "docs", "prose"} and found["words"] == 13
    assert all(0 <= share <= 1 for row in found["share"].values() for share in row.values())
    people = mixscout("pool", "overlap", empty_root / "pool.toml").out
    assert "drop_overlap = true" in people and "licences" in people
    assert snapshot(empty_root) == before
    (empty_root / "prose.txt").write_text("")
    answer = mixscout("pool", "overlap", empty_root / "pool.toml")
    assert answer.code == 1 and answer.err.count("\n") == 1 and "prose.txt is empty" in answer.err


def test_a_full_disk_while_text_is_compared_is_one_clear_error(empty_root: Path) -> None:
    script = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, resource.RLIM_INFINITY))
sys.argv = ["mixscout", "pool", "overlap", {str(empty_root / "pool.toml")!r}]
from studies.command_line.app import main
main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr.startswith("mixscout: the corpus's text cannot be kept in") and "TMPDIR" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("pool", sorted(EXAMPLES.glob("*_pool.toml")), ids=lambda path: path.stem)
def test_example_files_are_read_and_name_no_machine_s_paths(pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIXSCOUT_TEXT_ROOT", "/elsewhere")
    config = read_pool_file(pool)
    files = [path for table in config.corpus.partitions.values() for path in table.files]
    assert all(path.parent == Path("/elsewhere") for path in files)
    given = read_pool_file(pool, Path("/given")).corpus
    assert all(path.parent == Path("/given") for table in given.partitions.values() for path in table.files)
    for path in EXAMPLES.glob("*.toml"):
        assert '"/' not in path.read_text()
        if "pool" not in path.stem and path.stem != "demo_study":
            study = read_study_file(path)
            assert study.pool.is_file() if study.pool else study.table is not None and study.table.is_dir()


def test_the_folder_of_the_text_is_an_argument_and_wins_over_file_and_environment(
    empty_root: Path, tmp_path: Path, mixscout, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, text = empty_root / "pool.toml", tmp_path / "text"
    text.mkdir()
    for path in empty_root.glob("*.*"):
        if path.suffix != ".toml":
            path.rename(text / path.name)
    monkeypatch.setenv("MIXSCOUT_TEXT_ROOT", str(empty_root))
    gone = mixscout("pool", "overlap", pool)
    assert gone.code == 1 and f"{empty_root}/code.jsonl" in gone.err
    found = mixscout("pool", "overlap", pool, "--text-root", text, "--json")
    assert found.code == 0 and json.loads(found.out)["pool"] == "tiny"
    monkeypatch.delenv("MIXSCOUT_TEXT_ROOT")
    assert mixscout("pool", "overlap", pool, "--text-root", tmp_path / "nowhere").code == 2
