"""A build that is cut off where a test says."""

from pathlib import Path

import pytest

from pool.building import job as training
from pool.building.build import build_pool
from pool.config.pool_file import read_pool_file


def build_until(root: Path, monkeypatch: pytest.MonkeyPatch, *rebuild: str, at: str) -> None:
    """Build the pool of a root, with what is named made anew, until the training of the member `at` begins."""
    original = training.train

    def interrupted(*arguments: object, **options: object) -> object:
        if str(options["label"]).endswith(f"member {at!r}"):
            raise KeyboardInterrupt
        return original(*arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "train", interrupted)
        build_pool(read_pool_file(root / "pool.toml"), rebuild)
