"""Pods of a real Kubernetes API whose engines are davit processes with the tiny model, on the pods' addresses."""

import itertools
import json
from pathlib import Path

from cluster import until

ROOT = Path(__file__).resolve().parents[3]
TINY = ROOT / "tests/fixtures/tiny"
BASE = "tiny"
LABELS = {"model.aibrix.ai/name": BASE, "adapter.model.aibrix.ai/enabled": "true"}
API_VERSION = "model.aibrix.ai/v1alpha1"
ONE = object()  # this test's namespace
addresses = itertools.count(10)


class Engines:
    """Starts pods, controllers and adapters in one namespace, and ends its processes with the block."""

    def __init__(self, cluster, namespace, davit):
        self.cluster, self.namespace, self.davit = cluster, namespace, davit
        self.processes = {}  # name -> [Popen]
        self.ips = {}  # pod -> address

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for name in list(self.processes):
            self.kill(name)
        # Their finalizers would keep the namespace: there is no controller any more.
        for adapter in self.cluster.get("modeladapters", namespace=self.namespace) or []:
            name = adapter["metadata"]["name"]
            self.cluster.kubectl("patch", "modeladapter", name, "-n", self.namespace, "--type=merge", "-p",
                                 '{"metadata":{"finalizers":null}}', check=False)

    def spawn(self, name, arguments, environment=None):
        process = self.cluster.spawn([self.davit, *arguments], f"{self.namespace}-{name}.log", environment)
        self.processes.setdefault(name, []).append(process)
        return process

    def kill(self, name):
        for process in self.processes.pop(name, []):
            if process.poll() is None:
                process.kill()
            process.wait()

    def log(self, name):
        return (self.cluster.folder / f"{self.namespace}-{name}.log").read_text()

    def start_pod(self, name, with_sidecar=False, labels=None, **options):
        """An engine, with its sidecar if asked for, and the pod that says where they are."""
        number = next(addresses)
        ip = self.ips[name] = f"10.77.{number // 250}.{number % 250}"
        self.spawn(name, ["engine", f"--model={TINY}/model.gguf", f"--served-model-name={BASE}", "--threads=1", f"--host={ip}",
                          "--max-loras=8", "--max-cpu-loras=64"])
        containers = [{"name": "engine", "image": "none", "ports": [{"name": "http", "containerPort": 8000}]}]
        if with_sidecar:
            self.spawn(name, ["runtime"], {"POD_IP": ip})
            containers.append({"name": "aibrix-runtime", "image": "none", "ports": [{"containerPort": 8080}]})
        until(lambda: self.get(name, "/health")[0] == 200, f"{name}'s engine answers")
        if with_sidecar:
            until(lambda: self.cluster.http("GET", f"http://{ip}:8080/healthz")[0] == 200, f"{name}'s sidecar answers")
        self.cluster.make_ready_pod(name, ip, labels or LABELS, containers, self.namespace, **options)
        return ip

    def stop_pod(self, name):
        self.cluster.delete_pod(name, self.namespace)
        self.kill(name)
        del self.ips[name]

    def get(self, pod, path):
        return self.cluster.http("GET", f"http://{self.ips[pod]}:8000{path}")

    def adapters_of(self, pod):
        """What the pod's engine holds beside the base model."""
        return {model["id"] for model in self.get(pod, "/v1/models")[1]["data"]} - {BASE}

    def start_controller(self, *arguments, kubeconfig=None, name="controller", log_level="info", namespace=ONE):
        """namespace: None = all."""
        where = [f"--namespace={self.namespace}"] if namespace is ONE else []
        return self.spawn(name, ["controller", f"--kubeconfig={kubeconfig or self.cluster.kubeconfig}", *where, "--metrics-bind-address=0",
                                 "--poll-period=1", f"--log-level={log_level}", *arguments])

    def apply_adapter(self, name, path=TINY / "adapter-a", **spec):
        self.cluster.apply({"apiVersion": API_VERSION, "kind": "ModelAdapter", "metadata": {"name": name, "namespace": self.namespace},
                            "spec": {"baseModel": BASE, "podSelector": {"matchLabels": LABELS}, "artifactURL": str(path), **spec}})

    def adapter(self, name):
        return self.cluster.get("modeladapter", name, self.namespace)

    def condition(self, name, kind="Ready"):
        conditions = ((self.adapter(name) or {}).get("status") or {}).get("conditions") or []
        return next((condition for condition in conditions if condition["type"] == kind), {})

    def wait_running(self, name, pods, timeout=60):
        """Until the adapter is Running on exactly these pods, for everybody who looks."""
        def is_running():
            status = (self.adapter(name) or {}).get("status") or {}
            return status.get("phase") == "Running" and set(status.get("instances") or []) == set(pods) == set(self.endpoints(name) or {})

        until(is_running, f"{name} runs on {sorted(pods)}", timeout)

    def wait_gone(self, name, timeout=60):
        until(lambda: self.adapter(name) is None, f"{name} is gone", timeout)

    def endpoints(self, name):
        """Pod -> address of the ready endpoints of the adapter; None without a slice."""
        endpoint_slice = self.cluster.get("endpointslice", name, self.namespace)
        if endpoint_slice is None:
            return None
        ready = [endpoint for endpoint in endpoint_slice.get("endpoints") or [] if endpoint.get("conditions", {}).get("ready", True)]
        return {(endpoint.get("targetRef") or {}).get("name"): endpoint["addresses"][0] for endpoint in ready}

    def ask(self, pod, model):
        return self.cluster.http("POST", f"http://{self.ips[pod]}:8000/v1/completions", {"model": model, "prompt": "a", "max_tokens": 1})

    def delete_adapter(self, name):
        self.cluster.kubectl("delete", "modeladapter", name, "-n", self.namespace, "--wait=false")

    def events(self, name):
        """Reasons of the events about an adapter."""
        text = self.cluster.kubectl("get", "events", "-n", self.namespace, "-o", "json",
                                    "--field-selector", f"involvedObject.name={name}").stdout
        return [event["reason"] for event in json.loads(text)["items"]]
