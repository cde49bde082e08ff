"""Promises of what a corpus takes over from an earlier one: what is the same and nothing else, to the last byte."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from counted import counted_documents
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from tiny import rewrite_record, snapshot

from pool.config.pool_file import CorpusConfig, PoolFile
from pool.config.recipe import ModelShape
from pool.config.sources import PartitionSource, TextSource
from pool.corpus.files import digest_text
from pool.errors import CorpusError
from pool.files.records import read_record
from pool.tokens import reuse as module
from pool.tokens.prepared import CORPUS_RECORD, CorpusManifest, load_prepared
from pool.tokens.preparing import read_text, tokenise
from pool.tokens.reuse import Earlier
from pool.tokens.tokenizer import load_tokenizer, tokenizer_digest


@dataclass(frozen=True)
class Table:
    """Documents by number, and how a table is split; held-out tables are not."""

    documents: tuple[int, ...]
    how: str = ""
    held_out: bool = False

    @property
    def options(self) -> dict[str, object]:
        return {"": {}, "column": {"partition_by": "kind"}, "topic": {"cluster": {"k": 2}}}[self.how]


Tables = Mapping[str, Table]


def _text(number: int) -> str:
    subject = ("algebra of rings and fields", "rivers with their valleys and mountains")[number % 2]
    return f"document number {number} is about {subject}, on {number} pages"


def _config(folder: Path, tables: Tables, **options: object) -> PoolFile:
    """Write the tables' files anew, each in the order of its documents, and name them."""
    folder.mkdir(parents=True, exist_ok=True)
    partitions, held_out = {}, {}
    for name, table in tables.items():
        path = folder / f"{name}-{table.held_out}.jsonl"
        rows = [{"text": _text(number), "kind": "even" if number % 2 == 0 else "odd"} for number in table.documents]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        if table.held_out:
            held_out[name] = TextSource(files=(path,))
        else:
            partitions[name] = PartitionSource(files=(path,), **table.options)
    corpus = CorpusConfig(partitions=partitions, held_out=held_out, **options)
    return PoolFile(name="x", root=folder, corpus=corpus, model=ModelShape(context=8))


@dataclass(frozen=True)
class Made:
    """A prepared corpus, which tables were read for it, and how many documents that took."""

    manifest: CorpusManifest
    read: set[str]
    documents: int


@dataclass(frozen=True)
class Maker:
    """Makes corpora with one tokenizer."""

    tokenizer: object

    def make(self, config: PoolFile, folder: Path, *earlier: Path) -> Made:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        source = digest_text(config.corpus, config.context)
        found = Earlier.find(earlier, source, tokenizer_digest(self.tokenizer))
        with counted_documents() as documents:
            text = read_text(config.corpus, folder.parent, found)
        manifest = tokenise(text, self.tokenizer, config.corpus, folder, source)
        load_prepared(folder, manifest)
        tables = text.sections or dict.fromkeys(source.sections)
        return Made(manifest, tables.keys() - text.kept.keys(), len(documents))

    def again(self, before: PoolFile, after: PoolFile, folder: Path) -> Made:
        """Make a corpus, and another one that takes over what it can; it is as one that takes over nothing."""
        self.make(before, folder / "before")
        scratch = self.make(after, folder / "scratch")
        made = self.make(after, folder / "after", folder / "before")
        assert snapshot(folder / "after") == snapshot(folder / "scratch")
        assert made.manifest == scratch.manifest
        return made


@pytest.fixture(scope="module")
def maker(tiny_config: PoolFile) -> Maker:
    return Maker(load_tokenizer(tiny_config.folder / "tokenizer"))


A, B, C = (Table(tuple(range(start, start + 40))) for start in (0, 100, 200))
H, J = (Table(tuple(range(start, start + 8)), held_out=True) for start in (300, 400))
SHARES_WITH_A = replace(B, documents=(*B.documents, 0, 1, 2))


def _all(*names: str) -> set[str]:
    return {f"held_out/{name}" if name in "hi" else f"partitions/{name}" for name in names}


