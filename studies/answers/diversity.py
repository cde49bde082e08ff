"""An optional column of `best`: how diverse the texts are that each contender writes, by self-BLEU."""

from collections.abc import Mapping

from objectives.scoring.diversity import Diversity, self_bleu_of
from pool.tokens.tokenizer import load_tokenizer
from studies.answers.best import Best
from studies.opened.on_pool import Workbench

SAMPLES = 48
PROMPT_TOKENS = 8
SEED = 0


def run_diversity(bench: Workbench, best: Best) -> Mapping[str, Diversity]:
    """Sample as many texts from each contender, from the beginnings of the same test windows, with the same seed.

    A text is half a context long. Raises `ConfigError` when sacrebleu is missing.
    """
    table = bench.table("test")
    windows = table.inputs[table.lengths > PROMPT_TOKENS][:SAMPLES]
    prompts = [row[:PROMPT_TOKENS].tolist() for row in windows]
    tokenizer = load_tokenizer(bench.pool.folder / "tokenizer")
    new_tokens = bench.pool.config.context // 2
    found = {}
    for name, standing in {"best": best.best, **best.baselines}.items():
        bench.make_resident(standing.mixture)
        model = bench.stacked.model
        found[name] = self_bleu_of(model, tokenizer, prompts, samples=SAMPLES, new_tokens=new_tokens, seed=SEED)
    return found
