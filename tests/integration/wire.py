"""How the bodies of a server's answers go out, whatever it serves: cut, held back, or not what they were. Servers of the tests send
through one; whoever tells it what to do need not know which server it is."""

import sys
import threading
from http.server import ThreadingHTTPServer

LARGE_BYTES = 4096  # weights are, in these tests, and what is said about them is not


class Wire:
    """Told by a test while the server runs. Only large bodies are cut and held back."""

    def __init__(self):
        self.cut_bytes = None  # after so many bytes of a body the connection ends
        self.cuts = []  # the same of the next bodies, one after the other
        self.spoil = lambda data: data  # of each file: what is sent instead; before a range is taken of it
        self.quarter, self.go = threading.Event(), threading.Event()  # until they are set, bodies stop after a quarter, and half-way
        self.open()
        self.is_deaf = False  # no request is read
        self.sent = 0  # bytes of large bodies
        self.lock = threading.Lock()

    def open(self):
        self.quarter.set()
        self.go.set()

    def send(self, handler, body):
        """The body of an answer whose head is out."""
        if len(body) < LARGE_BYTES:
            handler.wfile.write(body)
            return
        end = self.take_end(len(body))
        quarter, half = min(end, len(body) // 4), min(end, len(body) // 2)
        try:
            self.write(handler, body[:quarter])
            self.quarter.wait(120)
            self.write(handler, body[quarter:half])
            self.go.wait(120)
            self.write(handler, body[half:end])
        except OSError:
            end = 0  # the client has gone
        if end < len(body):
            handler.close_connection = True

    def take_end(self, length):
        with self.lock:
            cut = self.cuts.pop(0) if self.cuts else self.cut_bytes
        return length if cut is None else min(cut, length)

    def write(self, handler, piece):
        handler.wfile.write(piece)
        handler.wfile.flush()
        with self.lock:
            self.sent += len(piece)


class WiredServer(ThreadingHTTPServer):
    """Many may ask at once, and leave in the middle."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address, handler, wire):
        super().__init__(address, handler)
        self.wire = wire

    def verify_request(self, *_):
        return not self.wire.is_deaf

    def handle_error(self, *arguments):
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(*arguments)

    def start(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self):
        self.wire.open()
        self.shutdown()
        self.server_close()
