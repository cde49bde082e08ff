"""What a metric's name and values say: scores by whole words, losses first, shares by their values alone."""

import numpy as np
import pytest

from objectives.stand_ins.metric_names import Looks, looks_like

PARTS, PERCENT, NATS = np.array([0.0, 0.67]), np.array([20.8, 100.0]), np.array([1.9, 3.2])
SCORES = """
mmlu_acc|acc|acc_norm|Accuracy|mmlu/acc,none|exact_match|exactMatch|em|f1|macro-F1|win rate|winRate|pass@1|pass@k
pass_at_10|maj@8|score|mmlu|MMLU-Pro|cmmlu|BLEU-4|rouge1|rougeL|chrF++|gsm8k|human_eval_pass@1|arc_easy|1-acc
""".replace("\n", "|")
LOSSES = """
loss|loss_y|val-loss|valloss|nll|NLL/web|perplexity|wordPerplexity|ppl|bpb|mmlu_bpb|error|error_rate|brier_score
acc_loss|metric/mmlu_acc_val_loss|bits_per_byte|WER
""".replace("\n", "|")
NEITHER = "web|acceleration|accent|family|embedding|scoreboard|passage|f|wiki_en|arc|rec"


def _names(text: str) -> list[str]:
    return [name for name in text.split("|") if name]


def test_a_name_with_a_word_of_scores_is_a_score_if_its_values_fit() -> None:
    for values, looks in ((PARTS, "score"), (PERCENT, "score"), (np.array([-0.4, 0.6]), None), (PERCENT * 10, None)):
        assert [name for name in _names(SCORES) if looks_like(name, values) != looks] == []


def test_a_name_with_a_word_of_losses_is_never_suspected() -> None:
    assert [name for name in _names(LOSSES) if looks_like(name, PARTS) != "loss"] == []


@pytest.mark.parametrize(("values", "looks"), [(PARTS, "share"), (NATS, None), (PERCENT, None), (-PARTS, None)])
def test_values_alone_are_a_share_in_the_unit_interval_and_nothing_else(values, looks: Looks | None) -> None:
    assert {looks_like(name, values) for name in _names(NEITHER)} == {looks}
