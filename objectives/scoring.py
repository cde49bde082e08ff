"""Scoring: the held-out loss of whatever parameters the resident model holds now.

Windows are sorted by length once and batched without regard to domain; right padding never reaches a real
token (attention is causal), so it changes nothing but the time. Log-probabilities are float32 or better,
sums float64.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from objectives.held_out import HeldOutLoss
from objectives.target import Target
from pool.tokens import IGNORED, HeldOutWindows

TOKENS_AT_ONCE = 4096


@dataclass(frozen=True)
class _Batch:
    """Windows (B, T) of similar length, the rows (B,) they have in the whole, and their loss weights (B,)."""

    inputs: torch.Tensor
    targets: torch.Tensor
    rows: npt.NDArray[np.int64]
    weights: torch.Tensor


class Scorer:
    """Scores a resident model on the domains of a target.

    Raises `ValueError` when the target names a domain there are no windows of, or a window is longer than the
    model's context.
    """

    def __init__(self, model: PreTrainedModel, windows: Mapping[str, HeldOutWindows], target: Target) -> None:
        missing = sorted(set(target.weights) - set(windows))
        if missing:
            raise ValueError(f"no held-out domain {missing[0]!r}; there are {', '.join(windows)}")
        self.target = target
        self._model = model
        self._windows = {name: windows[name] for name in target.weights}
        self._lengths = np.concatenate([(part.targets != IGNORED).sum(axis=1) for part in self._windows.values()])
        self._batches = list(self._plan())

    @property
    def tokens(self) -> int:
        """Tokens scored by one evaluation."""
        return int(self._lengths.sum())

    def score(self) -> dict[str, HeldOutLoss]:
        """Return the held-out loss of each domain for the model's present parameters."""
        nats = np.zeros(len(self._lengths))
        with torch.inference_mode():
            for batch in self._batches:
                nats[batch.rows] = self._window_nats(batch).double().cpu().numpy()
        return self._by_domain(nats)

    def score_with_gradient(self, gradient: torch.Tensor) -> dict[str, HeldOutLoss]:
        """Score, and fill `gradient` (P,), that the parameters' `.grad` are views of, with d value / d theta."""
        nats = np.zeros(len(self._lengths))
        gradient.zero_()
        with torch.enable_grad():
            for batch in self._batches:
                window_nats = self._window_nats(batch)
                (window_nats * batch.weights).sum().backward()  # type: ignore[no-untyped-call]
                nats[batch.rows] = window_nats.detach().double().cpu().numpy()
        return self._by_domain(nats)

    def _window_nats(self, batch: _Batch) -> torch.Tensor:
        logits = self._model(input_ids=batch.inputs, use_cache=False).logits
        logits = logits if logits.dtype == torch.float64 else logits.float()
        nats = cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORED, reduction="none")
        return nats.view(batch.targets.shape).sum(dim=1)

    def _plan(self) -> Iterator[_Batch]:
        inputs = np.concatenate([part.inputs for part in self._windows.values()])
        targets = np.concatenate([part.targets for part in self._windows.values()])
        context = int(self._model.config.max_position_embeddings)
        if inputs.shape[1] > context:
            raise ValueError(f"windows of {inputs.shape[1]} tokens are longer than the model's context {context}")
        loss_weights = np.concatenate(
            [np.full(len(part.inputs), self.target.weights[name] / part.tokens) for name, part in self._windows.items()]
        )
        for rows in self._groups():
            length = int(self._lengths[rows].max())
            yield _Batch(
                self._tensor(inputs[rows, :length]),
                self._tensor(targets[rows, :length]),
                rows,
                torch.tensor(loss_weights[rows], dtype=self._model.dtype, device=self._model.device),
            )

    def _groups(self) -> Iterator[npt.NDArray[np.int64]]:
        order = np.argsort(-self._lengths, kind="stable")
        start = 0
        while start < len(order):
            longest = max(1, int(self._lengths[order[start]]))
            count = max(1, TOKENS_AT_ONCE // longest)
            yield order[start : start + count]
            start += count

    def _tensor(self, array: npt.NDArray[np.int32]) -> torch.Tensor:
        return torch.from_numpy(array.astype(np.int64)).to(self._model.device)

    def _by_domain(self, nats: npt.NDArray[np.float64]) -> dict[str, HeldOutLoss]:
        losses: dict[str, HeldOutLoss] = {}
        start = 0
        for name, windows in self._windows.items():
            part = slice(start, start + len(windows.inputs))
            losses[name] = HeldOutLoss.of_windows(nats[part], self._lengths[part], text_bytes=windows.bytes)
            start = part.stop
        return losses
