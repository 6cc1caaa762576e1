"""Engines that hang, lie, forget, refuse or die: what the controller does about it, and what the object says meanwhile."""

import base64
import http.client
import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from fake_world import POLL_SECONDS, SLACK_SECONDS, FakeWorld, condition_of, published_in
from world import SLOW, until

SECONDS = SLACK_SECONDS * SLOW


@pytest.fixture(scope="module")
def world(tmp_path_factory, api_server):
    world = FakeWorld(tmp_path_factory.mktemp("fakes"), api_server)
    yield world
    world.close()


def ask(address, path, body):
    connection = http.client.HTTPConnection(address, 8000, timeout=20)
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    connection.close()


def requests_of(room, address):
    return room.fakes.ask("GET", "engines")["engines"][address]["requests"]


def names_of(events):
    return {event["name"] for event in events}


# ---- engines that are slow or do not answer ----

def test_a_hanging_pod_delays_nobody(world):
    with world.room(3) as room:
        hung, *well = room.pods.values()
        room.fakes.hang(hung)
        began = time.monotonic()
        for i in range(5):
            room.apply(f"a{i}")
        for i in range(5):
            room.wait(f"a{i}")
            until(lambda i=i: room.published(f"a{i}") == set(well), f"a{i} is published on the pods that answer")
        assert time.monotonic() - began < 3 + SECONDS
        assert room.condition("a0", "FullyLoaded")["status"] == "False"
        room.fakes.hang(hung, hang=False)
        for i in range(5):
            room.wait(f"a{i}", "FullyLoaded", timeout=40)
        assert len(room.fakes.adapters(hung)) == 5


def test_loads_run_in_parallel_over_pods_and_within_one(world):
    with world.room(4, settings={"faults": {"load": {"delay_ms": 400}}}) as room:
        began = time.monotonic()
        for i in range(8):
            room.apply(f"a{i}")
        for i in range(8):
            room.wait(f"a{i}", "FullyLoaded")
        took = time.monotonic() - began
        assert took < 8 * 4 * 0.4 / 4, "each pod's loads wait for nobody else's"
        loads = room.fakes.events("load")
        assert len(loads) == 32 and {load["status"] for load in loads} == {200}
        assert 2 <= room.fakes.counts()["loads_running_most"] <= 4, "a few at a time on one pod"


def test_a_pod_that_refuses_connections_is_named(world):
    with world.room(2) as room:
        dead, well = room.pods.values()
        room.fakes.set(dead, dead=True)
        room.apply("a")
        room.wait("a")
        assert room.published("a") == {well}
        row = until(lambda: room.loads("a").get("pod-0"), "the status speaks of the pod")
        assert row["state"] != "Loaded"
        room.fakes.set(dead, dead=False)
        room.wait("a", "FullyLoaded", timeout=40)


# ---- engines that do not do what they say ----

@pytest.mark.parametrize("status", [404, 500])
def test_an_engine_that_lists_and_does_not_answer_is_never_ready(world, status):
    with world.room(1) as room:
        room.fakes.fault(generate={"status": status})
        room.apply("a")
        until(lambda: room.fakes.events("generate", "a"), "the adapter is asked")
        until(lambda: "pod-0" in room.condition("a").get("message", ""), "the condition names the pod")
        room.settle()
        assert room.condition("a")["status"] == "False" and str(status) in room.condition("a")["message"]
        assert "a" in room.fakes.adapters(room.pods["pod-0"]), "it is listed all the while"
        assert not room.published("a")
        room.fakes.fault(generate=None)
        room.wait("a", timeout=40)
        assert room.published("a") == set(room.pods.values())


def test_an_adapter_without_effect_is_said_to_have_none(world):
    with world.room(1, settings={"no_effect": True}) as room:
        room.apply("a")
        room.wait("a", "NoEffect")
        until(lambda: room.events_of("a", "NoEffect"), "an event says so, too")
    with world.room(1, settings={"no_logprobs": True}) as room:
        room.apply("a")
        room.wait("a")
        assert room.condition("a", "NoEffect").get("status") != "True", "an engine without logprobs says nothing about it"


