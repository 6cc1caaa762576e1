"""davit plan: what it says would be done is what the controller then does, and saying it changes nothing."""

import http.client
import json
import subprocess

import pytest
import yaml
from fake_world import BASE, FakeWorld
from roles import program
from world import SLOW, TINY, until


@pytest.fixture(scope="module")
def world(tmp_path_factory, api_server):
    world = FakeWorld(tmp_path_factory.mktemp("plan"), api_server)
    yield world
    world.close()


def adapter_of(name, **spec):
    return {"apiVersion": "model.aibrix.ai/v1alpha1", "kind": "ModelAdapter", "metadata": {"name": name},
            "spec": {"baseModel": BASE, "podSelector": {"matchLabels": {"model.aibrix.ai/name": BASE}}, "artifactURL": f"/adapters/{name}",
                     **spec}}


def plan(room, *documents, options=(), output="json"):
    """(exit status, what it printed: the plans by name, or text)."""
    text = yaml.safe_dump_all(documents)
    done = subprocess.run([program(), "plan", "-f", "-", "-n", room.namespace, "--kubeconfig", room.api.kubeconfig,
                           "--enable-runtime-sidecar", "-o", output, *options], input=text, capture_output=True, text=True,
                          timeout=60 * SLOW)
    if done.returncode > 1 or output != "json":
        return done.returncode, done.stdout + done.stderr
    return done.returncode, {plan["name"]: plan for plan in json.loads(done.stdout)["adapters"]}


def steps(plan, *actions):
    """Of these kinds: (action, pod), in order."""
    return [(step["action"], step.get("pod")) for step in plan["steps"] if not actions or step["action"] in actions]


def load(address, name, path):
    """By hand."""
    connection = http.client.HTTPConnection(address, 8000, timeout=20)
    connection.request("POST", "/v1/load_lora_adapter", json.dumps({"lora_name": name, "lora_path": path}),
                       {"Content-Type": "application/json"})
    assert connection.getresponse().status == 200
    connection.close()


CALLS = {"load": "load", "unload": "unload", "generate": "prove"}


def calls(room, name, start):
    """Pod -> what its engine was asked to do since then, in order; a proof is one whatever it takes."""
    pods = {address: pod for pod, address in room.pods.items()}
    found = {}
    for event in sorted(room.fakes.events(name=name, start=start), key=lambda event: event["began"]):
        action = CALLS.get(event["call"])
        done = found.setdefault(pods[event["address"]], [])
        if action and done[-1:] != [action]:
            done.append(action)
    return found


def said(plan):
    """The same of a plan."""
    found = {}
    for action, pod in steps(plan, *CALLS.values()):
        found.setdefault(pod, []).append(action)
    return found


def log_length(room):
    return len(room.fakes.events())


def check_carried_out(room, plan, name, apply, is_done):
    """Applies it; the controller asks of engines what the plan said, in its order on each pod, and no more."""
    start = log_length(room)
    apply()
    until(is_done, f"{name}: {plan['result']}", 30)
    polled = [room.pods[pod] for pod in plan["result"]["pods"]]
    before = room.polls()
    until(lambda: all(room.polls()[address] >= before[address] + 3 for address in polled), "some polls more of what serves")
    assert calls(room, name, start) == said(plan)
    status = room.api.get("modeladapters", name)["status"]
    assert status["phase"] == plan["result"]["phase"]
    assert sorted(status["instances"]) == sorted(plan["result"]["pods"])
    assert status["readyReplicas"] == plan["result"]["ready"]
    assert status["revision"] == plan["revision"]


def test_a_plan_changes_nothing(world):
    with world.room(2) as room:
        written, start = room.written(), log_length(room)
        before = room.polls()
        status, plans = plan(room, adapter_of("a"))
        assert status == 1
        assert steps(plans["a"]) == [
            ("create", None), ("add-finalizer", None), ("create-service", None), ("load", "pod-0"), ("load", "pod-1"), ("prove", "pod-0"),
            ("prove", "pod-1"), ("create-slice", None), ("publish", "pod-0"), ("publish", "pod-1")]
        assert plans["a"]["result"]["phase"] == "Running" and plans["a"]["result"]["ready"] == 2 and not plans["a"]["blocked"]
        assert room.written() == written, "nothing was written"
        assert log_length(room) == start, "nothing was loaded, unloaded or generated"
        assert room.api.get("modeladapters", "a") is None
        after = room.polls()
        assert after == {address: count + 1 for address, count in before.items()}, "each engine was asked once what it holds"


def test_a_new_adapter_is_loaded_as_planned_and_then_nothing_is_to_do(world):
    with world.room(3) as room:
        _, plans = plan(room, adapter_of("a"))
        check_carried_out(room, plans["a"], "a", lambda: room.apply("a"),
                          lambda: room.condition("a", "FullyLoaded").get("status") == "True")
        status, plans = plan(room, adapter_of("a"))
        assert status == 0 and steps(plans["a"]) == [], plans
        status, text = plan(room, adapter_of("a"), output="table")
        assert status == 0 and f"ModelAdapter {room.namespace}/a: nothing to do\n" in text, text
        status, plans = plan(room, adapter_of("a"), options=["--offline"])
        assert status == 0 and len(plans["a"]["notes"]) == 1, plans


