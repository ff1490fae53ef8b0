"""Which certificates an S3 server's https is checked with."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from liverseg.errors import SettingsError

# In this order, the first that is set counts. botocore has the first two; OpenSSL, and so Python
# and curl, the last.
_VARIABLES = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")


@dataclass(frozen=True)
class CaBundle:
    """PEM certificates to trust.

    Args:
        variable: What names them.
        path: A file, or a folder that `openssl rehash` has made.
    """

    variable: str
    path: Path


def ca_bundle(environment: Mapping[str, str]) -> CaBundle | None:
    """Return the certificates that the environment names; None: the system's."""
    for variable in _VARIABLES:
        if environment.get(variable):
            return CaBundle(variable, Path(environment[variable]))
    return None


def tls_context(bundle: CaBundle | None) -> ssl.SSLContext:
    """Return a context that trusts the bundle, or without one what OpenSSL trusts by default.

    SSL_CERT_FILE stands for OpenSSL's default file only: SSL_CERT_DIR, or the system's folder of
    certificates, is trusted as well.

    Raises SettingsError where it holds no certificates.
    """
    if bundle is None:
        return ssl.create_default_context()
    folder = bundle.path.is_dir()
    file, directory = (None, bundle.path) if folder else (bundle.path, None)
    try:
        if bundle.variable == "SSL_CERT_FILE":
            context = ssl.create_default_context()
            context.load_verify_locations(file, directory)
            return context
        return ssl.create_default_context(cafile=file, capath=directory)
    except OSError as exc:
        raise SettingsError(
            f"{bundle.variable} '{bundle.path}' is no file of PEM certificates: {exc}"
        ) from exc
