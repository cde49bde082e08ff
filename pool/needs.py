"""What a recipe may need beside the text of its mixture: of the seed, and of held-out text."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from pool.held_out_text import HeldOutText
from pool.mixture import Mixture


@dataclass(frozen=True, eq=False)
class Needs:
    """Where a field is None, the recipe does without.

    `replayed` is the seed's mixture, `stopping` the text whose loss stops the run, `optimizer` the file of the seed's
    AdamW state, `importance` the weights of a penalty, `seed_text` what is measured for forgetting; `keeps_optimizer`
    where the run is the seed, and members go on with its optimizer.
    """

    replayed: Mixture | None = None
    stopping: HeldOutText | None = None
    optimizer: Path | None = None
    importance: Mapping[str, torch.Tensor] | None = None
    seed_text: HeldOutText | None = None
    keeps_optimizer: bool = False


NOTHING = Needs()
