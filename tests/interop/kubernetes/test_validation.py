"""One table of ModelAdapters, good and bad: the CRD's rules on a real API server and the embedded API's validator give the same verdicts,
and name the same fields."""

import json
import ssl
import subprocess
from pathlib import Path

import pytest
import yaml
from cluster import ApiError, request, until
from conftest import CRD, program

ROOT = Path(__file__).resolve().parents[3]
ROWS = json.loads((ROOT / "tests/fixtures/validation.json").read_text())
COLLECTION = "/apis/model.aibrix.ai/v1alpha1/namespaces/default/modeladapters"


class Real:
    """The cluster's API. What an update starts from may break today's rules: it is stored while the CRD has none."""

    def __init__(self, cluster):
        self.cluster = cluster
        lax = yaml.safe_load(CRD.read_text())
        for version in lax["spec"]["versions"]:
            version["schema"]["openAPIV3Schema"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        self.send_crd(lax, is_strict=False)
        for row in ROWS:
            if "old_object" in row:
                self.store(row["old_object"])
        self.send_crd(yaml.safe_load(CRD.read_text()), is_strict=True)

    def send_crd(self, crd, is_strict):
        self.cluster.apply(crd)
        bad = next(row["object"] for row in ROWS if not row["valid"] and "old_object" not in row)
        until(lambda: bool(self.create(bad)) == is_strict, "the CRD is in force")

    def send(self, method, path, body):
        """The fields that were refused; [] = accepted."""
        try:
            self.cluster.namespace.call(self.cluster.fetch, method, f"{path}?dryRun=All", body, {})
            return []
        except ApiError as error:
            return refused_fields(error.body)

    def store(self, value):
        name = value["metadata"]["name"]
        try:
            self.cluster.namespace.call(self.cluster.fetch, "POST", COLLECTION, value, {})
        except ApiError as error:
            assert error.status == 409, f"{name}: {error}"

    def create(self, value):
        return self.send("POST", COLLECTION, value)

    def update(self, old, value):
        path = f"{COLLECTION}/{old['metadata']['name']}"
        stored = self.cluster.namespace.call(self.cluster.fetch, "GET", path, None, {})
        return self.send("PUT", path, at_revision_of(stored, value))


class Embedded:
    """davit apiserver, which has its rules from its first start: only updates from what it accepts can be tried."""

    def __init__(self, folder):
        self.process = subprocess.Popen([program("davit"), "apiserver", f"--dir={folder}", "--secure-port=0"], stdout=subprocess.DEVNULL,
                                        stderr=(folder / "apiserver.log").open("w"))
        port_file = folder / "apiserver.port"
        until(lambda: port_file.exists() and port_file.read_text().strip(), "davit apiserver listens")
        self.url = f"https://127.0.0.1:{port_file.read_text().strip()}"
        self.token = (folder / "token").read_text().strip()
        self.context = ssl.create_default_context(cafile=str(folder / "pki/ca.crt"))
        until(lambda: self.send("GET", "/readyz", None)[0] == 200, "davit apiserver answers")

    def close(self):
        self.process.terminate()
        self.process.wait()

    def send(self, method, path, body):
        return request(method, f"{self.url}{path}", body, {"Authorization": f"Bearer {self.token}"}, context=self.context)

    def create(self, value):
        status, answer = self.send("POST", f"{COLLECTION}?dryRun=All", value)
        return refused_fields(answer) if status >= 400 else []

    def update(self, old, value):
        path = f"{COLLECTION}/{old['metadata']['name']}"
        status, stored = self.send("POST", COLLECTION, old)
        if status >= 400:
            return None
        status, answer = self.send("PUT", f"{path}?dryRun=All", at_revision_of(stored, value))
        self.send("DELETE", path, None)
        return refused_fields(answer) if status >= 400 else []


def at_revision_of(stored, value):
    return {**value, "metadata": {**value["metadata"], "resourceVersion": stored["metadata"]["resourceVersion"]}}


def refused_fields(status):
    assert isinstance(status, dict) and status.get("kind") == "Status", status
    causes = (status.get("details") or {}).get("causes") or []
    return sorted({cause.get("field", "") for cause in causes}) or [status.get("message", "")]


@pytest.fixture(scope="module")
def real(cluster):
    if cluster.is_external:
        pytest.skip("DAVIT_TEST_KUBECONFIG is set: its ModelAdapter CRD is not ours to change")
    yield Real(cluster)
    for adapter in cluster.get("modeladapters"):
        cluster.kubectl("delete", "modeladapter", adapter["metadata"]["name"])


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    server = Embedded(tmp_path_factory.mktemp("embedded"))
    yield server
    server.close()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_one_verdict(real, embedded, row):
    old, value = row.get("old_object"), row["object"]
    verdicts = {"real": real.update(old, value) if old else real.create(value),
                "embedded": embedded.update(old, value) if old else embedded.create(value)}
    for where, fields in verdicts.items():
        if fields is None:
            continue
        assert (not fields) == row["valid"], f"{where}: {fields or 'accepted'}"
        if not row["valid"]:
            assert row["field"] in fields, where
