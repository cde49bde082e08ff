"""The options of verbs whose work may be done by several processes, here or on a Ray cluster."""

from typing import Annotated

import typer

from pool.engines.choice import EngineName

WorkersOption = Annotated[int | None, typer.Option(min=1, help="How many work side by side, a device each.")]
EngineOption = Annotated[
    EngineName | None, typer.Option(help="Where they work: processes of this machine, or tasks of a Ray cluster.")
]
AddressOption = Annotated[
    str | None,
    typer.Option(metavar="auto|local|HOST:PORT", help="The Ray cluster; auto is the one this machine belongs to."),
]
CpusOption = Annotated[
    float | None,
    typer.Option("--num-cpus", min=0, help="CPUs that each takes: a Ray node's (one if left out), or threads."),
]
GpusOption = Annotated[
    float | None,
    typer.Option("--num-gpus", min=0, help="GPUs that each takes and sees; if left out, one where there are some."),
]
