"""`export` with --quantise and --prune: the winner made smaller, read back, and set beside itself as it was.

What is scored is what `from_pretrained` reads from the folder, on the test split of every held-out domain.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from objectives.held_out import Floats, HeldOutLoss
from objectives.scoring.paired import PairedDifference, paired_difference
from objectives.scoring.window_table import WindowTable
from pool.building.training.inputs import training_windows
from pool.checkpoints.manifest import WEIGHTS
from pool.errors import ConfigError, StudyError
from pool.files.whole import new_folder, write_text, writing_to
from pool.mixture import Mixture
from pool.parts.store import Pool
from pool.progress import say
from pool.tokens.prepared import load_streams
from pool.tokens.tokenizer import load_tokenizer
from studies.answers.best import Best
from studies.answers.score import Json, paired_by_domain, paired_json
from studies.benchmarks.ratio import Ratio, paired, seconds
from studies.opened.on_pool import Workbench
from studies.outcome.handover.export import MIXTURE_FILE, merged_model, model_card, refuse_folder
from studies.terminal import as_html, json_text, plain_table

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from pool.checkpoints.compressed import Pruning, Quantisation

RECORD = "compression.json"
CALIBRATION_TOKENS = 8192
"""Training tokens whose activations judge weights, of the winning mixture: in one pass, as Wanda's pruning needs."""
TIMED_WINDOWS, REPEATS = 32, 7


@dataclass(frozen=True)
class Compression:
    """What to do to the winner; None leaves a step out. Raises `ConfigError` for a share outside (0, 1)."""

    quantise: Quantisation | None = None
    prune: float | None = None
    pruning: Pruning = "wanda"

    def __post_init__(self) -> None:
        if self.prune is not None and not 0 < self.prune < 1:
            raise ConfigError(f"prune {self.prune:g}: expected the share of weights to drop, above 0 and below 1")
        if self.quantise is not None and importlib.util.find_spec("compressed_tensors") is None:
            raise ConfigError(
                f"quantise {self.quantise} needs compressed-tensors, here and where the model is loaded; run "
                "`pip install 'mixscout[quantise]'`"
            )

    @property
    def asked(self) -> bool:
        return self.quantise is not None or self.prune is not None

    def __str__(self) -> str:
        pruned = f"{self.prune:.0%} of its linear weights pruned by {self.pruning}" if self.prune else ""
        return ", ".join(filter(None, (pruned, f"weights as {self.quantise}" if self.quantise else "")))


@dataclass(frozen=True)
class Compressed:
    """The winner as it was and as it is read back.

    bytes, bytes_before: of the weights on disk; before: of float32
    zeros: share of all parameters that are zero
    before, after: loss by held-out domain on the test split
    behind: loss after less before by domain, paired on documents; `goal` is that of the study's value
    speed: tokens a second of a forward pass, over those before
    """

    study: str
    done: str
    folder: Path
    bytes: int
    bytes_before: int
    zeros: float
    before: Mapping[str, HeldOutLoss]
    after: Mapping[str, HeldOutLoss]
    behind: Mapping[str, PairedDifference]
    goal: PairedDifference
    speed: Ratio
    tokens_per_second: float

    @property
    def given_up(self) -> str:
        """Say in one sentence what the smaller size costs."""
        name, most = max(self.behind.items(), key=lambda item: item[1].difference)
        saved = 1 - self.bytes / self.bytes_before
        gain = f"{saved:.0%} of the bytes" if saved > 0.005 else "zeros, which take the room of any number"
        return (
            f"Given up for {gain}: at most {most.difference:+.4f} nats per token, on {name}; "
            f"{self.goal.difference:+.4f} of the study's value."
        )

    def as_json(self) -> Json:
        return {
            "study": self.study,
            "done": self.done,
            "folder": str(self.folder),
            "bytes": {"before": self.bytes_before, "after": self.bytes, "share": self.bytes / self.bytes_before},
            "zeros": self.zeros,
            "domains": {
                name: {
                    "before": self.before[name].loss_nats,
                    "after": self.after[name].loss_nats,
                    "behind": paired_json(self.behind[name]),
                }
                for name in self.before
            },
            "goal": paired_json(self.goal),
            "speed": {"median": self.speed.median, "min": self.speed.min, "max": self.speed.max},
            "tokens_per_second": self.tokens_per_second,
        }

    def _repr_html_(self) -> str:
        return as_html(lambda console: show_compressed(console, self))


