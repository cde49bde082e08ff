"""The address of a study's database: a SQLite file, or PostgreSQL or MySQL by URL. A password is never shown.

A study file gets copied and committed, so it holds no password; MIXSCOUT_STORAGE in the environment does, and wins.
"""

from __future__ import annotations

import inspect
import os
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from pool.errors import ConfigError
from pool.files.secrets import MASK, SECRET_OPTIONS

VARIABLE = "MIXSCOUT_STORAGE"
DATABASE_FILE = "mixscout.db"
"""The database of a study file that names none, in the folder of its pool file or table."""
ENCODE = """python3 -c "import getpass, urllib.parse as u; print(u.quote(getpass.getpass(), safe=''))\""""
"""Prints a password as a URL takes it."""
_DRIVERS = {"sqlite": "", "postgresql": "psycopg", "mysql": "pymysql", "mariadb": "pymysql"}
_OF_MYSQL = {"ssl_capath", "ssl_cipher", "ssl_check_hostname"}
"""Options that SQLAlchemy adds to PyMySQL's own."""
_DIVIDES = set("/?#")
_NO_PATH = re.compile(r"(?i)(postgres\w*|mysql|mariadb)[+\w]*:|(?![/.~]|[a-z]:[\\/])(.*:.*@|.*passw(or)?d\s*=)")
"""A URL without its slashes, or a connection string of another kind: as a path, it would be shown in full."""


@dataclass(frozen=True)
class Address:
    """A database's URL; `doubtful` if characters of its password may divide it elsewhere."""

    url: URL
    doubtful: bool = False

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

    @property
    def secrets(self) -> list[str]:
        """The passwords in the URL; of a doubtful one, all that may belong to its password."""
        query = self.url.normalized_query
        found = [value for key in SECRET_OPTIONS & query.keys() for value in query[key]]
        if self.url.password:
            found.append(str(self.url.password))
        if self.doubtful:
            found += [self.url.host or "", self.url.database or "", *(one for many in query.values() for one in many)]
        return found

    def __str__(self) -> str:
        """Show the file, or the URL without password and options; of a doubtful one nothing behind its user."""
        if self.file:
            return str(self.file)
        if self.doubtful:
            return f"{self.url.drivername}://{self.url.username or ''}:{MASK}"
        return self.url.set(query={}).render_as_string(hide_password=True)

    def __repr__(self) -> str:
        return f"Address({self})"


def said_by() -> str:
    """Name what says the address: the environment's variable wins over the study file's key."""
    return f"{VARIABLE} in the environment" if is_in_environment() else "`database` in the study file"


def is_in_environment() -> bool:
    """Tell whether the environment says the address."""
    return bool(os.environ.get(VARIABLE, "").strip())


def address_of(written: str | None, default: Path) -> Address:
    """Return the address in MIXSCOUT_STORAGE, else in the study file, else the default file. Raises `ConfigError`."""
    given = os.environ.get(VARIABLE, "").strip()
    chosen = given or written
    return parse(chosen, VARIABLE if given else "`database`") if chosen else Address.of_file(default)


def parse(text: str, where: str) -> Address:
    """Read a path or a URL; `where` names its place in errors. Raises `ConfigError`, without any part of a password."""
    if "://" not in text:
        return Address.of_file(_path(text, where))
    kind, _, driver = text.partition("://")[0].partition("+")
    if kind in _DRIVERS and kind != "sqlite":
        _check_divided(text, where)
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ConfigError(
            f"{where} is no database URL; write postgresql+psycopg://user@host/database, and a password's : / ? # [ ] "
            f"@ % and spaces as this prints it: {ENCODE}"
        ) from None
    if kind not in _DRIVERS:
        raise ConfigError(f"{where} names a {kind!r} database; there are {', '.join(_DRIVERS)}")
    if kind == "sqlite":
        return Address.of_file(_path_in(url, text, where))
    if not url.database:
        raise ConfigError(f"{where} names no database; write {kind}://user@host/database")
    if driver not in ("", _DRIVERS[kind]):
        raise ConfigError(f"{where} names the driver {driver!r}; {kind} is spoken to through {_DRIVERS[kind]}")
    if find_spec(_DRIVERS[kind]) is None:
        extra = "postgresql" if kind == "postgresql" else "mysql"
        raise ConfigError(f"{where} needs the driver {_DRIVERS[kind]}: pip install 'mixscout[{extra}]'")
    _check_options(url, kind, where)
    _check_password(url, kind, where)
    userinfo, found, _ = text.partition("://")[2].partition("@")
    return Address(url.set(drivername=f"{kind}+{_DRIVERS[kind]}"), bool(found) and bool(_DIVIDES & set(userinfo)))


