"""The Kubernetes client against a real API: every kind of credentials, watches in both ways, objects in thousands."""

import base64
import json
import signal
import stat

import pytest
from cluster import API_PORT, until
from conftest import program, start
from probe import Probe

READ_CONFIG_MAPS = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]}]


def config_map(namespace, name, data="x"):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": {"text": data}}


def watch(cluster, namespace, kubeconfig=None, kind="configmaps", name="", **options):
    return Probe(cluster, program("tests/interop/kube_probe"), f"{namespace}-{kind}", "watch", kubeconfig or cluster.kubeconfig, kind,
                 namespace, name, **options)


def encoded(path):
    return base64.b64encode(path.read_bytes()).decode()


def write_plugin(cluster, namespace, token):
    """An exec plugin that counts its runs."""
    path = cluster.folder / f"{namespace}-plugin"
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": token}}
    path.write_text(f"#!/bin/sh\necho run >>{path}.runs\ncat <<'END'\n{json.dumps(answer)}\nEND\n")
    path.chmod(stat.S_IRWXU)
    return path


WAYS = ["token", "token file", "client certificate", "inline certificate", "inline authority", "exec plugin", "unverified", "server name"]


@pytest.mark.parametrize("way", WAYS)
def test_ways_in(own_cluster, namespace, way):
    cluster, pki = own_cluster, own_cluster.folder / "pki"
    token = cluster.account("reader", READ_CONFIG_MAPS, namespace)
    token_file = cluster.folder / f"{namespace}.token"
    token_file.write_text(token + "\n")
    plugin = write_plugin(cluster, namespace, token)
    without_ca = {"certificate-authority": None}
    user, entry = {
        "token": ({"token": token}, {}),
        "token file": ({"tokenFile": token_file.name}, {}),
        "client certificate": ({"client-certificate": "pki/client.crt", "client-key": "pki/client.key"}, {}),
        "inline certificate": ({"client-certificate-data": encoded(pki / "client.crt"),
                                "client-key-data": encoded(pki / "client.key")}, {}),
        "inline authority": ({"token": token}, {**without_ca, "certificate-authority-data": encoded(pki / "ca.crt")}),
        "exec plugin": ({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": f"./{plugin.name}",
                                  "interactiveMode": "Never"}}, {}),
        "unverified": ({"token": token}, {**without_ca, "insecure-skip-tls-verify": True}),
        "server name": ({"token": token}, {"server": f"https://10.77.255.1:{API_PORT}", "tls-server-name": "kubernetes.default.svc"}),
    }[way]
    kubeconfig = cluster.write_kubeconfig(cluster.folder / f"{namespace}.kubeconfig", user, **entry)
    cluster.apply(config_map(namespace, "one"))
    with watch(cluster, namespace, kubeconfig) as probe:
        probe.wait_for("synced")
        cluster.apply(config_map(namespace, "two"))
        until(lambda: {"one", "two"} <= probe.held(), "both are seen")
        cluster.kubectl("delete", "configmap", "one", "-n", namespace)
        until(lambda: "one" not in probe.held(), "its deletion is seen")
    if way == "exec plugin":
        assert (cluster.folder / f"{plugin.name}.runs").read_text() == "run\n"


def test_from_inside_a_pod(own_cluster, namespace):
    """The service account's files, where the kubelet puts them, in a mount namespace of the process' own."""
    cluster = own_cluster
    files = cluster.folder / f"{namespace}-account"
    files.mkdir()
    (files / "token").write_text(cluster.account("reader", READ_CONFIG_MAPS, namespace))
    (files / "namespace").write_text(namespace)
    (files / "ca.crt").write_bytes((cluster.folder / "pki/ca.crt").read_bytes())
    cluster.apply(config_map(namespace, "one"))
    there = "/var/run/secrets/kubernetes.io"
    script = (f"mount -t tmpfs none /var/run && mkdir -p {there} && ln -s {files} {there}/serviceaccount && "
              f"exec {program('tests/interop/kube_probe')} watch '' configmaps {namespace} ''")
    environment = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(API_PORT), "KUBECONFIG": ""}
    with Probe(cluster, "unshare", f"{namespace}-inside", "--mount", "sh", "-c", script, environment=environment) as probe:
        until(lambda: "one" in probe.held(), "it is seen")


