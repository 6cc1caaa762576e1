"""deploy/ on a real Kubernetes API: the manifests, the roles as the accounts that the manifests give them, and what was stored before the
CRD had rules. The rules themselves: kubernetes/test_validation.py."""

import copy
import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml
from cluster import ApiError, until
from engines import TINY

ROOT = Path(__file__).resolve().parents[2]
ROWS = json.loads((ROOT / "tests/fixtures/validation.json").read_text())
DEFINITION = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
SYSTEM = "davit-system"


# ---- what was stored before the CRD had rules ----

class Adapters:
    """Requests for ModelAdapters of one namespace, with their answers."""

    def __init__(self, cluster, namespace):
        self.cluster = cluster
        self.path = f"/apis/model.aibrix.ai/v1alpha1/namespaces/{namespace}/modeladapters"
        self.namespace = namespace

    def ask(self, method, path, body=None, content_type="application/json"):
        """(status, object)"""
        try:
            return 200, self.cluster.namespace.call(self.cluster.fetch, method, path, body, {"Content-Type": content_type})
        except ApiError as error:
            return error.status, error.body

    def put_definition(self, definition):
        definition = copy.deepcopy(definition)
        name = definition["metadata"]["name"]
        definition["metadata"]["resourceVersion"] = self.ask("GET", f"{DEFINITION}/{name}")[1]["metadata"]["resourceVersion"]
        status, answer = self.ask("PUT", f"{DEFINITION}/{name}", definition)
        assert status == 200, answer

    def here(self, row_object):
        found = copy.deepcopy(row_object)
        found["metadata"]["namespace"] = self.namespace
        return found

    def is_checked(self):
        """Whether the rules are in force."""
        probe = {"apiVersion": "model.aibrix.ai/v1alpha1", "kind": "ModelAdapter", "metadata": {"name": "probe"},
                 "spec": {"artifactURL": "ftp://a", "podSelector": {}}}
        return self.ask("POST", f"{self.path}?dryRun=All", probe)[0] == 422


@pytest.fixture
def stored(own_cluster, namespace):
    """The old objects of the rows, by name, stored while the CRD had no rules."""
    adapters = Adapters(own_cluster, namespace)
    definition = yaml.safe_load((ROOT / "deploy/crd/modeladapters.yaml").read_text())
    lax = copy.deepcopy(definition)
    lax["spec"]["versions"][0]["schema"] = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    adapters.put_definition(lax)
    try:
        until(lambda: not adapters.is_checked(), "the CRD is without rules")
        objects = {}
        for row in ROWS:
            name = row.get("old_object", {"metadata": {"name": None}})["metadata"]["name"]
            if name and name not in objects:
                status, objects[name] = adapters.ask("POST", adapters.path, adapters.here(row["old_object"]))
                assert status == 200, objects[name]
    finally:
        adapters.put_definition(definition)
    until(adapters.is_checked, "the CRD has its rules again")
    return adapters, objects


def test_a_status_can_be_written_whatever_was_stored(stored):
    adapters, objects = stored
    for name in objects:
        status, answer = adapters.ask("PATCH", f"{adapters.path}/{name}/status", {"status": {"phase": "Failed"}},
                                      "application/merge-patch+json")
        assert status == 200 and answer["status"]["phase"] == "Failed", answer


# ---- under the reference's CRD ----

ADDED = {"spec": ("apiKeySecretRef", "revision", "digest", "placement", "rollout", "drainSeconds"),
         "status": ("observedGeneration", "revision", "loads")}
TYPES_ONLY = ("type", "format", "default", "required", "x-kubernetes-map-type")


def without_rules(schema):
    plain = {key: value for key, value in schema.items() if key in TYPES_ONLY}
    if "properties" in schema:
        plain["properties"] = {name: without_rules(member) for name, member in schema["properties"].items()}
    for key in ("items", "additionalProperties"):
        if key in schema:
            plain[key] = without_rules(schema[key])
    return plain