def test_an_engine_that_forgets_is_seen_within_a_poll_and_repaired(world):
    with world.room(2) as room:
        forgetful, faithful = room.pods.values()
        for name in ("a", "b"):
            room.apply(name)
        for name in ("a", "b"):
            room.wait(name, "FullyLoaded")
        room.fakes.fault(forgetful, load={"delay_ms": 1500})
        with room.api.watch("modeladapters") as adapters, room.api.watch("endpointslices") as slices:
            room.fakes.order("forget", [forgetful], names=["a"])
            forgot = time.monotonic()
            seen, *_ = adapters.first(lambda adapter: adapter["metadata"]["name"] == "a" and
                                      condition_of(adapter, "FullyLoaded").get("status") == "False", "the status says so")
            out, *_ = slices.first(lambda found: found["metadata"]["name"] == "a" and published_in(found) == {faithful},
                                   "the endpoint is taken out")
            back, *_ = adapters.first(lambda adapter: adapter["metadata"]["name"] == "a" and
                                      condition_of(adapter, "FullyLoaded").get("status") == "True", "it is repaired", after=seen)
        assert max(seen, out) - forgot < POLL_SECONDS + SECONDS
        assert back - seen > 1.0, "false for as long as the load took"
        assert names_of(room.fakes.events("load", address=forgetful)[2:]) == {"a"}, "b was not touched"


def test_an_engine_that_forgets_everything_is_not_ready_meanwhile(world):
    with world.room(1) as room:
        address = room.pods["pod-0"]
        room.apply("a")
        room.wait("a")
        room.fakes.fault(load={"delay_ms": 1500})
        with room.api.watch("modeladapters") as adapters:
            forgot = time.monotonic()
            room.fakes.order("forget", [address])
            seen, *_ = adapters.first(lambda adapter: condition_of(adapter).get("status") == "False", "Ready is False")
            adapters.first(lambda adapter: condition_of(adapter).get("status") == "True", "Ready again", after=seen)
        assert seen - forgot < POLL_SECONDS + SECONDS


def test_a_restarted_engine_gets_its_adapters_and_is_asked_again(world):
    with world.room(1) as room:
        address = room.pods["pod-0"]
        for name in ("a", "b"):
            room.apply(name)
        for name in ("a", "b"):
            room.wait(name)
        proofs = len(room.fakes.events("generate", "a"))
        room.set_pod("pod-0", address, ready=False, restarts=1)
        room.wait("a", status="False")
        assert not room.published("a")
        room.fakes.order("restart", [address])  # before that a poll may find it empty, and load and prove at once
        ready_again = time.monotonic()
        room.set_pod("pod-0", address, restarts=1)
        for name in ("a", "b"):
            room.wait(name)
        assert time.monotonic() - ready_again < SECONDS, "its adapters are back in under 2 s"
        assert len(room.fakes.events("generate", "a")) == proofs + 1


# ---- engines that refuse ----

def test_a_name_with_another_root_is_a_conflict_and_left_alone(world):
    with world.room(1) as room:
        address = room.pods["pod-0"]
        ask(address, "/v1/load_lora_adapter", {"lora_name": "a", "lora_path": "/somebody/else"})
        room.apply("a")
        ready = until(lambda: "/somebody/else" in room.condition("a").get("message", "") and room.condition("a"), "the root is named")
        assert ready["status"] == "False"
        room.settle()
        assert room.fakes.adapters(address) == {"a": "/somebody/else"} and not room.published("a")
        assert not room.fakes.events("unload") and not room.fakes.events("generate")
        ask(address, "/v1/unload_lora_adapter", {"lora_name": "a"})
        room.wait("a")
        assert room.fakes.adapters(address) == {"a": "/adapters/a"}


def test_a_name_of_a_base_model_is_a_conflict(world):
    with world.room(1) as room:
        room.apply("base")
        ready = until(lambda: "base model" in room.condition("base").get("message", "") and room.condition("base"), "the cause is named")
        assert ready["status"] == "False"
        room.settle()
        assert not room.published("base") and not room.fakes.adapters(room.pods["pod-0"])


def test_an_engine_that_is_full_is_busy_and_used_when_there_is_room(world):
    with world.room(1, settings={"max_cpu_loras": 2}) as room:
        for name in ("a", "b"):
            room.apply(name)
            room.wait(name)
        room.apply("c")
        ready = until(lambda: "limit" in room.condition("c").get("message", "") and room.condition("c"), "the limit is named")
        assert ready["status"] == "False"
        assert room.api.get("modeladapters", "c")["status"]["phase"] != "Failed", "full is not broken"
        room.api.delete("modeladapters", "a")
        room.wait("c", timeout=60)
        assert set(room.fakes.adapters(room.pods["pod-0"])) == {"b", "c"}


