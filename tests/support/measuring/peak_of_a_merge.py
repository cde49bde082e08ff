"""Holds N times the member FOLDER/m, mapped twice and then resident, and prints what each took at most (bytes).

Run as a process of its own: `python peak_of_a_merge.py FOLDER N`. Counted is what the resident set grows by from when a
model of that size has been loaded and merged once to when all members have been opened and merged in every way.
"""

import json
import sys
from pathlib import Path


def peak_bytes(*, anew: bool = False) -> int:
    """Return the largest resident set of this process so far, or since it was last counted `anew` (Linux)."""
    if anew:
        Path("/proc/self/clear_refs").write_text("5")
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


def main(folder: Path, count: int) -> None:
    """Merge, by one and by several weights, and turn a gradient."""
    sys.path.insert(0, str(Path(__file__).parents[3]))
    import numpy as np

    from objectives.merging.members.holding import Holding
    from objectives.merging.merge import StackedPool

    def all_ways(stack: StackedPool) -> float:
        weights = np.random.default_rng(0).dirichlet(np.ones(len(stack.names)), size=2)
        stack.merge_many(weights)
        stack.flat_gradient().fill_(1.0)
        stack.weight_gradient()
        stack.merge(weights[0])
        return float(stack.flat.double().sum())

    all_ways(StackedPool({"one": folder / "m"}, device="cpu", holding=Holding("resident")))
    names = {f"m{number}": folder / "m" for number in range(count)}
    for held in ("mapped", "mapped", "resident"):
        before = peak_bytes(anew=True)
        stack = StackedPool(names, device="cpu", holding=Holding(held), folder=folder)
        checksum = all_ways(stack)
        print(json.dumps({"members": stack.members.nbytes, "grown": peak_bytes() - before, "checksum": checksum}))
        del stack


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
