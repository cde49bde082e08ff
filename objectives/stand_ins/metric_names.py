"""What the name and the values of a swarm's metric say of its direction: a guess, good enough to ask the user.

A name counts by whole words: `mmlu_acc` and `winRate` are scores, `acceleration` is not. Words of losses win.
"""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np

from objectives.held_out import Floats

Looks = Literal["loss", "score", "share"]
"""`loss`: less is better by the name. `score`: more is better by the name. `share`: no word, but values in [0, 1]."""

_LOSSES = """
loss losses nll nlls xent ce crossentropy entropy perplexity perplexities ppl bpb bpc bpt bpw bits nats
error errors err wer cer ter mse rmse mae mape kl divergence brier ece regret distance cost toxicity
"""
_SCORES = """
acc accs accuracy accuracies correct em exactmatch f1 fscore score scores winrate bleu sacrebleu codebleu bleurt
rouge rougelsum meteor chrf comet bertscore auc auroc auprc ndcg mrr mcc recall precision reward
pearson spearman kendall correlation
"""
_BENCHMARKS = """
cmmlu ceval hellaswag piqa winogrande boolq openbookqa obqa commonsenseqa csqa siqa socialiqa truthfulqa triviaqa
naturalqs gsm gsm8k humaneval mbpp bbh agieval gpqa ifeval sciq copa squad alpacaeval mtbench arenahard livecodebench
swebench logiqa medqa pubmedqa belebele arceasy arcchallenge
"""
LOSSES, SCORES, BENCHMARKS = (frozenset(words.split()) for words in (_LOSSES, _SCORES, _BENCHMARKS))
_PAIRS = frozenset({"exact match", "win rate", "success rate", "solve rate", "hit rate", "pass at"})
_EXAMS = frozenset({"arc easy", "arc challenge"})
_AT_K = re.compile(r"[a-z]+@(k|\d+)")
_WHOLE = 100.0


def words_of(name: str) -> list[str]:
    """Split a name at separators and inner capitals, in lower case; a word with final digits comes without them, too.

    `BLEU-4` is bleu and 4, `rouge1` is rouge1 and rouge, `pass@1` stays.
    """
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = [word for word in re.split(r"[^a-z0-9@]+", f"{apart} {name}".lower()) if word]
    return [*words, *(word.rstrip("0123456789") for word in words if not word.isdigit() and word[-1].isdigit())]


def named_loss(name: str) -> bool:
    """Tell whether a name has a word of losses; `valloss` has, too."""
    return any(word in LOSSES or word.endswith(("loss", "ppl", "perplexity")) for word in words_of(name))


def named_score(name: str) -> bool:
    """Tell whether a name has a word of scores, and none of losses."""
    words = words_of(name)
    said = (SCORES | _PAIRS) & {*words, *_neighbours(words)} or any(map(_AT_K.fullmatch, words))
    return bool(said) and not named_loss(name)


def looks_like(name: str, values: Floats) -> Looks | None:
    """Guess from a metric's column and values (N,); None without a sign of either.

    A score has values in [0, 1] or [0, 100]. Bits per byte and accuracies fill [0, 1] alike, so values alone are a
    `share`, which may be either. Values alone in [0, 100] say nothing: losses and perplexities have them.
    """
    if named_loss(name):
        return "loss"
    low, high = float(np.min(values)), float(np.max(values))
    words = words_of(name)
    exam = (BENCHMARKS | _EXAMS) & {*words, *_neighbours(words)} or any(word.startswith("mmlu") for word in words)
    if (named_score(name) or exam) and low >= 0 and high <= _WHOLE:
        return "score"
    return "share" if low >= 0 and high <= 1 else None


def _neighbours(words: Sequence[str]) -> list[str]:
    return [f"{first} {second}" for first, second in pairwise(words)]
