"""The embedded API alone, with kubectl 1.37 and as any client sees it: what it refuses, and what lists, watches and writes promise."""

import base64
import http.client
import json
import os
import ssl
import subprocess
import threading
from pathlib import Path

import pytest
import yaml
from world import ROOT, SLOW, until

CORE = "/api/v1/namespaces/default"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


class Api:
    """A `davit apiserver` with a state folder of its own."""

    def __init__(self, folder):
        self.folder, self.kubeconfig = folder, folder / "kubeconfig"
        self.process = None

    def start(self):
        self.kubeconfig.unlink(missing_ok=True)
        self.process = subprocess.Popen([os.environ.get("DAVIT", ROOT / "build/release/davit"), "apiserver", "--dir", self.folder, "--secure-port=0",
                                         f"--kubeconfig-out={self.kubeconfig}", "--log-level=warn"])
        until(lambda: self.kubeconfig.exists() and self.kubeconfig.stat().st_size > 0, "the API server is up", timeout=20)
        cluster = yaml.safe_load(self.kubeconfig.read_text())["clusters"][0]["cluster"]
        self.address = cluster["server"].removeprefix("https://")
        self.tls = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        self.token = (self.folder / "token").read_text().strip()

    def stop(self):
        self.process.terminate()
        assert self.process.wait(20) == 0

    def open(self, method, path, body=None, content_type="application/json"):
        connection = http.client.HTTPSConnection(self.address, context=self.tls, timeout=20)
        headers = {"Authorization": f"Bearer {self.token}", **({"Content-Type": content_type} if body is not None else {})}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        return connection.getresponse()

    def ask(self, method, path, body=None, content_type="application/json"):
        """(status code, document)"""
        answer = self.open(method, path, body, content_type)
        return answer.status, json.loads(answer.read())

    def get(self, path):
        code, document = self.ask("GET", path)
        assert code == 200, document
        return document

    def create(self, path, body):
        code, document = self.ask("POST", path, body)
        assert code == 201, document
        return document

    def events(self, path):
        """(type, object) of a watch until it ends."""
        answer = self.open("GET", path)
        assert answer.status == 200, answer.read()
        return [(event["type"], event["object"]) for event in map(json.loads, answer.read().splitlines())]

    def kubectl(self, line, document=None, code=0):
        result = subprocess.run([os.environ["KUBECTL"], f"--kubeconfig={self.kubeconfig}", *line.split(" ")],
                                input=document and json.dumps(document), text=True, capture_output=True, timeout=60)
        assert result.returncode == code, result
        return result.stdout if code == 0 else result.stderr


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    api = Api(Path(tmp_path_factory.mktemp("api")))
    api.start()
    yield api
    api.stop()


def config_map(name, value="1", **metadata):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}, "data": {"value": value}}


def deployment(name, **spec):
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": {
                "metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "main", "image": "none"}]}}, **spec}}


def names(items):
    return [item["metadata"]["name"] for item in items]


# ---- field validation ----

def test_unknown_fields(api):
    wrong = deployment("typo", replica=3)
    said = api.kubectl("apply -f -", wrong, code=1)
    assert 'Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: unknown field "spec.replica"' in said
    assert api.ask("GET", f"{DEPLOYMENTS}/typo")[0] == 404
    warned = subprocess.run([os.environ["KUBECTL"], f"--kubeconfig={api.kubeconfig}", "apply", "--validate=warn", "-f", "-"],
                            input=json.dumps(wrong), text=True, capture_output=True, timeout=60)
    assert warned.returncode == 0 and 'Warning: unknown field "spec.replica"' in warned.stderr, warned
    assert api.get(f"{DEPLOYMENTS}/typo")["spec"]["replicas"] == 1 and "replica" not in api.get(f"{DEPLOYMENTS}/typo")["spec"]
    container = json.dumps({"spec": {"template": {"spec": {"containers": [{"name": "main", "imagee": "x"}]}}}})
    code, status = api.ask("PATCH", f"{DEPLOYMENTS}/typo?fieldValidation=Strict", json.loads(container),
                           "application/strategic-merge-patch+json")
    assert code == 400 and 'unknown field "spec.template.spec.containers[0].imagee"' in status["message"]
    api.kubectl("delete deployment typo --cascade=orphan")


# ---- what the controller needs ----

