"""hf:// through `davit pull`, against a hub on loopback (fake_hub.py, which the Hub's own client judges)."""

import os
import subprocess
from pathlib import Path

import pytest
from fake_hub import FakeHub
from test_fake_hub import download
from world import ROOT, SLOW, TINY

DAVIT = Path(os.environ.get("DAVIT", ROOT / "build/release/davit")).resolve()
ADAPTER = TINY / "adapter-a"
FILES = ("adapter_config.json", "adapter_model.safetensors")


@pytest.fixture
def hub():
    hub = FakeHub()
    hub.tokens = {"t0ken-of-a-member", "t0ken-of-another"}
    yield hub
    hub.close()


class Puller:
    """`davit pull` on a machine of its own: a home, a cache, a folder for what comes."""

    def __init__(self, hub, folder):
        self.hub, self.folder, self.count = hub, folder, 0
        (folder / "home").mkdir()

    def pull(self, url, *options, **environment):
        self.count += 1
        target = self.folder / f"pulled-{self.count}"
        clean = {name: value for name, value in os.environ.items()
                 if not name.startswith(("HF_", "HUGGING", "XDG_", "TRANSFORMERS_", "DAVIT_CACHE")) and "proxy" not in name.lower()}
        result = subprocess.run([DAVIT, "pull", url, "--to", target, "--cache", self.folder / "cache", *options], capture_output=True,
                                env={**clean, "HOME": str(self.folder / "home"), "HF_ENDPOINT": self.hub.url, **environment},
                                text=True, timeout=60 * SLOW)
        assert "t0ken" not in result.stdout + result.stderr
        return target, result

    def good(self, url, *options, expected=ADAPTER, **environment):
        target, result = self.pull(url, *options, **environment)
        assert result.returncode == 0, result.stderr
        assert sorted(path.name for path in target.glob("[!.]*")) == list(FILES)
        for name in FILES:
            assert (target / name).read_bytes() == (expected / name).read_bytes(), name
        return result

    def bad(self, url, *words, **environment):
        target, result = self.pull(url, **environment)
        assert result.returncode != 0 and not target.exists()
        for word in words:
            assert word in result.stderr, (word, result.stderr)
        return result


@pytest.fixture
def puller(hub, tmp_path):
    return Puller(hub, tmp_path)


def test_a_model(hub, puller):
    commit = hub.put("org/sql", {**{name: ADAPTER / name for name in FILES}, "README.md": b"# sql", "optimizer.bin": b"x" * 99,
                                 "checkpoint-1/adapter_config.json": b"{}"})
    result = puller.good("hf://org/sql")
    assert commit in result.stdout + result.stderr
    puller.good("hf://org/sql")
    # Only what is needed was fetched, and once.
    assert len(hub.asked("store")) == 1 and not hub.asked("hub", "README") and not hub.asked("hub", "optimizer")
    assert {request[3].get("accept-encoding") for request in hub.asked("hub", "/resolve/")} == {"identity"}
    puller.good("huggingface://org/sql@" + commit)


def test_a_folder_of_a_model_in_pages(hub, puller):
    hub.page_size = 2
    files = {f"runs/{run}/{name}": TINY / f"adapter-{run}" / name for run in "abc" for name in FILES}
    hub.put("org/runs", {**files, **{f"runs/b/extra-{i}.txt": b"x" for i in range(5)}})
    puller.good("hf://org/runs/runs/b", expected=TINY / "adapter-b")
    puller.bad("hf://org/runs", "no adapter_config.json", 'in its folder "runs/a"')
    puller.bad("hf://org/runs/runs/z", 'no "runs/z"')


def test_revisions(hub, puller):
    first = hub.put_folder("org/sql", TINY / "adapter-b")
    hub.put_folder("org/sql", ADAPTER)
    hub.models["org/sql"].refs |= {"v1.0": first, "refs/pr/1": first}
    puller.good("hf://org/sql")
    for url in ("hf://org/sql@" + first, "hf://org/sql@v1.0", "hf://org/sql@refs/pr/1", "hf://org/sql@refs%2Fpr%2F1"):
        puller.good(url, expected=TINY / "adapter-b")
    puller.good("hf://org/sql", "--revision", "v1.0", expected=TINY / "adapter-b")
    puller.bad("hf://org/sql@v2", 'no branch, tag or commit "v2"')
    target, result = puller.pull("hf://org/sql@v1.0", "--revision", "main")
    assert result.returncode != 0 and '"v1.0"' in result.stderr and '"main"' in result.stderr


