"""A bill adds up what was recorded: every training and every merge once, and nothing for what was not done here."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from forked import Forks
from small_table import write_small_study
from tiny import edit, snapshot

import mixscout as api
from pool.checkpoints.manifest import CheckpointManifest, count_parameters
from pool.config.pool_file import read_pool_file
from pool.files.records import MANIFEST, read_record, write_record
from pool.parts.layout import POOL_RECORD
from pool.parts.store import PoolManifest, open_pool
from studies.assessment.ablation.factors import run_factors, settings_of
from studies.opened.opening import open_study
from studies.outcome.cost.bill import HOUR
from studies.outcome.cost.find import NO_LEDGER, OUTSIDE, REST, find_bill, run_cost
from studies.running.run import run_search
from studies.study_file.study_file import read_study_file


@pytest.fixture
def begun(begun_root: Path, tmp_path: Path) -> Path:
    shutil.copytree(begun_root, tmp_path / "root")
    return tmp_path / "root"


def _bill(root: Path, **options: float) -> api.Bill:
    return run_cost(read_study_file(root / "study.toml"), **options)


def test_parts_are_what_manifests_and_trials_have_recorded(begun_root: Path) -> None:
    bill, pool = _bill(begun_root), open_pool(read_pool_file(begun_root / "pool.toml"))
    seed, members = pool.manifest.seed, list(pool.manifest.members.values())
    size = count_parameters(begun_root / "pools" / "tiny" / "seed" / "model.safetensors")
    assert bill.parts["seed"].flops == 6 * size * seed.tokens
    assert bill.parts["members"].trainings == len(members) == 3
    assert bill.parts["members"].processor_seconds == pytest.approx(sum(one.processor_seconds for one in members))
    search = bill.parts["search"]
    assert search.merges == 6 and search.processor_seconds > 0
    assert search.flops == 6 * size * search.scored_tokens, "the strategy takes gradients"
    assert bill.total.trainings == 4 and bill.decisions == 6
    assert bill.billed_seconds == pytest.approx(sum(one.billed_seconds for one in bill.parts.values()))
    assert bill.trainings_per_decision == pytest.approx(4 / 6)


def test_a_study_that_was_never_searched_owes_its_pool_alone(root: Path, mixscout: Callable) -> None:
    before = snapshot(root)
    answer = mixscout("cost", root / "study.toml", "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert found["parts"]["search"]["merges"] == found["decisions"] == 0
    assert found["seconds_per_merge"] is None
    assert found["total"]["trainings"] == 4
    assert "No mixture has been merged" in mixscout("cost", root / "study.toml").out
    assert snapshot(root) == before


def test_other_ways_are_a_swarm_and_every_subset(begun_root: Path) -> None:
    bill = _bill(begun_root, swarm=10)
    ours, swarm, subsets, regmix, olmix = bill.ways
    run = bill.parts["members"].flops / 3
    assert (ours.trainings, swarm.trainings, subsets.trainings) == (4, 11, 8), "each with the one seed"
    assert swarm.flops == pytest.approx(bill.parts["seed"].flops + 10 * run)
    assert subsets.flops == pytest.approx(bill.parts["seed"].flops + 7 * run)
    assert regmix.flops == 512 * 6e15 and olmix.flops == pytest.approx(5.4e17)


def test_an_hour_s_price_says_money(begun_root: Path, mixscout: Callable) -> None:
    found = json.loads(mixscout("cost", begun_root / "study.toml", "--price-per-hour", 2, "--json").out)
    assert found["total"]["price"] == pytest.approx(2 * found["total"]["billed_seconds"] / HOUR)
    assert found["total"]["price"] == pytest.approx(sum(part["price"] for part in found["parts"].values()))
    assert "price" in mixscout("cost", begun_root / "study.toml", "--price-per-hour", 2).out
    refused = mixscout("cost", begun_root / "study.toml", "--price-per-hour", -1)
    assert refused.code == 2 and "--price-per-hour" in refused.err
    assert mixscout("cost", begun_root / "study.toml", "--swarm", 0).code == 2


def test_an_older_pool_says_not_recorded_and_is_billed_by_the_clock(begun: Path, mixscout: Callable) -> None:
    folder = begun / "pools" / "tiny"

    def older(manifest: CheckpointManifest) -> CheckpointManifest:
        return manifest.model_copy(update={"processor_seconds": None})

    for path in (folder / "seed" / MANIFEST, *folder.glob(f"members/*/{MANIFEST}")):
        write_record(path, older(read_record(path, CheckpointManifest)))
    record = read_record(folder / POOL_RECORD, PoolManifest)
    members = {name: older(one) for name, one in record.members.items()}
    write_record(folder / POOL_RECORD, record.model_copy(update={"seed": older(record.seed), "members": members}))
    seed = _bill(begun).parts["seed"]
    assert seed.processor_seconds is None and seed.billed_seconds == seed.seconds == record.seed.seconds
    printed = mixscout("cost", begun / "study.toml").out
    assert "not" in printed and "Processor time is not recorded of: seed, members; wall time" in printed


def test_shared_evaluations_are_counted_once_and_evidence_costs_nothing(begun: Path) -> None:
    shutil.copy(begun / "study.toml", second := begun / "second.toml")
    edit(second, 'name = "tiny"', 'name = "second"')
    with open_study(read_study_file(second)) as bench:
        run_search(bench, 5)
        bill = find_bill(bench)
    alone = _bill(begun)
    everything = {name: part.merges for name, part in bill.parts.items()}
    recalled = 5 - everything["search"]
    assert recalled >= 4, "the start design is the same"
    assert everything["other scores"] >= 6, "what the first study has merged"
    assert any(note.startswith(f"{recalled} mixtures of the search were remembered") for note in bill.notes)
    assert alone.parts["search"].merges == 6
    assert alone.parts["other scores"].merges == everything["search"], "the other study's own merges"

    shutil.copy(begun / "study.toml", third := begun / "third.toml")
    edit(third, 'name = "tiny"', 'name = "third"')
    edit(third, "[search]", '[search]\nevidence_from = "tiny"')
    with open_study(read_study_file(third)) as bench:
        run_search(bench, 1)
        bill = find_bill(bench)
    assert bill.decisions == 1 and bill.parts["search"].merges <= 1
    assert any("6 evaluations were taken over as evidence, and cost nothing" in note for note in bill.notes)


def test_models_that_were_trained_for_truth_stand_under_their_verb(begun: Path) -> None:
    with api.open_study(begun / "study.toml") as study:
        study.confirm()
        bill = study.cost(swarm=3)
    confirm = bill.parts["confirm"]
    assert confirm.trainings >= 1 and confirm.flops > 0 and confirm.processor_seconds > 0
    assert bill.total.trainings == 4 + confirm.trainings
    scores = bill.parts["other scores"]
    assert scores.merges > confirm.trainings, "the merges on the test split too"
    assert scores.seconds < confirm.seconds + scores.merges, "no training is in the time of its score"
    assert "billed hours" in bill._repr_html_()


def test_a_study_on_a_table_pays_for_its_search_alone(tmp_path: Path, mixscout: Callable) -> None:
    study = write_small_study(tmp_path)
    assert mixscout("search", study, "--merges", 3).code == 0
    bill = run_cost(read_study_file(study))
    assert list(bill.parts) == ["search", REST] and bill.total.trainings == 0 and bill.total.flops == 0
    assert bill.parameters is None and bill.parts["search"].merges == bill.decisions == 3
    assert any("16 models of the table were trained elsewhere" in note for note in bill.notes)
    assert [way.trainings for way in bill.ways] == [0, 512, 7]
    assert bill.notes[-1] == OUTSIDE


def test_the_report_has_the_bill_in_figures_that_can_be_read(begun: Path, mixscout: Callable) -> None:
    answer = mixscout("report", begun / "study.toml")
    assert answer.code == 0, answer.err
    (page,) = begun.rglob("report.html")
    text = page.read_text()
    section = text[text.index('id="cost-title"') : text.index('id="reproduction-title"')]
    assert "3.07e+18" in section and "a swarm of 512 models, from this seed" in section
    assert not re.search(r"\d{10}", section)


def test_parts_add_up_to_what_the_ledgers_of_study_and_pool_hold(empty_root: Path, forked: Forks) -> None:
    study = empty_root / "study.toml"
    edit(study, 'strategy = "gradient"', 'strategy = "random"')
    for words in (["pool", "build", empty_root / "pool.toml"], ["search", study, "--merges", 5], ["confirm", study]):
        answer = forked.run(*words)
        assert answer.code == 0, answer.err
    bill = _bill(empty_root)
    assert list(bill.commands) == ["pool build", "search", "confirm"]
    taken = sum(one.processor_seconds for one in bill.commands.values())
    assert bill.billed_seconds == pytest.approx(taken) and bill.notes[-1] == OUTSIDE
    parts = {name: part.processor_seconds for name, part in bill.parts.items()}
    assert set(parts) == {"seed", "members", "search", "confirm", "other scores", REST} and min(parts.values()) > 0
    assert not any("of no command" in note or "not recorded" in note for note in bill.notes)
    printed = forked.run("cost", study)
    assert printed.code == 0 and REST in printed.out and "pool build" in printed.out
    found = json.loads(forked.run("cost", study, "--json").out)
    assert found["commands"]["confirm"]["times"] == 1
    assert found["total"]["processor_seconds"] == pytest.approx(taken)


def test_a_study_from_before_the_ledger_is_billed_and_says_so(begun_root: Path) -> None:
    bill = _bill(begun_root)
    assert REST not in bill.parts and bill.commands == {} and bill.notes[-1] == NO_LEDGER


def test_what_no_recorded_command_made_is_counted_and_said(begun: Path, forked: Forks) -> None:
    assert forked.run("search", begun / "study.toml", "--merges", 7).code == 0
    bill = _bill(begun)
    made = bill.total.trainings + bill.total.merges
    assert any(note.startswith(f"{made - 1} of {made} trainings and merges are of no command") for note in bill.notes)
    (search,) = bill.commands.values()
    assert 0 < bill.parts[REST].processor_seconds < search.processor_seconds, "the last merge is in the search"


def test_students_and_the_members_of_factors_are_parts_of_their_own(begun: Path) -> None:
    with api.open_study(begun / "study.toml") as study:
        study.distill(1)
        asked = settings_of(study._bench, ["recipe.tokens=6_000,3_000"])
        run_factors(study._bench, study.optuna, asked)
        bill = study.cost()
    distill, factors = bill.parts["distill"], bill.parts["ablate --factors"]
    student = 2 * study.config.distill.orders
    assert (distill.trainings, factors.trainings) == (student, 3), "the members of the pool's own recipe are members"
    assert distill.processor_seconds > 0 and factors.processor_seconds > 0
    assert distill.flops / distill.trained_tokens < factors.flops / factors.trained_tokens, "a student is smaller"
    assert bill.total.trainings == 4 + student + 3
