"""An HTTP server on this machine whose answers to POST a test chooses."""

import contextlib
import http.server
import threading


class Server:
    """A server that answers POSTs with the next status, and repeats the last one.

    Args:
      statuses: the statuses; None: no answer until the server is closed.
      location: the header Location.
      drops: whether None sends single bytes, each before the client's time-out.
      echoes: whether each answer has malformed headers that repeat the request.
      hangs_up: whether each connection is closed without an answer.
    """

    def __init__(
        self, *statuses, location=None, drops=False, echoes=False, hangs_up=False
    ):
        self.requests = []
        self.stop = threading.Event()
        server = self
        left = list(statuses)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                server.requests.append((self.path, dict(self.headers), body))
                if hangs_up:
                    self.close_connection = True
                    return
                status = left.pop(0) if len(left) > 1 else left[0]
                while status is None and not server.stop.wait(0.1):
                    if drops:  # each byte comes before the time-out
                        with contextlib.suppress(OSError):
                            self.wfile.write(b"HTTP/1.1 200 OK\r\n"[:1])
                if status is None:
                    return
                self.send_response(status)
                if location:
                    self.send_header("Location", location)
                if echoes:
                    self.flush_headers()
                    self.wfile.write(f"no colon {self.path}\r\n".encode())
                    self.wfile.write(f"{self.headers}\r\n".encode())
                self.end_headers()

            def do_GET(self):
                server.requests.append((self.path, dict(self.headers), b""))

            def log_message(self, *args):
                pass

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()

    def close(self):
        self.stop.set()
        self._http.shutdown()
        self._http.server_close()


@contextlib.contextmanager
def servers():
    """Yields a function that starts a server; stops all servers at the end."""
    started = []

    def serve(*statuses, **options):
        started.append(Server(*statuses, **options))
        return started[-1]

    try:
        yield serve
    finally:
        for server in started:
            server.close()
