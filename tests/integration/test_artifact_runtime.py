"""davit runtime and adapters that have to be fetched: progress, kills, an engine that is not there, and what is never shown."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from test_runtime import Engine
from web_server import WebServer, make_adapter
from world import World, http, until

SECRET = "s3cret-t0ken"


class Runtime:
    """The sidecar, with a cache below `folder` that outlives it."""

    def __init__(self, folder, engine_url, *options, prefix=(), environment=None, cache=None):
        self.folder, self.engine_url, self.options, self.prefix, self.environment = folder, engine_url, options, prefix, environment
        self.log = folder / "runtime.log"
        self.cache = cache or folder / "cache"
        self.start()

    def start(self):
        port_file = self.folder / "port"
        port_file.unlink(missing_ok=True)
        with open(self.log, "a") as log:
            self.process = subprocess.Popen([*self.prefix, World(self.folder).davit, "runtime", "--host", "127.0.0.1", "--port", "0",
                                             "--port-file", port_file, "--engine-endpoint", self.engine_url, "--cache", self.cache,
                                             *self.options], stderr=log, env=self.environment)
        until(port_file.exists, "the runtime serves")
        self.url = f"http://127.0.0.1:{port_file.read_text().strip()}"

    def load(self, url, name="sql", wait=None, digest=None, **more):
        given = {"Prefer": None if wait is None else f"wait={wait}", "X-Davit-Digest": digest}
        headers = {name: value for name, value in given.items() if value is not None}
        return http("POST", f"{self.url}/v1/lora_adapter/load", {"lora_name": name, "artifact_url": url, **more}, headers=headers)

    def unload(self, name="sql"):
        return http("POST", f"{self.url}/v1/lora_adapter/unload", {"lora_name": name})

    def metric(self, name):
        page = http("GET", f"{self.url}/metrics")[1]
        return next((float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if line.startswith(name + " ")), 0)

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.send_signal(signal.SIGINT)  # a second one: nobody is waited for
            assert self.process.wait(timeout=30) == 0


@pytest.fixture
def engine():
    server = Engine()
    server.go.set()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def web():
    server = WebServer()
    yield server
    server.close()


@pytest.fixture
def runtime(tmp_path, engine):
    runtime = Runtime(tmp_path, engine.url)
    yield runtime
    runtime.close()


def files_in(folder):
    return {file.name: file.read_bytes() for file in Path(folder).iterdir() if not file.name.startswith("manifest")}


def test_progress_is_told_to_those_who_do_not_wait(runtime, engine, web):
    web.files = {f"/sql/{name}": content for name, content in make_adapter(width=200_000).items()}
    web.wire.go.clear()
    status, answer = runtime.load(f"{web.url}/sql", wait=0)
    assert status == 202 and answer["lora_name"] == "sql", answer

    def half():
        status, answer = runtime.load(f"{web.url}/sql", wait=0)
        assert status == 202 and answer["status"] == "downloading", answer
        words = answer["message"].split()
        return words[:1] == ["downloading"] and words[2:4] == ["%", "of"] and int(words[1]) >= 25

    until(half, "some of it has come, and that is said")
    assert runtime.metric("davit_runtime_downloads_running") == 1
    web.wire.go.set()
    status, answer = runtime.load(f"{web.url}/sql", wait=60)
    assert status == 200 and files_in(answer["local_path"]) == {name[5:]: content for name, content in web.files.items()}
    assert engine.loads == ["sql"] and runtime.metric("davit_runtime_download_bytes_total") == sum(map(len, web.files.values()))


def test_without_an_engine_the_files_are_kept_for_the_next_try(tmp_path, engine, web):
    endpoint = engine.url
    engine.shutdown()
    engine.server_close()
    runtime = Runtime(tmp_path, endpoint)
    try:
        status, answer = runtime.load(f"{web.url}/sql")
        assert (status, answer["reason"]) == (502, "EngineUnreachable"), answer
        assert http("GET", f"{runtime.url}/ready")[0] == 503 and http("GET", f"{runtime.url}/healthz")[0] == 200
        assert runtime.load(f"{web.url}/sql")[0] == 502
        assert len(web.gets(".safetensors")) == 1 and runtime.metric("davit_runtime_cache_hits_total") == 1
    finally:
        runtime.close()


def test_what_is_secret_is_shown_nowhere(tmp_path, engine):
    web = WebServer(key=f"Bearer {SECRET}")
    token = tmp_path / "token"
    token.write_text(f"own-{SECRET}\n")
    secrets = tmp_path / "secrets" / "web"
    secrets.mkdir(parents=True)
    (secrets / "token").write_text(SECRET)
    runtime = Runtime(tmp_path, engine.url, "--log-level", "debug", "--token-file", token, "--secrets-dir", tmp_path / "secrets")
    said = []
    shown = {"X-Davit-Authorization": f"Bearer own-{SECRET}", "Authorization": f"Bearer engine-{SECRET}"}

    def load(expected, headers=shown, **more):
        body = {"lora_name": "sql", "artifact_url": f"{web.url.replace('//', f'//me:{SECRET}@')}/sql?sig={SECRET}", **more}
        status, answer = http("POST", f"{runtime.url}/v1/lora_adapter/load", body, headers=headers)
        said.append(json.dumps(answer))
        assert status == expected, answer

    try:
        load(401, headers={})
        load(403)
        load(403, credentials={"token": f"wrong-{SECRET}"})
        load(400, credentials={"headers": SECRET})
        load(422, credentials=[SECRET])
        load(404, credentials_secret="none")
        load(200, credentials={"token": SECRET})
        load(200, credentials_secret="web")
        web.files.pop("/sql/adapter_model.safetensors")
        load(404, additional_config={"token": SECRET})
        said.append(http("GET", f"{runtime.url}/metrics")[1])
        kept = [file for file in runtime.cache.rglob("*") if file.is_file()]
        assert kept
        arguments = Path(f"/proc/{runtime.process.pid}/cmdline").read_bytes().decode()
    finally:
        runtime.close()
        web.close()
    texts = {"answers": "\n".join(said), "log": runtime.log.read_text(), "arguments": arguments,
             "cache": "\n".join(file.read_text(errors="replace") for file in kept)}
    for where, text in texts.items():
        assert SECRET not in text, f"{where}: {text[max(0, text.find(SECRET) - 200):][:400]}"


def test_what_the_engine_has_is_not_evicted(tmp_path, engine, web):
    size = len(web.files["/sql/adapter_model.safetensors"])
    for name in ("one", "two", "three"):
        files = make_adapter(width=576 + 8 * len(name))
        web.files |= {f"/{name}/{file}": content for file, content in files.items()}
    runtime = Runtime(tmp_path, engine.url, "--cache-size", str(2 * size + 4096))
    try:
        paths = {name: runtime.load(f"{web.url}/{name}", name)[1]["local_path"] for name in ("one", "two", "three")}
        assert all(Path(path).exists() for path in paths.values()), "what is loaded stays, whatever the cap"
        # Another process knows only what the engine's list says.
        runtime.process.kill()
        runtime.process.wait()
        runtime.start()
        until(lambda: http("GET", f"{runtime.url}/v1/models")[0] == 200, "it has seen the engine's list")
        assert runtime.load(f"{web.url}/sql", "four")[0] == 200
        assert all(Path(path).exists() for path in paths.values())
        for name in ("one", "two"):
            assert runtime.unload(name)[0] == 200
            engine.adapters.pop(name, None)
        web.files["/sql/adapter_config.json"] += b"\n"
        assert runtime.load(f"{web.url}/sql", "five")[0] == 200
        assert not Path(paths["one"]).exists() and Path(paths["three"]).exists()
    finally:
        runtime.close()


def memory_kb(process):
    """What of it is resident, and what of that is its own."""
    rows = dict(line.split(":") for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
    return int(rows["VmRSS"].split()[0]), int(rows["RssAnon"].split()[0])


def test_it_is_small_at_rest(tmp_path, engine, web):
    """A while after it started, and after it worked."""
    runtime = Runtime(tmp_path, engine.url)

    def is_small():
        print(memory_kb(runtime.process))
        return max(memory_kb(runtime.process)) <= 4096
    try:
        assert http("GET", f"{runtime.url}/ready")[0] == 200
        if "DAVIT_SLOW_BUILD" not in os.environ:
            until(is_small, "it rests")
            assert runtime.load(f"{web.url}/sql")[0] == 200
            until(is_small, "it rests again")
    finally:
        runtime.close()
