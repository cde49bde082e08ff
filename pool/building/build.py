"""Building a pool: corpus, tokenizer, seed, members. A further build makes the missing parts only.

Changes are refused before anything is written. An existing pool stays whole until all new parts are trained.
"""

import contextlib
import shutil
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

from pool.building.foresight import EVERYTHING, Request, check_model, foresee
from pool.building.job import NewModel, TrainingJob
from pool.building.material import Material, prepare_material, write_material
from pool.building.training.run_files import discard_scratch, kept_of
from pool.building.training.train import memory_line
from pool.checkpoints.manifest import WEIGHTS, CheckpointManifest
from pool.config.pool_file import PoolFile, naming
from pool.config.recipe import Recipe
from pool.engines.engine import ONE_BY_ONE, Engine
from pool.engines.resources import device_line
from pool.errors import PoolError, PoolMismatchError
from pool.files.names import file_name
from pool.files.records import MANIFEST, read_record, write_record
from pool.files.whole import new_folder, scratch_folder
from pool.mixture import Mixture
from pool.parts.layout import (
    COMMANDS_FILE,
    CORPUS,
    MEMBERS,
    POOL_RECORD,
    SEED,
    PoolLayout,
    building,
    check_one_disk,
    discard_leftovers,
    discard_stages,
    exchange,
    is_stage,
    member_part,
)
from pool.parts.others import save_given_seed
from pool.parts.provenance import Provenance, describe_changes, label, member_provenance, seed_provenance
from pool.parts.store import Pool, PoolManifest, check_sources, verified
from pool.progress import kept, say, track
from pool.tokens.prepared import CorpusManifest, load_prepared


def build_pool(config: PoolFile, rebuild: Sequence[str] = (), engine: Engine = ONE_BY_ONE) -> Pool:
    """Build the missing parts of a pool; an engine trains the members.

    `rebuild` names members to train again; `all-members` means all of them, `seed` the seed too, `all` the whole pool.
    Raises `CorpusError`, `PoolError`, `PoolMismatchError`, `ConfigError` or `EngineError`: an existing pool is then
    unchanged, and the same call resumes the work.
    """
    with naming(config):
        return _built(config, rebuild, engine)


def _built(config: PoolFile, rebuild: Sequence[str], engine: Engine) -> Pool:
    folder = config.folder
    anew = EVERYTHING in rebuild
    with (
        building(folder, anew=anew) as exchanged,
        scratch_folder(folder.with_name(f".{folder.name}.scratch")) as scratch,
    ):
        request = Request(config, frozenset(rebuild))
        if exchanged is not None and exchanged == request.stage:
            request = Request(config)  # a kill had interrupted this very request at its end
        foresee(request, trains_here=not engine.elsewhere)
        with kept(lambda: "kept: what there was before; the text is read again"):
            material = prepare_material(request, scratch, partial(check_model, request))
        if discard_stages(folder, but=request.stage):
            say("what an interrupted build of something else had made is discarded")
        _say_imports_lost(request)
        corpus = material.corpus.manifest
        layout = request.layout(corpus.partitions, corpus_is_new=material.new is not None)
        if layout.new:
            check_one_disk(folder)
        write_material(material, config.own_tokenizer, layout)
        to_train = [layout.seed, *map(layout.member, corpus.partitions)]
        if engine.machines == 1 and not all((part / MANIFEST).is_file() for part in to_train):
            say(f"pool {config.name}: {device_line(config.recipe.precision)}")
        seed = _seed(config, material, layout)
        if engine.machines == 1 and not all(_is_there(name, layout) for name in corpus.partitions):
            held = memory_line(config.recipe, (layout.seed / WEIGHTS).stat().st_size, config.context)
            say(f"pool {config.name}: {held}")
        members = _members(config.recipe, corpus, seed, layout, engine)
        manifest = PoolManifest(name=config.name, corpus=corpus, seed=seed, members=members)
        _put_in_place(request, layout, manifest)
        for abandoned in (*folder.glob(".*.scratch"), *folder.glob(f"{MEMBERS}/.*.scratch")):
            discard_scratch(abandoned)
        discard_leftovers(folder)
        _say_kept_aside(folder, members)
        # verified above, or just made: only a corpus that has moved is loaded again, from its place
        prepared = material.corpus if material.new is None else load_prepared(folder / CORPUS, corpus)
    check_sources(config, corpus.source_digest)  # text may change while models train
    return Pool(config, manifest, prepared)


def _put_in_place(request: Request, layout: PoolLayout, manifest: PoolManifest) -> None:
    if layout.stage is None or not layout.new:
        write_record(layout.folder / POOL_RECORD, manifest)
        discard_stages(layout.folder)
        return
    write_record(layout.stage / POOL_RECORD, manifest)
    exchange(layout.stage, new=[*sorted(layout.new), POOL_RECORD], gone=_gone(request, layout))


