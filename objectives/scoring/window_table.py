"""The held-out windows of several domains side by side, one row a window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from objectives.held_out import Floats, HeldOutLoss
from pool.tokens.held_out import IGNORED, HeldOutWindows

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class WindowTable:
    """W windows of E domains.

    inputs, targets (W, T): as in `HeldOutWindows`
    domain (W,): index into `domains`
    tokens, bytes (W,): targets of a window, and bytes of their text
    document (W,): number of the document, over all domains
    words (E,): words of each domain
    """

    domains: tuple[str, ...]
    inputs: npt.NDArray[np.int32]
    targets: npt.NDArray[np.int32]
    domain: Rows
    tokens: Rows
    bytes: Rows
    document: Rows
    words: tuple[int, ...]

    @classmethod
    def of(cls, windows: Mapping[str, HeldOutWindows], domains: Sequence[str]) -> WindowTable:
        """Put the named domains side by side. Raises `ValueError` for a domain without tokens."""
        missing = sorted(set(domains) - set(windows))
        if missing:
            raise ValueError(f"no held-out domain {missing[0]!r}; there are {', '.join(windows)}")
        parts = [windows[name] for name in domains]
        for name, part in zip(domains, parts, strict=True):
            if part.tokens == 0:
                raise ValueError(f"held-out domain {name!r} has no token to score; give it text, or leave it out")
        offsets = np.cumsum([0, *(int(part.document.max()) + 1 for part in parts)])
        return cls(
            tuple(domains),
            inputs=np.concatenate([part.inputs for part in parts]),
            targets=np.concatenate([part.targets for part in parts]),
            domain=np.concatenate([np.full(len(part.inputs), e, dtype=np.int64) for e, part in enumerate(parts)]),
            tokens=np.concatenate([part.window_tokens for part in parts]),
            bytes=np.concatenate([part.window_bytes for part in parts]),
            document=np.concatenate(
                [part.document.astype(np.int64) + offset for part, offset in zip(parts, offsets, strict=False)]
            ),
            words=tuple(part.words for part in parts),
        )

    @cached_property
    def lengths(self) -> Rows:
        """Length of each window (W,) without padding."""
        lengths: Rows = self.targets.shape[1] - np.argmax((self.targets != IGNORED)[:, ::-1], axis=1)
        return lengths

    def rows_of(self, e: int) -> Rows:
        """Rows of the domain with index e."""
        return np.flatnonzero(self.domain == e)

    def tokens_but_for(self, read: Rows | None = None) -> dict[str, int]:
        """Count the tokens by domain of all rows but those read (n,), if any."""
        left = np.delete(np.arange(len(self.domain)), [] if read is None else read)
        counts = np.bincount(self.domain[left], self.tokens[left], len(self.domains)).astype(np.int64)
        return dict(zip(self.domains, counts.tolist(), strict=True))

    def losses(self, nats: Floats) -> dict[str, HeldOutLoss]:
        """Sum nats (W,) by domain."""
        losses: dict[str, HeldOutLoss] = {}
        for e, name in enumerate(self.domains):
            rows = self.rows_of(e)
            losses[name] = HeldOutLoss.of_windows(
                nats[rows], self.tokens[rows], self.bytes[rows], self.document[rows], words=self.words[e]
            )
        return losses

    def by_domain(self, nats: Floats) -> dict[str, Floats]:
        """Split nats (W,) by domain, each in the order of its windows."""
        return {name: nats[self.rows_of(e)] for e, name in enumerate(self.domains)}

    def together(self, nats: Mapping[str, Floats]) -> Floats:
        """Join nats by domain into one array (W,). Raises `ValueError` for nats of other windows."""
        for e, name in enumerate(self.domains):
            if len(nats.get(name, ())) != len(self.rows_of(e)):
                raise ValueError(f"the losses of domain {name!r} are not of these windows")
        return np.concatenate([nats[name] for name in self.domains])
