"""What docs/compatibility.md promises, where no other test shows it: fake engines, an API server and the controller."""

import base64
import signal
import time

import pytest
from fake_world import BASE, POLL_SECONDS, FakeWorld, published_in
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
        before, written, began = room.fakes.counts()["requests"], world.controller.metrics(), time.monotonic()
        for second in range(50):
            for name in room.pods:
                room.api.patch("pods", name, {"metadata": {"annotations": {"heartbeat": str(second)}}})
                room.api.patch("pods", name, {"status": {"conditions": [
                    {"type": "Ready", "status": "True", "lastProbeTime": f"2026-01-01T00:00:{second:02}Z"}]}}, "status")
        room.settle()
        requests, after = room.fakes.counts()["requests"], world.controller.metrics()
        assert {call for call in requests if requests[call] != before[call]} == {"list"}
        polls = len(room.pods) * ((time.monotonic() - began) / POLL_SECONDS + 1)
        assert requests["list"] - before["list"] <= polls, "and of those no more than a period has"
        assert {name: value for name, value in after.items() if "writes_total" in name and value != written.get(name)} == {}
        plans = after["davit_controller_reconciles_total"] - written["davit_controller_reconciles_total"]
        assert plans < 50, f"{plans} plans for 200 heartbeats of pods with 3 adapters"


def test_other_writers_lose_nothing(world):
    """The controller patches what is its own while somebody else changes labels all the time."""
    with world.room(2) as room:
        room.apply("a")
        for i in range(60):
            room.api.patch("modeladapters", "a", {"metadata": {"labels": {f"label-{i}": "x"}, "finalizers": ["example.com/theirs"]}
                                                  if i == 0 else {"labels": {f"label-{i}": "x"}}})
        room.wait("a", "FullyLoaded")
        found = room.api.get("modeladapters", "a")["metadata"]
        assert {f"label-{i}" for i in range(60)} <= set(found["labels"])
        assert set(found["finalizers"]) == {"example.com/theirs", "adapter.model.aibrix.ai/finalizer"}
        room.api.delete("modeladapters", "a")
        until(lambda: room.api.get("modeladapters", "a")["metadata"]["finalizers"] == ["example.com/theirs"], "only ours is taken off")
        room.api.patch("modeladapters", "a", {"metadata": {"finalizers": None}})


def test_drift_is_repaired_and_foreign_objects_are_told(world):
    with world.room(2) as room:
        room.apply("a")
        room.wait("a", "FullyLoaded")
        good = published_in(room.api.get("endpointslices", "a"))
        port = {"name": "http", "protocol": "TCP", "port": 1, "targetPort": 1}
        room.api.patch("services", "a", {"spec": {"ports": [port]}, "metadata": {"labels": {"adapter.model.aibrix.ai/name": None}}})
        room.api.patch("endpointslices", "a", {"endpoints": [{"addresses": [next(iter(good))]}]})

        def is_as_it_was():
            service = room.api.get("services", "a")
            return service["spec"]["ports"][0]["port"] == 8000 and \
                service["metadata"]["labels"].get("adapter.model.aibrix.ai/name") == "a" and \
                published_in(room.api.get("endpointslices", "a")) == good
        until(is_as_it_was, "what was changed is changed back")
        for kind in ("services", "endpointslices"):
            uid = room.api.get(kind, "a")["metadata"]["uid"]
            room.api.delete(kind, "a")
            until(lambda kind=kind, uid=uid: (room.api.get(kind, "a") or {"metadata": {"uid": uid}})["metadata"]["uid"] != uid,
                  "what was deleted is made again")
        theirs = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "b"}, "spec": {"ports": [{"name": "web", "port": 80}]}}
        room.api.create("services", theirs)
        room.apply("b")
        said = until(lambda: "does not belong" in room.condition("b").get("message", "") and room.condition("b"), "the cause is named")
        assert said["reason"] == "ServiceCreateError" and f"Service {room.namespace}/b" in said["message"]
        until(lambda: room.events_of("b", "ServiceCreateError"), "and told")
        room.settle()
        assert room.api.get("services", "b")["spec"]["ports"][0]["port"] == 80
        assert room.api.get("endpointslices", "b") is None, "a Service of somebody else gains no endpoints"
        room.api.delete("services", "b")
        room.wait("b")


def test_some_pods_of_several_are_told(world):
    with world.room(3) as room:
        room.fakes.fault(room.pods["pod-1"], load={"status": 500, "message": "CUDA out of memory"})
        room.apply("a")
        full = until(lambda: "2 of 3" in (found := room.condition("a", "FullyLoaded")).get("message", "") and found, "two of three have it")
        assert full["status"] == "False" and "pod pod-1: EngineError: CUDA out of memory" in full["message"]
        row = room.loads("a")["pod-1"]
        assert (row["state"], row["reason"], row["message"]) == ("Failed", "EngineError", "CUDA out of memory")
        told = until(lambda: room.events_of("a", "LoadFailed"), "it is told")
        assert "pod pod-1" in told[0]["message"] and names(room, "a") == {"pod-0", "pod-2"}


def test_the_engines_key_from_a_secret(world):
    with world.room(1, settings={"api_key": "right-one"}) as room:
        room.apply("a", apiKeySecretRef={"name": "engine"})
        ready = until(lambda: "nauthorized" in room.condition("a").get("message", "") and room.condition("a"), "the refusal is told")
        assert ready["status"] == "False"
        room.api.create("secrets", {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "engine"},
                                    "data": {"api-key": base64.b64encode(b"right-one").decode()}})
        room.wait("a", timeout=60)
        told = str(room.api.get("modeladapters", "a")) + str(room.api.list("events")) + world.controller.text()
        assert "right-one" not in told


def test_credentials_that_nobody_takes_are_told(world):
    with world.room(1) as room:
        room.apply("a", credentialsSecretRef={"name": "hub"})
        room.wait("a")
        told = until(lambda: [event for event in room.api.list("events")["items"] if event["reason"] == "CredentialsUnused"], "it is told")
        assert told[0]["type"] == "Warning" and "sidecar" in told[0]["message"]


def test_a_digest_that_nobody_checks_is_told(world):
    with world.room(1) as room:
        room.apply("a", digest="sha256:" + "0" * 64)
        room.apply("b")
        room.wait("a")
        room.wait("b")
        told = until(lambda: room.events_of("a", "DigestUnchecked"), "it is told")
        assert told[0]["type"] == "Warning" and "pod-0" in told[0]["message"] and not room.events_of("b", "DigestUnchecked")


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
