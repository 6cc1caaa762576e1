"""Tests against real peers. Fixtures for a real Kubernetes API; others' are in their folders."""

import itertools
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/interop/kubernetes"))

import cluster as kubernetes_cluster  # noqa: E402
from engines import Engines  # noqa: E402

numbers = itertools.count(1)  # of namespaces
CRD = ROOT / "deploy/crd/modeladapters.yaml"


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
