"""Tables at several scales are read by a column, by folders and by the names of files, or refused in one line."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from small_table import small_table

from objectives.stand_ins.scales import ScaledTables, ScalesConfig, check_scales_there, read_scales, row_of
from objectives.stand_ins.swarm_table import SwarmTable, write_swarm
from pool.errors import ConfigError

TABLE = small_table(10)
FEW = TABLE.take(range(3))


def _folders(root: Path, **tables: SwarmTable) -> Path:
    for name, table in tables.items():
        write_swarm(table, root / "swarm" / name.lstrip("_"))
    return root / "swarm"


def _column(root: Path, *, ratios: bool = True, metrics: bool = True, unique: bool = False) -> Path:
    """Write both scales into one table, with the column in one file or in both."""
    folder = root / "swarm"
    folder.mkdir()
    for file, has, values in (
        ("ratios.csv", ratios, dict(zip(TABLE.names, TABLE.weights.T, strict=True))),
        ("metrics.csv", metrics, TABLE.metrics),
    ):
        lines = [",".join(["run", *(["size"] if has else []), *values])]
        for scale, rows in (("70M", 10), ("410M", 3)):
            for row in range(rows):
                numbers = [repr(float(column[row])) for column in values.values()]
                run = f"{scale}-{row}" if unique else f"r{row}"
                lines.append(",".join([run, *([scale] if has else []), *numbers]))
        (folder / file).write_text("\n".join(lines) + "\n")
    return folder


def _read(folder: Path, target: str = "410M", **keys: object) -> ScaledTables:
    return read_scales(folder, ScalesConfig.model_validate({"target": target, **keys}))


def _same(found: SwarmTable, table: SwarmTable) -> bool:
    metrics = all(np.array_equal(found.metrics[name], values) for name, values in table.metrics.items())
    return metrics and np.allclose(found.weights, table.weights, atol=1e-15)


@pytest.mark.parametrize("unique", [False, True])
@pytest.mark.parametrize("columns", [(True, True), (True, False), (False, True)])
def test_a_column_in_either_file_names_the_scale(columns: tuple[bool, bool], unique: bool, tmp_path: Path) -> None:
    if not unique and columns != (True, True):
        with pytest.raises(ConfigError, match="run 'r0' is of 'size' '410M' here, .* or both files the column"):
            _read(_column(tmp_path, ratios=columns[0], metrics=columns[1]), column="size")
        return
    found = _read(_column(tmp_path, ratios=columns[0], metrics=columns[1], unique=unique), column="size")
    assert found.scale == "410M" and list(found.others) == ["70M"] and found.unseen is None
    assert _same(found.target, FEW) and _same(found.others["70M"], TABLE)
    assert found.target.names == TABLE.names and set(found.target.metrics) == set(TABLE.metrics)
    assert found.target.runs[0] == ("410M-0" if unique else "410M/r0")


def test_every_folder_is_a_scale_or_those_that_are_named(tmp_path: Path) -> None:
    folder = _folders(tmp_path, _70M=TABLE, _1B=TABLE, _410M=FEW)
    assert list(_read(folder).others) == ["70M", "1B"]  # by size
    named = _read(folder, "big", tables={"big": "410M", "small": "70M"})
    assert list(named.others) == ["small"] and _same(named.target, FEW)


def test_partitions_stand_in_the_target_s_order(tmp_path: Path) -> None:
    turned = replace(TABLE, names=TABLE.names[::-1], weights=TABLE.weights[:, ::-1])
    found = _read(_folders(tmp_path, _70M=turned, _410M=FEW))
    assert found.others["70M"].names == FEW.names and _same(found.others["70M"], TABLE)


def test_regmix_s_files_name_their_scale(tmp_path: Path) -> None:
    for scale, table in (("1m", TABLE), ("60m", FEW)):
        write_swarm(table, tmp_path / "made" / scale)
        for ours, theirs in (("ratios", "mixture"), ("metrics", "pile_loss")):
            (tmp_path / f"train_{theirs}_{scale}.csv").write_bytes(
                (tmp_path / "made" / scale / f"{ours}.csv").read_bytes()
            )
    config = ScalesConfig(target="60m")
    check_scales_there(tmp_path, config)
    found = read_scales(tmp_path, config)
    assert _same(found.target, FEW) and _same(found.others["1m"], TABLE)


def test_a_metric_of_one_scale_alone_is_unusable(tmp_path: Path) -> None:
    less = replace(TABLE, metrics={"tales": TABLE.metrics["tales"]})
    found = _read(_folders(tmp_path, _70M=less, _410M=FEW))
    assert list(found.target.metrics) == ["tales"]
    with pytest.raises(ConfigError, match="'manuals' is at scale 410M, and not at 70M"):
        found.target.check_metrics(["manuals"])


def _renamed(table: SwarmTable) -> SwarmTable:
    return replace(table, names=("code", "docs", "poems"))


def _doubled(table: SwarmTable) -> SwarmTable:
    return replace(table.take([0, 1, 2, 1]), runs=("a", "b", "c", "d"))


WRONG = {
    "unknown target": ({"_70M": TABLE, "_410M": FEW}, "1B", r"no run of that scale, but '70M' \(10 runs\), '410M'"),
    "one scale": ({"_410M": FEW}, "410M", "'410M' alone, .* leave \\[scales\\] out"),
    "other partitions": ({"_70M": _renamed(TABLE), "_410M": FEW}, "410M", "'poems' is at scale 70M, and not at 410M"),
    "one mixture twice": ({"_70M": _doubled(TABLE), "_410M": FEW}, "410M", "scale 70M: runs 'b' and 'd' have the same"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_joined_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    tables, target, said = WRONG[case]
    with pytest.raises(ConfigError, match=said) as refused:
        _read(_folders(tmp_path, **tables), target)
    assert "\n" not in str(refused.value)


def test_a_column_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'scale' is neither in .*ratios.csv .*'size'"):
        _read(_column(tmp_path), column="scale")


@pytest.mark.parametrize(("field", "said"), [("", "'size' is empty"), ("70M", "'70M' here, and of '410M' elsewhere")])
def test_a_run_of_no_or_two_scales_is_refused(field: str, said: str, tmp_path: Path) -> None:
    file = _column(tmp_path, unique=True) / "metrics.csv"
    file.write_text(file.read_text().replace("410M-1,410M", f"410M-1,{field}"))
    with pytest.raises(ConfigError, match=said):
        _read(file.parent, column="size")


def test_folders_without_a_table_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "swarm" / "empty").mkdir(parents=True)
    with pytest.raises(ConfigError, match="no folder with a table; name the scales by `column`"):
        check_scales_there(tmp_path / "swarm", ScalesConfig(target="410M"))
    with pytest.raises(ConfigError, match="no such folder"):
        check_scales_there(tmp_path / "gone", ScalesConfig(target="410M"))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"column": "size", "tables": {"a": "a", "b": "b"}}, "keep one of the two"),
        ({"tables": {"a": "a", "b": "b"}}, "none of \\[scales.tables\\]: a, b"),
        ({"target": "a", "tables": {"a": "a"}}, "one scale alone"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(keys: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ScalesConfig.model_validate({"target": "c", **keys})


def test_the_row_of_a_mixture_is_found_but_for_rounding() -> None:
    assert row_of(TABLE.weights[4] + 1e-9, TABLE.weights) == 4
    assert row_of(np.array([1.0, 0.0, 0.0]), TABLE.weights) is None
