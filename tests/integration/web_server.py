"""A web server with adapters in folders: ETags, ranges, a key, and weights that stop half-way until the test lets them go."""

import hashlib
import json
import re
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONFIG = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"], "bias": "none"}


def make_adapter(width=576):
    """The files of an adapter whose weights have some 64 * width bytes."""
    prefix, header, at = "base_model.model.model.layers.0.self_attn.q_proj.lora_", {}, 0
    for name, shape in (("A", [8, width]), ("B", [width, 8])):
        size = 4 * shape[0] * shape[1]
        header[f"{prefix}{name}.weight"] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    weights = struct.pack("<Q", len(text)) + text + bytes(at)
    return {"adapter_config.json": json.dumps(CONFIG).encode(), "adapter_model.safetensors": weights}


class WebServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, files=None, key=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.files = {f"/sql/{name}": content for name, content in (files or make_adapter()).items()}
        self.key = key
        self.asked = []  # (method, path, Range or None)
        self.quarter = threading.Event()  # likewise, after a quarter
        self.quarter.set()
        self.go = threading.Event()  # until it is set, weights stop after half of what was asked for
        self.go.set()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def gets(self, ending):
        """The ranges that files whose names end so were asked for."""
        return [asked_range for method, path, asked_range in self.asked if method == "GET" and path.endswith(ending)]

    def close(self):
        self.quarter.set()
        self.go.set()
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def refuse(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def answer(self, is_head):
        path, asked = self.path.split("?")[0], self.headers["Range"]
        self.server.asked.append((self.command, path, asked))
        if self.server.key is not None and self.headers["Authorization"] != self.server.key:
            return self.refuse(403 if self.headers["Authorization"] else 401)
        content = self.server.files.get(path)
        if content is None:
            return self.refuse(404)
        first, last = 0, len(content) - 1
        if asked:
            begin, end = re.fullmatch(r"bytes=(\d+)-(\d*)", asked).groups()
            first, last = int(begin), min(int(end or last), last)
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()[:16]}"')
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        if not is_head:
            self.send_slowly(content[first:last + 1], path.endswith(".safetensors"))

    def send_slowly(self, body, is_weights):
        try:
            quarter, half = (len(body) // 4, len(body) // 2) if is_weights else (0, len(body))
            self.wfile.write(body[:quarter])
            self.wfile.flush()
            self.server.quarter.wait(120)
            self.wfile.write(body[quarter:half])
            self.wfile.flush()
            self.server.go.wait(120)
            self.wfile.write(body[half:])
        except OSError:
            self.close_connection = True  # the client has gone

    def do_GET(self):
        self.answer(False)

    def do_HEAD(self):
        self.answer(True)