CHANGES: dict[str, tuple[Tables, Tables, set[str]]] = {
    "nothing": ({"a": A, "b": B, "h": H}, {"a": A, "b": B, "h": H}, set()),
    "one more": ({"a": A, "h": H}, {"a": A, "b": B, "h": H}, {"b"}),
    "one more before": ({"a": A, "h": H}, {"b": B, "a": A, "h": H}, {"b"}),
    "one more with documents of another": ({"a": A, "h": H}, {"a": A, "b": SHARES_WITH_A, "h": H}, {"b"}),
    "one more before what it shares": ({"a": A, "h": H}, {"b": SHARES_WITH_A, "a": A, "h": H}, {"a", "b"}),
    "one less": ({"a": A, "b": B, "h": H}, {"b": B, "h": H}, set()),
    "one less that shared": ({"a": A, "b": SHARES_WITH_A, "c": C, "h": H}, {"b": SHARES_WITH_A, "c": C, "h": H}, {"b"}),
    "another order": ({"a": A, "b": B, "h": H}, {"b": B, "a": A, "h": H}, set()),
    "another order of what shares": (
        {"a": A, "b": SHARES_WITH_A, "h": H},
        {"b": SHARES_WITH_A, "a": A, "h": H},
        {"a", "b"},
    ),
    "a change": ({"a": A, "b": B, "h": H}, {"a": replace(A, documents=(*A.documents, 50)), "b": B, "h": H}, {"a"}),
    "a change of what does not share": (
        {"a": A, "b": SHARES_WITH_A, "h": H},
        {"a": replace(A, documents=A.documents[:-1]), "b": SHARES_WITH_A, "h": H},
        {"a"},
    ),
    "a change of what shares": (
        {"a": A, "b": SHARES_WITH_A, "h": H},
        {"a": replace(A, documents=A.documents[1:]), "b": SHARES_WITH_A, "h": H},
        {"a", "b"},
    ),
    "another name": ({"a": A, "b": B, "h": H}, {"c": A, "b": B, "h": H}, {"c"}),
    "a held-out domain more": ({"a": A, "h": H}, {"a": A, "h": H, "i": J}, {"i"}),
    "a held-out domain less": ({"a": A, "h": H, "i": J}, {"a": A, "i": J}, set()),
    "a held-out domain that changed": ({"a": A, "h": H}, {"a": A, "h": replace(H, documents=H.documents[:-1])}, {"h"}),
    "split another way": ({"a": A, "b": B, "h": H}, {"a": replace(A, how="column"), "b": B, "h": H}, {"a"}),
}
WAYS: dict[str, tuple[str, dict[str, object]]] = {
    "whole": ("", {}),
    "by column": ("column", {}),
    "by topic": ("topic", {}),
    "nothing set aside": ("", {"held_out_share": 0}),
    "a number set aside": ("column", {"held_out_documents": 4}),
    "base units": ("", {"base_units_tokens": 150}),
    "base units of columns, little kept": ("column", {"base_units_tokens": 150, "train_tokens": 60}),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("change", CHANGES)
def test_only_what_changed_is_read_and_every_file_is_as_from_scratch(
    change: str, way: str, maker: Maker, tmp_path: Path
) -> None:
    how, options = WAYS[way]
    tables = [
        {name: one if one.held_out or one.how else replace(one, how=how) for name, one in some.items()}
        for some in CHANGES[change][:2]
    ]
    before, after = (
        _config(tmp_path / when, some, **options) for when, some in zip(("old", "new"), tables, strict=True)
    )
    expected = _all(*CHANGES[change][2])
    if change == "split another way" and how == "column":
        expected = set()
    made = maker.again(before, after, tmp_path)
    assert made.read == expected
    assert made.documents == sum(len(one.documents) for name, one in tables[1].items() if _all(name) & made.read)


own = st.integers(24, 30)
shared = st.sets(st.integers(0, 5), max_size=4)
SETTINGS: list[dict[str, object]] = [{}, {"held_out_documents": 4}, {"held_out_share": 0}, {"base_units_tokens": 120}]


@st.composite
def two_pools(draw: st.DrawFn) -> tuple[Tables, Tables, dict[str, object]]:
    """Tables that share documents, and the same after some were changed, went, came, or moved."""

    def table(number: int, *, held_out: bool) -> Table:
        start = 100 * (number + 1)
        documents = [*range(start, start + draw(own)), *(draw(shared) if not held_out else ())]
        return Table(tuple(documents), draw(st.sampled_from(["", "column"])) if not held_out else "", held_out)

    def pool(made: Tables) -> dict[str, Table]:
        first, *others = draw(st.permutations("pqrs"))
        names = draw(st.permutations([first, "h", *draw(st.sets(st.sampled_from([*others, "i"])))]))
        return {name: made[name] for name in names}

    made, again = (
        {name: table(number, held_out=name in "hi") for number, name in enumerate("pqrshi")} for _ in range(2)
    )
    before = pool(made)
    changed = draw(st.sets(st.sampled_from("pqrshi"), max_size=2))
    after = pool({name: again[name] if name in changed else made[name] for name in made})
    return before, after, draw(st.sampled_from(SETTINGS))


def _documents(tables: Tables) -> dict[str, tuple[Table, set[int]]]:
    """Each table with the documents that no partition before it has."""
    there: set[int] = set()
    found = {}
    for name, one in sorted(tables.items(), key=lambda item: item[1].held_out):
        found[name] = (one, set(one.documents) - there)
        there |= set(one.documents)
    return found


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(two_pools())
def test_a_table_is_read_if_and_only_if_it_or_what_is_left_for_it_is_another(
    maker: Maker, tmp_path: Path, pools: tuple[Tables, Tables, dict[str, object]]
) -> None:
    *tables, options = pools
    before, after = (
        _config(tmp_path / when, some, **options) for when, some in zip(("old", "new"), tables, strict=True)
    )
    old, new = map(_documents, tables)
    made = maker.again(before, after, tmp_path)
    assert made.read == {next(iter(_all(name))) for name in new if old.get(name) != new[name]}


def test_what_is_taken_over_is_not_written_again(maker: Maker, tmp_path: Path) -> None:
    before, after = {"a": A, "h": H}, {"a": A, "b": B, "h": H}
    maker.again(_config(tmp_path / "old", before), _config(tmp_path / "new", after), tmp_path)
    old, new = tmp_path / "before", tmp_path / "after"
    same = {path for path in snapshot(new) if (old / path).exists() and (old / path).samefile(new / path)}
    of_a = {"train/a.npy", "documents/partitions/a.npy", "held_out/a.search.safetensors", "held_out/a.test.safetensors"}
    of_h = {"documents/held_out/h.npy", "held_out/h.search.safetensors", "held_out/h.test.safetensors"}
    assert same == of_a | of_h


def test_where_there_are_no_links_files_are_copied(
    maker: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*paths: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(module.os, "link", refused)
    before, after = {"a": A, "h": H}, {"a": A, "b": B, "h": H}
    made = maker.again(_config(tmp_path / "old", before), _config(tmp_path / "new", after), tmp_path)
    assert made.read == _all("b")
    assert not (tmp_path / "before/train/a.npy").samefile(tmp_path / "after/train/a.npy")


BOTH = {"a": A, "b": B, "h": H}


@pytest.mark.parametrize(
    "options",
    [
        {"held_out_share": 0.2},
        {"train_tokens": 90},
        {"held_out_tokens": 30},
        {"held_out_document_tokens": 9},
        {"base_units_tokens": 90},
        {"drop_overlap": True},
    ],
)
def test_under_other_settings_everything_is_read(maker: Maker, tmp_path: Path, options: dict) -> None:
    before, after = _config(tmp_path / "old", BOTH), _config(tmp_path / "new", BOTH, **options)
    assert maker.again(before, after, tmp_path).read == _all("a", "b", "h")


def test_groups_alone_are_drawn_anew_without_reading(maker: Maker, tmp_path: Path) -> None:
    before = _config(tmp_path / "old", BOTH)
    after = _config(tmp_path / "new", BOTH, groups={"both": ("a", "b")})
    made = maker.again(before, after, tmp_path)
    assert made.read == set() and made.manifest.groups == {"both": ("a", "b")}


def test_another_context_reads_everything(maker: Maker, tmp_path: Path) -> None:
    before = _config(tmp_path / "old", BOTH)
    after = before.model_copy(update={"model": ModelShape(context=16)})
    assert maker.again(before, after, tmp_path).read == _all("a", "b", "h")


def test_another_tokenizer_takes_over_nothing(maker: Maker, tmp_path: Path) -> None:
    config = _config(tmp_path / "old", BOTH)
    maker.make(config, tmp_path / "before")
    assert Earlier.find(
        [tmp_path / "before"], digest_text(config.corpus, config.context), tokenizer_digest(maker.tokenizer)
    ).sections
    assert Earlier.find([tmp_path / "before"], digest_text(config.corpus, config.context), "another").sections == {}


def test_where_overlap_is_dropped_everything_is_read_as_any_held_out_text_decides(maker: Maker, tmp_path: Path) -> None:
    options = {"drop_overlap": True, "held_out_share": 0}
    before = _config(tmp_path / "old", {"a": A, "h": H}, **options)
    after = _config(tmp_path / "new", BOTH, **options)
    assert maker.again(before, after, tmp_path).read == _all("a", "b", "h")
    assert not (tmp_path / "before/tables.json").exists()


def test_the_demo_is_read_whole(maker: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {name: [_text(number) for number in one.documents] for name, one in (("a", A), ("b", B), ("h", H))}
    monkeypatch.setattr("pool.tokens.preparing.demo_partitions", lambda: {name: texts[name] for name in "ab"})
    monkeypatch.setattr("pool.tokens.preparing.demo_held_out", lambda: {"h": texts["h"]})
    config = PoolFile(name="x", root=tmp_path, corpus=CorpusConfig(source="demo"), model=ModelShape(context=8))
    assert maker.again(config, config, tmp_path).documents == 88


def _without_records(corpus: Path) -> None:
    (corpus / "tables.json").unlink()


def _broken_records(corpus: Path) -> None:
    (corpus / "tables.json").write_text('{"tables": 1}')


def _records_of_another_corpus(corpus: Path) -> None:
    rewrite_record(corpus / "tables.json", lambda content: content.update(source_digest="another"))


def _altered_stream(corpus: Path) -> None:
    path = corpus / "train/a.npy"
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")


def _altered_windows(corpus: Path) -> None:
    path = corpus / "held_out/a.test.safetensors"
    arrays = load_file(path)
    save_file({**arrays, "inputs": arrays["inputs"] + 1}, path)


def _altered_hashes(corpus: Path) -> None:
    path = corpus / "documents/partitions/a.npy"
    path.write_bytes(path.read_bytes()[:-1])


def _no_hashes(corpus: Path) -> None:
    (corpus / "documents/partitions/a.npy").unlink()


@pytest.mark.parametrize(
    ("damage", "read"),
    [
        (_without_records, "abh"),
        (_broken_records, "abh"),
        (_records_of_another_corpus, "abh"),
        (shutil.rmtree, "abh"),
        (_altered_stream, "a"),
        (_altered_windows, "a"),
        (_altered_hashes, "a"),
        (_no_hashes, "a"),
    ],
)
def test_what_is_not_recorded_or_damaged_is_read(
    damage: Callable[[Path], None], read: str, maker: Maker, tmp_path: Path
) -> None:
    config = _config(tmp_path / "old", BOTH)
    maker.make(config, tmp_path / "before")
    maker.make(config, tmp_path / "scratch")
    damage(tmp_path / "before")
    assert maker.make(config, tmp_path / "after", tmp_path / "before").read == _all(*read)
    assert snapshot(tmp_path / "after") == snapshot(tmp_path / "scratch")


def test_of_several_corpora_the_one_with_most_to_take_over_is_chosen(maker: Maker, tmp_path: Path) -> None:
    config = _config(tmp_path / "old", {**BOTH, "c": C})
    maker.make(_config(tmp_path / "one", {"a": A, "h": H}), tmp_path / "first")
    maker.make(_config(tmp_path / "two", BOTH), tmp_path / "second")
    corpora = tmp_path / "first", tmp_path / "second", tmp_path / "nowhere"
    assert maker.make(config, tmp_path / "after", *corpora).read == _all("c")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ({"a": A, "h": H}, {"a": A, "b": replace(A, held_out=False), "h": H}, "b: all 40 documents are duplicates of "),
        ({"a": A, "h": H}, {"a": A, "b": Table((*B.documents, 300)), "h": H}, "the same document is in partition 'b' "),
        (
            {"a": A, "h": H},
            {"a": A, "h": H, "i": replace(J, documents=(*J.documents, 0))},
            "the same document is in ",
        ),
        ({"a": A, "h": H}, {"a": A, "h": H, "i": H}, "the same document is in held-out domain 'h' "),
        (
            {"a": replace(A, how="column"), "h": H},
            {"a": replace(A, how="column"), "a-odd": B, "h": H},
            "split into 'a-odd'",
        ),
        (
            {"a": replace(A, how="column"), "h": H},
            {"a": replace(A, how="column"), "a-odd": J, "h": H},
            "held-out domain 'a-odd' has the name of a partition",
        ),
    ],
)
def test_what_clashes_with_text_that_was_not_read_is_refused_as_ever(
    before: Tables, after: Tables, message: str, maker: Maker, tmp_path: Path
) -> None:
    maker.make(_config(tmp_path / "old", before), tmp_path / "before")
    config = _config(tmp_path / "new", after)
    for earlier in ([], [tmp_path / "before"]):
        with pytest.raises(CorpusError, match=message):
            maker.make(config, tmp_path / "after", *earlier)


@pytest.mark.parametrize(("name", "held_out"), [("a-01", False), ("a-01", True)])
def test_what_has_the_name_of_a_base_unit_that_was_not_made_again_is_refused(
    name: str, held_out: bool, maker: Maker, tmp_path: Path
) -> None:
    options: dict[str, object] = {"base_units_tokens": 150}
    made = maker.make(_config(tmp_path / "old", {"a": A, "h": H}, **options), tmp_path / "before")
    assert name in made.manifest.partitions
    config = _config(
        tmp_path / "new", {"a": A, name: J if held_out else Table(tuple(range(900, 940))), "h": H}, **options
    )
    for earlier in ([], [tmp_path / "before"]):
        with pytest.raises(CorpusError, match=f"'{name}'.* rename"):
            maker.make(config, tmp_path / "after", *earlier)


def test_a_partition_and_a_held_out_domain_of_one_name_are_told_apart(maker: Maker, tmp_path: Path) -> None:
    options: dict[str, object] = {"held_out_share": 0}
    before = _config(tmp_path / "old", {"a": A, "h": H}, **options)
    held_out = {"a": before.corpus.held_out["h"]}
    both = before.model_copy(update={"corpus": before.corpus.model_copy(update={"held_out": held_out})})
    made = maker.again(before, both, tmp_path)
    assert made.read == {"held_out/a"}
    assert maker.again(both, both, tmp_path).read == set()


def test_the_record_says_what_each_table_gave(maker: Maker, tmp_path: Path) -> None:
    maker.make(_config(tmp_path / "old", {"a": A, "b": SHARES_WITH_A, "h": H}), tmp_path / "before")
    tables = json.loads((tmp_path / "before/tables.json").read_text())["tables"]
    assert {name: one["own"] for name, one in tables.items()} == {
        "partitions/a": 40,
        "partitions/b": 40,
        "held_out/h": 8,
    }
    manifest = read_record(tmp_path / "before" / CORPUS_RECORD, CorpusManifest)
    assert [unit for one in tables.values() for units in one["units"].values() for unit in units] == list(
        manifest.partitions
    )
    assert [name for one in tables.values() for name in one["domains"]] == list(manifest.search)
