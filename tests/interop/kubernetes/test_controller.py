"""davit controller against a real Kubernetes API, with davit engines as its pods."""

import os
import signal
from pathlib import Path

import pytest
import yaml
from cluster import until
from engines import BASE, TINY

ROOT = Path(__file__).resolve().parents[3]
KUSTOMIZATION = ROOT / "deploy/kustomize/base"
RIGHTS = ("Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")


@pytest.mark.parametrize("with_sidecar", [False, True], ids=["direct", "sidecar"])
def test_declared_served_and_gone(engines, with_sidecar):
    pods = ["engine-0", "engine-1"]
    for pod in pods:
        engines.start_pod(pod, with_sidecar)
    engines.start_controller(*(["--enable-runtime-sidecar"] if with_sidecar else []))
    engines.apply_adapter("sql")
    engines.wait_running("sql", pods)

    for pod in pods:
        assert engines.adapters_of(pod) == {"sql"}
        assert engines.ask(pod, "sql")[0] == 200
    assert engines.endpoints("sql") == engines.ips
    for kind in ("Initialized", "Scheduled", "Bound", "ResourceCreated", "Ready"):
        assert engines.condition("sql", kind).get("status") == "True", kind
    service = engines.cluster.get("service", "sql", engines.namespace)
    assert service["spec"]["clusterIP"] == "None"
    assert [owner["name"] for owner in service["metadata"]["ownerReferences"]] == ["sql"]
    assert engines.events("sql")

    engines.delete_adapter("sql")
    engines.wait_gone("sql")
    for pod in pods:
        assert engines.adapters_of(pod) == set()
        assert engines.ask(pod, "sql")[0] == 404
    # Kubernetes' own garbage collection, by the owner references.
    until(lambda: engines.cluster.get("service", "sql", engines.namespace) is None, "the Service is collected")
    until(lambda: engines.endpoints("sql") is None, "the EndpointSlice is collected")


def test_pods_come_and_go(engines):
    engines.start_pod("engine-0")
    engines.start_controller()
    engines.apply_adapter("sql")
    engines.apply_adapter("json", TINY / "adapter-b")
    engines.wait_running("sql", ["engine-0"])
    engines.start_pod("engine-1")
    engines.wait_running("sql", ["engine-0", "engine-1"])
    engines.stop_pod("engine-0")
    for name in ("sql", "json"):
        engines.wait_running(name, ["engine-1"])
    # A pod that is not ready any more is not asked.
    engines.cluster.set_pod_ready("engine-1", engines.ips["engine-1"], is_ready=False, namespace=engines.namespace)
    until(lambda: not engines.endpoints("sql"), "its endpoint is out")
    until(lambda: engines.condition("sql").get("status") == "False", "the adapter is not Ready")


def test_what_cannot_be_loaded_says_so(engines):
    engines.start_pod("engine-0")
    engines.start_controller()
    engines.apply_adapter("broken", "/nowhere/at/all")
    until(lambda: engines.condition("broken").get("status") == "False", "Ready is False")
    until(lambda: "engine-0" in engines.condition("broken").get("message", ""), "the message names the pod")
    engines.apply_adapter("sql")
    engines.wait_running("sql", ["engine-0"])
    engines.delete_adapter("broken")
    engines.wait_gone("broken")


def test_as_its_service_account(engines):
    """With what deploy/ grants, and nothing else, over all namespaces."""
    cluster = engines.cluster
    documents = yaml.safe_load_all(cluster.kubectl("kustomize", str(KUSTOMIZATION)).stdout)
    cluster.apply(*(document for document in documents if document["kind"] in RIGHTS))
    token = cluster.account_token("davit-controller", "davit-system")
    kubeconfig = cluster.write_kubeconfig(cluster.folder / "davit-controller.kubeconfig", {"token": token})
    engines.start_pod("engine-0")
    engines.start_controller(kubeconfig=kubeconfig, log_level="debug", namespace=None)
    engines.apply_adapter("sql")
    engines.wait_running("sql", ["engine-0"])
    engines.delete_adapter("sql")
    engines.wait_gone("sql")
    assert " cannot " not in engines.log("controller")  # "User ... cannot list resource ..."


def test_survives_the_api_server(engines, own_cluster):
    """Killed and started again: what was served is served meanwhile, and what comes next is done."""
    engines.start_pod("engine-0")
    engines.start_controller()
    engines.apply_adapter("sql")
    engines.wait_running("sql", ["engine-0"])
    own_cluster.kill_apiserver()
    assert engines.ask("engine-0", "sql")[0] == 200
    own_cluster.start_apiserver()
    engines.apply_adapter("json", TINY / "adapter-b")
    engines.wait_running("json", ["engine-0"], timeout=90)
    assert engines.adapters_of("engine-0") == {"sql", "json"}
    assert engines.processes["controller"][0].poll() is None


LEASE_FLAGS = ["--leader-elect", "--leader-election-lease-duration=3s", "--leader-election-renew-deadline=2s",
               "--leader-election-retry-period=300ms"]


@pytest.mark.parametrize("blow", ["kill", "freeze"])
def test_two_controllers_and_one_leader(engines, own_cluster, blow):
    """Only the leader writes; when it dies or is frozen the other takes over, and the frozen one finds out before it writes again."""
    kubeconfigs = {}
    for name in ("one", "two"):  # identities of their own, so that the audit log tells them apart
        token = own_cluster.account(f"controller-{name}", [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}], engines.namespace)
        kubeconfigs[name] = own_cluster.write_kubeconfig(own_cluster.folder / f"{engines.namespace}-{name}.kubeconfig", {"token": token})
    engines.start_pod("engine-0")
    flags = [*LEASE_FLAGS, f"--leader-election-namespace={engines.namespace}"]
    processes = {name: engines.start_controller(*flags, kubeconfig=path, name=name) for name, path in kubeconfigs.items()}
    engines.apply_adapter("sql")
    engines.wait_running("sql", ["engine-0"])

    def writers():
        """Who wrote ModelAdapters, in order, without repetitions."""
        names = []
        for entry in own_cluster.audit():
            who = entry["user"]["username"].rpartition(":controller-")
            is_write = entry["objectRef"].get("resource") == "modeladapters" and entry["objectRef"].get("namespace") == engines.namespace
            if who[1] and is_write and entry["responseStatus"]["code"] < 300 and (not names or names[-1] != who[2]):
                names.append(who[2])
        return names

    assert len(writers()) == 1
    leader = writers()[0]
    other = "two" if leader == "one" else "one"
    os.kill(processes[leader].pid, signal.SIGKILL if blow == "kill" else signal.SIGSTOP)
    engines.apply_adapter("json", TINY / "adapter-b")
    engines.wait_running("json", ["engine-0"])
    if blow == "freeze":
        os.kill(processes[leader].pid, signal.SIGCONT)
    engines.apply_adapter("pirate", TINY / "adapter-c")
    engines.wait_running("pirate", ["engine-0"])
    for name in ("sql", "json", "pirate"):
        engines.delete_adapter(name)
    for name in ("sql", "json", "pirate"):
        engines.wait_gone(name)
    assert writers() == [leader, other]
    assert engines.get("engine-0", "/v1/models")[1]["data"][0]["id"] == BASE
