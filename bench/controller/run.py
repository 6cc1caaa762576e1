"""One controller, one API, many fake engines: set up, driven and metered."""

import json
import os
import subprocess
import time
from pathlib import Path

from roles import Api, ApiServer, Fakes, program
from world import until

BASE = "base"
QUIET_SECONDS = 11  # longer than the controller collects what is not urgent


class Driver:
    """bench/controller/driver.c, a command at a time."""

    def __init__(self, kubeconfig, namespace):
        self.popen = subprocess.Popen([str(program("bench/controller/bench_driver")), str(kubeconfig), namespace], text=True,
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


def name_of(pid):
    return Path(f"/proc/{pid}/comm").read_text().strip()


def memory_mib(pid, what):
    """VmHWM (the most it ever held) or VmRSS."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) / 1024


class Audit:
    """What a subject wrote, by the API server's audit log: exact, and only its own."""

    OTHERS = ("davit-bench", "kube-", "kubectl", "Python-urllib")

    def __init__(self, path):
        self.file = Path(path).open()
        self.file.seek(0, os.SEEK_END)
        self.counts, self.total = {}, 0

    def read(self):
        """(verb, resource) -> count since the beginning, as far as the log is written."""
        for line in self.file:
            entry = json.loads(line)
            agent, about = entry.get("userAgent", ""), entry.get("objectRef", {})
            if agent and not agent.startswith(self.OTHERS) and entry.get("stage") == "ResponseComplete":
                what = about.get("resource", "?") + (f"/{about['subresource']}" if "subresource" in about else "")
                key = f"{entry['verb']} {what}"
                self.counts[key] = self.counts.get(key, 0) + 1
                self.total += 1
        return dict(self.counts)


class Run:
    """What a scenario plays in. `pods` engines are pods, `spare` more addresses are held ready. subject None: no controller."""

    def __init__(self, subject, folder, options, pods, spare=0, settings=None):
        self.subject, self.options = subject, options
        self.folder = Path(folder)
        self.folder.mkdir(parents=True)
        self.network = os.environ.get("DAVIT_TEST_NETWORK")  # a real API server takes no loopback addresses: "10.77"
        given, audit, pids = (os.environ.get(name) for name in ("DAVIT_TEST_KUBECONFIG", "DAVIT_TEST_AUDIT", "DAVIT_TEST_PIDS"))
        self.api_server = None if given else ApiServer(self.folder)
        self.kubeconfig = Path(given) if given else self.api_server.kubeconfig
        self.audit = Audit(audit) if audit else None
        self.namespace = f"bench-{self.folder.name}"
        self.api = Api(self.kubeconfig, self.namespace)
        self.api.create("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}})
        if given:
            account = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/default"
            until(lambda: self.api.ask("GET", account)[0] == 200, "the namespace is ready for pods")
        self.fakes = Fakes(self.folder, pods + spare, network=self.network, settings=settings, log_entries=400000)
        self.addresses, self.spare = self.fakes.addresses[:pods], self.fakes.addresses[pods:]
        self.pods = {f"pod-{i:04}": address for i, address in enumerate(self.addresses)}
        for name, address in self.pods.items():
            self.add_pod(name, address)
        self.controller = subject.start(self.folder, self.kubeconfig, options.poll_seconds) if subject else None
        self.driver = Driver(self.kubeconfig, self.namespace)
        api = {"API server": self.api_server.pid} if self.api_server else {name_of(pid): int(pid) for pid in (pids or "").split(",") if pid}
        controller = {"controller": self.controller.pid} if subject else {}
        self.parties = {**controller, **api, "engines": self.fakes.pid, "driver": self.driver.popen.pid}
        self.own_writes = 0  # to the API, by the bench, since the last meter()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.driver.close()
        if self.controller:
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
        self.api.must("DELETE", f"/api/v1/namespaces/{self.namespace}")

    # ---- objects ----

    def add_pod(self, name, address):
        self.api.create("pods", {
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "labels": {"model.aibrix.ai/name": BASE, "adapter.model.aibrix.ai/enabled": "true"}},
            "spec": {"containers": [{"name": "engine", "image": "none"}], "schedulerName": "bench", "automountServiceAccountToken": False,
                     "terminationGracePeriodSeconds": 0}})
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.api.patch("pods", name, {"status": {
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}],
            "containerStatuses": [{"name": "engine", "ready": True, "restartCount": 0, "image": "none", "imageID": "",
                                   "state": {"running": {"startedAt": now}}}]}}, "status")

    def write(self, count, *steps):
        """For each of so many names all the steps. Returns when the first was begun and the last answered."""
        self.own_writes += count * len(steps)
        return self.driver.do(do="write", prefix="a", first=0, count=count, steps=steps)

    def create(self, count, **spec):
        return self.write(count, {"verb": "create", "body": self.adapter(**spec)})

    def adapter(self, **spec):
        return {"apiVersion": "model.aibrix.ai/v1alpha1", "kind": "ModelAdapter",
                "metadata": {"name": "@NAME@", "namespace": self.namespace, "labels": {"model.aibrix.ai/name": BASE}},
                "spec": {"baseModel": BASE, "podSelector": {"matchLabels": {"model.aibrix.ai/name": BASE}},
                         "artifactURL": "/adapters/@NAME@", **spec}}

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

    def meter(self):
        self.own_writes = 0
        return {
            "at": time.monotonic(), "cpu": self.spent(), "engine": self.fakes.counts()["requests"], "revision": self.api.revision(),
            "own": self.subject.counts() if self.subject else {}, "audit": self.audit.read() if self.audit else {},
            "events": len(self.api.list("events")["items"])}

    def spent(self):
        """CPU seconds of each party."""
        return {name: cpu_seconds(pid) for name, pid in self.parties.items()}

    def written(self):
        """A number that moves with every write that is the subject's; with those of others too where there is no audit log."""
        if not self.audit:
            return self.api.revision()
        self.audit.read()
        return self.audit.total

    def settle(self, timeout=60):
        """Waits until nothing was written for a while; what comes late is counted too."""
        deadline = time.monotonic() + timeout
        written, since = self.written(), time.monotonic()
        while time.monotonic() - since < QUIET_SECONDS and time.monotonic() < deadline:
            time.sleep(0.2)
            now = self.written()
            if now != written:
                written, since = now, time.monotonic()

    def since(self, before, per=None):
        """Rows of a table: what was spent since a meter(); `per` adapters, the writes also for one of them."""
        own, now = self.own_writes, self.meter()
        rows = {f"{name} CPU, s": now["cpu"][name] - before["cpu"][name] for name in self.parties}
        writes = sum(now["audit"].values()) - sum(before["audit"].values()) if self.audit else now["revision"] - before["revision"] - own
        # Without an audit log the store's revision is what tells; an embedded API that forgets old events moves it, too.
        words = "API writes" if self.audit else "writes in the store"
        rows[words] = writes
        if per:
            rows[f"{words} an adapter"] = writes / per
        rows.update(differences("  {}", before["audit"], now["audit"]))
        rows["  new events"] = now["events"] - before["events"]
        rows.update(differences("its count of {}", before["own"], now["own"]))
        rows.update(differences("engine requests {}", before["engine"], now["engine"]))
        if self.controller:
            rows["peak RSS, MiB"] = memory_mib(self.controller.pid, "VmHWM")
        return rows


def differences(words, before, now):
    return {words.format(name): count - before.get(name, 0) for name, count in sorted(now.items()) if count != before.get(name, 0)}
