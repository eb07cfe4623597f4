"""A small object store that speaks S3 over HTTP: objects, and all that goes wrong with them."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

__all__ = ["KEY", "SECRET", "Store", "serve"]

KEY, SECRET = "reader-of-the-test", "hush-hush-hush"
_SIGNED = re.compile(rf"AWS4-HMAC-SHA256 Credential={KEY}/\d+/[\w-]+/s3/aws4_request, ")


@dataclass
class Store:
    """Objects by `/bucket/key`, every request that came, and how the store feels today."""

    port: int = 0
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    broken: HTTPStatus | None = None
    """What it answers to everything, if not what is asked for."""
    forbidden: set[str] = field(default_factory=set)
    cut: set[str] = field(default_factory=set)
    """Objects whose body breaks off half way."""
    buckets: set[str] = field(default_factory=lambda: {"bucket", "public"})
    """Those that are there; whoever is not known to the store may read `public` only."""
    tagged: bool = True
    """Whether it gives ETags."""
    modified: int = 1_363_000_000
    """When its objects were written, in seconds since 1970."""
    awake: threading.Event = field(default_factory=threading.Event)
    """It answers while this is set; else it takes requests and stays silent."""

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What the platform's environment says of the store."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }

    def asked(self, method: str) -> list[str]:
        """The objects that were asked for by a method, since this was last called; sorted."""
        found = sorted(path for said, path in self.requests if said == method)
        self.requests = [each for each in self.requests if each[0] != method]
        return found


@contextmanager
def serve() -> Iterator[Store]:
    """A store of this process, for the block. It listens on a port of its own."""
    store = Store()
    store.awake.set()
    handler = type("Bound", (_Handler,), {"store": store})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    store.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=[0.02], name="store", daemon=True)
    thread.start()
    try:
        yield store
    finally:
        store.awake.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: Store

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing on the terminal."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path, store = unquote(urlsplit(self.path).path), self.store
        store.requests.append((self.command, path))
        store.awake.wait()
        signed = _SIGNED.match(self.headers.get("Authorization", ""))
        content = store.objects.get(path)
        if store.broken is not None:
            self._refuse(store.broken, "Broken")
        elif not (signed or path.startswith("/public/")) or path in store.forbidden:
            self._refuse(HTTPStatus.FORBIDDEN, "AccessDenied")
        elif content is not None:
            self._give(path, content)
        else:
            known = path.split("/")[1] in store.buckets
            self._refuse(HTTPStatus.NOT_FOUND, "NoSuchKey" if known else "NoSuchBucket")

    def _give(self, path: str, content: bytes) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Last-Modified", formatdate(self.store.modified, usegmt=True))
        if self.store.tagged:
            tag = hashlib.md5(content, usedforsecurity=False).hexdigest()
            self.send_header("ETag", f'"{tag}"')
        self.end_headers()
        if self.command == "GET":
            short = path in self.store.cut
            self.wfile.write(content[: len(content) // 2] if short else content)
            self.close_connection = short

    def _refuse(self, status: HTTPStatus, code: str) -> None:
        body = f"<Error><Code>{code}</Code><Key>{self.path}</Key></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
