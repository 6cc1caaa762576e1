"""`davit engine` by itself: what only it decides, on a port of its own with the tiny model."""

import json
import os
import re
import subprocess
import threading
import time
from pathlib import Path

import pytest
from world import ROOT, SLOW, TINY, http, until

DAVIT = Path(os.environ.get("DAVIT", ROOT / "build/release/davit")).resolve()
MEBIBYTE = 1 << 20


class Engine:
    """An engine that serves the tiny model as "base" while the block runs."""

    def __init__(self, folder, *arguments):
        self.log_path, self.environment = folder / "engine.log", None
        self.command = [DAVIT, "engine", "--model", TINY / "model.gguf", "--served-model-name", "base", "--host", "127.0.0.1",
                        "--port", "0", *arguments]

    def __enter__(self):
        with self.log_path.open("w") as log:
            self.process = subprocess.Popen(self.command, stderr=log, env=self.environment)
        self.url = "http://" + until(lambda: re.search(r"serving base on http://(\S+)", self.log()), "the engine serves").group(1)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        assert "Sanitizer" not in self.log() and "runtime error" not in self.log(), self.log()

    def log(self):
        return self.log_path.read_text()

    def ask(self, method, path, body=None, headers=None):
        return http(method, self.url + path, body, headers)

    def models(self, headers=None):
        return [model["id"] for model in self.ask("GET", "/v1/models", headers=headers)[1]["data"]]

    def peak_bytes(self):
        return int(re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text()).group(1)) * 1024


@pytest.fixture
def engine(tmp_path):
    with Engine(tmp_path) as started:
        yield started


# ---- bodies that cost more than they look ----

BODY_BYTES = MEBIBYTE + 512 * 384  # the most that is read with a context of 512 tokens


