"""Servers on this machine's loopback that files are fetched from: a plain one, and a Hugging Face hub."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


@dataclass
class File:
    """A file that a server has, and how it serves it.

    `length` is what it says of the length (None: the truth, 0: nothing), `status` and `headers` what it answers with,
    `breaks` after how many bytes it hangs up. A `large` one lies elsewhere in a hub, and has a SHA-256.
    """

    body: bytes
    length: int | None = None
    kind: str = "application/octet-stream"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    ranges: bool = True
    breaks: int | None = None
    large: bool = False


class Server:
    """Files by their paths; `asked` lists the paths that were asked for, `ranges` the ranges, `tokens` the keys shown.

    It sends the first half of what is asked for as soon as `first_half` is set, and the rest after `second_half`; what is
    `SMALL` at once. Use it in a with statement, or close it.
    """

    def __init__(self) -> None:
        self.files: dict[str, File] = {}
        self.first_half, self.second_half = threading.Event(), threading.Event()
        self.first_half.set()
        self.second_half.set()
        self.asked: list[str] = []
        self.ranges: list[str] = []
        self.tokens: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                server.answer(self)

            def do_GET(self) -> None:
                server.asked.append(urlsplit(self.path).path)
                server.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.first_half.set()
        self.second_half.set()
        self.http.shutdown()
        self.http.server_close()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}"

    def offer(self, name: str, body: bytes, length: int | None = None, kind: str = "application/octet-stream") -> str:
        """The address of a file."""
        self.files[f"/{name}"] = File(body, length, kind)
        return f"{self.endpoint}/{name}"

    def find(self, path: str, query: str) -> File:
        """What is at a path."""
        return self.files.get(path, File(b"", status=404))

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        address = urlsplit(request.path)
        self.tokens.append(request.headers.get("Authorization", ""))
        file = self.find(address.path, address.query)
        body, status, headers = file.body, file.status, dict(file.headers)
        wanted = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        if wanted and file.ranges and status == 200:
            start = int(wanted[1])
            self.ranges.append(wanted[0])
            status = 206 if start < len(body) else 416
            headers["Content-Range"] = (
                f"bytes {start}-{len(body) - 1}/{len(body)}" if status == 206 else f"bytes */{len(body)}"
            )
            body = body[start:] if status == 206 else b""
        request.send_response(status)
        request.send_header("Content-Type", file.kind)
        length = len(body) if file.length is None or status != 200 else file.length
        if length or status != 200:
            request.send_header("Content-Length", str(length))
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command == "HEAD":
            return
        body = body[: file.breaks]
        half = len(body) // 2
        with suppress(OSError):  # who asked may have left
            assert len(body) < SMALL or self.first_half.wait(60)
            request.wfile.write(body[:half])
            assert len(body) < SMALL or self.second_half.wait(60)
            request.wfile.write(body[half:])


SMALL = 2**12
"""Bytes up to which a body is sent at once: the hub's lists and descriptions."""


class Hub(Server):
    """A Hugging Face hub: set `HF_ENDPOINT` to its `endpoint`.

    Files of `large` names lie on a server of their own, `elsewhere`, to which it leads on, with headers as the hub sends
    them; `files` of both can be changed, as tests of liars do. `gated` are repositories that ask for a login unless
    `token` is shown, `said` what the list of a repository says beside its files, `moved` have another name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.elsewhere = Server()
        self.elsewhere.first_half, self.elsewhere.second_half = self.first_half, self.second_half
        self.said: dict[str, dict[str, Any]] = {}
        self.gated: set[str] = set()
        self.moved: dict[str, str] = {}
        self.token = ""

    def close(self) -> None:
        super().close()
        self.elsewhere.close()

    def __enter__(self) -> Hub:
        return self

    def add_model(self, id: str, files: Mapping[str, bytes], **said: Any) -> str:
        """A repository with these files, and their commit."""
        commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        siblings = []
        for name, body in files.items():
            path = f"/{id}/resolve/{commit}/{name}"
            if re.search(r"\.(safetensors|bin|h5|msgpack)$", name):
                digest = hashlib.sha256(body).hexdigest()
                url = self.elsewhere.offer(f"blobs/{digest}", body)
                headers = {
                    "Location": url,
                    "ETag": '"pointer"',
                    "X-Linked-Etag": f'"{digest}"',
                    "X-Linked-Size": str(len(body)),
                }
                self.files[path] = File(b"", status=302, headers=headers | {"X-Repo-Commit": commit}, large=True)
                siblings.append({"rfilename": name, "size": len(body), "blobId": "0" * 40})
                siblings[-1]["lfs"] = {"sha256": digest, "size": len(body), "pointerSize": 134}
            else:
                digest = hashlib.sha1(f"blob {len(body)}\0".encode() + body).hexdigest()
                self.files[path] = File(
                    body, headers={"ETag": f'"{digest}"', "X-Repo-Commit": commit}, kind="text/plain"
                )
                siblings.append({"rfilename": name, "size": len(body), "blobId": digest})
        self.said[id] = {"id": id, "sha": commit, "siblings": siblings, "private": False, "gated": False} | said
        return commit

    def listed(self, id: str, name: str) -> dict[str, Any]:
        """What the list of a repository says of a file, to be changed."""
        (found,) = [one for one in self.said[id]["siblings"] if one["rfilename"] == name]
        return found

    def find(self, path: str, query: str) -> File:
        for old, new in self.moved.items():
            if old in path:
                return File(b"", status=307, headers={"Location": f"{path.replace(old, new)}?{query}"})
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(\w+))?", path):
            said = self.said.get(match[1])
            if said is None or match[2] not in (None, "main", said["sha"]):  # as the hub answers whoever shows no key
                return File(b'{"error": "Invalid username or password."}', status=401, kind="application/json")
            return File(json.dumps(said).encode(), kind="application/json")
        repo = "/".join(path.split("/")[1:3])
        path = path.replace("/resolve/main/", f"/resolve/{self.said.get(repo, {}).get('sha')}/")
        if repo in self.gated and not (self.token and self.tokens[-1] == f"Bearer {self.token}"):
            return File(
                b"Access to this model is restricted.",
                status=401,
                headers={"X-Error-Code": "GatedRepo"},
                kind="text/plain",
            )
        return super().find(path, query)
