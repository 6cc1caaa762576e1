"""davit gateway alone: objects that a test writes itself, and fake engines that know exactly the names that were loaded on them."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from roles import Api, ApiServer, Fakes, Gateway
from world import Steady, http, until

BASE = "base"
ENGINE_NAMES = "adapter.model.aibrix.ai/engine-names"


class House:
    """Pods 0, 1, ... with a fake engine each, and the adapter "sql" that a slice publishes on all of them."""

    def __init__(self, folder, count, kind):
        self.kind = kind
        self.api_server = ApiServer(folder)
        self.api = Api(self.api_server.kubeconfig)
        self.fakes = Fakes(folder, count, kind=kind)
        self.pods = dict(enumerate(self.fakes.addresses))
        for i in self.pods:
            self.add_pod(i)
        adapter = self.api.create("modeladapters", {
            "apiVersion": "model.aibrix.ai/v1alpha1", "kind": "ModelAdapter", "metadata": {"name": "sql"},
            "spec": {"baseModel": BASE, "podSelector": {"matchLabels": {"model.aibrix.ai/name": BASE}}, "artifactURL": "/adapters/sql"}})
        self.owner = {"apiVersion": adapter["apiVersion"], "kind": "ModelAdapter", "name": "sql", "uid": adapter["metadata"]["uid"],
                      "controller": True}
        self.gateway = Gateway(folder, self.api_server.kubeconfig, "--workers", "3")

    def close(self):
        self.gateway.check()
        self.fakes.check()
        self.api_server.check()

    def add_pod(self, i):
        self.api.create("pods", {
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": f"pod-{i}", "labels": {"model.aibrix.ai/name": BASE, "model.aibrix.ai/engine": self.kind}},
            "spec": {"containers": [{"name": "engine", "image": "none"}]}})
        self.api.patch("pods", f"pod-{i}", {"status": {"phase": "Running", "podIP": self.pods[i],
                                                       "conditions": [{"type": "Ready", "status": "True"}]}}, "status")

    def publish(self, name, pods, engine_names=None, conditions=None):
        """A slice of the adapter with these pods."""
        self.api.create("endpointslices", {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": "sql"}, "ownerReferences": [self.owner],
                         "annotations": {ENGINE_NAMES: json.dumps(engine_names)} if engine_names else {}},
            "ports": [{"name": "http", "port": 8000, "protocol": "TCP"}],
            "endpoints": [{"addresses": [self.pods[i]], "conditions": conditions or {"ready": True},
                           "targetRef": {"kind": "Pod", "name": f"pod-{i}", "namespace": "default"}} for i in pods]})
        until(lambda: self.gateway.ask("sql")[0] == 200, "the gateway has the slice")

    def rename(self, engine_names):
        self.api.patch("endpointslices", "sql", {"metadata": {"annotations": {ENGINE_NAMES: json.dumps(engine_names)}}})

    def load(self, i, name, verb="load"):
        prefix = "" if self.kind == "sglang" else "/v1"
        status, answer = http("POST", f"http://{self.pods[i]}:8000{prefix}/{verb}_lora_adapter",
                              {"lora_name": name, "lora_path": "/adapters/sql"})
        assert status == 200, answer

    def asked(self):
        """Pod -> names that it was asked for, with what it answered."""
        pods = {address: i for i, address in self.pods.items()}
        found = {i: set() for i in self.pods}
        for event in self.fakes.events("generate"):
            found[pods[event["address"]]].add((event["name"], event["status"]))
        return found


@pytest.fixture(params=["vllm", "sglang"])
def house(tmp_path, request):
    made = House(tmp_path, 3, request.param)
    yield made
    made.close()


def test_each_engine_is_asked_under_its_own_name_for_the_adapter(house):
    """Of three engines one has the adapter under a name of its own, one under the public name, and one does not have it at all."""
    missing = 400 if house.kind == "sglang" else 404
    house.load(0, "sql-0123456789abcdef")
    house.load(1, "sql")
    house.publish("sql", [0, 1, 2], {"pod-0": "sql-0123456789abcdef"})
    with ThreadPoolExecutor(12) as pool:
        assert set(pool.map(house.gateway.ask, ["sql"] * 120)) == {(200, "sql")}
    assert house.asked() == {0: {("sql-0123456789abcdef", 200)}, 1: {("sql", 200)}, 2: {("sql", missing)}}
    assert house.gateway.retries("stale_route") > 0
    assert house.gateway.ask(BASE) == (200, BASE)


def test_new_weights_under_a_new_name_fail_no_request(house):
    for i in house.pods:
        house.load(i, "sql")
    house.publish("sql", [0, 1], {"pod-0": "sql", "pod-1": "sql"})
    house.publish("sql.2", [2])  # a second slice, whose pod keeps the public name
    with Steady(house.gateway.ask, ["sql"]) as clients:
        for revision in range(1, 4):
            for i in (0, 1):
                house.load(i, f"sql-{revision}")
            house.rename({f"pod-{i}": f"sql-{revision}" for i in (0, 1)})
            clients.settle(20)
            for i in (0, 1):
                house.load(i, "sql" if revision == 1 else f"sql-{revision - 1}", verb="unload")
            clients.settle(20)
    assert set(clients.answers["sql"]) == {(200, "sql")}
    asked = house.asked()
    assert {name for name, _ in asked[0] | asked[1]} == {"sql", "sql-1", "sql-2", "sql-3"} and asked[2] == {("sql", 200)}


def test_what_is_about_to_go_is_asked_only_where_nothing_is_ready(house):
    house.load(0, "sql")
    house.load(1, "sql")
    house.publish("sql", [0], conditions={"ready": False, "serving": True, "terminating": True})
    assert house.gateway.ask("sql") == (200, "sql")
    house.publish("sql.2", [1])
    until(lambda: house.gateway.ask("sql") and 1 in {i for i, names in house.asked().items() if names}, "the ready one is known")
    before = len(house.fakes.events("generate", address=house.pods[0]))
    assert {house.gateway.ask("sql") for _ in range(30)} == {(200, "sql")}
    assert len(house.fakes.events("generate", address=house.pods[0])) == before
