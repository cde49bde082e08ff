"""The seed of a pool is scored once for a table of windows; members load when a merge needs them."""

from pathlib import Path

import pytest

from studies.opened.on_pool import workbench
from studies.opened.proxy import Proxy
from studies.study_file.study_file import read_study_file


def test_the_seed_is_remembered_to_the_last_bit(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = read_study_file(root / "study.toml")
    with workbench(config, must_exist=False) as bench:
        table, store = bench.table("search"), bench.database.evaluations
        unkept = bench.proxy.seed_nats(table, "search", store.to_recall_from())
        scored = bench.proxy.seed_nats(table, "search", store)
        other = bench.proxy.seed_nats(bench.table("test"), "test", store)
    monkeypatch.setattr(Proxy, "make_resident", lambda *_: pytest.fail("the seed was scored again"))
    with workbench(config) as bench:
        recalled = bench.proxy.seed_nats(table, "search", bench.database.evaluations)
        assert "stacked" not in vars(bench.proxy), "no model was loaded"
    assert recalled.tolist() == scored.tolist() == unkept.tolist()
    assert len(other) != len(scored) or other.tolist() != scored.tolist()


def test_a_reader_keeps_nothing_of_the_seed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with workbench(read_study_file(root / "study.toml")) as bench:
        table, store = bench.table("search"), bench.database.evaluations.to_recall_from()
        bench.proxy.seed_nats(table, "search", store)
        monkeypatch.setattr(Proxy, "make_resident", lambda *_: pytest.fail("scored again, as it must be"))
        with pytest.raises(pytest.fail.Exception, match="scored again"):
            bench.proxy.seed_nats(table, "search", store)


def test_the_digest_of_a_loss_is_the_same_before_and_after_its_members_load(root: Path) -> None:
    with workbench(read_study_file(root / "study.toml")) as bench:
        before = bench.losses["search"].digest
        loaded = bench.proxy.stacked
        assert bench.proxy.loss(bench.target, "search").digest == before
        assert (
            str(loaded.dtype) == bench.proxy.members.dtype and loaded.digest_parts == bench.proxy.members.digest_parts
        )
