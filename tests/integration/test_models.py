"""davit runtime and base models: /v1/model/download and /v1/model/list, on loopback hubs, S3 and web servers."""

import fcntl
import os
import subprocess
import threading
from pathlib import Path

import pytest
from fake_hub import FakeHub
from fake_s3 import FakeS3, User
from huggingface_hub import snapshot_download
from model_files import EXTRAS, files_in, make_model, safetensors
from test_artifact_runtime import Runtime
from web_server import WebServer
from world import http, until

TOKEN = "t0ken-of-a-member"
SECRET = "s3cret/of+the=user"


@pytest.fixture
def hub(monkeypatch):
    hub = FakeHub()
    hub.tokens = {TOKEN}
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    for name in ("HF_TOKEN", "HF_HOME", "HF_HUB_CACHE", "HF_REVISION"):
        monkeypatch.delenv(name, raising=False)
    yield hub
    hub.close()


@pytest.fixture
def s3():
    s3 = FakeS3()
    s3.users["AKUSER"] = User(SECRET)
    yield s3
    s3.close()


@pytest.fixture
def web():
    server = WebServer()
    yield server
    server.close()


class Sidecar(Runtime):
    """Nobody is beside it: base models come before there is an engine."""

    def __init__(self, folder, *options):
        self.models = folder / "models"
        super().__init__(folder, "http://127.0.0.1:9", "--model-dir", self.models, *options)

    def download(self, uri, wait=None, timeout=60, **more):
        headers = {"Prefer": f"wait={wait}"} if wait is not None else {}
        return http("POST", f"{self.url}/v1/model/download", {"model_uri": str(uri), **more}, headers=headers, timeout=timeout)

    def list(self, folder=None):
        body = {"local_dir": str(folder)} if folder else None
        status, answer = http("GET", f"{self.url}/v1/model/list", body)
        assert status == 200 and answer["object"] == "list", answer
        return {card["model_name"]: card for card in answer["data"]}

    def good(self, uri, **more):
        status, card = self.download(uri, wait=60, **more)
        assert status == 200 and card["model_status"] == "downloaded", card
        return Path(card["model_root_path"])

    def kill(self):
        self.process.kill()
        self.process.wait()

    def labelled(self, name):
        page = http("GET", f"{self.url}/metrics")[1]
        return [line for line in page.splitlines() if line.startswith(name + "{")]


