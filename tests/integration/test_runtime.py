"""davit runtime beside an engine of the test's own: what a kill in the middle of a load leaves, and how it is found again."""

import json
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from world import TINY, World, http, until

ADAPTER = TINY / "adapter-a"


class Engine(ThreadingHTTPServer):
    """Answers as vLLM does; a load waits between being told and being done until the test lets it go."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.adapters, self.loads = {}, []
        self.go = threading.Event()
        self.refusal = ()  # status and words of every load
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, text):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def do_GET(self):
        cards = [{"id": "base", "root": "base", "parent": None}]
        cards += [{"id": name, "root": path, "parent": "base"} for name, path in self.server.adapters.items()]
        self.answer(200, json.dumps({"object": "list", "data": cards}))

    def do_POST(self):
        engine, asked = self.server, json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = asked["lora_name"]
        if self.path == "/v1/unload_lora_adapter":
            self.answer(200 if engine.adapters.pop(name, None) else 404, f"LoRA adapter '{name}'")
            return
        engine.loads.append(name)
        if engine.refusal:
            status, message = engine.refusal
            self.answer(status, json.dumps({"error": {"message": message, "code": status}}))
            return
        if name in engine.adapters:
            self.answer(400, json.dumps({"error": {"message": f"The lora adapter '{name}' has already been loaded.", "code": 400}}))
            return
        engine.go.wait(60)
        engine.adapters[name] = asked["lora_path"]
        self.answer(200, "Success: LoRA adapter added successfully.")


@pytest.fixture
def engine():
    server = Engine()
    yield server
    server.go.set()
    server.shutdown()
    server.server_close()


def start_runtime(folder, engine):
    port_file = folder / "port"
    port_file.unlink(missing_ok=True)
    with open(folder / "runtime.log", "a") as log:
        process = subprocess.Popen([World(folder).davit, "runtime", "--host", "127.0.0.1", "--port", "0", "--port-file", port_file,
                                    "--engine-endpoint", engine.url, "--cache", folder / "cache"], stderr=log)
    until(port_file.exists, "the runtime serves")
    return process, f"http://127.0.0.1:{port_file.read_text().strip()}"


def load(url):
    return http("POST", f"{url}/v1/lora_adapter/load", {"lora_name": "sql", "artifact_url": f"file://{ADAPTER}"},
                headers={"X-Request-Id": "req-7", "X-Davit-Revision": "0123456789abcdef01234567"})


def lost(url):
    try:
        load(url)
    except OSError:
        pass


def test_a_kill_in_the_middle_of_a_load_leaves_nothing_half_done(tmp_path, engine):
    before = {path: path.read_bytes() for path in ADAPTER.iterdir()}
    process, url = start_runtime(tmp_path, engine)
    caller = threading.Thread(target=lost, args=(url,))
    caller.start()
    until(lambda: engine.loads, "the engine is told to load")
    process.kill()
    process.wait()
    caller.join()
    assert engine.adapters == {}
    process, url = start_runtime(tmp_path, engine)
    try:
        # The engine was not told to stop: it ends what it began. Asked again, the sidecar finds it loaded from there and says so.
        engine.go.set()
        until(lambda: engine.adapters, "the engine ends the load of the sidecar that is gone")
        status, answer = load(url)
        assert (status, answer["status"], answer["local_path"]) == (200, "success", str(ADAPTER)), answer
        assert engine.adapters == {"sql": str(ADAPTER)} and len(engine.loads) == 2
        assert 'davit_runtime_adapter_info{lora_name="sql",revision="0123456789abcdef01234567"} 1' in http("GET", f"{url}/metrics")[1]
        assert {path: path.read_bytes() for path in ADAPTER.iterdir()} == before
        assert "request_id=req-7" in (tmp_path / "runtime.log").read_text()
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0
