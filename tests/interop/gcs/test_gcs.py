"""davit pull from fake-gcs-server, which speaks Google Cloud Storage's JSON API."""

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

from fake_gcs import FakeGcs  # noqa: E402

ADAPTER = ROOT / "tests/fixtures/tiny/adapter-a"
SERVER = "github.com/fsouza/fake-gcs-server@v1.56.1"


class Store:
    """The server, on a port of its own."""

    def __init__(self, folder):
        built = subprocess.run([ROOT / "tests/interop/go-install", SERVER], stdout=subprocess.PIPE, text=True)
        if built.returncode != 0:
            pytest.skip("fake-gcs-server cannot be built here")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.host = f"127.0.0.1:{free.getsockname()[1]}"
        self.log = open(folder / "fake-gcs-server.log", "w")
        self.process = subprocess.Popen([built.stdout.strip(), "-scheme", "http", "-host", "127.0.0.1", "-port", self.host.split(":")[1],
                                         "-backend", "memory"], stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + 30
        while True:
            try:
                self.ask("POST", "/storage/v1/b?project=p", b'{"name": "models"}', "application/json")
                return
            except urllib.error.URLError:
                assert time.monotonic() < deadline, "fake-gcs-server does not answer"
                time.sleep(0.05)

    def ask(self, method, path, body=None, content_type="application/octet-stream"):
        request = urllib.request.Request(f"http://{self.host}{path}", body, {"Content-Type": content_type}, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()

    def put(self, name, content):
        self.ask("POST", f"/upload/storage/v1/b/models/o?uploadType=media&name={urllib.parse.quote(name, safe='')}", content)

    def put_adapter(self, prefix):
        for file in ADAPTER.iterdir():
            self.put(prefix + file.name, file.read_bytes())

    def close(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("gcs"))
    yield store
    store.close()


def pull(store, tmp_path, url):
    """The result and where the files are."""
    davit = Path(os.environ.get("DAVIT", ROOT / "build/release/davit")).resolve()
    target = tmp_path / "pulled"
    shutil.rmtree(target, ignore_errors=True)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "STORAGE_EMULATOR_HOST": store.host}
    result = subprocess.run([davit, "pull", url, "--cache", tmp_path / "cache", "--to", target], env=environment, capture_output=True,
                            text=True, timeout=120)
    return result, target


@pytest.mark.parametrize("url", ["gs://models/a/sql", "gcs://models/a/sql/", "gs://models/a/sql/adapter_config.json"])
def test_a_folder_of_a_bucket(store, tmp_path, url):
    store.put_adapter("a/sql/")
    store.put("a/sql/notes about it.md", b"x")
    store.put("a/sql/checkpoint-1/adapter_config.json", b"{}")
    result, target = pull(store, tmp_path, url)
    assert result.returncode == 0, result.stderr
    assert sorted(file.name for file in target.glob("[!.]*")) == ["adapter_config.json", "adapter_model.safetensors"]
    for file in target.glob("[!.]*"):
        assert file.read_bytes() == (ADAPTER / file.name).read_bytes()


def test_names_that_need_encoding(store, tmp_path):
    store.put_adapter("größe & co/100%/s?l#/")
    result, _ = pull(store, tmp_path, "gs://models/größe & co/100%/s?l#")
    assert result.returncode == 0, result.stderr


def test_another_generation_is_another_version(store, tmp_path):
    store.put_adapter("new/")
    assert pull(store, tmp_path, "gs://models/new")[0].returncode == 0
    config = json.loads((ADAPTER / "adapter_config.json").read_text())
    store.put("new/adapter_config.json", json.dumps({**config, "lora_alpha": 99}).encode())
    result, target = pull(store, tmp_path, "gs://models/new")
    assert result.returncode == 0, result.stderr
    assert json.loads((target / "adapter_config.json").read_text())["lora_alpha"] == 99


@pytest.mark.parametrize("url", ["gs://models/none", "gs://no-such-bucket/a"])
def test_what_there_is_not(store, tmp_path, url):
    result, _ = pull(store, tmp_path, url)
    assert result.returncode != 0 and url in result.stderr, result.stderr


# ---- the fake of the integration tests, beside the real one ----

FIELDS = "fields=items(name,size,generation,md5Hash,crc32c,contentEncoding),nextPageToken"
LISTS = {  # what is asked of the bucket, and of another one
    "a folder": "models/o?delimiter=%2F&maxResults=1000&prefix=a%2Fsql%2F",
    "everything": "models/o?maxResults=1000",
    "a page": "models/o?maxResults=2&prefix=a%2Fsql%2F",
    "nothing": "models/o?delimiter=%2F&maxResults=1000&prefix=none%2F",
    "another bucket": "no-such-bucket/o?delimiter=%2F&maxResults=1000&prefix=a%2F",
}
READS = {  # another generation, and a range
    "all of it": (0, None), "the middle": (0, "bytes=10-19"), "the rest": (0, "bytes=1000-"), "more than the rest": (0, "bytes=1000-9999"),
    "past its end": (0, "bytes=9999-"), "another generation": (1, None),
}


def ask(host, path, asked_range=None):
    """(status, fields, body)"""
    request = urllib.request.Request(f"http://{host}/storage/v1/b/{path}", headers={"Range": asked_range} if asked_range else {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def listed(host, path):
    """What clients depend on of a list."""
    status, _, body = ask(host, f"{path}&{FIELDS}")
    page = json.loads(body)
    rows = [{name: row[name] for name in ("name", "size", "md5Hash", "crc32c")} for row in page.get("items", [])]
    assert all(row["generation"].isdigit() for row in page.get("items", []))
    return status, "items" in page, rows, "nextPageToken" in page, page.get("error", {}).get("code")


def read(host, name, other, asked_range):
    """What clients depend on of an object."""
    rows = json.loads(ask(host, f"models/o?prefix={urllib.parse.quote(name, safe='')}")[2])["items"]
    path = f"models/o/{urllib.parse.quote(name, safe='')}?alt=media&generation={int(rows[0]['generation']) + other}"
    status, fields, body = ask(host, path, asked_range)
    return status, fields["Content-Range"], body if status < 300 else None


@pytest.fixture(scope="module")
def both(store, tmp_path_factory):
    """Hosts of the real one and the fake, which hold the same."""
    fake = FakeGcs(tmp_path_factory.mktemp("fake"))
    for name in json.loads(store.ask("GET", "/storage/v1/b/models/o")).get("items", []):
        store.ask("DELETE", f"/storage/v1/b/models/o/{urllib.parse.quote(name['name'], safe='')}")
    for name in ("a/sql/adapter_config.json", "a/sql/adapter_model.safetensors", "a/sql/größe & 100%", "a/sql/sub/x", "b"):
        for server in (store, fake):
            server.put(name, name.encode() * 50)
    yield store.host, fake.host
    fake.close()


@pytest.mark.parametrize("what", LISTS)
def test_the_fake_lists_alike(both, what):
    real, fake = (listed(host, LISTS[what]) for host in both)
    assert real == fake


@pytest.mark.parametrize("what", READS)
def test_the_fake_reads_alike(both, what):
    real, fake = (read(host, "a/sql/adapter_config.json", *READS[what]) for host in both)
    assert real == fake
