"""Open a study on a pool or on a swarm, for verbs that work on both."""

from contextlib import AbstractContextManager

from studies.opened.opened_study import OpenedStudy
from studies.study_file.study_file import StudyFile


def open_study(config: StudyFile) -> AbstractContextManager[OpenedStudy]:
    """Open a study file. Raises a `MixscoutError` of the thing at fault."""
    return _opened(config, to_read=False)


def open_to_read(config: StudyFile) -> AbstractContextManager[OpenedStudy]:
    """Open a started study without merging or training. Raises a `MixscoutError` of the thing at fault."""
    return _opened(config, to_read=True)


def _opened(config: StudyFile, *, to_read: bool) -> AbstractContextManager[OpenedStudy]:
    if config.table is not None:
        from studies.opened.on_table import swarm_bench  # needs no models

        return swarm_bench(config, must_exist=to_read, writes=not to_read)
    from studies.opened.on_pool import workbench

    return workbench(config, must_exist=to_read, only_recalls=to_read, writes=not to_read)
