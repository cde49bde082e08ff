"""The mixture for OLMo-core and Olmix, which read files of tokens.

OLMo-core's `SourceMixtureList` (olmo_core.data.source_mixture) takes a list of sources with a target ratio each, and
how often one may be repeated; Olmix takes the sources under `data` and their weights under `mix`. Both count tokens.
Files are those of the reader's own tokenizer, so their paths are a pattern.
"""

import math

import yaml

from pool.errors import StudyError
from studies.outcome.handover.plan import HandoverPlan

PLACE = "{partition}"


def olmo_core_yaml(plan: HandoverPlan, pattern: str) -> str:
    """Return a SourceMixtureList. Raises `StudyError` for a pattern without a place for the partition's name."""
    sources = [
        {
            "source_name": name,
            "target_ratio": share.weight,
            "paths": [_path(pattern, name)],
            "max_repetition_ratio": _repetitions(share.epochs),
            "max_source_fraction": 1.0,
        }
        for name, share in plan.used.items()
    ]
    text: str = yaml.safe_dump({"sources": sources}, sort_keys=False)
    return text


def olmix_yaml(plan: HandoverPlan, pattern: str) -> str:
    """Return the tables `data` and `mix` of an Olmix launch file; the rest of it is not ours. Raises `StudyError`."""
    sources = [{"name": name, "paths": [_path(pattern, name)]} for name in plan.used]
    mix = {
        name: {"weight": share.weight, "repetition_factor": _repetitions(share.epochs)}
        for name, share in plan.used.items()
    }
    text: str = yaml.safe_dump({"data": {"sources": sources}, "mix": mix}, sort_keys=False)
    return text


def _repetitions(epochs: float) -> float:
    """Round up to hundredths, at least once through: what is allowed must not be just short of what is needed."""
    return max(1.0, math.ceil(epochs * 100) / 100)


def _path(pattern: str, name: str) -> str:
    if PLACE not in pattern:
        raise StudyError(f"--token-files {pattern!r} names one place for all partitions: put {PLACE} into it")
    return pattern.replace(PLACE, name)