def reference_definition():
    """The fields that AIBrix v0.7 has: what Davit adds is pruned, and there are no rules."""
    definition = yaml.safe_load((ROOT / "deploy/crd/modeladapters.yaml").read_text())
    schema = without_rules(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    for part, names in ADDED.items():
        for name in names:
            del schema["properties"][part]["properties"][name]
    schema["properties"]["metadata"] = {"type": "object"}
    schema["properties"]["spec"]["properties"]["replicas"]["enum"] = [1]
    schema.pop("required")
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = schema
    return definition


@pytest.fixture
def reference_crd(own_cluster, namespace):
    adapters = Adapters(own_cluster, namespace)
    definition = yaml.safe_load((ROOT / "deploy/crd/modeladapters.yaml").read_text())
    adapters.put_definition(reference_definition())
    until(lambda: not adapters.is_checked(), "the reference's CRD is in force")
    yield
    adapters.put_definition(definition)
    until(adapters.is_checked, "the CRD has its rules again")


def test_the_reference_crd_will_do(reference_crd, engines):
    """Load, change and delete under a CRD that prunes what Davit adds; nothing is written again and again for its sake."""
    engines.start_pod("engine-0")
    engines.start_controller()
    engines.apply_adapter("sql")
    engines.wait_running("sql", ["engine-0"])
    until(lambda: engines.condition("sql").get("status") == "True", "Ready")
    assert "loads" not in engines.adapter("sql")["status"]

    def writes():
        return sum(entry["objectRef"].get("name") == "sql" and entry["objectRef"].get("namespace") == engines.namespace
                   for entry in engines.cluster.audit() if "objectRef" in entry)

    before = writes()
    for _ in range(3):  # each of them is seen by the controller, which looks at its adapter anew
        engines.cluster.kubectl("label", "modeladapter", "sql", "-n", engines.namespace, "seen=yes", "--overwrite")
        engines.cluster.kubectl("label", "modeladapter", "sql", "-n", engines.namespace, "seen-")
    engines.apply_adapter("json", TINY / "adapter-b")
    engines.wait_running("json", ["engine-0"])
    assert writes() - before <= 6 + 6 + 2, "six labels, and at most one status for each"
    engines.apply_adapter("sql", TINY / "adapter-c")
    until(lambda: engines.endpoints("sql") and engines.condition("sql").get("status") == "True", "the new weights are served")
    for name in ("sql", "json"):
        engines.delete_adapter(name)
        engines.wait_gone(name)
    assert engines.adapters_of("engine-0") == set()


# ---- the manifests ----

@pytest.fixture(scope="module")
def system(cluster):
    """The namespace of the manifests, without which dry runs of namespaced objects are refused."""
    if cluster.is_external:
        pytest.skip(f"DAVIT_TEST_KUBECONFIG is set: {SYSTEM} may be in use")
    cluster.kubectl("apply", "--server-side", "-f", str(ROOT / "deploy/kustomize/base/namespace.yaml"))
    until(lambda: cluster.get("serviceaccount", "default", SYSTEM), "the namespace has its service account")
    yield SYSTEM
    cluster.kubectl("delete", "namespace", SYSTEM, "--wait=false")


DRY_RUN = ("apply", "--server-side", "--force-conflicts", "--dry-run=server")


@pytest.mark.parametrize("overlay", ["default", "direct"])
def test_kustomize_is_accepted(cluster, system, overlay):
    result = cluster.kubectl(*DRY_RUN, "-k", str(ROOT / "deploy/kustomize" / overlay))
    assert "customresourcedefinition" in result.stdout and "deployment.apps/davit-gateway" in result.stdout
    assert "warning" not in result.stderr.lower(), result.stderr


@pytest.mark.parametrize("values", [[], ["controller.enableRuntimeSidecar=false", "secrets.everywhere=true"],
                                    ["secrets.byName[0].namespace=default", "secrets.byName[0].names={a,b}"]])
def test_helm_is_accepted(cluster, system, values):
    helm = os.environ.get("HELM") or subprocess.run([str(ROOT / "scripts/fetch-kubectl"), "helm"], check=True, stdout=subprocess.PIPE,
                                                    text=True).stdout.strip()
    settings = [part for value in values for part in ("--set", value)]
    objects = subprocess.run([helm, "template", "davit", str(ROOT / "deploy/helm/davit"), "-n", system, "--include-crds", *settings],
                             check=True, stdout=subprocess.PIPE, text=True).stdout
    result = cluster.kubectl(*DRY_RUN, "-f", "-", stdin=objects)
    assert "deployment.apps/davit-controller" in result.stdout and "warning" not in result.stderr.lower(), result


def test_samples_are_accepted(cluster, namespace):
    for sample in sorted((ROOT / "deploy/samples").glob("*.yaml")):
        cluster.kubectl("apply", "--dry-run=server", "-n", namespace, "-f", str(sample))


@pytest.fixture(scope="module")
def installed(cluster, system):
    """deploy/kustomize/default, for real."""
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-k", str(ROOT / "deploy/kustomize/default"))
    yield system
    cluster.kubectl("delete", "-k", str(ROOT / "deploy/kustomize/base"), "--ignore-not-found", "--wait=false")


def test_pods_meet_the_restricted_standard(cluster, installed):
    """The namespace enforces it: a pod that does not meet it is refused."""
    for name in ("davit-controller", "davit-gateway"):
        template = cluster.get("deployment", name, installed)["spec"]["template"]
        metadata = {"name": name, "namespace": installed, "labels": template["metadata"]["labels"]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        cluster.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))
        pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
        assert "restricted" in cluster.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod), check=False).stderr


