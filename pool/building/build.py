"""Building a pool: corpus, tokenizer, seed, members. Run again, it builds only what is missing.

Whatever has changed is refused before anything is written, unless it was asked to be rebuilt. A pool that is there
stays whole until all that is new has been trained: that waits beside it.
"""

import contextlib
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from pool.building.job import TrainingJob, train_into
from pool.building.material import Material, prepare_material, write_material
from pool.building.needs import seed_needs
from pool.building.request import Request
from pool.checkpoints.checkpoint import new_model, verify_checkpoint
from pool.checkpoints.manifest import CheckpointManifest
from pool.config.pool_file import PoolFile
from pool.engines.engine import ONE_BY_ONE, Engine
from pool.errors import PoolError
from pool.files.records import MANIFEST, read_record, write_record
from pool.files.whole import new_folder, scratch_folder
from pool.mixture import Mixture
from pool.parts.exchange import building, check_one_disk, discard_stages, exchange, is_stage
from pool.parts.given_seed import save_given_seed
from pool.parts.layout import MEMBERS, POOL_RECORD, SEED, PoolLayout, member_part
from pool.parts.provenance import Provenance, label, member_provenance, seed_provenance
from pool.parts.store import Pool, PoolManifest, open_pool
from pool.progress import say, track
from pool.tokens.prepared import CorpusManifest
from pool.training.run_checkpoints import discard_scratch


def build_pool(config: PoolFile, rebuild: Sequence[str] = (), engine: Engine = ONE_BY_ONE) -> Pool:
    """Build what is missing of a pool, its members by an engine, and open it.

    `rebuild` names members to train again; `seed` means the seed and all members, `all` the whole pool. Raises
    `CorpusError`, `PoolError`, `PoolMismatchError`, `ConfigError` or `EngineError`: a pool that was there is then as it
    was, and the same call goes on with what was made for it.
    """
    scratch = config.folder.with_name(f".{config.name}.scratch")
    with building(config.folder) as exchanged, scratch_folder(scratch):
        request = Request(config, frozenset(rebuild))
        if exchanged is not None and exchanged == request.stage:
            request = Request(config)  # it was this very request that a kill had interrupted at its end
        material = prepare_material(request, scratch)
        if discard_stages(config.folder, but=request.stage):
            say("what an interrupted build of something else had made is discarded")
        _say_imports_lost(request)
        corpus = material.corpus.manifest
        layout = request.layout(corpus.partitions, corpus_is_new=material.new is not None)
        if layout.new:
            check_one_disk(config.folder)
        material = write_material(material, config, layout)
        seed = _seed(config, material, layout)
        members = _members(config, corpus, seed, layout, engine)
        manifest = PoolManifest(name=config.name, corpus=corpus, seed=seed, members=members)
        _put_in_place(request, layout, manifest)
        _discard_abandoned(config.folder)
        _say_kept_aside(config.folder, members)
    return open_pool(config)


def _put_in_place(request: Request, layout: PoolLayout, manifest: PoolManifest) -> None:
    """Write the pool's record, and exchange what is new for what was there."""
    if layout.stage is None or not layout.new:
        write_record(layout.folder / POOL_RECORD, manifest)
        discard_stages(layout.folder)
        return
    write_record(layout.stage / POOL_RECORD, manifest)
    exchange(layout.stage, new=[*sorted(layout.new), POOL_RECORD], gone=_gone(request, layout))


def _gone(request: Request, layout: PoolLayout) -> list[str]:
    """Name what goes without another in its place: of a new seed all members, of a new pool all that is there."""
    gone: list[str] = []
    if request.anew:
        there = layout.folder.iterdir()
        gone += [path.name for path in there if not is_stage(path) and path.name not in (MEMBERS, POOL_RECORD)]
    if request.anew or SEED in request.rebuild:
        gone += [member_part(path.name) for path in (layout.folder / MEMBERS).glob("*")]
    return [part for part in gone if part not in layout.new]


def _say_kept_aside(folder: Path, members: Collection[str]) -> None:
    for record in sorted(folder.glob(f"{MEMBERS}/*/{MANIFEST}")):
        name = record.parent.name
        if name not in members:
            say(
                f"{label(name)} is of no partition of the pool file any more, and not in the pool; its checkpoint "
                f"stays in {record.parent}: it is taken up again with its partition, or delete it"
            )


def _say_imports_lost(request: Request) -> None:
    for record in sorted(request.config.folder.glob(f"{MEMBERS}/*/{MANIFEST}")):
        name = record.parent.name
        if request.is_new(name) and read_record(record, CheckpointManifest).imported is not None:
            say(f"{label(name)} was imported and is trained here now; `mixscout pool add --replace` takes it in again")


def _discard_abandoned(folder: Path) -> None:
    for scratch in (*folder.glob(".*.scratch"), *folder.glob(f"{MEMBERS}/.*.scratch")):
        discard_scratch(scratch)


def _seed(config: PoolFile, material: Material, layout: PoolLayout) -> CheckpointManifest:
    folder = layout.seed
    if (there := _whole(SEED, layout, folder)) is not None:
        return there
    if material.given is not None:
        with new_folder(folder) as new:
            return save_given_seed(material.given, config.context, new)
    wanted = seed_provenance(config.seed, config.model, material.corpus.manifest)
    start = new_model(config.model, config.tokenizer.vocabulary, initial_seed=config.seed.initial_seed)
    needs = seed_needs(layout, config, wanted, material.corpus.manifest)
    return train_into(folder, start, wanted, material.corpus.train, material.tokenizer, needs=needs, label=label(SEED))


def _members(
    config: PoolFile, corpus: CorpusManifest, seed: CheckpointManifest, layout: PoolLayout, engine: Engine
) -> dict[str, CheckpointManifest]:
    trainings = {name: _training(name, config, corpus, seed, layout) for name in corpus.partitions}
    found = {name: _whole(name, layout, one.folder, one.wanted) for name, one in trainings.items()}
    done = {name: manifest for name, manifest in found.items() if manifest is not None}
    missing = {one.label: name for name, one in trainings.items() if name not in done}
    with track("members", len(trainings), done=len(done), shown=engine.elsewhere) as show:
        for called, manifest in engine.run([trainings[name].job for name in missing.values()]):
            done[missing[called]] = manifest
            show(len(done), "")
    return {name: done[name] for name in trainings}


def _training(
    name: str, config: PoolFile, corpus: CorpusManifest, seed: CheckpointManifest, layout: PoolLayout
) -> TrainingJob:
    vertex = Mixture.vertex(tuple(corpus.partitions), name)
    wanted = member_provenance(vertex, config.recipe, corpus, seed)
    return TrainingJob(layout, layout.member(name), wanted, label(name))


def _whole(name: str, layout: PoolLayout, folder: Path, wanted: Provenance | None = None) -> CheckpointManifest | None:
    """Read the seed or a member that is there; one that waits, and is damaged or not what is wanted, is made again."""
    if not (folder / MANIFEST).is_file():
        return None
    if layout.stage is None or not folder.is_relative_to(layout.stage):
        return verified(name, folder)
    with contextlib.suppress(PoolError):
        manifest = verified(name, folder)
        if wanted is None or not wanted.changes_since(manifest):
            return manifest
    shutil.rmtree(folder)
    return None


def verified(name: str, folder: Path) -> CheckpointManifest:
    """Read the manifest of the seed or a member. Raises `PoolError` where the files are not what it says."""
    remedy = f"`mixscout pool build POOL.toml --rebuild {name}` trains it again"
    return verify_checkpoint(folder, label(name), remedy)
