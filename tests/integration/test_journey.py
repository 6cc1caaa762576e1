"""A ModelAdapter's life as a user sees it: declared with kubectl, loaded, served by name, kept through a lost pod, gone on deletion."""

import json
import re

import openai
import pytest
from world import BASE, POLL_SECONDS, SLOW, SQL_QUESTION, Steady, Watch, is_ready, loaded_on, until

SLACK_SECONDS = 1  # a busy machine's, beside the time that is promised
CONDITIONS = {"Initialized": "Initialized", "Scheduled": "Scheduled", "Bound": "Bound", "ResourceCreated": "ResourceCreated",
              "Ready": "ModelAdapterAvailable", "FullyLoaded": "FullyLoaded"}


def names_of(pods):
    return {pod["metadata"]["name"] for pod in pods}


def published(endpoint_slice):
    """Pods whose endpoint takes requests."""
    endpoints = endpoint_slice.get("endpoints") or []
    return {endpoint["targetRef"]["name"] for endpoint in endpoints if endpoint["conditions"].get("ready", True)}


@pytest.fixture
def truth(served):
    """What base and adapters answer, by name; all different, so that an answer tells whose weights gave it."""
    answers = {name: served.text(name, SQL_QUESTION)[1] for name in (BASE, *served.artifacts)}
    assert len(set(answers.values())) == len(answers), answers
    return answers


def steady(served, truth, models=None):
    return Steady(lambda model: served.text(model, SQL_QUESTION), models or truth)


def assert_all_right(clients, truth):
    for model, answers in clients.answers.items():
        wrong = [answer for answer in answers if answer != (200, truth[model])]
        assert not wrong, f"{len(wrong)} of {len(answers)} answers of {model} were wrong: {wrong[:3]}"


def test_describe_tells_what_is_so(served):
    name = next(iter(served.artifacts))
    until(lambda: served.condition(name, "FullyLoaded").get("status") == "True", "both pods are loaded")
    text = served.kubectl("describe", "modeladapter", name).stdout
    conditions = re.findall(r"Reason: +(\S+)\n +Status: +(\S+)\n +Type: +(\S+)", text)
    assert {kind: (status, reason) for reason, status, kind in conditions if kind in CONDITIONS} == {
        kind: ("True", reason) for kind, reason in CONDITIONS.items()}
    assert re.search(r"Phase: +Running\n", text)
    instances = re.search(r"Instances:\n((?: {4}\S+\n)+)", text)
    assert set(instances[1].split()) == names_of(served.pods())
    assert re.search(r"Normal +Loaded .* loaded and proved on 2 of 2 pods", text) and re.search(r"Normal +Ready .* asked for as", text)
    assert served.get("service", name)["spec"]["clusterIP"] == "None"


def test_a_replaced_pod_has_its_adapters_again_and_no_request_fails(served, truth):
    victim = served.pods()[0]["metadata"]["name"]
    kept = names_of(served.pods())
    name = next(iter(served.artifacts))
    with Watch(served, "pods") as pods, Watch(served, "endpointslices") as slices, steady(served, truth) as clients:
        served.kubectl("delete", "pod", victim, f"--timeout={60 * SLOW}s")
        ready_at, _, pod = pods.first(lambda _, pod: pod["metadata"]["name"] not in kept and is_ready(pod), "the replacement is ready")
        replacement = pod["metadata"]["name"]
        served_at = [slices.first(lambda _, item: item["metadata"]["name"] == name and replacement in published(item),
                                  f"the replacement serves {name}")[0] for name in served.artifacts]
        clients.settle()
    assert_all_right(clients, truth)
    assert max(served_at) - ready_at < 2 * SLOW
    assert set(until(lambda: served.endpoints(name), "the adapter is published")) == names_of(served.pods())
    address = served.endpoints(name)[replacement]
    assert loaded_on(address) == set(served.artifacts)
    for name in truth:
        assert served.text(name, SQL_QUESTION, url=f"http://{address}:8000") == (200, truth[name])


