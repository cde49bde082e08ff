"""Where the parts of a pool are: in its folder, but for those that are new and wait until all of them are there.

Parts are named as their folders under POOL/: `tokenizer`, `corpus`, `seed` and `members/<partition>`.
"""

from dataclasses import dataclass
from pathlib import Path

TOKENIZER, CORPUS, SEED, MEMBERS = "tokenizer", "corpus", "seed", "members"
POOL_RECORD = "pool.json"


@dataclass(frozen=True)
class PoolLayout:
    """A pool in `folder`, of which the parts in `new` are in `stage`."""

    folder: Path
    stage: Path | None = None
    new: frozenset[str] = frozenset()

    def of(self, part: str) -> Path:
        """Folder of a part."""
        return self.stage / part if self.stage is not None and part in self.new else self.folder / part

    @property
    def tokenizer(self) -> Path:
        """Folder of the tokenizer."""
        return self.of(TOKENIZER)

    @property
    def corpus(self) -> Path:
        """Folder of the prepared corpus."""
        return self.of(CORPUS)

    @property
    def seed(self) -> Path:
        """Folder of the seed checkpoint."""
        return self.of(SEED)

    def member(self, name: str) -> Path:
        """Folder of one member."""
        return self.of(member_part(name))


def member_part(name: str) -> str:
    """Return the name of a member as a part."""
    return f"{MEMBERS}/{name}"


def member_folder(folder: Path, name: str) -> Path:
    """Folder of one member of a complete pool."""
    return folder / member_part(name)
