"""Names on engines that differ with the revision (--engine-names=versioned): the real controller and gateway, with vLLM's fakes."""

import json

import pytest
from fake_world import FakeWorld
from roles import Gateway
from world import Steady, http, until

ENGINE_NAMES = "adapter.model.aibrix.ai/engine-names"
VERSIONED, PLAIN = "--engine-names=versioned", "--engine-names=plain"


@pytest.fixture(scope="module")
def world(tmp_path_factory, api_server):
    world = FakeWorld(tmp_path_factory.mktemp("names"), api_server, VERSIONED)
    yield world
    world.close()


@pytest.fixture(params=[False, True], ids=["direct", "sidecar"])
def room(world, tmp_path, request):
    """Two pods, and a gateway that knows them alone."""
    world.restart_controller(VERSIONED)
    with world.room(2, sidecar=request.param) as room:
        room.gateway = Gateway(tmp_path, world.api_server.kubeconfig, "--namespace", room.namespace)
        yield room
        room.gateway.check()


def revision_of(room):
    return (room.api.get("modeladapters", "sql").get("status") or {}).get("revision", "")


def name_of(room):
    """What engines are to call the revision."""
    return f"sql_{revision_of(room)[8:16]}"


def held(room):
    """Pod -> the names that its engine lists."""
    return {pod: set(room.fakes.adapters(address)) for pod, address in room.pods.items()}


def annotation(room):
    slice_ = room.api.get("endpointslices", "sql") or {}
    return json.loads((slice_.get("metadata", {}).get("annotations") or {}).get(ENGINE_NAMES, "{}"))


def everywhere(room, name):
    return dict.fromkeys(room.pods, name)


def wait_for_name(room, name, timeout=60):
    """Every engine has it under this name alone, and the slice and the status say so."""
    is_own = name == "sql"
    until(lambda: held(room) == everywhere(room, {name}) and room.published("sql") == set(room.pods.values())
          and annotation(room) == ({} if is_own else everywhere(room, name)), f"all engines have it as {name}", timeout)
    room.wait("sql", "FullyLoaded")
    until(lambda: {pod: row.get("engineName") for pod, row in room.loads("sql").items()} == everywhere(room, None if is_own else name),
          "the status says what engines call it")


def start(room):
    room.apply("sql", "/adapters/one")
    room.wait("sql", "FullyLoaded")
    until(lambda: room.gateway.ask("sql") == (200, "sql"), "the gateway asks an engine for it")


def change(room, path):
    """Returns the name of the new weights once the controller has seen them."""
    before = revision_of(room)
    room.api.patch("modeladapters", "sql", {"spec": {"artifactURL": path}})
    until(lambda: revision_of(room) not in ("", before), "the new revision is seen")
    return name_of(room)


def asked(room):
    """(name, status) of what engines were asked for."""
    return {(event["name"], event["status"]) for event in room.fakes.events("generate")}


def assert_served(clients):
    """All the while, and under the public name."""
    others = [answer for answer in clients.answers["sql"] if answer != (200, "sql")]
    assert not others, f"{len(others)} of {len(clients.answers['sql'])}: {others[:3]}"


def most_at_once(room):
    """Of names of the adapter that an engine had."""
    most = 0
    for address in room.pods.values():
        names = set()
        for event in sorted(room.fakes.events(address=address), key=lambda event: event["ended"]):
            if event["call"] in ("load", "unload") and event["status"] == 200:
                (names.add if event["call"] == "load" else names.discard)(event["name"])
                most = max(most, len(names))
    return most


def test_new_weights_come_under_another_name(room):
    start(room)
    first = name_of(room)
    wait_for_name(room, first)
    with Steady(room.gateway.ask, ["sql"]) as clients:
        second = change(room, "/adapters/two")
        wait_for_name(room, second)
        clients.settle(20)
        assert change(room, "/adapters/one") == first, "it depends on the revision alone"
        wait_for_name(room, first)
        clients.settle(20)
    assert_served(clients)
    assert asked(room) == {(first, 200), (second, 200)} and most_at_once(room) == 1
    assert room.condition("sql", "WeightsMayBeStale") == {}
    status, models = http("GET", f"{room.gateway.url}/v1/models")
    assert status == 200 and {model["id"] for model in models["data"]} == {"base", "sql"}


def test_a_controller_that_dies_in_the_middle_of_a_roll(room):
    start(room)
    with Steady(room.gateway.ask, ["sql"]) as clients:
        room.fakes.fault(load={"delay_ms": 1000})
        second = change(room, "/adapters/two")
        until(lambda: room.fakes.events("unload"), "the first pod gives up the old weights")
        room.world.restart_controller(is_killed=True)
        room.fakes.fault(load=None)
        wait_for_name(room, second)
        clients.settle(20)
    assert_served(clients)
    assert {status for _, status in asked(room)} == {200} and most_at_once(room) == 1


def test_a_restart_changes_nothing(room):
    start(room)
    wait_for_name(room, name_of(room))
    room.settle()
    before, written = len(room.fakes.events("load")), room.written()
    room.world.restart_controller(is_killed=True)
    room.settle(6)
    assert len(room.fakes.events("load")) == before and not room.fakes.events("unload") and room.written() == written
    wait_for_name(room, name_of(room))


def test_the_flag_is_switched(room):
    room.world.restart_controller(PLAIN)
    start(room)
    wait_for_name(room, "sql")
    with Steady(room.gateway.ask, ["sql"]) as clients:
        room.world.restart_controller(VERSIONED)
        wait_for_name(room, name_of(room))
        clients.settle(20)
        room.world.restart_controller(PLAIN)
        wait_for_name(room, "sql")
        clients.settle(20)
    assert_served(clients)
    assert asked(room) == {("sql", 200), (name_of(room), 200)} and most_at_once(room) == 1
    assert room.condition("sql", "WeightsMayBeStale")["status"] == "True", "nobody knows what the name had before"


def test_plain_names_may_be_stale(room):
    room.world.restart_controller(PLAIN)
    start(room)
    assert room.condition("sql", "WeightsMayBeStale") == {}
    change(room, "/adapters/two")
    room.wait("sql", "WeightsMayBeStale")
    wait_for_name(room, "sql")


def test_other_names_of_it_are_cleared_away(room):
    """Somebody loads it by hand; what is nobody's revision is left alone."""
    start(room)
    name = name_of(room)
    address = room.pods["pod-0"]
    with Steady(room.gateway.ask, ["sql"]) as clients:
        for other in ("sql", "sql_00000000"):
            status, answer = http("POST", f"http://{address}:8000/v1/load_lora_adapter", {"lora_name": other, "lora_path": "/adapters/one"})
            assert status == 200, answer
        until(lambda: set(room.fakes.adapters(address)) == {name, "sql_00000000"}, "the other name of it is gone")
        clients.settle(20)
    assert_served(clients)
    assert not room.fakes.events("unload", name), "what serves is not disturbed"
    room.api.delete("modeladapters", "sql")
    until(lambda: not room.api.list("modeladapters")["items"], "the adapter is gone")
    assert held(room) == {"pod-0": {"sql_00000000"}, "pod-1": set()}


def test_other_engines_know_it_by_its_own_name(world):
    with world.room(1, kind="sglang") as room:
        room.apply("sql")
        room.wait("sql", "FullyLoaded")
        assert held(room) == {"pod-0": {"sql"}} and annotation(room) == {}
