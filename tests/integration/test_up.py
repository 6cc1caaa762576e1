"""davit up, status and down."""

import stat

from world import World, http, processes_of, until


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
