"""The controller and what its pods' sidecars have to fetch: progress in the status, the version that all get, and what a failure is called."""

import contextlib
import re
import subprocess

import pytest
from fake_world import FakeWorld
from web_server import WebServer, make_adapter
from world import World, until


@pytest.fixture
def world(tmp_path, api_server):
    world = FakeWorld(tmp_path, api_server)
    yield world
    world.close()


@pytest.fixture
def web():
    server = WebServer(make_adapter(width=200_000))
    yield server
    server.close()


@contextlib.contextmanager
def sidecars(room):
    """davit runtime beside each engine of the room."""
    folder, running = room.world.folder, []
    for name, address in room.pods.items():
        port_file = folder / f"{name}.port"
        with open(folder / f"{name}.log", "w") as log:
            running.append(subprocess.Popen([World(folder).davit, "runtime", "--host", address, "--port", "8080", "--port-file", port_file,
                                             "--engine-endpoint", f"http://{address}:8000", "--cache", folder / f"{name}.cache"], stderr=log))
        until(port_file.exists, f"the runtime of {name} serves")
    yield
    for process in running:
        process.terminate()
        assert process.wait(timeout=30) == 0


def told(room):
    """Percents that the status of the only pod says, None when it says none."""
    row = next(iter(room.loads("sql").values()), {})
    found = re.search(r"downloading (\d+) %", row.get("message", ""))
    assert not found or (row["state"], row["reason"]) == ("Loading", "Downloading"), row
    return int(found.group(1)) if found else None


def test_progress_and_the_version_that_all_get(world, web):
    with world.room(2, sidecar_pods=True) as room, sidecars(room):
        web.wire.quarter.clear()
        web.wire.go.clear()
        room.apply("sql", f"{web.url}/sql", replicas=1)
        first = until(lambda: told(room), "the status says how far it is")
        web.wire.quarter.set()
        until(lambda: (told(room) or 0) > first, "... and that it goes on")
        assert room.condition("sql")["reason"] == "Loading" and "downloading" in room.kubectl("get", "modeladapter", "sql", "-o", "yaml")
        web.wire.go.set()
        room.wait("sql")
        until(lambda: room.api.get("modeladapters", "sql")["status"].get("version"), "the status says which version it is")
        version = room.api.get("modeladapters", "sql")["status"]["version"]
        world.restart_controller()
        before = dict(web.files)
        web.files = {f"/sql/{name}": content for name, content in make_adapter(width=1024).items()}
        room.api.patch("modeladapters", "sql", {"spec": {"replicas": 2}})
        until(lambda: "ArtifactChanged" in {row["reason"] for row in room.loads("sql").values()}, "the other pod gets nothing else")
        assert room.api.get("modeladapters", "sql")["status"]["version"] == version
        web.files = before
        room.api.patch("modeladapters", "sql", {"spec": {"drainSeconds": 2}})
        room.wait("sql", "FullyLoaded")
        web.files = {f"/sql/{name}": content for name, content in make_adapter(width=1024).items()}
        room.api.patch("modeladapters", "sql", {"spec": {"artifactURL": f"{web.url}/sql/"}})
        until(lambda: room.api.get("modeladapters", "sql")["status"].get("version") not in ("", version), "another revision, another version")
        room.wait("sql", "FullyLoaded", timeout=60)


def test_a_secret_that_was_corrected_is_used_at_the_next_try(world, web):
    web.key = "Bearer right-token"
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "web"}, "stringData": {"token": "wrong-token"}}
    with world.room(1, sidecar_pods=True) as room, sidecars(room):
        room.api.create("secrets", secret)
        room.apply("sql", f"{web.url}/sql", credentialsSecretRef={"name": "web"})
        until(lambda: web.gets("adapter_config.json"), "it is refused")
        room.api.patch("secrets", "web", {"stringData": {"token": "right-token"}})
        room.wait("sql")
        assert web.gets("adapter_config.json") == ["bytes=0-0", None], "the first try tries in two ways, the second has it"


def test_a_server_that_does_not_answer_is_named(world, web):
    """Though it is a value of the configuration, of which others are secret."""
    with world.room(1, sidecar_pods=True) as room, sidecars(room):
        closed = "http://127.0.0.1:1"
        room.apply("sql", "hf://org/sql", additionalConfig={"hf_endpoint": closed, "hf_token": "the-token"})
        row = until(lambda: (row := room.loads("sql").get("pod-0", {})).get("state") == "Failed" and row, "it fails")
        assert row["reason"] == "ArtifactUnavailable" and f"hf://org/sql: GET {closed}/api" in row["message"], row
        assert "the-token" not in str(row)


def test_what_a_source_says_is_the_reason(world, web):
    with world.room(1, sidecar_pods=True) as room, sidecars(room):
        room.apply("sql", f"{web.url}/other")
        row = until(lambda: (row := room.loads("sql").get("pod-0", {})).get("state") == "Failed" and row, "it fails")
        assert row["reason"] == "ArtifactNotFound" and "/other" in row["message"], row
