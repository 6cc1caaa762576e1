"""davit pull from versitygw, an S3 server that verifies signatures."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/integration"))

from fake_s3 import sign  # noqa: E402

ADAPTER = ROOT / "tests/fixtures/tiny/adapter-a"
SERVER = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"
KEY, SECRET, REGION = "AKROOT", "s3cret/of+root=", "eu-central-1"


class Store:
    """The server, on a port of its own, over folders."""

    def __init__(self, folder):
        built = subprocess.run([ROOT / "tests/interop/go-install", SERVER], stdout=subprocess.PIPE, text=True)
        if built.returncode != 0:
            pytest.skip("versitygw cannot be built here")
        with socket.create_server(("127.0.0.1", 0)) as free:
            host = f"127.0.0.1:{free.getsockname()[1]}"
        self.url = f"http://{host}"
        self.log = open(folder / "versitygw.log", "w")
        (folder / "data").mkdir()
        self.process = subprocess.Popen(
            [built.stdout.strip(), "--port", host, "--region", REGION, "posix", "--sidecar", folder / "meta", folder / "data"],
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET},
            stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + 30
        while True:
            try:
                self.put("models")
                return
            except (urllib.error.URLError, ConnectionError):
                assert self.process.poll() is None and time.monotonic() < deadline, "versitygw does not answer"
                time.sleep(0.05)

    def put(self, path, content=b"", **fields):
        url = f"{self.url}/{urllib.parse.quote(path, safe='/~')}"
        signed = sign("PUT", url, KEY, SECRET, content, REGION, fields.items())
        request = urllib.request.Request(url, content, signed, method="PUT")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()

    def put_adapter(self, prefix):
        for file in ADAPTER.iterdir():
            self.put(f"models/{prefix}{file.name}", file.read_bytes())

    def close(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("s3")
    (folder / "meta").mkdir()
    store = Store(folder)
    yield store
    store.close()


def pull(store, tmp_path, url, **environment):
    """The result and where the files are."""
    davit = Path(os.environ.get("DAVIT", ROOT / "build/release/davit")).resolve()
    target = tmp_path / "pulled"
    shutil.rmtree(target, ignore_errors=True)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "AWS_ENDPOINT_URL_S3": store.url, "AWS_REGION": REGION,
                   "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, **environment}
    result = subprocess.run([davit, "pull", url, "--cache", tmp_path / "cache", "--to", target], env=environment, capture_output=True,
                            text=True, timeout=120)
    assert SECRET not in result.stdout + result.stderr
    return result, target


@pytest.mark.parametrize("url", ["s3://models/a/sql", "s3://models/a/sql/", "s3://models/a/sql/adapter_config.json"])
def test_a_folder_of_a_bucket(store, tmp_path, url):
    store.put_adapter("a/sql/")
    store.put("models/a/sql/notes about it.md", b"x")
    store.put("models/a/sql/checkpoint-1/adapter_config.json", b"{}")
    result, target = pull(store, tmp_path, url)
    assert result.returncode == 0, result.stderr
    assert sorted(file.name for file in target.glob("[!.]*")) == ["adapter_config.json", "adapter_model.safetensors"]
    for file in target.glob("[!.]*"):
        assert file.read_bytes() == (ADAPTER / file.name).read_bytes()


@pytest.mark.parametrize("prefix", ["größe & co", "100%", "a+b=c", "s?l#", "~!*'()", "a%20b"])
def test_names_that_need_encoding(store, tmp_path, prefix):
    store.put_adapter(prefix + "/")
    result, _ = pull(store, tmp_path, f"s3://models/{prefix}")
    assert result.returncode == 0, result.stderr


def test_another_region(store, tmp_path):
    store.put_adapter("region/")
    result, _ = pull(store, tmp_path, "s3://models/region", AWS_REGION="us-east-1")
    assert result.returncode == 0, result.stderr


def test_more_than_a_page(store, tmp_path):
    for i in range(1020):
        store.put(f"models/many/0{i:04}")
    store.put_adapter("many/")
    result, _ = pull(store, tmp_path, "s3://models/many")
    assert result.returncode == 0, result.stderr


def test_another_state_is_another_version(store, tmp_path):
    store.put_adapter("new/")
    assert pull(store, tmp_path, "s3://models/new")[0].returncode == 0
    config = json.loads((ADAPTER / "adapter_config.json").read_text())
    store.put("models/new/adapter_config.json", json.dumps({**config, "lora_alpha": 99}).encode())
    result, target = pull(store, tmp_path, "s3://models/new")
    assert result.returncode == 0, result.stderr
    assert json.loads((target / "adapter_config.json").read_text())["lora_alpha"] == 99


@pytest.mark.parametrize("environment, words", [
    ({"AWS_SECRET_ACCESS_KEY": "other"}, "SignatureDoesNotMatch"),
    ({"AWS_ACCESS_KEY_ID": "AKNOBODY"}, "does not know this access key"),
    ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "without credentials"),
])
def test_who_may_not(store, tmp_path, environment, words):
    store.put_adapter("denied/")
    result, _ = pull(store, tmp_path, "s3://models/denied", **environment)
    assert result.returncode != 0 and words in result.stderr, result.stderr


@pytest.mark.parametrize("url", ["s3://models/none", "s3://no-such-bucket/a"])
def test_what_there_is_not(store, tmp_path, url):
    result, _ = pull(store, tmp_path, url)
    assert result.returncode != 0 and url in result.stderr, result.stderr
