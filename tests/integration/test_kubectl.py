"""The embedded API with kubectl 1.37: what its commands print, and what a cluster promises about writes, deletion and watches."""

import json
import os
import re
import signal
import subprocess
import threading
import time
from datetime import datetime, timedelta

import pytest
import yaml
from world import BASE, SLOW, SQL_QUESTION, Watch, http, is_ready, until

DEPLOYMENT = {
    "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "idle", "labels": {"app": "idle"}},
    "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "idle"}}, "template": {
        "metadata": {"labels": {"app": "idle"}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [
            {"name": "main", "image": "none", "command": ["sh", "-c", "echo started as $POD_IP; exec sleep 1000"]}]}}},
}


def config_map(name, data="1", **metadata):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}, "data": {"value": data}}


@pytest.fixture(scope="module")
def world(tiny_world):
    """The tiny world with the adapter "a" and a Deployment of one sleeping pod beside the base model's."""
    tiny_world.serve({"a": tiny_world.artifacts["a"]})
    tiny_world.apply(json.dumps(DEPLOYMENT))
    tiny_world.kubectl("rollout", "status", "deployment/idle", f"--timeout={30 * SLOW}s")
    yield tiny_world
    tiny_world.kubectl("delete", "deployment", "idle", "--ignore-not-found", f"--timeout={30 * SLOW}s")
    tiny_world.delete_adapters()


AGE = r"\d+[smh](\d+s)?"
READS = {
    "get pods -l app=idle": rf"NAME +READY +STATUS +RESTARTS +AGE\nidle-\S+ +1/1 +Running +0 +{AGE}\n$",
    "get pods -l app!=idle -o wide": rf"NAME .* IP +NODE .*\n(smollm2-\S+ +2/2 +Running +\d+ .*{AGE} +127\.1\.\d+\.\d+ +\S+ .*\n){{2}}$",
    "get pods -A": r"NAMESPACE +NAME .*\n(default +\S+ .*\n){3}$",
    "get deployments": rf"NAME +READY +UP-TO-DATE +AVAILABLE +AGE\nidle +1/1 +1 +1 +{AGE}\nsmollm2 +2/2 +2 +2 +{AGE}\n$",
    "get modeladapters": rf"NAME +PHASE +DESIRED +READY +.*AGE\na +Running +2 +2 +.*{AGE}\n$",
    "get modeladapter a -o wide": r"NAME .*BASE MODEL +INSTANCES.*\na .*smollm2-135m +smollm2-\S+,smollm2-\S+ ",
    "get modeladapter a -o yaml": r"(?s)^apiVersion: model.aibrix.ai/v1alpha1\nkind: ModelAdapter\n.*\n  phase: Running\n",
    "get modeladapter a -o jsonpath={.status.phase}": r"^Running$",
    "get endpointslices,services": r"(?s)endpointslice.discovery.k8s.io/a +IPv4 +8000 +127.*service/a +ClusterIP +None ",
    "get modeladapters -o name": r"^modeladapter.model.aibrix.ai/a\n$",
    "describe deployment idle": r"(?s)Replicas: +1 desired \| 1 updated \| 1 total \| 1 available \| 0 unavailable.*ScalingReplicaSet",
    "describe pods -l app=idle": r"(?s)Status: +Running.*Controlled By: +ReplicaSet/idle-.*Restart Count: +0.*Normal +Started .*Started container main",
    "describe service a": r"Endpoints: +127\.1\.\d+\.\d+:8000,127\.1\.\d+\.\d+:8000\n",
    "describe node": r"(?s)Ready +True .*KubeletReady",
    "rollout status deployment/smollm2": r"successfully rolled out\n$",
    "wait --for=condition=Ready modeladapter/a --timeout=10s": r"^modeladapter.model.aibrix.ai/a condition met\n$",
    "wait --for=jsonpath={.status.phase}=Running modeladapter --all --timeout=10s": r"condition met",
    "logs deployment/idle": r"^started as 127\.1\.\d+\.\d+\n$",
    "logs -l app!=idle -c engine --tail=1 --prefix": r"(\[pod/smollm2-\S+/engine\] .* INFO engine .*\n){2}$",
    "events --for modeladapter/a": r"Normal +Loaded +ModelAdapter/a +loaded and proved on 2 of 2 pods",
    "get events": r"(?s)LAST SEEN +TYPE +REASON +OBJECT +MESSAGE\n.*Normal +Scheduled +pod/idle-",
    "api-resources": r"(?s)NAME +SHORTNAMES +APIVERSION.*deployments +deploy +apps/v1 +true +Deployment\n.*modeladapters +model.aibrix.ai/v1alpha1 +true",
    "explain modeladapter.spec": r"artifactURL\s+<string> -required-",
    "version": r"Server Version: v1\.\d+\.\d+",
}


