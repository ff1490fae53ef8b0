import pytest

from liverseg.storage.s3.store import S3Store
from tests.storage.contract import LargeObjectContract, StoreContract


class TestS3Store(StoreContract, LargeObjectContract):
    @pytest.fixture(autouse=True)
    def _server(self, s3_server, monkeypatch):
        self.server, self.url = s3_server, s3_server.store().url
        for name, value in s3_server.environment.items():
            monkeypatch.setenv(name, value)

    def make(self) -> S3Store:
        return self.server.opened(self.url)

    def large_store_url(self) -> str:
        return self.url
