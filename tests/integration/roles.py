"""Single roles of Davit and fake engines as processes, and a small client of the Kubernetes API that keeps its connection."""

import base64
import http.client
import json
import os
import random
import re
import secrets
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse
from pathlib import Path

import yaml
from world import ROOT, SLOW, until
from world import http as request

IDLE_SECONDS = 20
ALARM = re.compile(r"AddressSanitizer|LeakSanitizer|runtime error:|\bFATAL\b|Assertion `|stack smashing")


def program(name=""):
    """The davit program, or one that was built beside it."""
    davit = Path(os.environ.get("DAVIT", ROOT / "build/release/davit")).resolve()
    return davit.parent / name if name else davit


class Process:
    """A program that logs to a file, until stop()."""

    def __init__(self, log, *command, environment=None):
        self.log = Path(log)
        with self.log.open("ab") as output:
            self.began = output.tell()  # an earlier one may have logged there
            self.popen = subprocess.Popen([str(part) for part in command], stdout=output, stderr=output,
                                          env={**os.environ, **(environment or {})})
        self.pid = self.popen.pid

    def said(self, pattern):
        """The first match in what it logged so far."""
        assert self.popen.poll() is None, f"{self.log.name} ended with {self.popen.returncode}: {self.text()[-2000:]}"
        return re.search(pattern, self.text())

    def text(self):
        return self.log.read_bytes()[self.began:].decode(errors="replace")

    def stop(self, number=signal.SIGTERM):
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        try:
            return self.popen.wait(timeout=20 * SLOW)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            raise AssertionError(f"{self.log.name} did not end on signal {number}") from None

    def check(self):
        """Ends it; it must end well and must not have raised an alarm."""
        status = self.stop()
        alarms = [line for line in self.log.read_text(errors="replace").splitlines() if ALARM.search(line)]  # of earlier ones too
        assert status == 0 and not alarms, f"{self.log.name}: status {status}\n" + "\n".join(alarms)


class Kept:
    """A connection that is kept between requests, but not for so long that the other side may be closing it."""

    def __init__(self, connection):
        self.connection, self.used = connection, time.monotonic()

    def ask(self, method, path, body=None, headers=None):
        """(status, body)"""
        if time.monotonic() - self.used > IDLE_SECONDS:
            self.connection.close()  # the next request opens it again
        self.connection.request(method, path, body, headers or {})
        answer = self.connection.getresponse()
        text = answer.read()
        self.used = time.monotonic()
        return answer.status, text


def free_port_of(process):
    return int(until(lambda: process.said(r"metrics and health on 127\.0\.0\.1:(\d+)"), "the controller listens").group(1))


class ApiServer(Process):
    def __init__(self, folder):
        folder = Path(folder)
        self.kubeconfig = folder / "kubeconfig"
        super().__init__(folder / "apiserver.log", program(), "apiserver", "--dir", folder / "apiserver", "--secure-port", "0",
                         "--kubeconfig-out", self.kubeconfig)
        until(lambda: self.said("serving https"), "the API server serves")


class Controller(Process):
    def __init__(self, folder, kubeconfig, *options):
        super().__init__(Path(folder) / "controller.log", program(), "controller", "--kubeconfig", kubeconfig,
                         "--metrics-bind-address", "127.0.0.1:0", *options)
        self.port = free_port_of(self)

    def metrics(self):
        """Name, with its labels as they are written -> value."""
        return metrics_at("127.0.0.1", self.port)


class Gateway(Process):
    """Of all namespaces, unless the options say otherwise."""

    def __init__(self, folder, kubeconfig, *options):
        port_file = folder / "gateway.port"
        super().__init__(folder / "gateway.log", program(), "gateway", "--kubeconfig", kubeconfig, "--address", "127.0.0.1", "--port", "0",
                         "--port-file", port_file, *options)
        until(lambda: self.said("routes read"), "the gateway has read its routes")
        self.url = f"http://127.0.0.1:{port_file.read_text().strip()}"

    def ask(self, model):
        """(status, the answer's model; else what was said)"""
        status, answer = request("POST", f"{self.url}/v1/completions", {"prompt": "Say:", "model": model, "max_tokens": 1})
        return (status, answer["model"]) if status == 200 else (status, answer)

    def retries(self, reason):
        lines = request("GET", f"{self.url}/metrics")[1].splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f'davit_gateway_retries_total{{reason="{reason}"}}'))


