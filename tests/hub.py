"""A server on this machine that speaks the protocol of the Hugging Face hub."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

PATH = re.compile(r"/(?P<repository>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<name>.+)")


@dataclass
class Hub:
    """What the server has, what it does wrong, and what it was asked for.

    Attributes
    ----------
    files : dict of (repository, commit) to dict of str to bytes
        By their names; the last commit of a repository is its branch ``main``.
    token : str or None
        If set, files are given to those only who show it: the repositories are gated.
    cuts : int
        How many downloads break off half way.
    address, store : str
        Of the hub, and of the other server, by its name, that has the large files.
    asked : list of (method, path, range)
        Every request.
    shown : list of str or None
        The token of every request for a file's content.
    """

    files: dict[tuple[str, str], dict[str, bytes]]
    token: str | None = None
    cuts: int = 0
    address: str = ""
    store: str = ""
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    shown: list[str | None] = field(default_factory=list)

    @property
    def downloads(self) -> list[str | None]:
        """The ranges of the downloads that were asked for."""
        return [part for method, path, part in self.asked if method == "GET" and "/stored/" in path]

    def commit_of(self, repository: str, revision: str) -> str | None:
        """Return the commit of a revision; None if there is none."""
        commits = [commit for name, commit in self.files if name == repository]
        if revision == "main" and commits:
            return commits[-1]
        return revision if revision in commits else None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path, part = unquote(self.path), self.headers.get("Range")
        self.hub.asked.append((self.command, path, part))
        if path.startswith("/stored/"):
            self._send_stored(path.rpartition("/")[2], part)
            return
        asked = PATH.fullmatch(path)
        if asked is None:
            self._say(404)
            return
        if self.hub.token and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self._say(401, {"X-Error-Code": "GatedRepo", "X-Error-Message": "restricted"})
            return
        if not any(name == asked["repository"] for name, _ in self.hub.files):
            self._say(404, {"X-Error-Code": "RepoNotFound"})
            return
        commit = self.hub.commit_of(asked["repository"], asked["revision"])
        if commit is None:
            self._say(404, {"X-Error-Code": "RevisionNotFound"})
            return
        content = self.hub.files[asked["repository"], commit].get(asked["name"])
        if content is None:
            self._say(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            return
        # Large files are elsewhere; the hub names their SHA-256 and size.
        digest = hashlib.sha256(content).hexdigest()
        self._say(
            302,
            {
                "X-Repo-Commit": commit,
                "X-Linked-Etag": f'"{digest}"',
                "X-Linked-Size": str(len(content)),
                "Location": f"{self.hub.store}/stored/{digest}",
            },
        )

    def _send_stored(self, digest: str, part: str | None) -> None:
        self.hub.shown.append(self.headers.get("Authorization"))
        (content,) = {
            content
            for files in self.hub.files.values()
            for content in files.values()
            if hashlib.sha256(content).hexdigest() == digest
        }
        start = int(part.removeprefix("bytes=").rstrip("-")) if part else 0
        rest = content[start:]
        self.send_response(206 if part else 200)
        self.send_header("Content-Length", str(len(rest)))
        if part:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.hub.cuts:
            self.hub.cuts -= 1
            self.wfile.write(rest[: len(rest) // 2])
            self.close_connection = True
            return
        self.wfile.write(rest)

    def _say(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve a hub at its address, which is set, until the end."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.address, hub.store = (
            f"http://{host}:{server.server_address[1]}" for host in ("127.0.0.1", "localhost")
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield hub
        server.shutdown()