def test_a_branch_that_moves_meanwhile(hub, puller):
    hub.put_folder("org/sql", ADAPTER)
    moved = []

    def move(role, path):
        if "/resolve/" in path and not moved:
            moved.append(hub.put_folder("org/sql", TINY / "adapter-b"))

    hub.on_request = move
    puller.good("hf://org/sql")
    assert moved
    puller.good("hf://org/sql", expected=TINY / "adapter-b")


def test_a_model_that_was_renamed(hub, puller):
    hub.put_folder("new/name", ADAPTER)
    hub.renamed["old/name"] = "new/name"
    hub.models["new/name"].is_private, hub.models["new/name"].members = True, {"t0ken-of-a-member"}
    puller.good("hf://old/name", HF_TOKEN="t0ken-of-a-member")


def test_whoever_may_not(hub, puller):
    for repo, attribute, value in (("org/gated", "gated", "auto"), ("org/private", "is_private", True)):
        hub.put_folder(repo, ADAPTER)
        setattr(hub.models[repo], attribute, value)
        hub.models[repo].members = {"t0ken-of-a-member"}
    puller.bad("hf://org/gated", "gated", f"accept its terms at {hub.url}/org/gated", "HF_TOKEN")
    puller.bad("hf://org/gated", f"accept its terms at {hub.url}/org/gated", HF_TOKEN="t0ken-of-another")
    puller.bad("hf://org/private", "either there is none, or it is private")
    puller.bad("hf://org/none", "either there is none, or it is private")
    puller.bad("hf://org/private", 'no model "org/private"', HF_TOKEN="t0ken-of-another")
    puller.bad("hf://org/private", "does not know the token (HF_TOKEN)", HF_TOKEN="t0ken-of-nobody")
    puller.bad("hf://org/private", "HF_TOKEN", "visible ASCII", HF_TOKEN="t0ken\nof two lines")
    puller.good("hf://org/gated", HF_TOKEN="t0ken-of-a-member")
    (puller.folder / "home/token").write_text("t0ken-of-a-member\n")
    puller.good("hf://org/private", HF_TOKEN_PATH=str(puller.folder / "home/token"))
    # What is in the cache is not for whoever may not read it.
    puller.bad("hf://org/gated", "gated")
    puller.bad("hf://org/gated", "gated", HF_TOKEN="t0ken-of-another")
    # The store has never seen a token, and the hub's pages always have.
    assert hub.asked("store") and not [request for request in hub.asked("store") if "authorization" in request[3]]


def test_a_signed_url_that_has_expired(hub, puller):
    hub.put_folder("org/sql", ADAPTER)
    expired = []

    def expire(role, path):
        if role == "store" and not expired:
            expired.append(path)
            hub.expire_urls()

    hub.on_request = expire
    puller.good("hf://org/sql")
    assert len(hub.asked("store")) == 2


def test_what_is_shorter_than_was_promised(hub, puller):
    hub.put_folder("org/sql", ADAPTER)
    size = (ADAPTER / FILES[1]).stat().st_size
    hub.wire.spoil = lambda data: data[:-1] if len(data) == size else data
    puller.bad("hf://org/sql", FILES[1], f"expected {size} bytes, found {size - 1}")
    hub.wire.spoil = lambda data: data
    puller.good("hf://org/sql")