def filled(before, unit, after, size=BODY_BYTES):
    """A body of that many bytes or a few less."""
    return (before + unit * ((size - len(before) - len(after)) // len(unit)) + after).encode()


COSTLY = {
    "values": (filled('{"model": "base", "prompt": "Hi", "x": [', "{},", "{}]}"), "values, at most"),
    "lists": (filled('{"model": "base", "prompt": "Hi", "x": [', "[],", "[]]}"), "values, at most"),
    "token ids": (filled('{"model": "base", "prompt": [', "1,", "1]}"), "values, at most"),
    "spaces": (filled('{"model": "base", "prompt": "', " ", '"}'), "maximum context length"),
    "letters": (filled('{"model": "base", "prompt": "', "a", '"}'), "maximum context length"),
    "escapes": (filled('{"model": "base", "prompt": "', "\\u00e9", '"}'), "maximum context length"),
    "words": (filled('{"model": "base", "prompt": "', "well ", '"}'), "maximum context length"),
}


class Pulse:
    """Asks for the engine's health without pause while the block runs; `longest` is the slowest answer in seconds."""

    def __init__(self, engine):
        self.engine, self.longest = engine, 0.0

    def __enter__(self):
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()

    def run(self):
        while not self.stop.is_set():
            started = time.monotonic()
            assert self.engine.ask("GET", "/health")[0] == 200
            self.longest = max(self.longest, time.monotonic() - started)


@pytest.mark.parametrize("what", COSTLY)
def test_costly_bodies_are_refused_at_little_cost(engine, what):
    body, named = COSTLY[what]
    assert engine.ask("GET", "/health")[0] == 200
    before = engine.peak_bytes()
    with Pulse(engine) as pulse:
        for _ in range(3):
            status, answer = engine.ask("POST", "/v1/completions", body)
            assert status == 400 and named in answer["error"]["message"], (status, str(answer)[:500])
    assert pulse.longest < 0.5 * SLOW
    assert engine.peak_bytes() - before < 25 * MEBIBYTE * SLOW


def test_bodies_beyond_the_context_are_refused_unread(engine):
    body = filled('{"model": "base", "prompt": "', "well ", '"}', BODY_BYTES + 5)
    status, answer = engine.ask("POST", "/v1/completions", body)
    assert (status, answer["error"]["message"]) == (413, f"the request body is larger than {BODY_BYTES} bytes"), answer


# ---- U+0000 ----

def test_names_with_nul_are_refused_and_texts_keep_it(engine):
    assert engine.ask("POST", "/v1/load_lora_adapter", {"lora_name": "a", "lora_path": str(TINY / "adapter-a")})[0] == 200
    for path, body in {"/v1/completions": {"model": "a\0b", "prompt": "Hi"}, "/v1/unload_lora_adapter": {"lora_name": "a\0b"},
                       "/v1/load_lora_adapter": {"lora_name": "c\0", "lora_path": str(TINY / "adapter-c")},
                       "/adapters": {"name": "c", "src": str(TINY / "adapter-c") + "\0x"}}.items():
        status, answer = engine.ask("POST", path, body)
        assert status == 400 and "without U+0000" in answer["error"]["message"], (path, answer)
    assert engine.models() == ["base", "a"]

    def tokens(text):
        tokenized = engine.ask("POST", "/tokenize", {"model": "base", "prompt": text})[1]
        usage = engine.ask("POST", "/v1/completions", {"model": "base", "prompt": text, "max_tokens": 1})[1]["usage"]
        assert usage["prompt_tokens"] == tokenized["count"]
        assert engine.ask("POST", "/detokenize", {"model": "base", "tokens": tokenized["tokens"]})[1]["prompt"] == text
        chat = {"model": "base", "messages": [{"role": "user", "content": text}], "max_tokens": 1}
        return tokenized["count"], engine.ask("POST", "/v1/chat/completions", chat)[1]["usage"]["prompt_tokens"]

    short, whole = tokens("one"), tokens("one\0 and two")
    assert whole[0] > short[0] and whole[1] > short[1]


# ---- adapters under SageMaker's names ----

def test_sagemaker_routes(tmp_path):
    key = {"Authorization": "Bearer sesame"}
    adapter = {"name": "sm1", "src": str(TINY / "adapter-a")}
    with Engine(tmp_path, "--api-key", "sesame") as engine:
        assert engine.ask("POST", "/adapters", adapter)[0] == 401  # loading is no more open than /v1
        assert engine.ask("DELETE", "/adapters/sm1")[0] == 401
        assert engine.ask("POST", "/adapters", adapter, key) == (200, "Adapter sm1 registered")
        status, answer = engine.ask("POST", "/adapters", adapter, key)
        assert status == 400 and "already been loaded" in answer["error"]["message"]
        assert engine.models(key) == ["base", "sm1"]
        assert engine.ask("DELETE", "/adapters/sm1", headers=key) == (200, "Adapter sm1 unregistered")
        status, answer = engine.ask("DELETE", "/adapters/sm1", headers=key)
        assert status == 404 and answer["error"]["message"] == "The lora adapter 'sm1' cannot be found."
        assert engine.models(key) == ["base"]
        status, answer = engine.ask("POST", "/adapters", {"name": "sm1"}, key)
        assert (status, answer["error"]["param"]) == (400, "body.src")
        status, answer = engine.ask("POST", "/adapters", {**adapter, "name": "base"}, key)
        assert status == 400 and "conflicts with a served base model" in answer["error"]["message"]
        assert engine.ask("DELETE", "/adapters/", headers=key) == (404, {"detail": "Not Found"})
        assert engine.ask("GET", "/adapters", headers=key)[0] == 405


def test_sagemaker_routes_go_with_runtime_lora(tmp_path):
    with Engine(tmp_path, "--no-enable-lora") as engine:
        assert engine.ask("POST", "/adapters", {"name": "a", "src": str(TINY / "adapter-a")}) == (404, {"detail": "Not Found"})


# ---- the command line ----

def test_module_under_the_base_models_name_fails_the_start():
    path = str(TINY / "adapter-a")
    for module in (f"base={path}", json.dumps({"name": "base", "path": path})):
        result = subprocess.run([DAVIT, "engine", "--model", TINY / "model.gguf", "--served-model-name", "other", "base", "--port", "0",
                                 "--lora-modules", module], capture_output=True, text=True, timeout=20 * SLOW)
        assert result.returncode == 1 and '--lora-modules: the name "base" is that of the base model' in result.stderr, result.stderr


@pytest.mark.parametrize("kind", ["f32", "int8"])
def test_activations(tmp_path, kind):
    with Engine(tmp_path, "--activations", kind) as engine:
        assert f"activations={kind}" in engine.log()
        assert engine.ask("POST", "/v1/completions", {"model": "base", "prompt": "Hi", "max_tokens": 4})[0] == 200


def test_unknown_activations_fail_the_start():
    result = subprocess.run([DAVIT, "engine", "--model", TINY / "model.gguf", "--port", "0", "--activations", "int4"], capture_output=True,
                            text=True, timeout=20 * SLOW)
    assert result.returncode == 1 and 'activations is "int4", neither "f32" nor "int8"' in result.stderr, result.stderr
