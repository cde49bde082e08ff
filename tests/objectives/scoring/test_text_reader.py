"""A checkpoint as a reader: its states and nats are the model's own, and reading a text makes the text likelier."""

import numpy as np
import pytest
import torch

from objectives.scoring.text_reader import reading
from pool.checkpoints.checkpoint import load_model
from pool.parts.store import Pool
from pool.tokens.ngrams import windows_of


def test_states_and_nats_are_the_model_s_over_its_context(tiny_pool: Pool) -> None:
    windows = windows_of(tiny_pool.corpus.train["code"])[:20]
    model, context = load_model(tiny_pool.folder / "seed"), tiny_pool.config.context
    tokens = torch.as_tensor(windows[:, :context].astype(np.int64))
    with torch.no_grad():
        states = model.base_model(input_ids=tokens).last_hidden_state.mean(1)
        nats = [float(model(input_ids=row[None], labels=row[None]).loss) for row in tokens]
    with reading(tiny_pool.folder / "seed") as reader:
        np.testing.assert_allclose(reader.mean_states(windows), states.numpy(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(reader.mean_nats(windows), nats, rtol=1e-5)


def test_a_text_is_likelier_after_it_was_read_and_the_same_every_time(tiny_pool: Pool) -> None:
    text, other = (windows_of(tiny_pool.corpus.train[name])[:16] for name in ("code", "prose"))
    after = []
    for _ in range(2):
        with reading(tiny_pool.folder / "seed") as reader:
            before = [reader.mean_nats(one).mean() for one in (text, other)]
            reader.learn(text, np.ones(len(text)), learning_rate=3e-3)
            after.append([reader.mean_nats(one).mean() for one in (text, other)])
    gained = np.array(before) - after[0]
    assert gained[0] > 0.05 and gained[0] > gained[1]
    assert after[0] == pytest.approx(after[1], abs=1e-6)


def test_windows_without_a_share_are_not_read(tiny_pool: Pool) -> None:
    text, other = (windows_of(tiny_pool.corpus.train[name])[:8] for name in ("code", "prose"))
    found = []
    for some in (np.concatenate([text, other]), np.concatenate([text, text[::-1]])):
        with reading(tiny_pool.folder / "seed") as reader:
            reader.learn(some, np.repeat([1.0, 0.0], 8), learning_rate=3e-3)
            found.append(reader.mean_nats(other).mean())
    assert found[0] == pytest.approx(found[1], abs=1e-6)
