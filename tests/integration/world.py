"""One machine's worth of Davit in a folder of its own, driven from outside: davit up, kubectl, HTTP."""

import json
import os
import re
import subprocess
import threading
import time
import urllib.error
import urllib.request
from datetime import datetime
from pathlib import Path

import openai
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
TINY = ROOT / "tests/fixtures/tiny"
# Sanitizer builds are several times slower.
SLOW = 4 if os.environ.get("DAVIT_SLOW_BUILD") else 1
POLL_SECONDS = 2  # how often the controller asks each pod what it holds
SANITIZERS = ("ASAN_OPTIONS", "UBSAN_OPTIONS")


def processes_of(folder):
    """Command lines by process id of what runs for this state folder: roles name it in their arguments, pods carry it in their environment."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                arguments, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
            except OSError:
                continue
            if os.fsencode(folder) in arguments + environment:
                found[int(entry.name)] = arguments.replace(b"\0", b" ").decode()
    return found


def until(condition, what, timeout=60.0):
    """Polls until condition() is truthy and returns it; fails with the last value or error."""
    deadline = time.monotonic() + timeout * SLOW
    last, pause = None, 0.002  # most is so in a moment
    while time.monotonic() < deadline:
        try:
            last = condition()
            if last:
                return last
        except (AssertionError, OSError, subprocess.CalledProcessError) as error:
            last = error
        time.sleep(pause)
        pause = min(2 * pause, 0.05)
    raise AssertionError(f"{what}: not within {timeout * SLOW:.0f} s; last: {last!r}")


def http(method, url, body=None, headers=None, timeout=60):
    """(status, body as JSON or text) of any answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **(headers or {})}, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout * SLOW) as response:
            status, text = response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read().decode()
    try:
        return status, json.loads(text)
    except json.JSONDecodeError:
        return status, text


class Watch:
    """What `kubectl get KIND -w` reports while the block runs: (wall clock time of arrival, ADDED|MODIFIED|DELETED, object)."""

    def __init__(self, world, kind, *arguments):
        self.command = [world.kubectl_path, "get", kind, *arguments, "-w", "--output-watch-events", "-o", "json"]
        self.environment = world.environment
        self.events = []

    def __enter__(self):
        self.process = subprocess.Popen(self.command, env=self.environment, text=True, stdout=subprocess.PIPE)
        self.reader = threading.Thread(target=self.read)
        self.reader.start()
        until(lambda: self.events, "the watch reports what there is")
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.reader.join()
        self.process.wait()

    def read(self):
        for line in self.process.stdout:
            event = json.loads(line)
            self.events.append((time.time(), event["type"], event["object"]))

    def first(self, matches, what):
        """The first event with matches(type, object)."""
        return until(lambda: next((event for event in self.events if matches(event[1], event[2])), None), what)


class Steady:
    """Clients that ask their model without pause and without ever asking twice, one thread a model, while the block runs."""

    def __init__(self, ask, models):
        self.ask = ask
        self.answers = {model: [] for model in models}  # (status, answer)

    def __enter__(self):
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(model,)) for model in self.answers]
        for thread in self.threads:
            thread.start()
        self.settle()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def run(self, model):
        while not self.stop.is_set():
            try:
                self.answers[model].append(self.ask(model))
            except OSError as error:
                self.answers[model].append((0, repr(error)))

    def settle(self, count=3):
        """Waits until every model was answered `count` more times."""
        before = {model: len(answers) for model, answers in self.answers.items()}
        until(lambda: all(len(answers) >= before[model] + count for model, answers in self.answers.items()), "answers come")