def test_a_missing_key_is_named_and_a_right_one_wakes_the_adapter(world):
    with world.room(1, settings={"api_key": "right"}) as room:
        room.apply("a", additionalConfig={"api-key": "wrong"})
        ready = until(lambda: "nauthorized" in json.dumps(room.condition("a")) and room.condition("a"), "the refusal is named")
        assert ready["status"] == "False" and "wrong" not in ready["message"]
        room.api.patch("modeladapters", "a", {"spec": {"additionalConfig": {"api-key": "right"}}})
        room.wait("a", timeout=15)


def test_a_load_that_was_cut_is_found_in_the_list(world):
    with world.room(1) as room:
        room.fakes.fault(load={"close": True})
        room.apply("a")
        room.wait("a")
        assert len(room.fakes.events("load", "a")) <= 2, "libcurl itself asks once more when a kept connection ends without a byte"


@pytest.mark.parametrize("status", [400, 409, 422, 500])
def test_what_an_engine_refuses_is_said_in_its_own_words(world, status):
    with world.room(1) as room:
        room.fakes.fault(load={"status": status, "message": "LoRA rank 64 is greater than max_lora_rank 16."})
        room.apply("a")
        until(lambda: "rank 64 is greater" in room.condition("a").get("message", ""), "the engine's words are in the condition")
        assert room.condition("a")["status"] == "False"
        loads = len(room.fakes.events("load"))
        room.settle(5)
        assert len(room.fakes.events("load")) == loads, "a permanent failure is not repeated at once"
        room.fakes.fault(load=None)
        room.api.patch("modeladapters", "a", {"spec": {"artifactURL": "/adapters/other"}})
        room.wait("a")


def test_a_pod_that_fails_gives_up_its_place_and_it_is_told(world):
    with world.room(2) as room:
        room.apply("everywhere")
        room.wait("everywhere", "FullyLoaded")
        well, ill = room.pods
        room.fakes.fault(room.pods[ill], load={"status": 500, "message": "out of memory"})
        names = [f"a{i}" for i in range(4)]  # of which some are meant for the pod that fails
        for name in names:
            room.apply(name, replicas=1, placement={"policy": "leastAdapters"})
        for name in names:
            room.wait(name)
            assert room.published(name) == {room.pods[well]}
        tried = {load["name"] for load in room.fakes.events("load", address=room.pods[ill])} - {"everywhere"}
        assert tried
        for name in tried:
            told = until(lambda name=name: room.events_of(name, "LoadMoved"), "an event says what happened")
            assert [(event["type"], event["message"]) for event in told] == [
                ("Warning", f"loading fails (pod {ill}: EngineError: out of memory); tried instead: {well}")]


# ---- the end ----

def test_an_adapter_that_goes_with_its_secret_is_unloaded_with_the_key(world):
    with world.room(1, settings={"api_key": "right-one"}) as room:
        address = room.pods["pod-0"]
        room.api.create("secrets", {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "engine"},
                                    "data": {"api-key": base64.b64encode(b"right-one").decode()}})
        room.apply("a", apiKeySecretRef={"name": "engine"})
        room.wait("a")
        room.api.delete("secrets", "engine")
        # The engine refuses for a while: the key is looked for again, the Secret is found to be gone, and the engine asked without one.
        room.fakes.fault(list={"status": 401})
        keyless = "other"  # as the fake counts what it refuses at the door
        until(lambda: room.fakes.ask("GET", "engines")["engines"][address]["refused"][keyless] > 1, "nobody has the key any more")
        room.fakes.fault(list=None)
        room.api.delete("modeladapters", "a")
        until(lambda: not room.api.list("modeladapters")["items"], "the adapter is gone", timeout=15)
        assert not room.fakes.adapters(address), "it was unloaded, with the key that is nowhere any more"
        assert not room.events_of("a", "UnloadGivenUp")


def test_a_secret_that_went_first_does_not_keep_the_adapter(world):
    with world.room(1) as room:
        room.api.create("secrets", {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "engine"},
                                    "data": {"api-key": base64.b64encode(b"any").decode()}})
        room.apply("a", apiKeySecretRef={"name": "engine"})
        room.wait("a")
        room.api.delete("secrets", "engine")
        world.restart_controller()  # which never read it
        room.api.delete("modeladapters", "a")
        until(lambda: not room.api.list("modeladapters")["items"], "the adapter is gone", timeout=15)
        assert not room.fakes.adapters(room.pods["pod-0"]), "it was unloaded without a key, which this engine does not ask for"


