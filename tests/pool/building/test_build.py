"""Promises of building and opening a pool: only what is missing is built, and nothing is believed unverified."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from interrupted import build_until
from safetensors.torch import load_file, save_file
from tiny import edit, snapshot

from pool.building.build import build_pool
from pool.building.job import TrainingJob
from pool.checkpoints.manifest import CheckpointManifest, verify_checkpoint
from pool.config.pool_file import read_pool_file
from pool.engines.engine import Job, OneByOne, Result
from pool.errors import ConfigError, CorpusError, MixscoutError, PoolError, PoolMismatchError
from pool.files.digests import digest_file
from pool.files.whole import new_folder
from pool.mixture import Mixture
from pool.parts import store
from pool.parts.layout import PoolLayout
from pool.parts.provenance import member_provenance
from pool.parts.store import Pool, open_pool

MEMBERS = "pools/tiny/members"


def _build(root: Path, *rebuild: str) -> Pool:
    return build_pool(read_pool_file(root / "pool.toml"), rebuild)


def _open(root: Path) -> Pool:
    return open_pool(read_pool_file(root / "pool.toml"))


def _weights(root: Path) -> dict[str, tuple[str, int]]:
    files = sorted((root / "pools").rglob("model.safetensors"))
    return {str(path.relative_to(root)): (digest_file(path), path.stat().st_mtime_ns) for path in files}


def _refused(root: Path, kind: type[MixscoutError], message: str, *rebuild: str) -> None:
    """A refused build changes nothing on disk, and opening is refused or unchanged."""
    before = snapshot(root)
    with pytest.raises(kind, match=message) as caught:
        _build(root, *rebuild)
    assert str(caught.value).count("\n") == message.count("\n")
    assert snapshot(root) == before


def test_building_again_changes_nothing(root: Path) -> None:
    before = snapshot(root)
    _build(root)
    assert snapshot(root) == before


def test_only_a_missing_member_is_built_and_comes_out_the_same(root: Path) -> None:
    before = _weights(root)
    shutil.rmtree(root / MEMBERS / "docs")
    _build(root)
    after = _weights(root)
    assert {name: digest for name, (digest, _) in after.items()} == {n: d for n, (d, _) in before.items()}
    assert {name for name in after if after[name] != before[name]} == {f"{MEMBERS}/docs/model.safetensors"}


def test_text_that_changes_while_members_train_is_said_at_the_end_of_the_build(root: Path) -> None:
    class Editing(OneByOne):
        def run(
            self, jobs: Sequence[Job[Result]], *, watch: Callable[[], None] = lambda: None
        ) -> Iterator[tuple[str, Result]]:
            edit(root / "prose.txt", "the", "THE")
            return super().run(jobs, watch=watch)

    before, prose = _weights(root), (root / "prose.txt").read_text()
    shutil.rmtree(root / MEMBERS / "docs")
    with pytest.raises(PoolMismatchError, match="has changed since it was built"):
        build_pool(read_pool_file(root / "pool.toml"), engine=Editing())
    (root / "prose.txt").write_text(prose)
    assert _open(root).names == ("code", "docs", "prose"), "the pool is whole nevertheless"
    assert {name: digest for name, (digest, _) in _weights(root).items()} == {n: d for n, (d, _) in before.items()}


def test_the_seed_has_the_files_of_the_pools_tokenizer(root: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        ours, seeds = (root / "pools/tiny" / part / name for part in ("tokenizer", "seed"))
        assert seeds.read_text() == ours.read_text()


def test_an_unbuilt_pool_says_what_to_run(empty_root: Path) -> None:
    with pytest.raises(PoolError, match="is not built .*`mixscout pool build .*pool.toml`"):
        _open(empty_root)


RECIPE_CHANGED = r"""3 members were trained before a change of recipe\.learning_rate 0\.003 -> 0\.001
members: 'code', 'docs', 'prose'; the corpus, the tokenizer and the seed still fit
cost: 18,000 tokens of training in all, about \d+ s at the speed of the last training
train them again by `mixscout pool build .*pool\.toml --all-members`; until then the pool stays as it is
or take the change back, or give the pool another name$"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("learning_rate = 3e-3", "learning_rate = 1e-3", RECIPE_CHANGED),
        ("learning_rate = 5e-3", "learning_rate = 1e-3", r"the seed .*recipe.learning_rate.*--rebuild seed"),
        ('mixture = "proportional"', 'mixture = "uniform"', "the seed .*what it starts from"),
        ("layers = 2", "layers = 1", "the model's shape"),
        ("vocabulary = 384", "vocabulary = 400", r"the \[tokenizer\] table, has changed.*--rebuild all"),
    ],
)
def test_a_changed_recipe_is_refused_by_name(root: Path, old: str, new: str, message: str) -> None:
    edit(root / "pool.toml", old, new)
    _refused(root, PoolMismatchError, message)
    with pytest.raises(PoolMismatchError):
        _open(root)