def _check_divided(text: str, where: str) -> None:
    """Refuse a second @: the first may belong to the password, and what follows would be shown as the host."""
    scheme, _, rest = text.partition("://")
    if rest.count("@") > 1:
        user = re.split("[:@/?#]", rest)[0]
        raise ConfigError(
            f"{where}: {scheme}://{user}:{MASK} has more than one @, so its password has no certain end; write the "
            f"password's @ : / ? # % and spaces percent-encoded, as this prints it: {ENCODE}"
        )


def _check_password(url: URL, kind: str, where: str) -> None:
    """Refuse a password that the driver would quote in its error: a % not written as %25 makes such passwords."""
    encoding = "utf-8" if kind == "postgresql" else "latin-1"
    for password in Address(url).secrets:
        if "\0" in password or password.encode(encoding, "replace").decode(encoding) != password:
            raise ConfigError(
                f"{where}: the password has a character that {_DRIVERS[kind]} cannot send; write its @ : / ? # % and "
                f"spaces percent-encoded, as this prints it: {ENCODE}"
            )


def _path(text: str, where: str) -> Path:
    if _NO_PATH.match(text):
        raise ConfigError(
            f"{where} is neither the path of a SQLite file nor a database URL; write postgresql://user@host/database"
        )
    return Path(text).absolute()


def _path_in(url: URL, text: str, where: str) -> Path:
    if url.host or not url.database:
        raise ConfigError(
            f"{where}: {text} names no file; write sqlite:///FILE, with four slashes before an absolute path, or the "
            "path alone"
        )
    if "?" in text:
        raise ConfigError(f"{where}: {text}: a SQLite file takes no options; leave out the ? and what follows")
    return Path(url.database).absolute()


def _check_options(url: URL, kind: str, where: str) -> None:
    """Refuse options that the driver would name in its error: they may be parts of a password."""
    if not url.query:
        return
    known = _libpq_options() if kind == "postgresql" else _pymysql_options()
    for number, key in enumerate(url.query, start=1):
        if key not in known:
            secret = url.password is not None or SECRET_OPTIONS & url.query.keys()
            name = f"number {number} behind its ?" if secret else repr(key)
            raise ConfigError(
                f"{where}: {_DRIVERS[kind]} knows no option {name}; correct it, and write & in values as %26"
            )


def _libpq_options() -> set[str]:
    from psycopg.pq import Conninfo

    return {option.keyword.decode() for option in Conninfo.get_defaults()}


def _pymysql_options() -> set[str]:
    from pymysql.connections import Connection

    return set(inspect.signature(Connection.__init__).parameters) - {"self"} | _OF_MYSQL


def check_written(text: str, file: Path) -> None:
    """Raise `ConfigError` for a URL with a password in a study file, without showing the password."""
    url = parse(text, f"{file}: 'database'").url
    if url.password is not None or SECRET_OPTIONS & url.query.keys():
        raise ConfigError(
            f"{file}: 'database': the URL holds a password, and study files get copied: take it out, and set "
            f"{VARIABLE} in the environment to the whole URL instead"
        )
