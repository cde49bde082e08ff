"""Every model family goes the whole way: pool, search with gradients, confirmation, with tied heads and with untied."""

import json
import shutil
from itertools import product
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from families import FAMILIES as GIVEN
from families import write_family
from given import name_seed
from safetensors.torch import load_file
from tiny import edit
from transformers import AutoModelForCausalLM, AutoTokenizer, BloomConfig, BloomForCausalLM, PreTrainedModel

from objectives.merging.merge import StackedPool
from objectives.scoring.scorer import Scorer
from objectives.scoring.window_table import WindowTable
from pool.checkpoints.checkpoint import load_model, new_model
from pool.config.pool_file import read_pool_file
from pool.config.recipe import Family, ModelShape
from pool.parts.store import Pool, open_pool
from pool.progress import size
from pool.tokens.held_out import HeldOutWindows

FAMILIES = get_args(Family)
SHAPE = ModelShape(hidden_size=16, layers=2, attention_heads=2, intermediate_size=32, context=32)


def _check_gradient(pool: Pool, step: float = 1e-4) -> None:
    """Partial derivatives at the even merge are those that differences of losses give."""
    stacked = StackedPool(pool.member_folders, dtype=torch.float64)
    table = WindowTable.of(pool.corpus.held_out["search"], ("licences",))
    scorer, even = Scorer(stacked.model, table), np.full(3, 1 / 3)

    def nats(weights: np.ndarray) -> float:
        stacked.merge(weights)
        return float(scorer.score().sum())

    differences = [(nats(even + step * axis) - nats(even - step * axis)) / (2 * step) for axis in np.eye(3)]
    stacked.merge(even)
    partials = scorer.score_with_jacobian(stacked.flat_gradient(), stacked.weight_gradient)[1][0]
    assert partials == pytest.approx(differences, rel=1e-4)


@pytest.mark.parametrize(
    ("family", "tied"), [one for one in product(FAMILIES, [True, False]) if one != ("llama", True)]
)
def test_a_family_goes_the_whole_way(family: str, tied: bool, root: Path, mixscout, tmp_path: Path) -> None:
    """All other tests are of a Llama with a tied head."""
    pool_file, study_file = root / "pool.toml", root / "study.toml"
    edit(pool_file, "context = 32", f'context = 32\nfamily = "{family}"\ntie_embeddings = {str(tied).lower()}')
    edit(pool_file, "tokens = 12_000", "tokens = 2_000")
    edit(pool_file, "tokens = 6_000", "tokens = 1_000")
    assert mixscout("pool", "build", pool_file, "--rebuild", "seed").code == 0
    pool = open_pool(read_pool_file(pool_file))
    heads = [name for name in load_file(pool.folder / "seed" / "model.safetensors") if "lm_head" in name]
    assert bool(heads) is not tied
    assert load_model(pool.folder / "seed").config.model_type == family
    _check_gradient(pool)

    answer = mixscout("search", study_file, "--merges", 5)
    assert answer.code == 0, answer.err
    single = json.loads(mixscout("confirm", study_file, "--json").out)["confirmed"][-1]
    assert single["proxy"] == single["trained"], "a vertex is the member itself"

    assert mixscout("export", study_file, tmp_path / "out").code == 0
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tied_there = exported.get_input_embeddings().weight is exported.get_output_embeddings().weight
    assert tied_there is tied


def _write_bloom_with_a_head_of_its_own(folder: Path, tokenizer: Path) -> None:
    """Positions are biases in attention, without a limit, and config.json says that there is no head."""
    config = BloomConfig(vocab_size=384, hidden_size=16, n_layer=1, n_head=2, tie_word_embeddings=False)
    BloomForCausalLM(config).save_pretrained(folder)
    edit(folder / "config.json", '"tie_word_embeddings": false', '"tie_word_embeddings": true')
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer / name, folder)


