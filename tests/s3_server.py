"""A real S3 server for tests: one that `make s3-server` has installed, or one that is named."""

import os
import socket
import subprocess
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from minio import Minio

from liverseg.storage.s3.credentials import credentials_from
from liverseg.storage.s3.store import OUTAGE_SECONDS, S3Store

TOOLS = Path(os.environ.get("TOOLS") or Path.home() / ".cache" / "liverseg" / "tools")
# s3://bucket/prefix of a server that runs already, with the AWS_ variables beside it.
NAMED = os.environ.get("LIVERSEG_TEST_S3", "")
KINDS = ("named",) if NAMED else ("versitygw", "minio")
START_SECONDS = 60.0


class S3Server:
    """A server on a port of its own; stopped and started again it has the same objects.

    Args:
        kind: "versitygw", "minio", or "named" for the one that LIVERSEG_TEST_S3 names.
        folder: Where a server of ours keeps its objects.
    """

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, self._folder = kind, folder
        self._process: subprocess.Popen[bytes] | None = None
        if kind == "named":
            self.url = NAMED.rstrip("/")
            self.environment: Mapping[str, str] = dict(os.environ)
            return
        self.url = "s3://test-bucket/some/prefix"
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{_free_port()}",
            "AWS_ACCESS_KEY_ID": "test-access-key",
            "AWS_SECRET_ACCESS_KEY": "test-secret-key",
        }

    @property
    def endpoint(self) -> str:
        """URL of the server."""
        return self.environment["AWS_ENDPOINT_URL"]

    def client(self) -> Minio:
        """Return a plain client, for what a store does not do."""
        parts = urlsplit(self.endpoint)
        return Minio(
            parts.netloc,
            self.environment["AWS_ACCESS_KEY_ID"],
            self.environment["AWS_SECRET_ACCESS_KEY"],
            self.environment.get("AWS_SESSION_TOKEN"),
            region=self.environment.get("AWS_REGION"),
            secure=parts.scheme == "https",
        )

    def store(self, endpoint: str | None = None, outage_seconds: float = OUTAGE_SECONDS) -> S3Store:
        """Open an empty store; `endpoint` may be a proxy's."""
        return self.opened(f"{self.url}/{uuid.uuid4().hex}", endpoint, outage_seconds)

    def opened(
        self,
        url: str,
        endpoint: str | None = None,
        outage_seconds: float = OUTAGE_SECONDS,
    ) -> S3Store:
        """Open the store at `url`."""
        credentials = credentials_from(
            {**self.environment, "AWS_ENDPOINT_URL": endpoint or self.endpoint}
        )
        parts = urlsplit(url)
        prefix = parts.path.strip("/")
        return S3Store(parts.netloc, prefix, credentials, self._folder / "work", outage_seconds)

    def start(self) -> None:
        """Start it and wait until it answers; a server that is named runs already."""
        if self.kind == "named":
            return
        program = TOOLS / self.kind
        if not program.exists():
            pytest.skip(f"{program} is absent; `make s3-server` installs it where Go is")
        objects = self._folder / "objects"
        objects.mkdir(exist_ok=True)
        address = urlsplit(self.endpoint).netloc
        commands = {
            "versitygw": ["--health", "/health", "--port", address, "posix", objects],
            "minio": ["server", "--address", address, "--json", objects],
        }
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, *commands[self.kind]],
                env={
                    "HOME": str(self._folder),
                    "ROOT_ACCESS_KEY": self.environment["AWS_ACCESS_KEY_ID"],
                    "ROOT_SECRET_KEY": self.environment["AWS_SECRET_ACCESS_KEY"],
                    "MINIO_ROOT_USER": self.environment["AWS_ACCESS_KEY_ID"],
                    "MINIO_ROOT_PASSWORD": self.environment["AWS_SECRET_ACCESS_KEY"],
                },
                stdout=log,
                stderr=log,
            )
        self._wait()

    def stop(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _wait(self) -> None:
        """Return when the server has the bucket."""
        client, bucket = self.client(), urlsplit(self.url).netloc
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                if not client.bucket_exists(bucket):
                    client.make_bucket(bucket)
            except Exception as exc:  # whatever a server says that has not quite started
                assert self._process is not None
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    log = (self._folder / "server.log").read_text()
                    raise AssertionError(f"{self.kind} does not start: {log}") from exc
                time.sleep(0.1)
            else:
                return


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])