@pytest.fixture
def sidecar(tmp_path, hub, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    sidecar = Sidecar(tmp_path)
    yield sidecar
    sidecar.close()


def test_as_clients_of_the_reference_ask(hub, sidecar):
    model = make_model()
    hub.put("org/base", {**model, **EXTRAS})
    assert sidecar.list() == {}
    status, card = sidecar.download("org/base")
    assert status == 200 and set(card) >= {"model_name", "model_root_path", "source", "model_status"}, card
    assert (card["model_name"], card["source"]) == ("org/base", "huggingface") and card["model_status"] in ("downloading", "downloaded")
    root = sidecar.models / "org/base"
    assert card["model_root_path"] == str(root)
    until(lambda: sidecar.list()["org/base"]["model_status"] == "downloaded", "it has come")
    assert files_in(root) == model
    asked = len(hub.requests)
    status, card = sidecar.download("org/base")
    assert status == 200 and card["model_status"] == "downloaded" and len(hub.requests) == asked, "what is there is not asked for"
    # The folder may be mounted elsewhere.
    assert not os.readlink(root).startswith("/")


def test_progress_is_seen_while_it_comes(sidecar, web):
    web.files = {"/m/base.safetensors": safetensors(9_000_000)}
    web.wire.go.clear()
    status, card = sidecar.download(f"{web.url}/m/base.safetensors", model_name="base")
    assert status == 200 and card["model_status"] == "downloading" and card["source"] == "http", card

    def half():
        card = sidecar.list()["base"]
        assert card["model_status"] == "downloading", card
        return card.get("bytes_total") == len(web.files["/m/base.safetensors"]) and card["bytes_done"] * 3 > card["bytes_total"]

    until(half, "some of it is there, and the list says so")
    assert sidecar.list()["base"]["message"].startswith("downloading ")
    assert sidecar.metric("davit_runtime_model_downloads_running") == 1
    done, = sidecar.labelled("davit_runtime_model_download_done_bytes")
    assert 'model_name="base"' in done and float(done.rsplit(" ", 1)[1]) > 3e6
    assert not (sidecar.models / "base").exists(), "what is not whole has no name"
    web.wire.go.set()
    root = sidecar.good(f"{web.url}/m/base.safetensors", model_name="base")
    assert files_in(root) == {"base.safetensors": web.files["/m/base.safetensors"]}
    assert sidecar.labelled("davit_runtime_model_downloads_total") == ['davit_runtime_model_downloads_total{outcome="fetched"} 1']
    assert sidecar.labelled("davit_runtime_model_download_done_bytes") == []
    assert "downloading" in sidecar.log.read_text() and 'model "base": downloaded' in sidecar.log.read_text()


def test_many_callers_cause_one_download(sidecar, web):
    web.files = {"/m/base.safetensors": safetensors(1_000_000)}
    web.wire.go.clear()
    results = []

    def ask():
        results.append(sidecar.download(f"{web.url}/m/base.safetensors", wait=60, model_name="base"))

    callers = [threading.Thread(target=ask) for _ in range(30)]
    for caller in callers:
        caller.start()
    until(lambda: web.gets(".safetensors"), "the download has begun")
    status, answer = sidecar.download(f"{web.url}/m/other.safetensors", model_name="base")
    assert status == 409 and answer["type"] == "ConflictError", answer
    web.wire.go.set()
    for caller in callers:
        caller.join()
    assert {(status, card["model_status"]) for status, card in results} == {(200, "downloaded")} and len(results) == 30
    assert len(web.gets(".safetensors")) == 1


def test_several_sidecars_on_one_volume(sidecar, web, tmp_path):
    web.files = {"/m/base.safetensors": safetensors(1_000_000)}
    web.wire.go.clear()
    url = f"{web.url}/m/base.safetensors"
    (tmp_path / "other").mkdir()
    other = Sidecar(tmp_path / "other")
    try:
        assert sidecar.download(url, model_name="base")[1]["model_status"] == "downloading"
        assert other.list(sidecar.models)["base"]["model_status"] == "downloading"
        status, card = other.download(url, wait=0, model_name="base", local_dir=str(sidecar.models))
        assert status == 200 and card["model_status"] == "downloading", card
        until(lambda: "another process" in other.list(sidecar.models)["base"].get("message", ""), "the other waits for the first")
        sidecar.kill()
        until(lambda: len(web.gets(".safetensors")) == 2, "the other goes on in its place")
        web.wire.go.set()
        root = other.good(url, model_name="base", local_dir=str(sidecar.models))
        assert files_in(root) == {"base.safetensors": web.files["/m/base.safetensors"]}
        sidecar.start()
        assert sidecar.list()["base"]["model_status"] == "downloaded"
        assert sidecar.download(url, model_name="base")[1]["model_status"] == "downloaded" and len(web.gets(".safetensors")) == 2
    finally:
        other.close()


def test_what_runs_is_bounded(sidecar, web):
    """64 at a time; names of one and the same content share its download, and its place on the disk."""
    web.files = {"/m/base.safetensors": safetensors(100_000)}
    web.wire.go.clear()
    for i in range(64):
        status, card = sidecar.download(f"{web.url}/m/base.safetensors", wait=0, model_name=f"base-{i}")
        assert status == 200 and card["model_status"] == "downloading", card
    status, answer = sidecar.download(f"{web.url}/m/base.safetensors", wait=0, model_name="base-64")
    assert (status, answer["type"]) == (429, "BusyError"), answer
    assert sidecar.metric("davit_runtime_model_downloads_running") == 64
    web.wire.go.set()
    until(lambda: {card["model_status"] for card in sidecar.list().values()} == {"downloaded"}, "all are there")
    assert len(web.gets(".safetensors")) == 1 and len(list((sidecar.models / ".cache/davit/v1/objects").iterdir())) == 1
    assert sidecar.good(f"{web.url}/m/base.safetensors", model_name="base-64")
    # Those that have ended and are no longer remembered are found on the disk.
    assert len(sidecar.list()) == 65
    assert sidecar.download(f"{web.url}/m/base.safetensors", model_name="base-0")[1]["model_status"] == "downloaded"
    assert len(web.gets(".safetensors")) == 1


def test_a_kill_in_the_middle_and_what_goes_on_afterwards(sidecar, s3):
    model = make_model(shards=2) | {"big.safetensors": safetensors(70 << 20, 9)}
    for name, data in model.items():
        s3.put("models", f"base/{name}", data)
    go = threading.Event()
    parts = []

    def wait(method, path):
        if method == "GET" and "big" in path:
            parts.append(path)
            if len(parts) > 1:
                go.wait(60)

    s3.on_request = wait
    config = {"ak": "AKUSER", "sk": SECRET, "endpoint": s3.url, "region": "us-east-1"}
    status, card = sidecar.download("s3://models/base/", download_extra_config=config)
    assert status == 200 and (card["model_name"], card["source"], card["model_status"]) == ("base", "s3", "downloading"), card
    until(lambda: sidecar.list()["base"].get("bytes_done", 0) > 32 << 20, "the first part has come")
    sidecar.kill()
    go.set()
    before = len(s3.requests)
    sidecar.start()
    assert sidecar.list()["base"]["model_status"] == "no_operation"
    root = sidecar.good("s3://models/base/", download_extra_config=config)
    assert files_in(root) == model
    again = [fields.get("range", "") for method, path, fields, _ in s3.requests[before:] if method == "GET" and "big" in path]
    assert again and all(not part.startswith("bytes=0-") for part in again), f"it began anew: {again}"
    sidecar.kill()
    sidecar.start()
    assert sidecar.list()["base"]["model_status"] == "downloaded"
    assert SECRET not in sidecar.log.read_text()
    kept = [file for file in sidecar.models.rglob("*.json") if file.is_file()]
    assert kept and all(SECRET not in file.read_text() for file in kept)


def test_errors_say_what_is_wrong(hub, sidecar):
    hub.put("org/private", make_model())
    hub.models["org/private"].is_private = True
    hub.models["org/private"].members = {TOKEN}
    hub.put("org/pickled", {"config.json": b"{}", "pytorch_model.bin": b"pickle"})
    rows = (({"model_uri": "org/none"}, 404, "ModelNotFoundError"),
            ({"model_uri": "org/none", "download_extra_config": {"hf_token": TOKEN, "hf_endpoint": hub.url}}, 404, "ModelNotFoundError"),
            ({"model_uri": "org/private"}, 404, "ModelNotFoundError"),
            ({"model_uri": "org/pickled"}, 404, "ModelNotFoundError"),
            ({"model_uri": "/none/here"}, 404, "ModelNotFoundError"),
            ({"model_uri": "ftp://x/y"}, 422, "InvalidArgumentError"),
            ({"model_uri": "a/b/../c"}, 422, "InvalidArgumentError"),
            ({"model_uri": "org/base", "local_dir": "models"}, 422, "InvalidArgumentError"),
            ({"model_uri": "org/base", "local_dir": "/tmp/../etc"}, 422, "InvalidArgumentError"),
            ({"model_uri": "org/base", "download_extra_config": {"nope": 1}}, 422, "InvalidArgumentError"))
    for body, expected, kind in rows:
        status, answer = http("POST", f"{sidecar.url}/v1/model/download", body)
        assert (status, answer["object"], answer["type"], answer["code"]) == (expected, "error", kind, expected), (body, answer)
    status, answer = http("POST", f"{sidecar.url}/v1/model/download", {"model_uri": "org/base", "more": 1})
    assert status == 422 and answer["detail"][0]["type"] == "extra_forbidden", answer
    assert sidecar.list() == {}, "what never was is not listed"
    assert sidecar.good("org/private", download_extra_config={"hf_token": TOKEN}) == sidecar.models / "org/private"
    assert TOKEN not in sidecar.log.read_text()


def test_a_name_that_means_something_else_now(hub, sidecar, tmp_path):
    first = hub.put("org/base", make_model(shards=1))
    root = sidecar.good("org/base")
    old = os.readlink(root)
    hub.put("org/base", make_model(shards=2))
    assert sidecar.good("org/base") == root and os.readlink(root) == old, "nobody wanted another one"
    sidecar.good("org/base", download_extra_config={"force_download": True})
    assert os.readlink(root) != old and files_in(root) == make_model(shards=2)
    sidecar.good("org/base", download_extra_config={"hf_revision": first})
    assert os.readlink(root) == old
    # A try that leads to nothing leaves what is there.
    status, answer = sidecar.download("org/none", model_name="org/base")
    assert status == 404 and os.readlink(root) == old and sidecar.list()["org/base"]["model_status"] == "downloaded"
    # What is no link is never replaced; a model is no folder for another one.
    (sidecar.models / "mine").mkdir()
    status, answer = sidecar.download("org/base", model_name="mine", wait=60)
    assert status == 409 and "no model that was downloaded" in answer["message"] and (sidecar.models / "mine").is_dir(), answer
    status, answer = sidecar.download("org/base", model_name="org/base/below", wait=60)
    assert status >= 400 and files_in(root) == make_model(shards=1), answer


def test_folders_and_files_of_the_callers_choice(hub, sidecar, tmp_path):
    quants = {f"base-{name}.gguf": b"GGUF" + name.encode() * 99 for name in ("Q4_K_M", "Q8_0")}
    hub.put("org/base-GGUF", {**quants, "config.json": b"{}"})
    elsewhere = tmp_path / "elsewhere"
    root = sidecar.good("org/base-GGUF", local_dir=str(elsewhere) + "/", model_name="q4",
                        download_extra_config={"allow_file_suffix": ["Q4_K_M.gguf", "json"], "num_threads": 4})
    assert root == elsewhere / "q4" and sorted(files_in(root)) == ["base-Q4_K_M.gguf", "config.json"]
    assert set(sidecar.list(elsewhere)) == {"q4"} and sidecar.list() == {}
    root = sidecar.good("hf://org/base-GGUF/base-Q8_0.gguf", model_name="q8")
    assert files_in(root) == {"base-Q8_0.gguf": quants["base-Q8_0.gguf"]}
    local = tmp_path / "mounted"
    local.mkdir()
    assert sidecar.good(f"file://{local}") == local


def test_what_other_programs_brought_is_used(hub, sidecar):
    """As AIBrix's downloader leaves it, which calls this function."""
    hub.put("org/base", make_model())
    root = sidecar.models / "org/base"
    snapshot_download("org/base", local_dir=root, endpoint=hub.url)
    asked = len(hub.requests)
    status, card = sidecar.download("org/base")
    assert status == 200 and (card["model_status"], card["source"]) == ("downloaded", "huggingface"), card
    assert card["model_root_path"] == str(root)
    assert len(hub.requests) == asked and {card["model_status"] for card in sidecar.list().values()} == {"downloaded"}
    status, answer = sidecar.download("org/base", download_extra_config={"force_download": True})
    assert status == 409 and "another program" in answer["message"], answer
    with open(root / ".cache/huggingface/download/config.json.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert sidecar.list()["org/base"]["model_status"] == "downloading"
        assert sidecar.download("org/base")[1]["model_status"] == "downloading"
    # Half of it is not the model, whether a file is missing that was begun or one that was not.
    weights = next(root.glob("*-00002-of-*"))
    weights.unlink()
    assert sidecar.list()["org/base"]["model_status"] == "no_operation"
    for note in (root / ".cache/huggingface/download").glob(f"{weights.name}.*"):
        note.unlink()
    assert sidecar.list()["org/base"]["model_status"] == "no_operation"
    status, answer = sidecar.download("org/base")
    assert status == 409 and "only some of the model" in answer["message"] and root.is_dir(), answer


def test_metrics_that_dashboards_of_the_reference_read(tmp_path, monkeypatch):
    monkeypatch.setenv("INFERENCE_ENGINE_VERSION", "0.11.0")
    sidecar = Sidecar(tmp_path)
    try:
        http("GET", f"{sidecar.url}/healthz")
        http("GET", f"{sidecar.url}/nothing/such")
        http("POST", f"{sidecar.url}/v1/model/download", {})
        info, = sidecar.labelled("aibrix:info_info")
        assert 'engine="vllm"' in info and 'engine_version="0.11.0"' in info and 'version="' in info and info.endswith(" 1")
        lines = "\n".join(sidecar.labelled("aibrix:api_request_total"))
        for endpoint, method, status in (("/healthz", "GET", 200), ("other", "GET", 404), ("/v1/model/download", "POST", 422)):
            assert f'{{method="{method}",endpoint="{endpoint}",status="{status}"}} 1' in lines, lines
        assert "/metrics" not in lines
        buckets = [line for line in sidecar.labelled("aibrix:api_request_latency_bucket") if "/healthz" in line]
        assert [line.split('le="')[1].split('"')[0] for line in buckets] == ["0.1", "0.2", "0.5", "1", "2", "5", "+Inf"]
    finally:
        sidecar.close()


def test_what_a_name_leads_to_is_not_evicted(hub, sidecar):
    for size in (1000, 2000):
        hub.put("org/base", make_model(shards=1, size=size))
        root = sidecar.good("org/base", download_extra_config={"force_download": True})
    objects = sidecar.models / ".cache/davit/v1/objects"
    assert len(list(objects.iterdir())) == 2
    sidecar.kill()
    sidecar.start()  # it knows what there is once it downloads something itself
    hub.put("org/other", make_model(shards=1))
    other = sidecar.good("org/other")
    result = subprocess.run([sidecar.process.args[0], "cache", "prune", "--cache", sidecar.models / ".cache/davit"], capture_output=True,
                            text=True)
    assert result.returncode == 0 and files_in(root) == make_model(shards=1, size=2000), result.stderr
    assert files_in(other) == make_model(shards=1) and len(list(objects.iterdir())) == 2, "what none leads to may go"
