"""Pods without a sidecar: Davit's engine fetches every URL itself, others what they can, and nobody loads what was not asked for."""

import os
import re
import subprocess

import pytest
from fake_hub import FakeHub
from fake_s3 import FakeS3, User
from fake_world import BASE, FakeWorld
from test_engine import DAVIT
from web_server import WebServer
from world import TINY, http, until

SECRET = "s3cret-of+the=user"
FILES = ("adapter_config.json", "adapter_model.safetensors")


@pytest.fixture(scope="module")
def world(tmp_path_factory, api_server):
    world = FakeWorld(tmp_path_factory.mktemp("direct"), api_server)
    yield world
    world.close()


@pytest.fixture
def stores():
    """The same adapters in a bucket, in a repository and on a web server."""
    s3, hub = FakeS3(), FakeHub()
    s3.users["AKUSER"] = User(SECRET)
    for name in "abc":
        s3.put_folder("models", f"team/{name}/", TINY / f"adapter-{name}")
    content = {name: (TINY / "adapter-a" / name).read_bytes() for name in FILES}
    hub.put("org/sql", {f"tuned/{name}": data for name, data in content.items()}, "v1")
    hub.put("org/sql", {"README.md": b"not here"})
    web = WebServer(content)
    yield {"s3": s3, "hub": hub, "web": web}
    for store in (s3, hub, web):
        store.close()


class OwnEngine:
    """Davit's own engine on a pod of the room, without a sidecar, while the block runs."""

    def __init__(self, room, stores):
        self.room, self.log_path = room, room.world.folder / f"{room.namespace}.log"
        self.address = room.spares[0]
        self.environment = {**{name: value for name, value in os.environ.items() if "proxy" not in name.lower()},
                            "HOME": str(room.world.folder), "AWS_ENDPOINT_URL": stores["s3"].url, "AWS_ACCESS_KEY_ID": "AKUSER",
                            "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_EC2_METADATA_DISABLED": "true", "HF_ENDPOINT": stores["hub"].url}

    def __enter__(self):
        with self.log_path.open("w") as log:
            self.process = subprocess.Popen([DAVIT, "engine", "--model", TINY / "model.gguf", "--served-model-name", BASE, "--host",
                                             self.address, "--port", "0", "--artifact-cache", self.room.world.folder / "cache"],
                                            stderr=log, env=self.environment)
        port = until(lambda: re.search(rf"serving {BASE} on http://\S+:(\d+)", self.log()), "the engine serves").group(1)
        self.room.add_pod_of("own", self.address, {
            "metadata": {"labels": {"model.aibrix.ai/name": BASE, "model.aibrix.ai/port": port}},
            "spec": {"containers": [{"name": "engine", "image": "none"}]}})
        self.url = f"http://{self.address}:{port}"
        return self

    def __exit__(self, *_):
        self.process.terminate()
        assert self.process.wait(timeout=30) == 0, self.log()
        assert "Sanitizer" not in self.log() and "runtime error" not in self.log(), self.log()

    def log(self):
        return self.log_path.read_text()

    def loads(self, name):
        return len(re.findall(rf'adapter "{name}" loaded', self.log()))

    def roots(self):
        """Of the adapters that it lists."""
        status, answer = http("GET", f"{self.url}/v1/models")
        assert status == 200, answer
        return {card["id"]: card["root"] for card in answer["data"] if card["parent"] is not None}


def test_davits_engine_fetches_what_others_do_not(world, stores):
    with world.room(0, spares=1) as room, OwnEngine(room, stores) as engine:
        web, signed = stores["web"].url, f"{stores['web'].url}/sql?sig={SECRET}"
        wanted = {
            "bucket": ("s3://models/team/b/", {}, "s3://models/team/b/"),
            "folder": ("hf://org/sql/tuned", {"revision": "v1"}, "hf://org/sql@v1/tuned"),
            "pinned": ("huggingface://org/sql@v1/tuned", {}, "huggingface://org/sql@v1/tuned"),
            "web": (f"{web}/sql", {}, f"{web}/sql"),
            "path": (f"file://{TINY}/adapter-c", {}, f"{TINY}/adapter-c"),
        }
        for name, (url, options, _) in wanted.items():
            room.apply(name, url, **options)
        room.apply("signed", signed)
        for name in (*wanted, "signed"):
            room.wait(name, "FullyLoaded")
            assert room.published(name) == {engine.address}
        roots = engine.roots()
        # What may be secret of a URL is not shown to whoever may ask for the list of models.
        assert SECRET not in str(roots) + engine.log() + world.controller.text() and roots.pop("signed").startswith(f"{web}/sql?sha256=")
        assert roots == {name: root for name, (_, _, root) in wanted.items()}
        assert SECRET not in str(room.api.list("events")) + str(room.api.get("modeladapters", "signed")["status"])

        # A controller that begins anew knows them by what is listed.
        world.restart_controller()
        room.api.patch("modeladapters", "bucket", {"spec": {"drainSeconds": 2}})
        until(lambda: room.api.get("modeladapters", "bucket")["status"]["observedGeneration"] == 2, "it has looked at the adapters")
        for name in (*wanted, "signed"):
            room.wait(name, "FullyLoaded")
            assert engine.loads(name) == 1

        room.api.patch("modeladapters", "bucket", {"spec": {"artifactURL": "s3://models/team/c"}})
        until(lambda: engine.roots().get("bucket") == "s3://models/team/c", "another URL, other weights")
        room.wait("bucket", "FullyLoaded")
        room.api.delete("modeladapters", "bucket")
        until(lambda: "bucket" not in engine.roots(), "it is unloaded")


def test_what_a_source_says_without_a_sidecar_is_told(world, stores):
    with world.room(0, spares=1) as room, OwnEngine(room, stores) as engine:
        room.apply("none", "s3://models/team/none")
        room.apply("moved", "hf://org/sql@v2/tuned")
        room.apply("bucket", "s3://models/team/a", revision="v1")
        for name, words in (("none", "s3://models/team/none"), ("moved", "v2"), ("bucket", "only models of the Hub have revisions")):
            until(lambda name=name, words=words: words in room.condition(name).get("message", ""), f"{name} says why")
        assert room.loads("bucket")["own"]["reason"] == "UnsupportedArtifact"
        assert engine.roots() == {}


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_other_engines_get_what_they_can_fetch(world, kind):
    with world.room(1, kind=kind) as room:
        room.apply("repo", "huggingface://org/repo")
        room.wait("repo")
        refused = {"bucket": ("s3://models/team/a", {}), "folder": ("hf://org/repo/tuned", {}), "pinned": ("hf://org/repo@v1", {}),
                   "beside": ("hf://org/repo", {"revision": "v1"})}
        for name, (url, options) in refused.items():
            room.apply(name, url, **options)
        for name in refused:
            until(lambda name=name: room.loads(name).get("pod-0", {}).get("reason") == "UnsupportedArtifact", f"{name} is refused")
            assert "without the sidecar" in room.condition(name)["message"]
        assert room.fakes.adapters(room.pods["pod-0"]) == {"repo": "org/repo"}
