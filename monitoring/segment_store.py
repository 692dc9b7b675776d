"""Step 7, store: where segments lie, a local folder or an S3 bucket.

Layout: ``<root>/<table>/date=YYYY-MM-DD/<name>.parquet``. A file appears whole or not at all, and
is never written twice: of two writers of one name, one is told that the other was first.
"""

from __future__ import annotations

import os
import re
import secrets
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import boto3
import pyarrow.fs as pafs
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from router.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date, datetime

_DATE = re.compile(r"date=(\d{4}-\d{2}-\d{2})")
_CONNECT_S, _ANSWER_S, _NUM_TRIES = 3.0, 30.0, 3
_CONFLICT = {"ConditionalRequestConflict", "409"}
_EXISTS = {"PreconditionFailed", "412"}


class StoreError(OSError):
    """The store cannot be reached, or refuses."""


@dataclass(frozen=True, slots=True, order=True)
class StoredFile:
    """A segment in a store."""

    key: str
    """``<table>/date=YYYY-MM-DD/<name>.parquet``."""

    size_bytes: int

    @property
    def date(self) -> str:
        """The day of its rows, in UTC."""
        return self.key.split("/")[1].removeprefix("date=")

    @property
    def name(self) -> str:
        """Without folder and suffix."""
        return self.key.rsplit("/", 1)[1].removesuffix(".parquet")


def segment_key(table: str, date_text: str, name: str) -> str:
    """Return where a segment lies below the root."""
    return f"{table}/date={date_text}/{name}.parquet"


class SegmentStore(Protocol):
    """Holds files by key; knows nothing of what is in them. All failures are ``OSError``."""

    @property
    def filesystem(self) -> pafs.FileSystem:
        """For reading."""
        ...

    def path(self, key: str) -> str:
        """Return the place of a file in ``filesystem``."""
        ...

    def put_new(self, key: str, data: bytes | memoryview | Path) -> bool:
        """Store a file, or return False if one of this key exists, which then stays as it is."""
        ...

    def files(
        self, table: str, *, since: date | None = None, until: date | None = None
    ) -> list[StoredFile]:
        """Return the segments of a table, sorted by key, of the days asked for, ends included."""
        ...

    def delete(self, key: str) -> None:
        """Remove a file; one that does not exist is no error."""
        ...

    def remove_leftovers(self, before: datetime) -> None:
        """Remove what killed writers left half written before a time."""
        ...