@pytest.mark.parametrize("command", READS)
def test_reads(world, command):
    def prints():
        output = world.kubectl(*command.split(" ")).stdout
        assert re.search(READS[command], output), output
        return True

    until(prints, command, timeout=5)


def test_logs(world):
    script = "echo one; sleep 3; echo two; sleep 3; echo three; exec sleep 1000"
    document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "talks"}, "spec": {
        "terminationGracePeriodSeconds": 1, "containers": [{"name": "main", "image": "none", "command": ["sh", "-c", script]}]}}
    world.apply(json.dumps(document))
    until(lambda: "three" in world.kubectl("logs", "talks", check=False).stdout, "it has said all", timeout=20)

    def logs(line):
        return world.kubectl("logs", "talks", *line.split()).stdout

    def times(text):
        return [datetime.fromisoformat(re.sub(r"(\.\d{6})\d{3}Z$", r"\1+00:00", line.split(" ")[0])) for line in text.splitlines()]

    stamped = until(lambda: len(set(times(logs("--timestamps")))) == 3 and logs("--timestamps"), "each line has a time of its own", timeout=5)
    assert [line.split(" ", 1)[1] for line in stamped.splitlines()] == ["one", "two", "three"]
    one, two, three = times(stamped)
    started = datetime.fromisoformat(world.get("pod", "talks")["status"]["containerStatuses"][0]["state"]["running"]["startedAt"])
    assert timedelta(seconds=-1) < one - started < timedelta(seconds=3 * SLOW) and one < two < three < one + timedelta(seconds=12 * SLOW)
    assert logs(f"--since-time={two.strftime('%Y-%m-%dT%H:%M:%SZ')}") == "two\nthree\n"
    assert logs("--since=1h") == "one\ntwo\nthree\n" and logs(f"--since-time={three.year + 1}-01-01T00:00:00Z") == ""
    assert logs("--tail=2") == "two\nthree\n" and logs("--tail=0") == "" and logs("--limit-bytes=5") == "one\nt"
    assert logs("--tail=2 --since-time=2020-01-01T00:00:00Z --limit-bytes=4") == "two\n"
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z three\n$", logs("--timestamps --tail=1"))
    for query, words in {"sinceSeconds=0": "must be greater than 0", "tailLines=-1": "must be greater than or equal to 0",
                         "tailLines=many": "must be a number", "limitBytes=0": "must be greater than 0",
                         "sinceTime=yesterday": "must be a time", "sinceSeconds=1&sinceTime=2020-01-01T00:00:00Z": "at most one of"}.items():
        refused = world.kubectl("get", "--raw", f"/api/v1/namespaces/default/pods/talks/log?{query}", check=False)
        assert refused.returncode == 1 and words in refused.stderr, refused
    world.kubectl("delete", "pod", "talks")


def test_only_the_api_server_reads_logs(world):
    node, = world.get("nodes")
    port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
    pod = world.get("pods", selector="app=idle")[0]["metadata"]["name"]
    url = f"http://127.0.0.1:{port}/containerLogs/default/{pod}/main"
    token = yaml.safe_load((world.dir / "kubeconfig").read_text())["users"][0]["user"]["token"]
    for headers in ({}, {"Authorization": "Bearer guess"}, {"Authorization": f"Bearer {token}"}):
        assert http("GET", url, headers=headers)[0] == 401
    assert world.kubectl("logs", pod).stdout.startswith("started as ")


@pytest.mark.parametrize("command, message", [
    ("get pod ghost", '(NotFound): pods "ghost" not found'), ("get ghosts", "doesn't have a resource type"),
    ("delete modeladapter ghost", 'modeladapters.model.aibrix.ai "ghost" not found'), ("logs ghost", 'pods "ghost" not found'),
    ("get pods --field-selector=spec.colour=red", "field label not supported"),
    ("wait --for=condition=Ready=False modeladapter/a --timeout=100ms", "timed out waiting for the condition")])
