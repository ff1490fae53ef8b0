"""A web server that is no S3 server, with http or https."""

import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.http_server import serving


class Page(BaseHTTPRequestHandler):
    """What a console for people answers."""

    def do_GET(self) -> None:
        self.send_response(200 if "list-type" in self.path else 404)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<html><br>" + b"x" * 10_000)

    def log_message(self, *_arguments: object) -> None:
        """Log nothing."""


@contextmanager
def answering(
    handler: type[BaseHTTPRequestHandler] = Page, certificate: Path | None = None
) -> Iterator[str]:
    """Yield the URL of a server; with a certificate, whose key lies beside it, of https."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_name("key.pem"))
        server.socket = context.wrap_socket(server.socket, server_side=True)
    with serving(server):
        yield f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}"


def make_certificate(folder: Path) -> Path:
    """Return a new certificate for 127.0.0.1 that is its own authority; its key is key.pem."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=test", "-keyout", folder / "key.pem"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", folder / "ca.pem"]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "ca.pem"
