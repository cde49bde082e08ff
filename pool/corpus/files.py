"""Source files of the corpus, digested by their content, and the demo corpus: text of Python and of named packages.

The demo has eight partitions, and one held-out domain no partition covers: the Python language reference, as `pydoc`
shows it. Equal versions give equal text. Only packages of a fixed list are read: others change nothing.
"""

import ast
import hashlib
import importlib.metadata
import importlib.util
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError
from itertools import chain
from pathlib import Path
from pydoc_data.topics import topics

from pool.checkpoints.foreign import describe_embedding_model
from pool.config.pool_file import CorpusConfig
from pool.config.sources import PartitionSource, TextSource
from pool.corpus.reading.rows import folder_value
from pool.corpus.reading.source_files import paths_of, reason_of
from pool.errors import CorpusError
from pool.files.digests import DigestOf, digest_file, digest_json
from pool.files.records import library_versions

MAX_PARTITION_BYTES = 1_200_000
MAX_DOCUMENT_CHARACTERS = 8_000
MIN_DOCUMENT_CHARACTERS = 200

PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "sympy", "sqlalchemy", "alembic", "transformers", "optuna")
HELD_OUT_DOMAIN = "language_reference"

# fmt: off
DEMO_PACKAGES = (
    "accelerate", "alembic", "annotated-doc", "annotated-types", "anyio", "click", "cloudpickle", "cmaes",
    "colorlog", "contourpy", "cycler", "datasets", "dill", "filelock", "fonttools", "fsspec", "h11", "hf-xet",
    "httpcore2", "httpx2", "huggingface-hub", "idna", "jinja2", "joblib", "kiwisolver", "mako", "markdown-it-py",
    "markupsafe", "matplotlib", "mdurl", "mpmath", "multiprocess", "narwhals", "networkx", "numpy", "optuna",
    "packaging", "pandas", "pillow", "psutil", "pyarrow", "pydantic", "pydantic-core", "pygments", "pyparsing",
    "python-dateutil", "pyyaml", "regex", "rich", "safetensors", "scikit-learn", "scipy", "shellingham",
    "sqlalchemy", "sympy", "threadpoolctl", "tokenizers", "torch", "tqdm", "transformers", "truststore", "typer",
    "typing-extensions", "typing-inspection", "tzdata", "xxhash", "zstandard",
)
# fmt: on
"""The requirements of the demo when its figures were first kept: text and figures depend on no other package."""

_STDLIB_LEFT_OUT = {"test", "tests", "idlelib", "lib2to3", "encodings", "pydoc_data", "site-packages", "dist-packages"}
_LEGAL = ("METADATA", "LICENSE", "LICENCE", "COPYING", "NOTICE", "AUTHORS")


def demo_partitions() -> dict[str, list[str]]:
    """Collect the documents of each partition, up to `MAX_PARTITION_BYTES`, in a fixed order."""
    sources: dict[str, Callable[[], Iterable[str]]] = {
        "stdlib_code": _stdlib_code,
        "unit_tests": lambda: _texts(_shuffled("test_*.py", *map(_site, ("numpy", "scipy", "sklearn", "sympy")))),
        "cpp_headers": lambda: _texts(_shuffled("*.h", _site("torch") / "include")),
        "scientific_docstrings": lambda: _docstrings("scipy", "numpy"),
        "machine_learning_docstrings": lambda: _docstrings("sklearn", "transformers"),
        "computer_algebra_code": lambda: _code("sympy"),
        "licences": _licences,
        "database_code": lambda: _code("sqlalchemy", "alembic"),
    }
    return {name: _up_to_size(documents()) for name, documents in sources.items()}


def demo_held_out() -> dict[str, list[str]]:
    """Collect the documents of the held-out domain, one a topic of the language reference."""
    return {HELD_OUT_DOMAIN: _up_to_size(text for _, text in sorted(topics.items()))}


