"""`pool check` measures what it says, and a pool damaged on purpose does not pass."""

import json
import math
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from matplotlib.image import imread
from tiny import edit, rewrite_record
from transformers import PreTrainedModel

from objectives.scoring.scorer import Scorer
from objectives.scoring.window_table import WindowTable
from pool.checkpoints.checkpoint import load_model
from pool.checkpoints.manifest import SeedTextLoss
from pool.config.pool_file import read_pool_file
from pool.errors import CorpusError
from pool.files.digests import digest_file
from pool.parts.store import Pool, open_pool
from studies.assessment.pool_check.check import Lines, run_pool_check
from studies.assessment.pool_check.verdict import judge, suspect_members

PICTURES = [f"tiny-check-{name}.png" for name in ("barriers", "cosines", "sign-conflicts", "transfer")]
PAIRS = {"code/docs", "code/prose", "docs/prose"}


@pytest.fixture(scope="module")
def checked_root(built_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the built root that only this file writes into."""
    folder = tmp_path_factory.mktemp("checked") / "root"
    shutil.copytree(built_root, folder)
    return folder


def _change_member(root: Path, name: str, change: Callable[[PreTrainedModel], None]) -> None:
    """Change a member's weights, and make the digests agree with them."""
    folder = root / "pools/tiny/members" / name
    model = load_model(folder)
    with torch.no_grad():
        change(model)
    model.save_pretrained(folder)
    digest = digest_file(folder / "model.safetensors")
    rewrite_record(folder / "manifest.json", lambda content: content.update(weights_digest=digest))
    pool_record = root / "pools/tiny/pool.json"
    rewrite_record(pool_record, lambda content: content["members"][name].update(weights_digest=digest))


def _merges_remembered(root: Path) -> int:
    with sqlite3.connect(root / "mixscout.db") as database:
        (rows,) = database.execute("select count(*) from evaluations").fetchone()
    return int(rows)


def test_a_sound_pool_passes_and_every_figure_is_there(checked_root: Path, tiny_pool: Pool, mixscout) -> None:
    answer = mixscout("pool", "check", checked_root / "pool.toml", "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert found["verdict"]["likely_to_merge_well"] and not found["verdict"]["reasons"], found["verdict"]
    assert set(found["members"]) == {"code", "docs", "prose"}
    for figures in (found["cosines"], found["sign_conflicts"], found["barriers"]):
        assert set(figures) == PAIRS
    assert set(found["barriers_to_mean"]) == set(found["members"])
    windows = tiny_pool.corpus.held_out["search"]
    table = WindowTable.of(windows, list(windows))
    plain = table.losses(Scorer(load_model(tiny_pool.member_folders["docs"]), table).score())
    member = found["members"]["docs"]
    assert member["loss_nats"] == pytest.approx({name: loss.loss_nats for name, loss in plain.items()}, rel=1e-6)
    assert member["tokens"] == tiny_pool.manifest.members["docs"].tokens
    seed = table.losses(Scorer(load_model(tiny_pool.folder / "seed"), table).score())
    assert found["seed"]["loss_nats"] == pytest.approx({name: loss.loss_nats for name, loss in seed.items()}, rel=1e-6)
    assert sorted(path.name for path in (checked_root / "reports").iterdir()) == PICTURES
    for name in PICTURES:
        assert imread(checked_root / "reports" / name).std() > 0.05, "not a blank picture"


def test_asked_again_it_merges_nothing_and_says_the_same(checked_root: Path, mixscout) -> None:
    first = mixscout("pool", "check", checked_root / "pool.toml", "--json")
    known = _merges_remembered(checked_root)
    assert known == 3 + 3 * 3 + 3 * 3 + 1, "members, three points a pair and a way to the mean, and the mean"
    again = mixscout("pool", "check", checked_root / "pool.toml", "--json")
    assert again.out == first.out
    assert _merges_remembered(checked_root) == known
    fewer = mixscout("pool", "check", checked_root / "pool.toml", "--points", 1, "--pairs", 1, "--json")
    found = json.loads(fewer.out)
    assert list(found["barriers"]) == [min(found["cosines"], key=lambda pair: found["cosines"][pair])]
    assert _merges_remembered(checked_root) == known, "the middle is among the three points"


def test_for_people_it_shows_members_pairs_and_the_verdict(checked_root: Path, mixscout) -> None:
    answer = mixscout("pool", "check", checked_root / "pool.toml")
    assert answer.code == 0, answer.err
    for part in ("(seed)", "(uniform merge)", "code / docs", "Nothing measured speaks against merging", "pictures: "):
        assert part in answer.out


def test_a_member_that_is_noise_gets_the_verdict(root: Path, mixscout) -> None:
    def noise(model: PreTrainedModel) -> None:
        torch.manual_seed(3)
        for parameter in model.parameters():
            parameter.normal_(0, 0.5)

    _change_member(root, "docs", noise)
    found = json.loads(mixscout("pool", "check", root / "pool.toml", "--json").out)
    reasons = found["verdict"]["reasons"]
    assert not found["verdict"]["likely_to_merge_well"]
    assert any("worse than the seed on their own held-out domain (nats): docs (" in reason for reason in reasons)
    assert any("far from the seed" in reason and ": docs (" in reason for reason in reasons)
    assert not any("code (" in reason for reason in reasons), "the sound members are not accused"
    people = mixscout("pool", "check", root / "pool.toml")
    assert "This pool is unlikely to merge well" in people.out and people.code == 0


def test_a_pool_trained_at_a_huge_learning_rate_gets_the_verdict(root: Path, mixscout) -> None:
    edit(root / "pool.toml", "learning_rate = 3e-3", "learning_rate = 0.3")
    rebuild = [part for name in ("code", "docs", "prose") for part in ("--rebuild", name)]
    assert mixscout("pool", "build", root / "pool.toml", *rebuild).code == 0
    found = json.loads(mixscout("pool", "check", root / "pool.toml", "--json").out)
    reasons = "\n".join(found["verdict"]["reasons"])
    for reason in ("members far from the seed", "loss barriers above", "the uniform merge ("):
        assert reason in reasons
    assert max(found["barriers"].values()) > 0.02


def test_a_member_whose_losses_overflow_is_named_and_its_json_is_json(root: Path, mixscout) -> None:
    def overflow(model: PreTrainedModel) -> None:
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.fill_(3e38)  # a norm's gain: finite in float32, what it is multiplied with is not

    _change_member(root, "prose", overflow)
    answer = mixscout("pool", "check", root / "pool.toml", "--json", "--points", 1)
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert found["members"]["prose"]["loss_nats"]["licences"] is None
    assert found["members"]["code"]["loss_nats"]["licences"] > 0
    assert any("NaN or infinite for prose on " in reason for reason in found["verdict"]["reasons"])
    assert mixscout("pool", "check", root / "pool.toml", "--points", 1).code == 0


def test_a_loss_that_is_no_number_between_two_sound_members_gets_the_verdict(root: Path) -> None:
    check = run_pool_check(open_pool(read_pool_file(root / "pool.toml")), Lines(points=1))
    assert judge(check).likely
    broken = replace(check, barriers=check.barriers | {("code", "docs"): math.nan})
    (reason,) = judge(broken).reasons
    assert "NaN or infinite on the line between models: code/docs" in reason


def test_a_member_far_worse_than_the_seed_on_the_mean_gets_the_verdict(checked_root: Path) -> None:
    check = run_pool_check(open_pool(read_pool_file(checked_root / "pool.toml")), Lines())
    high = replace(check.members["docs"], by_domain=dict.fromkeys(check.domains, 1000000.0))
    reasons = judge(replace(check, members={**check.members, "docs": high}, own_domains={})).reasons
    assert any(reason.startswith("members far worse than the seed on the mean of domains") for reason in reasons)


def test_a_build_names_members_whose_training_may_have_diverged(tiny_pool: Pool) -> None:
    manifest = tiny_pool.manifest
    assert suspect_members(manifest) == []
    high = manifest.members["docs"].model_copy(update={"final_loss_nats": 98.7})
    (said,) = suspect_members(manifest.model_copy(update={"members": {**manifest.members, "docs": high}}))
    assert said.startswith("member 'docs': the training loss ended at 98.700 nats, the seed's at ")
    forgot = manifest.members["code"].model_copy(update={"seed_text": SeedTextLoss(before_nats=3.0, after_nats=9.0)})
    (said,) = suspect_members(manifest.model_copy(update={"members": {**manifest.members, "code": forgot}}))
    assert said.startswith("member 'code': the seed's text is at 9.000 nats, before 3.000; the training may have")


def test_a_base_unit_is_judged_on_the_text_of_what_it_was_cut_from(united_root: Path, tmp_path: Path, mixscout) -> None:
    shutil.copytree(united_root, tmp_path / "united")
    command = ("pool", "check", tmp_path / "united" / "pool.toml", "--points", 1)
    found = json.loads(mixscout(*command, "--json").out)
    domains = {name: member["own_domain"] for name, member in found["members"].items()}
    assert "code-1" in domains and domains == {name: name.rpartition("-")[0] or name for name in domains}
    shown = mixscout(*command).out
    assert f"{found['members']['code-1']['loss_nats']['code']:.4f}" in shown


def test_nan_in_a_weight_is_one_line_that_names_the_member(root: Path, mixscout) -> None:
    _change_member(root, "code", lambda model: next(model.parameters()).fill_(float("nan")))
    answer = mixscout("pool", "check", root / "pool.toml")
    assert answer.code == 1
    assert len(answer.err.splitlines()) == 1 and "member 'code' has NaN or infinite values in" in answer.err
    assert not (root / "mixscout.db").exists() and not (root / "reports").exists()


def test_a_pool_without_held_out_text_is_told_to_get_some(root: Path) -> None:
    pool = open_pool(read_pool_file(root / "pool.toml"))
    nothing = replace(pool, corpus=replace(pool.corpus, held_out={"search": {}, "test": {}}))
    with pytest.raises(CorpusError, match="no held-out text to check its members on; set held_out_share above 0"):
        run_pool_check(nothing, Lines())


def test_a_pool_that_is_not_there_is_one_line(empty_root: Path, mixscout) -> None:
    for path, message in (("pool.toml", "pool 'tiny' is not built"), ("gone.toml", "gone.toml: no such file")):
        answer = mixscout("pool", "check", empty_root / path)
        assert answer.code == 1
        assert len(answer.err.splitlines()) == 1 and message in answer.err
