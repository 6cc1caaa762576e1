"""One machine's worth of Davit in a folder of its own, driven from outside: davit up, kubectl, HTTP."""

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TINY = ROOT / "tests/fixtures/tiny"
# Sanitizer builds are several times slower.
SLOW = 4 if os.environ.get("DAVIT_SLOW_BUILD") else 1


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
    last = None
    while time.monotonic() < deadline:
        try:
            last = condition()
            if last:
                return last
        except (AssertionError, OSError, subprocess.CalledProcessError) as error:
            last = error
        time.sleep(0.05)
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


class World:
    def __init__(self, folder):
        self.dir = Path(folder)
        self.davit = Path(os.environ.get("DAVIT", ROOT / "build/release/davit")).resolve()
        self.kubectl_path = os.environ.get("KUBECTL", "kubectl")
        self.environment = {**os.environ, "KUBECONFIG": str(self.dir / "kubeconfig"), "HOME": str(self.dir)}

    def run(self, *arguments, check=True, **options):
        result = subprocess.run([str(self.davit), *arguments], env=self.environment, text=True, capture_output=True,
                                timeout=120 * SLOW, **options)
        assert not check or result.returncode == 0, f"davit {' '.join(arguments)}: {result.returncode}\n{result.stdout}{result.stderr}"
        return result

    def up(self):
        self.run("up", "--detach", "--dir", str(self.dir), "--port", "0")

    def down(self):
        self.run("down", "--dir", str(self.dir))

    @property
    def gateway(self):
        return self.run("status", "--dir", str(self.dir), "--gateway-url").stdout.strip()

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
            text = text.replace("--max-model-len=2048", "--max-model-len=256")
        self.apply(text)
        self.kubectl("rollout", "status", "deployment/smollm2", f"--timeout={90 * SLOW}s")

    def apply_adapter(self, name, path, **spec):
        self.apply(json.dumps({
            "apiVersion": "model.aibrix.ai/v1alpha1", "kind": "ModelAdapter", "metadata": {"name": name},
            "spec": {"baseModel": BASE, "podSelector": {"matchLabels": {"model.aibrix.ai/name": BASE}}, "artifactURL": str(path), **spec},
        }))

    def wait_ready(self, name, timeout=60):
        self.kubectl("wait", "--for=condition=Ready", f"modeladapter/{name}", f"--timeout={timeout * SLOW}s")

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

    def chat(self, model, question, url=None, **options):
        return http("POST", f"{url or self.gateway}/v1/chat/completions",
                    {"model": model, "messages": [{"role": "user", "content": question}], "max_tokens": 24, "temperature": 0, **options})


BASE = "smollm2-135m"
SQL_QUESTION = "Table: singers(id, name, nation, age)\nQuestion: How many singers have the nation France?"


def loaded_on(address):
    """Adapters that the engine at this pod address lists."""
    status, answer = http("GET", f"http://{address}:8000/v1/models")
    assert status == 200, answer
    return {card["id"] for card in answer["data"] if card["parent"] is not None}