def test_what_a_crash_spoiled_is_fetched_again(hub, puller):
    hub.put_folder("org/sql", ADAPTER)
    weights = (ADAPTER / "adapter_model.safetensors").read_bytes()
    hub.wire.cuts = [len(weights) // 2] + [0] * 100
    _, result = puller.pull("hf://org/sql", "--timeout", "1s")
    assert result.returncode != 0
    (staged,) = (puller.folder / "cache/v1/staging").glob("*/files/adapter_model.safetensors")
    assert staged.stat().st_size >= len(weights) // 2
    staged.write_bytes(bytes(staged.stat().st_size))  # as a file is whose bytes were not on the disk yet
    hub.wire.cuts = []
    puller.good("hf://org/sql")


def test_the_local_hub_cache(hub, puller, tmp_path):
    commit = hub.put_folder("org/sql", ADAPTER)
    home = tmp_path / "hf-home"
    download(hub, home, "org/sql")
    asked = len(hub.requests)
    # Online the hub is asked what there is, and nothing is fetched that is there.
    puller.good("hf://org/sql", HF_HOME=str(home))
    assert len(hub.requests) == asked + 1
    # Offline nobody is asked.
    puller.folder = tmp_path / "another"
    (puller.folder / "home").mkdir(parents=True)
    for url in ("hf://org/sql", f"hf://org/sql@{commit}"):
        puller.good(url, HF_HOME=str(home), HF_HUB_OFFLINE="1")
    puller.bad("hf://org/sql@v9", 'revision "v9"', "offline", HF_HOME=str(home), HF_HUB_OFFLINE="1")
    puller.bad("hf://org/other", "org/other", "offline", HF_HOME=str(home), TRANSFORMERS_OFFLINE="1")
    puller.bad("hf://org/other", "org/other", "offline", HF_HUB_OFFLINE="1")
    assert len(hub.requests) == asked + 1


def test_one_place_is_fetched_once_however_it_is_written(hub, puller):
    hub.put_folder("org/sql", ADAPTER)
    puller.good("hf://org/sql")
    fetched = len(hub.asked("hub", "/resolve/"))
    assert fetched > 0
    for url in ("huggingface://org/sql", "hf://org/sql@main", "hf://org/sql/"):
        puller.good(url)
        puller.good(url, "--offline")
    assert len(hub.asked("hub", "/resolve/")) == fetched


def test_a_token_in_the_url_is_refused_and_not_repeated(hub, puller):
    _, result = puller.pull("hf://user:s3cret@org/sql@v1")
    assert result.returncode == 1 and "hf://org/sql@v1" in result.stderr and "HF_TOKEN" in result.stderr
    assert "s3cret" not in result.stderr


def test_offline_what_was_pulled_is_there(hub, puller):
    hub.put_folder("org/sql", ADAPTER)
    puller.good("hf://org/sql")
    asked = len(hub.requests)
    puller.good("hf://org/sql", HF_HUB_OFFLINE="1")
    puller.good("hf://org/sql", "--offline")
    puller.bad("hf://org/sql@v1", "offline", HF_HUB_OFFLINE="1")
    assert len(hub.requests) == asked


def test_another_hub_puts_nothing_into_the_cache_for_this_one(hub, puller):
    other = FakeHub()
    try:
        assert other.put_folder("org/sql", TINY / "adapter-b") == hub.put_folder("org/sql", ADAPTER)  # so it says
        (puller.folder / "endpoint").write_text(other.url + "\n")
        chosen = ("--secret-file", f"hf_endpoint={puller.folder / 'endpoint'}")
        puller.good("hf://org/sql", *chosen, expected=TINY / "adapter-b", HF_TOKEN="t0ken-of-a-member")
        # A hub that an adapter has chosen does not get the process's token, but the adapter's.
        assert other.requests and not [request for request in other.requests if "authorization" in request[3]]
        puller.good("hf://org/sql")
        puller.good("hf://org/sql", "--offline")
        puller.good("hf://org/sql", "--offline", *chosen, expected=TINY / "adapter-b")
        (puller.folder / "token").write_text("t0ken-of-theirs")
        other.tokens = {"t0ken-of-theirs"}
        puller.good("hf://org/sql@main", *chosen, "--secret-file", f"hf_token={puller.folder / 'token'}", expected=TINY / "adapter-b")
        assert "Bearer t0ken-of-theirs" in [request[3].get("authorization") for request in other.asked("hub")]
    finally:
        other.close()


def test_another_hub_gets_nothing_out_of_the_local_hub_cache(hub, puller, tmp_path):
    hub.put_folder("org/sql", ADAPTER)
    home = tmp_path / "hf-home"
    download(hub, home, "org/sql")
    hub.models["org/sql"].gated = "auto"
    puller.bad("hf://org/sql", "terms", HF_HOME=str(home))
    other = FakeHub()  # it lists what everybody may know of the gated model, and has none of its bytes
    try:
        other.put_folder("org/sql", ADAPTER)
        other.wire.spoil = lambda data: bytes(len(data))
        (puller.folder / "endpoint").write_text(other.url)
        target, result = puller.pull("hf://org/sql", "--secret-file", f"hf_endpoint={puller.folder / 'endpoint'}", HF_HOME=str(home))
        assert result.returncode != 0 and not target.exists() and other.asked("store")
    finally:
        other.close()


def test_a_broken_local_hub_cache(hub, puller, tmp_path):
    hub.put_folder("org/sql", ADAPTER)
    home = tmp_path / "hf-home"
    folder = Path(download(hub, home, "org/sql")["folder"])
    blob = (folder / "adapter_model.safetensors").resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    puller.bad("hf://org/sql", "adapter_model.safetensors", HF_HOME=str(home), HF_HUB_OFFLINE="1")
    puller.good("hf://org/sql", HF_HOME=str(home))  # the hub has it


def test_a_hub_that_is_none(hub, puller):
    puller.bad("hf://org/sql", "refuses", "org/sql", HF_ENDPOINT=hub.store_url)
    puller.bad("hf://org/sql", "HF_ENDPOINT", HF_ENDPOINT="ftp://nowhere")
    hub.close()
    puller.bad("hf://org/sql", hub.url.removeprefix("http://"))