def test_a_new_revision_rolls_as_planned(world):
    with world.room(2) as room:
        room.apply("a")
        room.wait("a", "FullyLoaded")
        status, plans = plan(room, adapter_of("a", artifactURL="/adapters/a2"))
        assert status == 1
        assert {"action": "update", "detail": "spec.artifactURL"} in plans["a"]["steps"]
        assert said(plans["a"]) == {pod: ["unload", "load", "prove"] for pod in room.pods}
        order = steps(plans["a"], "withdraw", "drain", "unload", "load", "prove", "publish")
        first, second = order[0][1], order[6][1]
        assert [action for action, _ in order] == 2 * ["withdraw", "drain", "unload", "load", "prove", "publish"] and first != second
        check_carried_out(room, plans["a"], "a", lambda: room.api.patch("modeladapters", "a", {"spec": {"artifactURL": "/adapters/a2"}}),
                          lambda: room.condition("a", "FullyLoaded").get("observedGeneration") == 2 and
                          room.condition("a", "FullyLoaded")["status"] == "True" and
                          room.published("a") == set(room.pods.values()))


def test_scaling_in_both_directions_goes_as_planned(world):
    with world.room(3) as room:
        status, plans = plan(room, adapter_of("a", replicas=1))
        assert status == 1 and len(steps(plans["a"], "load")) == 1
        assert any("example" in note for note in plans["a"]["notes"]), "the uid decides"
        room.apply("a", replicas=1)
        room.wait("a", "FullyLoaded")
        for replicas, action in ((3, "load"), (1, "unload")):
            status, plans = plan(room, adapter_of("a", replicas=replicas))
            assert status == 1 and len(steps(plans["a"], action)) == 2

            def scale(replicas=replicas):
                room.api.patch("modeladapters", "a", {"spec": {"replicas": replicas}})

            def is_done(replicas=replicas):
                holders = [address for address in room.pods.values() if "a" in room.fakes.adapters(address)]
                return len(holders) == replicas and room.published("a") == set(holders)

            check_carried_out(room, plans["a"], "a", scale, is_done)


def test_a_label_that_was_lost_is_acted_on_as_planned(world):
    with world.room(2) as room:
        room.apply("a")
        room.wait("a", "FullyLoaded")
        labels = {"metadata": {"labels": {"model.aibrix.ai/name": "another"}}}
        status, plans = plan(room, adapter_of("a", podSelector={"matchLabels": {"model.aibrix.ai/name": "another"}}))
        assert status == 1 and plans["a"]["blocked"][0]["reason"] == "NoMatchingPods", plans
        assert said(plans["a"]) == {pod: ["unload"] for pod in room.pods}
        status, plans = plan(room, adapter_of("a"), adapter_of("b", replicas=1))
        assert (status, steps(plans["a"])) == (1, []) and len(steps(plans["b"], "load")) == 1
        room.api.patch("pods", "pod-1", labels)
        until(lambda: room.fakes.adapters(room.pods["pod-1"]) == {}, "it is gone from the pod")
        status, plans = plan(room, adapter_of("a"))
        assert status == 0 and plans["a"]["result"]["pods"] == ["pod-0"]


def test_what_stands_in_the_way_is_named(world):
    with world.room(3) as room:
        taken, unready, well = room.pods
        room.set_pod(unready, room.pods[unready], ready=False)
        load(room.pods[taken], "a", "/somebody/elses")
        status, plans = plan(room, adapter_of("a"))
        assert status == 1 and said(plans["a"]) == {well: ["load", "prove"]}
        blocked = {item.get("pod"): item for item in plans["a"]["blocked"]}
        assert blocked[taken]["reason"] == "Conflict" and "/somebody/elses" in blocked[taken]["message"]
        assert blocked[unready]["reason"] == "PodNotReady"
        check_carried_out(room, plans["a"], "a", lambda: room.apply("a"), lambda: room.published("a") == {room.pods[well]})
        room.api.create("services", {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "b"},
                                     "spec": {"ports": [{"port": 80}], "selector": {"app": "theirs"}}})
        status, plans = plan(room, adapter_of("b"))
        assert status == 1 and "ServiceCreateError" in {item["reason"] for item in plans["b"]["blocked"]}
        assert not steps(plans["b"], "publish", "create-service", "update-service", "create-slice")


def test_an_engine_that_does_not_answer_is_said_to_be_believed(world):
    with world.room(2) as room:
        room.apply("a")
        room.wait("a", "FullyLoaded")
        room.fakes.fault(room.pods["pod-1"], list={"hang": True})
        status, plans = plan(room, adapter_of("a"), options=["--timeout", "300ms"])
        assert status == 0 and steps(plans["a"]) == []
        assert len(plans["a"]["notes"]) == 1 and "pod pod-1 could not be asked" in plans["a"]["notes"][0], plans
        room.fakes.fault(room.pods["pod-1"], list=None)
        status, plans = plan(room, adapter_of("a"))
        assert status == 0 and not plans["a"]["notes"]


