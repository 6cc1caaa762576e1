"""Bad input gets a clear error that names the thing, in the caller's dialect, and nobody else notices."""

import http.client
import json
import re
import socket
import subprocess
import threading
import time

import pytest
from world import BASE, SLOW, TINY, until

BAD = TINY / "bad"
MEBIBYTE = 1 << 20
TOKENS = 120  # of each answer that is read while bad input comes

# Artifacts that fit nothing, and what the condition has to name.
ARTIFACTS = {
    "/nowhere/adapter": r"/nowhere/adapter",
    BAD / "rank64": r"rank 64 .* 16",
    BAD / "wrong-base-shapes": r"expected shape .*found|self_attn",
    BAD / "truncated": r"truncated/adapter_model.safetensors: .*bytes",
    BAD / "dora": r"DoRA",
    BAD / "bad-json": r"adapter_config.json: not valid JSON",
    BAD / "no-weights": r"no-weights/adapter_model.safetensors",
}


# ---- artifacts ----

def refuse_artifacts(world):
    """All of them are applied, refused by both pods with the same words everywhere, and deleted."""
    names = {path: "bad-" + str(path).rpartition("/")[2] for path in ARTIFACTS}
    for path, name in names.items():
        world.apply_adapter(name, path)
    for path, name in names.items():
        status = until(lambda name=name: (status := world.get("modeladapter", name).get("status") or {}) and status.get("phase") == "Failed"
                       and [row["state"] for row in status["loads"]] == ["Failed"] * 2 and status, f"{name} is refused by both pods")
        ready = next(condition for condition in status["conditions"] if condition["type"] == "Ready")
        assert (ready["status"], ready["reason"]) == ("False", "ModelAdapterLoadingError")
        for words in (ready["message"], *(row["message"] for row in status["loads"])):
            assert re.search(ARTIFACTS[path], words), words
        assert re.search(f"Warning +LoadFailed .*({ARTIFACTS[path]})", world.kubectl("events", "--for", f"modeladapter/{name}").stdout)
        code, answer = world.text(name, "Hi")
        assert code == 503 and name in answer["error"]["message"], answer
    world.kubectl("delete", "modeladapters", *names.values(), f"--timeout={60 * SLOW}s")


def refuse_object(world, spec, named):
    with pytest.raises(AssertionError, match=named):
        world.apply_adapter("bad", "/tmp/x", **spec)
    assert world.get("modeladapter", "bad") is None


# ---- HTTP as no library would send it ----

def exchange(address, port, data, read=json.loads):
    """(status, head, body) of the answer to raw bytes; it may come before all of them are sent."""
    with socket.create_connection((address, port), timeout=20 * SLOW) as connection:
        try:
            connection.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    head, _, body = answer.decode().partition("\r\n\r\n")
    return int(head.split(" ")[1]), head.lower(), read(body)


def post(path, fields="", body=b"", length=True):
    length = f"Content-Length: {len(body)}\r\n" if length else ""
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n{length}{fields}\r\n".encode() + body


def chunks(count):
    return (b"100000\r\n" + b" " * MEBIBYTE + b"\r\n") * count + b"0\r\n\r\n"


