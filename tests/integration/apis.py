"""The Kubernetes API that tests of the controller are against. They are the same tests on each; what differs is here.

DAVIT_TEST_API=embedded      davit apiserver; the default
DAVIT_TEST_API=kubernetes    kube-apiserver, etcd and kube-controller-manager of tests/interop/kubernetes, in a network namespace of
                             their own, which this process enters; with DAVIT_TEST_KUBECONFIG the cluster that it names instead
"""

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

from roles import ApiServer
from world import ROOT, until

sys.path.insert(0, str(ROOT / "tests/interop/kubernetes"))

import cluster as kubernetes  # noqa: E402

CRD = ROOT / "deploy/crd/modeladapters.yaml"
POD_NETWORK = kubernetes.POD_NET.rpartition(".0.0/")[0]
WRITTEN = ("modeladapters", "services", "endpointslices", "events", "secrets", "pods")


def is_real():
    return os.environ.get("DAVIT_TEST_API", "embedded") != "embedded"


def end_namespace(api):
    """Whatever is left in it goes. Adapters are gone at the end, also those that a controller that has ended would have had to let go: they
    must not concern the controller of the next test."""
    for adapter in api.list("modeladapters")["items"]:
        path = api.path("modeladapters", adapter["metadata"]["name"])
        api.ask("DELETE", path)
        api.ask("PATCH", path, {"metadata": {"finalizers": None}}, "application/merge-patch+json")
    until(lambda: not api.list("modeladapters")["items"], "the adapters are gone")
    api.delete("namespaces", api.namespace)


class EmbeddedApi(ApiServer):
    network = None  # of pods: anything in 127/8, which davit apiserver takes in EndpointSlices

    def make_namespace(self, api):
        api.create("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": api.namespace}})

    def written(self, api):
        """Another value after every write, to any object."""
        return api.revision()


class RealApi:
    """A real one, of which tests have one in common. Addresses in 127/8 are refused in EndpointSlices: pods have others, which are local
    in the namespace."""

    network = POD_NETWORK

    def __init__(self, folder):
        external = os.environ.get("DAVIT_TEST_KUBECONFIG")
        self.cluster = kubernetes.Cluster.external(external, folder, [CRD]) if external else kubernetes.Cluster(folder, [CRD])
        self.folder = Path(folder)

    def __enter__(self):
        self.cluster.__enter__()
        self.kubeconfig = self.folder / "flat.kubeconfig"
        self.kubeconfig.write_text(self.cluster.kubectl("config", "view", "--raw", "--minify", "--flatten").stdout)
        self.outside = os.open("/proc/self/ns/net", os.O_RDONLY)
        if not self.cluster.is_external:
            with open(self.cluster.namespace.path, "rb") as inside:
                enter(inside.fileno())
        return self

    def __exit__(self, *_):
        enter(self.outside)
        os.close(self.outside)
        self.cluster.__exit__()

    def make_namespace(self, api):
        api.create("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": api.namespace}})
        until(lambda: api.ask("GET", f"/api/v1/namespaces/{api.namespace}/serviceaccounts/default")[0] == 200,
              "the namespace has its service account, without which pods are refused")

    def written(self, api):
        """Another value after every write in the namespace; the server's own leases move the revision all the time."""
        return {(kind, item["metadata"]["name"]): item["metadata"]["resourceVersion"]
                for kind in WRITTEN for item in api.list(kind)["items"]}

    def check(self):
        pass  # it ends with the session


def enter(descriptor):
    """This thread, and the processes and threads that it starts from now on."""
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, kubernetes.CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def missing():
    """What keeps the real one from being there; None = nothing."""
    return None if os.environ.get("DAVIT_TEST_KUBECONFIG") else kubernetes.missing()
