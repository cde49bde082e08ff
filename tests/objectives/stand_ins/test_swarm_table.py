"""Tables as people have them: what has one meaning is read and said, what has two is refused with its place."""

import csv
import io
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from objectives.stand_ins.swarm_table import SwarmTable, read_swarm, read_swarms
from pool.errors import ConfigError

NAMES, METRICS = ("web", "code", "math, école"), ("loss_x", "loss_y")
RUNS = tuple(f"r{run:02}" for run in range(10))


@dataclass(frozen=True)
class Dialect:
    """How a program writes a table."""

    separator: str = ","
    decimal: str = "."
    encoding: str = "utf-8"
    line_end: str = "\n"
    key: str | None = "run"
    unit: str = ""
    all_quoted: bool = False
    ending: str = ""
    blank: bool = False
    separator_line: bool = False

    def file(self, names: Sequence[str], runs: Sequence[str], rows: np.ndarray, *, unit: str) -> bytes:
        """Return the bytes of a table; without a key the runs stand in a column without a name."""
        text = io.StringIO()
        quoting = csv.QUOTE_ALL if self.all_quoted else csv.QUOTE_MINIMAL
        writer = csv.writer(text, delimiter=self.separator, lineterminator=self.ending + self.line_end, quoting=quoting)
        if self.separator_line:
            text.write(f"sep={self.separator}{self.line_end}")
        writer.writerow(["" if self.key is None else self.key, *names])
        for run, row in zip(runs, rows, strict=True):
            if self.blank:
                text.write(self.line_end)
            writer.writerow([run, *(self._number(number, unit) for number in row)])
        return text.getvalue().encode(self.encoding)

    def _number(self, number: float, unit: str) -> str:
        digits = f"{100 * number if unit else number:.9f}".replace(".", self.decimal)
        return f"{digits} %" if unit == "%" else digits


@st.composite
def dialects(draw: st.DrawFn) -> Dialect:
    separator = draw(st.sampled_from(",;\t|"))
    return Dialect(
        separator,
        draw(st.sampled_from(".,")),
        draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])),
        draw(st.sampled_from(["\n", "\r\n", "\r"])),
        draw(st.sampled_from(["run", "Run", " RUN ", "run_id", "Run ID", "id", "index", None, "Unnamed: 0"])),
        draw(st.sampled_from(["", "%", "100"])),
        draw(st.booleans()),
        draw(st.sampled_from(["", separator, 3 * separator])),
        draw(st.booleans()),
        draw(st.booleans()),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("swarm")


def _drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(3), len(RUNS)), 2 + rng.random((len(RUNS), 2))


def _write(folder: Path, ratios: bytes | str, metrics: bytes | str) -> Path:
    for name, content in (("ratios.csv", ratios), ("metrics.csv", metrics)):
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


