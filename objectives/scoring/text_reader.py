"""A checkpoint as a reader of text: the mean of its hidden states, its nats, and the reader after a little of a text.

Windows of tokens are (N, T), without padding. They are read on a GPU if torch sees one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from objectives.held_out import Floats
from pool.checkpoints.checkpoint import load_model
from pool.checkpoints.forward import head_is_plain, target_nats, whole_target_nats
from pool.checkpoints.weights import most_positions
from pool.engines.resources import give_back_memory

Windows = npt.NDArray[np.integer]

_AT_ONCE = 16
"""Windows of one pass, and of one step."""
_PASSES = 1
"""Times that a text is read to learn from it."""
_FEWEST_STEPS = 8


class TextReader:
    """A model that reads windows of tokens; what lies beyond its positions is left out."""

    def __init__(self, folder: Path) -> None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = load_model(folder)
        torch.nn.Module.to(self._model, device)
        self._device, self._longest = device, most_positions(self._model.config)
        self._plain: bool | None = None

    @torch.inference_mode()
    def mean_states(self, windows: Windows) -> Floats:
        """Return the mean of the last hidden states of each window (N, D)."""
        states = (self._model.base_model(input_ids=one, use_cache=False) for one in self._parts(windows))
        return np.concatenate([one.last_hidden_state.mean(dim=1).double().cpu().numpy() for one in states])

    @torch.inference_mode()
    def mean_nats(self, windows: Windows) -> Floats:
        """Return the mean nats per token of each window (N,), the first token given."""
        return np.concatenate([self._nats(one).mean(dim=1).double().cpu().numpy() for one in self._parts(windows)])

    def learn(self, windows: Windows, shares: Floats, *, learning_rate: float) -> None:
        """Take some steps of Adam on windows, drawn by their shares (N,) as often as they are read once.

        The draws are the same every time.
        """
        rng = np.random.default_rng(0)
        optimizer = torch.optim.Adam(self._model.parameters(), lr=learning_rate)
        for _ in range(max(_FEWEST_STEPS, len(windows) * _PASSES // _AT_ONCE)):
            chosen = windows[rng.choice(len(windows), _AT_ONCE, p=shares / shares.sum())]
            optimizer.zero_grad()
            torch.autograd.backward(self._nats(next(self._parts(chosen))).mean())
            optimizer.step()
        optimizer.zero_grad()

    def leave(self) -> None:
        torch.nn.Module.to(self._model, "cpu")
        give_back_memory()

    def _nats(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the nats (B, T - 1) of the tokens after the first."""
        if self._plain is None:
            self._plain = head_is_plain(self._model, inputs)
        nats = target_nats if self._plain else whole_target_nats
        before = torch.arange(inputs.numel(), device=inputs.device).view(inputs.shape)[:, :-1].flatten()
        return nats(self._model, inputs, before, inputs[:, 1:].flatten()).view(len(inputs), -1)

    def _parts(self, windows: Windows) -> Iterator[torch.Tensor]:
        tokens = torch.as_tensor(windows[:, : self._longest].astype(np.int64))
        for part in torch.split(tokens, _AT_ONCE):
            yield part.to(self._device)


@contextmanager
def reading(folder: Path) -> Iterator[TextReader]:
    """Open a checkpoint for reading, and give its memory back. Raises `PoolError`."""
    reader = TextReader(folder)
    try:
        yield reader
    finally:
        reader.leave()
