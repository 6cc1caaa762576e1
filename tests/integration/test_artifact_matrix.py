"""Every scheme with everything that goes wrong, seen by whoever calls `davit pull` and by whoever has the sidecar load.

Each case: what is said and that it names the thing, that nothing half is in the cache, that the next try succeeds where it should, and
that nothing secret is in any output. The rows are in artifact_stores.py; what one scheme alone does is in that scheme's file."""

import contextlib
import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from artifact_stores import CONFIG, DIGEST, FILES, STORES, WEIGHTS, Refusal
from test_artifact_runtime import Runtime, files_in
from test_runtime import Engine
from world import ROOT, SANITIZERS, SLOW, http, until

DAVIT = Path(os.environ.get("DAVIT", ROOT / "build/release/davit")).resolve()
SIZE = len(FILES[WEIGHTS])
CUT = 64 << 10
CALLERS = 50


# ---- who fetches ----

class Fetcher:
    """A machine of its own: a home and a cache, here or on a small disk."""

    def __init__(self, store, folder, disk=None):
        self.store, self.folder = store, folder
        self.prefix = disk.prefix if disk else store.prefix  # of all its programs
        self.root = disk.root if disk else Path("/")  # theirs
        self.cache = (disk.folder if disk else folder) / "cache"
        (folder / "home").mkdir()
        kept = ("PATH", *SANITIZERS)
        self.environment = {**{name: os.environ[name] for name in kept if name in os.environ}, "HOME": str(folder / "home"),
                            **store.environment}
        self.said = []

    def seen(self, path):
        """One of its paths, as this process sees it."""
        return self.root / Path(path).relative_to("/")

    def check_cache(self, adapters):
        """So many are there, and whole."""
        result = subprocess.run([*self.prefix, DAVIT, "cache", "verify", "--cache", self.cache], capture_output=True, text=True,
                                timeout=60 * SLOW, env=self.environment)
        assert (result.returncode, result.stdout.count("ok "), result.stdout.count("\n")) == (0, adapters, adapters), result

    def has_half(self):
        """Whether so much of a download lies in its cache that has been held back half-way."""
        sizes = {path.name: path.stat().st_size for path in self.seen(self.cache).glob("v1/staging/*/files/*")}
        return sizes.get(WEIGHTS, 0) >= SIZE // 2 - CUT and sizes.get(CONFIG, 0) > 0

    def good(self, **more):
        found = self.fetch(**more)
        assert found.is_good, found.text
        assert files_in(self.seen(found.folder)) == FILES
        self.check_cache(1 if self.store.has_server else 0)
        return found

    def refused(self, refusal, *options, **more):
        found = self.fetch(*options, **more)
        assert not found.is_good
        self.check_refusal(refusal, found)

    def check_words(self, refusal, found):
        words = (self.store.url.removeprefix("file://"), *refusal.words)
        assert all(word in found.text for word in words), (words, found.text)

    def check_secrets(self):
        self.store.check_secrets()
        kept = [path.read_text(errors="replace") for path in self.seen(self.cache).rglob("*") if path.is_file()]
        for text in [*self.said, *kept]:
            at = text.find("s3cret")
            assert at < 0, text[max(0, at - 200):at + 200]


class Pull(Fetcher):
    """davit pull"""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.options = [*self.store.options]
        for name, value in self.store.secrets.items():
            (self.folder / f"secret-{name}").write_text(value)
            self.options += ["--secret-file", f"{name}={self.folder}/secret-{name}"]

    def fetch(self, *options, digest=None):
        options += ("--digest", digest) if digest else ()
        command = [*self.prefix, DAVIT, "pull", self.store.url, "--cache", self.cache, "--log-level", "debug", *self.options, *options]
        self.process = process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment)
        folder, text = process.communicate(timeout=120 * SLOW)
        self.said += [folder, text]
        return SimpleNamespace(is_good=process.returncode == 0, status=process.returncode, folder=folder.strip(), text=text)

    def check_refusal(self, refusal, found):
        assert (found.status, found.folder) == (1, "") and found.text.splitlines()[-1].startswith("davit pull: "), found
        self.check_words(refusal, found)

    def wait_in_vain(self):
        self.refused(Refusal(None, 504, "ArtifactTimeout", ("the time for the fetch is over",)), "--timeout", "500ms")

    def kill(self):
        self.process.kill()

    def close(self):
        pass


