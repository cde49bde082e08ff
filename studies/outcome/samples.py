"""The verb `samples`: prompts of held-out text continued by the best mixture and its baselines, blinded, side by side.

A rater gets a CSV file with an empty column for scores. The key beside it says which model wrote which text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING

import numpy as np
from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from objectives.scoring.window_table import Rows
from pool.errors import ConfigError, StudyError
from pool.files.csv_tables import read_csv
from pool.files.digests import digest_json
from pool.files.names import file_name
from pool.files.whole import csv_text, new_files, write_text, writing_to
from pool.mixture import Mixture
from pool.parts.provenance import TruthRun
from pool.progress import track
from pool.tokens.held_out import HeldOutWindows
from pool.tokens.tokenizer import load_tokenizer
from studies.answers.best import baseline_mixtures
from studies.answers.score import Json
from studies.opened.on_pool import Workbench
from studies.terminal import json_text, plain_table

if TYPE_CHECKING:
    from pool.corpus.embeddings import EmbeddingModel

BEST, TRAINED, SEED = "best mixture", "best mixture, really trained", "seed"
COLUMNS = ("sample", "prompt", "domain", "letter", "beginning", "continuation", "score")
_PROMPT, _NEW = 4, 2
"""A prompt has a quarter of the context, a continuation half."""


@dataclass(frozen=True)
class SamplesRequest:
    """Prompts of each held-out domain, the seed of their choice and of all texts, and local encoders.

    encoder: for the cosine of a continuation with its prompt.
    bert: for BERTScore of a continuation with the real one.
    """

    prompts: int = 3
    seed: int = 0
    encoder: Path | None = None
    bert: Path | None = None


@dataclass(frozen=True)
class Continued:
    """A prompt, its real continuation, and by letter: texts, who wrote each, and their ids in the CSV file."""

    name: str
    domain: str
    beginning: str
    real: str
    texts: Mapping[str, str]
    writers: Mapping[str, str]
    samples: Mapping[str, str]


@dataclass(frozen=True)
class Measured:
    """What is measured of a contender's texts: by text, in the order of the prompts; None: not measured.

    coherence: cosines with the prompts, in [-1, 1].
    bert_score: F1 with the real continuations.
    self_bleu: of all texts, in [0, 100]; lower is more diverse.
    """

    coherence: Sequence[float] | None = None
    bert_score: Sequence[float] | None = None
    self_bleu: float | None = None


@dataclass(frozen=True)
class Samples:
    """All texts of a study's contenders, with the key to who wrote them; `per_domain` prompts were asked for."""

    study: str
    mixture: Mapping[str, float]
    seed: int
    per_domain: int
    new_tokens: int
    contenders: Sequence[str]
    prompts: Sequence[Continued]
    measured: Mapping[str, Measured]

    def as_json(self) -> Json:
        return asdict(self)

    def rows(self) -> Iterator[list[str]]:
        """Yield the rows of the rater's file."""
        for one in self.prompts:
            for letter, text in one.texts.items():
                yield [one.samples[letter], one.name, one.domain, letter, one.beginning, text, ""]


def samples_files(reports: Path, study: str) -> tuple[Path, Path]:
    """Return the paths of the rater's CSV file and of its key."""
    stem = f"{file_name(study)}.samples"
    return reports / f"{stem}.csv", reports / f"{stem}.json"


def _refuse_rated(path: Path) -> None:
    """Raise `StudyError` where a rater has written scores into the file that would be replaced."""
    with suppress(ConfigError):  # no file, or no table: nobody's scores
        table = read_csv(path, lambda columns: "score" in columns, "text")
        if "score" in table.columns and any(row.fields[table.columns.index("score")].strip() for row in table.rows):
            raise StudyError(f"{path} holds scores of a rater; move it away, or name another folder with --output")


def read_samples(key: Path) -> Samples:
    """Read the key of a rater's file. Raises `StudyError`."""
    try:
        return TypeAdapter(Samples).validate_json(key.read_bytes())
    except FileNotFoundError:
        raise StudyError(f"{key}: no such file, and it says who wrote which text; run `mixscout samples`") from None
    except ValidationError as error:
        raise StudyError(f"{key} is no key of samples ({error.errors()[0]['msg']}); run `mixscout samples`") from None