def test_the_steps_between_checkpoints_may_change_freely(root: Path) -> None:
    edit(root / "pool.toml", "checkpoint_steps = 5", "checkpoint_steps = 7")
    before = _weights(root)
    _build(root)
    assert _weights(root) == before


def test_changed_training_text_is_refused_by_name_and_rebuilt_on_request(root: Path) -> None:
    before = _weights(root)
    edit(root / "prose.txt", "the", "THE")
    _refused(root, PoolMismatchError, r"member 'prose' .*the training text of 'prose'.*--rebuild prose")
    with pytest.raises(PoolMismatchError, match="has changed since it was built"):
        _open(root)
    pool = _build(root, "prose")
    after = _weights(root)
    assert {name for name in after if after[name] != before[name]} == {f"{MEMBERS}/prose/model.safetensors"}
    assert pool.names == ("code", "docs", "prose")


def test_a_new_partition_trains_only_its_own_member(root: Path) -> None:
    before = _weights(root)
    text = "\n\n".join(f"line {i}: {i * i} is the square of {i}, says table {i % 7}" for i in range(400))
    (root / "squares.txt").write_text(text)
    with (root / "pool.toml").open("a") as stream:
        stream.write('\n[corpus.partitions.squares]\nfiles = ["squares.txt"]\nformat = "text"\n')
    pool = _build(root)
    after = _weights(root)
    assert pool.names == ("code", "docs", "prose", "squares")
    assert {name for name in after if after[name] != before.get(name)} == {f"{MEMBERS}/squares/model.safetensors"}


def _without_docs(root: Path) -> None:
    edit(root / "pool.toml", '[corpus.partitions.docs]\nfiles = ["docs.parquet"]\nformat = "parquet"\n', "")


