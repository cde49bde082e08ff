"""How many windows of a batch a process trains at a time: as its recipe says, or fewer where memory was too small.

What was found is kept beside the run's checkpoints, so that its next attempt need not find it again. The optimiser's
steps are the same: gradients are summed over the parts of a batch.
"""

from pathlib import Path

from pool.config.recipe import Recipe
from pool.files.whole import write_text


def smaller_part(part_windows: int, batch_windows: int) -> int:
    """Return the largest divisor of the batch (B) that is at most half the part, so that parts sum to the batch.

    1 is the smallest part; `part_windows` must be above that.
    """
    return next(part for part in range(part_windows // 2, 0, -1) if batch_windows % part == 0)


_KEPT = "part_windows"


def part_windows(recipe: Recipe, scratch: Path) -> int:
    """Return the windows at a time of each process of a run whose scratch folder this is."""
    whole = recipe.batch_of_a_process
    asked = whole // recipe.accumulate
    try:
        kept = int((scratch / _KEPT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return asked
    return kept if 0 < kept < asked and whole % kept == 0 else asked


def take_smaller_part(recipe: Recipe, scratch: Path) -> int | None:
    """Have the run go on with at most half as many windows at a time, and return how many; None where it has one."""
    part = part_windows(recipe, scratch)
    if part == 1:
        return None
    smaller = smaller_part(part, recipe.batch_of_a_process)
    scratch.mkdir(parents=True, exist_ok=True)
    write_text(scratch / _KEPT, f"{smaller}\n")
    return smaller
