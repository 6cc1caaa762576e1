"""`davit engine --lora-resolver-dir`: adapters that are loaded when somebody first asks for them; and lora_paths that are no folders."""

import os
import re
import shutil
import subprocess
import threading

import pytest
from fake_hub import FakeHub
from test_engine import DAVIT, Engine
from world import TINY, until


def complete(engine, model, headers=None):
    return engine.ask("POST", "/v1/completions", {"model": model, "prompt": "a", "max_tokens": 2, "temperature": 0}, headers)


@pytest.fixture
def adapters(tmp_path):
    folder = tmp_path / "adapters"
    for name in "ab":
        shutil.copytree(TINY / f"adapter-{name}", folder / name)
    shutil.copytree(TINY / "adapter-c", folder / "team" / "c")
    shutil.copytree(TINY / "bad/dora", folder / "dora")
    return folder


def test_an_unknown_model_is_loaded_once_for_all_who_ask(tmp_path, adapters):
    with Engine(tmp_path, "--lora-resolver-dir", adapters) as engine:
        assert engine.models() == ["base"]
        answers, threads = [], []
        for _ in range(20):
            threads.append(threading.Thread(target=lambda: answers.append(complete(engine, "a"))))
            threads[-1].start()
        for thread in threads:
            thread.join()
        assert [status for status, _ in answers] == [200] * 20
        assert {body["choices"][0]["text"] for _, body in answers} == {answers[0][1]["choices"][0]["text"]}
        assert engine.models() == ["base", "a"] and len(re.findall(r'adapter "a" loaded', engine.log())) == 1
        assert complete(engine, "team/c")[0] == 200
        chat = engine.ask("POST", "/v1/chat/completions",
                          {"model": "b", "messages": [{"role": "user", "content": "a"}], "max_tokens": 1, "stream": True})
        assert chat[0] == 200 and "[DONE]" in chat[1]
        root = {model["id"]: model["root"] for model in engine.ask("GET", "/v1/models")[1]["data"]}
        assert root["team/c"] == f"{adapters}/team/c"
        # Unloaded, it is loaded again when it is asked for.
        assert engine.ask("POST", "/v1/unload_lora_adapter", {"lora_name": "a"})[0] == 200
        assert complete(engine, "a")[0] == 200 and len(re.findall(r'adapter "a" loaded', engine.log())) == 2


def test_what_is_no_adapter(tmp_path, adapters):
    (tmp_path / "outside").mkdir()
    shutil.copytree(TINY / "adapter-a", tmp_path / "outside" / "x")
    with Engine(tmp_path, "--lora-resolver-dir", adapters) as engine:
        for name in ("none", "../outside/x", f"{tmp_path}/outside/x", "a/../b", ".", "a\n"):
            status, body = complete(engine, name)
            assert status == 404 and body["error"]["type"] == "NotFoundError" and body["error"]["param"] == "model", name
            assert body["error"]["message"].startswith(f"The model `{name}` does not exist."), name
        status, body = complete(engine, "dora")
        assert status == 400 and body["error"]["type"] == "BadRequestError"
        assert body["error"]["message"].startswith("LoRA adapter 'dora' was found but could not be loaded: ") and "DoRA" in str(body)
        assert engine.models() == ["base"]
        # That somebody asked for what there is not is no news, and no failed load.
        assert "none" not in engine.log()
        assert re.search(r"^davit:adapter_load_failures_total\S* 1(\.0)?$", engine.ask("GET", "/metrics")[1], re.MULTILINE)


def test_what_was_not_there_is_found_a_little_later(tmp_path, adapters):
    with Engine(tmp_path, "--lora-resolver-dir", adapters) as engine:
        assert complete(engine, "new")[0] == 404
        shutil.copytree(TINY / "adapter-b", adapters / "new")
        assert complete(engine, "new")[0] == 404  # remembered
        until(lambda: complete(engine, "new")[0] == 200, "the adapter is found", 20)