def test_leases_have_one_winner(api):
    lease = api.create(LEASES, {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "leader"}, "spec": {
        "holderIdentity": "a", "leaseDurationSeconds": 15, "acquireTime": "2026-11-25T03:00:00.123456Z",
        "renewTime": "2026-11-25T03:00:00.123456Z", "leaseTransitions": 0}})
    assert lease["spec"]["renewTime"] == "2026-11-25T03:00:00.123456Z"

    def take(holder):
        return api.ask("PUT", f"{LEASES}/leader", {**lease, "spec": {**lease["spec"], "holderIdentity": holder, "leaseTransitions": 1}})

    results = {}
    threads = [threading.Thread(target=lambda who=who: results.update({who: take(who)})) for who in ("b", "c", "d", "e")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(code for code, _ in results.values()) == [200, 409, 409, 409]
    winner = next(who for who, (code, _) in results.items() if code == 200)
    assert api.get(f"{LEASES}/leader")["spec"]["holderIdentity"] == winner
    assert {status["reason"] for code, status in results.values() if code == 409} == {"Conflict"}
    unversioned = {**lease, "metadata": {"name": "leader"}}
    code, status = api.ask("PUT", f"{LEASES}/leader", unversioned)
    assert code == 422 and "metadata.resourceVersion" in status["message"]
    code, status = api.ask("PATCH", f"{LEASES}/leader", {"metadata": {"resourceVersion": lease["metadata"]["resourceVersion"]},
                                                         "spec": {"holderIdentity": "late"}}, "application/merge-patch+json")
    assert code == 409 and api.ask("DELETE", f"{LEASES}/leader")[0] == 200


def test_one_secret_at_a_time(api):
    for name in ("mine", "other"):
        api.create(f"{CORE}/secrets", {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"key": name}})
    listed = api.get(f"{CORE}/secrets?fieldSelector=metadata.name%3Dmine")
    assert names(listed["items"]) == ["mine"] and api.get(f"{CORE}/secrets?fieldSelector=metadata.name%3Dghost")["items"] == []
    since = listed["metadata"]["resourceVersion"]
    for name in ("other", "mine"):
        assert api.ask("PATCH", f"{CORE}/secrets/{name}", {"stringData": {"key": "new"}}, "application/merge-patch+json")[0] == 200
        assert api.ask("DELETE", f"{CORE}/secrets/{name}")[0] == 200
    events = api.events(f"{CORE}/secrets?fieldSelector=metadata.name%3Dmine&watch=true&resourceVersion={since}&timeoutSeconds=1")
    assert [(kind, secret["metadata"]["name"]) for kind, secret in events] == [("MODIFIED", "mine"), ("DELETED", "mine")]
    assert base64.b64decode(events[0][1]["data"]["key"]) == b"new"


def test_slices_of_a_service(api):
    def slice_of(name, family, address):
        return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
                "metadata": {"name": name, "labels": {"kubernetes.io/service-name": "sql"}},
                "endpoints": [{"addresses": [address], "conditions": {"ready": True, "serving": True, "terminating": False}}],
                "ports": [{"name": "http", "port": 8000, "protocol": "TCP"}]}

    api.create(f"{CORE}/services", {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "sql"},
                                    "spec": {"clusterIP": "None", "ports": [{"name": "http", "port": 8000}]}})
    for name, family, address in (("sql", "IPv4", "127.1.2.3"), ("sql.2", "IPv4", "127.1.2.4"), ("sql.3", "IPv6", "fd00::7")):
        api.create(SLICES, slice_of(name, family, address))
    assert names(api.get(f"{SLICES}?labelSelector=kubernetes.io%2Fservice-name%3Dsql")["items"]) == ["sql", "sql.2", "sql.3"]
    assert api.ask("POST", SLICES, slice_of("sql.4", "IPv6", "10.0.0.1"))[0] == 422
    assert api.ask("POST", SLICES, slice_of("sql.4", "IPv4", "fd00::7"))[0] == 422
    assert api.ask("POST", f"{CORE}/services", {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "sql.2"},
                                                "spec": {"clusterIP": "None"}})[0] == 422
    described = api.kubectl("describe service sql")
    assert all(address in described for address in ("127.1.2.3:8000", "127.1.2.4:8000", "[fd00::7]:8000")), described
    api.kubectl("delete endpointslices sql sql.2 sql.3")
    api.kubectl("delete service sql")