class Sidecar(Fetcher):
    """davit runtime, beside an engine."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.engine = Engine()
        self.engine.go.set()
        self.runtime = Runtime(self.folder, self.engine.url, "--log-level", "debug", *self.store.options, prefix=self.prefix,
                               environment=self.environment, cache=self.cache)

    def fetch(self, **more):
        status, answer = self.runtime.load(self.store.url, "sql", credentials=self.store.secrets, **more)
        self.said.append(json.dumps(answer))
        return SimpleNamespace(is_good=status == 200, status=status, folder=answer.get("local_path"), text=answer.get("error", ""),
                               answer=answer)

    def refused(self, refusal, **more):
        self.engine.refusal = refusal.engine
        super().refused(refusal, **more)
        self.engine.refusal = ()

    def check_refusal(self, refusal, found):
        told = found.status, found.answer["reason"], found.answer["lora_name"]
        assert told == (refusal.status, refusal.reason, "sql"), found.answer
        if refusal.engine:
            assert refusal.engine[1] in found.text
        else:
            self.check_words(refusal, found)
        assert "sql" not in self.engine.adapters or refusal.is_for_the_cached

    def wait_in_vain(self):
        def percent():
            found = self.fetch(wait=0)
            assert (found.status, found.answer["status"]) == (202, "downloading"), found.answer
            words = found.answer["message"].split()
            return words[:1] + words[2:4] == ["downloading", "%", "of"] and int(words[1])

        until(lambda: percent() >= 40, "it says how far it is")

    def kill(self):
        self.runtime.process.kill()
        self.runtime.process.wait()
        assert self.engine.loads == []
        self.runtime.start()

    def check_secrets(self):
        arguments = Path(f"/proc/{self.runtime.process.pid}/cmdline").read_text()
        self.said += [self.runtime.log.read_text(), http("GET", f"{self.runtime.url}/metrics")[1], arguments]
        super().check_secrets()

    def close(self):
        self.runtime.close()
        self.engine.shutdown()
        self.engine.server_close()


FETCHERS = {"pull": Pull, "sidecar": Sidecar}


@pytest.fixture
def store(request, tmp_path):
    store = STORES[request.param](request.param, tmp_path)
    yield store
    store.close()


def run_fetcher(*arguments):
    fetcher = FETCHERS[arguments[0]](*arguments[1:])
    try:
        yield fetcher
        fetcher.check_secrets()
    finally:
        fetcher.close()


@pytest.fixture(params=FETCHERS)
def fetcher(request, store, tmp_path):
    yield from run_fetcher(request.param, store, tmp_path)


# ---- a disk that is full ----

class SmallDisk:
    """A file system of 24 MiB, for those alone whom `prefix` starts."""

    def __init__(self, folder):
        script = f'mount -t tmpfs -o size=24m none "{folder}" && echo mounted && exec sleep infinity'
        self.process = subprocess.Popen(["unshare", "-rm", "sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.said = self.process.stdout.readline()
        self.prefix = ("nsenter", f"--target={self.process.pid}", "--user", "--mount", "--preserve-credentials")
        self.folder, self.root = folder, Path(f"/proc/{self.process.pid}/root")
        self.ballast = self.root / folder.relative_to("/") / "ballast"

    def put(self, size):
        with self.ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)

    def fill(self):
        with self.ballast.open("wb") as file, contextlib.suppress(OSError):
            while True:
                os.write(file.fileno(), bytes(4096))

    def close(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def small_disk(tmp_path):
    (tmp_path / "small").mkdir()
    disk = SmallDisk(tmp_path / "small")
    if disk.said != "mounted\n":
        pytest.skip(f"no mount namespaces here: {disk.said}")
    yield disk
    disk.close()


@pytest.fixture(params=FETCHERS)
def fetcher_on_small_disk(request, store, tmp_path, small_disk):
    yield from run_fetcher(request.param, store, tmp_path, small_disk)


# ---- the cases ----

every_scheme = pytest.mark.parametrize("store", STORES, indirect=True)
every_server = pytest.mark.parametrize("store", [scheme for scheme in STORES if STORES[scheme].has_server], indirect=True)
every_refusal = pytest.mark.parametrize(("store", "name"), [(scheme, name) for scheme in STORES for name in STORES[scheme].refusals],
                                        indirect=["store"])


@contextlib.contextmanager
def stopped_half_way(store, fetcher, call, *arguments):
    """The block runs while a call waits for the second half of a download, which comes after it."""
    store.wire.go.clear()
    with ThreadPoolExecutor(1) as pool:
        caller = pool.submit(call, *arguments)
        try:
            until(fetcher.has_half, "half of it is there")
            yield
        finally:
            store.wire.open()
        caller.result()


def start_of(asked):
    """Where a range begins."""
    return int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0


@every_scheme
def test_success(store, fetcher):
    folder = fetcher.good().folder
    assert fetcher.good().folder == folder
    assert store.gets() == ([None] if store.has_server else [])


@every_refusal
def test_refused(store, name, fetcher):
    refusal = store.refusals[name]
    refusal.begin(store)
    fetcher.refused(refusal)
    fetcher.check_cache(0)
    store.mend()
    fetcher.good()
    if refusal.is_for_the_cached:
        refusal.begin(store)
        fetcher.refused(refusal)


@pytest.mark.parametrize("store", ["s3", "tos"], indirect=True)
def test_another_region_is_found_out(store, fetcher):
    store.move()
    fetcher.good()


@every_scheme
def test_wrong_digest(store, fetcher):
    other = "0" * 64
    fetcher.refused(Refusal(None, 400, "ArtifactInvalid", (f"expected weights with SHA-256 {other}, found {DIGEST}",)), digest=other)
    fetcher.good(digest=DIGEST)
    assert len(store.gets()) == (1 if store.has_server else 0)  # what is whole is not brought again


@every_server
def test_slow_server(store, fetcher):
    store.wire.go.clear()
    fetcher.wait_in_vain()
    fetcher.check_cache(0)
    store.wire.open()
    fetcher.good()


@pytest.mark.parametrize("fetcher", ["pull"], indirect=True)  # a second and a half each, until no further try is worth it
@pytest.mark.parametrize("store", ["hf", "s3", "gs", "https"], indirect=True)
def test_a_server_that_does_not_answer(store, fetcher):
    store.wire.is_deaf = True
    fetcher.refused(Refusal(None, 503, "ArtifactUnavailable", ()))
    fetcher.check_cache(0)
    store.wire.is_deaf = False
    fetcher.good()


@every_server
def test_cut_at_every_64_kib(store, fetcher):
    store.wire.cut_bytes = CUT
    fetcher.good()
    assert [start_of(asked) for asked in store.gets()] == list(range(0, SIZE, CUT))


@every_server
def test_disk_full(store, fetcher_on_small_disk, small_disk):
    fetcher = fetcher_on_small_disk
    small_disk.put(12 << 20)
    fetcher.refused(Refusal(None, 500, "DiskError", ("the disk of the cache is too full", "are needed", "are free")))
    assert store.gets() == []
    small_disk.ballast.unlink()
    with stopped_half_way(store, fetcher, fetcher.refused, Refusal(None, 500, "DiskError", (
            f"{WEIGHTS}: the disk of the cache is full", f"of {SIZE} bytes could be written"))):
        small_disk.fill()
    fetcher.check_cache(0)
    small_disk.ballast.unlink()
    fetcher.good()
    assert start_of(store.gets()[-1]) >= SIZE // 4  # it goes on


@pytest.mark.parametrize("store", ["path", "file"], indirect=True)
def test_a_folder_takes_no_room(store, fetcher_on_small_disk, small_disk):
    small_disk.fill()
    fetcher_on_small_disk.good()


@every_scheme
def test_fifty_callers(store, fetcher):
    with ThreadPoolExecutor(CALLERS) as pool:
        callers = [pool.submit(fetcher.fetch) for _ in range(CALLERS)]
    found = [caller.result() for caller in callers]
    assert all(one.is_good for one in found) and len({one.folder for one in found}) == 1, found
    assert len(store.gets()) == (1 if store.has_server else 0)
    fetcher.good()


def fetch_until_killed(fetcher):
    with contextlib.suppress(OSError):  # whoever was asked has gone
        assert not fetcher.fetch().is_good


@every_server
def test_kill_9_mid_download(store, fetcher):
    with stopped_half_way(store, fetcher, fetch_until_killed, fetcher):
        fetcher.kill()
    fetcher.check_cache(0)
    fetcher.good()
    assert start_of(store.gets()[-1]) >= SIZE // 4  # it goes on
