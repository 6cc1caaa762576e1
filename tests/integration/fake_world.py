"""An API server, the controller, and pods whose engines are fakes: objects that are patched as a kubelet would."""

import itertools
import os
import signal
import subprocess

from apis import end_namespace
from roles import Api, Controller, Fakes
from world import until

BASE = "base"
POLL_SECONDS = 0.3
SLACK_SECONDS = 2  # a busy machine's, beside a time that is promised


class FakeWorld:
    """A controller at an API server; every test lives in a namespace of its own (Room)."""

    numbers = itertools.count(1)  # of rooms: worlds may have one API server in common

    def __init__(self, folder, api_server, *options):
        self.folder, self.api_server, self.options = folder, api_server, options
        self.start_controller()

    def start_controller(self):
        self.controller = Controller(self.folder, self.api_server.kubeconfig, "--enable-runtime-sidecar", "--poll-period", POLL_SECONDS,
                                     *self.options)

    def restart_controller(self, *options, is_killed=False):
        """With other options, if there are any."""
        self.options = options or self.options
        if is_killed:
            self.controller.stop(signal.SIGKILL)
        else:
            self.controller.check()
        self.start_another_controller()

    def start_another_controller(self):
        """The one before has ended."""
        self.controller.log.rename(self.folder / f"controller-{self.controller.pid}.log")  # its ports are read from its log
        self.start_controller()

    def room(self, pods, **options):
        return Room(self, f"room-{next(self.numbers)}", pods, **options)

    def close(self):
        self.controller.check()


class Room:
    def __init__(self, world, namespace, pods, sidecar=False, sidecar_pods=False, spares=0, **options):
        self.world, self.namespace = world, namespace
        self.api = Api(world.api_server.kubeconfig, namespace)
        world.api_server.make_namespace(self.api)
        self.fakes = Fakes(world.folder, pods + spares, sidecar=sidecar, network=world.api_server.network, **options)
        self.kind = options.get("kind", "vllm")
        self.pods = {f"pod-{i}": address for i, address in enumerate(self.fakes.addresses[:pods])}
        self.spares = self.fakes.addresses[pods:]  # engines that no pod has yet
        for name, address in self.pods.items():
            self.add_pod(name, address, sidecar or sidecar_pods)  # sidecar_pods: the sidecars are the test's

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """Nothing of this test may concern the controller during the next one."""
        for pod in self.api.list("pods")["items"]:
            self.api.delete("pods", pod["metadata"]["name"])
        for adapter in self.api.list("modeladapters")["items"]:
            self.api.delete("modeladapters", adapter["metadata"]["name"])
        until(lambda: not self.api.list("modeladapters")["items"], "the adapters are gone")
        end_namespace(self.api)
        self.fakes.check()
        assert self.world.controller.popen.poll() is None, self.world.controller.text()[-2000:]

    # ---- pods ----

    def add_pod(self, name, address, sidecar=False):
        names = ["engine", *(["aibrix-runtime"] if sidecar else [])]
        self.add_pod_of(name, address, {
            "metadata": {"labels": {"model.aibrix.ai/name": BASE, "model.aibrix.ai/engine": self.kind}},
            "spec": {"containers": [{"name": container, "image": "none"} for container in names]}})

    def add_pod_of(self, name, address, template):
        """As a Deployment's template has it."""
        metadata = {"name": name, "labels": template["metadata"]["labels"]}
        self.api.create("pods", {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
        self.set_pod(name, address)

    def set_pod(self, name, address, ready=True, restarts=0):
        statuses = [{"name": "engine", "ready": ready, "restartCount": restarts, "image": "none", "imageID": "",
                     "state": {"running": {"startedAt": f"2026-01-01T00:00:{restarts:02}Z"}}}]
        self.api.patch("pods", name, {"status": {
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "containerStatuses": statuses,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}]}}, "status")

    # ---- adapters ----

    def kubectl(self, *arguments):
        """What it printed, with and without errors."""
        environment = {**os.environ, "KUBECONFIG": str(self.world.api_server.kubeconfig), "HOME": str(self.world.folder)}
        result = subprocess.run([os.environ.get("KUBECTL", "kubectl"), "--namespace", self.namespace, *map(str, arguments)],
                                text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, env=environment)
        assert result.returncode == 0, f"kubectl {arguments}: {result.stdout}"
        return result.stdout

    def apply(self, name, path=None, **spec):
        self.api.create("modeladapters", {
            "apiVersion": "model.aibrix.ai/v1alpha1", "kind": "ModelAdapter", "metadata": {"name": name},
            "spec": {"baseModel": BASE, "podSelector": {"matchLabels": {"model.aibrix.ai/name": BASE}},
                     "artifactURL": path or f"/adapters/{name}", **spec}})

    def condition(self, name, kind="Ready"):
        """{} as long as there is none."""
        return condition_of(self.api.get("modeladapters", name), kind)

    def loads(self, name):
        """Pod -> its row in the status."""
        status = self.api.get("modeladapters", name).get("status") or {}
        return {load["pod"]: load for load in status.get("loads") or []}

    def wait(self, name, kind="Ready", status="True", timeout=20):
        return until(lambda: (found := self.condition(name, kind)).get("status") == status and found, f"{name}: {kind} is {status}",
                     timeout)

    def published(self, name):
        """Addresses that take requests."""
        return published_in(self.api.get("endpointslices", name))

    def events_of(self, name, reason):
        events = self.api.list("events")["items"]
        return [event for event in events if event["involvedObject"]["name"] == name and event["reason"] == reason]

    def written(self):
        """Another value after every write."""
        return self.world.api_server.written(self.api)

    def settle(self, polls=3):
        """Waits until every engine that answers was polled some more times: nothing may have changed by then."""
        before = self.polls()
        until(lambda: all(count >= before[address] + polls for address, count in self.polls().items()), f"{polls} polls of every pod")

    def polls(self):
        engines = self.fakes.ask("GET", "engines")["engines"]
        return {address: engine["requests"]["list"] for address, engine in engines.items()}


def condition_of(adapter, kind="Ready"):
    conditions = ((adapter or {}).get("status") or {}).get("conditions") or []
    return next((condition for condition in conditions if condition["type"] == kind), {})


def published_in(endpoint_slice):
    endpoints = (endpoint_slice or {}).get("endpoints") or []
    return {address for endpoint in endpoints if endpoint.get("conditions", {}).get("ready", True) for address in endpoint["addresses"]}
