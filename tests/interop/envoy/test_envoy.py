"""Requests for adapters through a real Envoy: by the HTTPRoute's paths and header `model`, to the pods in the adapter's EndpointSlice."""

import http.client
import json

import pytest
from cluster import until
from engines import BASE, TINY
from envoy_gateway import PORT, Gateway, missing

NAME = "aibrix-eg"


@pytest.fixture
def envoy(cluster, engines, gateway, tmp_path):
    program, reason = missing()
    if reason:
        pytest.skip(reason)
    engines.start_pod("engine-0")
    engines.start_pod("engine-1")
    engines.start_controller(f"--gateway-namespace={gateway}", f"--gateway-name={NAME}")
    with Gateway(cluster, program, NAME, gateway, tmp_path) as envoy:
        yield envoy


def ask(cluster, model, header=None, path="/v1/completions", **members):
    """(status, the pod's address or None, body)"""
    def send():
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=30)
        fields = {"Content-Type": "application/json", **({"model": header} if header else {})}
        try:
            body = {"model": model, "prompt": "a", "max_tokens": 4, "temperature": 0, **members}
            connection.request("POST", path, json.dumps(body), fields)
            answer = connection.getresponse()
            return answer.status, (answer.getheader("x-upstream") or ":").rpartition(":")[0] or None, answer.read().decode()
        finally:
            connection.close()
    return cluster.namespace.call(send)


def route(engines, gateway, name):
    return until(lambda: engines.cluster.get("httproutes.gateway.networking.k8s.io", f"{name}-router", gateway), f"{name} has its route")


def asked(envoy, cluster, status, *arguments, **options):
    """What comes of it once Envoy does as the cluster says and this is the status."""
    def look():
        envoy.update()
        found = ask(cluster, *arguments, **options)
        assert found[0] == status, found
        return found
    return until(look, f"Envoy answers {status}")


def test_requests_find_the_pods_that_hold_their_adapter(cluster, engines, gateway, envoy):
    engines.apply_adapter("sql", replicas=1)
    engines.apply_adapter("json", TINY / "adapter-b")
    engines.wait_running("json", ["engine-0", "engine-1"])
    until(lambda: len(engines.endpoints("sql") or {}) == 1, "sql is published on one pod")
    for name in ("sql", "json"):
        route(engines, gateway, name)

    holder, = engines.endpoints("sql").values()
    status, address, body = asked(envoy, cluster, 200, "sql", "sql")
    assert address == holder and json.loads(body)["model"] == "sql"
    text = json.loads(body)["choices"][0]["text"]
    for _ in range(8):  # never on the other pod, which would not know the name
        assert ask(cluster, "sql", "sql")[:2] == (200, holder)
    assert {ask(cluster, "json", "json")[1] for _ in range(12)} == set(engines.ips.values())

    # A stream comes through whole.
    status, _, events = ask(cluster, "sql", "sql", stream=True)
    assert status == 200 and events.endswith("data: [DONE]\n\n")
    assert "".join(json.loads(event[6:])["choices"][0]["text"] for event in events.strip().split("\n\n")[:-1]) == text

    # Nobody else's header and no other path leads to an adapter.
    for header, path in ((None, "/v1/completions"), ("other", "/v1/completions"), (BASE, "/v1/completions"), ("sql", "/v1/score"),
                         ("sql", "/v1/completionsx"), ("sql", "/v1/load_lora_adapter")):
        assert ask(cluster, "sql", header, path)[0] == 404, (header, path)
    cluster.kubectl("annotate", "modeladapter", "sql", "-n", engines.namespace, "model.aibrix.ai/model-router-custom-paths=/v1/models")
    asked(envoy, cluster, 405, "sql", "sql", path="/v1/models")  # the engine's own answer to a POST


def test_what_changes_in_the_cluster_changes_in_envoy(cluster, engines, gateway, envoy):
    engines.apply_adapter("sql")
    engines.wait_running("sql", ["engine-0", "engine-1"])
    route(engines, gateway, "sql")
    until(lambda: cluster.get("referencegrants.gateway.networking.k8s.io", namespace=engines.namespace), "the Services may be reached")
    asked(envoy, cluster, 200, "sql", "sql")

    left = engines.ips["engine-1"]
    engines.stop_pod("engine-0")
    engines.wait_running("sql", ["engine-1"])
    envoy.update()
    until(lambda: {ask(cluster, "sql", "sql")[1] for _ in range(6)} == {left}, "the pod that has gone is not asked any more")
    engines.start_pod("engine-2")
    engines.wait_running("sql", ["engine-1", "engine-2"])
    envoy.update()
    until(lambda: {ask(cluster, "sql", "sql")[1] for _ in range(12)} == set(engines.ips.values()), "a new one is")

    engines.delete_adapter("sql")
    engines.wait_gone("sql")
    asked(envoy, cluster, 404, "sql", "sql")
