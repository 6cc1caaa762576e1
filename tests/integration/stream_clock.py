"""Reads streams of completions in a process of its own, one after the other for each model given, and reports the gaps between tokens.

python stream_clock.py HOST:PORT TOKENS MODEL...

One thread that sleeps until bytes come: its clock tells of the streams and not of what else the test does. It says "flowing" once tokens
come from every model, and when its standard input ends one line of JSON: {"answers": n, "tokens": n, "longest": seconds, "p99": seconds,
"errors": [...]}.
"""

import gc
import json
import os
import selectors
import socket
import sys
import time

FLOWING = 20  # tokens of each stream
IDLE_SECONDS = 120


class Stream:
    """One connection at a time: asks, notes when events come, asks again when the answer ends."""

    def __init__(self, clock, model):
        self.clock, self.model, self.tokens = clock, model, 0
        self.ask()

    def ask(self):
        body = json.dumps({"model": self.model, "prompt": "Once upon a time", "max_tokens": self.clock.max_tokens, "temperature": 0,
                           "stream": True, "ignore_eos": True})
        head = (f"POST /v1/completions HTTP/1.1\r\nHost: {self.clock.address[0]}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n")
        self.connection = socket.create_connection(self.clock.address)
        self.connection.setblocking(False)
        self.connection.sendall((head + body).encode())
        self.last, self.answer = None, b""
        self.clock.selector.register(self.connection, selectors.EVENT_READ, self)

    def read(self, now):
        piece = self.connection.recv(1 << 16)
        if piece == b"":
            self.end()
            return
        self.answer += piece
        events = piece.count(b"data: {")
        if events:
            if self.last is not None:
                self.clock.gaps.append(now - self.last)
            self.last = now
            self.tokens += events

    def end(self):
        self.clock.selector.unregister(self.connection)
        self.connection.close()
        if not self.answer.startswith(b"HTTP/1.1 200") or b'"error"' in self.answer or b"data: [DONE]" not in self.answer:
            self.clock.errors.append(f"{self.model}: {self.answer[:200]!r} ... {self.answer[-400:]!r}")
            return
        self.clock.answers += 1
        self.ask()


class Clock:
    def __init__(self, address, max_tokens, models):
        host, _, port = address.rpartition(":")
        self.address, self.max_tokens = (host, int(port)), max_tokens
        self.gaps, self.errors, self.answers = [], [], 0
        self.selector = selectors.DefaultSelector()
        self.selector.register(sys.stdin, selectors.EVENT_READ)
        self.streams = [Stream(self, model) for model in models]

    def run(self):
        is_flowing = False
        while not self.errors:
            ready = self.selector.select(IDLE_SECONDS)
            now = time.monotonic()
            if not ready:
                self.errors.append(f"no token for {IDLE_SECONDS} s")
            for key, _ in ready:
                if key.data is None:
                    return
                key.data.read(now)
            if not is_flowing and all(stream.tokens >= FLOWING for stream in self.streams):
                is_flowing = True
                print("flowing", flush=True)

    def report(self):
        gaps = sorted(self.gaps)
        return {"answers": self.answers, "tokens": sum(stream.tokens for stream in self.streams), "longest": gaps[-1] if gaps else None,
                "p99": gaps[len(gaps) * 99 // 100] if gaps else None, "errors": self.errors}


def go_first():
    """A clock that waits for a core tells nothing of the streams; without the right to it the test is the stricter."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    except PermissionError:
        pass


def main():
    gc.disable()
    go_first()
    clock = Clock(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
    clock.run()
    print(json.dumps(clock.report()), flush=True)


if __name__ == "__main__":
    main()
