"""A hub on loopback: folders served as repositories, with what the Hugging Face hub answers to those who read.

Spoken are info at a revision, the paged tree of a commit, and files by HEAD and GET, whole or from a byte on; and to
those who write: new models, the kinds of uploads, large files by Git LFS, and commits. Status codes and X-Error-Code
are the hub's own. Everything asked for is kept, to say what was not.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

Kind = Literal["models", "datasets"]
PAGE = 2
"""Entries of a tree in one answer; so few that every listing is paged."""
_API = re.compile(r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)/(?P<what>revision|tree)/(?P<revision>[^/]+)")
_WRITING = re.compile(r"/api/models/(?P<name>[^/]+/[^/]+)/(?P<what>preupload|commit)/main")
_BATCH = re.compile(r"/(?P<name>[^/]+/[^/]+)\.git/info/lfs/objects/batch")
_FILE = re.compile(r"/(?P<kind>datasets/)?(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")


@dataclass
class Repository:
    """Commits and the folders they stand for, tags, and who may read: anyone, or whoever brings the token.

    A gated one is listed to anyone, and only its files are kept back. Of the file in trouble, so many downloads fail.
    """

    commits: dict[str, Path] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    token: str | None = None
    is_gated: bool = False
    trouble: Literal["breaks off", "500"] = "500"
    in_trouble: str = ""
    failures: int = 0

    def fails(self, path: str) -> bool:
        """Tell whether a download is one of those that fail."""
        self.failures -= path == self.in_trouble
        return path == self.in_trouble and self.failures >= 0


class LocalHub:
    """A server on a port of its own, until it is closed."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[Kind, str], Repository] = {}
        self.asked: list[str] = []
        self.writer = ""
        self.is_full = False
        self.created: list[dict[str, object]] = []
        self.large: dict[str, bytes] = {}
        self._start(0)

    @property
    def endpoint(self) -> str:
        """What HF_ENDPOINT is set to."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def publish(self, kind: Kind, name: str, folder: Path, tag: str | None = None) -> str:
        """Serve a folder as one more commit of a repository, and move a tag to it; return the commit."""
        repository = self.repositories.setdefault((kind, name), Repository())
        content = hashlib.sha1(name.encode())
        for path in _files(folder):
            content.update(path.encode() + (folder / path).read_bytes())
        repository.commits[content.hexdigest()] = folder
        if tag is not None:
            repository.tags[tag] = content.hexdigest()
        return content.hexdigest()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Refuse every connection while the block runs."""
        port = self._server.server_port
        self.close()
        try:
            yield
        finally:
            self._start(port)

    def close(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._server.server_close()

    def _start(self, port: int) -> None:
        bound = type("_Bound", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", port), bound)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: LocalHub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        self.hub.asked.append(f"{self.command} {path}")
        if found := _API.fullmatch(path):
            self._about("models" if found["kind"] == "models" else "datasets", found, parse_qs(url.query))
        elif found := _FILE.fullmatch(path):
            self._file("datasets" if found["kind"] else "models", found)
        else:
            self._refuse(404, "", "no such page")

    def do_POST(self) -> None:
        path, body = unquote(urlsplit(self.path).path), self._body()
        self.hub.asked.append(f"POST {path}")
        if path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif self.hub.is_full:
            self._refuse(507, "", "Insufficient storage")
        elif self.headers.get("Authorization") != f"Bearer {self.hub.writer}":
            self._refuse(403, "", "You don't have the rights to do this")
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif _BATCH.fullmatch(path):
            self._json({"transfer": "basic", "objects": [self._place(one) for one in json.loads(body)["objects"]]})
        elif (found := _WRITING.fullmatch(path)) and found["what"] == "preupload":
            self._json({"files": [self._kind(one["path"]) for one in json.loads(body)["files"]]})
        elif found:
            self._commit_files(found["name"], [json.loads(line) for line in body.splitlines()])
        else:
            self._refuse(404, "", "no such page")

    def do_PUT(self) -> None:
        body = self._body()
        self.hub.large[hashlib.sha256(body).hexdigest()] = body
        self._send(200, {}, b"", length=0)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def _create(self, asked: dict[str, object]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        self.hub.created.append(asked)
        if ("models", name) in self.hub.repositories:
            status = 409
        else:
            status, self.hub.repositories["models", name] = 200, Repository(token=self.hub.writer)
        self._json({"url": f"{self.hub.endpoint}/{name}"}, status=status)

    def _kind(self, path: str) -> dict[str, object]:
        mode = "lfs" if path.endswith(".safetensors") else "regular"
        return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": None}

    def _place(self, asked: dict[str, object]) -> dict[str, object]:
        place = {"href": f"{self.hub.endpoint}/large/{asked['oid']}"}
        return {"oid": asked["oid"], "size": asked["size"], "actions": {"upload": place}}

    def _commit_files(self, name: str, lines: list[dict[str, dict[str, str]]]) -> None:
        folder = Path(tempfile.mkdtemp(prefix="mixscout-hub-"))
        for line in lines:
            path, value = folder / line["value"].get("path", ""), line["value"]
            if line["key"] == "file":
                path.write_bytes(base64.b64decode(value["content"]))
            elif line["key"] == "lfsFile":
                path.write_bytes(self.hub.large[value["oid"]])
        commit = self.hub.publish("models", name, folder)
        self._json({"commitUrl": f"{self.hub.endpoint}/{name}/commit/{commit}", "commitOid": commit})

    def log_message(self, *_: object) -> None:
        """Keep the log out of the tests' output; `asked` has it."""

    def _about(self, kind: Kind, found: re.Match[str], query: dict[str, list[str]]) -> None:
        if (commit := self._commit(kind, found, is_file=False)) is None:
            return
        names = _files(folder := self.hub.repositories[kind, found["name"]].commits[commit])
        if found["what"] == "revision":
            self._json({"id": found["name"], "sha": commit, "siblings": [{"rfilename": name} for name in names]})
            return
        entries = [_entry(folder, name) for name in names]
        parents = {parent.as_posix() for name in names for parent in Path(name).parents} - {"."}
        entries += [{"type": "directory", "path": name, "oid": "0" * 40} for name in sorted(parents)]
        start = int(query.get("cursor", ["0"])[0])
        rest = f"{self.hub.endpoint}{urlsplit(self.path).path}?recursive=True&cursor={start + PAGE}"
        more = {"Link": f'<{rest}>; rel="next"'} if start + PAGE < len(entries) else {}
        self._json(entries[start : start + PAGE], more)

    def _file(self, kind: Kind, found: re.Match[str]) -> None:
        if (commit := self._commit(kind, found, is_file=True)) is None:
            return
        repository, path = self.hub.repositories[kind, found["name"]], found["path"]
        if path not in _files(repository.commits[commit]):
            self._refuse(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
            return
        content = (repository.commits[commit] / path).read_bytes()
        trouble = repository.trouble if self.command == "GET" and repository.fails(path) else None
        if trouble == "500":
            self._refuse(500, "", "Internal error")
            return
        headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
        ranged = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start, end = int(ranged[1]) if ranged else 0, len(content) // 2 if trouble else len(content)
        if ranged:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(206 if ranged else 200, headers, content[start:end], length=len(content) - start)

    def _commit(self, kind: Kind, found: re.Match[str], *, is_file: bool) -> str | None:
        """Find the commit that is asked for, or refuse as the hub does."""
        repository = self.hub.repositories.get((kind, found["name"]))
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in {one.token for one in self.hub.repositories.values()}:
            self._refuse(401, "", "Invalid credentials in Authorization header")
        elif repository is None or (repository.token not in (None, token) and not repository.is_gated):
            self._refuse(404 if token else 401, "RepoNotFound", "Repository not found")
        elif repository.is_gated and is_file and token != repository.token:
            self._refuse(403 if token else 401, "GatedRepo", f"Access to {found['name']} is restricted")
        elif (commit := repository.tags.get(found["revision"], found["revision"])) not in repository.commits:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {found['revision']}")
        else:
            return commit
        return None

    def _refuse(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        said = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {}), **(headers or {})}
        self._send(status, said, b"", length=0)

    def _json(self, value: object, headers: dict[str, str] | None = None, *, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self._send(status, {"Content-Type": "application/json", **(headers or {})}, body, length=len(body))

    def _send(self, status: int, headers: dict[str, str], body: bytes, *, length: int) -> None:
        """Answer; where there is less of a body than announced, the connection ends with it."""
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
            self.close_connection = self.close_connection or len(body) < length


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _entry(folder: Path, name: str) -> dict[str, object]:
    content = (folder / name).read_bytes()
    return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
