"""The order of the verbs in `mixscout --help`: that in which a newcomer needs them, wherever each is added."""

from typer.core import TyperGroup

ORDER = (
    "demo",
    "pool",
    "search",
    "worker",
    "best",
    "robustness",
    "confirm",
    "fidelity",
    "predict",
    "ablate",
    "compare",
    "export",
    "table",
    "handover",
    "report",
    "dashboard",
    "bench",
)
"""From a pool to a study, to what can be believed of its answer, to what is done with it."""


class VerbsInOrder(TyperGroup):
    """Lists its verbs in `ORDER`, and those that are not in it last."""

    def list_commands(self, ctx: object) -> list[str]:
        """Name the verbs in the order they are shown in."""
        return sorted(self.commands, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))
