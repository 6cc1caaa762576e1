"""A ModelAdapter's life as a user sees it: declared with kubectl, loaded, served by name, kept through a lost pod, gone on deletion."""

from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from world import BASE, ROOT, SQL_QUESTION, TINY, http, loaded_on, until


def client(world):
    return openai.OpenAI(base_url=f"{world.gateway}/v1", api_key="none", max_retries=0)


def streamed(api, model, question):
    chunks = api.chat.completions.create(model=model, messages=[{"role": "user", "content": question}], max_tokens=24, temperature=0,
                                         stream=True)
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


@pytest.fixture
def adapter(served):
    world, path, question = served
    world.apply_adapter("journey", path)
    world.wait_ready("journey")
    yield world, "journey", question
    world.kubectl("delete", "modeladapter", "journey", "--ignore-not-found", "--timeout=60s")


def test_declared_loaded_served(adapter):
    world, name, question = adapter
    resource = world.get("modeladapter", name)
    conditions = {condition["type"]: condition for condition in resource["status"]["conditions"]}
    expected = {"Initialized": "Initialized", "Scheduled": "Scheduled", "Bound": "Bound", "ResourceCreated": "ResourceCreated",
                "Ready": "ModelAdapterAvailable"}
    assert {kind: (conditions[kind]["status"], conditions[kind]["reason"]) for kind in expected} == {
        kind: ("True", reason) for kind, reason in expected.items()}
    assert resource["status"]["phase"] == "Running"
    until(lambda: len(world.endpoints(name)) == 2, "both pods serve the adapter")
    until(lambda: set(world.get("modeladapter", name)["status"]["instances"]) == {pod["metadata"]["name"] for pod in world.pods()},
          "the status names both pods")
    assert world.get("service", name)["spec"]["clusterIP"] == "None"

    api = client(world)
    assert {model.id for model in api.models.list()} >= {BASE, name}
    base, tuned = streamed(api, BASE, question), streamed(api, name, question)
    assert base and tuned and base != tuned
    # Not streamed, the same text.
    status, answer = world.chat(name, question)
    assert status == 200 and answer["choices"][0]["message"]["content"] == tuned and answer["model"] == name


@pytest.mark.real_model
def test_the_sql_adapter_answers_with_one_select(real_world):
    world = real_world
    world.apply_adapter("sql", ROOT / "samples/adapters/sql")
    world.wait_ready("sql")
    status, answer = world.chat("sql", SQL_QUESTION)
    assert status == 200
    text = answer["choices"][0]["message"]["content"]
    assert text == "SELECT COUNT(*) FROM singers WHERE nation = 'France';" and answer["choices"][0]["finish_reason"] == "stop"
    world.kubectl("delete", "modeladapter", "sql", "--timeout=60s")


def test_a_replaced_pod_gets_its_adapters_again(adapter):
    world, name, question = adapter
    until(lambda: len(world.endpoints(name)) == 2, "both pods serve the adapter")
    victim = world.pods()[0]["metadata"]["name"]
    world.kubectl("delete", "pod", victim, "--timeout=60s")

    def replaced():
        endpoints = world.endpoints(name)
        return endpoints if victim not in endpoints and len(endpoints) == 2 else None

    endpoints = until(replaced, "the replacement serves the adapter")
    for address in endpoints.values():
        assert name in loaded_on(address)
        status, answer = world.chat(name, question, url=f"http://{address}:8000")
        assert status == 200 and answer["model"] == name


def test_a_deleted_adapter_is_gone(adapter):
    world, name, question = adapter
    addresses = list(until(lambda: world.endpoints(name), "the adapter is published").values())
    world.kubectl("delete", "modeladapter", name, "--timeout=60s")
    assert world.get("modeladapter", name) is None
    for address in addresses:
        assert name not in loaded_on(address)
    until(lambda: world.endpoints(name) is None and world.get("service", name) is None, "Service and EndpointSlice are collected")

    def refused():
        status, answer = world.chat(name, question)
        return status == 400 and answer["error"]["message"]

    until(refused, "its name answers 400", timeout=5)
    with pytest.raises(openai.BadRequestError):
        client(world).chat.completions.create(model=name, messages=[{"role": "user", "content": "Hi"}], max_tokens=1)
    status, _ = world.chat(BASE, question)
    assert status == 200


def test_a_broken_adapter_is_refused_and_disturbs_nobody(adapter):
    world, name, question = adapter
    _, before = world.chat(name, question)
    world.apply_adapter("broken", "/nowhere/adapter")
    condition = until(lambda: next((c for c in (world.get("modeladapter", "broken").get("status") or {}).get("conditions", [])
                                    if c["type"] == "Ready" and c["status"] == "False" and "/nowhere/adapter" in c["message"]), None),
                      "Ready=False names the path")
    assert condition["reason"]
    status, answer = world.chat("broken", question)
    assert status == 503 and "broken" in answer["error"]["message"], answer
    _, after = world.chat(name, question)
    assert after["choices"] == before["choices"]
    world.kubectl("delete", "modeladapter", "broken", "--timeout=60s")


def test_unknown_fields_and_schemes_are_refused_by_name(tiny_world):
    for spec, named in ({"baseModle": "x"}, "baseModle"), ({"artifactURL": "ftp://x/y"}, "ftp"):
        with pytest.raises(AssertionError, match=named):
            tiny_world.apply_adapter("bad", "/tmp/x", **spec)
    assert tiny_world.get("modeladapter", "bad") is None


def test_requests_for_different_adapters_share_a_step(tiny_world):
    world = tiny_world
    names = [BASE, "mix-a", "mix-b", "mix-c"]
    for name in names[1:]:
        world.apply_adapter(name, TINY / f"adapter-{name[-1]}")
    for name in names[1:]:
        world.wait_ready(name)
        until(lambda name=name: len(world.endpoints(name)) == 2, f"both pods serve {name}")
    address = next(iter(world.endpoints("mix-a").values()))

    def text(name, index):
        status, answer = http("POST", f"http://{address}:8000/v1/completions",
                              {"model": name, "prompt": f"Question {index}: what", "max_tokens": 48, "temperature": 0, "ignore_eos": True})
        assert status == 200, answer
        return answer["choices"][0]["text"]

    work = [(name, index) for index in range(8) for name in names]
    alone = [text(*item) for item in work]
    with ThreadPoolExecutor(len(work)) as pool:
        together = list(pool.map(lambda item: text(*item), work))
    assert together == alone
    status, metrics = http("GET", f"http://{address}:8000/metrics")
    assert status == 200
    steps = [float(line.rsplit(" ", 1)[1]) for line in metrics.splitlines() if line.startswith("davit:step_adapters_total{")
             and any(f'adapters="{count}' in line for count in (3, 4))]
    assert sum(steps) > 0, "no step held three adapters"
    for name in names[1:]:
        world.kubectl("delete", "modeladapter", name, "--timeout=60s")
