"""A churn of adapters and pods while the controller is killed again and again: what is done, and a record of it for churn_judge.

Everything that is chosen comes from one seed; how the threads interleave does not."""

import contextlib
import http.client
import itertools
import json
import random
import re
import signal
import threading
import time
from types import SimpleNamespace

from apis import end_namespace
from churn_judge import FOREVER, Change, Pod, Records, judge
from fake_world import POLL_SECONDS, Room, condition_of, published_in
from roles import Api, ApiWatch, Controller
from world import SLOW, until

QUIET_POLLS = 10  # of every pod: nothing may be written or asked of an engine meanwhile
LEASE = ("--leader-elect", "--leader-election-lease-duration", "1500ms", "--leader-election-renew-deadline", "1s",
         "--leader-election-retry-period", "200ms")
FAULTS = {"load": {"delay_ms": 15}, "unload": {"delay_ms": 5}, "generate": {"delay_ms": 3}}
FROZEN_SECONDS = 3.0  # longer than the lease lasts


class RawWatch(ApiWatch):
    """Notes the time of a line before it is parsed, which is done at the end: the thread must not fall behind. A real API server ends a
    watch whose reader is slow all the same; then it goes on where it was."""

    def read(self):
        self.lines, self.resumed = [], 0
        while True:
            try:
                for line in self.answer:
                    self.lines.append((time.monotonic(), line))
            except (OSError, ValueError, http.client.HTTPException):
                pass
            if self.is_over:
                return
            self.resume()

    def resume(self):
        if self.lines and not self.lines[-1][1].endswith(b"\n"):
            self.lines.pop()  # it was cut within
        self.connection.close()
        self.open(json.loads(self.lines[-1][1])["object"]["metadata"]["resourceVersion"] if self.lines else self.version)
        self.resumed += 1

    def parsed(self):
        return [(at, event["type"], event["object"]) for at, event in ((at, json.loads(line)) for at, line in self.lines)]


class Controllers:
    """One controller or several with a lease; killed -9 or frozen at random moments, and there again at once."""

    def __init__(self, folder, kubeconfig, count, rng, pause):
        self.folder, self.kubeconfig, self.rng, self.pause = folder, kubeconfig, rng, pause
        self.options = ["--poll-period", POLL_SECONDS, *(LEASE if count > 1 else ())]
        self.folders = [folder / f"controller-{i}" for i in range(count)]
        for each in self.folders:
            each.mkdir()
        self.processes = [self.start(i) for i in range(count)]
        self.kills = []  # (time, what)
        self.problem = None

    def start(self, i):
        return Controller(self.folders[i], self.kubeconfig, *self.options)

    def leader(self):
        """Whom the lease names; anybody while it names nobody who is here."""
        if len(self.processes) == 1:
            return 0
        status, lease = self.api.ask("GET", "/apis/coordination.k8s.io/v1/namespaces/default/leases/davit-controller")
        holder = (lease.get("spec") or {}).get("holderIdentity") or "" if status == 200 else ""
        return next((i for i, process in enumerate(self.processes) if str(process.pid) in holder), self.rng.randrange(len(self.processes)))

    def revive(self):
        """One that found that another leads, or may, has ended, as it should; a kubelet would start it again."""
        for at, process in enumerate(self.processes):
            if process.popen.poll() is not None:
                said = process.text()[-2000:]
                assert len(self.processes) > 1 and "the lease was lost" in said, f"ended with {process.popen.returncode}: {said}"
                self.processes[at] = self.start(at)

    def strike(self, number):
        self.revive()
        at = self.leader()
        process = self.processes[at]
        if len(self.processes) > 1 and number % 2:
            process.popen.send_signal(signal.SIGSTOP)
            self.kills.append((time.monotonic(), "frozen"))
            threading.Event().wait(FROZEN_SECONDS)
            process.popen.send_signal(signal.SIGCONT)
            until(lambda: process.popen.poll() is not None or self.leader() == at, "it ends, or leads still")
            return
        process.popen.kill()
        process.popen.wait()
        self.kills.append((time.monotonic(), "killed"))
        self.processes[at] = self.start(at)

    def run(self, strikes):
        try:
            self.api = Api(self.kubeconfig)
            for number in range(strikes):
                threading.Event().wait(self.rng.uniform(0.05, self.pause))
                self.strike(number)
            self.revive()
        except Exception as error:  # handed to the thread that waits
            self.problem = error

    def check(self):
        self.revive()
        for process in self.processes:
            process.check()


