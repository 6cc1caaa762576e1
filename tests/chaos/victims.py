"""What is killed: where its process is, when it is back, and what may have been lost by it."""

import base64
import http.client
import json
import os
import re
import signal
import socket
import ssl
import threading
import time
from pathlib import Path

ENGINE_PORT, RUNTIME_PORT = 8000, 8080


class Api:
    """The API server without kubectl, whose start takes longer than what is to be measured."""

    def __init__(self, world):
        text = (world.dir / "kubeconfig").read_text()
        self.port = int(re.search(r"server: https://127\.0\.0\.1:(\d+)", text)[1])
        self.token = re.search(r"token: (\S+)", text)[1].strip('"')
        ca = base64.b64decode(re.search(r"certificate-authority-data: (\S+)", text)[1]).decode()
        self.tls = ssl.create_default_context(cadata=ca)

    def open(self, method, path, body=None, timeout=2.0):
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout, context=self.tls)
        connection.request(method, path, json.dumps(body) if body else None,
                           {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"})
        return connection, connection.getresponse()

    def call(self, method, path, body=None):
        connection, response = self.open(method, path, body)
        try:
            return response.status, response.read()
        finally:
            connection.close()


def answers_200(host, port, path):
    connection = http.client.HTTPConnection(host, port, timeout=1)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def is_alive(pid):
    """Whether the process runs; one that has ended may wait to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def kill(pid, *marks):
    """kill -9 of a process that carries the marks in its command line or environment; never of 0, 1 or a stranger. Returns
    when; it is dead then."""
    assert pid > 1, f"no process to kill: pid {pid}"
    words = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
    for mark in marks:
        assert os.fsencode(str(mark)) in words, f"process {pid} is not the one: it lacks {mark}"
    killed = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    while is_alive(pid):
        time.sleep(0.001)
    return killed


class Role:
    """A process that `davit up` keeps."""

    has_new_status = False

    def __init__(self, world, name):
        self.world, self.name, self.label = world, name, name
        self.pod = None

    def state(self):
        instance = json.loads((self.world.dir / "davit.json").read_text())
        return instance, next(role for role in instance["roles"] if role["name"] == self.name)

    def kill(self):
        self.pid = self.state()[1]["pid"]
        return kill(self.pid, self.world.dir, self.name)

    def is_back(self):
        instance, role = self.state()
        if role["pid"] in (0, self.pid):
            return False
        if self.name == "apiserver":
            try:
                return Api(self.world).call("GET", "/readyz")[0] == 200
            except (OSError, http.client.HTTPException):
                return False
        if self.name == "node":
            return role["ready"]
        return answers_200("127.0.0.1", instance[f"{self.name}_port"], "/readyz")

    def is_seen(self):
        return True

    def may_have_lost(self, answer, killed, back):
        return self.name == "gateway" and answer.started <= back and answer.ended >= killed


class Container:
    """A container of a pod, which the node keeps. Its pod is not ready meanwhile, and the objects say so truthfully: times of
    transitions and loads are new when it is back."""

    has_new_status = True

    def __init__(self, world, name, pod):
        self.world, self.name, self.pod = world, name, pod["metadata"]["name"]
        self.label = "engine" if name == "engine" else "runtime"
        self.address = pod["status"]["podIP"]

    def status(self):
        statuses = self.world.get("pod", self.pod)["status"]["containerStatuses"]
        return next(status for status in statuses if status["name"] == self.name)

    def kill(self):
        status = self.status()
        self.restarts = status["restartCount"]
        return kill(int(status["containerID"].removeprefix("process://")), self.world.dir, self.label)

    def is_seen(self):
        """The API has the restart, and the pod is ready again: until then the objects are those of before the kill."""
        status = self.status()
        return status["restartCount"] == self.restarts + 1 and status["ready"]

    def is_back(self):
        port, path = (ENGINE_PORT, "/health") if self.name == "engine" else (RUNTIME_PORT, "/ready")
        return answers_200(self.address, port, path)

    def may_have_lost(self, answer, killed, back):
        """A byte of the answer had left the engine, and the client was told."""
        del back
        return self.name == "engine" and answer.pod == self.pod and answer.started <= killed and answer.has_error_event


class EndpointWatch(threading.Thread):
    """Watches the adapters' EndpointSlices for one pod's endpoint; when it comes in, asks the engine whether it holds the adapter."""

    def __init__(self, api, pod, address):
        super().__init__(daemon=True)
        self.pod, self.address = pod, address
        self.history = {}  # adapter -> [(time, endpoint is in, engine lists the adapter)]
        path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?watch=true&labelSelector=kubernetes.io/service-name"
        self.connection, self.response = api.open("GET", path, timeout=None)
        self.start()

    def run(self):
        try:
            for line in self.response:
                self.note(json.loads(line)["object"])
        except (OSError, ValueError, AttributeError, http.client.HTTPException):
            pass  # closed

    def note(self, endpoint_slice):
        now = time.monotonic()
        adapter = endpoint_slice["metadata"]["name"]
        is_in = any(endpoint.get("targetRef", {}).get("name") == self.pod and endpoint["conditions"].get("ready", True)
                    for endpoint in endpoint_slice.get("endpoints") or [])
        history = self.history.setdefault(adapter, [])
        if not history or history[-1][1] != is_in:
            history.append((now, is_in, self.is_held(adapter) if is_in else False))

    def is_held(self, adapter):
        connection = http.client.HTTPConnection(self.address, ENGINE_PORT, timeout=2)
        try:
            connection.request("GET", "/v1/models")
            return any(card["id"] == adapter for card in json.loads(connection.getresponse().read())["data"])
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def is_whole(self, killed, adapters):
        """Every adapter's endpoint has gone out since the kill and is in again."""
        return all(any(not is_in and when >= killed for when, is_in, _ in self.history.get(adapter, [])) and
                   self.history[adapter][-1][1] for adapter in adapters)

    def came_in_empty(self, killed):
        return [adapter for adapter, history in self.history.items() if any(is_in and when >= killed and not held
                                                                             for when, is_in, held in history)]

    def close(self):
        self.connection.sock.shutdown(socket.SHUT_RDWR)  # wakes the reader, which close() would not
        self.join()
        self.connection.close()


class Writer(threading.Thread):
    """Creates small objects as fast as they are acknowledged: none of those may be lost."""

    PATH = "/api/v1/namespaces/default/configmaps"

    def __init__(self, api):
        super().__init__(daemon=True)
        self.api, self.acknowledged, self.is_stopping = api, [], False
        self.start()

    def run(self):
        number = 0
        while not self.is_stopping:
            number += 1
            name = f"chaos-{number}"
            try:
                status, _ = self.api.call("POST", self.PATH, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})
                if status == 201:
                    self.acknowledged.append(name)
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.005)

    def lost(self):
        """The acknowledged objects that are not there any more; those that are there are deleted."""
        self.is_stopping = True
        self.join()
        items = json.loads(self.api.call("GET", self.PATH)[1])["items"]
        there = {item["metadata"]["name"] for item in items}
        for name in there:
            if name.startswith("chaos-"):
                self.api.call("DELETE", f"{self.PATH}/{name}")
        return [name for name in self.acknowledged if name not in there]
