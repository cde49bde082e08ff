"""The address of a study's database: a SQLite file, or PostgreSQL or MySQL by URL. A password is never shown.

A study file gets copied and committed, so it holds no password; MIXSCOUT_STORAGE in the environment does, and wins.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from pool.errors import ConfigError

VARIABLE = "MIXSCOUT_STORAGE"
_DRIVERS = {"sqlite": "", "postgresql": "psycopg", "mysql": "pymysql", "mariadb": "pymysql"}
_SECRETS = {"password", "passwd", "sslpassword"}


@dataclass(frozen=True)
class Address:
    """A database's URL."""

    url: URL

    @classmethod
    def of_file(cls, path: Path) -> Address:
        """Point at a SQLite file."""
        return cls(URL.create("sqlite", database=str(path)))

    @property
    def file(self) -> Path | None:
        """The SQLite file; None for a server."""
        return Path(self.url.database or "") if self.kind == "sqlite" else None

    @property
    def kind(self) -> str:
        """`sqlite`, `postgresql`, `mysql` or `mariadb`."""
        return self.url.get_backend_name()

    @property
    def full(self) -> str:
        """The whole URL, password included: for drivers, never for people."""
        return self.url.render_as_string(hide_password=False)

    def __str__(self) -> str:
        """Show the file, or the URL without password and options."""
        return str(self.file) if self.file else self.url.set(query={}).render_as_string(hide_password=True)

    def __repr__(self) -> str:
        return f"Address({self})"


def address_of(written: str | None, default: Path) -> Address:
    """Return the address in MIXSCOUT_STORAGE, else in the study file, else the default file. Raises `ConfigError`."""
    chosen = os.environ.get(VARIABLE) or written
    return parse(chosen, VARIABLE if os.environ.get(VARIABLE) else "`database`") if chosen else Address.of_file(default)


def parse(text: str, where: str) -> Address:
    """Read a path or a URL; `where` names its place in errors. Raises `ConfigError`."""
    if "://" not in text:
        return Address.of_file(Path(text).absolute())
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ConfigError(f"{where} is no database URL; write postgresql+psycopg://user@host/database") from None
    kind, _, driver = url.drivername.partition("+")
    if kind not in _DRIVERS:
        raise ConfigError(f"{where} names a {kind!r} database; there are {', '.join(_DRIVERS)}")
    if not url.database:
        raise ConfigError(f"{where} names no database; write {kind}://user@host/database")
    if kind == "sqlite":
        return Address.of_file(Path(url.database).absolute())
    if driver not in ("", _DRIVERS[kind]):
        raise ConfigError(f"{where} names the driver {driver!r}; {kind} is spoken to through {_DRIVERS[kind]}")
    if find_spec(_DRIVERS[kind]) is None:
        extra = "postgresql" if kind == "postgresql" else "mysql"
        raise ConfigError(f"{where} needs the driver {_DRIVERS[kind]}: pip install 'mixscout[{extra}]'")
    return Address(url.set(drivername=f"{kind}+{_DRIVERS[kind]}"))


def check_written(text: str, file: Path) -> None:
    """Raise `ConfigError` for a URL with a password in a study file, without showing the password."""
    url = parse(text, f"{file}: 'database'").url
    if url.password is not None or _SECRETS & set(url.query):
        raise ConfigError(
            f"{file}: 'database': the URL holds a password, and study files get copied: take it out, and set "
            f"{VARIABLE} in the environment to the whole URL instead"
        )