class Churn:
    count = itertools.count(1)  # they may have one API server in common

    def __init__(self, folder, api_server, seed, adapters, pods=10, spares=4, controllers=1, pause=2.0, rate=60):
        self.seed, self.rate = seed, rate
        self.rng = random.Random(f"churn {seed}")
        self.room = Room(SimpleNamespace(api_server=api_server, folder=folder), f"churn-{next(self.count)}", pods, spares=spares,
                         log_entries=400000, settings={"faults": FAULTS})
        self.api = self.room.api
        self.names = [f"a{i:04}" for i in range(adapters)]
        self.numbers = dict.fromkeys(self.names, 0)  # of artifacts
        self.wanted = {}  # name -> (uid, url, replicas)
        self.changes, self.steps, self.done = [], [], {}
        self.uids, self.pods = {}, []
        self.pod_count = pods
        for name, address in self.room.pods.items():
            self.note_pod(name, address, time.monotonic())
        self.controllers = Controllers(folder, api_server.kubeconfig, controllers, random.Random(f"kills {seed}"), pause)

    def close(self):
        with contextlib.ExitStack() as ends:  # whatever one of them says, all are ended
            ends.callback(end_namespace, self.api)
            ends.callback(self.room.fakes.check)
            ends.callback(self.controllers.check)

    # ---- adapters ----

    def url(self, name):
        self.numbers[name] += 1
        return f"/adapters/{name}/v{self.numbers[name]}"

    def replicas(self):
        return None if self.rng.random() < 0.4 else self.rng.randint(1, 4)

    def note(self, name, began):
        uid, url, _ = self.wanted[name]
        self.changes.append(Change(began, time.monotonic(), uid, url))

    def create(self, name):
        """False when an earlier one of that name is still being taken away."""
        url, replicas, began = self.url(name), self.replicas(), time.monotonic()
        spec = {"baseModel": "base", "podSelector": {"matchLabels": {"model.aibrix.ai/name": "base"}}, "artifactURL": url}
        status, answer = self.api.ask("POST", self.api.path("modeladapters"), {
            "apiVersion": "model.aibrix.ai/v1alpha1", "kind": "ModelAdapter", "metadata": {"name": name},
            "spec": {**spec, **({"replicas": replicas} if replicas is not None else {})}})
        assert status in (201, 409), answer
        if status == 201:
            self.wanted[name] = (answer["metadata"]["uid"], url, replicas)
            self.note(name, began)
        return status == 201

    def change(self, name):
        uid, _, replicas = self.wanted[name]
        began, url = time.monotonic(), self.url(name)
        self.api.patch("modeladapters", name, {"spec": {"artifactURL": url}})
        self.wanted[name] = (uid, url, replicas)
        self.note(name, began)

    def scale(self, name):
        uid, url, _ = self.wanted[name]
        self.wanted[name] = (uid, url, self.replicas())
        self.api.patch("modeladapters", name, {"spec": {"replicas": self.wanted[name][2]}})

    def delete(self, name):
        self.api.delete("modeladapters", name)
        del self.wanted[name]

    # ---- pods ----

    def note_pod(self, name, address, born):
        """born: before it was made, since what it is asked for may come before what made it has its answer."""
        uid = self.api.get("pods", name)["metadata"]["uid"]
        self.pods.append(Pod(uid, name, address, born))

    def replace_pod(self):
        """The engine ends and its pod goes; another takes a spare address, where an engine starts."""
        old = self.rng.choice([pod for pod in self.pods if pod.died is None])
        old.died = time.monotonic()
        self.room.fakes.set(old.address, dead=True)
        self.api.delete("pods", old.name)
        address = self.room.spares.pop(0)
        self.room.spares.append(old.address)
        self.room.fakes.order("restart", [address])
        self.room.fakes.set(address, dead=False)
        name, born = f"pod-{len(self.pods)}", time.monotonic()
        self.room.add_pod(name, address)
        self.note_pod(name, address, born)

    # ---- the churn ----

    def step(self):
        kind = self.rng.choices(("create", "change", "scale", "delete", "pod"), (30, 34, 15, 19, 2))[0]
        present = sorted(self.wanted)
        name = self.rng.choice(self.names)
        if kind == "pod":
            self.replace_pod()
        elif name not in self.wanted:
            kind = "create" if self.create(name) else "create refused"
        elif kind in ("change", "scale", "delete") and present:
            getattr(self, kind)(name)
        else:
            return
        self.done[kind] = self.done.get(kind, 0) + 1
        self.steps.append((time.monotonic(), kind, name))

    def run(self, strikes):
        """Churns until the controllers were struck so often; returns what was recorded."""
        self.began = time.monotonic()
        with RawWatch(self.api, "endpointslices") as self.watch:
            killer = threading.Thread(target=self.controllers.run, args=(strikes,))
            killer.start()
            try:
                for name in self.rng.sample(self.names, len(self.names)):
                    self.create(name)
                while killer.is_alive():
                    self.step()
                    killer.join(self.rng.expovariate(self.rate))
            finally:
                killer.join()
            if self.controllers.problem:
                raise self.controllers.problem
            self.ended = time.monotonic()
            self.churned_seconds = self.ended - self.began
            self.await_convergence()
        return self.records()

    def records(self):
        log = self.room.fakes.ask("GET", "log?from=0")
        assert not log["lost"], f"{log['lost']} events were lost: the log is too short"
        return Records(log["events"], self.watch.parsed(), self.changes, self.pods)

    # ---- the end ----

    def history(self):
        """What became of the first adapter that a difference names, in lines by time."""
        name = next(iter(re.findall(r"\ba\d{4}\b", self.left[0])), None)
        if name is None:
            return ""
        lines = [(at, what) for at, what in self.controllers.kills]
        lines += [(at, f"{what} {name}") for at, what, of in self.steps if of == name]
        lines += [(each["began"], f"{each['call']} {name} {each.get('path', '')} at {each['address']}: {each['status']} after "
                                  f"{each['ended'] - each['began']:.3f} s")
                  for each in self.room.fakes.ask("GET", "log?from=0")["events"] if each["name"] == name]
        lines += [(at, f"pod {pod.name} at {pod.address} {what}") for pod in self.pods
                  for at, what in ((pod.born, "is made"), (pod.died, "goes")) if at]
        return "\n".join(f"{at - self.began:8.3f} {what}" for at, what in sorted(lines))

    def await_convergence(self, timeout=90):
        """It is late when there was no fewer for that long: a machine that is busy with others takes its time."""
        fewest = FOREVER
        while fewest:
            def is_nearer(fewest=fewest):
                self.controllers.revive()
                self.left = self.differences()
                return len(self.left) < fewest
            try:
                until(is_nearer, "converges", timeout)
            except AssertionError:
                raise AssertionError(f"SEED={self.seed}: nothing became better in {timeout * SLOW} s, {len(self.left)} differences:\n" +
                                     "\n".join(self.left[:20]) + "\n" + self.history()) from None
            fewest = len(self.left)
        self.converged_seconds = time.monotonic() - self.ended
        until(self.is_quiet, f"SEED={self.seed}: nothing is written any more", timeout)
        self.quiet_seconds = time.monotonic() - self.ended
        assert not self.differences(), self.left

    def versions(self):
        return {(kind, item["metadata"]["name"]): item["metadata"]["resourceVersion"]
                for kind in ("modeladapters", "services", "endpointslices", "events") for item in self.api.list(kind)["items"]}

    def is_quiet(self):
        self.controllers.revive()
        before, asked = self.versions(), self.room.fakes.ask("GET", "totals")["requests"]
        live = [pod.address for pod in self.pods if pod.died is None]
        polls = self.room.polls()
        until(lambda: all(now >= polls[at] + QUIET_POLLS for at, now in self.room.polls().items() if at in live), "polls of every pod")
        after = self.room.fakes.ask("GET", "totals")["requests"]
        return self.versions() == before and all(after[call] == asked[call] for call in ("load", "unload", "generate"))

    def differences(self):
        """What is not as it is to be, in words; cheap ones first."""
        adapters = {item["metadata"]["name"]: item for item in self.api.list("modeladapters")["items"]}
        found = [f"{name}: still there" for name in adapters.keys() - self.wanted.keys()]
        found += [f"{name}: Ready is {condition_of(adapters.get(name))}" for name in self.wanted
                  if condition_of(adapters.get(name)).get("status") != "True"
                  or adapters[name]["status"].get("observedGeneration") != adapters[name]["metadata"]["generation"]]
        slices = {item["metadata"]["name"]: item for item in self.api.list("endpointslices")["items"]}
        services = {item["metadata"]["name"] for item in self.api.list("services")["items"]}
        for kind, names in (("Service", services), ("EndpointSlice", slices.keys())):
            found += [f"{kind} {name} has no adapter" for name in names - self.wanted.keys()]
            found += [f"{kind} {name} is missing" for name in self.wanted.keys() - names]
        live = {pod.address for pod in self.pods if pod.died is None}
        held = {address: self.room.fakes.adapters(address) for address in live}
        for name, (uid, url, replicas) in self.wanted.items():
            published = published_in(slices.get(name))
            holders = {address for address in live if held[address].get(name) == url}
            count = len(live) if replicas is None else min(replicas, len(live))
            if published != holders or len(published) != count:
                found.append(f"{name} ({uid}): {url} on {count} pods is wanted, published on {sorted(published)}, "
                             f"held by {sorted(holders)}")
        for address in live:
            found += [f"{address} holds {name} of {root}, which nobody wants" for name, root in held[address].items()
                      if self.wanted.get(name, (None, None, None))[1] != root]
        return found


def run(folder, api_server, seed, strikes, **options):
    """Prints one line of numbers; fails with the seed in the message."""
    churn = Churn(folder, api_server, seed, **options)
    try:
        verdict = judge(churn.run(strikes))
        done = ", ".join(f"{count} x {what}" for what, count in sorted(churn.done.items()))
        struck = ", ".join(sorted({what for _, what in churn.controllers.kills}))
        print(f"SEED={seed}: {len(churn.names)} adapters, {strikes} times {struck}, {done} in {churn.churned_seconds:.1f} s; "
              f"{verdict.published} endpoints published; converged {churn.converged_seconds:.1f} s after the end, "
              f"nothing written from {churn.quiet_seconds - churn.converged_seconds:.1f} s later on"
              f"{f'; the watch was cut {churn.watch.resumed} times' if churn.watch.resumed else ''}", flush=True)
        assert not verdict.problems, f"SEED={seed}: {len(verdict.problems)} of {verdict.published}:\n" + "\n".join(verdict.problems[:20])
    finally:
        churn.close()