def test_reads_that_fail(world, command, message):
    result = world.kubectl(*command.split(" "), check=False)
    assert result.returncode == 1 and message in result.stderr, result


def test_writes(world):
    def kubectl(line, document=None):
        return world.kubectl(*line.split(" "), stdin=document and json.dumps(document)).stdout

    def get(path):
        return kubectl("get configmap writes -o jsonpath={%s}" % path)

    assert kubectl("create -f -", config_map("writes")) == "configmap/writes created\n"
    again = world.kubectl("create", "-f", "-", stdin=json.dumps(config_map("writes")), check=False)
    assert again.returncode == 1 and '(AlreadyExists): error when creating "STDIN": configmaps "writes" already exists' in again.stderr
    assert "configured" in kubectl("apply -f -", config_map("writes", "2"))  # also takes over what create made
    version = get(".metadata.resourceVersion")
    assert kubectl("apply -f -", config_map("writes", "2")) == "configmap/writes unchanged\n"
    assert get(".metadata.resourceVersion") == version
    assert kubectl('patch configmap writes -p {"data":{"more":"x"}}') == "configmap/writes patched\n"
    assert kubectl('patch configmap writes --type=merge -p {"data":{"more":null}}') == "configmap/writes patched\n"
    assert kubectl('patch configmap writes --type=json -p [{"op":"add","path":"/data/json","value":"y"}]') == "configmap/writes patched\n"
    assert json.loads(get(".data")) == {"value": "2", "json": "y"}
    assert kubectl("label configmap writes colour=red") == "configmap/writes labeled\n"
    assert kubectl("get configmaps -l colour=red -o name") == "configmap/writes\n"
    assert world.kubectl("label", "configmap", "writes", "colour=blue", check=False).returncode == 1
    kubectl("label configmap writes colour-")
    kubectl("annotate configmap writes note=long")
    assert json.loads(get(".metadata"))["annotations"]["note"] == "long" and "red" not in get(".metadata.labels")
    assert kubectl("delete configmap writes") == 'configmap "writes" deleted from default namespace\n'
    assert world.get("configmap", "writes") is None


def test_scale_and_what_owners_take_with_them(world):
    with Watch(world, "pods", "-l", "app=idle") as pods:
        world.kubectl("scale", "deployment/idle", "--replicas=2")
        assert "successfully rolled out" in world.kubectl("rollout", "status", "deployment/idle", f"--timeout={30 * SLOW}s").stdout
        assert len([pod for pod in world.get("pods", selector="app=idle") if is_ready(pod)]) == 2
        world.kubectl("delete", "deployment", "idle", f"--timeout={30 * SLOW}s")
        world.kubectl("wait", "--for=delete", "pods", "-l", "app=idle", f"--timeout={30 * SLOW}s")
        gone = until(lambda: {pod["metadata"]["name"] for _, kind, pod in pods.events if kind == "DELETED"}, "the watch tells it")
    assert len(gone | {pod["metadata"]["name"] for _, _, pod in pods.events}) == 2
    assert world.get("replicasets", selector="app=idle") == [] and world.get("pods", selector="app=idle") == []


