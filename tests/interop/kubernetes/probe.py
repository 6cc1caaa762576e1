"""kube_probe (the Kubernetes client by itself) as a process that tests talk about."""

import json
import os
import signal

from cluster import until


class Probe:
    def __init__(self, cluster, program, name, *arguments, environment=None):
        self.log = cluster.folder / f"probe-{name}.log"
        self.log.unlink(missing_ok=True)
        self.process = cluster.spawn([program, *arguments], self.log.name, environment)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()

    def signal(self, number):
        os.kill(self.process.pid, number)

    def lines(self):
        """What it said, in order; its log lines are left out."""
        text = self.log.read_text() if self.log.exists() else ""
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def names(self, what):
        return [line["name"] for line in self.lines() if line["what"] == what]

    def has_said(self, what):
        return any(line["what"] == what for line in self.lines())

    def wait_for(self, what, timeout=60):
        until(lambda: self.has_said(what), f"{self.log.name}: {what}", timeout)

    def held(self):
        """The names of what the watch shows now."""
        names = set()
        for line in self.lines():
            if line["what"] in ("added", "modified"):
                names.add(line["name"])
            elif line["what"] == "deleted":
                names.discard(line["name"])
        return names
