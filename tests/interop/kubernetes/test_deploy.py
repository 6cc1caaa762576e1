"""deploy/ on a real API server: every object is accepted, and every pod meets the restricted Pod security standard."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
PLACE = "davit-system"


def output_of(*command):
    return subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True).stdout


@pytest.fixture(scope="module")
def helm():
    return os.environ.get("HELM") or output_of(ROOT / "scripts/fetch-kubectl", "helm").strip()


@pytest.fixture(scope="module")
def place(cluster):
    """The namespace, which an API server checks namespaced objects against, and which refuses pods that are not restricted."""
    cluster.apply({"apiVersion": "v1", "kind": "Namespace",
                   "metadata": {"name": PLACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}})
    return PLACE


def check(cluster, text, namespace=PLACE):
    """All objects are accepted, as are the pods of the Deployments, without a warning."""
    result = cluster.kubectl("apply", "--server-side", "--dry-run=server", "--force-conflicts", "-n", namespace, "-f", "-", stdin=text)
    assert "Warning" not in result.stderr, result.stderr
    documents = [document for document in yaml.safe_load_all(text) if document]
    assert result.stdout.count("serverside-applied") == len(documents)
    for document in documents:
        if document["kind"] == "Deployment":
            template = document["spec"]["template"]
            spec = {key: value for key, value in template["spec"].items() if key != "serviceAccountName"}
            pod = {"apiVersion": "v1", "kind": "Pod", "spec": spec,
                   "metadata": {**template["metadata"], "name": document["metadata"]["name"]}}
            cluster.kubectl("create", "--dry-run=server", "-n", namespace, "-f", "-", stdin=json.dumps(pod))


@pytest.mark.parametrize("overlay", ["default", "direct"])
def test_kustomize(cluster, place, overlay):
    check(cluster, cluster.kubectl("kustomize", str(ROOT / "deploy/kustomize" / overlay)).stdout)


@pytest.mark.parametrize("values", [[], ["controller.enableRuntimeSidecar=false"], ["secrets.everywhere=true"]], ids=str)
def test_helm(cluster, place, helm, values):
    settings = [part for value in values for part in ("--set", value)]
    check(cluster, output_of(helm, "template", "davit", ROOT / "deploy/helm/davit", "-n", PLACE, "--include-crds", *settings))


@pytest.mark.parametrize("path", sorted((ROOT / "deploy/samples").glob("*.yaml")), ids=lambda path: path.name)
def test_samples(cluster, path):
    cluster.kubectl("apply", "--server-side", "--dry-run=server", "-n", "default", "-f", str(path))
