"""Leader election on a real API: who wrote, and when, is taken from its audit log."""

import signal
from contextlib import ExitStack

import pytest
from cluster import until
from conftest import program
from probe import Probe

DURATION_MS, DEADLINE_MS, RETRY_MS = 3000, 2000, 300
LEASE = "race"


def campaign(cluster, namespace, name):
    return Probe(cluster, program("tests/interop/kube_probe"), name, "campaign", cluster.kubeconfig, namespace, LEASE, name, DURATION_MS,
                 DEADLINE_MS, RETRY_MS)


@pytest.fixture
def race(own_cluster, namespace):
    """Three candidates; a function that says who wrote the ConfigMap, in order and without repetitions."""
    cluster = own_cluster
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": LEASE, "namespace": namespace}})
    names = [f"{namespace}-{number}" for number in range(3)]

    def writers():
        found = []
        for entry in sorted(cluster.audit(), key=lambda entry: entry["requestReceivedTimestamp"]):
            about = entry["objectRef"]
            is_write = about.get("resource") == "configmaps" and about.get("namespace") == namespace and entry["verb"] == "patch"
            if is_write and entry["userAgent"] in names and (not found or found[-1] != entry["userAgent"]):
                found.append(entry["userAgent"])
        return found

    with ExitStack() as stack:
        yield {name: stack.enter_context(campaign(cluster, namespace, name)) for name in names}, writers


def wait_for_writers(writers, count):
    return until(lambda: len(writers()) >= count and writers(), f"{count} have written", 30)


def holder(cluster, namespace):
    return (cluster.get("lease", LEASE, namespace) or {}).get("spec", {}).get("holderIdentity")


def test_given_back_at_once(own_cluster, namespace, race):
    probes, writers = race
    first = wait_for_writers(writers, 1)[0]
    probes[first].signal(signal.SIGTERM)
    probes[first].wait_for("released")
    assert probes[first].process.wait() == 0
    second = wait_for_writers(writers, 2)[1]
    spec = own_cluster.get("lease", LEASE, namespace)["spec"]
    assert spec["holderIdentity"] == second
    assert spec["leaseTransitions"] == 1
    assert spec["leaseDurationSeconds"] == DURATION_MS // 1000


def test_killed(race):
    probes, writers = race
    for count in (1, 2):
        leader = wait_for_writers(writers, count)[-1]
        probes[leader].process.kill()
    last = wait_for_writers(writers, 3)
    assert len(set(last)) == 3


def test_frozen_leaders_never_write_again(race):
    """Frozen longer than the lease lasts, again and again: whoever wakes up knows before its next write."""
    probes, writers = race
    leader = wait_for_writers(writers, 1)[-1]
    for count in range(2, 6):
        probes[leader].signal(signal.SIGSTOP)
        following = wait_for_writers(writers, count)[-1]
        assert following != leader
        probes[leader].signal(signal.SIGCONT)
        probes[leader].wait_for("stopped")
        assert len(writers()) == count  # the writer changed once a freeze: nobody's writes lie between another's
        leader = following


def test_api_server_away(own_cluster, race):
    """Longer than the deadline: the leader stops by itself. Afterwards somebody leads again."""
    probes, writers = race
    leader = wait_for_writers(writers, 1)[0]
    own_cluster.kill_apiserver()
    probes[leader].wait_for("stopped")
    own_cluster.start_apiserver()
    until(lambda: sum(len(probe.names("started")) for probe in probes.values()) >= 2, "somebody leads")


def test_deleted_by_hand(own_cluster, namespace, race):
    probes, writers = race
    leader = wait_for_writers(writers, 1)[0]
    own_cluster.kubectl("delete", "lease", LEASE, "-n", namespace)
    until(lambda: holder(own_cluster, namespace) == leader, "its holder makes it anew")
    assert writers() == [leader]
