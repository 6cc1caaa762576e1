"""What docs/compatibility.md promises, where no other test shows it: fake engines, an API server and the controller."""

import base64
import signal
import time

import pytest
from fake_world import BASE, FakeWorld
from roles import Controller
from world import SLOW, until


@pytest.fixture(scope="module")
def world(tmp_path_factory, api_server):
    world = FakeWorld(tmp_path_factory.mktemp("compatibility"), api_server)
    yield world
    world.close()


def names(room, adapter):
    """Pods that hold it, by what the status says."""
    return set((room.api.get("modeladapters", adapter).get("status") or {}).get("instances") or [])


# The forms that AIBrix documents, each with what it is to come to. Pods have no label adapter.model.aibrix.ai/enabled.
FORMS = {
    "every-pod": ({"schedulerName": "default"}, 2),
    "one-pod": ({"replicas": 1}, 1),
    "a-scheduler-that-is-no-policy": ({"schedulerName": "least-adapters", "replicas": 1}, 1),
    "a-key-in-the-object": ({"additionalConfig": {"api-key": "test-key"}}, 2),
    "a-base-model-with-a-slash": ({"baseModel": "org/base"}, 2),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_the_reference_reach_running(world, form):
    spec, pods = FORMS[form]
    with world.room(2) as room:
        room.api.create("modeladapters", {
            "apiVersion": "model.aibrix.ai/v1alpha1", "kind": "ModelAdapter",
            "metadata": {"name": "qwen-code-lora", "labels": {"model.aibrix.ai/name": "qwen-code-lora", "model.aibrix.ai/port": "8000"}},
            "spec": {"baseModel": BASE, "podSelector": {"matchLabels": {"model.aibrix.ai/name": BASE}},
                     "artifactURL": "huggingface://org/adapter", **spec}})
        room.wait("qwen-code-lora")
        until(lambda: len(names(room, "qwen-code-lora")) == pods, f"{pods} instances")
        status = room.api.get("modeladapters", "qwen-code-lora")["status"]
        assert status["phase"] == "Running" and status["desiredReplicas"] == pods and status["candidates"] == 2
        assert status["readyReplicas"] == pods and status["observedGeneration"] >= 1
        service = room.api.get("services", "qwen-code-lora")
        assert service["spec"]["clusterIP"] == "None" and service["spec"]["ports"][0]["port"] == 8000
        label = service["metadata"]["labels"].get("model.aibrix.ai/name")
        assert label == (None if "/" in spec.get("baseModel", "") else BASE)
        assert room.api.get("modeladapters", "qwen-code-lora")["metadata"]["finalizers"] == ["adapter.model.aibrix.ai/finalizer"]


def test_match_expressions_are_honoured(world):
    with world.room(3) as room:
        for name, size in (("pod-0", "small"), ("pod-1", "large")):
            room.api.patch("pods", name, {"metadata": {"labels": {"size": size}}})
        room.apply("a", podSelector={"matchLabels": {"model.aibrix.ai/name": BASE},
                                     "matchExpressions": [{"key": "size", "operator": "NotIn", "values": ["small"]},
                                                          {"key": "size", "operator": "Exists"}]})
        room.wait("a", "FullyLoaded")
        polls = room.polls()[room.pods["pod-1"]]
        until(lambda: room.polls()[room.pods["pod-1"]] >= polls + 3, "it is asked some more times")
        assert names(room, "a") == {"pod-1"}
        assert not room.fakes.adapters(room.pods["pod-0"]) and not room.fakes.adapters(room.pods["pod-2"])


def test_a_policy_as_scheduler_name_is_honoured(world):
    with world.room(2) as room:
        room.apply("a", replicas=1)
        room.wait("a")
        room.apply("packed", replicas=1, schedulerName="binPack")
        room.wait("packed")
        room.apply("apart", replicas=1, schedulerName="default", placement={"policy": "leastAdapters"})
        room.wait("apart")
        assert names(room, "packed") == names(room, "a")
        assert names(room, "apart") == set(room.pods) - names(room, "a")


def test_heartbeats_of_pods_cost_nothing(world):
    with world.room(2) as room:
        for name in ("a", "b", "c"):
            room.apply(name)
        for name in ("a", "b", "c"):
            room.wait(name, "FullyLoaded")
        until(lambda: len(room.fakes.events("generate")) == 6, "every adapter is proved on every pod")
        room.settle()
        before, written = room.fakes.counts()["requests"], world.controller.metrics()
        for second in range(50):
            for name in room.pods:
                room.api.patch("pods", name, {"metadata": {"annotations": {"heartbeat": str(second)}}})
        room.settle()
        requests = room.fakes.counts()["requests"]
        assert {call for call in requests if requests[call] != before[call]} == {"list"}
        after = world.controller.metrics()
        assert {name: value for name, value in after.items() if "writes_total" in name and value != written.get(name)} == {}


def test_other_writers_lose_nothing(world):
    """The controller patches what is its own while somebody else changes labels all the time."""
    with world.room(2) as room:
        room.apply("a")
        for i in range(60):
            room.api.patch("modeladapters", "a", {"metadata": {"labels": {f"label-{i}": "x"}, "finalizers": None} if i == 0 else
                                                  {"labels": {f"label-{i}": "x"}}})
        room.wait("a", "FullyLoaded")
        found = room.api.get("modeladapters", "a")["metadata"]
        assert {f"label-{i}" for i in range(60)} <= set(found["labels"])
        assert found["finalizers"] == ["adapter.model.aibrix.ai/finalizer"]


def test_the_engines_key_from_a_secret(world):
    with world.room(1, settings={"api_key": "right-one"}) as room:
        room.apply("a", apiKeySecretRef={"name": "engine"})
        ready = until(lambda: "nauthorized" in room.condition("a").get("message", "") and room.condition("a"), "the refusal is told")
        assert ready["status"] == "False"
        room.api.create("secrets", {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "engine"},
                                    "data": {"api-key": base64.b64encode(b"right-one").decode()}})
        room.wait("a", timeout=60)
        assert "right-one" not in str(room.api.get("modeladapters", "a")) + world.controller.text()


