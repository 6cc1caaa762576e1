"""Tests against real peers. Fixtures for a real Kubernetes API; others' are in their folders."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/interop/kubernetes"))

import cluster as kubernetes_cluster  # noqa: E402
from engines import Engines  # noqa: E402

numbers = itertools.count(1)  # of namespaces
CRD = ROOT / "deploy/crd/modeladapters.yaml"
GATEWAY_GROUP = "gateway.networking.k8s.io"
GATEWAY_STAND_INS = ROOT / "tests/fixtures/gateway_api/crds.yaml"
GATEWAY_KINDS = ("httproutes", "referencegrants")


def program(name):
    """A program of the build under test."""
    return Path(os.environ.get("DAVIT", ROOT / "build/release/davit")).resolve().parent / name


def start(folder, **options):
    """A cluster with the ModelAdapter CRD: the one that DAVIT_TEST_KUBECONFIG names, else one of our own."""
    external = os.environ.get("DAVIT_TEST_KUBECONFIG")
    if external and options:
        pytest.skip("DAVIT_TEST_KUBECONFIG is set: the flags of its API server are what they are")
    reason = None if external else kubernetes_cluster.missing()
    if reason:
        pytest.skip(f"no Kubernetes of our own: {reason}")
    if external:
        return kubernetes_cluster.Cluster.external(external, folder, [CRD])
    return kubernetes_cluster.Cluster(folder, [CRD], **options)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    with start(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def own_cluster(cluster):
    """The cluster, for tests that need its API server in their hands."""
    if cluster.is_external:
        pytest.skip("DAVIT_TEST_KUBECONFIG is set: its API server is not ours to stop or to look into")
    return cluster


@pytest.fixture
def namespace(cluster, request):
    """A namespace for one test."""
    words = "".join(letter if letter.isalnum() else "-" for letter in request.node.name.lower())
    name = f"davit-{next(numbers)}-{words[:45]}".strip("-")  # tests of two modules may have one name
    cluster.kubectl("create", "namespace", name)
    kubernetes_cluster.until(lambda: cluster.get("serviceaccount", "default", name), "the namespace has its service account")
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def engines(cluster, namespace):
    with Engines(cluster, namespace, program("davit")) as engines:
        yield engines


# ---- the Gateway API ----

@pytest.fixture(scope="session")
def own_crds():
    """Files of the Gateway API's own CRDs; None when they cannot be had."""
    brought = subprocess.run([ROOT / "tests/interop/kubernetes/gateway-api"], stdout=subprocess.PIPE, text=True)
    folder = Path(brought.stdout.strip())
    return [folder / f"{GATEWAY_GROUP}_{kind}.yaml" for kind in GATEWAY_KINDS] if brought.returncode == 0 else None


@pytest.fixture
def gateway(cluster, engines, own_crds):
    """The namespace of the gateway, on a cluster that has the Gateway API while the test runs."""
    if cluster.is_external:
        pytest.skip("DAVIT_TEST_KUBECONFIG is set: its Gateway API, or the lack of it, is not ours")
    name = f"{engines.namespace[:50]}-gateway"
    files = [part for file in own_crds or [GATEWAY_STAND_INS] for part in ("-f", str(file))]
    cluster.kubectl("apply", "--server-side", *files)
    cluster.kubectl("wait", "--for=condition=Established", *files, "--timeout=30s")
    cluster.kubectl("create", "namespace", name)
    yield name
    engines.kill("controller")
    for route in cluster.get(f"httproutes.{GATEWAY_GROUP}", namespace=name) or []:  # of a test that failed
        cluster.kubectl("patch", f"httproute.{GATEWAY_GROUP}", route["metadata"]["name"], "-n", name, "--type=merge", "-p",
                        '{"metadata":{"finalizers":null}}', check=False)
    cluster.kubectl("delete", "namespace", name, "--wait=false")
    cluster.kubectl("delete", *files, "--ignore-not-found", "--wait=true", "--timeout=30s")
