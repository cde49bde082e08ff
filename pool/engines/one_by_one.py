"""One job after the other, in this process: no engine's engine, and the one whose results the others must give."""

from collections.abc import Callable, Iterator, Sequence

from pool.engines.engine import Job, Result, check_names


class OneByOne:
    """Does jobs in their order. Nothing can be lost but with the whole process, so nothing is retried."""

    elsewhere = False
    places = 1
    machines = 1

    def run(
        self, jobs: Sequence[Job[Result]], *, watch: Callable[[], None] = lambda: None
    ) -> Iterator[tuple[str, Result]]:
        """Do every job, and yield its name and result as soon as it is done."""
        check_names(jobs)
        for job in jobs:
            result = job.work()
            watch()
            yield job.name, result


ONE_BY_ONE = OneByOne()