def test_a_token_that_is_refused_is_replaced(own_cluster, namespace):
    """A watch that ends with 401 goes on with the token that is in the file by then."""
    cluster = own_cluster
    token_file = cluster.folder / f"{namespace}.token"
    token_file.write_text("not a token")
    kubeconfig = cluster.write_kubeconfig(cluster.folder / f"{namespace}.kubeconfig", {"tokenFile": str(token_file)})
    token = cluster.account("reader", READ_CONFIG_MAPS, namespace)
    with watch(cluster, namespace, kubeconfig) as probe:
        until(lambda: "Unauthorized" in probe.log.read_text(), "the API refuses it")
        token_file.write_text(token)
        probe.wait_for("synced")


def test_one_secret_by_name(cluster, namespace):
    """A Role with resourceNames lets a watch through that is restricted to the name, and nothing else."""
    rules = [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["wanted"], "verbs": ["get", "list", "watch"]}]
    token = cluster.account("reader", rules, namespace)
    kubeconfig = cluster.write_kubeconfig(cluster.folder / f"{namespace}.kubeconfig", {"token": token})
    for name in ("wanted", "other"):
        cluster.kubectl("create", "secret", "generic", name, "-n", namespace, "--from-literal=key=value")
    with watch(cluster, namespace, kubeconfig, "secrets", "wanted") as probe:
        probe.wait_for("synced")
        assert probe.held() == {"wanted"}
        cluster.kubectl("delete", "secret", "wanted", "-n", namespace)
        until(lambda: not probe.held(), "its deletion is seen")
    with watch(cluster, namespace, kubeconfig, "secrets") as probe:
        until(lambda: "forbidden" in probe.log.read_text(), "all of them are refused")
        assert not probe.has_said("synced")


def test_more_than_a_page(cluster, namespace):
    """1,200 objects: three pages, or one stream."""
    cluster.apply(*(config_map(namespace, f"c{number}") for number in range(1200)))
    with watch(cluster, namespace) as probe:
        probe.wait_for("synced")
        assert len([name for name in probe.held() if name.startswith("c")]) == 1200


def test_an_api_server_that_is_stopped_and_started(own_cluster, namespace):
    """What changed meanwhile is seen afterwards, and nothing is told twice."""
    cluster = own_cluster
    for name in ("kept", "lost"):
        cluster.apply(config_map(namespace, name))
    with watch(cluster, namespace) as probe:
        probe.wait_for("synced")
        probe.signal(signal.SIGSTOP)  # it sees neither the changes nor the end of its watch
        cluster.kubectl("delete", "configmap", "lost", "-n", namespace)
        cluster.apply(config_map(namespace, "new"))
        cluster.kill_apiserver()
        probe.signal(signal.SIGCONT)
        cluster.start_apiserver()
        until(lambda: {"kept", "new"} <= probe.held() and "lost" not in probe.held(), "the cache is right again")
        assert probe.names("added").count("kept") == 1


def test_a_revision_that_is_gone(own_cluster, namespace):
    """etcd is compacted and the API server starts anew while the watch is cut off: 410, a new list, the differences."""
    cluster = own_cluster
    cluster.apply(config_map(namespace, "kept"), config_map(namespace, "lost"))
    with watch(cluster, namespace) as probe:
        probe.wait_for("synced")
        probe.signal(signal.SIGSTOP)
        cluster.kill_apiserver()  # so that what follows does not even reach the socket
        cluster.start_apiserver()
        cluster.kubectl("delete", "configmap", "lost", "-n", namespace)
        cluster.apply(config_map(namespace, "new"))
        cluster.kill_apiserver()
        cluster.compact()
        cluster.start_apiserver()
        probe.signal(signal.SIGCONT)
        until(lambda: {"kept", "new"} <= probe.held() and "lost" not in probe.held(), "the cache is right again")
        assert probe.names("added").count("kept") == 1
        assert "Expired" in probe.log.read_text() or "too old" in probe.log.read_text()


def test_a_server_that_says_it_streams_lists(tmp_path):
    """With the WatchList gate, which Debian's etcd cannot serve, the cache still fills."""
    with start(tmp_path, feature_gates={"WatchList": True}) as cluster:
        cluster.apply(config_map("default", "one"))
        with watch(cluster, "default") as probe:
            probe.wait_for("synced")
            assert "one" in probe.held()
            cluster.apply(config_map("default", "two"))
            until(lambda: "two" in probe.held(), "changes are seen")
