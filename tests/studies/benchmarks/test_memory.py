"""How members are held, as a user asks for it: in the study file, in the log, and measured."""

import json
from pathlib import Path

import pytest
from tiny import edit

FORMS = {
    "int8": '[objective]\nstored = "int8"\n\n',
    "bfloat16": '[objective]\nstored = "bfloat16"\n\n',
    "pruned": "[objective]\nkeep_share = 0.5\n\n",
}


def test_a_search_says_where_members_are_and_why(root: Path, mixscout) -> None:
    first = mixscout("search", root / "study.toml", "--merges", 4)
    assert "search tiny: members resident: 0.00 GB of members and 0.00 GB for models fit into" in first.err
    assert "search tiny: merges hold about " in first.err and "in float32" in first.err
    again = mixscout("search", root / "study.toml", "--merges", 4)
    assert "members" not in again.err, "nothing was left to do"


def test_a_study_goes_on_with_mapped_members_and_what_was_evaluated_holds(root: Path, mixscout) -> None:
    assert mixscout("search", root / "study.toml", "--merges", 4).code == 0
    before = json.loads(mixscout("best", root / "study.toml", "--json").out)
    edit(root / "study.toml", "[search]", '[objective]\nheld = "mapped"\n\n[search]')
    answer = mixscout("best", root / "study.toml", "--json")
    assert answer.code == 0 and json.loads(answer.out) == before
    assert "packing members into" not in answer.err, "all of it is remembered, so nothing is merged"
    edit(root / "study.toml", 'name = "tiny"', 'name = "mapped"')
    answer = mixscout("search", root / "study.toml", "--merges", 6, "--json")
    assert "packing members into" in answer.err
    counts = json.loads(answer.out)["counts"]
    assert counts["merges"] == 6 and counts["cached"] >= 4


@pytest.mark.parametrize("form", FORMS)
def test_members_stored_otherwise_make_another_study_with_losses_of_its_own(form: str, root: Path, mixscout) -> None:
    assert mixscout("search", root / "study.toml", "--merges", 4).code == 0
    edit(root / "study.toml", "[search]", FORMS[form] + "[search]")
    answer = mixscout("search", root / "study.toml")
    assert answer.code == 1 and "was started with another stored members (stored members: None ->" in answer.err
    edit(root / "study.toml", 'name = "tiny"', 'name = "other"')
    counts = json.loads(mixscout("search", root / "study.toml", "--merges", 4, "--json").out)["counts"]
    assert (counts["merges"], counts["cached"]) == (4, 0), "the start design is the same, and its losses are not"


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ('held = "disk"', "objective.held"),
        ('stored = "int4"', "objective.stored"),
        ("keep_share = 0", "objective.keep_share"),
        ('stored = "int6"', "objective.stored"),
    ],
)
def test_what_cannot_be_held_is_one_line(key: str, message: str, root: Path, mixscout) -> None:
    edit(root / "study.toml", "[search]", f"[objective]\n{key}\n\n[search]")
    answer = mixscout("search", root / "study.toml")
    assert answer.code == 1 and len(answer.err.splitlines()) == 1 and message in answer.err


def test_bench_memory_measures_every_way_and_leaves_nothing_behind(root: Path, mixscout) -> None:
    before = {path for path in (root / "pools").rglob("*") if path.suffix != ".lock"}
    command = ("bench", "memory", root / "study.toml", "--mixtures", 2, "--repeats", 1)
    (found,) = json.loads(mixscout(*command, "--json").out)
    assert found["members"] == 3 and found["parameters"] > 20_000
    ways = {tuple(way["holding"][key] for key in ("held", "stored", "keep_share")): way for way in found["ways"]}
    for held, stored, share in ways:
        way = ways[held, stored, share]
        assert way["merge_ratio"]["median"] > 0 and way["share_of_evaluation"] > 0
        if (stored, share) == ("float32", 1.0):
            assert way["largest_error"] == 0
        elif share == 1:
            assert 0 < way["median_error"] <= way["largest_error"] < 1e-3
    floats, mapped = ways["resident", "float32", 1.0], ways["mapped", "float32", 1.0]
    assert floats["memory_bytes"] == pytest.approx(4, rel=0.01) and mapped["memory_bytes"] == 0
    assert mapped["disk_bytes"] == pytest.approx(4, rel=0.02)
    assert ways["mapped", "int8", 1.0]["disk_bytes"] == pytest.approx(4 / 3, rel=0.15), (
        "three members and a reference of a byte, and scales"
    )
    assert {path for path in (root / "pools").rglob("*") if path.suffix != ".lock"} == before
    people = mixscout(*command).out
    assert "mapped int8" in people and "50% kept" in people
