"""Promises of recipes that need the seed or held-out text: built as a user builds them, killed, and gone on with."""

import math
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from tiny import edit
from transformers import Trainer

from objectives.merging.merge import StackedPool
from pool.building.build import build_pool
from pool.building.training.inputs import held_out_text, own_domains, training_windows
from pool.building.training.placement import merged, with_adapter
from pool.building.training.run_files import OPTIMIZER
from pool.building.training.seed_penalty import measured_fisher
from pool.checkpoints.checkpoint import load_model, new_model, parameters_of
from pool.checkpoints.manifest import CheckpointManifest
from pool.config.pool_file import read_pool_file
from pool.config.recipe import Family, Lora, ModelShape, Recipe
from pool.errors import ConfigError, MixscoutError, PoolError, PoolMismatchError
from pool.files.digests import digest_file
from pool.mixture import Mixture
from pool.parts.store import Pool, open_pool

TIMES = {"seconds", "processor_seconds", "trained_unix"}
"""Fields of a manifest that no two runs share."""

DOCS = "pools/tiny/members/docs"
STEPS = "tokens = 6_000\nbatch_windows = 8"
STOPS = "[recipe.early_stopping]\nevery_steps = 4\npatience = 2"
RUINOUS = 'learning_rate = 0.3\nschedule = "constant"'
"""With it the held-out loss of the member `docs` turns after twelve steps."""


def _build(root: Path, *rebuild: str) -> Pool:
    return build_pool(read_pool_file(root / "pool.toml"), rebuild)


def _with(root: Path, option: str, *rebuild: str) -> Pool:
    """Build with an option in [recipe]; a table comes after it."""
    if option.startswith("["):
        with (root / "pool.toml").open("a") as stream:
            stream.write("\n" + option + "\n")
    else:
        edit(root / "pool.toml", STEPS, STEPS + "\n" + option)
    return _build(root, *rebuild)


def _docs(root: Path) -> dict[str, torch.Tensor]:
    return load_file(root / DOCS / "model.safetensors")


def _manifest(root: Path) -> CheckpointManifest:
    return CheckpointManifest.model_validate_json((root / DOCS / "manifest.json").read_text())


def _distance(root: Path) -> float:
    seed = load_file(root / "pools/tiny/seed/model.safetensors")
    return math.sqrt(sum(float((tensor - seed[name]).square().sum()) for name, tensor in _docs(root).items()))