CRD = {
    "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
    "metadata": {"name": "modeladapters.model.aibrix.ai", "annotations": {"controller-gen.kubebuilder.io/version": "v0.16.1"}},
    "spec": {"group": "model.aibrix.ai", "scope": "Namespaced",
             "names": {"kind": "ModelAdapter", "listKind": "ModelAdapterList", "plural": "modeladapters", "singular": "modeladapter"},
             "versions": [{"name": "v1alpha1", "served": True, "storage": True, "subresources": {"status": {}},
                           "additionalPrinterColumns": [{"jsonPath": ".status.phase", "name": "Phase", "type": "string"}],
                           "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}}]}}


def test_the_definition_is_accepted_and_changes_nothing(api):
    before = api.get("/apis/model.aibrix.ai/v1alpha1")
    assert "created" in api.kubectl("apply -f -", CRD)
    assert "unchanged" in api.kubectl("apply -f -", CRD)
    assert "condition met" in api.kubectl(f"wait --for=condition=Established crd/modeladapters.model.aibrix.ai --timeout={5 * SLOW}s")
    assert "modeladapters.model.aibrix.ai" in api.kubectl("get crds")
    assert json.loads(api.kubectl("get crd modeladapters.model.aibrix.ai -o json"))["spec"] == CRD["spec"]
    assert api.get("/apis/model.aibrix.ai/v1alpha1") == before
    other = {**CRD, "metadata": {"name": "widgets.example.org"}}
    assert "davit apiserver serves one custom resource" in api.kubectl("create --validate=false -f -", other, code=1)
    api.kubectl("delete crd modeladapters.model.aibrix.ai")
    assert api.kubectl("get modeladapters -A") == "" and api.get("/apis/model.aibrix.ai/v1alpha1") == before


def test_dry_runs_change_nothing(api):
    api.kubectl("create -f -", deployment("dry"))
    api.kubectl("create -f -", config_map("dry", labels={"dry": "yes"}))
    before = api.get(f"{CORE}/configmaps")["metadata"]["resourceVersion"]
    lines = [("create --dry-run=server -f -", config_map("dry-new")), ("apply --dry-run=server -f -", config_map("dry", "2")),
             ("apply --dry-run=server -f -", config_map("dry-newer")), ("label --dry-run=server configmap dry colour=red", None),
             ("replace --dry-run=server -f -", config_map("dry", "3")), ("scale --dry-run=server deployment dry --replicas=3", None),
             ('patch --dry-run=server configmap dry -p {"data":{"value":"4"}}', None), ("delete --dry-run=server configmap dry", None),
             ("delete --dry-run=server configmaps --all", None), ("delete --dry-run=server deployment dry", None)]
    for line, document in lines:
        assert "dry" in api.kubectl(line, document), line
    code, answer = api.ask("DELETE", f"{CORE}/configmaps?labelSelector=dry%3Dyes", {"kind": "DeleteOptions", "apiVersion": "v1",
                                                                                    "dryRun": ["All"]})
    assert code == 200 and names(answer["items"]) == ["dry"]
    assert "is invalid" in api.kubectl("create --dry-run=server -f -", config_map("Bad"), code=1)
    assert api.get(f"{CORE}/configmaps")["metadata"]["resourceVersion"] == before
    api.kubectl("delete configmap dry")
    api.kubectl("delete deployment dry")


def test_server_side_apply_says_that_it_is_not_there(api):
    assert "Server-side apply not available on the server" in api.kubectl("apply --server-side -f -", config_map("ssa"), code=1)
    code, status = api.ask("PATCH", f"{CORE}/configmaps/ssa?fieldManager=x", config_map("ssa"), "application/apply-patch+yaml")
    assert code == 415 and "does not do server-side apply" in status["message"]


# ---- lists and watches ----

def test_pages_are_of_one_moment(api):
    for index in range(5):
        api.create(f"{CORE}/configmaps", config_map(f"page-{index}", labels={"test": "page"}))
    path = f"{CORE}/configmaps?labelSelector=test%3Dpage&limit=2"
    first = api.get(path)
    api.kubectl("delete configmap page-3")
    api.create(f"{CORE}/configmaps", config_map("page-2a", labels={"test": "page"}))
    second = api.get(f"{path}&continue={first['metadata']['continue']}")
    third = api.get(f"{path}&continue={second['metadata']['continue']}")
    assert names(first["items"] + second["items"] + third["items"]) == [f"page-{index}" for index in range(5)]
    assert len({page["metadata"]["resourceVersion"] for page in (first, second, third)}) == 1 and "continue" not in third["metadata"]
    assert len(api.kubectl("get configmaps -l test=page --chunk-size=2 -o name").splitlines()) == 5
    api.kubectl("delete configmaps -l test=page")


def test_initial_events_end_with_a_bookmark(api):
    for index in range(3):
        api.create(f"{CORE}/configmaps", config_map(f"list-{index}", labels={"test": "list"}))
    path = f"{CORE}/configmaps?labelSelector=test%3Dlist&watch=true&timeoutSeconds=1"
    streaming = f"{path}&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
    events = api.events(f"{streaming}&allowWatchBookmarks=true")
    assert [kind for kind, _ in events] == ["ADDED"] * 3 + ["BOOKMARK"]
    end = events[-1][1]["metadata"]
    assert end["annotations"] == {"k8s.io/initial-events-end": "true"} and "name" not in end
    assert int(end["resourceVersion"]) >= max(int(item["metadata"]["resourceVersion"]) for _, item in events[:-1])
    assert [kind for kind, _ in api.events(streaming)] == ["ADDED"] * 3  # bookmarks only for those who asked
    none = f"{path}&sendInitialEvents=false&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    assert api.events(none) == []
    for query, words in {
            f"{path}&sendInitialEvents=true": "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            f"{path}&sendInitialEvents=true&resourceVersionMatch=Exact": "sendInitialEvents requires setting resourceVersionMatch",
            f"{path}&resourceVersionMatch=NotOlderThan": "resourceVersionMatch is forbidden for watch unless sendInitialEvents",
            f"{CORE}/configmaps?sendInitialEvents=true&resourceVersionMatch=NotOlderThan": "sendInitialEvents is forbidden for list",
            f"{CORE}/configmaps?resourceVersionMatch=Newest&resourceVersion=1": 'Unsupported value: "Newest"',
            f"{CORE}/configmaps?resourceVersionMatch=Exact&resourceVersion=0": 'is forbidden for resourceVersion "0"'}.items():
        code, status = api.ask("GET", query)
        assert code == 422 and status["reason"] == "Invalid" and words in status["message"], status
    code, status = api.ask("GET", f"{streaming}&resourceVersion=999999999")
    assert code == 504 and status["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
    api.kubectl("delete configmaps -l test=list")


def test_forgotten_revisions_are_gone(api):
    api.create(f"{CORE}/configmaps", config_map("old-1", labels={"test": "old"}))
    api.create(f"{CORE}/configmaps", config_map("old-2", labels={"test": "old"}))
    path = f"{CORE}/configmaps?labelSelector=test%3Dold"
    page = api.get(f"{path}&limit=1")["metadata"]
    api.create(f"{CORE}/configmaps", config_map("large"))
    for letter in "abcdefghijklmnopqrstuvwxyz":  # more than the history of a resource holds
        patch = {"data": {"value": letter * 900000}}
        assert api.ask("PATCH", f"{CORE}/configmaps/large", patch, "application/merge-patch+json")[0] == 200
    code, status = api.ask("GET", f"{path}&limit=1&continue={page['continue']}")
    assert (code, status["reason"]) == (410, "Expired")
    events = api.events(f"{path}&watch=true&timeoutSeconds=5&resourceVersion={page['resourceVersion']}")
    assert [(kind, item["code"], item["reason"]) for kind, item in events] == [("ERROR", 410, "Expired")]
    other = f"{CORE}/secrets?watch=true&timeoutSeconds=1&resourceVersion={page['resourceVersion']}"
    assert api.events(other) == []  # each resource has a history of its own
    api.kubectl("delete configmaps old-1 old-2 large")


def test_what_was_acknowledged_outlives_a_kill(api):
    created = api.create(f"{CORE}/configmaps", config_map("kept"))
    api.process.kill()
    api.process.wait()
    api.start()
    assert api.get(f"{CORE}/configmaps/kept") == created
    api.kubectl("delete configmap kept")