def test_what_was_being_loaded_as_the_controller_was_killed_is_not_left(world):
    with world.room(1) as room:
        address = room.pods["pod-0"]
        room.fakes.fault(load={"delay_ms": 3000})
        room.apply("a")
        until(lambda: requests_of(room, address)["load"] == 1, "the load is under way")
        world.controller.stop(signal.SIGKILL)
        room.api.delete("modeladapters", "a")
        world.start_another_controller()
        until(lambda: room.fakes.events("load", "a"), "the engine has done it all the same")
        until(lambda: room.api.get("modeladapters", "a") is None, "the object is gone", timeout=30)
        assert not room.fakes.adapters(address)


def test_the_endpoint_is_out_before_the_adapter_is_unloaded(world):
    with world.room(2) as room:
        room.apply("a")
        room.wait("a", "FullyLoaded")
        with room.api.watch("endpointslices") as slices:
            room.api.delete("modeladapters", "a")
            out, *_ = slices.first(lambda found: not published_in(found), "the endpoints are out")
            unloads = until(lambda: len(found := room.fakes.events("unload", "a")) == 2 and found, "both pods unload it")
        until(lambda: room.api.get("modeladapters", "a") is None, "the object is gone")
        assert all(unload["began"] - out > 0.9 for unload in unloads), "at least a second for what still comes"
        assert not any(room.fakes.adapters(address) for address in room.pods.values())


def test_a_drain_ends_when_the_engine_has_no_request_left(world):
    with world.room(2) as room:
        busy, idle = room.pods.values()
        room.apply("a", drainSeconds=30)
        room.wait("a", "FullyLoaded")
        room.fakes.fault(busy, generate={"hang": True})
        with ThreadPoolExecutor(1) as pool, room.api.watch("endpointslices") as slices:
            running = pool.submit(ask, busy, "/v1/completions", {"model": "a", "prompt": "p", "max_tokens": 1})
            until(lambda: requests_of(room, busy)["generate"] >= 2, "the request arrived, after the proof")
            room.api.delete("modeladapters", "a")
            out, *_ = slices.first(lambda found: not published_in(found), "the endpoints are out")
            unload, = until(lambda: room.fakes.events("unload", "a", idle), "the pod without requests unloads it")
            assert 0.9 < unload["began"] - out < 2 + SECONDS
            looks = requests_of(room, busy)["other"]
            until(lambda: requests_of(room, busy)["other"] >= looks + 3, "the gauge of the other is read again and again")
            assert not room.fakes.events("unload", "a", busy) and not running.done()
            room.fakes.fault(busy, generate=None)
            running.result()
            ended = time.monotonic()
            unload, = until(lambda: room.fakes.events("unload", "a", busy), "the other pod unloads it when its request has ended")
            assert unload["began"] - ended < 2 + SECONDS
        until(lambda: room.api.get("modeladapters", "a") is None, "the object is gone")


def test_a_dead_pod_holds_a_deletion_up_for_a_bounded_time(world):
    with world.room(2) as room:
        dead, well = room.pods.values()
        room.apply("a")
        room.wait("a", "FullyLoaded")
        room.fakes.set(dead, dead=True)
        room.api.delete("modeladapters", "a")
        until(lambda: room.fakes.events("unload", "a", well), "the other pod unloads it")
        until(lambda: room.api.get("modeladapters", "a") is None, "the object is gone", 45)
        given_up = until(lambda: room.events_of("a", "UnloadGivenUp"), "it is told what may be left")
        assert given_up[0]["type"] == "Warning" and "pod-0" in given_up[0]["message"] and "pod-1" not in given_up[0]["message"]


def test_what_lies_on_other_pods_is_unloaded_too(world):
    """Loaded by whom ever, under our name and from our place: no status says so."""
    with world.room(3) as room:
        for address in room.pods.values():
            ask(address, "/v1/load_lora_adapter", {"lora_name": "a", "lora_path": "/adapters/a"})
        room.apply("a", replicas=1)
        room.wait("a", "FullyLoaded")
        until(lambda: sum("a" in room.fakes.adapters(address) for address in room.pods.values()) == 1, "one pod keeps it")
        assert not room.fakes.events("load", "a")[3:], "which had it already"
        room.api.delete("modeladapters", "a")
        until(lambda: room.api.get("modeladapters", "a") is None, "the object is gone")
        assert not any(room.fakes.adapters(address) for address in room.pods.values())


