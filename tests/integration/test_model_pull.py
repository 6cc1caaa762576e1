"""`davit pull --model`: base models from a hub, from S3 and from a web server on loopback."""

import os
import subprocess

import pytest
from fake_gcs import FakeGcs
from fake_hub import FakeHub
from fake_s3 import FakeS3, User
from huggingface_hub import snapshot_download
from model_files import EXTRAS, files_in, make_model, safetensors
from web_server import WebServer
from world import SLOW, World

SECRET = "s3cret/of+the=user"


@pytest.fixture
def hub():
    hub = FakeHub()
    hub.tokens = {"t0ken-of-a-member"}
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


@pytest.fixture
def pull(tmp_path):
    def run(url, *options, **environment):
        target = tmp_path / f"pulled-{len(list(tmp_path.iterdir()))}"
        clean = {name: value for name, value in os.environ.items()
                 if not name.startswith(("HF_", "AWS_", "XDG_", "DAVIT_CACHE")) and "proxy" not in name.lower()}
        result = subprocess.run([World(tmp_path).davit, "pull", url, "--model", "--to", target, "--cache", tmp_path / "cache", *options],
                                capture_output=True, env={**clean, "HOME": str(tmp_path), **environment}, text=True, timeout=60 * SLOW)
        return target, result

    return run


def test_of_the_hub_what_an_engine_reads(hub, pull):
    model = make_model(shards=120)
    hub.put("org/base", {**model, **EXTRAS})
    target, result = pull("hf://org/base", HF_ENDPOINT=hub.url)
    assert result.returncode == 0 and files_in(target) == model, result.stderr
    assert not hub.asked("hub", "README") and not hub.asked("hub", "pytorch_model")
    before = len(hub.asked("store"))
    target, result = pull("hf://org/base", HF_ENDPOINT=hub.url)
    assert result.returncode == 0 and "from the cache" in result.stderr and len(hub.asked("store")) == before
    # The same commit as an adapter is another thing.
    arguments = [argument for argument in result.args if argument != "--model"]
    result = subprocess.run(arguments, capture_output=True, env={**os.environ, "HF_ENDPOINT": hub.url}, text=True)
    assert result.returncode != 0 and "adapter_config.json" in result.stderr


def test_one_file_of_many(hub, web, pull):
    quants = {f"base-{name}.gguf": b"GGUF" + name.encode() * 99 for name in ("Q4_K_M", "Q8_0")}
    hub.put("org/base-GGUF", {**quants, "config.json": b"{}"})
    target, result = pull("hf://org/base-GGUF/base-Q8_0.gguf", HF_ENDPOINT=hub.url)
    assert result.returncode == 0 and files_in(target) == {"base-Q8_0.gguf": quants["base-Q8_0.gguf"]}, result.stderr
    web.files = {f"/m/{name}": content for name, content in quants.items()}
    target, result = pull(f"{web.url}/m/base-Q4_K_M.gguf?sig=x/y")
    assert result.returncode == 0 and files_in(target) == {"base-Q4_K_M.gguf": quants["base-Q4_K_M.gguf"]}, result.stderr
    target, result = pull(f"{web.url}/m/none.gguf")
    assert result.returncode != 0 and "none.gguf: HTTP 404" in result.stderr
    target, result = pull(f"{web.url}/m")
    assert result.returncode != 0 and "expected the URL of a model's file" in result.stderr


def test_of_s3_with_several_parts_and_cuts(s3, pull):
    model = make_model(shards=2) | {"big.safetensors": safetensors(80 << 20, 9)}
    for name, data in {**model, **EXTRAS}.items():
        s3.put("models", f"base/{name}", data)
    s3.wire.cuts = [3 << 20, 1 << 20]
    environment = {"AWS_ENDPOINT_URL": s3.url, "AWS_ACCESS_KEY_ID": "AKUSER", "AWS_SECRET_ACCESS_KEY": SECRET,
                   "AWS_EC2_METADATA_DISABLED": "true"}
    target, result = pull("s3://models/base", **environment)
    assert result.returncode == 0 and files_in(target) == model, result.stderr
    ranges = [fields["range"] for method, path, fields, _ in s3.requests if "big" in path and "range" in fields]
    assert len(ranges) >= 3, ranges
    target, result = pull("s3://models/none", **environment)
    assert result.returncode != 0 and "holds no file of a model" in result.stderr


def test_of_gcs_in_pages(tmp_path, pull):
    gcs = FakeGcs(tmp_path)
    try:
        model = make_model(shards=9)
        for name, data in {**model, **EXTRAS}.items():
            gcs.put(f"base/{name}", data)
        gcs.page_size = 4
        target, result = pull("gs://models/base", STORAGE_EMULATOR_HOST=gcs.host)
        assert result.returncode == 0 and files_in(target) == model, result.stderr
        target, result = pull("gs://models/none", STORAGE_EMULATOR_HOST=gcs.host)
        assert result.returncode != 0 and "holds no file of a model" in result.stderr
    finally:
        gcs.close()


def test_of_the_local_hub_cache(hub, tmp_path, pull):
    model = make_model()
    hub.put("org/base", {**model, **EXTRAS})
    snapshot_download("org/base", cache_dir=tmp_path / "hub", endpoint=hub.url)
    before = len(hub.requests)
    target, result = pull("hf://org/base", HF_ENDPOINT=hub.url, HF_HUB_CACHE=str(tmp_path / "hub"), HF_HUB_OFFLINE="1")
    assert result.returncode == 0 and files_in(target) == model and len(hub.requests) == before, result.stderr
    target, result = pull("hf://org/none", HF_ENDPOINT=hub.url, HF_HUB_CACHE=str(tmp_path / "hub"), HF_HUB_OFFLINE="1")
    assert result.returncode != 0 and len(hub.requests) == before


def test_what_is_no_model(hub, pull):
    hub.put("org/pickled", {"config.json": b"{}", "pytorch_model.bin": b"pickle"})
    target, result = pull("hf://org/pickled", HF_ENDPOINT=hub.url)
    assert result.returncode != 0 and "has no weights" in result.stderr and "--allow-pickle" in result.stderr
    hub.put("org/broken", {"config.json": b"{}", "model.safetensors": b"version https://git-lfs.github.com/spec/v1\n"})
    target, result = pull("hf://org/broken", HF_ENDPOINT=hub.url)
    assert result.returncode != 0 and "model.safetensors: it does not begin with a safetensors header" in result.stderr
    assert not target.exists()


def test_a_gated_model_is_for_its_members(hub, pull):
    hub.put("org/gated", make_model())
    hub.models["org/gated"].gated = "auto"
    hub.models["org/gated"].members = {"t0ken-of-a-member"}
    target, result = pull("hf://org/gated", HF_ENDPOINT=hub.url)
    assert result.returncode != 0
    target, result = pull("hf://org/gated", HF_ENDPOINT=hub.url, HF_TOKEN="t0ken-of-a-member")
    assert result.returncode == 0 and files_in(target) == make_model(), result.stderr
    target, result = pull("hf://org/gated", HF_ENDPOINT=hub.url)
    assert result.returncode != 0, "what the cache has is not given to others"