def run_compressed(bench: Workbench, best: Best, folder: Path, wanted: Compression) -> Compressed:
    """Write the smaller winner into a new folder, with its figures, and return them.

    Raises `StudyError` when the folder is not empty, and `OutputError` when it cannot be written.
    """
    refuse_folder(folder)
    from objectives.scoring.scorer import Scorer  # loads torch
    from pool.checkpoints.checkpoint import load_model
    from pool.checkpoints.compressed import save_quantised, zeros_of

    pool, table = bench.proxy.pool, whole_table(bench)
    held_out = pool.corpus.held_out["test"]
    model = on_device(merged_model(bench.proxy, best.mixture), bench)
    say(f"scoring the winner of study {best.study!r} on {len(table.domains)} held-out domains")
    before, timed = Scorer(model, table).score(), _forward(model, table)
    with writing_to(folder), new_folder(folder.resolve()) as new:
        smaller = model
        if wanted.prune is not None:
            smaller = on_device(merged_model(bench.proxy, best.mixture), bench)
            _prune(smaller, pool, best.mixture, wanted)
        if wanted.quantise is None:
            smaller.save_pretrained(new)
        else:
            smaller = merged_model(bench.proxy, best.mixture) if smaller is model else smaller
            save_quantised(smaller, new, wanted.quantise)
        load_tokenizer(pool.folder / "tokenizer").save_pretrained(new)
        read = on_device(load_model(new), bench)
        say("scoring what is read back from the folder")
        after, pace = Scorer(read, table).score(), _forward(read, table)
        found = Compressed(
            best.study,
            str(wanted),
            folder,
            bytes=sum(file.stat().st_size for file in new.glob("*.safetensors")),
            bytes_before=(pool.folder / "seed" / WEIGHTS).stat().st_size,
            zeros=zeros_of(read),
            before=table.losses(before),
            after=table.losses(after),
            behind=paired_by_domain(held_out, "nats-per-token", table.by_domain(after), table.by_domain(before)),
            goal=_of_goal(bench, table, after, before),
            speed=paired(timed, pace, REPEATS),
            tokens_per_second=_timed_tokens(table) / min(seconds(pace) for _ in range(REPEATS)),
        )
        write_text(new / RECORD, json_text(found) + "\n")
        write_text(new / MIXTURE_FILE, json_text(best.as_json()) + "\n")
        write_text(new / "README.md", model_card(bench, best) + _section(found, wanted))
    return found


def on_device(model: PreTrainedModel, bench: Workbench) -> PreTrainedModel:
    """Move a model beside the members, which decide where merges compute."""
    import torch

    torch.nn.Module.to(model, bench.proxy.stacked.model.device)
    return model


def _prune(model: PreTrainedModel, pool: Pool, mixture: Mixture, wanted: Compression) -> None:
    from pool.checkpoints.compressed import prune

    assert wanted.prune is not None, "asked for"
    prune(model, wanted.prune, wanted.pruning, calibration_windows(pool, mixture))


def calibration_windows(pool: Pool, mixture: Mixture) -> torch.Tensor:
    """Draw training windows (B, T) of a mixture, in the order of the members' recipe."""
    import torch

    units, parts = pool.unit_mixture(mixture), pool.manifest.corpus.partitions
    context = pool.config.context
    streams = load_streams(pool.folder / "corpus", {name: parts[name].digest for name in units.support})
    count = max(1, CALIBRATION_TOKENS // context)
    recipe = pool.config.recipe.model_copy(update={"tokens": count * context, "batch_windows": 1})
    windows = training_windows(streams, units, recipe, context)
    return torch.from_numpy(np.stack([windows[number] for number in range(len(windows))]))


def whole_table(bench: Workbench) -> WindowTable:
    """Put the test windows of all held-out domains with text side by side. Raises `StudyError` without any."""
    held_out = bench.proxy.pool.corpus.held_out["test"]
    names = [name for name, windows in held_out.items() if windows.tokens]
    if not names:
        raise StudyError(f"study {bench.config.name!r}: nothing is held out to compare models on")
    return WindowTable.of(held_out, names)


def _of_goal(bench: Workbench, table: WindowTable, first: Floats, second: Floats) -> PairedDifference:
    goal, own = bench.goals["test"], bench.table("test")
    nats = (own.together({name: table.by_domain(one)[name] for name in own.domains}) for one in (first, second))
    return paired_difference(goal, own, *nats)


def _forward(model: PreTrainedModel, table: WindowTable) -> Callable[[], None]:
    from objectives.scoring.scorer import Scorer

    rows = np.arange(min(TIMED_WINDOWS, len(table.domain)))
    return Scorer(model, table, segments=[rows]).forward_only


def _timed_tokens(table: WindowTable) -> int:
    return int(table.tokens[:TIMED_WINDOWS].sum())


def _rows(found: Compressed) -> Sequence[tuple[str, str, str, str]]:
    return [
        (name, f"{loss.loss_nats:.4f}", f"{found.after[name].loss_nats:.4f}", str(found.behind[name]))
        for name, loss in found.before.items()
    ]


def show_compressed(console: Console, found: Compressed) -> None:
    """Show a smaller winner to people: bytes, losses by domain, pace, and what was given up."""
    console.print(f"The best mixture of study {found.study}, {found.done}, in {found.folder}", soft_wrap=True)
    table = plain_table("test loss, nats per token", "as it was", "as read back", "difference")
    for row in _rows(found):
        table.add_row(*row)
    console.print(table)
    for line in _lines(found):
        console.print(line, soft_wrap=True)


def _lines(found: Compressed) -> list[str]:
    return [
        f"Bytes of the weights: {found.bytes:,}, {found.bytes / found.bytes_before:.3f} of float32's "
        f"{found.bytes_before:,}. Zeros: {found.zeros:.0%} of all weights.",
        f"Tokens a second, over those as it was: {found.speed}; {found.tokens_per_second:,.0f} here.",
        found.given_up,
    ]


def _section(found: Compressed, wanted: Compression) -> str:
    rows = "\n".join(f"| {' | '.join(row)} |" for row in _rows(found))
    loads = "\nLoading needs `pip install compressed-tensors`; the weights are floats in memory.\n"
    return (
        f"\n## Made smaller\n\nThis is that merge with {found.done}. Figures are of the model read back from these "
        "files, on the test split.\n\n| domain | as it was | as read back | difference |\n|---|---|---|---|\n"
        f"{rows}\n\n{chr(10).join(_lines(found))}\n{loads if wanted.quantise else ''}"
    )
