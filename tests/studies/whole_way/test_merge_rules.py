"""A study whose merges weigh rows, on the whole way: searched, explained, judged, handed over and refused."""

import json
from pathlib import Path

import pytest
from tiny import edit


def test_a_study_that_weighs_rows_goes_the_whole_way(root: Path, mixscout) -> None:
    study = root / "study.toml"
    edit(study, 'name = "tiny"', 'name = "rows"')
    study.write_text(study.read_text() + '\n[objective]\nrule = "fisher"\n')
    assert "Fisher information of members" in mixscout("search", study, "--merges", 6).err
    assert "Fisher information" not in mixscout("search", study, "--merges", 8).err, "measured once"

    ablated = json.loads(mixscout("ablate", study, "--game", "best", "--json").out)
    on_the_way = sum(row["goal"] for row in ablated["contributions"]["path-to-best"]["values"].values())
    gained = ablated["losses"]["seed"]["goal"] - ablated["losses"]["best"]["goal"]
    assert on_the_way == pytest.approx(gained, rel=0.02), "the path from the seed adds up"

    judged = mixscout("fidelity", study, "--mixtures", 6, "--exponents", "0.5", "--json")
    assert judged.code == 0, judged.err
    assert {score["name"] for score in json.loads(judged.out)["rules"]["scores"]} >= {"fisher 0.8", "identity"}

    handed = mixscout("handover", study, root / "handed", "--tokens", 10_000)
    assert handed.code == 0 and "no files for mergekit: the merge rule weighs rows" in handed.err
    assert not list((root / "handed").glob("mergekit_*")) and (root / "handed" / "interleave.py").is_file()
    for verb in ("objective", "memory"):
        refused = mixscout("bench", verb, study)
        assert refused.code == 1 and "one weight a member" in refused.err
