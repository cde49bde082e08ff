"""One worker on a study, as a job: wherever it is done, it opens the study file there and advances the study."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from studies.database.address import VARIABLE
from studies.opened.opening import open_study
from studies.run import run_search
from studies.study_file.study_file import read_study_file
from studies.terminal import quiet_libraries


@dataclass(frozen=True)
class Worker:
    """Advances the study of `study_file` to a total of `merges`; `storage` is its database's whole URL."""

    study_file: Path
    merges: int
    accept: bool
    storage: str = field(repr=False)

    def __call__(self) -> str | None:
        """Work until the budget is spent; return in one line what stopped this worker before that, if anything did.

        Nothing is raised: what stops one worker is no reason to stop the others.
        """
        quiet_libraries()
        os.environ[VARIABLE] = self.storage
        try:
            with open_study(read_study_file(self.study_file)) as bench:
                run_search(bench, self.merges, accept=self.accept)
        except Exception as error:
            return (str(error).strip().splitlines() or [type(error).__name__])[-1]
        return None