def metrics_at(address, port):
    connection = http.client.HTTPConnection(address, port, timeout=30)
    try:
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
    finally:
        connection.close()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line and line[0] != "#")}


# ---- fake engines ----

class Fakes(Process):
    """Fake engines on addresses of their own (127.X.Y.1 and on; `network` gives another /16). See tests/fake_engine/control.h."""

    def __init__(self, folder, count, kind="vllm", sidecar=False, network=None, settings=None, log_entries=65536):
        for _ in range(20):
            start = (random.randrange(100, 250), random.randrange(0, 256 - (count + 253) // 254))
            prefix = network or f"127.{start[0]}"
            self.addresses = [f"{prefix}.{start[1] + i // 254}.{1 + i % 254}" for i in range(count)]
            log = Path(folder) / f"fakes-{prefix}.{start[1]}-{secrets.token_hex(3)}.log"
            super().__init__(log, program("tests/fake_engine/fake_engine"), "--addresses", ",".join(self.addresses), "--kind", kind,
                             "--sidecar-port", 8080 if sidecar else 0, "--settings", json.dumps(settings or {}),
                             "--log-entries", log_entries)
            if self.starts():
                return
        raise AssertionError("no free addresses for fake engines")

    def starts(self):
        """False when somebody else is at these addresses."""
        def look():
            if self.popen.poll() is not None:
                assert "in use" in self.text(), self.text()
                return "taken"
            return self.said(r"ready control=(\S+):(\d+)")
        found = until(look, "the fake engines listen")
        if found != "taken":
            self.control = Kept(http.client.HTTPConnection(found.group(1), int(found.group(2)), timeout=60))
        return found != "taken"

    def ask(self, method, path, body=None):
        status, text = self.control.ask(method, f"/_fake/{path}", json.dumps(body) if body is not None else None)
        assert status == 200, f"{path}: {status} {text.decode()}"
        return json.loads(text)

    def order(self, what, addresses=None, **members):
        return self.ask("POST", what, {**({"addresses": addresses} if addresses is not None else {}), **members})

    def set(self, *addresses, **settings):
        """Changes settings of these engines, or of all."""
        self.order("faults", list(addresses) or None, settings=settings)

    def fault(self, *addresses, **faults):
        """fault(address, load={"delay_ms": 50}): what a call does wrong; None takes everything about it back."""
        well = {"delay_ms": 0, "hang": False, "close": False, "status": 0, "message": None}
        self.set(*addresses, faults={call: {**well, **(fault or {})} for call, fault in faults.items()})

    def hang(self, *addresses, hang=True):
        self.fault(*addresses, **{call: {"hang": hang} for call in ("list", "load", "unload", "generate", "generate_base", "other")})

    def counts(self, address=None):
        return self.ask("GET", "engines")["engines"][address] if address else self.ask("GET", "totals")

    def adapters(self, address):
        """Name -> root."""
        return self.ask("GET", f"adapters?address={address}")["adapters"]

    def events(self, call=None, name=None, address=None, start=0):
        """What happened, oldest first: loads, unloads and generations with "began" and "ended" in seconds of time.monotonic()."""
        wanted = {"call": call, "name": name, "address": address}
        events = self.ask("GET", f"log?from={start}")["events"]
        return [event for event in events if all(value is None or event[key] == value for key, value in wanted.items())]


# ---- the Kubernetes API ----

KINDS = {"pods": "/api/v1", "services": "/api/v1", "events": "/api/v1", "secrets": "/api/v1", "namespaces": "/api/v1",
         "endpointslices": "/apis/discovery.k8s.io/v1", "modeladapters": "/apis/model.aibrix.ai/v1alpha1"}


class Api:
    """One thread's connection to the API that a kubeconfig names."""

    def __init__(self, kubeconfig, namespace="default"):
        config = yaml.safe_load(Path(kubeconfig).read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self.server = urllib.parse.urlsplit(cluster["server"])
        self.namespace, self.kubeconfig = namespace, kubeconfig
        self.headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
        self.tls = None
        if self.server.scheme == "https":
            self.tls = ssl.create_default_context(cafile=cluster.get("certificate-authority"), cadata=pem(cluster))
            if "client-certificate" in user:
                self.tls.load_cert_chain(user["client-certificate"], user["client-key"])
        self.kept = Kept(self.connect())

    def connect(self):
        if self.tls:
            return http.client.HTTPSConnection(self.server.hostname, self.server.port, timeout=60 * SLOW, context=self.tls)
        return http.client.HTTPConnection(self.server.hostname, self.server.port, timeout=60 * SLOW)

    def path(self, kind, name=None, subresource=None, namespace=None):
        namespace = namespace or self.namespace
        where = "" if kind == "namespaces" or namespace == "*" else f"/namespaces/{namespace}"
        return KINDS[kind] + where + f"/{kind}" + (f"/{name}" if name else "") + (f"/{subresource}" if subresource else "")

    def ask(self, method, path, body=None, content_type="application/json"):
        """(status, object)"""
        status, text = self.kept.ask(method, path, json.dumps(body) if body is not None else None,
                                     {**self.headers, "Content-Type": content_type})
        return status, json.loads(text) if text[:1] == b"{" else text.decode()

    def must(self, method, path, *arguments):
        status, answer = self.ask(method, path, *arguments)
        assert status < 300, f"{method} {path}: {status} {answer}"
        return answer

    def get(self, kind, name):
        """None when there is none."""
        status, answer = self.ask("GET", self.path(kind, name))
        assert status in (200, 404), answer
        return answer if status == 200 else None

    def list(self, kind, **options):
        return self.must("GET", self.path(kind, **options))

    def create(self, kind, body):
        return self.must("POST", self.path(kind), body)

    def patch(self, kind, name, body, subresource=None):
        return self.must("PATCH", self.path(kind, name, subresource), body, "application/merge-patch+json")

    def delete(self, kind, name):
        self.must("DELETE", self.path(kind, name))

    def revision(self):
        """Of the whole store: whatever is written moves it."""
        return int(self.list("namespaces")["metadata"]["resourceVersion"])

    def watch(self, kind):
        return ApiWatch(self, kind)


def pem(cluster):
    data = cluster.get("certificate-authority-data")
    return base64.b64decode(data).decode() if data else None


class ApiWatch:
    """What a watch reports while the block runs: (time.monotonic() of arrival, ADDED|MODIFIED|DELETED, object)."""

    def __init__(self, api, kind):
        self.api, self.kind, self.events = api, kind, []

    def __enter__(self):
        self.open(self.api.list(self.kind)["metadata"]["resourceVersion"])
        self.is_over = False
        self.reader = threading.Thread(target=self.read)
        self.reader.start()
        return self

    def open(self, version):
        self.version = version
        self.connection = self.api.connect()
        self.connection.request("GET", f"{self.api.path(self.kind)}?watch=1&resourceVersion={version}", None, self.api.headers)
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200, self.answer.read()
        self.socket = self.connection.sock

    def __exit__(self, *_):
        self.is_over = True
        self.socket.shutdown(socket.SHUT_RDWR)  # wakes the reader; http.client has no other way
        self.reader.join()
        self.connection.close()

    def read(self):
        try:
            for line in self.answer:
                event = json.loads(line)
                self.events.append((time.monotonic(), event["type"], event["object"]))
        except (OSError, http.client.HTTPException, ValueError):
            pass

    def first(self, matches, what, after=0.0, timeout=30):
        """The first event after a time with matches(object)."""
        return until(lambda: next((event for event in list(self.events) if event[0] >= after and matches(event[2])), None), what, timeout)