class World:
    def __init__(self, folder):
        self.dir = Path(folder)
        self.davit = Path(os.environ.get("DAVIT", ROOT / "build/release/davit")).resolve()
        self.kubectl_path = os.environ.get("KUBECTL", "kubectl")
        self.sanitizers = {name: f"{os.environ[name]}:log_path={self.dir}/sanitizer" for name in SANITIZERS if name in os.environ}
        self.environment = {**os.environ, **self.sanitizers, "KUBECONFIG": str(self.dir / "kubeconfig"), "HOME": str(self.dir)}
        self.artifacts = {}  # name -> path of adapters that fit the base model
        self.is_real = False

    def run(self, *arguments, check=True, **options):
        result = subprocess.run([str(self.davit), *arguments], env=self.environment, text=True, capture_output=True,
                                timeout=120 * SLOW, **options)
        assert not check or result.returncode == 0, f"davit {' '.join(arguments)}: {result.returncode}\n{result.stdout}{result.stderr}"
        return result

    def up(self):
        self.run("up", "--detach", "--dir", str(self.dir), "--port", "0")
        self.gateway = self.run("status", "--dir", str(self.dir), "--gateway-url").stdout.strip()

    def down(self):
        self.run("down", "--dir", str(self.dir))

    def kubectl(self, *arguments, stdin=None, check=True):
        result = subprocess.run([self.kubectl_path, *arguments], env=self.environment, text=True, capture_output=True, input=stdin,
                                timeout=180 * SLOW)
        assert not check or result.returncode == 0, f"kubectl {' '.join(arguments)}: {result.stdout}{result.stderr}"
        return result

    def get(self, kind, name=None, selector=None):
        """The object, or the list's items; None when it does not exist."""
        arguments = ["get", kind, *([name] if name else []), *(["-l", selector] if selector else []), "-o", "json"]
        result = self.kubectl(*arguments, check=False)
        if result.returncode != 0:
            assert "NotFound" in result.stderr, result.stderr
            return None
        value = json.loads(result.stdout)
        return value if name else value["items"]

    def apply(self, text):
        return self.kubectl("apply", "-f", "-", stdin=text)

    def apply_base(self, model, replicas=2):
        text = (ROOT / "samples/base.yaml.in").read_text()
        text = text.replace("@DAVIT@", str(self.davit)).replace("@MODEL@", str(model)).replace("replicas: 2", f"replicas: {replicas}")
        if Path(model).is_relative_to(TINY):
            text = text.replace("--max-model-len=2048", "--max-model-len=512")
        deployment = yaml.safe_load(text)
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            container["env"] = [{"name": name, "value": value} for name, value in self.sanitizers.items()]
        self.apply(json.dumps(deployment))
        self.kubectl("rollout", "status", "deployment/smollm2", f"--timeout={90 * SLOW}s")

    def apply_adapter(self, name, path, **spec):
        self.apply(json.dumps({
            "apiVersion": "model.aibrix.ai/v1alpha1", "kind": "ModelAdapter", "metadata": {"name": name},
            "spec": {"baseModel": BASE, "podSelector": {"matchLabels": {"model.aibrix.ai/name": BASE}}, "artifactURL": str(path), **spec},
        }))

    def wait_ready(self, name, timeout=60):
        self.kubectl("wait", "--for=condition=Ready", f"modeladapter/{name}", f"--timeout={timeout * SLOW}s")

    def serve(self, artifacts):
        """Applies adapters (name -> path) and waits until every pod serves them and no other pod is published."""
        for name, path in artifacts.items():
            self.apply_adapter(name, path)
        pods = {pod["metadata"]["name"] for pod in self.pods()}
        for name in artifacts:
            until(lambda name=name: set(self.endpoints(name) or ()) == pods, f"every pod serves {name}")

    def delete_adapters(self):
        self.kubectl("delete", "modeladapters", "--all", f"--timeout={60 * SLOW}s")

    def pods(self):
        """Pods of the base model that are not on their way out."""
        return [pod for pod in self.get("pods", selector=f"model.aibrix.ai/name={BASE}") if "deletionTimestamp" not in pod["metadata"]]

    def endpoints(self, name):
        """Pod name -> address of the ready endpoints of an adapter; None when it has no slice."""
        endpoint_slice = self.get("endpointslice", name)
        if endpoint_slice is None:
            return None
        return {endpoint["targetRef"]["name"]: endpoint["addresses"][0] for endpoint in endpoint_slice.get("endpoints") or []
                if endpoint.get("conditions", {}).get("ready", True)}

    def condition(self, name, kind="Ready"):
        """The adapter's condition, {} as long as it has none."""
        status = self.get("modeladapter", name).get("status") or {}
        return next((condition for condition in status.get("conditions", []) if condition["type"] == kind), {})

    def engine_log(self, pod, pattern):
        """Times (seconds of the wall clock) of the lines of a pod's engine that match."""
        lines = self.kubectl("logs", pod, "-c", "engine").stdout.splitlines()
        return [datetime.fromisoformat(line.split(" ", 1)[0]).timestamp() for line in lines if re.search(pattern, line)]

    def openai(self, url=None):
        return openai.OpenAI(base_url=f"{url or self.gateway}/v1", api_key="none", max_retries=0)

    def text(self, model, question, url=None, max_tokens=8):
        """What the model answers; for Steady, (status, text or error)."""
        status, answer = self.chat(model, question, url, max_tokens=max_tokens)
        return status, answer["choices"][0]["message"]["content"] if status == 200 else answer

    def chat(self, model, question, url=None, **options):
        return http("POST", f"{url or self.gateway}/v1/chat/completions",
                    {"model": model, "messages": [{"role": "user", "content": question}], "max_tokens": 24, "temperature": 0, **options})


BASE = "smollm2-135m"
SQL_QUESTION = "Table: singers(id, name, nation, age)\nQuestion: How many singers have the nation France?"


def is_ready(pod):
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in pod["status"].get("conditions", []))


def loaded_on(address):
    """Adapters that the engine at this pod address lists."""
    status, answer = http("GET", f"http://{address}:8000/v1/models")
    assert status == 200, answer
    return {card["id"] for card in answer["data"] if card["parent"] is not None}
