"""Answers and progress in a narrow terminal, a real one: no name is broken, and counts and times stay."""

import os
import pty
import re
import sys

import pytest

NAMES = ["machine_learning_docstrings", "unit_tests", "a name with a few more words in it"]
CODE = f"""
import time
from pool.progress import track
from studies.terminal import console, plain_table
with track("members of a pool with a long name", 12345) as show:
    for done in (100, 9000):
        show(done, "best 4.1234, 20 pruned, 3 audited")
        time.sleep(0.3)
table = plain_table("partition", *(f"figure {{number}}" for number in range(9)))
table.title = "All figures"
for name in {NAMES}:
    table.add_row(name, *(f"{{number}},234,567" for number in range(9)))
console().print(table)
"""


@pytest.fixture(scope="module")
def shown() -> list[str]:
    """Lines on a terminal of 60 columns, without colours."""
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(COLUMNS="60", LINES="24", TERM="xterm")
        os.execv(sys.executable, [sys.executable, "-c", CODE])
    said = b""
    try:
        while part := os.read(terminal, 65_536):
            said += part
    except OSError:
        pass  # the terminal's other end is closed
    assert os.waitpid(child, 0)[1] == 0, said.decode()
    return re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.decode()))


def test_counts_and_times_stay_where_descriptions_give_way(shown: list[str]) -> None:
    (line,) = {one for one in shown if " 9000/12345 " in one}
    assert len(line) <= 60 and re.search(r"^members.*… .* 9000/12345 \d:\d\d:\d\d best.*…", line)


def test_no_name_and_no_number_is_broken_and_none_is_left_out(shown: list[str]) -> None:
    assert all(len(line) <= 60 for line in shown)
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown if line.startswith("│ unit_tests")]
    assert [cell for _, *cells in rows for cell in cells] == [f"{number},234,567" for number in range(9)]
    assert len(rows) > 1 and sum("All figures" in line for line in shown) == 1
    words = {word for line in shown for word in line.replace("│", " ").split()}
    assert {word for name in NAMES for word in name.split()} <= words
