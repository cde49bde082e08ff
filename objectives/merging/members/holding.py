"""`Holding`: what a user may say of how members are held."""

from dataclasses import dataclass
from typing import Literal

Place = Literal["resident", "streamed", "mapped"]
Held = Literal["auto", "resident", "streamed", "mapped"]
StoredAs = Literal["float32", "bfloat16", "int8", "int6"]


@dataclass(frozen=True)
class Holding:
    """Where members are `held`, as what their values are `stored`, and the share of each task vector that is kept.

    `held` decides where bytes lie and no value; the other two decide values. `float32` stands for the pool's own dtype.
    Raises `ValueError` for a share outside (0, 1], or below 1 of what is stored as `int6`.
    """

    held: Held = "auto"
    stored: StoredAs = "float32"
    keep_share: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.keep_share <= 1:
            raise ValueError(f"the share of a task vector that is kept must be in (0, 1]: got {self.keep_share!r}")
        if self.keep_share < 1 and self.stored == "int6":
            raise ValueError('pruned members cannot be stored as "int6": keep all of them, or store "int8"')

    @property
    def as_trained(self) -> bool:
        """Whether every value is the one that was trained."""
        return self.stored == "float32" and self.keep_share == 1

    @property
    def starts_at_seed(self) -> bool:
        """Whether members are held as steps from the seed (task vectors), so that it is needed."""
        return self.stored in ("int8", "int6") or self.keep_share < 1

    @property
    def digest_parts(self) -> dict[str, object]:
        """What decides a value, in JSON types: nothing where members are as trained, wherever they lie.

        All places merge by the same sums, so their values agree in every bit on one device.
        """
        return {} if self.as_trained else {"members": {"stored": self.stored, "keep_share": self.keep_share}}
