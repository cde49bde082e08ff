"""Judge by named thresholds whether a pool is likely to merge well."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pool.parts.store import PoolManifest

if TYPE_CHECKING:
    from studies.assessment.pool_check.check import PoolCheck

BARRIER_NATS = 0.02
"""Trained models of the demo's mixtures differ by chance by up to 0.021; a higher barrier matters."""
LEAST_TASK_COSINE = 0.0
"""Members below undo each other's steps. Task vectors of unlike tasks are about orthogonal (Ilharco et al. 2023); the
demo's pool has 0.10 and above."""
MOST_RELATIVE_NORM = 0.5
"""Members that merge well have 0.15 to 0.22 (the demo's, and those of a tiny pool). At ten times the learning rate the
tiny members have 1.4 and are worse than the seed on the mean of domains."""
MOST_UNKNOWN_SHARE = 0.1
"""As much as a build allows unasked. English in WordPiece has below a thousandth, text in another script nearly all."""
MOST_TIMES_THE_SEED = 1.5
"""A mean loss above so many times the seed's is more than specialisation."""
MOST_NAMED = 5
"""Cases named for one reason, the worst first."""


@dataclass(frozen=True)
class PoolVerdict:
    """Reasons against merging the pool; none for a good pool."""

    reasons: tuple[str, ...]

    @property
    def likely(self) -> bool:
        return not self.reasons

    @property
    def words(self) -> str:
        if self.likely:
            return "Nothing measured speaks against merging this pool."
        return f"This pool is unlikely to merge well: {len(self.reasons)} of the checks failed."

    def as_json(self) -> dict[str, object]:
        return {
            "likely_to_merge_well": self.likely,
            "words": self.words,
            "reasons": list(self.reasons),
            "thresholds": {
                "barrier_nats": BARRIER_NATS,
                "least_cosine": LEAST_TASK_COSINE,
                "most_relative_norm": MOST_RELATIVE_NORM,
                "most_unknown_share": MOST_UNKNOWN_SHARE,
            },
        }


def judge(check: PoolCheck) -> PoolVerdict:
    """Judge by text, losses, task vectors and barriers, not by sign conflicts."""
    return PoolVerdict((*_of_text(check), *_of_losses(check), *_of_vectors(check), *_of_barriers(check)))


def suspect_members(manifest: PoolManifest) -> list[str]:
    """Name the members whose training may have diverged, by the records of a build: none of them is scored."""
    said, seed = [], manifest.seed.final_loss_nats
    for name, member in manifest.members.items():
        loss, text = member.final_loss_nats, member.seed_text
        if loss is not None and seed is not None and loss > MOST_TIMES_THE_SEED * seed:
            said.append(f"member {name!r}: the training loss ended at {loss:.3f} nats, the seed's at {seed:.3f}")
        elif text is not None and text.after_nats > MOST_TIMES_THE_SEED * text.before_nats:
            said.append(
                f"member {name!r}: the seed's text is at {text.after_nats:.3f} nats, before {text.before_nats:.3f}"
            )
    return [f"{one}; the training may have diverged, which `mixscout pool check` measures" for one in said]


def _of_text(check: PoolCheck) -> Iterator[str]:
    blank = {what: share for what, share in check.unknown_shares.items() if share > MOST_UNKNOWN_SHARE}
    if blank:
        yield (
            f"text unknown to the tokenizer (share of tokens above {MOST_UNKNOWN_SHARE:g}): {_ranked(blank)}; losses "
            "there are of one token over and over: take a seed whose tokenizer knows this text"
        )


def _of_losses(check: PoolCheck) -> Iterator[str]:
    models = {**check.members, "(seed)": check.seed, "(uniform merge)": check.uniform}
    broken = [
        f"{name} on {domain}"
        for name, losses in models.items()
        for domain, nats in losses.by_domain.items()
        if not math.isfinite(nats)
    ]
    if broken:
        again = ["seed"] if check.seed.by_domain and not math.isfinite(check.seed.mean) else list(check.members)
        flags = " ".join(f"--rebuild {name}" for name in again)
        yield (
            f"the held-out loss is NaN or infinite for {_listed(broken)}; lower the learning rate, and train all of "
            f"them again with `mixscout pool build POOL.toml {flags}`"
        )
    own = {
        name: losses.by_domain[domain] - check.seed.by_domain[domain]
        for name, losses in check.members.items()
        if (domain := check.own_domains.get(name)) is not None
    }
    worse = {name: nats for name, nats in own.items() if nats > 0}
    if worse:
        yield (
            f"members worse than the seed on their own held-out domain (nats): {_ranked(worse)}; their training went "
            "wrong, or is far too long for the text they have"
        )
    means = {name: losses.mean for name, losses in check.members.items()}
    far = {name: mean for name, mean in means.items() if mean > MOST_TIMES_THE_SEED * check.seed.mean}
    if far:
        yield (
            f"members far worse than the seed on the mean of domains (nats, above {MOST_TIMES_THE_SEED:g} times "
            f"{check.seed.mean:.3f}): {_ranked(far)}; their training may have diverged"
        )
    worst = max(means, key=lambda name: means[name])
    if len(means) > 1 and check.uniform.mean > means[worst]:
        yield (
            f"the uniform merge ({check.uniform.mean:.3f} nats on the mean of domains) is worse than the worst member "
            f"({worst}, {means[worst]:.3f}): the members are not in one basin"
        )


def _of_vectors(check: PoolCheck) -> Iterator[str]:
    vectors = check.vectors
    still = [name for name, norm in zip(check.names, vectors.norms, strict=True) if norm == 0]
    if still:
        yield f"members equal to the seed in every weight: {_listed(still)}; they were not trained"
    shares = dict(zip(check.names, vectors.relative_norms.tolist(), strict=True))
    far = {name: share for name, share in shares.items() if share > MOST_RELATIVE_NORM}
    if far:
        yield (
            f"members far from the seed (task vector above {MOST_RELATIVE_NORM} of the seed's norm): {_ranked(far)}; "
            "lower their learning rate, or train them shorter"
        )
    against = {pair: cosine for pair, cosine in check.cosines.items() if cosine < LEAST_TASK_COSINE}
    if against:
        yield f"task vectors that point against each other (cosine below {LEAST_TASK_COSINE:g}): {_ranked(against)}"


def _of_barriers(check: PoolCheck) -> Iterator[str]:
    lines = check.named_barriers | {f"{name} to the mean of all": nats for name, nats in check.barriers_to_mean.items()}
    broken = [name for name, nats in lines.items() if not math.isfinite(nats)]
    if broken:
        yield (
            f"the held-out loss is NaN or infinite on the line between models: {_listed(broken)}; mixtures of these "
            "cannot be scored"
        )
    high = {name: nats for name, nats in lines.items() if math.isfinite(nats) and nats > BARRIER_NATS}
    if high:
        yield (
            f"loss barriers above {BARRIER_NATS} nats on the line between models: {_ranked(high)}; "
            "mixtures of these say little about training"
        )


def _ranked(values: Mapping[str, float]) -> str:
    return _listed([f"{name} ({value:.3g})" for name, value in sorted(values.items(), key=lambda item: -abs(item[1]))])


def _listed(cases: list[str]) -> str:
    more = len(cases) - MOST_NAMED
    return ", ".join(cases[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