def _killed_at(calls: int, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """Build until so many passes were made of the one member that is missing."""
    original, seen = Trainer.training_step, [0]

    def interrupted(self: Trainer, *arguments: object, **options: object) -> torch.Tensor:
        seen[0] += 1
        if seen[0] == calls:
            raise KeyboardInterrupt
        return original(self, *arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "training_step", interrupted)
        _build(root)


OPTIONS = {
    "continue": "continue_optimizer = true",
    "replay": "replay_share = 0.25\nwindow_offset = true\naccumulate = 2",
    "l2": "[recipe.seed_penalty]\nstrength = 10.0",
    "ewc": '[recipe.seed_penalty]\nkind = "ewc"\nstrength = 30.0\nfisher_windows = 8',
    "early": STOPS,
    "lora": "[recipe.lora]\nrank = 4",
}


@pytest.mark.parametrize("name", OPTIONS)
def test_each_option_makes_another_member_and_a_killed_run_ends_the_same_bit_for_bit(
    root: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    plain = _docs(root)
    if name == "early":
        edit(root / "pool.toml", "learning_rate = 3e-3", RUINOUS)
    _with(
        root,
        OPTIONS[name],
        "seed" if name == "continue" else "docs",
        *([] if name == "continue" else ["code", "prose"]),
    )
    whole, manifest = _docs(root), _manifest(root)
    assert any(not torch.equal(whole[key], plain[key]) for key in whole)
    shutil.rmtree(root / DOCS)
    _killed_at(14, monkeypatch, root)
    _build(root)
    assert all(torch.equal(whole[key], tensor) for key, tensor in _docs(root).items())
    assert _manifest(root).model_copy(update=manifest.model_dump(include=TIMES)) == manifest


def test_training_stops_early_and_the_best_checkpoint_is_kept(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(root / "pool.toml", "learning_rate = 3e-3", RUINOUS)
    pool = _with(root, STOPS, "code", "docs", "prose")
    course = _manifest(root).held_out
    assert course is not None
    lowest = min(course.loss_nats.values())
    assert course.loss_nats[course.best_step] == lowest
    last = max(course.loss_nats)
    assert last == course.best_step + 2 * 4 < 23, "two looks without a new lowest loss"
    assert _manifest(root).tokens == last * 8 * 32
    text = held_out_text(pool.folder / "corpus", pool.manifest.corpus, Mixture.of({"docs": 1.0}))
    assert text.windows["docs"].digest == pool.manifest.corpus.search["docs"].digest, "never the test split"
    assert text.loss_nats(load_model(root / DOCS)) == pytest.approx(lowest, abs=1e-6)
    kept = _docs(root)
    shutil.rmtree(root / DOCS)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "_load_best_model", killed)
        _build(root)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "training_step", killed)
        _build(root)
    assert all(torch.equal(kept[key], tensor) for key, tensor in _docs(root).items()), "it had ended; no step more"


def _refused(root: Path, kind: type[MixscoutError], message: str, *rebuild: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        _build(root, *rebuild)
    assert "\n" not in str(caught.value)


def test_early_stopping_needs_held_out_text_of_the_partition(root: Path) -> None:
    edit(root / "pool.toml", "held_out_share = 0.2", "held_out_share = 0.0")
    with (root / "pool.toml").open("a") as stream:
        stream.write("\n" + STOPS)
    _refused(root, ConfigError, "nothing of partition 'code' is held out: .*held_out_share", "all")


def test_a_base_unit_s_own_text_is_that_of_its_partition(united_root: Path) -> None:
    pool = open_pool(read_pool_file(united_root / "pool.toml"))
    unit = next(name for name in pool.names if name not in pool.manifest.corpus.search)
    mixture = Mixture.of({unit: 0.5, "docs": 0.5} if "docs" in pool.names else {unit: 1.0})
    assert set(own_domains(mixture, pool.manifest.corpus)) == {unit.rpartition("-")[0], *mixture.support} - {unit}


def test_members_go_on_with_the_state_that_the_seed_ended_with(root: Path) -> None:
    edit(root / "pool.toml", STEPS, STEPS + "\ncontinue_optimizer = true")
    _refused(root, PoolError, "trained without keeping its optimizer's state.*--rebuild seed", "code", "docs", "prose")
    _build(root, "seed")
    state = load_file(root / "pools/tiny/seed" / OPTIMIZER)
    weights = load_file(root / "pools/tiny/seed/model.safetensors")
    assert {name.partition(":")[0] for name in state} == set(weights)
    assert all(float(tensor) == 46 for name, tensor in state.items() if name.endswith(":step")), "the seed's steps"
    state["model.norm.weight:exp_avg"] += 1
    save_file(state, root / "pools/tiny/seed" / OPTIMIZER)
    shutil.rmtree(root / DOCS)
    _refused(root, PoolError, "truncated or altered since the seed was trained; run .*--rebuild seed")


def test_an_optimizer_that_is_not_the_best_checkpoint_s_is_not_continued(root: Path) -> None:
    edit(root / "pool.toml", STEPS, STEPS + "\ncontinue_optimizer = true")
    with (root / "pool.toml").open("a") as stream:
        stream.write("\n[seed.recipe.early_stopping]\n")
    with pytest.raises(ConfigError, match="continue_optimizer: .* its optimizer is that of the last step"):
        _build(root)


def test_replayed_text_is_the_seed_s_and_a_change_of_it_touches_every_member(root: Path) -> None:
    plain = _manifest(root)
    pool = _with(root, 'replay_share = 0.5\nprecision = "bfloat16"', "code", "docs", "prose")
    replayed = _manifest(root)
    assert set(plain.data_digests) == {"docs"} and set(replayed.data_digests) == {"code", "docs", "prose"}
    assert replayed.seed_text and plain.seed_text
    assert replayed.seed_text.before_nats == plain.seed_text.before_nats
    assert replayed.seed_text.after_nats != plain.seed_text.after_nats
    text = held_out_text(pool.folder / "corpus", pool.manifest.corpus, Mixture.of(pool.manifest.seed.mixture))
    after = text.at_most(64).loss_nats(load_model(root / DOCS))
    assert after == pytest.approx(replayed.seed_text.after_nats, abs=1e-6)
    edit(root / "prose.txt", "the", "THE")
    _refused(root, PoolMismatchError, "member 'docs' was trained before a change of the training text of 'prose'")


def test_replay_of_a_partition_that_is_gone_is_refused(root: Path) -> None:
    edit(root / "pool.toml", '[corpus.partitions.prose]\nfiles = ["prose.txt"]\nformat = "text"\n', "")
    edit(root / "pool.toml", STEPS, STEPS + "\nreplay_share = 0.5")
    _refused(
        root, PoolMismatchError, "reads the seed's text: .*'prose', which is not in the corpus any more", "docs", "code"
    )


@pytest.mark.parametrize("kind", ["l2", "ewc"])
def test_a_penalty_keeps_members_near_the_seed(root: Path, kind: str) -> None:
    free = _distance(root)
    _with(
        root, f'[recipe.seed_penalty]\nkind = "{kind}"\nstrength = 300.0\nfisher_windows = 8', "code", "docs", "prose"
    )
    assert _distance(root) < 0.9 * free
    files = list((root / "pools/tiny/seed").glob("fisher-*.safetensors"))
    assert len(files) == (kind == "ewc")
    for path in files:
        before = path.stat().st_mtime_ns
        shutil.rmtree(root / DOCS)
        _build(root)
        assert path.stat().st_mtime_ns == before, "measured once"
        right = path.read_bytes()
        path.write_bytes(right[:-8] + bytes(8))
        shutil.rmtree(root / DOCS)
        _build(root)
        assert path.read_bytes() == right, "an altered one is measured again"


def test_the_fisher_information_is_the_mean_square_of_a_window_s_gradient(tiny_pool: Pool) -> None:
    text, recipe = tiny_pool.corpus.train, Recipe(tokens=3 * 32, batch_windows=1)
    windows = training_windows(text, Mixture.uniform(tiny_pool.names), recipe, 32)
    model = load_model(tiny_pool.folder / "seed")
    expected = {name: torch.zeros_like(tensor) for name, tensor in parameters_of(model).items()}
    for number in range(3):
        window = torch.from_numpy(windows[number])[None]
        mean = model(input_ids=window, labels=window).loss
        gradients = torch.autograd.grad(mean, list(model.parameters()))
        for (name, _), gradient in zip(model.named_parameters(), gradients, strict=True):
            expected[name] += (31 * gradient) ** 2 / (3 * 31)
    found = measured_fisher(load_model(tiny_pool.folder / "seed"), windows)
    for name, tensor in found.items():
        assert torch.allclose(tensor, expected[name], rtol=1e-3, atol=1e-9)


def test_a_lora_member_is_the_seed_plus_its_adapter_and_merges_are_the_seed_plus_weighted_adapters(root: Path) -> None:
    pool = _with(root, '[recipe.lora]\nrank = 4\nalpha = 6\ntargets = ["q_proj", "down_proj"]', "code", "docs", "prose")
    seed = load_file(pool.folder / "seed/model.safetensors")
    members = {name: load_file(path / "model.safetensors") for name, path in pool.member_folders.items()}
    deltas = {name: _delta(path / "adapter/adapter_model.safetensors") for name, path in pool.member_folders.items()}
    assert all(len(delta) == 4 for delta in deltas.values()), "two layers, two matrices each"
    for name, member in members.items():
        for key, tensor in member.items():
            added = deltas[name].get(key, torch.zeros(()))
            assert torch.allclose(tensor, seed[key] + added, atol=1e-7, rtol=0), f"{key} of {name}"
            assert (key in deltas[name]) == (not torch.equal(tensor, seed[key]))
    weights = {"code": 0.2, "docs": 0.5, "prose": 0.3}
    stacked = StackedPool(pool.member_folders)
    stacked.merge(np.array([weights[name] for name in stacked.names]))
    for key, tensor in parameters_of(stacked.model).items():
        added = sum(weights[name] * deltas[name].get(key, torch.zeros(())) for name in weights)
        assert torch.allclose(tensor, seed[key] + added, atol=1e-6, rtol=0)
    recorded = _manifest(root).adapter_digest
    assert recorded == digest_file(root / DOCS / "adapter/adapter_model.safetensors")


def _delta(path: Path) -> dict[str, torch.Tensor]:
    """What an adapter of rank 4 and alpha 6 adds, by the name of the matrix it is added to."""
    tensors = load_file(path)
    names = [key.removesuffix(".lora_A.weight") for key in tensors if key.endswith(".lora_A.weight")]
    return {
        f"{name.removeprefix('base_model.model.')}.weight": 1.5
        * (tensors[f"{name}.lora_B.weight"].double() @ tensors[f"{name}.lora_A.weight"].double()).float()
        for name in names
    }


def test_lora_refuses_by_name_what_it_cannot_do(root: Path) -> None:
    with (root / "pool.toml").open("a") as stream:
        stream.write('\n[recipe.lora]\ntargets = ["attention"]\n')
    _refused(root, PoolError, r"\[recipe.lora\] targets attention: Target modules .*not found", "code", "docs", "prose")
    with pytest.raises(ValidationError, match="continue_optimizer is about all parameters.*keep one of the two"):
        Recipe.model_validate({"lora": {}, "continue_optimizer": True})


SMALL = ModelShape(hidden_size=16, attention_heads=2, layers=1, intermediate_size=16)


def _merged_exactly(shape: ModelShape, *targets: str) -> bool:
    adapted = with_adapter(new_model(shape, 60, initial_seed=0), Lora(rank=2, targets=targets), initial_seed=0)
    generator, window = torch.Generator().manual_seed(1), torch.arange(10)[None]
    plain = adapted(input_ids=window).logits
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(0, 0.3, generator=generator)
    trained = adapted(input_ids=window).logits
    assert not torch.allclose(trained, plain, atol=1e-2), "the adapters do something"
    return torch.allclose(merged(adapted)(input_ids=window).logits, trained, atol=1e-5)


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_an_adapter_on_tied_weights_is_refused_and_on_untied_ones_merged_exactly(target: str) -> None:
    with pytest.raises(PoolError, match=f"{target}: model.embed_tokens and lm_head are one matrix \\(tied\\)"):
        with_adapter(new_model(SMALL, 60, initial_seed=0), Lora(targets=("q_proj", target)), initial_seed=0)
    assert _merged_exactly(SMALL.model_copy(update={"tie_embeddings": False}), "q_proj", target)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", get_args(Family))
def test_adapters_on_all_linear_layers_are_merged_exactly_in_every_family(family: Family, tied: bool) -> None:
    assert _merged_exactly(SMALL.model_copy(update={"family": family, "tie_embeddings": tied}), "all-linear")


@pytest.mark.parametrize("lora", [False, True])
def test_members_of_an_age_are_the_members_on_the_way(root: Path, monkeypatch: pytest.MonkeyPatch, lora: bool) -> None:
    if lora:
        _with(root, "[recipe.lora]", "code", "docs", "prose")
    ended = _docs(root)
    assert not _manifest(root).ages
    with pytest.raises(
        ConfigError, match=r"member 'code' was not kept at an age of 8 steps \(kept: none\).*rebuild code"
    ):
        _with(root, "keep_every_steps = 8").at_age(8)
    for name in ("code", "docs", "prose"):
        shutil.rmtree(root / "pools/tiny/members" / name)
    _killed_at(23 + 14, monkeypatch, root)
    pool = _build(root)
    assert all(torch.equal(ended[key], tensor) for key, tensor in _docs(root).items()), "the member is the same"
    assert list(_manifest(root).ages) == [8, 16]
    young = pool.at_age(8)
    assert young.manifest.digest != pool.at_age(16).manifest.digest != pool.manifest.digest
    assert young.manifest.members["docs"].tokens == 8 * 8 * 32
    eight, sixteen = (load_file(path / "model.safetensors") for path in (root / DOCS / "ages").glob("*"))
    assert set(eight) == set(ended) and any(not torch.equal(eight[key], sixteen[key]) for key in eight)
    StackedPool(young.merged_folders).merge(np.full(3, 1 / 3))
    path = young.member_folders["docs"] / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(PoolError, match=r"ages/8 was truncated or altered since it was trained; run .*--rebuild docs`"):
        pool.at_age(8)