def test_credentials_that_nobody_takes_are_told(world):
    with world.room(1) as room:
        room.apply("a", credentialsSecretRef={"name": "hub"})
        room.wait("a")
        told = until(lambda: [event for event in room.api.list("events")["items"] if event["reason"] == "CredentialsUnused"], "it is told")
        assert told[0]["type"] == "Warning" and "sidecar" in told[0]["message"]


def test_what_happened_is_counted_and_told(world):
    with world.room(1) as room:
        before = world.controller.metrics()
        room.apply("a")
        room.wait("a")
        room.fakes.fault(load={"status": 400, "message": "no"})
        room.apply("b")
        until(lambda: "no" in room.condition("b").get("message", ""), "the refusal is told")
        grown = {name.partition("{")[0] for name, value in world.controller.metrics().items() if value > before.get(name, 0)}
        assert {f"davit_controller_{name}" for name in ("loads_total", "load_failures_total", "load_seconds_count",
                                                        "proof_requests_total")} <= grown
        reasons = {event["reason"] for event in room.api.list("events")["items"]}
        assert len(reasons) >= 2, reasons


def test_a_hanging_engine_does_not_hold_up_the_end(tmp_path, world):
    folder = tmp_path / "own"
    folder.mkdir()
    room = world.room(1)
    controller = Controller(folder, world.api_server.kubeconfig, "--namespace", room.namespace, "--poll-period", "0.3")
    try:
        room.fakes.hang(*room.pods.values())
        room.apply("a")
        until(lambda: room.fakes.counts()["requests"]["list"] > 0, "the engine is asked")
        began = time.monotonic()
        assert controller.stop(signal.SIGTERM) == 0
        assert time.monotonic() - began < 5 * SLOW
    finally:
        controller.stop()
        room.fakes.hang(*room.pods.values(), hang=False)
        room.__exit__()
