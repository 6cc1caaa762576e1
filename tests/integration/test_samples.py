"""The samples of docs/artifacts.md, in a world of `davit up`: adapters that come from a hub and from S3."""

import contextlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from world import ROOT, TINY, until

SAMPLES = {"huggingface.yaml": ("fake_hub.py", "sql-from-hub"), "s3.yaml": ("fake_s3.py", "sql-from-s3")}


@contextlib.contextmanager
def served(program, folder, log):
    """Its URL, while it serves the folder."""
    with log.open("w") as output:
        process = subprocess.Popen([sys.executable, Path(__file__).parent / program, folder, "--port", "0"], stdout=output, stderr=output)
    try:
        yield until(lambda: re.search(r"serving on (http://[^ \n]+)", log.read_text()), f"{program} serves")[1]
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("sample", SAMPLES)
def test_reaches_running_and_answers(either_world, sample, tmp_path):
    """On every pod, with the version that was found; davit plan then has nothing to do."""
    program, name = SAMPLES[sample]
    folder = ROOT / "samples/adapters"
    if not either_world.is_real:
        (tmp_path / "adapters").mkdir()
        (tmp_path / "adapters/sql").symlink_to(TINY / "adapter-a")
        folder = tmp_path / "adapters"
    with served(program, folder, tmp_path / "server.log") as url:
        text = re.sub(r"http://127\.0\.0\.1:\d+", url, (ROOT / "samples" / sample).read_text())
        either_world.apply(text)
        pods = {pod["metadata"]["name"] for pod in either_world.pods()}
        until(lambda: set(either_world.endpoints(name) or ()) == pods, "every pod serves it")
        assert either_world.text(name, "How many orders are there?")[0] == 200
        assert either_world.get("modeladapter", name)["status"]["version"]
        told = either_world.run("plan", "-f", "-", input=text).stdout
        assert f"{name}: nothing to do" in told
        either_world.kubectl("delete", "-f", "-", stdin=text)
        until(lambda: either_world.chat(name, "Still there?")[0] == 400, "nobody knows the name any more")
