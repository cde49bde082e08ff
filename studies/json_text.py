"""JSON that every reader accepts: what is not finite becomes null."""

import json
import math
from collections.abc import Mapping, Sequence


def json_text(value: object) -> str:
    """Dump a value, indented; NaN and infinities, which JSON does not have, as null."""
    return json.dumps(_finite(value), indent=2, allow_nan=False)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(part) for part in value]
    return value
