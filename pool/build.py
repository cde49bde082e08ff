"""Building a pool: corpus, tokenizer, seed, members. Run again, it builds only what is missing.

Whatever has changed is refused before anything is written, unless it was asked to be rebuilt.
"""

import errno
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from pool.checkpoint import new_model, verify_checkpoint
from pool.config import PoolFile
from pool.disk import new_folder, only_one, scratch_folder
from pool.engines.engine import Engine
from pool.engines.one_by_one import ONE_BY_ONE
from pool.errors import PoolError
from pool.given_seed import save_given_seed
from pool.manifest import MANIFEST, CheckpointManifest, CorpusManifest, PoolManifest, read_record, write_record
from pool.material import EVERYTHING, SEED, Material, prepare_material, write_material
from pool.member_needs import seed_needs
from pool.mixture import Mixture
from pool.progress import say, track
from pool.provenance import label, member_provenance, seed_provenance
from pool.rebuild import begin_rebuild, end_rebuild, is_pending
from pool.run_checkpoints import discard_scratch
from pool.store import POOL_RECORD, Pool, member_folder, open_pool
from pool.training import Training, train_into

_FULL = "the disk is full"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def build_pool(config: PoolFile, rebuild: Sequence[str] = (), engine: Engine = ONE_BY_ONE) -> Pool:
    """Build what is missing of a pool, its members by an engine, and open it.

    `rebuild` names members to train again; `seed` means the seed and all members, `all` the whole pool.
    Raises `CorpusError`, `PoolError`, `PoolMismatchError`, `ConfigError` or `EngineError`, before anything is lost.
    """
    rebuild = () if is_pending(config, rebuild) else rebuild
    scratch = config.folder.with_name(f".{config.name}.scratch")
    with building(config), scratch_folder(scratch):
        material = prepare_material(config, rebuild, scratch)
        _say_imports_lost(config.folder, rebuild)
        begin_rebuild(config, rebuild)
        material = write_material(material, config)
        seed = _seed(config, material)
        members = _members(config, material.corpus.manifest, seed, engine)
        _write_pool(config, material.corpus.manifest, seed, members)
        end_rebuild(config)
        _discard_abandoned(config.folder)
        _say_kept_aside(config.folder, members)
    return open_pool(config)


def complete(config: PoolFile, corpus: CorpusManifest, seed: CheckpointManifest) -> tuple[str, ...]:
    """Write the pool's record if every member is there, and return the names of those that are not."""
    folders = {name: member_folder(config.folder, name) for name in corpus.partitions}
    missing = tuple(name for name, folder in folders.items() if not (folder / MANIFEST).is_file())
    if not missing:
        _write_pool(config, corpus, seed, {name: verified(name, folder) for name, folder in folders.items()})
    return missing


def _write_pool(
    config: PoolFile, corpus: CorpusManifest, seed: CheckpointManifest, members: Mapping[str, CheckpointManifest]
) -> None:
    manifest = PoolManifest(name=config.name, corpus=corpus, seed=seed, members=dict(members))
    write_record(config.folder / POOL_RECORD, manifest)


def _say_kept_aside(folder: Path, members: Collection[str]) -> None:
    for record in sorted(folder.glob(f"members/*/{MANIFEST}")):
        name = record.parent.name
        if name not in members:
            say(
                f"{label(name)} is of no partition of the pool file any more, and not in the pool; its checkpoint "
                f"stays in {record.parent}: it is taken up again with its partition, or delete it"
            )


def _say_imports_lost(folder: Path, rebuild: Collection[str]) -> None:
    for record in sorted(folder.glob(f"members/*/{MANIFEST}")):
        name = record.parent.name
        asked = {name, SEED, EVERYTHING} & set(rebuild)
        if asked and read_record(record, CheckpointManifest).imported is not None:
            say(f"{label(name)} was imported and is trained here now; `mixscout pool add --replace` takes it in again")


def _discard_abandoned(folder: Path) -> None:
    for scratch in (*folder.glob(".*.scratch"), *folder.glob("members/.*.scratch")):
        discard_scratch(scratch)


@contextmanager
def building(config: PoolFile) -> Iterator[None]:
    """Let one process at a time train for a pool; the others get a `PoolError`."""
    busy = PoolError(f"pool {config.name!r} is being built by another process; wait for it, or stop it")
    try:
        with only_one(config.folder.parent / f".{config.name}.lock", busy):
            yield
    except OSError as error:
        raise _unwritable(config, error.filename, _reason(error.errno) or str(error)) from error
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        raise _unwritable(config, None, _reason(int(number[1])) if number else str(error).splitlines()[0]) from error
    except RuntimeError as error:  # what torch.save raises when the disk is full
        if "PytorchStreamWriter" not in str(error) and "unexpected pos" not in str(error):
            raise
        raise _unwritable(config, None, _FULL) from error


def _reason(number: int | None) -> str:
    """Say in words what the operating system refused, empty where it did not say."""
    if number is None:
        return ""
    return f"{_FULL} ({os.strerror(number)})" if number in _NO_ROOM else os.strerror(number)


def _unwritable(config: PoolFile, path: str | None, reason: str) -> PoolError:
    where = path or f"into {config.folder}"
    return PoolError(
        f"pool {config.name!r}: cannot write {where}: {reason}; make room or give write permission, and run the same "
        "command again"
    )


def _seed(config: PoolFile, material: Material) -> CheckpointManifest:
    folder = config.folder / SEED
    if (folder / MANIFEST).is_file():
        return verified(SEED, folder)
    if material.given is not None:
        with new_folder(folder) as new:
            return save_given_seed(material.given, config, new)
    wanted = seed_provenance(config, material.corpus.manifest)
    start = new_model(config.model, config.tokenizer.vocabulary, initial_seed=config.seed.initial_seed)
    needs = seed_needs(config, wanted, material.corpus.manifest)
    return train_into(folder, start, wanted, material.corpus.train, material.tokenizer, needs=needs, label=label(SEED))


def _members(
    config: PoolFile, corpus: CorpusManifest, seed: CheckpointManifest, engine: Engine
) -> dict[str, CheckpointManifest]:
    trainings = {name: _training(name, config, corpus, seed) for name in corpus.partitions}
    done = {name: verified(name, one.folder) for name, one in trainings.items() if one.is_done}
    missing = {one.label: name for name, one in trainings.items() if name not in done}
    with track("members", len(trainings), done=len(done), shown=engine.elsewhere) as show:
        for called, manifest in engine.run([trainings[name].job for name in missing.values()]):
            done[missing[called]] = manifest
            show(len(done), "")
    return {name: done[name] for name in trainings}


def _training(name: str, config: PoolFile, corpus: CorpusManifest, seed: CheckpointManifest) -> Training:
    vertex = Mixture.vertex(tuple(corpus.partitions), name)
    wanted = member_provenance(vertex, config.recipe, corpus, seed)
    return Training(config.folder, member_folder(config.folder, name), wanted, label(name))


def verified(name: str, folder: Path) -> CheckpointManifest:
    """Read the manifest of the seed or a member. Raises `PoolError` where the files are not what it says."""
    remedy = f"`mixscout pool build POOL.toml --rebuild {name}` trains it again"
    return verify_checkpoint(folder, label(name), remedy)
