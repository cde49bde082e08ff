"""A web server for this machine only: bound to a loopback address, and deaf to pages of other sites.

The dashboard asks for no password and can delete studies. A page of another site can make a browser call a loopback
address under a name of its own (DNS rebinding). Such a call carries the name, and is refused.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from importlib.util import find_spec
from ipaddress import ip_address
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from pool.errors import ConfigError

LOCALHOST = "localhost"


class LoopbackServer(ThreadingMixIn, WSGIServer):
    """Serves an application to this machine, each request in a thread."""

    daemon_threads = True

    @classmethod
    def on(cls, host: str, port: int, application: WSGIApplication) -> LoopbackServer:
        """Bind to a loopback address; port 0 is any free one. Raises `ConfigError`."""
        check_loopback(host)
        check_port(port)
        kind = type("Server", (cls,), {"address_family": socket.AF_INET6}) if ":" in host else cls
        try:
            server: LoopbackServer = kind((host, port), QuietHandler)
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {host} port {port}: {error.strerror}; give another --port, or 0 for any free one"
            ) from None
        server.set_app(to_this_machine(application))
        return server

    @property
    def url(self) -> str:
        """The address to open in a browser."""
        host, port = self.server_address[:2]
        name = host.decode() if isinstance(host, bytes) else host
        return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


class QuietHandler(WSGIRequestHandler):
    """Handles requests without a line on stderr for each."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def check_port(port: int) -> None:
    """Raise `ConfigError` for a number that is no port."""
    if not 0 <= port <= 65535:
        raise ConfigError(f"--port: expected 0 (any free port) to 65535, got {port}")


def check_installed() -> None:
    """Raise `ConfigError` without optuna-dashboard, which is an extra."""
    if find_spec("optuna_dashboard") is None:
        raise ConfigError("the dashboard needs optuna-dashboard: pip install 'mixscout[dashboard]'")


def check_loopback(host: str) -> None:
    """Raise `ConfigError` for a host within reach of other machines."""
    if not _is_loopback(host):
        raise ConfigError(
            f"--host: {host!r} is no loopback address, and the dashboard has no password and can delete studies; leave "
            "--host out, and from elsewhere use a tunnel: ssh -L 8080:127.0.0.1:8080 MACHINE"
        )


def to_this_machine(application: WSGIApplication) -> WSGIApplication:
    """Refuse requests under another name than this machine's loopback names."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if not _is_loopback(_host_of(str(environ.get("HTTP_HOST", "")))):
            start_response("403 Forbidden", [("Content-Type", "text/plain")])
            return [b"Open the address that mixscout dashboard printed.\n"]
        return application(environ, start_response)

    return answer


def _host_of(header: str) -> str:
    """Drop the port, and the brackets of an IPv6 address."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0]


def _is_loopback(host: str) -> bool:
    if host == LOCALHOST:
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
