"""What `train_tokens` leaves of the text, said where runs read the little that is kept over and over."""

from collections.abc import Mapping

from pool.config.pool_file import PoolFile
from pool.mixture import Mixture
from pool.progress import say
from pool.tokens.prepared import CorpusManifest


def say_little_kept(config: PoolFile, corpus: CorpusManifest, seed: Mixture | None) -> None:
    """Say where members, or a seed to be trained on a mixture, go through a partition's kept text more than once though
    it has more, and where base units are larger than what is kept of them.
    """
    kept, unit = config.corpus.train_tokens, config.corpus.base_units_tokens
    longest = max(part.available_tokens for part in corpus.partitions.values())
    if unit is not None and kept < min(unit, longest):
        say(
            f"[corpus] base_units_tokens is {unit:,}, and train_tokens keeps {kept:,} of a base unit, which has up to "
            f"{longest:,} tokens: the rest is never trained on; raise train_tokens, or cut smaller units"
        )
    own = config.recipe.windows(config.context) * config.context * (1 - config.recipe.replay_share)
    _say_repeated("[recipe]: a member", dict.fromkeys(corpus.partitions, own), kept, corpus)
    if seed is not None:
        tokens = config.seed.recipe.windows(config.context) * config.context
        read = {name: weight * tokens for name, weight in seed.as_dict().items()}
        _say_repeated("[seed.recipe]: the seed", read, kept, corpus)


def _say_repeated(who: str, read: Mapping[str, float], kept: int, corpus: CorpusManifest) -> None:
    parts = {name: part for name, part in corpus.partitions.items() if kept < part.available_tokens}
    epochs = {name: read[name] / part.tokens for name, part in parts.items() if read[name] > part.tokens}
    if not epochs:
        return
    worst = max(epochs, key=lambda name: epochs[name])
    others = f", and likewise {len(epochs) - 1} more" if len(epochs) > 1 else ""
    enough = max(min(round(read[name]), parts[name].available_tokens) for name in epochs)
    part = parts[worst]
    say(
        f"{who} reads {read[worst]:,.0f} tokens of partition {worst!r}, of whose {part.available_tokens:,} tokens "
        f"train_tokens keeps {part.tokens:,}: these {epochs[worst]:.1f} times over{others}; raise [corpus] "
        f"train_tokens, up to {enough:,}, for text that is new"
    )