def run_samples(bench: Workbench, best: Mixture, wanted: SamplesRequest, reports: Path) -> Samples:
    """Let every contender continue the same prompts with the same random numbers, and write both files.

    Raises `StudyError` for a rated file, `ConfigError` for a missing extra, and `CorpusError` for an unfit encoder.
    """
    table, key = samples_files(reports, bench.config.name)
    _refuse_rated(table)
    asked = {"--encoder": wanted.encoder, "--bertscore": wanted.bert}
    encoders = {path: _encoder(option, path) for option, path in asked.items() if path is not None}
    prompts = list(_prompts(bench, wanted))
    if not prompts:
        raise StudyError(f"study {bench.config.name!r}: no held-out document is long enough for a prompt and its text")
    written = _written(bench, best, prompts, wanted.seed)
    ready = _blinded(bench.config.name, prompts, written, wanted.seed)
    measured = {name: _measured(prompts, texts, wanted, encoders) for name, texts in written.items()}
    samples = Samples(
        bench.config.name,
        best.as_dict(),
        wanted.seed,
        wanted.prompts,
        bench.proxy.pool.config.context // _NEW,
        contenders=list(written),
        prompts=ready,
        measured=measured,
    )
    with writing_to(table), new_files(reports):
        reports.mkdir(parents=True, exist_ok=True)
        write_text(table, csv_text(COLUMNS, samples.rows()))
        write_text(key, json_text(samples.as_json()))
    return samples


def _encoder(option: str, folder: Path) -> EmbeddingModel:
    """Load an encoder, and see that what it is for is installed, before any merge."""
    from objectives.scoring.diversity import bert_scores  # loads torch
    from pool.corpus.embeddings import load_encoder

    encoder = load_encoder(option, folder)
    if option == "--bertscore":
        bert_scores(encoder, [], [])
    return encoder


@dataclass(frozen=True)
class _Prompt:
    name: str
    domain: str
    tokens: Sequence[int]
    beginning: str
    real: str


def _prompts(bench: Workbench, wanted: SamplesRequest) -> Iterator[_Prompt]:
    """Choose documents of every held-out domain, test split, whose first window is long enough."""
    pool = bench.proxy.pool
    tokenizer, context = load_tokenizer(pool.folder / "tokenizer"), pool.config.context
    prompt, new = context // _PROMPT, context // _NEW
    for at, (domain, windows) in enumerate(pool.corpus.held_out["test"].items()):
        rows = _long_enough(windows, prompt + new)
        some = np.random.default_rng([wanted.seed, at]).permutation(len(rows))[: wanted.prompts]
        for number, row in enumerate(rows[np.sort(some)].tolist(), start=1):
            tokens = windows.inputs[row].tolist()
            beginning, real = tokens[:prompt], tokens[prompt : prompt + new]
            texts = tokenizer.batch_decode([beginning, real], skip_special_tokens=True)
            yield _Prompt(f"{domain}-{number}", domain, beginning, *texts)


def _long_enough(windows: HeldOutWindows, least: int) -> Rows:
    """Return the rows of the first windows of documents with so many tokens or more."""
    first: Rows = np.unique(windows.document, return_index=True)[1]
    return first[windows.window_tokens[first] >= least]


def _written(bench: Workbench, best: Mixture, prompts: Sequence[_Prompt], seed: int) -> dict[str, list[str]]:
    """Return the continuations of every contender; equal models write once."""
    from objectives.scoring.diversity import continuations  # loads torch

    proxy, residents = bench.proxy, _residents(bench, best)
    tokenizer, new = load_tokenizer(proxy.pool.folder / "tokenizer"), proxy.pool.config.context // _NEW
    written, tokens = {}, [one.tokens for one in prompts]
    with track("samples", len(residents)) as show:
        for done, (name, resident) in enumerate(residents.items(), start=1):
            if isinstance(resident, Path):
                proxy.stacked.load(resident, f"the model in {resident}")
            else:
                proxy.make_resident(resident)
            rows = continuations(proxy.stacked.model, tokenizer, tokens, new_tokens=new, seed=seed)
            written[name] = tokenizer.batch_decode(rows, skip_special_tokens=True)
            show(done, name)
    return written


