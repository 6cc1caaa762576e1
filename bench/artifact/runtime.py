"""The runtime by itself: how it starts, what it takes at rest, what it adds to a load, what it makes of a refusal."""

import http.client
import http.server
import json
import statistics
import threading
import time
from urllib.parse import urlsplit

from contestants import Runtime, post

STARTS = 20
REST_SECONDS = 1.5
REASON = "LoRA rank 64 is greater than max_lora_rank 16."


class RefusingEngine(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self):
        self.reply(200, {"object": "list", "data": []})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.tries += 1
        self.reply(400, {"object": "error", "message": REASON, "type": "BadRequestError", "code": 400})


def starts(davit, url, cache):
    """Milliseconds from the call that starts the process until it serves; the process's own CPU until then; memory at rest, in kB."""
    times, cpu = [], []
    for _ in range(STARTS):
        with Runtime(davit, url, cache) as runtime:
            times.append(runtime.start_ms)
            cpu.append(runtime.start_cpu_ms)
    with Runtime(davit, url, cache) as runtime:
        time.sleep(REST_SECONDS)
        return times, cpu, runtime.memory()


def loads(davit, url, cache, folder, count):
    """Milliseconds of a load of a local folder, asked of the engine itself and of the runtime, in turn."""
    engine = http.client.HTTPConnection(urlsplit(url).netloc)
    direct, through = [], []
    with Runtime(davit, url, cache) as runtime:
        sidecar = runtime.connect()
        for i in range(count):
            name = f"local{i}"
            for times, connection, path, body in (
                    (direct, engine, "/engine/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)}),
                    (through, sidecar, "/v1/lora_adapter/load", {"lora_name": name, "artifact_url": str(folder)})):
                started = time.monotonic()
                status, text = post(connection, path, body)
                times.append((time.monotonic() - started) * 1000)
                assert status == 200, text
    return direct, through


def refusal(davit, url, cache, folder):
    """How often the engine was asked, milliseconds, and whether its reason is in the answer."""
    engine = http.server.ThreadingHTTPServer(("127.0.0.1", 0), RefusingEngine)
    engine.daemon_threads, engine.tries = True, 0
    threading.Thread(target=engine.serve_forever, daemon=True).start()
    with Runtime(davit, url, cache, engine=f"http://127.0.0.1:{engine.server_address[1]}") as runtime:
        started = time.monotonic()
        status, text = post(runtime.connect(), "/v1/lora_adapter/load", {"lora_name": "wide", "artifact_url": str(folder)})
        spent_ms = (time.monotonic() - started) * 1000
    engine.shutdown()
    return engine.tries, spent_ms, f"{status}, {'with' if REASON in text else 'WITHOUT'} the engine's reason"


def show(options, url, cache, folder):
    times, cpu, rest = starts(options.davit, url, cache)
    direct, through = loads(options.davit, url, cache, folder, options.loads)
    added = statistics.median(through) - statistics.median(direct)
    tries, refused_ms, words = refusal(options.davit, url, cache, folder)
    print("\nThe runtime by itself:\n\n| | |\n|---|---|")
    print(f"| start until it serves, ms: least, median of {STARTS} | {min(times):.1f}, {statistics.median(times):.1f} |")
    print(f"| CPU until then, ms: least, median | {min(cpu):.1f}, {statistics.median(cpu):.1f} |")
    print(f"| resident at rest, MB; of that its own | {rest['VmRSS'] / 1000:.1f}; {rest['RssAnon'] / 1000:.1f} |")
    print(f"| a load of a local folder, ms: by the engine alone, through the runtime, added (medians of {options.loads}) | "
          f"{statistics.median(direct):.2f}, {statistics.median(through):.2f}, +{added:.2f} |")
    print(f"| a load that the engine refuses for good: tries, ms, answer | {tries}, {refused_ms:.1f}, {words} |", flush=True)