def test_what_failed_until_now_is_said_to_have_failed(world):
    with world.room(1) as room:
        room.fakes.fault(load={"status": 400, "message": "rank 64 exceeds 16"})
        room.apply("a")
        until(lambda: room.loads("a").get("pod-0", {}).get("state") == "Failed", "the load fails")
        status, plans = plan(room, adapter_of("a"))
        assert status == 1 and said(plans["a"]) == {"pod-0": ["load", "prove"]}
        assert "pod-0" in plans["a"]["notes"][0] and "rank 64 exceeds 16" in plans["a"]["notes"][0], plans


def test_engines_are_asked_with_the_adapters_key(world):
    with world.room(1, settings={"api_key": "top-secret-key"}) as room:
        status, plans = plan(room, adapter_of("a"))
        assert status == 1 and "401" in plans["a"]["notes"][0] and "top-secret-key" not in str(plans), plans
        room.api.create("secrets", {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"},
                                    "stringData": {"api-key": "top-secret-key"}})
        for spec in ({"apiKeySecretRef": {"name": "keys"}}, {"additionalConfig": {"api-key": "top-secret-key"}}):
            status, plans = plan(room, adapter_of("a", **spec))
            assert status == 1 and not plans["a"]["notes"] and steps(plans["a"], "load") == [("load", "pod-0")], plans


def test_with_a_sidecar(world):
    with world.room(2, sidecar=True) as room:
        artifact = str(TINY / "adapter-a")
        _, plans = plan(room, adapter_of("a", artifactURL=artifact))
        check_carried_out(room, plans["a"], "a", lambda: room.apply("a", artifact),
                          lambda: room.condition("a", "FullyLoaded").get("status") == "True")
        assert plan(room, adapter_of("a", artifactURL=artifact))[0] == 0


def test_what_no_engine_fetches_is_noted(world):
    with world.room(1) as room:
        for url, expected in (("s3://bucket/x", "UnsupportedArtifact"), ("huggingface://org/x", None)):
            _, plans = plan(room, adapter_of("a", artifactURL=url))
            assert [("pod-0" in note and expected in note) for note in plans["a"]["notes"]] == ([True] if expected else []), plans


def test_what_stands_in_the_way_is_said_once(world):
    with world.room(1) as room:
        _, plans = plan(room, adapter_of("a", podSelector={"matchLabels": {"none": "x"}}))
        said = [(item["reason"], item["message"]) for item in plans["a"]["blocked"]]
        assert len(said) == len(set(said)) and said[0][0] == "NoMatchingPods", said


def test_documents_after_another_find_what_it_would_have_done(world):
    with world.room(0, spares=2) as room:
        template = {"metadata": {"labels": {"model.aibrix.ai/name": BASE}},
                    "spec": {"containers": [{"name": "engine", "image": "none", "args": ["--max-cpu-loras", "1"]}]}}
        for i, address in enumerate(room.spares):
            room.add_pod_of(f"pod-{i}", address, template)
        status, plans = plan(room, *(adapter_of(name, replicas=1) for name in "abc"))
        assert status == 1
        placed = [pod for name in "abc" for _, pod in steps(plans[name], "load")]
        assert sorted(placed) == ["pod-0", "pod-1"], "each has room for one"
        assert plans["c"]["blocked"][0]["reason"] == "InsufficientCapacity"


def test_errors_name_the_field_and_other_documents_are_skipped(world):
    with world.room(1) as room:
        status, text = plan(room, adapter_of("a", artifactURL="ftp://x/y"))
        assert status == 2 and "spec.artifactURL" in text, text
        status, text = plan(room, adapter_of("a", replicsa=2))
        assert status == 2 and 'unknown field "spec.replicsa"' in text, text
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}
        status, text = plan(room, secret)
        assert status == 2 and "Secret s (v1) is no ModelAdapter" in text, text
        status, text = plan(room, secret, adapter_of("a"), output="table")
        assert status == 1 and "skipped" in text and "load" in text, text
        status, plans = plan(room, {"apiVersion": "v1", "kind": "List", "items": [adapter_of("a"), adapter_of("b")]})
        assert status == 1 and sorted(plans) == ["a", "b"]
        elsewhere = adapter_of("a")
        elsewhere["metadata"]["namespace"] = "elsewhere"
        status, text = plan(room, elsewhere)
        assert status == 2 and "elsewhere" in text, text
        status, text = plan(room, adapter_of("a"), adapter_of("a"))
        assert status == 2 and "twice" in text, text
        for arguments in ((), ("-f", "/no/such/file"), ("-f", "-", "--proof", "maybe"), ("-f", "-", "--timeout", "0s"),
                          ("-f", "-", "-n", "no-such-namespace")):
            done = subprocess.run([program(), "plan", "--kubeconfig", room.api.kubeconfig, *arguments], capture_output=True, text=True,
                                  input=yaml.safe_dump(adapter_of("a")), timeout=60 * SLOW)
            assert done.returncode == 2 and done.stderr.startswith("davit plan: ") and not done.stdout, done
