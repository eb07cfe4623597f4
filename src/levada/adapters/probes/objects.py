"""
Landing zones in an object store: which objects are there, and what was in them.

An object is fetched once, when it has landed and when its tag or size has changed, into a folder of
copies that are named by their content. They are what is staged: who builds never sees the store.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from levada.adapters.probes.files import awaited
from levada.errors import LandingMoved, ToolError, Unavailable
from levada.ports import LandedFile
from levada.terms import Landing, Partition, Source

if TYPE_CHECKING:
    from obstore import GetResult, ObjectMeta
    from obstore.store import ObjectStore

__all__ = ["PATIENCE", "ObjectZone"]

PATIENCE = timedelta(seconds=10)
"""How long a store may be silent, and how long what it failed to answer is asked again."""

_AT_ONCE = 8
_CHUNK = 1 << 20
_NO_BUCKET = re.compile("NoSuchBucket|ContainerNotFound")
_STATUS = re.compile(r"status code: (\d{3}(?: [A-Z][A-Za-z]+)*)")
_WHY = (
    # Where the environment holds no key, the client asks the machine for its role.
    (re.compile(r"//169\.254\.|//metadata|token request"), "no credentials in the environment"),
    (re.compile(r"kind: Timeout"), "no answer in time"),
    (re.compile(r"kind: Connect"), "no connection"),
    (re.compile(r"redirect without LOCATION"), "the bucket lies in another region"),
    (re.compile(r"Account must be specified"), "no account in the environment"),
)


class _AbsentError(Exception):
    """There is no such object."""


class ObjectZone:
    """
    One zone, as `s3://bucket/prefix`, and a folder for copies of its objects. How the store is
    reached the environment says, in the variables that the store's own tools read.
    """

    def __init__(self, zone: str, copies: Path) -> None:
        self.zone = zone
        self._copies = _Copies(copies)

    def ask(
        self,
        sources: Iterable[Source],
        slices: Callable[[Source], Collection[Partition]],
        now: datetime,
    ) -> Iterator[tuple[Source, tuple[list[Landing], str]]]:
        """
        The sources of the zone, each with what has landed, and why nobody can tell of the rest;
        empty where all could be told.

        An object that is refused speaks for its own partition only. A store that does not answer is
        not asked any further: its sources share the failure.
        """
        silent: list[str] = []
        with ThreadPoolExecutor(_AT_ONCE, "objects") as threads:
            for source in sources:
                partitions = slices(source)
                look = partial(self._look, silent, partial(self._landing, now, source))
                found = list(threads.map(look, partitions))
                if partitions and not any(found):
                    closer = partial(self._look, silent, partial(self._nothing, source))
                    found = [closer(next(iter(partitions)))]
                landed = [each for each in found if isinstance(each, Landing)]
                wrong = silent[:1] or [each for each in found if isinstance(each, str)]
                more = f"; and {len(wrong) - 1} more" if len(wrong) > 1 else ""
                yield source, (landed, wrong[0] + more if wrong else "")

    def files(self, source: Source, pins: Mapping[Partition, str]) -> Iterator[LandedFile]:
        """
        The pinned objects, as copies of them; one that is not here is fetched again.

        Raises LandingMoved where the object has another content by now, Unavailable, ToolError.
        """
        for partition, pinned in pins.items():
            name = awaited(source, partition)[0]
            if not self._copies.whole(pinned):
                try:
                    content, _ = self._fetched(name)
                except _AbsentError:
                    why = "is gone since it was pinned; its step stays open"
                    raise LandingMoved(f"{name} {why}") from None
                except OSError as error:
                    why = f"{error.filename}: {error.strerror}"
                    raise ToolError("the landing zone", why) from None
                if content != pinned:
                    raise LandingMoved(
                        f"{name} changed since it was pinned: sha256 {content[:12]}, "
                        f"pinned {pinned[:12]}; its step stays open"
                    )
            yield LandedFile(partition, self._copies.path(pinned), pinned, name)

    def _look(
        self,
        silent: list[str],
        call: Callable[[Partition], Landing | None],
        partition: Partition,
    ) -> Landing | str | None:
        """What has landed, or why nobody can tell; a store that is `silent` is not asked."""
        try:
            return None if silent else call(partition)
        except _AbsentError:
            return None
        except Unavailable as error:
            silent.append(f"{self.zone}: {error.why}")
            return silent[0]
        except OSError as error:
            return f"{error.filename}: {error.strerror}"

    def _landing(self, now: datetime, source: Source, partition: Partition) -> Landing | None:
        name, *marker = awaited(source, partition)
        for each in marker:
            self._head(each)
        meta = self._head(name)
        content, size = self._copies.known(name, _tag(meta)), meta["size"]
        if not content:
            content, size = self._fetched(name)
        return Landing(source.table, partition, 0, content, name, size, now)

    def _nothing(self, source: Source, partition: Partition) -> None:
        """Nothing has landed, but in a bucket that is there? No answer to a HEAD says that."""
        with self._speaking(name := awaited(source, partition)[-1]):
            import obstore

            obstore.get(self._store, self._key(name))

    def _head(self, name: str) -> ObjectMeta:
        with self._speaking(name):
            import obstore

            return obstore.head(self._store, self._key(name))

    def _fetched(self, name: str) -> tuple[str, int]:
        """The sha256 of an object and its size; a copy of it is here now."""
        with self._speaking(name):
            import obstore

            got = obstore.get(self._store, self._key(name))
        # What was asked a moment ago may have been replaced: the tag is that of what now comes.
        content, size = self._copies.keep(self._chunks(name, got))
        if size != got.meta["size"]:
            raise OSError(errno.EIO, f"broke off after {size} bytes", name)
        self._copies.remember(name, _tag(got.meta), content)
        return content, size

    def _chunks(self, name: str, got: GetResult) -> Iterator[bytes]:
        try:
            with self._speaking(name):
                for chunk in got.stream(min_chunk_size=_CHUNK):
                    yield bytes(chunk)
        except Unavailable as error:  # it had answered: the others may be asked on
            raise OSError(errno.EIO, f"broke off: {error.why}", name) from None

    def _key(self, name: str) -> str:
        return name.removeprefix(f"{self.zone}/")

    @cached_property
    def _store(self) -> ObjectStore:
        from obstore.store import from_url

        # An endpoint without encryption is one that somebody named.
        plain = (
            self.zone.startswith("http://")
            or os.environ.get("AWS_ALLOW_HTTP", "").lower() == "true"
        )
        return from_url(
            self.zone,
            # A large object may take its time, as long as something comes.
            client_options={
                "allow_http": plain,
                "connect_timeout": timedelta(seconds=5),
                "read_timeout": PATIENCE,
                "timeout": timedelta(hours=1),
            },
            retry_config={"max_retries": 2, "retry_timeout": PATIENCE},
        )

    @contextlib.contextmanager
    def _speaking(self, name: str) -> Iterator[None]:
        """
        What the client raises, in our words: its own may hold what the environment said.

        Raises _AbsentError; OSError where something is wrong with this name alone; Unavailable.
        """
        from obstore.exceptions import BaseError

        try:
            yield
        except FileNotFoundError as error:
            if _NO_BUCKET.search(str(error)):
                raise self._unavailable("there is no such bucket") from None
            raise _AbsentError from None
        except ValueError:
            raise OSError(errno.EINVAL, "is no name of an object", name) from None
        except BaseError as error:
            if (why := _why(error)).startswith("4"):
                raise OSError(errno.EACCES, f"the store refuses it: {why}", name) from None
            raise self._unavailable(why) from None

    def _unavailable(self, why: str) -> Unavailable:
        return Unavailable("the object store", self.zone, why)


class _Copies:
    """A folder of copies: by the sha256 of their content; and which object had which content."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._seen = folder, folder / "seen"

    def path(self, content: str) -> Path:
        return self._folder / content

    def whole(self, content: str) -> bool:
        """Whether a copy is here, and is what its name says."""
        try:
            with self.path(content).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == content
        except FileNotFoundError:
            return False

    def keep(self, chunks: Iterable[bytes]) -> tuple[str, int]:
        """Keep a copy; its content and its size. Under its name there is never half of it."""
        digest, size = hashlib.sha256(), 0
        with self._arriving() as arriving:
            with arriving.open("wb") as file:
                for chunk in chunks:
                    digest.update(chunk)
                    size += file.write(chunk)
            arriving.replace(self.path(digest.hexdigest()))
        return digest.hexdigest(), size

    def known(self, name: str, tag: str) -> str:
        """What was in an object when it had this tag; empty where nobody saw it."""
        try:
            return self._mark(name, tag).readlink().name
        except FileNotFoundError:
            return ""

    def remember(self, name: str, tag: str, content: str) -> None:
        with self._arriving() as arriving:
            arriving.symlink_to(Path("..", content))
            arriving.replace(self._mark(name, tag))

    def _mark(self, name: str, tag: str) -> Path:
        return self._seen / hashlib.sha256(f"{name}\0{tag}".encode()).hexdigest()

    @contextlib.contextmanager
    def _arriving(self) -> Iterator[Path]:
        """A name for what is not yet whole."""
        self._seen.mkdir(parents=True, exist_ok=True)
        arriving = self._folder / f"arriving-{secrets.token_hex(8)}"
        try:
            yield arriving
        finally:
            arriving.unlink(missing_ok=True)


def _tag(meta: ObjectMeta) -> str:
    """What changes whenever an object does."""
    return f"{meta['e_tag'] or meta['last_modified'].isoformat()} {meta['size']}"


def _why(error: Exception) -> str:
    said = str(error)
    for pattern, why in _WHY:
        if pattern.search(said):
            return why
    status = _STATUS.search(said)
    return status[1] if status else "the request failed"
