"""The public API: a pool, a study, its answers and figures, in the words of the documentation."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from small_table import BEST_FOR_TALES, write_small_study
from tiny import edit

import mixscout

LIGHT = ("torch", "transformers", "datasets", "sklearn", "matplotlib")


@pytest.fixture(scope="module")
def searched(built_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[mixscout.Study]:
    """A study on the tiny pool, searched to its budget."""
    folder = tmp_path_factory.mktemp("api")
    study = folder / "study.toml"
    study.write_text((built_root / "study.toml").read_text())
    edit(study, 'pool = "pool.toml"', f'pool = "{built_root / "pool.toml"}"\ndatabase = "own.db"')
    with mixscout.open_study(study) as opened:
        opened.search()
        yield opened


def test_importing_loads_nothing_heavy_and_makes_idle_threads_sleep() -> None:
    script = f"import mixscout, os, sys; print([name for name in {LIGHT!r} if name in sys.modules])"
    script += "; print(os.environ['OMP_WAIT_POLICY'])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "PASSIVE"]


def test_every_public_name_is_there_and_another_is_refused_with_the_list() -> None:
    for name in mixscout.__all__:
        assert getattr(mixscout, name) is not None
    assert set(mixscout.__all__) <= set(dir(mixscout)) and mixscout.__version__
    with pytest.raises(AttributeError, match="no attribute 'optimise'; it has .*open_study"):
        _ = mixscout.optimise  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["search.py", "pool/__init__.py"])
def test_a_file_that_hides_a_package_of_ours_is_named_at_import(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("")
    done = subprocess.run([sys.executable, "-c", "import mixscout"], capture_output=True, text=True, cwd=tmp_path)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and str(tmp_path / name) in last and "rename that file or folder" in last


def test_a_pool_is_opened_by_a_text_or_a_path(built_root: Path) -> None:
    pool = mixscout.open_pool(str(built_root / "pool.toml"))
    assert pool.names == mixscout.open_pool(built_root / "pool.toml").names == ("code", "docs", "prose")
    assert repr(pool) == "<mixscout.Pool 'tiny', 3 members: code, docs, prose>"
    assert mixscout.build_pool(built_root / "pool.toml").manifest == pool.manifest
    with pytest.raises(mixscout.MixscoutError, match="--rebuild fables: no such member"):
        mixscout.build_pool(built_root / "pool.toml", rebuild="fables")


def test_a_study_is_searched_and_its_best_is_no_worse_than_its_baselines(searched: mixscout.Study) -> None:
    best = searched.best
    assert best.mixture == searched.best_mixture and searched.space.contains(best.mixture)
    assert isinstance(best, mixscout.Best)
    found = best.best.scores["search"].value
    assert all(found <= one.scores["search"].value + 1e-9 for one in best.baselines.values())
    assert searched.loss()(best.mixture).value == pytest.approx(found, abs=1e-9)
    assert searched.search().merges == 12 == len(searched.trials_dataframe().query("state == 'COMPLETE'"))


def test_trials_come_as_a_table_with_the_weights_of_each_mixture(searched: mixscout.Study) -> None:
    trials = searched.trials_dataframe()
    assert trials[list(searched.space.names)].sum(axis=1).to_list() == pytest.approx([1.0] * len(trials))
    assert trials["value"].min() == searched.optuna.best_value


def test_every_figure_is_drawn(searched: mixscout.Study) -> None:
    for name in ("best", "standings", "progress", "mixtures", "slices", "surrogate"):
        figure = getattr(searched, f"plot_{name}")()
        assert isinstance(figure, Figure) and figure.axes, name


def test_a_study_shows_itself_in_one_line_and_in_a_notebook(searched: mixscout.Study) -> None:
    assert repr(searched).startswith("<mixscout.Study 'tiny', 12 of 12 evaluations, best ")
    assert "<td>prose</td>" in searched._repr_html_()


def test_a_study_that_was_not_begun_says_what_to_do(tmp_path: Path) -> None:
    with mixscout.open_study(write_small_study(tmp_path)) as study:
        assert repr(
            study
        ) == "<mixscout.Study 'small', not begun>" and study._repr_html_() == "<p>'small', not begun</p>".replace(
            "'", "&#x27;"
        )
        with pytest.raises(
            mixscout.MixscoutError, match="no study 'small' in .*; run `mixscout search .*study.toml` first"
        ):
            _ = study.best


def test_a_study_on_a_table_is_searched_and_needs_a_pool_for_merges(tmp_path: Path) -> None:
    with mixscout.open_study(write_small_study(tmp_path)) as study:
        study.search(12)
        found = study.best_mixture.array
        assert abs(found - BEST_FOR_TALES).max() < 0.1 and study.best.mixture == study.best_mixture
        with pytest.raises(mixscout.MixscoutError, match="confirm needs a pool .* 'small' is on a table; open a study"):
            study.confirm()
