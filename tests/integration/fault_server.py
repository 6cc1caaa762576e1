"""A web server that holds an adapter and misbehaves as it is told."""

import hashlib
import http.server
import json
import random
import socket
import struct
import threading
import time

CONFIG = json.dumps({"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}).encode()


def safetensors(data_bytes, seed=0):
    """A file with one tensor of so many bytes (a multiple of 4)."""
    header = json.dumps({"a": {"dtype": "F32", "shape": [data_bytes // 4], "data_offsets": [0, data_bytes]}}).encode()
    return struct.pack("<Q", len(header)) + header + random.Random(seed).randbytes(data_bytes)


class Faults:
    """What is told; read at each request."""

    cut_bytes = None  # the connection ends after so many bytes of a body
    rate = None  # bytes a second
    stall_after = None  # bytes of a body, once
    delay = 0  # seconds before each answer
    has_ranges = True
    has_head = True
    has_etag = True
    has_conditions = True
    modified = None  # the Last-Modified of all files
    length = None  # what HEAD says of the weights
    status = None  # of every GET of the weights
    statuses = ()  # of the first GETs of the weights, one after the other
    redirect = None  # (status, URL prefix)
    swap = None  # (after how many GETs of the weights, other weights)


class FaultServer:
    def __init__(self, weights, config=CONFIG):
        self.files = {"adapter_config.json": config, "adapter_model.safetensors": weights}
        self.faults = Faults()
        self.lock = threading.Lock()
        self.requests = []  # (method, path, headers)
        self.served = 0  # bytes of bodies of the weights
        self.gets = 0  # of the weights
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_HEAD(self):
                server.answer(self, False)

            def do_GET(self):
                server.answer(self, True)

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_):
                pass  # clients that are killed

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/sql"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def ranges(self):
        """The Range fields of the GETs of the weights."""
        return [headers.get("Range") for method, path, headers in self.requests
                if method == "GET" and path.endswith("adapter_model.safetensors")]

    def answer(self, handler, has_body):
        faults = self.faults
        name = handler.path.split("?")[0].rsplit("/", 1)[1]
        is_weights = name.startswith("adapter_model")
        with self.lock:
            self.requests.append((handler.command, handler.path, dict(handler.headers)))
            if is_weights and has_body:
                self.gets += 1
                if faults.swap is not None and self.gets > faults.swap[0]:
                    self.files["adapter_model.safetensors"] = faults.swap[1]
            status = faults.status
            if is_weights and has_body and faults.statuses:
                status, faults.statuses = faults.statuses[0], faults.statuses[1:]
            data = self.files.get(name)
        time.sleep(faults.delay)
        if faults.redirect is not None:
            self.say(handler, faults.redirect[0], {"Location": faults.redirect[1] + handler.path})
        elif data is None:
            self.say(handler, 404)
        elif not has_body and not faults.has_head:
            self.say(handler, 405)
        elif is_weights and has_body and status is not None:
            self.say(handler, status)
        else:
            self.send(handler, data, is_weights, has_body)

    @staticmethod
    def say(handler, status, fields=None):
        handler.send_response(status)
        for field, value in (fields or {}).items():
            handler.send_header(field, value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    def send(self, handler, data, is_weights, has_body):
        faults = self.faults
        etag = '"' + hashlib.sha256(data).hexdigest()[:16] + '"'
        if has_body and faults.has_conditions and "If-Match" in handler.headers and handler.headers["If-Match"] != etag:
            self.say(handler, 412)
            return
        start, end, status = 0, len(data), 200
        asked = handler.headers.get("Range")
        if asked and faults.has_ranges:
            first, last = asked.removeprefix("bytes=").split("-")
            start, end, status = int(first), min(int(last) + 1 if last else len(data), len(data)), 206
            if start >= len(data):
                self.say(handler, 416)
                return
        length = end - start
        if is_weights and not has_body and faults.length is not None:
            length = faults.length
        handler.send_response(status)
        handler.send_header("Content-Length", str(length))
        if status == 206:
            handler.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
        if faults.has_etag:
            handler.send_header("ETag", etag)
        if faults.modified is not None:
            handler.send_header("Last-Modified", faults.modified)
        handler.end_headers()
        if has_body:
            self.send_body(handler, memoryview(data)[start:end], is_weights)

    def send_body(self, handler, body, is_weights):
        faults = self.faults
        if not is_weights:
            handler.wfile.write(body)
            return
        most = len(body) if faults.cut_bytes is None else min(len(body), faults.cut_bytes)
        piece = 65536 if faults.rate is None else max(1, min(65536, faults.rate // 50))
        sent = 0
        while sent < most:
            if faults.stall_after is not None and sent >= faults.stall_after:
                faults.stall_after = None
                handler.connection.recv(1)  # until the client has had enough
                break
            count = min(piece, most - sent)
            handler.wfile.write(body[sent:sent + count])
            sent += count
            with self.lock:
                self.served += count
            if faults.rate is not None:
                time.sleep(count / faults.rate)
        if sent < len(body):
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
