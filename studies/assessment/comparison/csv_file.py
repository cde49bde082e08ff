"""Every merge of a comparison as one row of a CSV file."""

import csv
import io
import math
from pathlib import Path

from pool.files.whole import write_text
from studies.assessment.comparison.comparison import Comparison

COLUMNS = (
    *("contender", "seed", "study", "merge", "forward_equivalents", "tokens_read", "seconds"),
    *("best", "regret", "measure"),
)


def write_comparison(comparison: Comparison, path: Path) -> Path:
    """Write what was spent and the best value after every merge; empty before there is one. Return the path."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in comparison.contenders:
        for course in one.courses:
            for row in range(course.merges):
                best = course.best[row]
                spent = (course.forwards[row], course.tokens[row], f"{course.seconds[row]:.6f}")
                values = (_shown(best), _shown(best - comparison.best_known.value))
                writer.writerow([one.name, course.seed, course.study, row + 1, *spent, *values, comparison.measure])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text.getvalue())
    return path


def _shown(number: float) -> str:
    return repr(number) if math.isfinite(number) else ""