class LocalStore:
    """A folder on a file system that knows hard links.

    Args:
        root: The log's folder; made when the first segment comes.
    """

    def __init__(self, root: Path) -> None:
        """Touch nothing yet."""
        self._root = root.absolute()

    @cached_property
    def filesystem(self) -> pafs.FileSystem:
        """The machine's own."""
        return pafs.LocalFileSystem()

    def path(self, key: str) -> str:
        """Return the absolute path of a file."""
        return str(self._root / key)

    def put_new(self, key: str, data: bytes | memoryview | Path) -> bool:
        """Write under a dotted name, which readers skip, and link it to its name."""
        final = self._root / key
        if final.exists():
            return False
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = final.parent / f".{final.name}.{secrets.token_hex(4)}"
        try:
            with temporary.open("wb") as sink:
                if isinstance(data, Path):
                    with data.open("rb") as source:
                        while part := source.read(1 << 20):
                            sink.write(part)
                else:
                    sink.write(data)
                sink.flush()
                os.fsync(sink.fileno())
                # Nobody reads a segment soon. Kept in the page cache, it pushes out what serving
                # reads, and a virtual machine may have to ask its host for the memory: 14 µs a row
                # of 1,700 features, against 2.
                os.posix_fadvise(sink.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            final.hardlink_to(temporary)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(final.parent)
        return True

    def files(
        self, table: str, *, since: date | None = None, until: date | None = None
    ) -> list[StoredFile]:
        """Look only into the folders of the days asked for."""
        found = []
        for folder in self._folders(table):
            if not _is_asked(folder.name, since, until):
                continue
            with os.scandir(folder) as entries:
                found += [
                    StoredFile(f"{table}/{folder.name}/{entry.name}", entry.stat().st_size)
                    for entry in entries
                    if entry.name.endswith(".parquet") and not entry.name.startswith(".")
                ]
        return sorted(found)

    def delete(self, key: str) -> None:
        """Remove a file, and its day's folder if it was the last."""
        path = self._root / key
        path.unlink(missing_ok=True)
        with suppress(OSError):  # not empty, or gone already
            path.parent.rmdir()

    def remove_leftovers(self, before: datetime) -> None:
        """Remove old files with a dotted name."""
        for temporary in self._root.glob("*/date=*/.*.parquet.*"):
            with suppress(FileNotFoundError):
                if temporary.stat().st_mtime < before.timestamp():
                    temporary.unlink()

    def _folders(self, table: str) -> list[Path]:
        folder = self._root / table
        return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


class S3Store:
    """A bucket that honours ``If-None-Match: *`` on PutObject, as S3, MinIO, R2 and Ceph do.

    Endpoint, region and credentials are those of the AWS environment variables.

    Args:
        bucket: Its name; it must exist.
        prefix: Before every key, without slashes at its ends; may be empty.
    """

    def __init__(self, bucket: str, prefix: str) -> None:
        """Connect to nothing yet."""
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""

    @cached_property
    def _client(self) -> Any:  # noqa: ANN401 - boto3 makes its clients' types at run time
        # A server with an address of its own seldom has a host name for each bucket.
        style = "path" if _endpoint() else "auto"
        config = Config(
            connect_timeout=_CONNECT_S,
            read_timeout=_ANSWER_S,
            retries={"mode": "standard", "total_max_attempts": _NUM_TRIES},
            s3={"addressing_style": style},
        )
        return boto3.session.Session().client("s3", config=config)

    @cached_property
    def filesystem(self) -> pafs.FileSystem:
        """S3 as pyarrow reads it."""
        endpoint = _endpoint()
        options: dict[str, Any] = {"region": self._client.meta.region_name}
        if endpoint:
            options["scheme"], _, options["endpoint_override"] = endpoint.rpartition("://")
            options["scheme"] = options["scheme"] or "https"
        return pafs.S3FileSystem(
            connect_timeout=_CONNECT_S,
            request_timeout=_ANSWER_S,
            retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=_NUM_TRIES),
            **options,
        )

    def path(self, key: str) -> str:
        """Return bucket and key."""
        return f"{self._bucket}/{self._prefix}{key}"

    def put_new(self, key: str, data: bytes | memoryview | Path) -> bool:
        """Put on condition that nothing is there."""
        if isinstance(data, Path):
            with data.open("rb") as body:
                return self._put(key, body)
        return self._put(key, bytes(data))

    def files(
        self, table: str, *, since: date | None = None, until: date | None = None
    ) -> list[StoredFile]:
        """List from the first day asked for on: keys are sorted by date."""
        prefix = f"{self._prefix}{table}/"
        first = f"{prefix}date={since.isoformat()}" if since else ""
        with _as_store_error():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=prefix, StartAfter=first
            )
            found = [
                StoredFile(item["Key"].removeprefix(self._prefix), item["Size"])
                for page in pages
                for item in page.get("Contents", ())
            ]
        return [
            file
            for file in found
            if file.key.endswith(".parquet") and _is_asked(file.key.split("/")[1], since, until)
        ]

    def delete(self, key: str) -> None:
        """Remove an object."""
        with _as_store_error():
            self._client.delete_object(Bucket=self._bucket, Key=f"{self._prefix}{key}")

    def remove_leftovers(self, before: datetime) -> None:
        """Do nothing: an object whose upload broke off does not exist."""

    def _put(self, key: str, body: Any) -> bool:  # noqa: ANN401 - bytes or a file, as boto3 takes
        with _as_store_error():
            for _ in range(_NUM_TRIES):
                try:
                    self._client.put_object(
                        Bucket=self._bucket,
                        Key=f"{self._prefix}{key}",
                        Body=body,
                        IfNoneMatch="*",
                        ContentType="application/vnd.apache.parquet",
                    )
                except ClientError as error:
                    code = error.response["Error"]["Code"]
                    if code in _EXISTS:
                        return False
                    if code not in _CONFLICT:
                        raise
                    # Another writer of this key is at work; ask again who was first.
                    if hasattr(body, "seek"):
                        body.seek(0)
                else:
                    return True
        raise StoreError(f"{key}: another writer kept this key busy in {self._bucket}")


def open_store(root: str | Path) -> SegmentStore:
    """Return the store at a local path or at ``s3://bucket/prefix``; touches nothing.

    Raises:
        InvalidInputError: If the address is of another kind.
    """
    text = str(root)
    # A Path made of the address has lost one of its slashes.
    address = re.fullmatch(r"s3:/{1,2}([^/]+)/?(.*)", text)
    if address:
        return S3Store(address[1], address[2].strip("/"))
    if "://" in text or text.startswith("s3:"):
        raise InvalidInputError(
            f"outcome log {text!r} is neither a local folder nor s3://bucket/prefix", "outcome_log"
        )
    return LocalStore(Path(root))


def keeps_first(store: SegmentStore) -> bool:
    """Return whether the store refuses a second file of one key, by trying."""
    key = f"checks/{secrets.token_hex(8)}"
    try:
        return store.put_new(key, b"first") and not store.put_new(key, b"second")
    finally:
        store.delete(key)


def _endpoint() -> str:
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    return next((os.environ[name] for name in names if os.environ.get(name)), "").rstrip("/")


def _is_asked(folder: str, since: date | None, until: date | None) -> bool:
    match = _DATE.fullmatch(folder)
    if match is None:
        return False
    day = match[1]
    return (since is None or day >= since.isoformat()) and (
        until is None or day <= until.isoformat()
    )


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def _as_store_error() -> Iterator[None]:
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise StoreError(f"S3: {type(error).__name__}: {error}") from error
