#!/usr/bin/env python3
"""Fetching adapters, side by side in one run on loopback against one server: Davit and curl.

    one file of 1 GiB   `davit pull` (hashed meanwhile, synced to the disk) against `curl -o` (neither)
    1,000 adapters      of 2 MB each, in one process: what the sidecar runs, with one thread and with four, against curl

Prints a table with MB/s, resident memory at its highest, and the ratio to curl. The server sends files with sendfile(2)."""

import argparse
import hashlib
import http.server
import json
import os
import resource
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONFIG = json.dumps({"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}).encode()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        self.answer(True)

    def answer(self, has_body):
        name = self.path.rsplit("/", 1)[1]
        path = self.server.folder / ("weights" if name == "adapter_model.safetensors" else name)
        if not path.exists():
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        size = path.stat().st_size
        start, end = 0, size
        asked = self.headers.get("Range")
        if asked:
            first, last = asked.removeprefix("bytes=").split("-")
            start, end = int(first), int(last) + 1
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(end - start))
        self.send_header("ETag", f'"{self.path}-{size}"')
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.end_headers()
        self.wfile.flush()
        if has_body:
            with open(path, "rb") as file:
                while start < end:
                    start += os.sendfile(self.connection.fileno(), file.fileno(), start, end - start)


def serve(folder, port):
    """In a process of its own, so that it does not share an interpreter with what is measured."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.folder, server.daemon_threads = folder, True
    server.serve_forever()


def write_weights(path, data_bytes):
    header = json.dumps({"a": {"dtype": "F32", "shape": [data_bytes // 4], "data_offsets": [0, data_bytes]}}).encode()
    block = hashlib.sha512(b"x").digest() * 16384
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for _ in range(data_bytes // len(block)):
            file.write(block)
        file.write(block[:data_bytes % len(block)])


def measure(arguments):
    """Seconds and the highest resident memory in MB of one process."""
    started = time.monotonic()
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    highest = 0
    # Not ru_maxrss: it has what was ours before the process became another program.
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
            name = status.split("\t", 1)[1].split("\n", 1)[0]
            if "VmHWM:" in status and "python" not in name:
                highest = max(highest, int(status.split("VmHWM:")[1].split()[0]))
        except (OSError, IndexError):
            pass
        time.sleep(0.002)
    seconds = time.monotonic() - started
    out, said = process.communicate()
    if process.returncode != 0:
        sys.exit(f"{arguments[0]}: {said.decode(errors='replace')}")
    return seconds, highest / 1000


def fresh(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.sync()
    return folder


def large(davit, url, scratch, size, rounds, parts):
    """Rounds in turn, so that what else the machine does meets both."""
    rows = {}
    for _ in range(rounds):
        for name, arguments in (
                ("curl -o", lambda out: ["curl", "-sSf", "-o", str(out / "weights"), f"{url}/adapter_model.safetensors"]),
                ("davit pull", lambda out: [davit, "pull", url, "--cache", str(out), "--parts", str(parts)])):
            rows.setdefault(name, []).append(measure(arguments(fresh(scratch / "out"))))
    return {name: (size / 1e6 / min(s for s, _ in runs), max(m for _, m in runs)) for name, runs in rows.items()}


def small(fetch_many, url, scratch, count, size, rounds):
    """One process each: curl with one kept connection, and davit's pool of fetches, with one thread and with four."""
    rows = {}
    urls = []
    for i in range(count):
        for file in ("adapter_config.json", "adapter_model.safetensors"):
            urls += ["--create-dirs", "-o", f"OUT/{i}/{file}", f"{url}/{i}/{file}"]
    for _ in range(rounds):
        for name, arguments in (("curl -o", ["curl", "-sSf", *urls]), ("davit, 1", [fetch_many, url, str(count), "OUT", "1"]),
                                ("davit, 4", [fetch_many, url, str(count), "OUT", "4"])):
            out = fresh(scratch / "out")
            rows.setdefault(name, []).append(measure([text.replace("OUT", str(out)) for text in arguments]))
    return {name: (count * size / 1e6 / min(s for s, _ in runs), max(m for _, m in runs)) for name, runs in rows.items()}


def show(title, rows):
    print(f"\n{title}\n{'':14}{'MB/s':>10}{'MB resident':>14}{'of curl':>10}")
    for name, (rate, memory) in rows.items():
        print(f"{name:14}{rate:10.0f}{memory:14.1f}{rate / rows['curl -o'][0]:10.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--davit", default=str(ROOT / "build/release/davit"))
    parser.add_argument("--fetch-many", default=str(ROOT / "build/release/bench/bench_fetch_many"))
    parser.add_argument("--bytes", type=int, default=1 << 30, help="of the large file")
    parser.add_argument("--adapters", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parts", type=int, default=4)
    parser.add_argument("--scratch", help="folder on the disk to write to; default: the temporary folder")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(Path(arguments.serve[0]), int(arguments.serve[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        scratch = Path(scratch)
        source = scratch / "source"
        source.mkdir()
        (source / "adapter_config.json").write_bytes(CONFIG)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        server = subprocess.Popen([sys.executable, __file__, "--serve", str(source), str(port)])
        try:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    time.sleep(0.02)
            url = f"http://127.0.0.1:{port}"
            write_weights(source / "weights", arguments.bytes)
            show(f"one file of {arguments.bytes / 1e6:.0f} MB, best of {arguments.rounds}",
                 large(arguments.davit, f"{url}/sql", scratch, arguments.bytes, arguments.rounds, arguments.parts))
            write_weights(source / "weights", 2_000_000)
            show(f"{arguments.adapters} adapters of 2 MB, best of {arguments.rounds}",
                 small(arguments.fetch_many, url, scratch, arguments.adapters, 2_000_000, arguments.rounds))
        finally:
            server.kill()
            server.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
