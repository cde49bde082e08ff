"""Opening a study by what it stands on, for verbs that work on a pool and on a table alike."""

from contextlib import AbstractContextManager

from studies.opened.opened_study import OpenedStudy
from studies.study_file.study_file import StudyFile


def open_study(config: StudyFile) -> AbstractContextManager[OpenedStudy]:
    """Open a study file on a pool or on a table. Raises a `MixscoutError` of the thing at fault."""
    if config.table is not None:
        from studies.opened.on_table import swarm_bench  # needs no models

        return swarm_bench(config)
    from studies.opened.on_pool import workbench

    return workbench(config)


def open_to_read(config: StudyFile) -> AbstractContextManager[OpenedStudy]:
    """Open a study that was started, for whoever merges and trains nothing. Raises a `MixscoutError`."""
    if config.table is not None:
        from studies.opened.on_table import swarm_bench

        return swarm_bench(config, must_exist=True)
    from studies.opened.on_pool import workbench

    return workbench(config, must_exist=True, only_recalls=True)