def _residents(bench: Workbench, best: Mixture) -> dict[str, Mixture | Path | None]:
    """Return by contender what is made resident: a merge, a trained model's folder, or None for the seed."""
    from pool.building.job import folder_of, is_trained  # loads torch

    pool = bench.proxy.pool
    baselines = baseline_mixtures(bench)
    merges = {"uniform": baselines["uniform"], "best single member": baselines["best_single_member"], BEST: best}
    last = {one.over(pool.names).digest: name for name, one in merges.items()}
    different = {name: one for name, one in merges.items() if last[one.over(pool.names).digest] == name}
    run = TruthRun(best.over(pool.names), pool.config.recipe)
    trained = {TRAINED: folder_of(pool, run)} if len(best.support) > 1 and is_trained(pool, run) else {}
    return {SEED: None, **different, **trained}


def _blinded(
    study: str, prompts: Sequence[_Prompt], written: Mapping[str, Sequence[str]], seed: int
) -> list[Continued]:
    """Give the texts of every prompt letters in an order of its own."""
    names, found = list(written), list[Continued]()
    for at, prompt in enumerate(prompts):
        order = np.random.default_rng([seed, len(prompts), at]).permutation(len(names)).tolist()
        writers = {ascii_uppercase[place]: names[one] for place, one in enumerate(order)}
        texts = {letter: written[name][at] for letter, name in writers.items()}
        ids = {letter: digest_json([study, seed, prompt.name, letter, text])[:10] for letter, text in texts.items()}
        found.append(Continued(prompt.name, prompt.domain, prompt.beginning, prompt.real, texts, writers, ids))
    return found


def _measured(
    prompts: Sequence[_Prompt], texts: Sequence[str], wanted: SamplesRequest, encoders: Mapping[Path, EmbeddingModel]
) -> Measured:
    from objectives.scoring.diversity import bert_scores, coherence, self_bleu
    from pool.corpus.embeddings import Embedder

    cosines = scores = likeness = None
    if wanted.encoder:
        cosines = coherence(Embedder(encoders[wanted.encoder]), [one.beginning for one in prompts], texts).tolist()
    if wanted.bert:
        scores = bert_scores(encoders[wanted.bert], texts, [one.real for one in prompts]).tolist()
    with suppress(ConfigError):  # without the extra
        likeness = self_bleu(texts) if len(texts) > 1 else None
    return Measured(cosines, scores, likeness)


def show_samples(console: Console, samples: Samples) -> None:
    """Show what was measured of the texts, and what was not, with the way to it."""
    domains = len({one.domain for one in samples.prompts})
    console.print(
        f"{len(samples.prompts)} prompts of {domains} held-out domains, each continued by {len(samples.contenders)} "
        f"models of study {samples.study} by {samples.new_tokens} tokens (seed {samples.seed})"
    )
    table = plain_table("", "coherence with prompt", "BERTScore F1", "self-BLEU (lower is more diverse)")
    for name, one in samples.measured.items():
        means = (f"{np.mean(found):.4f}" if found else "-" for found in (one.coherence, one.bert_score))
        table.add_row(name, *means, "-" if one.self_bleu is None else f"{one.self_bleu:.2f}")
    console.print(table)
    for missing in not_measured(samples):
        console.print(missing, soft_wrap=True)


def not_measured(samples: Samples) -> list[str]:
    """Say what was not measured, and what measures it."""
    one = next(iter(samples.measured.values()))
    ways = {
        "Coherence was not measured: --encoder DIR names a sentence encoder on disk.": one.coherence,
        "BERTScore was not measured: --bertscore DIR names an encoder on disk.": one.bert_score,
        "Self-BLEU was not measured: it needs `pip install 'mixscout[diversity]'` and two prompts.": one.self_bleu,
    }
    return [way for way, found in ways.items() if found is None]
