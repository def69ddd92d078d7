"""A run's files in a local folder or under s3://bucket/prefix, behind one small interface on pyarrow.fs.

A name is a '/'-separated path relative to the root. What is written appears whole or not at all, whatever dies when;
what fails is one StorageError that says which address and what to do.
"""

from __future__ import annotations

import glob as local_glob
import json
import os
import random
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
from pyarrow import fs

from mimix_ray.config import StorageConfig

T = TypeVar("T")

_TEMPORARY = ".unfinished-"
"""How the names of half-written files begin; `list` and `glob` never show them."""

_CHUNK = 8 << 20
"""Bytes moved at once between disk and S3."""

_WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 16.0)
"""Seconds between our tries of one call: a server that is away for half a minute ends no stage."""

_TRANSIENT = re.compile(
    r"SLOW_?DOWN|THROTTL|TOO_MANY_REQUESTS|SERVICE_UNAVAILABLE|INTERNAL_FAILURE|REQUEST_TIMEOUT|NETWORK_CONNECTION"
    r"|curlCode|HTTP status (429|50\d)|response code: (429|50\d)|Unable to connect|timed? ?out|reset by peer",
    re.IGNORECASE,
)

_PLAIN = StorageConfig()
_MISSING = "not there; run the stage that makes it, or correct the address"


class StorageError(OSError):
    """An address that cannot be read or written; the message is one clear line."""