@given(dialects(), dialects(), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_a_table_reads_the_same_in_every_dialect(folder: Path, one: Dialect, other: Dialect, seed: int) -> None:
    weights, losses = _drawn(seed)
    _write_in(folder, one, Dialect(**{**other.__dict__, "key": one.key}), weights, losses)
    table = read_swarm(folder)
    assert (table.runs, table.names, tuple(table.metrics)) == (RUNS, NAMES, METRICS)
    assert np.allclose(table.weights, weights, rtol=0, atol=1e-8)
    assert np.allclose(np.array(list(table.metrics.values())).T, losses, rtol=0, atol=1e-9)


def _write_in(folder: Path, one: Dialect, other: Dialect, weights: np.ndarray, losses: np.ndarray) -> None:
    order = np.random.default_rng(0).permutation(len(RUNS))
    ratios = one.file(NAMES, RUNS, weights, unit=one.unit)
    _write(folder, ratios, other.file(METRICS, [RUNS[at] for at in order], losses[order], unit=""))


RATIOS = "run,web,code,math\n" + "".join(f"r{run},0.5,0.25,0.25\n" for run in range(4))
LOSSES = "run,loss_x,loss_y\n" + "".join(f"r{run},3.{run}5,2.5\n" for run in range(4))

Change = Callable[[str], str]
TAKEN: dict[str, tuple[Change, Change, str]] = {
    "semicolons and decimal commas": (
        lambda text: text.replace(",", ";").replace(".", ","),
        lambda text: text.replace(",", ";").replace(".", ","),
        "fields are separated by semicolons; decimal commas",
    ),
    "three decimals beside a file that decides": (
        lambda text: text.replace(",", ";").replace(".", ","),
        lambda text: text.replace(",", ";").replace("5;2.5", "25;2,5").replace("3.", "3,"),
        "metrics.csv: fields are separated by semicolons; decimal commas",
    ),
    "spaces": (lambda text: text.replace(",", "  "), str, "fields are separated by spaces"),
    "percent": (lambda text: text.replace("0.5", "50").replace("0.25", "25"), str, "percent: divided by 100"),
    "percent signs": (lambda text: text.replace("0.5", "50%").replace("0.25", "25 %"), str, "percent: divided by 100"),
    "rounded percent": (lambda text: text.replace("0.5", "50.4").replace("0.25", "25"), str, "weights are percent"),
    "rounded shares": (lambda text: text.replace("0.5", "0.503"), str, "weights sum to 1.003: divided by"),
    "a solver's zero": (lambda text: text.replace("r0,0.5,0.25,0.25", "r0,-1e-17,0.5,0.5"), str, ""),
    "plain exponents, signs and spaces": (
        lambda text: text.replace("r0,0.5,0.25", "r0,+.5, 2.5E-1 ").replace("r1,0.5", "r1,5e-1"),
        lambda text: text.replace("2.5", "\u22122.5"),
        "",
    ),
    "ids as numbers": (
        lambda text: text.replace("r", "").replace("un", "run").replace("un,", "run,", 0),
        lambda text: text.replace("\nr", "\n00").replace(",3.", ".0,3."),
        "",
    ),
    "names of the ids": (lambda text: text.replace("run", "Run ID"), lambda text: text.replace("run", "RUN_ID"), ""),
    "different names of the ids": (
        lambda text: text.replace("run", "id"),
        str,
        "metrics.csv: 'run' is joined with 'id' of ratios.csv",
    ),
    "an index without a name": (
        lambda text: text.replace("run", ""),
        lambda text: text.replace("run", "Unnamed: 0"),
        "the first column has no name: taken for the runs",
    ),
    "an index beside the runs": (
        lambda text: text.replace("\n", "\n7,", 4).replace("run", ",run"),
        str,
        "ratios.csv: the first column has no name: left out",
    ),
    "words": (
        lambda text: text.replace("\n", ",a note\n").replace(",a note", ",notes", 1),
        lambda text: text.replace("\n", ",125m\n").replace(",125m", ",model", 1),
        "ratios.csv: text is left out: 'notes'",
    ),
    "metrics of tabs": (str, lambda text: text.replace(",", "\t"), "metrics.csv: fields are separated by tabs"),
    "a metric in percent": (
        str,
        lambda text: text.replace("2.5", "50%"),
        "metrics.csv: column 'loss_y' is percent: divided by 100",
    ),
    "empty ends": (
        lambda text: text.replace("\n", ",,\n") + ",,,,,\n\n",
        lambda text: text.replace("\n", ",\n").replace("loss_y,", "loss_y"),
        "",
    ),
}


@pytest.mark.parametrize("case", TAKEN)
def test_what_has_one_meaning_is_taken_and_noted(case: str, tmp_path: Path) -> None:
    ratios, metrics, note = TAKEN[case]
    assert (ratios(RATIOS), metrics(LOSSES)) != (RATIOS, LOSSES)
    table = read_swarm(_write(tmp_path, ratios(RATIOS), metrics(LOSSES)))
    assert len(table.runs) == 4 and table.names == ("web", "code", "math")
    expected = [0.0, 0.5, 0.5] if case == "a solver's zero" else [0.5, 0.25, 0.25]
    assert table.weights[0] == pytest.approx(np.array(expected), abs=3e-3) and (table.weights >= 0).all()
    assert [round(value % 1, 3) for value in table.metrics["loss_x"]][1] in (0.15, 0.125)
    noted = "\n".join(table.notes)
    assert note in noted and len(noted.splitlines()) <= 2 and bool(note) == bool(noted)


REFUSED: dict[str, tuple[Change, Change, str]] = {
    "three decimals that may be thousands": (
        str,
        lambda text: text.replace(",", ";").replace("5;2.5", "25;2").replace("3.", "3,"),
        "metrics.csv: line 2, run 'r0', column 'loss_x': '3,025' may mean 3.025 or 3025; write it without doubt",
    ),
    "thousands": (
        lambda text: text.replace("r1,0.5", 'r1,"1,234.5"'),
        str,
        "ratios.csv: line 3, run 'r1', column 'web': '1,234.5' has thousands separators; write it without them",
    ),
    "decimal commas without quotation marks": (
        lambda text: text.replace("0.", "0,"),
        str,
        "ratios.csv: line 2 has 7 fields where the first line has 4; a comma within a field, as in 0,5, needs",
    ),
    "a sum of 0.98": (
        lambda text: text.replace("r2,0.5", "r2,0.48"),
        str,
        "ratios.csv: line 4, run 'r2': the weights must sum to 1 (within 0.01 for rounding), or to 100 as percent: "
        "they sum to 0.98; divide each run's weights by their sum, or set normalise = true in the study file",
    ),
    "shares and percent": (
        lambda text: text.replace("r2,0.5,0.25,0.25", "r2,50,25,25"),
        str,
        "line 4, run 'r2': the weights must sum to 1 (within 0.01 for rounding), or to 100 as percent: they sum to 100",
    ),
    "a number that is no weight": (
        lambda text: text.replace("\n", ",1000\n").replace(",1000", ",steps", 1),
        str,
        "without column 'steps' they sum to 1: remove the column if it is no partition",
    ),
    "blank lines before a fault": (
        lambda text: text.replace("\n", "\n\n", 2).replace("r3,0.5", "r3,much"),
        str,
        "ratios.csv: line 7, run 'r3', column 'web': expected a number, got 'much'; correct it, or remove the run",
    ),
    "names for all columns but the first": (
        lambda text: text.replace("run,", ""),
        str,
        "line 2 has 4 fields where the first line has 3; if the first column is the one without a name, give it one",
    ),
    "lines within a name": (
        lambda text: text.replace("math", '"math\nand more"').replace("r3,0.5", "r3,much"),
        str,
        "ratios.csv: line 6, run 'r3', column 'web': expected a number",
    ),
    "a sep line before a fault": (
        lambda text: "sep=;\n" + text.replace(",", ";").replace("r3;0.5", "r3;-0.5"),
        str,
        "ratios.csv: line 6, run 'r3', column 'web': a weight is never negative, got -0.5; write 0 for none",
    ),
    "an open quotation mark": (
        lambda text: text.replace("r2,", '"r2,'),
        str,
        "ratios.csv: line 4: a quotation mark is opened and never closed; is a quotation mark missing?",
    ),
    "a field without end": (
        lambda text: text.replace("r2,", 'r2,"' + 200_000 * "x"),
        str,
        "ratios.csv: line 4: a field is longer than 131072 characters; is a quotation mark missing?",
    ),
    "a long field": (
        lambda text: text.replace("r2,0.5", f"r2,{100_000 * 'x'}"),
        str,
        f"line 4, run 'r2', column 'web': expected a number, got '{60 * 'x'}...'; correct it, or remove the run",
    ),
    "runs twice": (
        lambda text: text.replace("r3", "r1"),
        str,
        "ratios.csv: run 'r1' comes more than once, in lines 3 and 5; every run needs its own",
    ),
    "a column twice": (lambda text: text.replace("code", "web"), str, "comes more than once, as columns 2 and 3"),
    "runs in one file alone": (
        lambda text: text.replace("r1", "s1").replace("r2", "s2"),
        str,
        "metrics.csv: run 's1' of ratios.csv is missing (and 1 more, 's2'); add it, or remove line 3 of ratios.csv",
    ),
    "a column without a name": (
        lambda text: text.replace("code", ""),
        str,
        "ratios.csv: column 3 has no name; name or remove it",
    ),
    "a count of rows against names": (
        lambda text: text.replace("run", ""),
        str,
        "share no column that identifies runs; name it one of run_id, run, index, name in both (ratios.csv has ''; "
        "metrics.csv has 'run')",
    ),
    "percent in part of a column": (
        lambda text: text.replace("r1,0.5", "r1,50%"),
        str,
        "column 'web': '50%' in line 3 is percent, '0.5' in line 2 is not; write all of them alike",
    ),
    "no weight at all": (lambda text: text.replace("r1,0.5,0.25,0.25", "r1,0,0,0"), str, "they sum to 0; give the run"),
    "words alone": (
        str,
        lambda text: text.replace("3.", "x").replace("2.", "y"),
        "column 'loss_x' is text, not numbers",
    ),
    "an empty file": (lambda text: "", str, "expected a line of column names and a line for each run: the file is emp"),
    "a heading alone": (str, lambda text: text[:18], "a line for each run: there is only the former"),
    "a workbook": (lambda text: "PK\x03\x04 ...", str, "ratios.csv: not a CSV file but an Excel workbook or a zip ar"),
    "a pointer": (lambda text: "version https://git-lfs.github.com/spec/v1\n", str, "but a pointer of Git LFS; fetch"),
    "zero bytes": (
        lambda text: text.replace("r2", "r\0"),
        str,
        "ratios.csv: line 4: not a CSV file: there is a zero b",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_two_meanings_or_none_is_refused_with_its_place(case: str, tmp_path: Path) -> None:
    ratios, metrics, message = REFUSED[case]
    with pytest.raises(ConfigError) as caught:
        read_swarm(_write(tmp_path, ratios(RATIOS), metrics(LOSSES))).check_metrics(METRICS)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_any_sum_is_taken_where_the_study_file_says_so(tmp_path: Path) -> None:
    _write(tmp_path, RATIOS.replace("r1,0.5,0.25,0.25", "r1,2e9,1e9,1e9"), LOSSES)
    table, _ = read_swarms(tmp_path, normalise=True)
    assert (table.weights == [0.5, 0.25, 0.25]).all()
    assert table.notes == (f"{tmp_path}/ratios.csv: weights sum to 1 to 4e+09: divided by their sums",)
    _write(tmp_path, RATIOS.replace("r1,0.5,0.25,0.25", "r1,-2,1,1"), LOSSES)
    with pytest.raises(ConfigError, match="a weight is never negative, got -2"):
        read_swarms(tmp_path, normalise=True)


LACKING = {
    "NaN": ("NaN", "line 3, run 'r1', column 'loss_y': expected a finite number, got 'NaN'; correct it, or remove the"),
    "infinity": ("inf", "expected a finite number, got 'inf'"),
    "nothing": ("", "expected a number, got ''"),
    "no answer": ("#N/A", "expected a number, got '#N/A'"),
    "a word": ("diverged", "expected a number, got 'diverged'"),
    "a huge number": ("1e999", "expected a finite number, got '1e999'"),
}


@pytest.mark.parametrize("case", LACKING)
def test_a_metric_without_all_numbers_matters_only_where_it_is_used(case: str, tmp_path: Path) -> None:
    text, message = LACKING[case]
    table = read_swarm(_write(tmp_path, RATIOS, LOSSES.replace("r1,3.15,2.5", f"r1,3.15,{text}")))
    assert list(table.metrics) == ["loss_x"] and len(table.runs) == 4
    table.check_metrics(["loss_x"])
    with pytest.raises(ConfigError) as caught:
        table.check_metrics(["loss_x", "loss_y"])
    assert message in str(caught.value) and table.take([0, 1]).unusable == table.unusable
    assert table.notes == (f"{tmp_path}/metrics.csv: metric 'loss_y' lacks a number for some runs: left out",)


def test_runs_are_joined_by_their_names_before_a_count_of_rows(tmp_path: Path) -> None:
    """A sorted file keeps the names of its runs, and may count its rows anew."""
    counted = LOSSES.replace("run", "Run").splitlines()
    counted = [f"index,{counted[0]}", *(f"{at},{line}" for at, line in enumerate(counted[:0:-1]))]
    ratios = RATIOS.replace("run", "index,Run").replace("\nr", "\n9,r")
    for at in range(4):
        ratios = ratios.replace("\n9,r", f"\n{at},r", 1)
    table = read_swarm(_write(tmp_path, ratios, "\n".join(counted)))
    assert table.runs == ("r0", "r1", "r2", "r3") and table.metrics["loss_x"].tolist() == [3.05, 3.15, 3.25, 3.35]


def test_runs_without_a_metric_that_is_used_are_named(tmp_path: Path) -> None:
    table = read_swarm(_write(tmp_path, RATIOS, LOSSES.replace("2.5", "", 3)))
    with pytest.raises(
        ConfigError, match=r"got '', and none for 2 more \('r1', 'r2'\); .* remove these runs from both"
    ):
        table.check_metrics(["loss_y"])


def test_a_metric_that_lacks_numbers_in_the_test_runs_is_unusable_too(tmp_path: Path) -> None:
    for split, change in (("train", str), ("test", lambda text: text.replace("r1,3.15,2.5", "r1,3.15,nan"))):
        (tmp_path / f"{split}_mixture_1m.csv").write_text(RATIOS)
        (tmp_path / f"{split}_pile_loss_1m.csv").write_text(change(LOSSES))
    train, unseen = read_swarms(tmp_path)
    assert unseen is not None and list(train.metrics) == list(unseen.metrics) == ["loss_x"]
    with pytest.raises(ConfigError, match="test_pile_loss_1m.csv: line 3"):
        train.check_metrics(["loss_y"])


def test_other_files_and_folders_are_refused_with_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "mixes.csv").write_text(RATIOS)
    with pytest.raises(ConfigError, match="found 0 of the latter; the folder has 'mixes.csv'"):
        read_swarm(tmp_path)
    with pytest.raises(ConfigError, match="mixes.csv: a file; give its folder, with ratios.csv and metrics.csv"):
        read_swarm(tmp_path / "mixes.csv")
    _write(tmp_path, RATIOS.encode("utf-16")[:-1], LOSSES)
    with pytest.raises(ConfigError, match=r"ratios.csv: line 5: not a CSV file in UTF-16: byte 0x0a"):
        read_swarm(tmp_path)
    (tmp_path / "ratios.csv").rename(tmp_path / "ratios.tsv")
    (tmp_path / "ratios.tsv").write_text(RATIOS.replace(",", "\t"))
    assert read_swarm(tmp_path).notes == (f"{tmp_path}/ratios.tsv: fields are separated by tabs",)


def _plainly(folder: Path) -> tuple[list[str], np.ndarray, np.ndarray] | None:
    """Read a swarm as strictly as can be: runs, weights and metrics; None unless all is plain."""
    try:
        tables = []
        for name in ("ratios.csv", "metrics.csv"):
            rows = list(csv.reader(io.StringIO((folder / name).read_text(encoding="utf-8"), newline=""), strict=True))
            numbers = {row[0]: [float(field) for field in row[1:]] for row in rows[1:]}
            even = {len(row) for row in rows} == {len(rows[0])} and rows[0][0] == "run"
            if not even or len(numbers) < len(rows) - 1 or not np.isfinite(list(numbers.values())).all():
                return None
            tables.append(numbers)
    except (ValueError, IndexError, csv.Error):
        return None
    weights, metrics = tables
    table = np.array(list(weights.values()))
    if {*weights} != {*metrics} or (table < 0).any() or any(abs(math.fsum(row) - 1) > 0.01 for row in table):
        return None
    return list(weights), table / table.sum(axis=1, keepdims=True), np.array([metrics[run] for run in weights])


def _check_reading(folder: Path, original: SwarmTable | None) -> None:
    """Read: one clear line, or a table that differs from the original in one place at most."""
    plain = _plainly(folder)
    try:
        table = read_swarm(folder)
    except ConfigError as error:
        assert plain is None, f"{error}: refused, though plain"
        assert "\n" not in str(error) and len(str(error)) < 700 and ".csv" in str(error)
        return
    metrics = np.array(list(table.metrics.values())).T
    assert np.isfinite(metrics).all() and np.allclose(table.weights.sum(axis=1), 1) and (table.weights >= 0).all()
    assert len({*table.runs}) == len(table.runs)
    if plain is not None:
        assert list(table.runs) == plain[0] and np.array_equal(table.weights, plain[1])
        assert np.array_equal(metrics, plain[2])
    if original is not None:
        assert table.weights.shape == original.weights.shape
        assert (np.abs(table.weights - original.weights).max(axis=1) > 1e-9).sum() <= 1
        both = [name for name in table.metrics if name in original.metrics]
        changed = sum((table.metrics[name] != original.metrics[name]).sum() for name in both)
        assert changed <= 1 and len(both) >= 1 and len(table.metrics) + len(table.unusable) == len(original.metrics)


def _mutated(data: bytes, rng: random.Random) -> bytes:
    """Replace, remove or insert one byte."""
    at, kind = rng.randrange(len(data)), rng.randrange(3)
    byte = bytes([rng.choice([rng.randrange(256), *b',;.\t"\n\r -+e0123456789%'])])
    return data[:at] + (b"" if kind == 0 else byte) + data[at + (kind < 2) :]


MUTATED = (
    Dialect(),
    Dialect(";", ",", "utf-8-sig", "\r\n"),
    Dialect("\t", ".", "utf-16"),
    Dialect(";", ",", "cp1252", unit="%", all_quoted=True),
    Dialect(unit="100", key=None),
)


def _check_mutations(folder: Path, seed: int) -> None:
    rng, dialect = random.Random(seed), MUTATED[seed % len(MUTATED)]
    _write_in(folder, dialect, dialect, *_drawn(seed))
    original = read_swarm(folder)
    path = folder / ("ratios.csv" if seed // len(MUTATED) % 2 else "metrics.csv")
    path.write_bytes(_mutated(path.read_bytes(), rng))
    _check_reading(folder, original)


def _check_noise(folder: Path, seed: int) -> None:
    rng = random.Random(seed)
    _write_in(folder, Dialect(), Dialect(), *_drawn(seed))
    letters = rng.choice([bytes(range(256)), b'run,loss;web\t.0123456789\n"', bytes(range(32, 127)) + b"\n"])
    noise = bytes(rng.choice(letters) for _ in range(rng.randrange(200)))
    (folder / rng.choice(["ratios.csv", "metrics.csv"])).write_bytes(rng.choice([b"", b"run,a\n"]) + noise)
    _check_reading(folder, None)


@pytest.mark.parametrize("check", [_check_mutations, _check_noise])
def test_damaged_bytes_give_one_clear_line_or_the_right_answer(
    check: Callable[[Path, int], None], folder: Path
) -> None:
    for seed in range(150):
        check(folder, seed)


@pytest.mark.long
@pytest.mark.parametrize("check", [_check_mutations, _check_noise])
def test_many_damaged_bytes_give_one_clear_line_or_the_right_answer(
    check: Callable[[Path, int], None], folder: Path
) -> None:
    for seed in range(1000, 5000):
        check(folder, seed)
