"""Who fetches: each a call that fetches the adapters NAMES into the empty folder OUT and returns a Sample."""

import contextlib
import http.client
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from store import CONFIG, WEIGHTS

HERE = Path(__file__).resolve().parent
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Sample:
    seconds: float
    cpu: float
    resident_mb: float


def environment(url, **more):
    """What all start with: the server as S3 store and as hub, keys that it does not look at, and nobody's home."""
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true", "HF_ENDPOINT": url,
            "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", **more}


def memory(pid):
    """Of a process, in kB: VmHWM, VmRSS, RssAnon ..."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) for line in lines if line.endswith(" kB")}


def run(arguments, url, sync=None):
    """A program from start to end; `sync`: a folder whose files are brought to the disk before it counts as done."""
    highest = 0
    started = time.monotonic()
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment(url))
    # Not ru_maxrss: it has what was ours before the process became another program.
    while (ended := os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)) is None:
        with contextlib.suppress(OSError, KeyError):
            if "python" not in Path(f"/proc/{process.pid}/comm").read_text():
                highest = max(highest, memory(process.pid)["VmHWM"])
        time.sleep(0.005)
    said = process.stderr.read()
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = ended.si_status
    if ended.si_status != 0:
        sys.exit(f"{arguments[0]}: {said.decode(errors='replace')}")
    if sync is not None:
        subprocess.run(["sync", *map(str, sync.rglob("*"))], check=True)
    return Sample(time.monotonic() - started, usage.ru_utime + usage.ru_stime, highest / 1000)


def curl(parallel=0, sync=False):
    def fetch(url, out, names):
        arguments = ["curl", "-sSf", "--create-dirs", *(["-Z", "--parallel-max", str(parallel)] if parallel else [])]
        for name in names:
            for file in (CONFIG, WEIGHTS):
                arguments += ["-o", str(out / name / file), f"{url}/web/{name}/{file}"]
        return run(arguments, url, out if sync else None)
    return fetch


def davit_pull(davit):
    def fetch(url, out, names):
        [name] = names
        return run([davit, "pull", f"{url}/web/{name}", "--cache", str(out)], url)
    return fetch


def python(client, threads):
    def fetch(url, out, names):
        process = subprocess.Popen([sys.executable, str(HERE / "python_client.py"), client, str(threads), str(out), *names],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(url))
        if process.stdout.readline() != "ready\n":
            sys.exit(f"{client} does not start")
        started = time.monotonic()
        process.stdin.write("go\n")
        process.stdin.flush()
        said = process.stdout.readline()
        seconds = time.monotonic() - started
        if process.wait() != 0:
            sys.exit(f"{client} failed")
        spent = json.loads(said)
        return Sample(seconds, spent["cpu"], spent["resident_kb"] / 1000)
    return fetch


class Runtime:
    """`davit runtime`, and what it costs."""

    def __init__(self, davit, url, cache, engine=None):
        arguments = [davit, "runtime", "--host", "127.0.0.1", "--port", "0", "--cache", str(cache), "--engine-endpoint",
                     engine or f"{url}/engine"]
        self.serving = threading.Event()
        started = time.monotonic()
        self.process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=environment(url))
        threading.Thread(target=self.read_log, daemon=True).start()
        if not self.serving.wait(20):
            sys.exit("davit runtime does not serve")
        self.start_ms = (self.served - started) * 1000
        self.start_cpu_ms = int(Path(f"/proc/{self.process.pid}/schedstat").read_text().split()[0]) / 1e6

    def read_log(self):
        for line in self.process.stderr:
            if "serving" in line:
                self.served = time.monotonic()
                self.port = int(line.split("port=")[1].split()[0])
                self.serving.set()

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory(self):
        return memory(self.process.pid)

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)

    def close(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def post(connection, path, body):
    """Status, text."""
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def davit_runtime(davit, scheme, at_once):
    """Loads, `at_once` of them at a time, from a runtime that is there already, as a controller asks for them."""
    local = threading.local()

    def load(runtime, url, name):
        if getattr(local, "runtime", None) is not runtime:
            local.runtime, local.connection = runtime, runtime.connect()
        source = {"http": f"{url}/web/{name}", "s3": f"s3://bucket/{name}", "hf": f"hf://bench/{name}"}[scheme]
        status, text = post(local.connection, "/v1/lora_adapter/load", {"lora_name": name, "artifact_url": source})
        if status != 200:
            sys.exit(f"davit runtime: {status} {text}")

    def fetch(url, out, names):
        with Runtime(davit, url, out) as runtime, ThreadPoolExecutor(at_once) as pool:
            before, started = runtime.cpu_seconds(), time.monotonic()
            list(pool.map(lambda name: load(runtime, url, name), names))
            return Sample(time.monotonic() - started, runtime.cpu_seconds() - before, runtime.memory()["VmHWM"] / 1000)
    return fetch
