"""Versions of what a checkpoint's weights may hang on, for its manifest."""

import importlib.metadata
import platform


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that train, by name."""
    packages = ("torch", "transformers", "numpy")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}
