"""`--rebuild`, once: what was asked to be rebuilt is removed once, also when the command is killed and run again."""

import shutil
from collections.abc import Collection
from pathlib import Path

from pool.config import PoolFile
from pool.fingerprint import digest_json
from pool.manifest import Record, read_record, write_record
from pool.material import EVERYTHING, SEED
from pool.recipe import WITHOUT_EFFECT
from pool.store import POOL_RECORD, member_folder


class PendingRebuild(Record):
    """A rebuild that has begun and not ended, under one pool file; `removed` once the old checkpoints are gone."""

    asked: tuple[str, ...]
    config_digest: str
    removed: bool


def is_pending(config: PoolFile, rebuild: Collection[str]) -> bool:
    """Tell whether this very rebuild was begun, its removals done, and then interrupted."""
    path = _record(config)
    if not rebuild or not path.is_file():
        return False
    return read_record(path, PendingRebuild) == _pending(config, rebuild, removed=True)


def begin_rebuild(config: PoolFile, rebuild: Collection[str]) -> None:
    """Remove what is to be rebuilt, the pool's record first, and note that it is done."""
    if not rebuild:
        return
    write_record(_record(config), _pending(config, rebuild, removed=False))
    for path in _condemned(config.folder, rebuild):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    write_record(_record(config), _pending(config, rebuild, removed=True))


def end_rebuild(config: PoolFile) -> None:
    """Forget the rebuild: the pool is complete."""
    _record(config).unlink(missing_ok=True)


def _pending(config: PoolFile, rebuild: Collection[str], *, removed: bool) -> PendingRebuild:
    digest = digest_json(config.model_dump(mode="json", exclude={"recipe": set(WITHOUT_EFFECT)}))
    return PendingRebuild(asked=tuple(sorted(rebuild)), config_digest=digest, removed=removed)


def _condemned(folder: Path, asked: Collection[str]) -> list[Path]:
    paths = [folder / POOL_RECORD]
    if EVERYTHING in asked:
        return [*paths, folder]
    if SEED in asked:
        return [*paths, folder / "members", folder / SEED]
    return [*paths, *(member_folder(folder, name) for name in asked)]


def _record(config: PoolFile) -> Path:
    return config.folder.parent / f".{config.name}.rebuild.json"
