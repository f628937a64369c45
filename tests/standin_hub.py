"""A hub of data sets on the loopback interface, for tests: the real client streams from it, and it fails as told.

It speaks as much of the Hugging Face hub's interface as `datasets` asks for while it streams: what a data set and a
revision are, the tree of files, and the files themselves, whole or by ranges of bytes. Large files are answered by a
redirect to another address, as the hub does. `HF_ENDPOINT` set to `Hub.endpoint` leads the client here.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import inf
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".parquet", ".gz")  # what the hub keeps in another store


@dataclass
class Fault:
    """What goes wrong with requests whose path matches; the first fault that is not used up applies.

    Paths are as the client means them: `/api/datasets/a/b/revision/refs/convert/parquet`, `/datasets/a/b/resolve/...`,
    `/large/a/b/<commit>/<file>`.
    """

    path: str
    times: float = inf
    method: str = "*"
    skip: int = 0  # so many requests are well before
    wait: float = 0  # seconds before the answer
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    keep: int | None = None  # bytes of the body that are sent before the connection breaks
    short: int = 0  # bytes of the body that are left out, with a Content-Length that agrees
    then: Callable[[], None] | None = None  # called in place of an answer


@dataclass(frozen=True)
class Request:
    """One line of the hub's log."""

    method: str
    path: str
    range: str | None


class Hub:
    """Data sets by name and commit, and a server that can go away and come back at the same address."""

    def __init__(self) -> None:
        self.files: dict[tuple[str, str], dict[str, bytes]] = {}
        self.refs: dict[tuple[str, str], str] = {}
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.lock = threading.Lock()
        self.server: _Server | None = None
        self.port = 0
        self.come()

    @property
    def endpoint(self) -> str:
        """The address for `HF_ENDPOINT`."""
        return f"http://127.0.0.1:{self.port}"

    def publish(self, name: str, files: Mapping[str, bytes], *refs: str) -> str:
        """Make a commit of these files that the branches and tags `refs` stand for from now on; return its name."""
        digest = hashlib.sha1(name.encode())
        for path, content in sorted(files.items()):
            digest.update(path.encode() + b"\0" + content)
        commit = digest.hexdigest()
        self.files[name, commit] = dict(files)
        self.refs |= {(name, ref): commit for ref in (*refs, commit)}
        return commit

    def come(self) -> None:
        """Listen, at the address of the first time."""
        self.server = _Server(("127.0.0.1", self.port), _Handler)
        self.server.hub = self
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def go(self) -> None:
        """Break all connections and listen no more: the port is closed."""
        server, self.server = self.server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            server.hang_up()

    def read(self) -> list[str]:
        """Return the large files that were asked for, each once, in the order of the first time."""
        found = (request.path.rsplit("/", 1)[1] for request in list(self.requests) if "/large/" in request.path)
        return list(dict.fromkeys(found))

    def wait_for(self, condition: Callable[[], object], seconds: float = 120) -> None:
        """Wait until `condition` holds."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"not within {seconds} s; requests: {self.requests[-5:]}"
            time.sleep(0.01)

    def fault_of(self, request: Request) -> Fault | None:
        """Log a request, and take the fault that is planned for it."""
        with self.lock:
            self.requests.append(request)
            for fault in self.faults:
                if fnmatchcase(request.path, fault.path) and fnmatchcase(request.method, fault.method):
                    if fault.skip > 0:
                        fault.skip -= 1
                    elif fault.times > 0:
                        fault.times -= 1
                        return fault
            return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    hub: Hub

    def __init__(self, *arguments: object) -> None:
        self.connections: set[socket.socket] = set()
        super().__init__(*arguments)

    def process_request(self, request: socket.socket, client_address: object) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        for connection in list(self.connections):
            _break(connection)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that was killed, or a connection broken on purpose."""


