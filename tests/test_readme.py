"""The README's tree is made from the code, and the page stays short."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_readme_shows_the_rooms_as_they_are() -> None:
    spec = importlib.util.spec_from_file_location("tree", ROOT / "docs" / "tree.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    readme = (ROOT / "README.md").read_text()
    assert readme == made.with_tree(readme), "run `python docs/tree.py --write`"
    assert len(list(made.tree())) <= 30
    assert len(readme.splitlines()) <= 150
