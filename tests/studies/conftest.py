"""Real database servers, started once, a new database for every test; and a real browser."""

import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from browser import Browser, chromium
from forked import FEW_CHARACTERS, Forks, forks
from servers import MariaDB, Postgres

from studies.opened.opening import open_study
from studies.running.run import run_search
from studies.study_file.study_file import read_study_file

_NUMBERS = count()


@pytest.fixture(scope="session")
def open_folder() -> Iterator[Path]:
    """A folder that servers running as another user can enter, which another session's pytest cannot close to them."""
    with TemporaryDirectory(prefix="mixscout-servers-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="session")
def forked(open_folder: Path) -> Iterator[Forks]:
    """Commands in processes of their own, which write ASCII alone."""
    with forks(open_folder / "forked", HOME="/nonexistent", **FEW_CHARACTERS) as started:
        yield started


@pytest.fixture(scope="session")
def postgres(open_folder: Path) -> Iterator[Postgres]:
    """A PostgreSQL server. Who stops it starts it again."""
    server = Postgres(open_folder / "postgresql")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def mariadb(open_folder: Path) -> Iterator[MariaDB]:
    """A MariaDB server, where one is installed."""
    if shutil.which("mariadbd") is None or shutil.which("mariadb-install-db") is None:
        pytest.skip("no mariadbd here; apt-get install mariadb-server")
    server = MariaDB(open_folder / "mariadb")
    yield server
    server.stop()


@pytest.fixture
def new_address(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """Make an empty database of a kind and return its address."""

    def make(kind: str) -> str:
        name = f"mixscout{next(_NUMBERS)}"
        if kind == "sqlite":
            return str(tmp_path / f"{name}.db")
        server: Postgres | MariaDB = request.getfixturevalue(kind)
        return server.new_database(name)

    return make


@pytest.fixture(scope="session")
def begun_root(built_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a study of six merges, four of them its start design. Shared: never write into it."""
    folder = tmp_path_factory.mktemp("begun") / "root"
    shutil.copytree(built_root, folder)
    with open_study(read_study_file(folder / "study.toml")) as bench:
        run_search(bench, 6)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real browser; the test is skipped where there is none."""
    with chromium() as started:
        yield started