def test_the_number_of_adapters_is_bounded(tmp_path, adapters):
    with Engine(tmp_path, "--lora-resolver-dir", adapters, "--max-loras", "1", "--max-cpu-loras", "1") as engine:
        assert complete(engine, "a")[0] == 200
        status, body = complete(engine, "b")
        assert status == 400 and body["error"]["type"] == "BadRequestError"
        assert body["error"]["message"] == ("LoRA adapter 'b' was found but could not be loaded: adapter \"b\": 1 adapters are resident, "
                                            "which is the limit (max_cpu_loras)")
        assert complete(engine, "a")[0] == 200


def test_a_resolver_that_cannot_be(tmp_path):
    for arguments, words in ((("--lora-resolver-dir", tmp_path / "none"), "expected a folder"),
                             (("--lora-resolver-dir", TINY / "model.gguf"), "expected a folder"),
                             (("--lora-resolver-dir", tmp_path, "--no-enable-lora"), "exclude each other")):
        result = subprocess.run([DAVIT, "engine", "--model", TINY / "model.gguf", *arguments], capture_output=True, text=True, timeout=60)
        assert result.returncode == 2 and words in result.stderr, result


def test_nothing_is_looked_up_without_the_option(engine, adapters):
    assert complete(engine, "a")[0] == 404


@pytest.fixture
def engine(tmp_path):
    with Engine(tmp_path) as started:
        yield started


# ---- what is no folder ----

FILES = ("adapter_config.json", "adapter_model.safetensors")


@pytest.fixture
def hub():
    hub = FakeHub()
    hub.tokens = {"t0ken"}
    yield hub
    hub.close()


class Gate:
    """Holds a hub's answers about a model until it is opened."""

    def __init__(self, hub, part):
        self.part, self.is_open, self.reached = part, threading.Event(), threading.Event()
        hub.on_request = self.pass_through

    def pass_through(self, _, path):
        if self.part in path:
            self.reached.set()
            assert self.is_open.wait(60)


def fetching(tmp_path, hub, *arguments, **environment):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "XDG_")) and "proxy" not in name.lower()}
    (tmp_path / "home").mkdir(exist_ok=True)
    started = Engine(tmp_path, "--artifact-cache", tmp_path / "cache", *arguments)
    started.environment = {**clean, "HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url, **environment}
    return started


def load(engine, name, path):
    return engine.ask("POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": path})


def test_lora_paths_that_are_no_folders(tmp_path, hub):
    first = hub.put_folder("org/sql", TINY / "adapter-a")
    hub.put_folder("org/sql", TINY / "adapter-b")
    hub.put_folder("org/gated", TINY / "adapter-a")
    hub.models["org/gated"].gated = "auto"
    hub.put("org/dora", {name: TINY / "bad/dora" / name for name in FILES})
    with fetching(tmp_path, hub, "--lora-modules", f"early=hf://org/sql@{first}") as engine:
        for name, path in (("repo", "org/sql"), ("url", "hf://org/sql"), ("old", f"huggingface://org/sql@{first}"),
                           ("a", TINY / "adapter-a"), ("b", TINY / "adapter-b")):
            status, body = load(engine, name, str(path))
            assert status == 200 and body == f"Success: LoRA adapter '{name}' added successfully.", (path, body)
        text = {name: complete(engine, name)[1]["choices"][0] for name in ("early", "repo", "url", "old", "a", "b")}
        assert text["early"] == text["old"] == text["a"] and text["repo"] == text["url"] == text["b"]
        root = {model["id"]: model["root"] for model in engine.ask("GET", "/v1/models")[1]["data"]}
        assert root["repo"] == "org/sql" and root["url"] == "hf://org/sql"
        for path, status, words in (("org/none", 404, "No adapter found for org/none"), ("hf://org/none", 404, "No adapter found for"),
                                    ("hf://org/sql@nix", 404, 'no branch, tag or commit \"nix\"'),
                                    ("hf://org/gated", 404, f"accept its terms at {hub.url}/org/gated"), ("ftp://x/y", 404, "ftp://x/y"),
                                    ("hf://datasets/a/b", 500, "models"), ("hf://org/dora", 500, "DoRA")):
            answer = load(engine, "bad", path)
            assert answer[0] == status and words in answer[1]["error"]["message"], (path, answer)
        assert "bad" not in engine.models()


