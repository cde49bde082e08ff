"""Print the rooms of the packages with their duties, and with `--files` every file with its own.

A duty is the first line of a module's docstring. `--write` puts the tree of rooms into the README.
"""

import ast
import os
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
FLOORS = ("pool", "objectives", "search", "studies", "mixscout")
WIDTH = 28
DEPTH = 2
"""The README shows the packages and their rooms; rooms inside rooms are in the full tree."""


def first_line(path: Path) -> str:
    """Return the first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def tree(*, files: bool = False) -> Iterator[str]:
    """Yield a line a room, from the ground floor up, and with `files` a line a file below it."""
    for floor in FLOORS:
        for duty in sorted((ROOT / floor).rglob("__init__.py"), key=lambda path: path.parent.parts):
            parts = duty.parent.relative_to(ROOT).parts
            if len(parts) > DEPTH and not files:
                continue
            indent = "  " * (len(parts) - 1)
            yield f"{indent + parts[-1] + '/':{WIDTH}}{first_line(duty)}"
            if files:
                for path in sorted(duty.parent.glob("*.py")):
                    if path != duty:
                        yield f"{indent + '  ' + path.stem:{WIDTH}}{first_line(path)}"


def with_tree(readme: str) -> str:
    """Return the README's text with the tree of rooms as it is now."""
    head, _, rest = readme.partition("## Rooms")
    before, _, after = rest.split("```", 2)
    return f"{head}## Rooms{before}```\n" + "\n".join(tree()) + f"\n```{after}"


if __name__ == "__main__":
    if "--write" in sys.argv:
        readme = ROOT / "README.md"
        readme.write_text(with_tree(readme.read_text(encoding="utf-8")), encoding="utf-8")
    try:
        print("\n".join(tree(files="--files" in sys.argv)), flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python would try once more at its end
        sys.exit(f"docs/tree.py: standard output: {error.strerror}")