def test_a_partition_that_goes_keeps_its_member_aside_and_takes_it_up_again(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, whole = _weights(root), (root / "pool.toml").read_text()
    _without_docs(root)
    with pytest.raises(PoolMismatchError, match="has changed since it was built"):
        _open(root)
    assert _build(root).names == ("code", "prose")
    assert "member 'docs' is of no partition of the pool file any more" in capsys.readouterr().err
    assert _weights(root) == before, "nothing was trained, and nothing lost"
    (root / "pool.toml").write_text(whole)
    assert _build(root).names == ("code", "docs", "prose")
    assert _weights(root) == before


def test_a_seed_stays_when_a_partition_goes_that_its_mixture_names(empty_root: Path) -> None:
    edit(empty_root / "pool.toml", 'mixture = "proportional"', "mixture = {code = 0.5, docs = 0.5}")
    edit(empty_root / "pool.toml", "tokens = 12_000", "tokens = 300")
    edit(empty_root / "pool.toml", "tokens = 6_000", "tokens = 300")
    _build(empty_root)
    before = _weights(empty_root)
    _without_docs(empty_root)
    assert _build(empty_root).names == ("code", "prose")
    assert _weights(empty_root) == before
    _refused(empty_root, ConfigError, r"\[seed\] mixture: .* not there: docs", "seed")


def test_rebuilding_the_seed_rebuilds_all_members(root: Path) -> None:
    edit(root / "pool.toml", "learning_rate = 5e-3", "learning_rate = 2e-3")
    before = _weights(root)
    _build(root, "seed")
    after = _weights(root)
    assert all(after[name][0] != before[name][0] for name in before)


def test_rebuilding_all_takes_a_new_tokenizer(root: Path) -> None:
    edit(root / "pool.toml", "vocabulary = 384", "vocabulary = 400")
    before = {path.name for path in (root / "pools/tiny").iterdir()}
    (root / "pools/tiny/trained/model").mkdir(parents=True)
    _build(root, "all")
    assert json.loads((root / "pools/tiny/seed/config.json").read_text())["vocab_size"] == 400
    assert {path.name for path in (root / "pools/tiny").iterdir()} == before, "nothing else of the old pool is left"


def test_an_unknown_member_cannot_be_rebuilt(root: Path) -> None:
    _refused(root, ConfigError, "--rebuild prosa: no such member; there are all, seed, code, docs, prose", "prosa")


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _alter(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [_truncate, _alter, Path.unlink])
@pytest.mark.parametrize("where", ["members/docs", "seed"])
def test_damaged_weights_are_refused_by_name_and_rebuilt_on_request(root: Path, where: str, damage) -> None:
    before = _weights(root)
    name = where.rpartition("/")[2]
    damage(root / "pools" / "tiny" / where / "model.safetensors")
    label = "the seed" if name == "seed" else "member 'docs'"
    with pytest.raises(PoolError, match=f"{label}: .*--rebuild {name}"):
        _open(root)
    _refused(root, PoolError, f"{label}: .*--rebuild {name}")
    _build(root, name)
    assert {key: digest for key, (digest, _) in _weights(root).items()} == {k: d for k, (d, _) in before.items()}


def test_a_member_trained_from_another_seed_is_refused_by_name(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(root, other)
    edit(other / "pool.toml", 'mixture = "proportional"', 'mixture = "uniform"')
    _build(other, "seed")
    shutil.rmtree(root / MEMBERS / "docs")
    shutil.copytree(other / MEMBERS / "docs", root / MEMBERS / "docs")
    with pytest.raises(PoolError, match="member 'docs' in .* was trained from another seed; .*--rebuild docs"):
        _open(root)
    _refused(root, PoolMismatchError, "member 'docs' was trained before a change of what it starts from")


def test_members_of_a_seed_that_is_lost_and_changed_are_refused_before_another_is_trained(root: Path) -> None:
    edit(root / "pool.toml", "learning_rate = 5e-3", "learning_rate = 2e-3")
    shutil.rmtree(root / "pools/tiny/seed")
    shutil.rmtree(root / MEMBERS / "docs")
    before = snapshot(root)
    with pytest.raises(
        PoolMismatchError, match="member 'code' .* what it starts from .*--rebuild code --rebuild prose"
    ):
        _build(root)
    after = snapshot(root)
    assert {name: after[name] for name in before} == before
    assert not list((root / "pools/tiny").rglob("docs/model.safetensors"))


def test_a_build_verifies_every_checkpoint_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verified: list[str] = []

    def counted(folder: Path, what: str, remedy: str) -> CheckpointManifest:
        verified.append(what)
        return verify_checkpoint(folder, what, remedy)

    monkeypatch.setattr(store, "verify_checkpoint", counted)
    pool = _build(root)
    assert sorted(verified) == ["member 'code'", "member 'docs'", "member 'prose'", "the seed"]
    assert pool.manifest == _open(root).manifest


def test_a_member_finished_by_another_process_is_verified(root: Path, tiny_pool: Pool) -> None:
    folder, corpus = root / "pools/tiny", tiny_pool.manifest.corpus
    vertex = Mixture.vertex(tiny_pool.names, "docs")
    wanted = member_provenance(vertex, tiny_pool.config.recipe, corpus, tiny_pool.manifest.seed)
    job = TrainingJob(PoolLayout(folder), folder / "members/docs", wanted, "member 'docs'")
    assert job() == tiny_pool.manifest.members["docs"]
    _alter(folder / "members/docs/model.safetensors")
    with pytest.raises(PoolError, match="member 'docs': .* was truncated or altered since it was trained"):
        job()


def test_an_altered_configuration_is_refused_by_name(root: Path) -> None:
    edit(root / MEMBERS / "code" / "config.json", '"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-02')
    with pytest.raises(PoolError, match=r"member 'code': .*config\.json was truncated or altered.*--rebuild code"):
        _open(root)


def test_a_rebuild_interrupted_and_then_edited_starts_over(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(root / "pool.toml", "learning_rate = 5e-3", "learning_rate = 2e-3")
    build_until(root, monkeypatch, "seed", at="prose")
    half = {digest for digest, _ in _weights(root).values()}
    edit(root / "pool.toml", "learning_rate = 2e-3", "learning_rate = 1e-3")
    _build(root, "seed")
    assert not half & {digest for digest, _ in _weights(root).values()}


def test_a_rebuild_interrupted_and_asked_for_again_goes_on(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(root / "pool.toml", "learning_rate = 3e-3", "learning_rate = 1e-3")
    before, asked = _weights(root), ("code", "docs", "prose")
    build_until(root, monkeypatch, *asked, at="prose")
    half = _weights(root)
    assert {name: half[name] for name in before} == before, "the pool is as it was"
    (waiting,) = (root / "pools/tiny").glob(".new-*")
    made = {str(waiting.relative_to(root) / f"members/{name}/model.safetensors"): name for name in ("code", "docs")}
    assert half.keys() - before.keys() == made.keys()
    _build(root, *asked)
    whole = _weights(root)
    for where, name in made.items():
        assert whole[f"{MEMBERS}/{name}/model.safetensors"] == half[where], "what had been rebuilt was rebuilt again"
    assert whole.keys() == before.keys()
    _build(root, *asked)
    assert all(_weights(root)[name][1] != whole[name][1] for name in whole if "members" in name), "a new request counts"


def test_a_full_disk_is_one_clear_error_and_the_same_command_goes_on(empty_root: Path) -> None:
    script = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
sys.argv = ["mixscout", "pool", "build", {str(empty_root / "pool.toml")!r}]
from studies.command_line.app import main
main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("mixscout: pool 'tiny': cannot write ") and "run the same command again" in last
    assert ": the disk is full" in last and str(empty_root / "pools") in last
    assert "Traceback" not in done.stderr
    assert _build(empty_root).names == ("code", "docs", "prose")


def test_caps_and_proportions_go_by_all_the_tokens_a_partition_has(root: Path, tiny_pool: Pool) -> None:
    before = tiny_pool.tokens
    kept = tiny_pool.manifest.corpus.partitions
    assert all(before[name] == kept[name].tokens for name in before if kept[name].tokens < 29_000)
    edit(root / "pool.toml", "train_tokens = 30_000", "train_tokens = 8_000")
    pool = _build(root, "code", "docs", "prose")
    for name, tokens in pool.tokens.items():
        assert pool.manifest.corpus.partitions[name].tokens <= 8_000
        assert tokens == pytest.approx(before[name], rel=0.25)


def test_altered_held_out_tokens_are_refused_by_name(root: Path) -> None:
    path = root / "pools/tiny/corpus/held_out/licences.search.safetensors"
    arrays = load_file(path)
    arrays["targets"][0, 0] += 1
    save_file(arrays, path)
    with pytest.raises(PoolError, match=r"licences\.search\.safetensors: its content is not what corpus\.json says"):
        _open(root)


def test_an_unreadable_record_is_named(root: Path) -> None:
    (root / "pools/tiny/pool.json").write_text('{"name": "tiny"}')
    with pytest.raises(PoolError, match=r"pool\.json is not a record that this version wrote"):
        _open(root)


def test_text_may_be_gone_once_the_pool_is_built(root: Path) -> None:
    (root / "code.jsonl").unlink()
    assert _open(root).names == ("code", "docs", "prose")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"code.jsonl"', '"gone.jsonl"', r"code: .*gone\.jsonl: No such file"),
        ("train_tokens = 30_000", "train_tokens = 20", "partition 'code' has .* fewer than one window of 32"),
        ('mixture = "proportional"', "mixture = {code = 0.5, docs = 0.4}", r"\[seed\] mixture: .* sum to 0.9"),
        ('mixture = "proportional"', "mixture = {wiki = 1.0}", r"\[seed\] mixture: .* not there: wiki"),
        ("attention_heads = 2", "attention_heads = 3", "must be a multiple of twice attention_heads"),
    ],
)
def test_bad_input_to_a_first_build_writes_nothing(empty_root: Path, old: str, new: str, message: str) -> None:
    edit(empty_root / "pool.toml", old, new)
    _refused(empty_root, MixscoutError, message)
    assert not (empty_root / "pools" / "tiny").exists()


def test_an_empty_corpus_file_is_refused_by_name(empty_root: Path) -> None:
    (empty_root / "code.jsonl").write_text("")
    _refused(empty_root, CorpusError, r"code: .*code\.jsonl is empty")


def test_two_builds_at_once_are_refused(root: Path) -> None:
    from filelock import FileLock

    with FileLock(root / "pools" / ".tiny.lock"):
        _refused(root, PoolError, "is being built by another process")


def test_a_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), new_folder(tmp_path / "new") as folder:
        (folder / "half").write_text("x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_members_hold_what_training_made_and_nothing_but_safetensors(root: Path) -> None:
    suffixes = {path.suffix for path in (root / "pools").rglob("*") if path.is_file()}
    assert suffixes <= {".json", ".jsonl", ".safetensors", ".npy", ".lock", ".jinja"}
    tensors = load_file(root / MEMBERS / "docs" / "model.safetensors")
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values())