def test_a_seed_without_positions_and_with_a_wrong_flag_goes_the_whole_way(
    empty_root: Path, tiny_pool: Pool, mixscout, tmp_path: Path
) -> None:
    _write_bloom_with_a_head_of_its_own(tmp_path / "seed", tiny_pool.folder / "tokenizer")
    name_seed(empty_root / "pool.toml", f'checkpoint = "{tmp_path / "seed"}"\ncontext = 32')
    built = mixscout("pool", "build", empty_root / "pool.toml")
    assert built.code == 0 and "says tie_word_embeddings = true, and it has a head of its own" in built.err
    _check_gradient(open_pool(read_pool_file(empty_root / "pool.toml")))
    assert mixscout("search", empty_root / "study.toml", "--merges", 5).code == 0
    assert mixscout("export", empty_root / "study.toml", tmp_path / "out").code == 0
    exported, tokens = AutoModelForCausalLM.from_pretrained(tmp_path / "out"), torch.arange(20)[None]
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is False
    assert torch.equal(exported.lm_head.weight, load_file(tmp_path / "out" / "model.safetensors")["lm_head.weight"])
    assert torch.equal(exported(tokens).logits, load_model(tmp_path / "out")(tokens).logits)


STORED = {
    "one file": {"tied": True},
    "one file, a head of its own": {"tied": False},
    "a tied head stored twice": {"tied": True, "head_twice": True},
    "shards in bfloat16": {"tied": True, "dtype": torch.bfloat16, "sharded": True},
    "shards in bfloat16, a head of its own": {"tied": False, "dtype": torch.bfloat16, "sharded": True},
}
SAMPLE = [
    ("gemma2", "one file"),
    ("mistral", "shards in bfloat16, a head of its own"),
    ("qwen2", "a tied head stored twice"),
]
GRID = [
    pytest.param(name, stored, marks=[] if (name, stored) in SAMPLE else [pytest.mark.long])
    for name, stored in product(GIVEN, STORED)
]


@pytest.mark.parametrize(("name", "stored"), GRID)
def test_a_checkpoint_of_others_goes_the_whole_way(
    name: str, stored: str, empty_root: Path, mixscout, tmp_path: Path
) -> None:
    given, pool_file, study_file = empty_root / "given", empty_root / "pool.toml", empty_root / "study.toml"
    write_family(name, given, [(empty_root / "prose.txt").read_text()], **STORED[stored])
    name_seed(pool_file, 'checkpoint = "given"\ncontext = 32')
    built = mixscout("pool", "build", pool_file)
    assert built.code == 0, built.err
    weights = (empty_root / "pools" / "tiny" / "seed" / "model.safetensors").stat().st_size
    assert f"each training holds about {size(4 * weights)} (parameters, gradients and mom" in built.err
    pool, tokens = open_pool(read_pool_file(pool_file)), torch.arange(40)[None]
    seed, theirs = (
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        for folder in (pool.folder / "seed", given)
    )
    assert torch.equal(seed(tokens).logits, theirs(tokens).logits)
    _check_gradient(pool, step=1e-3)  # Gemma's norms stay float32 in float64, and small steps magnify their rounding

    searched = mixscout("search", study_file, "--merges", 5)
    assert searched.code == 0, searched.err
    best = json.loads(mixscout("best", study_file, "--json").out)
    assert mixscout("export", study_file, tmp_path / "out").code == 0
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tied_there = exported.get_input_embeddings().weight is exported.get_output_embeddings().weight
    assert tied_there is STORED[stored]["tied"]
    assert exported.config.model_type == theirs.config.model_type
    told = best["test"]["domains"]["licences"]["loss_nats"]
    assert _loss(exported, pool.corpus.held_out["test"]["licences"]) == pytest.approx(told, rel=1e-5)
    text = "As any reader of the export has it."
    ours, given_one = (AutoTokenizer.from_pretrained(folder) for folder in (tmp_path / "out", given))
    assert ours(text).input_ids == given_one(text).input_ids


def _loss(model: PreTrainedModel, windows: HeldOutWindows) -> float:
    """Mean nats per token by the model's own logits and nothing of ours."""
    inputs, targets = (torch.from_numpy(part).long() for part in (windows.inputs, windows.targets))
    with torch.no_grad():
        logits = model(input_ids=inputs).logits
    return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1).double(), targets.flatten(), ignore_index=-100))


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_is_dropped_out_while_a_family_trains(family: Family) -> None:
    model = new_model(SHAPE.model_copy(update={"family": family}), 300, initial_seed=0)
    tokens = torch.arange(64).reshape(2, 32)
    scored = model.eval()(input_ids=tokens).logits
    assert torch.equal(model.train()(input_ids=tokens).logits, scored)


def test_the_first_family_goes_unsaid_so_that_older_digests_hold() -> None:
    assert "family" not in SHAPE.digest_parts
    digests = {str(SHAPE.model_copy(update={"family": family}).digest_parts) for family in FAMILIES}
    assert len(digests) == len(FAMILIES)
