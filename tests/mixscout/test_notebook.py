"""The notebook and the page on Python run from their first line to their last, and show what they say."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from tiny import edit

import mixscout

DOCS = Path(__file__).parents[2] / "docs"
NOTEBOOK = DOCS / "notebooks" / "best_mixture.ipynb"


@pytest.fixture(scope="module")
def cells(built_root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[nbformat.NotebookNode]:
    """The cells of code with their outputs, after a run on the tiny pool."""
    folder = tmp_path_factory.mktemp("notebook") / "root"
    shutil.copytree(built_root, folder)
    edit(folder / "study.toml", 'pool = "pool.toml"', 'pool = "pool.toml"\ndatabase = "notebook.db"')
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _outputs(cells: list[nbformat.NotebookNode], kind: str) -> Iterator[str]:
    for cell in cells:
        for output in cell.outputs:
            yield from ([output.data[kind]] if kind in output.get("data", {}) else [])


def test_twenty_lines_lead_from_a_pool_file_to_a_picture_of_the_best_mixture(
    cells: list[nbformat.NotebookNode],
) -> None:
    lines = [line for cell in cells for line in cell.source.splitlines() if line]
    assert lines[0] == "import mixscout" and len(lines) <= 20
    assert len(list(_outputs(cells, "image/png"))) == 1


def test_pool_study_and_answer_show_themselves_as_html(cells: list[nbformat.NotebookNode]) -> None:
    pool, study, best, trials = _outputs(cells, "text/html")
    assert "mixscout.Pool" in pool and "<td>prose</td>" in pool
    assert "12 of 12 evaluations" in study and "<td>prose</td>" in study
    assert "best single member" in best and best.startswith("<pre")
    assert "verdict" in trials
    short = [text for text in _outputs(cells, "text/plain") if text.startswith("<mixscout.")]
    assert len(short) == 3 and all(len(text) < 200 for text in short)


def test_a_notebook_hears_of_progress_and_of_nothing_else(cells: list[nbformat.NotebookNode]) -> None:
    said = "".join(output.text for cell in cells for output in cell.outputs if output.output_type == "stream")
    assert "12/12" in said
    for chatter in ("Warning", "Loading weights", "A new study", "Trial 0"):
        assert chatter not in said


def test_every_line_of_python_on_the_page_runs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "python.md").read_text(), re.DOTALL)
    page = "\n".join(blocks).replace('"news"', '"docs"').replace("news=", "docs=").replace('"wiki"', '"prose"')
    names: dict[str, object] = {}
    page = page.replace("search(60)", "search(12)").replace("n_trials=20", "n_trials=4").replace("layers=2", "layers=1")
    exec(page, names)
    study = names["study"]
    assert isinstance(study, mixscout.Study) and (root / "best.png").stat().st_size > 1000
    merged, trained = names["merged"], names["trained"]
    assert isinstance(merged, mixscout.Objective) and isinstance(trained, mixscout.Objective)
    study.close()