def test_a_deleted_adapter_leaves_in_order(served, truth):
    kept = next(iter(served.artifacts))
    served.serve({"gone": served.artifacts[kept]})
    pods = names_of(served.pods())
    with Watch(served, "endpointslices", "gone") as slices, steady(served, truth, [BASE, kept]) as clients:
        served.kubectl("delete", "modeladapter", "gone", f"--timeout={60 * SLOW}s")
        out_at, _, _ = slices.first(lambda kind, item: kind == "DELETED" or not published(item), "no endpoint is left")
    assert_all_right(clients, truth)
    for pod in pods:
        unloaded = served.engine_log(pod, 'adapter "gone" unloaded')
        assert len(unloaded) == 1 and out_at < unloaded[0], f"{pod}: endpoints out at {out_at}, unloaded at {unloaded}"
    for pod in served.pods():
        assert "gone" not in loaded_on(pod["status"]["podIP"])
    until(lambda: served.endpoints("gone") is None and served.get("service", "gone") is None, "Service and EndpointSlice are collected")
    assert served.get("modeladapter", "gone") is None
    status, answer = until(lambda: (reply := served.text("gone", SQL_QUESTION))[0] == 400 and reply, "its name answers 400", timeout=2)
    assert "gone" in answer["error"]["message"]
    with pytest.raises(openai.BadRequestError, match="gone"):
        served.openai().chat.completions.create(model="gone", messages=[{"role": "user", "content": "Hi"}], max_tokens=1)


def test_a_further_pod_gets_the_adapters(served, truth):
    before = names_of(served.pods())
    with steady(served, truth) as clients:
        served.kubectl("scale", "deployment/smollm2", "--replicas=3")
        served.kubectl("rollout", "status", "deployment/smollm2", f"--timeout={60 * SLOW}s")
        (third,) = names_of(served.pods()) - before
        for name in served.artifacts:
            address = until(lambda name=name: served.endpoints(name).get(third), f"the third pod serves {name}", timeout=10)
            assert served.text(name, SQL_QUESTION, url=f"http://{address}:8000") == (200, truth[name])
        served.kubectl("scale", "deployment/smollm2", "--replicas=2")
        for name in served.artifacts:
            until(lambda name=name: set(served.endpoints(name)) == names_of(served.pods()) and len(served.pods()) == 2, "two pods serve")
        clients.settle()
    assert_all_right(clients, truth)


def test_an_edited_artifact_url_changes_the_weights(served, truth):
    name, other, *_ = served.artifacts
    with steady(served, truth, [BASE, name, other]) as clients:
        patch = {"spec": {"artifactURL": str(served.artifacts[other])}}
        served.kubectl("patch", "modeladapter", name, "--type=merge", "-p", json.dumps(patch))
        generation = served.get("modeladapter", name)["metadata"]["generation"]
        until(lambda: (condition := served.condition(name, "FullyLoaded")).get("observedGeneration") == generation
              and condition["status"] == "True" and len(served.endpoints(name)) == 2, "both pods serve the new weights")
        for address in served.endpoints(name).values():
            assert served.text(name, SQL_QUESTION, url=f"http://{address}:8000") == (200, truth[other])
        after = len(clients.answers[name]) + 1  # one may have been asked before
        clients.settle()
    assert set(clients.answers[name]) == {(200, truth[name]), (200, truth[other])}, "nobody fails while it changes"
    assert set(clients.answers[name][after:]) == {(200, truth[other])}
    del clients.answers[name]
    assert_all_right(clients, truth)
    served.serve({name: served.artifacts[name]})
    until(lambda: served.text(name, SQL_QUESTION)[1] == truth[name], "the old weights are back")


def test_an_engine_that_forgets_is_repaired(served, truth):
    name = next(iter(served.artifacts))
    pod, address = next(iter(served.endpoints(name).items()))
    loads, unloads = (len(served.engine_log(pod, f'adapter "{name}" {what}')) for what in ("loaded", "unloaded"))
    with steady(served, truth) as clients:
        with served.openai(f"http://{address}:8000") as engine:
            engine.post("/unload_lora_adapter", body={"lora_name": name}, cast_to=str)
        until(lambda: len(served.engine_log(pod, f'adapter "{name}" loaded')) > loads, "it is loaded again")
        until(lambda: len(served.endpoints(name)) == 2, "both pods serve it again")
        clients.settle()
    assert_all_right(clients, truth)
    forgotten = served.engine_log(pod, f'adapter "{name}" unloaded')[unloads]
    repaired = served.engine_log(pod, f'adapter "{name}" loaded')[loads]
    assert 0 < repaired - forgotten < POLL_SECONDS * SLOW + SLACK_SECONDS
    assert served.text(name, SQL_QUESTION, url=f"http://{address}:8000") == (200, truth[name])
