"""The store in an S3 bucket, whose server may be away, lose a reply or cut one off."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import BinaryIO
from xml.etree.ElementTree import ParseError

from minio import Minio
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from minio.helpers import check_bucket_name
from urllib3.exceptions import HTTPError

from liverseg.errors import IntegrityError, NotFound, SettingsError, StoreAway, StoreError
from liverseg.storage.files import CHUNK_BYTES, open_source, whole_file
from liverseg.storage.keys import check_key, is_key
from liverseg.storage.s3.credentials import S3Credentials
from liverseg.storage.s3.error_hints import hint
from liverseg.storage.s3.retry_policy import Attempts, RetryPolicy
from liverseg.storage.s3.retrying_pool import AWAY_STATUSES, NOT_RETRIED, RetryingPool, cause
from liverseg.storage.s3.tls import tls_context

OUTAGE_SECONDS = 120.0
# Up to this size one PUT, above it a multipart upload; so much is in memory at a time.
PART_BYTES = 16 << 20
# What an object notes of itself: the SHA-256 of its bytes, and which call wrote it.
SHA256, WRITER = "x-amz-meta-sha256", "x-amz-meta-writer"
# Of a whole upload that was not completed, and of an object whose bytes are not those written.
_ATTEMPTS = 3
_CHANGED = ("PreconditionFailed", "InvalidRange", "NoSuchKey")
_BUSY = ("ConditionalRequestConflict", "OperationAborted")


class S3Store:
    """An ObjectStore in `bucket`, every key below `prefix`.

    What the rest of the code may rely on: a put is atomic; a get returns the very bytes that were
    put; after a put any get and any listing know it (AWS, MinIO and VersityGW promise that). What
    it may not: that of two simultaneous `put_new` of one key only one is told True. That is so
    where the server honours `If-None-Match: *`; where it does not, `put_new` still never replaces
    what was there before the call. A put that is repeated because its reply was lost may replace
    what another writer has put in between, which is why a key has one writer.

    Args:
        work: The folder for this machine's locks and logs.
        outage_seconds: For how long of an outage requests are repeated; then they raise
            StoreAway.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str,
        credentials: S3Credentials,
        work: Path,
        outage_seconds: float = OUTAGE_SECONDS,
    ) -> None:
        self.url = f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"
        self.work = work
        self._bucket, self._root = bucket, f"{prefix}/" if prefix else ""
        proxy = credentials.proxy
        self._endpoint = credentials.endpoint + (f" through {proxy}" if proxy else "")
        self._retry_policy = RetryPolicy(outage_seconds, f"S3 server {self._endpoint}")
        pool = RetryingPool(self._retry_policy, tls_context(credentials.ca_bundle), proxy)
        try:
            check_bucket_name(bucket, strict=True)
            self._client = Minio(
                credentials.host,
                credentials.access_key,
                credentials.secret_key,
                credentials.session_token,
                credentials.secure,
                credentials.region,
                pool,
            )
        except ValueError as exc:
            raise SettingsError(f"store '{self.url}' at {credentials.endpoint}: {exc}") from exc

    def put(self, key: str, data: bytes) -> None:
        """Write or replace."""
        self._upload(key, BytesIO(data), len(data))

    def put_file(self, key: str, path: Path) -> None:
        """Write or replace with the bytes of a file, in parts of 16 MiB if it is large."""
        with open_source(path) as file:
            self._upload(key, file, path.stat().st_size)

    def put_new(self, key: str, data: bytes) -> bool:
        """Write unless the key exists; return whether what lies there is what this call wrote."""
        name, writer = self._name(key), uuid.uuid4().hex
        headers: dict[str, str | list[str] | tuple[str]] = {
            SHA256: sha256(data).hexdigest(),
            WRITER: writer,
            "If-None-Match": "*",
        }
        attempts = Attempts(self._retry_policy)
        with self._named("write", key):
            # Right also on a server that ignores the condition, and saves sending the bytes.
            if self._notes(name) is not None:
                return False
            while True:
                try:
                    # put_object sends no conditions; this is what it calls itself.
                    self._client._put_object(self._bucket, name, data, dict(headers))
                    return True
                except S3Error as exc:
                    if exc.code == "PreconditionFailed":
                        # The other writer may be this very call, whose first reply was lost.
                        return self._wrote(name, writer)
                    if exc.code == "NotImplemented" and "If-None-Match" in headers:
                        del headers["If-None-Match"]
                    elif exc.code not in _BUSY or not attempts.again("two writers of one key"):
                        raise

    def get(self, key: str) -> bytes:
        """Return the bytes, compared with the SHA-256 that was put with them; raises NotFound.

        IntegrityError where they differ, however often they are read.
        """
        data = BytesIO()
        self._download(key, data)
        return data.getvalue()

    def get_file(self, key: str, path: Path) -> None:
        """Write the bytes to the file `path`, compared as by `get`; raises NotFound."""
        with whole_file(path) as file:
            self._download(key, file)

    def keys(self, prefix: str) -> list[str]:
        """Return every key that starts with `prefix`, sorted."""
        with self._named("list", prefix):
            listed = self._client.list_objects(self._bucket, self._root + prefix, recursive=True)
            names = [entry.object_name or "" for entry in listed]
        keys = (name.removeprefix(self._root) for name in names)
        # Consoles make objects "folder/" to show a folder; they are no keys.
        return sorted(key for key in keys if is_key(key))

    def folders(self, prefix: str) -> list[str]:
        """Return the parts that follow `prefix` in keys which continue after them, sorted."""
        with self._named("list", prefix):
            listed = self._client.list_objects(self._bucket, self._root + prefix)
            names = [entry.object_name or "" for entry in listed if entry.is_dir]
        parts = (name.removeprefix(self._root + prefix).removesuffix("/") for name in names)
        return sorted(part for part in parts if is_key(part))

    def delete(self, key: str) -> None:
        """Remove; an unknown key is no error."""
        name = self._name(key)
        with self._named("delete", key):
            try:
                self._client.remove_object(self._bucket, name)
            except S3Error as exc:
                if exc.code != "NoSuchKey":
                    raise

    def _name(self, key: str) -> str:
        check_key(key)
        return self._root + key

    def _upload(self, key: str, source: BinaryIO, length: int) -> None:
        name, writer = self._name(key), uuid.uuid4().hex
        notes = {SHA256: _sha256(source), WRITER: writer}
        with self._named("write", key):
            for _ in range(_ATTEMPTS):
                source.seek(0)
                try:
                    self._client.put_object(
                        self._bucket,
                        name,
                        source,
                        length,
                        metadata=dict(notes),
                        part_size=PART_BYTES,
                        num_parallel_uploads=1,
                    )
                except S3Error as exc:
                    # What is said of an upload whose completion was done, but its reply lost.
                    if exc.code != "NoSuchUpload":
                        raise
                # Servers may say "200 OK" to a completion and then that it failed after all.
                if length <= PART_BYTES or self._wrote(name, writer):
                    return
        raise StoreError(
            f"cannot write '{key}': {_ATTEMPTS} uploads to bucket '{self._bucket}' at "
            f"{self._endpoint} ended without the object being there; look at the server's log"
        )

    def _download(self, key: str, sink: BinaryIO) -> None:
        name, problem = self._name(key), ""
        with self._named("read", key):
            for _ in range(_ATTEMPTS):
                sink.seek(0)
                sink.truncate()
                problem = self._receive(name, sink)
                if not problem:
                    return
        raise IntegrityError(f"'{key}' in {self.url} at {self._endpoint} is damaged: {problem}")

    def _receive(self, name: str, sink: BinaryIO) -> str:
        """Write the object to `sink`, continuing a reply that was cut off; return what is wrong."""
        digest, attempts = sha256(), Attempts(self._retry_policy)
        position, tag = 0, ""
        while True:
            same = {"If-Match": tag} if position else {}
            try:
                response = self._client.get_object(
                    self._bucket, name, offset=position, request_headers=dict(same)
                )
            except S3Error as exc:
                if position and exc.code in _CHANGED:
                    return "it changed while it was read"
                raise
            tag, promised = response.headers.get("etag", ""), response.headers.get(SHA256)
            if position and response.status != 206:
                response.close()
                return "it was cut off, and the server does not send the rest alone"
            try:
                for chunk in response.stream(CHUNK_BYTES, decode_content=False):
                    sink.write(chunk)
                    digest.update(chunk)
                    position += len(chunk)
                    attempts = Attempts(self._retry_policy)
            except HTTPError as exc:
                response.close()
                if not attempts.again(cause(exc)):
                    raise
                continue
            response.release_conn()
            self._retry_policy.succeeded()
            if promised in (None, digest.hexdigest()):
                return ""
            return f"its SHA-256 is {digest.hexdigest()}, it was written with {promised}"

    def _notes(self, name: str) -> dict[str, str] | None:
        """Return what the object notes of itself (names in lower case), or None without object."""
        try:
            status = self._client.stat_object(self._bucket, name)
        except S3Error as exc:
            if exc.code != "NoSuchKey":
                raise
            return None
        return {header.lower(): value for header, value in (status.metadata or {}).items()}

    def _wrote(self, name: str, writer: str) -> bool:
        return (self._notes(name) or {}).get(WRITER) == writer

    @contextmanager
    def _named(self, action: str, key: str) -> Iterator[None]:
        """Turn what the client and its connection raise into our errors."""
        what = f"cannot {action} '{key}' in {self.url} at {self._endpoint}"
        try:
            yield
        except S3Error as exc:
            if exc.code == "NoSuchKey":
                raise NotFound(f"{self.url} at {self._endpoint} has no '{key}'") from exc
            said = f"{exc.message or ''} ({exc.code})"
            away = exc.response.status in AWAY_STATUSES or exc.code in _BUSY
            kind = StoreAway if away else StoreError
            raise kind(f"{what}: {said}; {hint(exc.code)}") from exc
        except ParseError as exc:
            raise StoreError(f"{what}: no S3 server; is AWS_ENDPOINT_URL right?") from exc
        except MinioException as exc:
            # Of a page for people its beginning is enough. Balancers send one with their 502.
            kind = StoreAway if _status(exc) in AWAY_STATUSES else StoreError
            raise kind(f"{what}: {exc!s:.200}; is AWS_ENDPOINT_URL right?") from exc
        except HTTPError as exc:
            # A certificate or an address that is wrong is not an outage.
            kind = StoreError if isinstance(exc, NOT_RETRIED) else StoreAway
            raise kind(
                f"{what}: {cause(exc)}; does the server run, and is AWS_ENDPOINT_URL right?"
            ) from exc


def _status(error: MinioException) -> int | None:
    """Return the HTTP status of a reply that is no answer of an S3 server."""
    if isinstance(error, ServerError):
        return error.status_code
    # It has no public name there.
    return error._code if isinstance(error, InvalidResponseError) else None


def _sha256(source: BinaryIO) -> str:
    digest = sha256()
    while chunk := source.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()