def test_a_slow_source_delays_nobody_else(tmp_path, hub):
    hub.put_folder("org/slow", TINY / "adapter-a")
    gate = Gate(hub, "org/slow")
    with fetching(tmp_path, hub) as engine:
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(load(engine, "slow", "org/slow"))) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert gate.reached.wait(60)
        assert load(engine, "b", str(TINY / "adapter-b"))[0] == 200 and complete(engine, "b")[0] == 200
        assert not answers
        gate.is_open.set()
        for thread in threads:
            thread.join()
        # Of three who want the name at once one gets it; the files were fetched once.
        assert sorted(status for status, _ in answers) == [200, 400, 400] and len(hub.asked("store")) == 1


def test_unknown_models_from_a_hub(tmp_path, hub):
    hub.put_folder("org/sql", TINY / "adapter-a")
    hub.put_folder("org/secret", TINY / "adapter-a")
    hub.models["org/secret"].is_private, hub.models["org/secret"].members = True, {"t0ken"}
    gate = Gate(hub, "org/sql")
    with fetching(tmp_path, hub, "--lora-resolver-dir", "hf://org") as engine:
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(complete(engine, "sql")[0])) for _ in range(5)]
        for thread in threads:
            thread.start()
        assert gate.reached.wait(60)
        # Somebody who does not wait until the end.
        leaver = subprocess.Popen(["curl", "-s", "-m", "60", "-H", "Content-Type: application/json", "-d",
                                   '{"model": "sql", "prompt": "a", "max_tokens": 2}', engine.url + "/v1/completions"])
        until(lambda: engine.ask("GET", "/load")[1]["server_load"] == 6, "all wait")
        leaver.kill()
        leaver.wait()
        until(lambda: engine.ask("GET", "/load")[1]["server_load"] == 5, "one has left")
        assert complete(engine, "base")[0] == 200
        gate.is_open.set()
        for thread in threads:
            thread.join()
        assert answers == [200] * 5 and len(hub.asked("store")) == 1
        for name in ("secret", "none"):  # what the hub does not show is not there
            status, body = complete(engine, name)
            assert status == 404 and body["error"]["message"].startswith(f"The model `{name}` does not exist."), body
        asked = len(hub.requests)
        assert complete(engine, "none")[0] == 404 and len(hub.requests) == asked


def test_an_engine_that_stops_while_somebody_waits(tmp_path, hub):
    hub.put_folder("org/sql", TINY / "adapter-a")
    gate = Gate(hub, "org/sql")
    with fetching(tmp_path, hub, "--lora-resolver-dir", "hf://org", "--shutdown-timeout", "1") as engine:
        answers = []
        thread = threading.Thread(target=lambda: answers.append(complete(engine, "sql")))
        thread.start()
        assert gate.reached.wait(60)
        engine.process.terminate()
        assert engine.process.wait(30) == 0
        thread.join()
        assert answers[0][0] == 503
        gate.is_open.set()


def test_a_resolver_with_a_token(tmp_path, hub):
    hub.put_folder("org/secret", TINY / "adapter-a")
    hub.models["org/secret"].is_private, hub.models["org/secret"].members = True, {"t0ken"}
    with fetching(tmp_path, hub, "--lora-resolver-dir", "hf://", HF_TOKEN="t0ken") as engine:
        assert complete(engine, "org/secret")[0] == 200
        assert "t0ken" not in engine.log() and not list((tmp_path / "cache").rglob("*t0ken*"))
        assert subprocess.run(["grep", "-rq", "t0ken", tmp_path / "cache"]).returncode == 1