def demo_source_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages read."""
    read = [distribution.metadata for distribution in read_distributions()]
    everything = [f"{metadata['Name']}=={metadata['Version']}" for metadata in read]
    return {**library_versions(PACKAGES), "licences": " ".join(everything)}


def read_distributions() -> list[Distribution]:
    """List the packages whose licences are read, in their order; a package that a platform lacks is left out."""
    found = []
    for name in DEMO_PACKAGES:
        with suppress(PackageNotFoundError):
            found.append(importlib.metadata.distribution(name))
    return found


def _up_to_size(texts: Iterable[str]) -> list[str]:
    kept: list[str] = []
    size = 0
    for text in texts:
        document = _beginning(text)
        if len(document) < MIN_DOCUMENT_CHARACTERS:
            continue
        size += len(document.encode("utf-8", "surrogatepass"))
        if size > MAX_PARTITION_BYTES:
            break
        kept.append(document)
    return kept


def _beginning(text: str) -> str:
    if len(text) <= MAX_DOCUMENT_CHARACTERS:
        return text
    return text[: text.rfind("\n", 0, MAX_DOCUMENT_CHARACTERS) + 1]


def _site(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None, f"{package} is a dependency"
    return Path(spec.origin).parent


def _stdlib_code() -> Iterator[str]:
    root = Path(sysconfig.get_path("stdlib"))
    found = _shuffled("*.py", root)
    return _texts(path for path in found if not _STDLIB_LEFT_OUT & set(path.relative_to(root).parts))


def _code(*packages: str) -> Iterator[str]:
    return _texts(path for path in _shuffled("*.py", *map(_site, packages)) if "tests" not in path.parts)


def _docstrings(*packages: str) -> Iterator[str]:
    return chain.from_iterable(docstrings_of(text) for text in _code(*packages))


def docstrings_of(source: str) -> Iterator[str]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield text


def _licences() -> Iterator[str]:
    folders = {
        Path(str(distribution.locate_file(file.parts[0])))
        for distribution in read_distributions()
        for file in distribution.files or ()
        if file.parts[0].endswith(".dist-info")
    }
    for folder in sorted(folders, key=lambda path: path.name.lower()):
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        yield from _texts(path for path in files if path.name.upper().startswith(_LEGAL))


def _shuffled(pattern: str, *roots: Path) -> list[Path]:
    """List files by hash of their path, as good as random and the same everywhere."""
    found = [
        (hashlib.sha256(f"{root.name}/{path.relative_to(root).as_posix()}".encode()).digest(), path)
        for root in roots
        for path in root.rglob(pattern)
        if path.is_file()
    ]
    return [path for _, path in sorted(found)]


def _texts(paths: Iterable[Path]) -> Iterator[str]:
    for path in paths:
        try:
            yield path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue  # a few test files are in other encodings on purpose


WINDOW_FORMAT = 2
"""Raised when the same text gives other windows than before, so that old windows are made again."""


@dataclass(frozen=True)
class TextDigest:
    """Digests of everything behind a corpus's tokens, except the tokenizer.

    whole: digest of all sections and settings
    sections: digest of each section with the settings, by `partitions/NAME` or `held_out/NAME`; empty for the demo
    context: tokens of a window
    """

    whole: str
    sections: Mapping[str, str]
    context: int


def digest_text(config: CorpusConfig, context: int, digest_of: DigestOf = digest_file) -> TextDigest:
    """Digest the corpus settings, and the content (never the path) of every source file by `digest_of`.

    Raises `CorpusError` naming a missing file.
    """
    settings = config.model_dump(mode="json", exclude={"partitions", "held_out", "text_root", "max_unknown_share"})
    described = {
        kind: {name: describe_source(name, source, digest_of) for name, source in sources.items()}
        for kind, sources in (("partitions", config.partitions), ("held_out", config.held_out))
    }
    made_by = {"context": context, "windows": WINDOW_FORMAT}
    versions = demo_source_versions() if config.source == "demo" else {}
    whole = {"settings": settings, "order": list(config.partitions), "versions": versions, **described, **made_by}
    own = {key: value for key, value in settings.items() if key != "groups"}
    sections = {
        f"{kind}/{name}": digest_json({"settings": own, "table": one, **made_by})
        for kind, some in described.items()
        for name, one in some.items()
    }
    return TextDigest(digest_json(whole), sections, context)


def describe_source(name: str, source: TextSource, digest_of: DigestOf = digest_file) -> dict[str, object]:
    """Describe how a source is read and split, with the content digests of its files and of its embedding model.

    Raises `CorpusError` naming a missing file.
    """
    how = source.model_dump(mode="json", exclude={"files": True, "cluster": {"embeddings"}})  # paths are no content
    if isinstance(source, PartitionSource) and source.cluster is not None and source.cluster.embeddings is not None:
        how["cluster"]["embeddings"] = describe_embedding_model(name, source.cluster.embeddings, digest_of)
    if source.encoding is None:
        del how["encoding"]  # younger than the others: text that does without keeps its digest
    return {**how, "files": sorted(_described(name, path, source, digest_of) for path in paths_of(name, source))}


def _described(name: str, path: Path, source: TextSource, digest_of: DigestOf) -> str:
    """Digest a path, with the value of the column that its folder gives to split it by."""
    digest = _digest(name, path, digest_of)
    if not isinstance(source, PartitionSource) or source.partition_by is None:
        return digest
    folder = folder_value(name, path, source, source.partition_by)
    return digest if folder is None else f"{digest} {source.partition_by}={folder}"


def _digest(name: str, path: Path, digest_of: DigestOf) -> str:
    try:
        if not path.is_dir():
            return digest_of(path)
        inside = sorted(file for file in path.rglob("*") if file.is_file())
        return digest_json({file.relative_to(path).as_posix(): digest_of(file) for file in inside})
    except OSError as error:
        raise CorpusError(f"{name}: {path}: {reason_of(path, error)}") from None
