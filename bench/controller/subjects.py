"""Whom the bench measures: Davit's controller and, when its program is given, the reference's."""

import socket
from pathlib import Path

from roles import Process, metrics_at, program
from world import until


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Davit:
    name = "davit"
    has_fully_loaded = True  # a condition that says that every pod has the adapter

    def start(self, folder, kubeconfig, poll_seconds):
        self.port = free_port()
        process = Process(Path(folder) / "controller.log", program(), "controller", "--kubeconfig", kubeconfig,
                          "--poll-period", poll_seconds, "--metrics-bind-address", f"127.0.0.1:{self.port}", "--log-level", "warn")
        until(lambda: metrics_at("127.0.0.1", self.port), "the controller answers")
        return process

    def counts(self):
        """What it counts itself: plans made, and writes by kind."""
        metrics = metrics_at("127.0.0.1", self.port)
        prefix = 'davit_controller_writes_total{kind="'
        writes = {f"writes, {name[len(prefix):-2]}": int(value) for name, value in metrics.items() if name.startswith(prefix)}
        return {"plans": int(metrics.get("davit_controller_reconciles_total", 0)), **writes}


class Reference:
    name = "reference"
    has_fully_loaded = False

    def __init__(self, path):
        self.path = path

    def start(self, folder, kubeconfig, _):
        health = free_port()
        process = Process(Path(folder) / "controller.log", self.path, "--kubeconfig", kubeconfig, "--disable-webhook",
                          "--controllers", "model-adapter-controller", "--metrics-bind-address", "0",
                          "--health-probe-bind-address", f"127.0.0.1:{health}", environment={"KUBECONFIG": str(kubeconfig)})
        until(lambda: socket.create_connection(("127.0.0.1", health), timeout=1).close() is None, "the reference answers")
        return process

    def counts(self):
        return {}