def test_finalizers_hold_an_object(world):
    world.apply(json.dumps(config_map("held", finalizers=["example.org/held"])))
    assert "deleted" in world.kubectl("delete", "configmap", "held", "--wait=false").stdout
    assert world.get("configmap", "held")["metadata"]["deletionTimestamp"]
    added = world.kubectl("patch", "configmap", "held", "--type=merge", "-p", '{"metadata":{"finalizers":["example.org/a","example.org/held"]}}',
                          check=False)
    assert added.returncode == 1 and "no new finalizers can be added" in added.stderr
    world.kubectl("patch", "configmap", "held", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    assert world.get("configmap", "held") is None


def test_a_writer_with_an_old_version_is_refused(world):
    world.apply(json.dumps(config_map("contested")))
    old = world.get("configmap", "contested")
    world.kubectl("label", "configmap", "contested", "winner=first")
    stale = world.kubectl("replace", "-f", "-", stdin=json.dumps({**old, "data": {"value": "lost"}}), check=False)
    assert stale.returncode == 1 and "(Conflict)" in stale.stderr and "the object has been modified" in stale.stderr
    assert world.get("configmap", "contested")["data"] == {"value": "1"}
    fresh = world.get("configmap", "contested")
    world.kubectl("replace", "-f", "-", stdin=json.dumps({**fresh, "data": {"value": "won"}}))
    assert world.get("configmap", "contested")["data"] == {"value": "won"}
    world.kubectl("delete", "configmap", "contested")


class Writer(threading.Thread):
    """Creates ConfigMaps one after the other and remembers those that were acknowledged."""

    def __init__(self, world):
        super().__init__()
        self.world, self.stop, self.acknowledged, self.refused = world, threading.Event(), {}, 0

    def run(self):
        for index in range(10000):
            if self.stop.is_set():
                return
            document = json.dumps(config_map(f"kept-{index}", labels={"test": "kept"}))
            result = self.world.kubectl("create", "-f", "-", "-o", "json", stdin=document, check=False)
            if result.returncode == 0:
                self.acknowledged[f"kept-{index}"] = json.loads(result.stdout)
            else:
                self.refused += 1


def version_of(item):
    return int(item["metadata"]["resourceVersion"])


def kill_api_server(world):
    """kill -9; returns seconds until it answers again."""
    role = next(role for role in json.loads((world.dir / "davit.json").read_text())["roles"] if role["name"] == "apiserver")
    started = time.monotonic()
    os.kill(role["pid"], signal.SIGKILL)
    until(lambda: world.kubectl("get", "--raw", "/readyz").stdout == "ok", "the API server is back", timeout=10)
    return time.monotonic() - started


def watch_since(world, collection, version):
    """(type, object) of what the API tells a watch that goes on after a resourceVersion, within a second."""
    lines = world.kubectl("get", "--raw", f"{collection}&watch=true&resourceVersion={version}&timeoutSeconds=1").stdout.splitlines()
    return [(event["type"], event["object"]) for event in map(json.loads, lines)]


def test_a_killed_api_server_loses_nothing_and_watches_go_on(world):
    collection = "/api/v1/namespaces/default/configmaps?labelSelector=test%3Dkept"
    objects = {kind: world.get(kind) for kind in ("modeladapters", "deployments", "services", "endpointslices")}
    world.apply(json.dumps(config_map("waited")))
    waits = subprocess.Popen([world.kubectl_path, "wait", "--for=jsonpath={.data.value}=done", "configmap/waited", f"--timeout={30 * SLOW}s"],
                             env=world.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    writer = Writer(world)
    writer.start()
    try:
        until(lambda: len(writer.acknowledged) >= 3, "objects are created")
        seconds = kill_api_server(world)
        assert world.text(BASE, SQL_QUESTION)[0] == 200
        back = json.loads(world.kubectl("get", "--raw", collection).stdout)["metadata"]["resourceVersion"]
        count = len(writer.acknowledged)
        until(lambda: len(writer.acknowledged) >= count + 3, "objects are created again")
    finally:
        writer.stop.set()
        writer.join()
    assert seconds < 2 * SLOW
    kept = {item["metadata"]["name"]: item for item in world.get("configmaps", selector="test=kept")}
    assert writer.acknowledged.items() <= kept.items()
    # A watch is told everything since the version it names, once and in order, or that it has to list again.
    newer = [item for item in kept.values() if version_of(item) > int(back)]
    assert watch_since(world, collection, back) == [("ADDED", item) for item in sorted(newer, key=version_of)]
    assert [(kind, item["reason"]) for kind, item in watch_since(world, collection, 1)] == [("ERROR", "Expired")]
    # kubectl's own watch, from before the crash, goes on; controller and node do too.
    world.apply(json.dumps(config_map("waited", "done")))
    output, errors = waits.communicate(timeout=40 * SLOW)
    assert output == "configmap/waited condition met\n", errors
    for kind, items in objects.items():
        assert [(item["metadata"]["uid"], item.get("spec")) for item in world.get(kind)] == [
            (item["metadata"]["uid"], item.get("spec")) for item in items]
    world.serve({"b": world.artifacts["b"]})
    assert world.text("b", SQL_QUESTION)[0] == 200
    world.kubectl("delete", "configmaps", "waited", *kept, f"--timeout={30 * SLOW}s")
