"""Where an S3 server is and who asks it, from the variables that all S3 tools know."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from liverseg.errors import SettingsError
from liverseg.platform.proxies import Proxy, proxy_for
from liverseg.storage.s3.tls import CaBundle, ca_bundle

AWS = "https://s3.amazonaws.com"


@dataclass(frozen=True)
class S3Credentials:
    """A server and credentials; its repr shows no secret.

    Args:
        endpoint: URL with http or https, a host and perhaps a port.
        region: None: asked of the server.
        ca_bundle: None: the system's certificates.
        proxy: Through which the server is asked; None: directly.
        session_token: None for credentials that do not expire.
    """

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    region: str | None = None
    ca_bundle: CaBundle | None = None
    proxy: Proxy | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.endpoint)
        if parts.username is not None:
            raise SettingsError(
                f"AWS_ENDPOINT_URL has credentials in front of {parts.hostname}; they belong in "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
            raise SettingsError(
                f"AWS_ENDPOINT_URL '{self.endpoint}' must be http:// or https://, a host and "
                "perhaps a port, as in https://s3.example.org:9000"
            )

    @property
    def secure(self) -> bool:
        """Whether the server is asked with https."""
        return urlsplit(self.endpoint).scheme == "https"

    @property
    def host(self) -> str:
        """Host, or host:port."""
        return urlsplit(self.endpoint).netloc


def credentials_from(
    environment: Mapping[str, str], proxies: Mapping[str, str] | None = None
) -> S3Credentials:
    """Return what AWS_ENDPOINT_URL (default: AWS itself) and the other AWS_ variables say.

    `proxies` are those of urllib.request.getproxies_environment(). Raises SettingsError where a
    credential is not set, the URL is empty, or a proxy's URL is none.
    """
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        if not environment.get(name):
            raise SettingsError(f"{name} is not set; a store s3://... needs it")
    endpoint = environment.get("AWS_ENDPOINT_URL")
    if endpoint == "":  # a variable that was not set where this one was; AWS is not meant
        raise SettingsError("AWS_ENDPOINT_URL is empty; name the S3 server, or unset it for AWS")
    # A server of one's own has one region, whatever its name; AWS is asked for the bucket's.
    region = environment.get("AWS_REGION") or ("us-east-1" if endpoint else None)
    return S3Credentials(
        endpoint or AWS,
        environment["AWS_ACCESS_KEY_ID"],
        environment["AWS_SECRET_ACCESS_KEY"],
        environment.get("AWS_SESSION_TOKEN") or None,
        region,
        ca_bundle(environment),
        proxy_for(endpoint or AWS, proxies or {}),
    )