# what -> (request to a path, status or statuses, what the message names)
HOSTILE = {
    "huge header": (lambda path: post(path, f"X-Big: {'a' * MEBIBYTE}\r\n", b"{}"), {431}, "head is too long"),
    "many headers": (lambda path: post(path, "".join(f"X-{i}: a\r\n" for i in range(500)), b"{}"), {431}, "header fields"),
    "huge target": (lambda path: f"GET /{'a' * 40000} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), {414}, "target"),
    "huge length": (lambda path: post(path, "Content-Length: 1000000000000\r\n", length=False), {413}, "body is larger than"),
    "huge body": (lambda path: post(path, body=b'{"model": "' + b"a" * (33 * MEBIBYTE)), {413}, "body is larger than"),
    "huge chunked body": (lambda path: post(path, "Transfer-Encoding: chunked\r\n", chunks(34), False), {413}, "body is larger than"),
    "bad JSON": (lambda path: post(path, body=b'{"model" "x"}'), {400, 422}, "JSON"),
    "deep JSON": (lambda path: post(path, body=b'{"a": ' + b"[" * 100000), {400, 422}, "JSON|nest|deep"),
    "wrong method": (lambda path: f"DELETE {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode(), {405}, "(?i)method not allowed"),
    "bare LF": (lambda path: f"POST {path} HTTP/1.1\nHost: x\n\n".encode(), {400}, "bare CR or LF"),
    "bare CR": (lambda path: post(path, "X-A: a\rb\r\n", b"{}"), {400}, "bare CR or LF"),
    "both framings": (lambda path: post(path, "Transfer-Encoding: chunked\r\n", b"{}"), {400}, "Content-Length and Transfer-Encoding"),
    "not HTTP": (lambda path: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", {400}, "not an HTTP request"),
}


def in_openais(body):
    return body["error"]["message"] if isinstance(body["error"]["type"], str) else None


def in_vllms(body):
    return body["detail"] if "detail" in body else in_openais(body) if body["error"]["code"] >= 400 else None


def in_the_sidecars(body):
    return json.dumps(body.get("detail") or body["error"])


def doors(world):
    """role -> (address, port, path, how it words an error)."""
    address = world.pods()[0]["status"]["podIP"]
    return {"gateway": ("127.0.0.1", int(world.gateway.rpartition(":")[2]), "/v1/chat/completions", in_openais),
            "engine": (address, 8000, "/v1/chat/completions", in_vllms),
            "runtime": (address, 8080, "/v1/lora_adapter/load", in_the_sidecars)}


def refuse_request(door, what):
    address, port, path, message_of = door
    request, statuses, named = HOSTILE[what]
    status, head, body = exchange(address, port, request(path))
    assert status in statuses and "content-type: application/json" in head, (status, head)
    assert re.search(named, message_of(body)), body
    assert status != 405 or "allow: post" in head


# ---- a model file that ends early ----

def refuse_truncated_model(world, folder):
    whole = (TINY / "model.gguf").read_bytes()
    for size, named in ((len(whole) // 2, "tensor"), (3000, "ends early"), (10, ""), (0, "")):
        path = folder / f"cut-{size}.gguf"
        path.write_bytes(whole[:size])
        result = subprocess.run([world.davit, "engine", "--model", path, "--port", "0"], env=world.environment, capture_output=True,
                                text=True, timeout=20 * SLOW)
        assert result.returncode not in (0, 99) and str(path) in result.stderr and named in result.stderr, result


# ---- the tests ----

def test_artifacts(tiny_world):
    refuse_artifacts(tiny_world)


@pytest.mark.parametrize("spec, named", [({"baseModle": "x"}, "baseModle"), ({"artifactURL": "ftp://x/y"}, "ftp"),
                                         ({"replicas": -1}, "replicas"), ({"podSelector": {"matchLabels": {"a": "b/"}}}, "podSelector|a: ")])
def test_objects(tiny_world, spec, named):
    refuse_object(tiny_world, spec, named)


@pytest.mark.parametrize("role", ["gateway", "engine", "runtime"])
@pytest.mark.parametrize("what", HOSTILE)
def test_requests(tiny_world, role, what):
    refuse_request(doors(tiny_world)[role], what)


def test_truncated_models(tiny_world, tmp_path):
    refuse_truncated_model(tiny_world, tmp_path)


class Streams:
    """Eight clients that read one answer after the other, streaming, while the block runs."""

    def __init__(self, served):
        self.gateway = served.gateway.removeprefix("http://")
        self.models = [BASE, *served.artifacts] * 2
        self.gaps, self.errors = [], []  # seconds between two tokens of one answer

    def __enter__(self):
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self.read, args=(model,)) for model in self.models]
        for thread in self.threads:
            thread.start()
        until(lambda: len(self.gaps) > 100 or self.errors, "tokens come")
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def read(self, model):
        while not self.stop.is_set():
            try:
                self.read_one(model)
            except Exception as error:  # whatever it is, the client noticed
                self.errors.append(repr(error))
                return

    def read_one(self, model):
        """Reads one answer as the SDK would, at less cost: the machine is busy with the engines."""
        body = {"model": model, "prompt": "Once upon a time", "max_tokens": TOKENS, "temperature": 0, "stream": True, "ignore_eos": True}
        connection = http.client.HTTPConnection(self.gateway, timeout=60 * SLOW)
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        last, events = None, []
        for line in connection.getresponse():
            if line.startswith(b"data:"):
                now = time.monotonic()
                if last is not None:
                    self.gaps.append(now - last)
                last = now
                events.append(line)
        assert b'"error"' not in b"".join(events) and events[-1] == b"data: [DONE]\n", events[-2:]


def test_eight_streams_notice_nothing(served, tmp_path):
    entrances = doors(served).values()
    started = time.monotonic()
    with Streams(served) as disturbed:
        for door in entrances:
            for what in HOSTILE:
                refuse_request(door, what)
        refuse_artifacts(served)
        refuse_object(served, {"baseModle": "x"}, "baseModle")
        refuse_truncated_model(served, tmp_path)
    seconds = time.monotonic() - started
    with Streams(served) as undisturbed:  # while the same tools do harmless work, since the machine has to run them too
        while time.monotonic() - started < 2 * seconds:
            for address, port, _, _ in entrances:
                assert exchange(address, port, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", str)[0] == 200
            assert len(served.pods()) == 2
    assert not disturbed.errors and not undisturbed.errors
    print(f"longest gap between tokens: {max(disturbed.gaps):.3f} s, undisturbed {max(undisturbed.gaps):.3f} s")
    # The clients share two cores with the engines and with what disturbs them, so their own clocks tell of hangs, not of milliseconds.
    assert max(disturbed.gaps) <= max(1.0 * SLOW, 2 * max(undisturbed.gaps))
