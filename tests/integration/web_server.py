"""A web server with adapters in folders: ETags, ranges, a key, and weights that stop half-way until the test lets them go."""

import hashlib
import json
import random
import re
import struct
from http.server import BaseHTTPRequestHandler

from wire import Wire, WiredServer

CONFIG = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"], "bias": "none"}


def make_adapter(width=576):
    """The files of an adapter whose weights have some 64 * width bytes."""
    prefix, header, at = "base_model.model.model.layers.0.self_attn.q_proj.lora_", {}, 0
    for name, shape in (("A", [8, width]), ("B", [width, 8])):
        size = 4 * shape[0] * shape[1]
        header[f"{prefix}{name}.weight"] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    weights = struct.pack("<Q", len(text)) + text + random.Random(width).randbytes(at)
    return {"adapter_config.json": json.dumps(CONFIG).encode(), "adapter_model.safetensors": weights}


class WebServer(WiredServer):
    def __init__(self, files=None, key=None, tls=None):
        super().__init__(("127.0.0.1", 0), Handler, Wire())
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.server_address[1]}"
        if tls:  # an ssl.SSLContext; hands are shaken on the connection's own thread
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.files = {f"/sql/{name}": content for name, content in (files or make_adapter()).items()}
        self.key = key
        self.refusal = None  # the status of every answer
        self.asked = []  # (method, path, Range or None)
        self.start()

    def gets(self, ending):
        """The ranges that files whose names end so were asked for."""
        return [asked_range for method, path, asked_range in self.asked if method == "GET" and path.endswith(ending)]


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
        if self.server.refusal is not None:
            return self.refuse(self.server.refusal)
        if self.server.key is not None and self.headers["Authorization"] != self.server.key:
            return self.refuse(403 if self.headers["Authorization"] else 401)
        content = self.server.files.get(path)
        if content is None:
            return self.refuse(404)
        etag, content = hashlib.sha256(content).hexdigest()[:16], self.server.wire.spoil(content)
        first, last = 0, len(content) - 1
        if asked:
            begin, end = re.fullmatch(r"bytes=(\d+)-(\d*)", asked).groups()
            first, last = int(begin), min(int(end or last), last)
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{etag}"')
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        if not is_head:
            self.server.wire.send(self, content[first:last + 1])

    def do_GET(self):
        self.answer(False)

    def do_HEAD(self):
        self.answer(True)
