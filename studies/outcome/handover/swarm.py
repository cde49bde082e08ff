"""The verb `table`: what a pool's study has evaluated, as a table that another study can stand on.

A changed target is then answered from the evidence at hand, without any new merge.
"""

from pathlib import Path

import numpy as np

from objectives.evaluation import Evaluation
from objectives.stand_ins.swarm_table import SwarmTable, write_swarm
from objectives.target import measures_of
from pool.errors import StudyError
from pool.files.whole import refuse_occupied
from studies.opened.on_pool import Workbench


def run_table(bench: Workbench, folder: Path) -> SwarmTable:
    """Write all remembered full evaluations, each domain's loss on the search split in the study's measure.

    Raises `StudyError` when the folder exists and is not empty, cannot be written, or when nothing is remembered.
    """
    refuse_occupied(folder, StudyError(f"{folder} exists and is not empty; name a new folder"))
    table = swarm_of(bench)
    try:
        write_swarm(table, folder.resolve())
    except OSError as error:
        raise StudyError(f"{folder}: cannot write there: {error.strerror}") from None
    return table


def swarm_of(bench: Workbench) -> SwarmTable:
    """Collect the evaluations; a run is named after its mixture. Raises `StudyError` when there is none."""
    names, domains = bench.pool.names, bench.target.domains
    found = bench.database.evaluations.all_of(bench.losses["search"].digest)
    if not found:
        raise StudyError(
            f"study {bench.config.name!r} has no evaluation of held-out losses to write; run `mixscout search` on its "
            "file first (downstream scores are none)"
        )
    measures = np.array([measures_of(one.domains, domains, bench.target.measure) for one in found])
    return SwarmTable(
        tuple(_run_name(one) for one in found),
        names,
        np.array([one.mixture.over(names).array for one in found]),
        dict(zip(domains, measures.T, strict=True)),
    )


def _run_name(evaluation: Evaluation) -> str:
    return evaluation.mixture.digest[:12]