@dataclass(frozen=True)
class Storage:
    """A root folder, local or s3://. Plain data that pickles; connections are made where it is used."""

    uri: str
    config: StorageConfig = _PLAIN

    @classmethod
    def open(cls, uri: str, config: StorageConfig = _PLAIN) -> Storage:
        """The storage at `uri`: a local folder is made absolute and created; an S3 bucket must exist.

        Raises:
            StorageError: Folder not to be made, bucket missing, endpoint not reachable, credentials refused. At once:
                an address that is wrong from the start is not worth waiting for.
        """
        is_s3, path = _parse(uri)
        if not is_s3:
            _try(path, "cannot be made a folder", lambda: os.makedirs(path, exist_ok=True))
            return cls(path, config)
        storage = cls(f"s3://{path}", config)
        bucket = path.split("/")[0]
        endpoint = config.endpoint or "AWS"
        kind = _try(
            f"s3://{bucket} at {endpoint}",
            "cannot be reached; check storage.endpoint, storage.region and the AWS credentials",
            lambda: storage._fs.get_file_info(bucket).type,
        )
        if kind == fs.FileType.NotFound:
            raise StorageError(
                f"s3://{bucket} at {endpoint}: there is no such bucket; create it or correct the address"
            )
        return storage

    def exists(self, name: str) -> bool:
        """Whether there is a file (not a folder) of this name."""
        return self._info(name).type == fs.FileType.File

    def read_bytes(self, name: str) -> bytes:
        """The file's content; StorageError when it is not there."""

        return self._read(name, lambda stream: stream.read())

    def write_bytes(self, name: str, data: bytes) -> None:
        """Publishes `data` under `name`, replacing what was there: readers see the old or the new, never a part."""
        self._publish(name, pa.BufferReader(data))

    def read_json(self, name: str) -> Any:
        """The file's JSON value; StorageError when it is not there or not JSON."""
        try:
            return json.loads(self.read_bytes(name))
        except ValueError as error:
            raise StorageError(f"{self / name}: not valid JSON ({error}); remove it and run again") from None

    def write_json(self, name: str, value: Any) -> None:
        """Publishes `value` as indented UTF-8 JSON."""
        self.write_bytes(name, json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n")

    def upload(self, local: Path, name: str) -> None:
        """Publishes a finished local file under `name`; the local file stays."""
        source = _try(str(local), "cannot be read", lambda: pa.OSFile(str(local), "rb"))
        with source:
            self._publish(name, source)

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        """A local path to read: the file itself, or a download that goes away at the end. StorageError if not there."""
        if not self._is_s3:
            if not self.exists(name):
                raise StorageError(f"{self / name}: {_MISSING}")
            yield Path(self._path(name))
            return
        with tempfile.TemporaryDirectory(prefix="mimix-") as folder:
            target = Path(folder, name.rpartition("/")[2])

            def download(stream: pa.NativeFile) -> None:
                with target.open("wb") as file:
                    shutil.copyfileobj(stream, file, _CHUNK)

            self._read(name, download)
            yield target

    def use(self, name: str, reader: Callable[[pa.NativeFile], T]) -> T:
        """What `reader` makes of the file, which it may read at any place; on S3 only what it reads travels.

        On a fault that may pass `reader` is called again. StorageError when there is no such file.
        """
        return self._read(name, reader, self._fs.open_input_file)

    def list(self, prefix: str, suffix: str = "") -> list[str]:
        """Names of all files under the folder `prefix` ("" for the root), at any depth, sorted; [] if it is absent."""
        folder = self._path(prefix.rstrip("/")) if prefix.rstrip("/") else self._root
        selector = fs.FileSelector(folder or "/", recursive=True, allow_not_found=True)
        infos = self._call(prefix, "cannot be listed", lambda: self._fs.get_file_info(selector))
        names = (info.path[len(self._root) + 1 :] for info in infos if info.type == fs.FileType.File)
        return sorted(name for name in names if name.endswith(suffix) and not _is_temporary(name))

    def delete(self, name: str) -> None:
        """Removes a file; one that is not there is fine, so that a replay can repeat it."""

        def delete() -> None:
            with suppress(FileNotFoundError):
                self._fs.delete_file(self._path(name))

        self._call(name, "cannot be deleted", delete)

    def fingerprint(self, name: str) -> str:
        """A short text that changes when the file does: size and time, and S3's ETag, whose clock counts whole seconds.

        Raises StorageError when there is no such file.
        """
        info = self._info(name)
        if info.type != fs.FileType.File:
            raise StorageError(f"{self / name}: {_MISSING}")
        tag = (
            self._read(name, lambda stream: stream.metadata().get("ETag", b"").decode().strip('"'))
            if self._is_s3
            else ""
        )
        return f"{info.size}-{info.mtime_ns}{tag and '-'}{tag}"

    def __truediv__(self, name: str) -> str:
        """The full address of a name, for messages and rows."""
        return f"{self.uri.rstrip('/')}/{name}" if name else self.uri

    @property
    def _is_s3(self) -> bool:
        return self.uri.startswith("s3://")

    @property
    def _root(self) -> str:
        return self.uri.removeprefix("s3://").rstrip("/")

    @property
    def _fs(self) -> fs.FileSystem:
        return _filesystem(self._is_s3, self.config)

    def _path(self, name: str) -> str:
        parts = name.split("/")
        if any(part in ("", ".", "..") for part in parts) or "\0" in name or _is_temporary(name):
            raise StorageError(
                f"{self.uri}: {name!r} is not a name; give a path inside the root, without '..' or a leading '/'"
            )
        return f"{self._root}/{name}"

    def _info(self, name: str) -> fs.FileInfo:
        path = self._path(name)
        return self._call(name, "cannot be looked up", lambda: self._fs.get_file_info(path))

    def _read(
        self, name: str, use: Callable[[pa.NativeFile], T], opened: Callable[[str], pa.NativeFile] | None = None
    ) -> T:
        def read() -> T:
            try:
                with (opened or self._fs.open_input_stream)(self._path(name)) as stream:
                    return use(stream)
            except FileNotFoundError:
                raise StorageError(f"{self / name}: {_MISSING}") from None

        return self._call(name, "cannot be read", read)

    def _call(self, name: str, failure: str, call: Callable[[], T]) -> T:
        return _try(self / name, failure, call, waits=_WAITS if self._is_s3 else ())

    def _publish(self, name: str, source: pa.NativeFile) -> None:
        """Writes under a temporary name in the same folder, then moves: one step on a disk; on S3 a copy that the
        server makes whole.

        On S3 it is not enough that an object appears only when its stream is closed: when an exception (a failing
        source, a cancelled task, Ctrl-C) unwinds the stream, Arrow closes it too, and so publishes what came so far.
        Under the temporary name such a piece hurts nobody.
        """
        path = self._path(name)
        folder = path.rpartition("/")[0]

        def write() -> None:
            source.seek(0)
            temporary = f"{folder}/{_TEMPORARY}{uuid.uuid4().hex}"
            try:
                if self._is_s3:
                    with self._fs.open_output_stream(temporary) as stream:
                        shutil.copyfileobj(source, stream, _CHUNK)
                else:
                    os.makedirs(folder, exist_ok=True)
                    with open(temporary, "xb") as file:
                        shutil.copyfileobj(source, file, _CHUNK)
                        file.flush()
                        os.fsync(file.fileno())
                self._fs.move(temporary, path)
            except BaseException:
                with suppress(OSError):
                    self._fs.delete_file(temporary)
                raise

        self._call(name, "cannot be written", write)


def split(address: str) -> tuple[str, str]:
    """The folder and the name of a full address, so that `Storage.open(folder).local(name)` reads it.

    >>> split("s3://shows/tom/e01.mp4")
    ('s3://shows/tom', 'e01.mp4')
    """
    folder, slash, name = address.rpartition("/")
    if not name or folder in ("s3:/", "s3:"):
        raise StorageError(f"{address!r} names no file; give folder/file or s3://bucket/file")
    return folder or slash or ".", name


def glob(pattern: str, config: StorageConfig = _PLAIN) -> list[str]:
    """Full addresses of the files that match a pattern, local (made absolute) or s3://, sorted.

    `*` and `?` stay inside a folder, `**/` stands for any folders; neither matches names that begin with a dot.
    """
    is_s3, path = _parse(pattern)
    if not is_s3:
        return sorted(found for found in local_glob.glob(path, recursive=True) if os.path.isfile(found))
    folder = re.split(r"[*?\[]", path, maxsplit=1)[0].rpartition("/")[0]
    if not folder:
        raise StorageError(f"{pattern}: a pattern cannot begin in the bucket's name; give s3://bucket/...")
    bucket, _, prefix = folder.partition("/")
    storage = Storage.open(f"s3://{bucket}", config)
    matches = _regex(path.partition("/")[2])
    return [storage / name for name in storage.list(prefix) if matches.fullmatch(name)]


def _regex(pattern: str) -> re.Pattern[str]:
    """A glob pattern as a regular expression with the rules of Python's own `glob`."""
    not_hidden = r"(?<![^/])(?!\.)|(?<=[^/])"
    wild = {"**/": r"(?:(?!\.)[^/]+/)*", "*": f"(?:{not_hidden})[^/]*", "?": f"(?:{not_hidden})[^/]"}
    parts = []
    for part in re.split(r"(\*\*/|\*|\?|\[[^\]]+\])", pattern):
        if part in wild:
            parts.append(wild[part])
        elif part.startswith("[") and part.endswith("]"):
            parts.append(part.replace("[!", "[^"))
        else:
            parts.append(re.escape(part))
    return re.compile("".join(parts))


def _is_temporary(name: str) -> bool:
    return name.rpartition("/")[2].startswith(_TEMPORARY)


def _parse(address: str) -> tuple[bool, str]:
    """Whether an address is on S3, and its path: absolute on disk, bucket/key on S3."""
    scheme, separator, path = address.partition("://")
    if not separator:
        return False, os.path.abspath(os.path.expanduser(address))
    if scheme == "file":
        return False, os.path.abspath(path)
    if scheme != "s3" or not path.split("/")[0]:
        raise StorageError(f"{address!r} is no address that can be used; give a folder or s3://bucket/prefix")
    return True, path.rstrip("/")


@lru_cache
def _filesystem(s3: bool, config: StorageConfig) -> fs.FileSystem:
    """One connection pool per process and config; credentials come from the AWS chain, never from us."""
    if not s3:
        return fs.LocalFileSystem()
    scheme, separator, host = (config.endpoint or "https://").partition("://")
    if scheme not in ("http", "https") or not separator:
        raise StorageError(f"storage.endpoint {config.endpoint!r}: give an address such as http://host:8333")
    return fs.S3FileSystem(
        scheme=scheme,
        endpoint_override=host.rstrip("/") or None,
        region=config.region,
        connect_timeout=5,
        request_timeout=60,
        allow_delayed_open=True,  # small files go up in one request
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=3),
    )


def _try(what: str, failure: str, call: Callable[[], T], waits: tuple[float, ...] = ()) -> T:
    """The call's result; a fault that may pass is tried again after each of `waits` (seconds), else StorageError."""
    for wait in (*waits, None):
        try:
            return call()
        except StorageError:
            raise
        except (OSError, pa.ArrowException) as error:
            if wait is None or not _TRANSIENT.search(str(error)):
                raise StorageError(f"{what}: {failure} ({' '.join(str(error).split())[:300]})") from None
            # Half the wait is drawn, so that workers which were refused together do not come back together.
            time.sleep(wait * random.uniform(0.5, 1.0))
    raise AssertionError("unreachable")