def _break(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:  # broken already
        return


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *arguments: object) -> None:
        """The log is `Hub.requests`."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        self.fault = self.server.hub.fault_of(Request(self.command, path, self.headers.get("Range")))
        if self.fault is not None:
            time.sleep(self.fault.wait)
            if self.fault.then is not None:
                self.close_connection = True
                self.fault.then()
                return
            if self.fault.status is not None:
                self.answer(self.fault.status, self.fault.body, self.fault.headers)
                return
        if found := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/refs", path):
            self.references(found[1])
        elif found := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/(.+))?", path):
            self.api(found[1], found[2] or "revision", found[3] or "main", parse_qs(url.query) | parse_qs(sent))
        elif found := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/(.+)", path):
            self.resolve(found[1], found[2])
        elif found := re.fullmatch(r"/large/([^/]+/[^/]+)/([^/]+)/(.+)", path):
            self.file(self.server.hub.files[found[1], found[2]][found[3]], {})
        else:
            self.refuse("NotFound", f"no such address: {path}")

    do_HEAD = do_POST = do_GET

    def split(self, name: str, rest: str) -> tuple[str, str] | None:
        """Return the commit and the path of `<revision>/<path>`, where a revision may have slashes; or refuse."""
        hub = self.server.hub
        if not any(known == name for known, _ in hub.refs):  # the hub hides whether there is a private one
            self.refuse("RepoNotFound", "Repository not found", 401)
            return None
        for (known, ref), commit in hub.refs.items():
            if known == name and f"{rest}/".startswith(f"{ref}/"):
                return commit, rest[len(ref) + 1 :]
        self.refuse("RevisionNotFound", f"Invalid rev id: {rest.split('/')[0]}")
        return None

    def api(self, name: str, what: str, rest: str, options: Mapping[str, list[str]]) -> None:
        if (place := self.split(name, rest)) is None:
            return
        commit, folder = place
        files = self.server.hub.files[name, commit]
        if what == "revision":
            said = {"_id": "0", "id": name, "sha": commit, "private": False, "gated": False, "disabled": False}
            self.json(
                said | {"tags": [], "downloads": 0, "likes": 0, "siblings": [{"rfilename": path} for path in files]}
            )
            return
        entries = {path: _entry(path, len(content)) for path, content in files.items()}
        for path in files:
            parts = path.split("/")[:-1]
            for n in range(1, len(parts) + 1):
                entries["/".join(parts[:n])] = _entry("/".join(parts[:n]))
        if what == "paths-info":
            self.json([entries[path] for path in options["paths"] if path in entries])
            return
        inside = {path: entry for path, entry in entries.items() if not folder or path.startswith(f"{folder}/")}
        if options.get("recursive", ["false"])[0].lower() == "false":
            depth = folder.count("/") + 1 if folder else 0
            inside = {path: entry for path, entry in inside.items() if path.count("/") == depth}
        if not inside:
            self.refuse("EntryNotFound", f"{folder} does not exist")
            return
        self.json([inside[path] for path in sorted(inside)])

    def references(self, name: str) -> None:
        found = {"branches": [], "converts": [], "tags": []}
        for (known, ref), commit in self.server.hub.refs.items():
            if known == name and ref != commit:
                start = "refs/convert/" if ref.startswith("refs/") else "refs/heads/" if ref == "main" else "refs/tags/"
                what = {"refs/convert/": "converts", "refs/heads/": "branches", "refs/tags/": "tags"}[start]
                short = ref.removeprefix("refs/convert/")
                found[what].append({"name": short, "ref": f"{start}{short}", "targetCommit": commit})
        self.json(found)

    def resolve(self, name: str, rest: str) -> None:
        if (place := self.split(name, rest)) is None:
            return
        commit, path = place
        content = self.server.hub.files[name, commit].get(path)
        if content is None:
            self.refuse("EntryNotFound", "Entry not found", commit=commit)
            return
        headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
        if path.endswith(LARGE):
            headers |= {"X-Linked-Size": str(len(content)), "X-Linked-ETag": headers["ETag"]}
            self.answer(302, b"", headers | {"Location": f"{self.server.hub.endpoint}/large/{name}/{commit}/{path}"})
        else:
            self.file(content, headers)

    def file(self, content: bytes, headers: Mapping[str, str]) -> None:
        """Answer with a file, or with the range of its bytes that is asked for."""
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not found:
            self.answer(200, content, headers)
            return
        start, end = int(found[1]), min(int(found[2] or len(content) - 1), len(content) - 1)
        if start >= len(content):
            self.answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            return
        headers = {**headers, "Content-Range": f"bytes {start}-{end}/{len(content)}"}
        self.answer(206, content[start : end + 1], headers)

    def json(self, value: object) -> None:
        self.answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def refuse(self, code: str, message: str, status: int = 404, commit: str | None = None) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message} | ({"X-Repo-Commit": commit} if commit else {})
        self.answer(status, json.dumps({"error": message}).encode(), headers)

    def answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        fault = self.fault or Fault("")
        body = body[: len(body) - fault.short]
        self.send_response(status)
        for key, value in {"Accept-Ranges": "bytes", **headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: fault.keep])
        if fault.keep is not None:
            self.close_connection = True
            _break(self.connection)


def _entry(path: str, size: int | None = None) -> dict[str, object]:
    """Return a file, or with no size a folder, as the tree names it."""
    found = {"type": "directory" if size is None else "file", "path": path, "size": size or 0}
    found["oid"] = hashlib.sha1(path.encode()).hexdigest()
    if path.endswith(LARGE):
        found["lfs"] = {"oid": hashlib.sha256(path.encode()).hexdigest(), "size": size, "pointerSize": 130}
    return found