def kubeconfig_of(cluster, account, namespace):
    return cluster.write_kubeconfig(cluster.folder / f"{account}.kubeconfig", {"token": cluster.account_token(account, namespace)})


def test_roles_as_their_accounts(cluster, installed, engines):
    """Controller and gateway with the tokens of their service accounts, the arguments of the manifests and no right besides."""
    engines.start_pod("engine-0", with_sidecar=True)
    template = cluster.get("deployment", "davit-controller", installed)["spec"]["template"]
    arguments = [argument.replace("$(POD_NAMESPACE)", installed) for argument in template["spec"]["containers"][0]["args"]
                 if "bind-address" not in argument]
    engines.start_controller(*arguments[1:], kubeconfig=kubeconfig_of(cluster, "davit-controller", installed), log_level="debug",
                             namespace=None)
    engines.spawn("gateway", ["gateway", f"--kubeconfig={kubeconfig_of(cluster, 'davit-gateway', installed)}", "--address=127.0.0.1",
                              "--port=18088", "--log-level=debug"])
    name = "sql-of-accounts"  # the gateway sees all namespaces, also what other tests left in theirs
    engines.apply_adapter(name)
    engines.wait_running(name, ["engine-0"])
    question = {"model": name, "prompt": "a", "max_tokens": 1}
    until(lambda: cluster.http("POST", "http://127.0.0.1:18088/v1/completions", question)[0] == 200, "the gateway answers")
    assert cluster.get("lease", "davit-controller", installed)["spec"]["holderIdentity"]
    engines.delete_adapter(name)
    engines.wait_gone(name)
    assert "is forbidden: user" not in (engines.log("controller") + engines.log("gateway")).lower()


@pytest.mark.parametrize("verb", ["get", "list", "watch", "create", "update", "delete"])
def test_no_secret_is_open_to_the_controller(cluster, installed, verb):
    kubeconfig = kubeconfig_of(cluster, "davit-controller", installed)
    answer = cluster.kubectl("auth", "can-i", verb, "secrets", "-n", "default", check=False, kubeconfig=kubeconfig)
    assert answer.stdout.strip() == "no", answer


def test_a_secret_that_is_granted_by_name(cluster, installed, namespace):
    """The Role that docs/operations.md shows."""
    text = (ROOT / "docs/operations.md").read_text()
    objects = next(block for block in text.split("```") if "kind: RoleBinding" in block).replace("team-a", namespace)
    cluster.kubectl("apply", "-f", "-", stdin=objects)
    for name in ("engine-key", "another"):
        cluster.kubectl("create", "secret", "generic", name, "-n", namespace, "--from-literal=api-key=x")
    kubeconfig = kubeconfig_of(cluster, "davit-controller", installed)
    until(lambda: cluster.kubectl("get", "secret", "engine-key", "-n", namespace, check=False, kubeconfig=kubeconfig).returncode == 0,
          "the Secret can be read")
    one = cluster.kubectl("get", "secrets", "-n", namespace, "--field-selector=metadata.name=engine-key", "-o", "name",
                          kubeconfig=kubeconfig)
    assert one.stdout.strip() == "secret/engine-key"
    for refused in (("get", "secret", "another"), ("get", "secrets")):
        assert "orbidden" in cluster.kubectl(*refused, "-n", namespace, check=False, kubeconfig=kubeconfig).stderr


# ---- the forms that AIBrix's samples have ----

@pytest.mark.parametrize("with_sidecar", [False, True], ids=["without-runtime", "with-runtime"])
def test_forms_of_the_reference_reach_running(engines, with_sidecar):
    """Several names of one artifact, on every pod and on one, with a schedulerName that means nothing and a key in the object."""
    pods = ["engine-0", "engine-1"]
    for pod in pods:
        engines.start_pod(pod, with_sidecar)
    engines.start_controller("--enable-runtime-sidecar")
    for name in ("lora-1", "lora-2", "lora-3", "lora-4"):
        engines.apply_adapter(name, schedulerName="default")
    engines.apply_adapter("one", replicas=1, schedulerName="least-adapters")
    engines.apply_adapter("keyed", additionalConfig={"api-key": "test-key-1234567890"})
    for name in ("lora-1", "lora-2", "lora-3", "lora-4", "keyed"):
        engines.wait_running(name, pods)
    until(lambda: (engines.adapter("one").get("status") or {}).get("phase") == "Running", "one runs")
    status = engines.adapter("one")["status"]
    assert status["desiredReplicas"] == 1 and len(status["instances"]) == 1
    columns = engines.cluster.kubectl("get", "modeladapter", "one", "-n", engines.namespace).stdout.splitlines()
    assert columns[0].split() == ["NAME", "PHASE", "DESIRED", "READY", "CANDIDATES", "REASON", "MODEL", "PATH", "AGE"]
    assert columns[1].split()[1:6] == ["Running", "1", "1", "2", "ModelAdapterAvailable"]
