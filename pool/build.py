"""Building a pool: corpus, tokenizer, seed, members. Run again, it builds only what is missing.

Whatever has changed is refused before anything is written, unless it was asked to be rebuilt.
"""

import importlib.metadata
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from pool.checkpoint import load_model, new_model, save_checkpoint, verify_checkpoint
from pool.config import PoolFile
from pool.disk import new_folder, only_one, scratch_folder
from pool.errors import PoolError
from pool.manifest import MANIFEST, CheckpointManifest, PoolManifest, write_record
from pool.material import SEED, Material, prepare_material, write_material
from pool.mixture import Mixture
from pool.prepared import PreparedCorpus
from pool.provenance import Provenance, label, member_provenance, seed_provenance
from pool.rebuild import begin_rebuild, end_rebuild, is_pending
from pool.store import POOL_RECORD, Pool, member_folder, open_pool
from pool.train import discard_scratch, train


def build_pool(config: PoolFile, rebuild: Sequence[str] = ()) -> Pool:
    """Build what is missing of a pool, and open it.

    `rebuild` names members to train again; `seed` means the seed and all members, `all` the whole pool.
    Raises `CorpusError`, `PoolError`, `PoolMismatchError` or `ConfigError`, each before anything is lost.
    """
    rebuild = () if is_pending(config, rebuild) else rebuild
    scratch = config.folder.with_name(f".{config.name}.scratch")
    with building(config), scratch_folder(scratch):
        material = prepare_material(config, rebuild, scratch)
        begin_rebuild(config, rebuild)
        material = write_material(material, config)
        seed = _seed(config, material)
        members = {name: _member(name, config, material, seed) for name in material.corpus.train}
        manifest = PoolManifest(name=config.name, corpus=material.corpus.manifest, seed=seed, members=members)
        write_record(config.folder / POOL_RECORD, manifest)
        end_rebuild(config)
        _discard_abandoned(config.folder)
    return open_pool(config)


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
        raise _unwritable(config, f"{error.filename or config.folder}: {error.strerror or error}") from error
    except SafetensorError as error:
        raise _unwritable(config, str(error)) from error
    except RuntimeError as error:  # what torch.save raises when the disk is full
        if "PytorchStreamWriter" not in str(error) and "unexpected pos" not in str(error):
            raise
        raise _unwritable(config, str(error).splitlines()[0]) from error


def _unwritable(config: PoolFile, reason: str) -> PoolError:
    return PoolError(
        f"pool {config.name!r}: cannot write {reason}; make room or give write permission, and run the same "
        "command again"
    )


def _seed(config: PoolFile, material: Material) -> CheckpointManifest:
    folder = config.folder / SEED
    if (folder / MANIFEST).is_file():
        return verified(SEED, folder)
    wanted = seed_provenance(config, material.corpus.manifest)
    start = new_model(config.model, config.tokenizer.vocabulary, initial_seed=config.seed.initial_seed)
    return train_into(folder, start, wanted, material.corpus, material.tokenizer, name=label(SEED))


def _member(name: str, config: PoolFile, material: Material, seed: CheckpointManifest) -> CheckpointManifest:
    folder = member_folder(config.folder, name)
    if (folder / MANIFEST).is_file():
        return verified(name, folder)
    corpus = material.corpus
    vertex = Mixture.vertex(tuple(corpus.train), name)
    wanted = member_provenance(vertex, config, corpus.manifest, seed.weights_digest)
    start = load_model(config.folder / SEED)
    return train_into(folder, start, wanted, corpus, material.tokenizer, name=label(name))


def verified(name: str, folder: Path) -> CheckpointManifest:
    """Read the manifest of the seed or a member. Raises `PoolError` where the files are not what it says."""
    remedy = f"`mixscout pool build POOL.toml --rebuild {name}` trains it again"
    return verify_checkpoint(folder, label(name), remedy)


def train_into(
    folder: Path,
    start: PreTrainedModel,
    wanted: Provenance,
    corpus: PreparedCorpus,
    tokenizer: PreTrainedTokenizerFast,
    *,
    name: str,
) -> CheckpointManifest:
    """Train `start` to what is `wanted` and put it into `folder`, whole or not at all."""
    scratch = folder.parent / f".{folder.name}.{wanted.digest[:12]}.scratch"
    outcome = train(start, corpus.train, wanted.mixture, wanted.recipe, scratch=scratch, label=name)
    manifest = CheckpointManifest(
        mixture=wanted.mixture.as_dict(),
        recipe=wanted.recipe,
        shape=wanted.shape,
        start_digest=wanted.start_digest,
        data_digests=dict(wanted.data_digests),
        tokenizer_digest=wanted.tokenizer_digest,
        weights_digest="",
        config_digest="",
        tokens=outcome.tokens,
        final_loss_nats=outcome.final_loss_nats,
        seconds=outcome.seconds,
        versions=_versions(),
    )
    with new_folder(folder) as new:
        complete = save_checkpoint(start, tokenizer, new, manifest)
    discard_scratch(scratch)
    return complete


def _versions() -> dict[str, str]:
    packages = ("torch", "transformers", "numpy")
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
    }
