"""davit up, status and down."""

import json
import os
import signal
import socket
import stat
import subprocess

import pytest
from world import SLOW, World, http, processes_of, until

DEPLOYMENT = {
    "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "idle"},
    "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "idle"}}, "template": {
        "metadata": {"labels": {"app": "idle"}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "main", "image": "none", "command": ["sleep", "1000"]}]}}},
}


def test_up_twice_status_and_down(tmp_path):
    world = World(tmp_path / "state")
    world.up()
    try:
        again = world.run("up", "--detach", "--dir", str(world.dir), "--port", "0")
        assert "already" in again.stdout + again.stderr
        assert world.run("status", "--dir", str(world.dir)).returncode == 0
        assert stat.S_IMODE((world.dir / "kubeconfig").stat().st_mode) == 0o600
        assert http("GET", f"{world.gateway}/healthz")[0] == 200
        status, answer = http("POST", f"{world.gateway}/v1/chat/completions", {"model": "ghost", "messages": []})
        assert status == 400 and "ghost" in answer["error"]["message"]
        world.kubectl("create", "configmap", "kept", "--from-literal=a=b", "--dry-run=client", "-o", "yaml")
        assert world.kubectl("get", "namespaces").returncode == 0
    finally:
        world.down()
    assert processes_of(world.dir) == {}
    assert world.run("status", "--dir", str(world.dir), check=False).returncode != 0
    world.down()  # again: nothing to do


def test_objects_survive_a_restart(tmp_path):
    world = World(tmp_path / "state")
    world.up()
    try:
        world.apply_adapter("kept", "/somewhere/adapter")
        uid = world.get("modeladapter", "kept")["metadata"]["uid"]
    finally:
        world.down()
    world.up()
    try:
        assert world.get("modeladapter", "kept")["metadata"]["uid"] == uid
        condition = until(lambda: next((c for c in world.get("modeladapter", "kept")["status"]["conditions"] if c["type"] == "Ready"), None),
                          "Ready is set")
        assert condition["status"] == "False" and condition["message"]
    finally:
        world.down()


@pytest.mark.parametrize("option, what", [("--port", "the gateway (--port)"), ("--api-port", "the API server (--api-port)")])
def test_a_port_that_is_taken(tmp_path, option, what):
    world = World(tmp_path / "state")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = {"--port": "0", option: str(port)}
        refused = world.run("up", "--detach", "--dir", str(world.dir), *[word for pair in ports.items() for word in pair], check=False)
    assert refused.returncode == 1 and f"{what} cannot have port {port} of 127.0.0.1 (Address already in use)" in refused.stderr + refused.stdout
    assert processes_of(world.dir) == {}
    world.down()


def kill_supervisor(world):
    """kill -9 of davit up; returns what davit status says then."""
    os.kill(json.loads((world.dir / "davit.json").read_text())["pid"], signal.SIGKILL)

    def gone():
        told = world.run("status", "--dir", str(world.dir), check=False)
        return told if told.returncode == 1 else None

    return until(gone, "it is dead").stdout


def test_a_killed_supervisor(tmp_path):
    """The second davit up takes over pods that run on; davit down finds all that was left."""
    world = World(tmp_path / "state")
    world.up()
    try:
        world.apply(json.dumps(DEPLOYMENT))
        world.kubectl("rollout", "status", "deployment/idle", f"--timeout={30 * SLOW}s")
        sleeping = {pid for pid, command in processes_of(world.dir).items() if command.startswith("sleep")}
        assert len(sleeping) == 2
        assert "takes over" in kill_supervisor(world)
        world.run("up", "--detach", "--dir", str(world.dir), "--port", "0")
        until(lambda: len([pod for pod in world.get("pods") if pod["status"].get("phase") == "Running"]) == 2, "the pods are there")
        assert {pid for pid, command in processes_of(world.dir).items() if command.startswith("sleep")} == sleeping
        assert all(pod["status"]["containerStatuses"][0]["restartCount"] == 0 for pod in world.get("pods"))
        kill_supervisor(world)
    finally:
        down = world.run("down", "--dir", str(world.dir))
    assert "what it left running is stopped" in down.stdout and processes_of(world.dir) == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a small file system, which only root may")
def test_a_full_disk_at_the_start(tmp_path):
    """In a mount namespace of its own: up says why, down has nothing to complain of."""
    world = World(tmp_path / "state")
    script = f"""mount -t tmpfs -o size=64k tmpfs {tmp_path} && {{ {world.davit} up --detach --dir {world.dir} --port 0; echo up $?
        {world.davit} down --dir {world.dir}; echo down $?; }} 2>&1"""
    output = subprocess.run(["unshare", "--mount", "sh", "-c", script], text=True, capture_output=True, timeout=60 * SLOW).stdout
    assert "up 1\n" in output and "store.db: store: making the tables: database or disk is full" in output, output
    assert "CREATE TABLE" not in output and "down 0\n" in output, output
    assert "was not running" in output or "stopped; the objects are kept" in output, output  # the supervisor may still be at its end
    assert processes_of(world.dir) == {}
