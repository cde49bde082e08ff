"""Open a study on a pool or on a swarm, for verbs that work on both."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from studies.opened.opened_study import OpenedStudy
from studies.study_file.study_file import StudyFile


def open_study(config: StudyFile) -> AbstractContextManager[OpenedStudy]:
    """Open a study file. Raises a `MixscoutError` of the thing at fault."""
    return _opened(config, to_read=False)


def open_to_read(config: StudyFile) -> AbstractContextManager[OpenedStudy]:
    """Open a started study without merging or training. Raises a `MixscoutError` of the thing at fault."""
    return _opened(config, to_read=True)


@contextmanager
def open_privately(config: StudyFile, *, must_exist: bool = False) -> Iterator[OpenedStudy]:
    """Open a study in a temporary folder: what is done there is forgotten, and all it stands on stays as it is.

    Raises a `MixscoutError` of the thing at fault.
    """
    with TemporaryDirectory(prefix="mixscout-private-", ignore_cleanup_errors=True) as name:
        private = Path(name)
        if config.table is not None:
            from studies.opened.on_table import swarm_bench

            with swarm_bench(config, must_exist=must_exist, writes=True, private=private) as swarm:
                yield swarm
            return
        from studies.opened.on_pool import workbench

        with workbench(config, must_exist=must_exist, writes=True, private=private) as bench:
            yield bench


def _opened(config: StudyFile, *, to_read: bool) -> AbstractContextManager[OpenedStudy]:
    if config.table is not None:
        from studies.opened.on_table import swarm_bench  # needs no models

        return swarm_bench(config, must_exist=to_read, writes=not to_read)
    from studies.opened.on_pool import workbench

    return workbench(config, must_exist=to_read, only_recalls=to_read, writes=not to_read)