def _gone(request: Request, layout: PoolLayout) -> list[str]:
    """Name the parts without a successor: members of an old seed, and everything of an old pool."""
    gone: list[str] = []
    if request.anew:
        stays, there = (MEMBERS, POOL_RECORD, COMMANDS_FILE), layout.folder.iterdir()
        gone += [path.name for path in there if not is_stage(path) and path.name not in stays]
    if request.anew or SEED in request.rebuild:
        gone += [member_part(path.name) for path in (layout.folder / MEMBERS).glob("*")]
    return [part for part in gone if part not in layout.new]


def _say_kept_aside(folder: Path, members: Collection[str]) -> None:
    for record in sorted(folder.glob(f"{MEMBERS}/*/{MANIFEST}")):
        name = record.parent.name
        if name not in set(map(file_name, members)):
            say(
                f"{label(name)} is of no partition of the pool file any more, and not in the pool; its checkpoint "
                f"stays in {record.parent}: it is taken up again with its partition, or delete it"
            )


def _say_imports_lost(request: Request) -> None:
    for record in sorted(request.config.folder.glob(f"{MEMBERS}/*/{MANIFEST}")):
        name = record.parent.name
        with contextlib.suppress(PoolError):  # a damaged record is about to be replaced
            if request.is_new(name) and read_record(record, CheckpointManifest).imported is not None:
                say(
                    f"{label(name)} was imported and is trained here now; `mixscout pool add --replace` takes it in "
                    "again"
                )


def _seed(config: PoolFile, material: Material, layout: PoolLayout) -> CheckpointManifest:
    if (there := _found(SEED, layout)) is not None:
        return there
    if material.given is not None:
        with new_folder(layout.seed) as new:
            return save_given_seed(material.given, config.context, new)
    wanted = seed_provenance(config.seed, config.model, material.corpus.manifest)
    after = sum(not _is_there(name, layout) for name in material.corpus.manifest.partitions)
    shown = f"training the seed, before {after} members"
    start = NewModel(
        material.tokenizer, config.tokenizer.vocabulary, config.seed.initial_seed, config.recipe.continue_optimizer
    )
    with kept(lambda: _kept_so_far(layout, material.corpus.manifest.partitions)):
        return TrainingJob(layout, layout.seed, wanted, label(SEED), start, shown)()


def _is_there(name: str, layout: PoolLayout) -> bool:
    return (layout.member(name) / MANIFEST).is_file()


def _kept_so_far(layout: PoolLayout, names: Collection[str]) -> str:
    folders = {label(SEED): layout.seed, **{label(name): layout.member(name) for name in names}}
    return f"kept: the corpus, and {kept_of(folders)}"


def _members(
    recipe: Recipe, corpus: CorpusManifest, seed: CheckpointManifest, layout: PoolLayout, engine: Engine
) -> dict[str, CheckpointManifest]:
    names = tuple(corpus.partitions)
    wanted = {name: member_provenance(Mixture.vertex(names, name), recipe, corpus, seed) for name in names}
    found = {name: _found(name, layout, wanted[name]) for name in names}
    done = {name: manifest for name, manifest in found.items() if manifest is not None}
    changed = {name: what for name, manifest in done.items() if (what := wanted[name].changes_since(manifest))}
    if changed:
        raise PoolMismatchError(describe_changes(changed, recipe, done))
    missing = {label(name): name for name in names if name not in done}
    jobs = [
        TrainingJob(
            layout, layout.member(name), wanted[name], called, shown=f"training {number} of {len(missing)}: {called}"
        ).job
        for number, (called, name) in enumerate(missing.items(), start=1)
    ]
    with (
        kept(lambda: _kept_so_far(layout, names)),
        track("members", len(names), done=len(done), shown=engine.elsewhere) as show,
    ):
        for called, manifest in engine.run(jobs):
            done[missing[called]] = manifest
            show(len(done), "")
    return {name: done[name] for name in names}


def _found(name: str, layout: PoolLayout, wanted: Provenance | None = None) -> CheckpointManifest | None:
    """Read and verify the seed or a member; discard a damaged or outdated new one.

    A waiting seed is never outdated: the name of its stage is a digest of all its options.
    """
    part = SEED if name == SEED else member_part(name)
    folder = layout.of(part)
    if not (folder / MANIFEST).is_file():
        return None
    if part not in layout.new:
        return verified(name, folder)
    with contextlib.suppress(PoolError):
        manifest = verified(name, folder)
        if wanted is None or not wanted.changes_since(manifest):
            return manifest
    shutil.rmtree(folder)
    return None
