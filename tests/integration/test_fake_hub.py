"""The fake hub, judged by the real huggingface_hub client."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_hub import FakeHub
from world import TINY

CLIENT = """
import json, sys
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError
arguments = json.loads(sys.argv[1])
try:
    folder = snapshot_download(**arguments)
    info = HfApi().model_info(arguments["repo_id"], files_metadata=True)
    print(json.dumps({"folder": folder, "sha": info.sha, "sizes": {f.rfilename: f.size for f in info.siblings}}))
except (HfHubHTTPError, OSError) as error:
    print(json.dumps({"error": type(error).__name__}))
"""


@pytest.fixture
def hub():
    hub = FakeHub()
    yield hub
    hub.close()


def download(hub, home, repo, token=None, **arguments):
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1",
                   "HF_HUB_DISABLE_PROGRESS_BARS": "1", "NO_PROXY": "127.0.0.1"}
    environment.pop("HF_TOKEN", None)
    if token:
        environment["HF_TOKEN"] = token
    text = subprocess.run([sys.executable, "-c", CLIENT, json.dumps({"repo_id": repo, **arguments})], env=environment, check=True,
                          capture_output=True, text=True, timeout=120).stdout
    return json.loads(text.splitlines()[-1])


def test_the_real_client_downloads_from_it(hub, tmp_path):
    hub.page_size = 1
    first = hub.put_folder("org/sql", TINY / "adapter-a")
    hub.put("org/sql", {"adapter_config.json": b"{}"})
    hub.renamed["org/old"] = "org/sql"
    for repo, arguments, files in (("org/sql", {"revision": first}, TINY / "adapter-a"), ("org/old", {"revision": first}, TINY / "adapter-a"),
                                   ("org/sql", {}, None)):
        result = download(hub, tmp_path / repo.replace("/", "-"), repo, **arguments)
        folder = Path(result["folder"])
        assert folder.name == (first if arguments else hub.models["org/sql"].refs["main"])
        if files is None:
            assert (folder / "adapter_config.json").read_bytes() == b"{}" and result["sizes"] == {"adapter_config.json": 2}
        else:
            for path in files.iterdir():
                assert (folder / path.name).read_bytes() == path.read_bytes()
    assert hub.asked("store") and not [r for r in hub.asked("store") if "authorization" in r[3]]


def test_the_real_client_understands_its_refusals(hub, tmp_path):
    hub.tokens = {"member", "other"}
    hub.put_folder("org/gated", TINY / "adapter-a")
    hub.models["org/gated"].gated, hub.models["org/gated"].members = "auto", {"member"}
    hub.put_folder("org/private", TINY / "adapter-a")
    hub.models["org/private"].is_private, hub.models["org/private"].members = True, {"member"}
    for repo, token, arguments, error in (
            ("org/gated", None, {}, "GatedRepoError"), ("org/gated", "other", {}, "GatedRepoError"), ("org/gated", "member", {}, None),
            ("org/private", None, {}, "RepositoryNotFoundError"), ("org/private", "other", {}, "RepositoryNotFoundError"),
            ("org/private", "member", {}, None), ("org/none", None, {}, "RepositoryNotFoundError"),
            ("org/gated", "member", {"revision": "none"}, "RevisionNotFoundError"), ("org/gated", "wrong", {}, "HfHubHTTPError")):
        result = download(hub, tmp_path / f"{repo}-{token}".replace("/", "-"), repo, token, **arguments)
        assert result.get("error") == error, (repo, token, result)
