"""One controller, one API, many fake engines: set up, driven and metered."""

import json
import os
import subprocess
import time
from pathlib import Path

from roles import Api, ApiServer, Fakes, metrics_at, program
from world import until

NAMESPACE = "bench"
BASE = "base"
QUIET_SECONDS = 2  # without a write: everything that was to be written is


class Driver:
    """bench/controller/driver.c, a command at a time."""

    def __init__(self, kubeconfig):
        self.popen = subprocess.Popen([str(program("bench/controller/bench_driver")), str(kubeconfig), NAMESPACE], text=True,
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert json.loads(self.popen.stdout.readline())["synced"]

    def send(self, **command):
        self.popen.stdin.write(json.dumps(command) + "\n")
        self.popen.stdin.flush()

    def take(self):
        return json.loads(self.popen.stdout.readline())

    def do(self, **command):
        self.send(**command)
        answer = self.take()
        assert not answer.get("error") and not answer.get("failed"), answer
        return answer

    def wait(self, what, timeout, **bound):
        """When it was so, in seconds of time.monotonic(); None when it was not in time."""
        self.send(do="await", what=what, timeout=timeout, **bound)
        answer = self.take()
        return None if "error" in answer else answer["at"]

    def close(self):
        self.popen.stdin.close()
        self.popen.wait(timeout=20)


def cpu_seconds(pid):
    """User and system time of a process, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid, what):
    """VmHWM (the most it ever held) or VmRSS."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) / 1024


class Run:
    """What a scenario plays in. `pods` engines are pods, `spare` more addresses are held ready."""

    def __init__(self, subject, folder, options, pods, spare=0, settings=None):
        self.subject, self.options = subject, options
        self.folder = Path(folder)
        self.folder.mkdir(parents=True)
        self.network = os.environ.get("DAVIT_TEST_NETWORK")  # a real API server takes no loopback addresses: "10.77"
        given = os.environ.get("DAVIT_TEST_KUBECONFIG")
        self.api_server = None if given else ApiServer(self.folder)
        self.kubeconfig = Path(given) if given else self.api_server.kubeconfig
        self.api = Api(self.kubeconfig, NAMESPACE)
        self.api.create("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        self.fakes = Fakes(self.folder, pods + spare, network=self.network, settings=settings, log_entries=400000)
        self.addresses, self.spare = self.fakes.addresses[:pods], self.fakes.addresses[pods:]
        self.pods = {f"pod-{i:04}": address for i, address in enumerate(self.addresses)}
        for name, address in self.pods.items():
            self.add_pod(name, address)
        self.controller = subject.start(self.folder, self.kubeconfig, options.poll_seconds)
        self.driver = Driver(self.kubeconfig)
        self.own_writes = 0  # to the API, by the bench, since the last meter()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.driver.close()
        self.controller.stop()
        if self.api_server:
            self.api_server.stop()
        else:
            self.clean_up()
        self.fakes.stop()

    def clean_up(self):
        """A cluster that was lent is given back empty."""
        for adapter in self.api.list("modeladapters")["items"]:
            self.api.patch("modeladapters", adapter["metadata"]["name"], {"metadata": {"finalizers": None}})
        for kind in ("modeladapters", "pods"):
            self.api.must("DELETE", self.api.path(kind))
        self.api.must("DELETE", f"/api/v1/namespaces/{NAMESPACE}")
        until(lambda: self.api.ask("GET", f"/api/v1/namespaces/{NAMESPACE}")[0] == 404, "the namespace is gone", 300)

    # ---- objects ----

    def add_pod(self, name, address):
        self.api.create("pods", {
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "labels": {"model.aibrix.ai/name": BASE, "adapter.model.aibrix.ai/enabled": "true"}},
            "spec": {"containers": [{"name": "engine", "image": "none"}]}})
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.api.patch("pods", name, {"status": {
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}],
            "containerStatuses": [{"name": "engine", "ready": True, "restartCount": 0, "image": "none", "imageID": "",
                                   "state": {"running": {"startedAt": now}}}]}}, "status")

    def create(self, count, **spec):
        """Returns the time of the first create."""
        self.own_writes += count
        return self.driver.do(do="create", prefix="a", first=0, count=count, object={
            "apiVersion": "model.aibrix.ai/v1alpha1", "kind": "ModelAdapter",
            "metadata": {"namespace": NAMESPACE, "labels": {"model.aibrix.ai/name": BASE}},
            "spec": {"baseModel": BASE, "podSelector": {"matchLabels": {"model.aibrix.ai/name": BASE}}, "artifactURL": "", **spec}})

    def wait_loaded(self, adapters, copies, timeout):
        """When every adapter is said to be served and the engines hold all copies; None when not in time."""
        deadline = time.monotonic() + timeout
        at = self.driver.wait("loaded" if self.subject.has_fully_loaded else "ready", int(timeout), at_least=adapters)
        if at is None:
            return None
        while self.fakes.counts()["adapters"] < copies:
            if time.monotonic() > deadline:
                return None
            time.sleep(0.05)
            at = time.monotonic()
        return at

    # ---- meters ----

    def api_requests(self):
        """Verb -> requests that the API server counted, of everybody; None when it does not count."""
        status, page = self.api.ask("GET", "/metrics")
        if status != 200 or "apiserver_request_total" not in page:
            return None
        verbs = {}
        for line in page.splitlines():
            if line.startswith("apiserver_request_total{"):
                verb = line.split('verb="')[1].split('"')[0]
                verbs[verb] = verbs.get(verb, 0) + float(line.rpartition(" ")[2])
        return verbs

    def meter(self):
        self.own_writes = 0
        return {
            "at": time.monotonic(), "cpu": cpu_seconds(self.controller.pid), "engine": self.fakes.counts()["requests"],
            "api_cpu": cpu_seconds(self.api_server.pid) if self.api_server else 0, "revision": self.api.revision(),
            "verbs": self.api_requests(), "writes": self.subject.writes(),
            "events": self.count_events() if self.subject.has_fully_loaded else 0}

    def count_events(self):
        return len(self.api.list("events")["items"])

    def settle(self, timeout=60):
        """Waits until nobody has written for a while; what comes late is counted too."""
        deadline = time.monotonic() + timeout
        revision, since = self.api.revision(), time.monotonic()
        while time.monotonic() - since < QUIET_SECONDS and time.monotonic() < deadline:
            time.sleep(0.2)
            now = self.api.revision()
            if now != revision:
                revision, since = now, time.monotonic()

    def since(self, before, per=None):
        """Rows of a table: what was spent since a meter(); `per` adapters, the writes also for one of them."""
        own, now = self.own_writes, self.meter()
        rows = {"controller CPU, s": now["cpu"] - before["cpu"]}
        if self.api_server:
            rows["API server CPU, s"] = now["api_cpu"] - before["api_cpu"]
        writes = now["revision"] - before["revision"] - own
        rows["API writes"] = writes
        if per:
            rows["API writes an adapter"] = writes / per
        for kind, count in now["writes"].items():
            rows[f"  of {kind}"] = count - before["writes"].get(kind, 0)
        if self.subject.has_fully_loaded:
            rows["  of new events"] = now["events"] - before["events"]
        for verb, count in sorted((now["verbs"] or {}).items()):
            if count != before["verbs"].get(verb, 0):
                rows[f"API requests {verb}, of all"] = count - before["verbs"].get(verb, 0)
        for call, count in now["engine"].items():
            if count != before["engine"][call]:
                rows[f"engine requests {call}"] = count - before["engine"][call]
        rows["peak RSS, MiB"] = memory_mib(self.controller.pid, "VmHWM")
        return rows
