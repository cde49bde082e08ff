"""The loss on held-out text while models are trained: to stop early, and to see what was forgotten of the seed's text.

Studies score merges elsewhere (`objectives`); this asks one model, a few windows at a time.

What a recipe may need beside the text of its mixture: of the seed, and of held-out text.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from transformers import PreTrainedModel

from pool.errors import ConfigError
from pool.mixture import Mixture
from pool.tokens.held_out import IGNORED, HeldOutWindows
from pool.tokens.prepared import CorpusManifest, load_search_windows

_TOKENS_AT_ONCE = 2048


@dataclass(frozen=True)
class HeldOutText:
    """Held-out windows by domain, and how much each domain counts; the weights sum to 1."""

    windows: Mapping[str, HeldOutWindows]
    weights: Mapping[str, float]

    def at_most(self, count: int) -> Self:
        """Keep about `count` windows in all, as many of each domain, spread evenly over it; at least one."""
        each = max(1, count // len(self.windows))
        return replace(self, windows={name: _some(windows, each) for name, windows in self.windows.items()})

    def loss_nats(self, model: PreTrainedModel) -> float:
        """Return the weighted mean over domains of the model's loss in nats per token; sums in float64."""
        was_training = model.training
        model.train(False)
        losses = [self.weights[name] * _mean_nats(model, windows) for name, windows in self.windows.items()]
        model.train(was_training)
        return float(sum(losses))


def own_domains(mixture: Mixture, corpus: CorpusManifest) -> dict[str, float]:
    """Weigh the held-out domains of a mixture's own partitions; a base unit's is that of the partition it was cut from.

    Raises `ConfigError` naming a partition of which nothing was held out.
    """
    weights: dict[str, float] = {}
    for name in mixture.support:
        domain = own_domain(name, corpus)
        if domain is None:
            raise ConfigError(f"nothing of partition {name!r} is held out: set [corpus] held_out_share above 0")
        weights[domain] = weights.get(domain, 0.0) + mixture.as_dict()[name]
    return weights


def own_domain(partition: str, corpus: CorpusManifest) -> str | None:
    """Name the held-out domain of a partition's own text, or None where nothing of it is held out."""
    is_unit = partition not in corpus.search and bool(corpus.groups)
    domain = partition.rpartition("-")[0] if is_unit else partition
    return domain if domain in corpus.search and corpus.search[domain].tokens else None


def held_out_text(corpus: Path, manifest: CorpusManifest, mixture: Mixture) -> HeldOutText:
    """Read the search split of a mixture's own domains from a prepared corpus. Raises `ConfigError` and `PoolError`."""
    weights = own_domains(mixture, manifest)
    return HeldOutText({name: load_search_windows(corpus, name, manifest) for name in weights}, weights)


def _some(windows: HeldOutWindows, count: int) -> HeldOutWindows:
    rows = np.unique(np.linspace(0, len(windows.inputs) - 1, count).round().astype(np.int64))
    return replace(
        windows,
        inputs=windows.inputs[rows],
        targets=windows.targets[rows],
        document=windows.document[rows],
        window_bytes=windows.window_bytes[rows],
    )


def _mean_nats(model: PreTrainedModel, windows: HeldOutWindows) -> float:
    at_once = max(1, _TOKENS_AT_ONCE // windows.inputs.shape[1])
    device, total = next(model.parameters()).device, 0.0
    for start in range(0, len(windows.inputs), at_once):
        rows = slice(start, start + at_once)
        inputs, targets = (
            torch.from_numpy(part[rows].astype(np.int64)).to(device) for part in (windows.inputs, windows.targets)
        )
        with torch.no_grad():
            logits = model(input_ids=inputs, use_cache=False).logits.float().flatten(0, 1)
        nats = torch.nn.functional.cross_entropy(logits, targets.flatten(), ignore_index=IGNORED, reduction="none")
        total += float(nats.double().sum())
    return total / windows.tokens


@dataclass(frozen=True, eq=False)
class RunInputs:
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


NOTHING = RunInputs()
