"""Which form a `Holding` asks for."""

import torch

from objectives.members.codes import EightBits, SixBits
from objectives.members.form import Form
from objectives.members.holding import Holding
from objectives.members.layout import Layout
from objectives.members.pruned import PrunedForm
from objectives.members.steps import StepsForm
from objectives.members.whole import WholeForm

_DTYPES = {"bfloat16": torch.bfloat16, "int8": torch.int8}


def form_of(holding: Holding, count: int, layout: Layout, seed: torch.Tensor | None, computed: torch.dtype) -> Form:
    """Return the form of K members, merged in the dtype `computed`. Task vectors take the `seed` (P,) they start at.

    Raises `ValueError` where they have none.
    """
    stored = _DTYPES.get(holding.stored, computed)
    if not holding.starts_at_seed:
        return WholeForm(count, layout.size, stored, computed)
    if seed is None:
        raise ValueError("int8, int6 and pruned members are steps from a seed: give the pool's folder, which has one")
    if holding.keep_share < 1:
        return PrunedForm(count, layout, seed, holding.keep_share, stored)
    codes = SixBits(layout) if holding.stored == "int6" else EightBits(layout)
    return StepsForm(count, layout, seed, codes)