def test_a_deleted_pod_leaves_the_slice_at_once(world):
    with world.room(2) as room:
        gone, stays = room.pods.values()
        room.apply("a")
        room.wait("a", "FullyLoaded")
        with room.api.watch("endpointslices") as slices:
            deleted = time.monotonic()
            room.api.delete("pods", "pod-0")
            out, *_ = slices.first(lambda found: published_in(found) == {stays}, "its endpoint is out")
        assert out - deleted < SECONDS


def test_a_pod_that_is_being_evicted_leaves_the_slice_at_once(world):
    """It is Ready, and goes on answering, until its grace period is over."""
    with world.room(2) as room:
        room.apply("a", replicas=1)
        room.wait("a", "FullyLoaded")
        name, = (pod for pod, address in room.pods.items() if {address} == room.published("a"))
        other, = set(room.pods.values()) - room.published("a")
        room.api.patch("pods", name, {"metadata": {"finalizers": ["example.com/grace"]}})
        with room.api.watch("endpointslices") as slices:
            evicted = time.monotonic()
            room.api.delete("pods", name)
            out, *_ = slices.first(lambda found: room.pods[name] not in published_in(found), "its endpoint is out")
            slices.first(lambda found: published_in(found) == {other}, "another pod has its place")
        assert out - evicted < SECONDS
        assert room.api.get("pods", name), "it is there all the while"
        room.api.patch("pods", name, {"metadata": {"finalizers": None}})


def test_a_pod_that_loses_the_label_is_let_go(world):
    with world.room(2) as room:
        loses, stays = room.pods.values()
        room.apply("a")
        room.wait("a", "FullyLoaded")
        with room.api.watch("endpointslices") as slices:
            room.api.patch("pods", "pod-0", {"metadata": {"labels": {"model.aibrix.ai/name": "another"}}})
            out, *_ = slices.first(lambda found: published_in(found) == {stays}, "its endpoint is out")
            unload, = until(lambda: room.fakes.events("unload", "a"), "it is unloaded there")
        assert unload["address"] == loses and unload["began"] - out > 0.9
        until(lambda: room.api.get("modeladapters", "a")["status"]["desiredReplicas"] == 1, "one pod is wanted now")
        assert room.condition("a")["status"] == "True"


# ---- other dialects ----

def test_sglang_is_spoken(world):
    with world.room(1, kind="sglang") as room:
        room.apply("a")
        room.wait("a")
        assert room.condition("a", "NoEffect").get("status") != "True", "asked as base:adapter, not as the base"
        room.fakes.fault(load={"status": 400, "message": "something that passes"})
        room.apply("b")
        until(lambda: len(room.fakes.events("load", "b")) >= 2, "a refusal with 400 is tried again")
        room.fakes.fault(load=None)
        room.wait("b", timeout=40)
        room.api.delete("modeladapters", "a")
        until(lambda: room.api.get("modeladapters", "a") is None, "the object is gone")
        assert set(room.fakes.adapters(room.pods["pod-0"])) == {"b"}


def test_the_reference_sidecar_is_spoken(world):
    with world.room(1, sidecar=True) as room:
        room.apply("a", path="huggingface://org/repo", additionalConfig={"api-key": "k"})
        room.wait("a")
        assert room.fakes.counts()["refused"]["load"] == 0, "it is sent no field that it does not know"
        room.apply("b", path="file:///nowhere/b")
        until(lambda: "scheme: file" in room.condition("b").get("message", ""), "the scheme is named")
        assert room.condition("b")["status"] == "False"
        room.api.delete("modeladapters", "a")
        until(lambda: room.api.get("modeladapters", "a") is None, "the object is gone")
        assert not room.fakes.adapters(room.pods["pod-0"])


# ---- at rest ----

def test_at_rest_nothing_is_written_and_nothing_but_lists_is_asked(world):
    with world.room(3) as room:
        for i in range(20):
            room.apply(f"a{i}")
        for i in range(20):
            room.wait(f"a{i}", "FullyLoaded")
        until(lambda: len(room.fakes.events("generate")) == 60, "every adapter is proved on every pod")
        room.settle()
        written, counts, writes = room.written(), room.fakes.counts(), world.controller.metrics()
        room.settle(20)
        assert room.written() == written
        counted = {name: value for name, value in world.controller.metrics().items() if name.startswith("davit_controller_writes_total")}
        assert counted == {name: writes[name] for name in counted}
        requests = room.fakes.counts()["requests"]
        assert {call for call in requests if requests[call] != counts["requests"][call]} == {"list"}
