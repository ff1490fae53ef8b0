"""Through which proxy a server is asked: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY.

The rules are the standard library's (urllib.request): names in lower case come first, NO_PROXY has
hosts with or without a port, and suffixes of hosts, or is `*`. Beside these it may have addresses
and networks (10.0.0.0/8), as for curl, Go and requests.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from urllib.parse import unquote, urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

from liverseg.errors import SettingsError


@dataclass(frozen=True)
class Proxy:
    """A proxy; its text has no credentials.

    Args:
        url: With http or https, a host and perhaps a port.
        variable: Where it was named, such as HTTPS_PROXY.
        credentials: user:password, "" where it asks for none.
    """

    url: str
    variable: str
    credentials: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"the proxy {self.url} ({self.variable})"


def proxy_for(url: str, proxies: Mapping[str, str]) -> Proxy | None:
    """Return the proxy for a server's URL, or None where it is asked directly.

    Args:
        url: Of the server, with its scheme.
        proxies: As urllib.request.getproxies_environment() returns them: by scheme, "all" and "no".

    Raises SettingsError where the proxy's URL cannot be one, such as that of a SOCKS proxy.
    """
    parts = urlsplit(url)
    named = next((key for key in (parts.scheme, "all") if proxies.get(key)), None)
    if named is None or _bypassed(parts.netloc, parts.hostname or "", proxies.get("no", "")):
        return None
    text, variable = proxies[named], f"{named}_proxy".upper()
    proxy = urlsplit(text if "://" in text else f"http://{text}")
    host = proxy.netloc.rpartition("@")[2]
    if proxy.scheme not in ("http", "https") or not proxy.hostname:
        raise SettingsError(
            f"{variable} '{proxy.scheme}://{host}' must be the URL of an http or https proxy, such "
            "as http://proxy.example.org:3128"
        )
    credentials = "" if proxy.username is None else f"{proxy.username}:{proxy.password or ''}"
    return Proxy(f"{proxy.scheme}://{host}", variable, unquote(credentials))


def _bypassed(netloc: str, host: str, no_proxy: str) -> bool:
    """Return whether NO_PROXY names the host, its suffix, or a network that has its address."""
    if proxy_bypass_environment(netloc, {"no": no_proxy}):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    for entry in no_proxy.split(","):
        try:
            if address in ip_network(entry.strip(), strict=False):
                return True
        except ValueError:  # a name
            continue
    return False
