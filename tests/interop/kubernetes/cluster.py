"""A real Kubernetes API for tests: etcd, kube-apiserver and kube-controller-manager in a network namespace of their own, without nodes.

    with Cluster(folder) as cluster:                      # or Cluster.external(kubeconfig, folder)
        cluster.kubectl("apply", "-f", "-", stdin=text)
        cluster.make_ready_pod("engine-0", "10.77.0.10", {"a": "b"})
        process = cluster.spawn([davit, "controller", "--kubeconfig", cluster.kubeconfig], log="controller.log")

In that namespace every address of 10.77.0.0/16 is local, so that engines may listen where their pods' addresses say; a real API server
refuses 127.0.0.0/8 in EndpointSlices. Pods exist as objects alone: no scheduler, no kubelet; tests write their status. Everything ends with
the test process, however that ends.
"""

import ctypes
import json
import os
import secrets
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
ADMIN = "interop-admin"
POD_NET = "10.77.0.0/16"
API_PORT, ETCD_PORT, ETCD_PEER_PORT, MANAGER_PORT = 6443, 2379, 2380, 10257
CONTROLLERS = ["garbage-collector-controller", "namespace-controller", "serviceaccount-controller", "endpointslice-controller"]
CLONE_NEWNET = 0x40000000
ANY_SCHEDULER_BUT_A_REAL_ONE = "interop"
AUDIT_POLICY = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  verbs: [create, update, patch, delete]
- level: None
"""


def missing():
    """What keeps a cluster of our own from starting here; None = nothing."""
    if os.geteuid() != 0:
        return "not root, which a network namespace needs"
    for program in ("etcd", "ip", "nsenter", "unshare", "setpriv", "openssl"):
        if shutil.which(program) is None:
            return f"the program {program} is not installed"
    return None


def until(condition, what, timeout=60.0):
    """Polls until condition() is truthy and returns it; fails with the last value or error."""
    deadline = time.monotonic() + timeout
    last = None
    while time.monotonic() < deadline:
        try:
            last = condition()
            if last:
                return last
        except (AssertionError, OSError, subprocess.CalledProcessError, ApiError) as error:
            last = error
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {timeout:.0f} s; last: {last!r}")


class ApiError(Exception):
    """An answer of 400 and more: status, and the body as an object or text."""

    def __init__(self, status, body):
        super().__init__(f"{status}: {body}")
        self.status, self.body = status, body


class Namespace:
    """A network namespace that lives as long as this object's process, with loopback up and POD_NET local."""

    def __init__(self):
        script = f"ip link set lo up && ip route add local {POD_NET} dev lo && echo ready && exec cat"
        self.holder = subprocess.Popen(["unshare", "--net", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.holder.stdout.readline() == "ready\n", "the network namespace could not be made"
        self.path = f"/proc/{self.holder.pid}/ns/net"
        self.threads = ThreadPoolExecutor(8, initializer=self.enter_thread)

    def enter_thread(self):
        with open(self.path, "rb") as file:
            if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")

    def call(self, function, *arguments):
        """Runs it on a thread whose sockets are in the namespace."""
        return self.threads.submit(function, *arguments).result()

    def command(self, arguments):
        # Each replaces itself by the next: what Popen returns is the command itself, and it dies with us.
        return ["nsenter", f"--net={self.path}", "setpriv", "--pdeathsig", "KILL", *map(str, arguments)]

    def close(self):
        self.threads.shutdown()
        self.holder.kill()
        self.holder.wait()


class HostNamespace:
    """For clusters that are there: this machine's own network. Pods' addresses are local here while tests run."""

    def __init__(self):
        subprocess.run(["ip", "route", "replace", "local", POD_NET, "dev", "lo"], check=True)

    def call(self, function, *arguments):
        return function(*arguments)

    def command(self, arguments):
        return ["setpriv", "--pdeathsig", "KILL", *map(str, arguments)]

    def close(self):
        subprocess.run(["ip", "route", "del", "local", POD_NET, "dev", "lo"], check=True)


class Cluster:
    """crds: files that are installed before the controller manager starts, whose garbage collector learns of later ones in half a minute.
    feature_gates: for kube-apiserver, {"WatchList": True}."""

    def __init__(self, folder, crds=(), feature_gates=None, kubectl=None):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.crds = crds
        self.feature_gates = feature_gates or {}
        self.kubectl_path = kubectl or os.environ.get("KUBECTL", "kubectl")
        self.kubeconfig = self.folder / "kubeconfig"
        self.is_external = False
        self.namespace = None
        self.processes = []

    @classmethod
    def external(cls, kubeconfig, folder, crds=(), kubectl=None):
        """A cluster that is there: nothing is started or stopped."""
        cluster = cls(folder, crds, kubectl=kubectl)
        cluster.is_external = True
        cluster.kubeconfig = Path(kubeconfig).resolve()
        return cluster

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    # ---- start and stop ----

    def start(self):
        if self.is_external:
            self.namespace = HostNamespace()
            self.install_crds()
            return
        binaries = Path(subprocess.run([str(HERE / "build")], check=True, stdout=subprocess.PIPE, text=True).stdout.strip())
        self.namespace = Namespace()
        self.make_credentials()
        (self.folder / "audit-policy.yaml").write_text(AUDIT_POLICY)
        self.spawn(["etcd", "--name=interop", f"--data-dir={self.folder}/etcd", f"--listen-client-urls=http://127.0.0.1:{ETCD_PORT}",
                    f"--advertise-client-urls=http://127.0.0.1:{ETCD_PORT}", f"--listen-peer-urls=http://127.0.0.1:{ETCD_PEER_PORT}",
                    f"--initial-advertise-peer-urls=http://127.0.0.1:{ETCD_PEER_PORT}",
                    f"--initial-cluster=interop=http://127.0.0.1:{ETCD_PEER_PORT}", "--unsafe-no-fsync"], log="etcd.log")
        self.apiserver_command = [binaries / "kube-apiserver", *self.apiserver_flags()]
        self.start_apiserver()
        self.install_crds()
        self.spawn([binaries / "kube-controller-manager", f"--kubeconfig={self.kubeconfig}", f"--controllers={','.join(CONTROLLERS)}",
                    "--leader-elect=false", f"--secure-port={MANAGER_PORT}", f"--cert-dir={self.folder}/manager",
                    "--kube-api-qps=200", "--kube-api-burst=400"], log="kube-controller-manager.log")
        until(lambda: self.get("serviceaccounts", "default", "default"), "the controller manager works")

    def install_crds(self):
        for path in self.crds:
            self.kubectl("apply", "--server-side", "-f", str(path))
            self.kubectl("wait", "--for=condition=Established", "-f", str(path), "--timeout=30s")

    def apiserver_flags(self):
        pki = self.folder / "pki"
        gates = ",".join(f"{name}={str(value).lower()}" for name, value in self.feature_gates.items())
        return [
            f"--etcd-servers=http://127.0.0.1:{ETCD_PORT}", f"--secure-port={API_PORT}", "--bind-address=0.0.0.0",
            "--advertise-address=10.77.255.254", "--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.96.0.0/16",
            f"--token-auth-file={self.folder}/tokens.csv", "--authorization-mode=RBAC", f"--client-ca-file={pki}/ca.crt",
            f"--tls-cert-file={pki}/server.crt", f"--tls-private-key-file={pki}/server.key",
            "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={pki}/accounts.key",
            f"--service-account-signing-key-file={pki}/accounts.key", f"--audit-policy-file={self.folder}/audit-policy.yaml",
            f"--audit-log-path={self.folder}/audit.log", "--audit-log-mode=blocking", *([f"--feature-gates={gates}"] if gates else []),
        ]

    def start_apiserver(self):
        self.apiserver = self.spawn(self.apiserver_command, log="kube-apiserver.log")
        until(lambda: self.namespace.call(self.fetch, "GET", "/readyz", None, {}) == "ok", "kube-apiserver is ready", 90)

    def kill_apiserver(self):
        self.apiserver.kill()
        self.apiserver.wait()

    def compact(self):
        """Makes etcd forget all revisions but the newest, as a real API server does every five minutes."""
        url = f"http://127.0.0.1:{ETCD_PORT}/v3/kv"
        _, answer = self.http("POST", f"{url}/range", {"key": "AA=="})
        status, answer = self.http("POST", f"{url}/compaction", {"revision": answer["header"]["revision"], "physical": True})
        assert status == 200, answer

    def stop(self):
        for process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
        self.processes.clear()
        shutil.rmtree(self.folder / "etcd", ignore_errors=True)  # etcd writes 64 MB ahead
        if self.namespace is not None:
            self.namespace.close()
            self.namespace = None

    def make_credentials(self):
        """A certificate authority, the server's certificate, a client's (group system:masters) and an administrator's token."""
        pki = self.folder / "pki"
        pki.mkdir(mode=0o700, exist_ok=True)

        def openssl(*arguments):
            subprocess.run(["openssl", *arguments], cwd=pki, check=True, capture_output=True)

        def issue(name, subject, extensions):
            (pki / f"{name}.ext").write_text(extensions)
            openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-subj", subject, "-out", f"{name}.csr")
            openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
                    "-extfile", f"{name}.ext", "-out", f"{name}.crt")

        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-subj", "/CN=interop-ca", "-days", "2",
                "-out", "ca.crt")
        issue("server", "/CN=kube-apiserver", "subjectAltName=IP:127.0.0.1,DNS:kubernetes.default.svc\nextendedKeyUsage=serverAuth\n")
        issue("client", "/O=system:masters/CN=interop-client", "extendedKeyUsage=clientAuth\n")
        openssl("genrsa", "-out", "accounts.key", "2048")
        self.admin_token = secrets.token_hex(16)
        (self.folder / "tokens.csv").write_text(f'{self.admin_token},{ADMIN},{ADMIN},"system:masters"\n')
        self.write_kubeconfig(self.kubeconfig, {"token": self.admin_token})

    def write_kubeconfig(self, path, user, namespace="default", **cluster):
        """A kubeconfig of this cluster for a user ({"token": ...}, {"exec": ...}, ...); `cluster`: further members of its cluster entry."""
        if self.is_external:
            config = json.loads(self.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json").stdout)
            entry = {**config["clusters"][0]["cluster"], **cluster}
        else:
            entry = {"server": f"https://127.0.0.1:{API_PORT}", "certificate-authority": f"{self.folder}/pki/ca.crt", **cluster}
        entry = {key: value for key, value in entry.items() if value is not None}
        config = {"apiVersion": "v1", "kind": "Config", "current-context": "interop",
                  "clusters": [{"name": "interop", "cluster": entry}], "users": [{"name": "interop", "user": user}],
                  "contexts": [{"name": "interop", "context": {"cluster": "interop", "user": "interop", "namespace": namespace}}]}
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(config, file)
        return Path(path)

    # ---- processes and HTTP inside ----

    def spawn(self, arguments, log, environment=None):
        """A process inside, its output in <folder>/<log>; ended by stop() or with us. Popen's pid is the command's own."""
        with open(self.folder / log, "ab") as file:
            process = subprocess.Popen(self.namespace.command(arguments), stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                                       env={**os.environ, **(environment or {})}, cwd=self.folder)
        self.processes.append(process)
        return process

    def run(self, arguments, stdin=None, check=True, timeout=120, environment=None):
        """A command inside, to its end."""
        result = subprocess.run(self.namespace.command(arguments), input=stdin, text=True, capture_output=True, timeout=timeout,
                                env={**os.environ, **(environment or {})})
        assert not check or result.returncode == 0, f"{' '.join(map(str, arguments))}: {result.returncode}\n{result.stdout}{result.stderr}"
        return result

    def kubectl(self, *arguments, stdin=None, check=True, kubeconfig=None):
        environment = {"KUBECONFIG": str(kubeconfig or self.kubeconfig), "HOME": str(self.folder)}
        return self.run([self.kubectl_path, *arguments], stdin=stdin, check=check, environment=environment)

    def http(self, method, url, body=None, headers=None, timeout=30):
        """(status, body as JSON or text) of a request sent from inside, to an engine for instance."""
        return self.namespace.call(request, method, url, body, headers, timeout)

    def fetch(self, method, path, body, headers):
        """A request to our own kube-apiserver, on a thread of the namespace."""
        import ssl  # not needed for clusters that are there

        context = ssl.create_default_context(cafile=str(self.folder / "pki/ca.crt"))
        status, answer = request(method, f"https://127.0.0.1:{API_PORT}{path}", body,
                                 {"Authorization": f"Bearer {self.admin_token}", **headers}, 30, context)
        if status >= 400:
            raise ApiError(status, answer)
        return answer

    # ---- objects ----

    def apply(self, *objects):
        """Server-side apply of objects (dicts)."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        return self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)

    def get(self, kind, name=None, namespace="default", selector=None):
        """The object, or the list's items; None when it, or its kind, does not exist."""
        arguments = ["get", kind, *([name] if name else []), "-n", namespace, *(["-l", selector] if selector else []), "-o", "json"]
        result = self.kubectl(*arguments, check=False)
        if result.returncode != 0:
            if "NotFound" in result.stderr or "doesn't have a resource type" in result.stderr:
                return None
            raise ApiError(result.returncode, result.stderr)
        value = json.loads(result.stdout)
        return value if name else value["items"]

    def make_ready_pod(self, name, ip, labels, containers=None, namespace="default", node=None, annotations=None):
        """A pod that is Running and Ready at an address of POD_NET, though nothing runs it. containers: default one `engine`."""
        containers = containers or [{"name": "engine", "image": "none", "ports": [{"containerPort": 8000}]}]
        spec = {"containers": containers, "schedulerName": ANY_SCHEDULER_BUT_A_REAL_ONE, "automountServiceAccountToken": False,
                "terminationGracePeriodSeconds": 0, **({"nodeName": node} if node else {})}
        self.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace, "labels": labels,
                                                                    "annotations": annotations or {}}, "spec": spec})
        self.set_pod_ready(name, ip, namespace=namespace, containers=containers)
        return self.get("pod", name, namespace)

    def set_pod_ready(self, name, ip, is_ready=True, namespace="default", containers=(), restarts=0):
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        statuses = [{"name": container["name"], "image": "none", "imageID": "", "ready": is_ready, "restartCount": restarts,
                     "started": True, "containerID": f"interop://{name}-{container['name']}-{restarts}",
                     "state": {"running": {"startedAt": now}}} for container in containers]
        conditions = [{"type": kind, "status": "True" if is_ready else "False", "lastTransitionTime": now}
                      for kind in ("Initialized", "ContainersReady", "Ready", "PodScheduled")]
        status = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "startTime": now, "conditions": conditions}
        if statuses:
            status["containerStatuses"] = statuses
        self.kubectl("patch", "pod", name, "-n", namespace, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))

    def delete_pod(self, name, namespace="default"):
        self.kubectl("delete", "pod", name, "-n", namespace, "--grace-period=0", "--force")

    def make_node(self, name, labels=None):
        self.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels or {}}})

    def account(self, name, rules, namespace="default", cluster_wide=False):
        """A ServiceAccount with a Role (or ClusterRole) of these rules and nothing else; returns a token of it."""
        kind = "ClusterRole" if cluster_wide else "Role"
        place = {} if cluster_wide else {"namespace": namespace}
        self.apply(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}},
            {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name, **place}, "rules": rules},
            {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": f"{kind}Binding", "metadata": {"name": name, **place},
             "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
             "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}]})
        return self.account_token(name, namespace)

    def account_token(self, name, namespace="default", duration="1h"):
        return self.kubectl("create", "token", name, "-n", namespace, f"--duration={duration}").stdout.strip()

    def audit(self):
        """Writes as the audit log has them, in order of completion; [] for clusters that are there."""
        path = self.folder / "audit.log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def request(method, url, body=None, headers=None, timeout=30, context=None):
    """(status, body as JSON or text) of any answer; a connection that fails is an OSError."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
    asked = urllib.request.Request(url, data, {"Content-Type": "application/json", **(headers or {})}, method=method)
    handlers = [urllib.request.ProxyHandler({})] + ([urllib.request.HTTPSHandler(context=context)] if context else [])
    try:
        with urllib.request.build_opener(*handlers).open(asked, timeout=timeout) as response:
            status, text = response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read().decode()
    try:
        return status, json.loads(text)
    except json.JSONDecodeError:
        return status, text

