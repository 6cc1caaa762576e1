"""Bad input gets a clear error that names the thing, in the caller's dialect, and nobody else notices."""

import json
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from world import BASE, SLOW, TINY, http, until

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

def chat(messages):
    return f'{{"model": "{BASE}", "messages": [{messages}]}}'.encode()


# Questions that would cost seconds or hundreds of megabytes if they were read as they come, each as large as the engine reads at all.
COSTLY = {
    "many values": (chat("{}," * (MEBIBYTE // 3) + "{}"), 400, "values, at most"),
    "one word": (chat('{"role": "user", "content": "%s"}' % (" " * MEBIBYTE)), 400, "maximum context length"),
    "a book": (chat('{"role": "user", "content": "%s"}' % (" well" * MEBIBYTE)), 413, "body is larger than"),
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


def refuse_question(door, what):
    address, port, path, message_of = door
    question, expected, named = COSTLY[what]
    status, body = http("POST", f"http://{address}:{port}{path}", question)
    assert status == expected and named in message_of(body), (status, body)


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


@pytest.mark.parametrize("role", ["gateway", "engine"])
@pytest.mark.parametrize("what", COSTLY)
def test_costly_questions(tiny_world, role, what):
    refuse_question(doors(tiny_world)[role], what)


def test_truncated_models(tiny_world, tmp_path):
    refuse_truncated_model(tiny_world, tmp_path)


class Streams:
    """Eight clients that read one answer after the other, streaming, while the block runs; then `report` tells what they saw."""

    def __init__(self, served):
        models = [BASE, *served.artifacts] * 2
        self.command = [sys.executable, Path(__file__).with_name("stream_clock.py"), served.gateway.removeprefix("http://"), str(TOKENS),
                        *models]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert line == "flowing\n", line
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        output = self.process.stdout.read()
        assert self.process.wait() == 0, output
        self.report = json.loads(output)


def bad_input(served, folder):
    for role, door in doors(served).items():
        for what in HOSTILE:
            refuse_request(door, what)
        for what in COSTLY if role != "runtime" else ():
            refuse_question(door, what)
    refuse_artifacts(served)
    refuse_object(served, {"baseModle": "x"}, "baseModle")
    refuse_truncated_model(served, folder)


def no_bad_input(served, folder):
    """As much work for the same tools, which share the machine with the streams; nothing is refused and nothing reaches an engine."""
    for address, port, _, _ in doors(served).values():
        for _ in HOSTILE:
            assert exchange(address, port, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", str)[0] == 200
    names = [f"nowhere-{number}" for number in range(len(ARTIFACTS))]
    for name in names:
        served.apply_adapter(name, "/nowhere", podSelector={"matchLabels": {"nobody": "has"}})
    for name in names:
        until(lambda name=name: (served.get("modeladapter", name).get("status") or {}).get("phase"), f"{name} has a phase")
        served.kubectl("events", "--for", f"modeladapter/{name}")
        assert served.text(name, "Hi")[0] == 503
    served.kubectl("delete", "modeladapters", *names, f"--timeout={60 * SLOW}s")
    for number in range(4):
        (folder / f"help-{number}").write_text(subprocess.run([served.davit, "engine", "--help"], capture_output=True, text=True).stdout)


def test_eight_streams_notice_nothing(served, tmp_path):
    started = time.monotonic()
    with Streams(served) as disturbed:
        bad_input(served, tmp_path)
    seconds = time.monotonic() - started
    with Streams(served) as undisturbed:  # for as long, since the longest of more gaps is longer
        while time.monotonic() < started + 2 * seconds:
            no_bad_input(served, tmp_path)
    for what, streams in (("without bad input", undisturbed), ("with it", disturbed)):
        print(f"eight streams {what}: {streams.report}")
    assert not disturbed.report["errors"] and not undisturbed.report["errors"]
    assert disturbed.report["longest"] <= max(0.2 * SLOW, 2 * undisturbed.report["longest"])
