"""HTTP servers on a port of this machine, which answer in threads."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[None]:
    """Let a server answer until the end, and close it."""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class RestartableServer:
    """A server that holds what it held when it is stopped and started again."""

    def listen(self, handler: type[BaseHTTPRequestHandler], port: int = 0) -> None:
        """Answer with a handler on a port, or on any that is free."""
        self._http = ThreadingHTTPServer(("127.0.0.1", port), handler)
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def host(self) -> str:
        """URL of the server."""
        return f"http://127.0.0.1:{self._http.server_port}"

    def start_again(self) -> None:
        """Listen where it listened before."""
        self.listen(self._http.RequestHandlerClass, self._http.server_port)

    def stop(self) -> None:
        """Refuse connections from now on."""
        self._http.shutdown()
        self._http.server_close()
