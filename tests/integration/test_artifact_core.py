"""davit pull against a server that misbehaves: what comes is whole, checked, and brought once."""

import hashlib
import json
import os
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time
from pathlib import Path

import pytest
from fault_server import CONFIG, FaultServer, safetensors

DAVIT = os.environ.get("DAVIT", str(Path(__file__).resolve().parent.parent.parent / "build/release/davit"))
MIB = 1 << 20
SLOW = 6 if os.environ.get("DAVIT_SLOW_BUILD") else 1


@pytest.fixture
def server():
    server = FaultServer(safetensors(4 * MIB))
    yield server
    server.close()


@pytest.fixture
def pull(server, tmp_path):
    """Runs davit pull; gives the finished process."""

    def run(*options, url=None, cache=tmp_path / "cache", **kwargs):
        return subprocess.run(command(*options, url=url or server.url, cache=cache), capture_output=True, text=True,
                              timeout=120 * SLOW, **kwargs)

    return run


def command(*options, url, cache):
    return [DAVIT, "pull", url, "--cache", str(cache), *options]


def check(result, server):
    assert result.returncode == 0, result.stderr
    folder = Path(result.stdout.strip())
    for name, data in server.files.items():
        assert (folder / name).read_bytes() == data, name
    return folder


def refused(result, *words):
    assert result.returncode == 1, result.stdout + result.stderr
    for word in words:
        assert word in result.stderr, result.stderr
    assert result.stdout == ""


def objects(cache):
    folder = cache / "v1/objects"
    return list(folder.iterdir()) if folder.exists() else []


def staged(cache):
    return list((cache / "v1/staging").iterdir())


# ---- what comes ----

def test_pull_fetches_once_and_copies(server, pull, tmp_path):
    folder = check(pull(), server)
    manifest = json.loads((folder / "manifest.json").read_text())
    weights = server.files["adapter_model.safetensors"]
    assert {f["name"]: f["sha256"] for f in manifest["files"]}["adapter_model.safetensors"] == hashlib.sha256(weights).hexdigest()
    check(pull(), server)
    assert server.gets == 1 and server.served == len(weights)
    check(pull("--to", str(tmp_path / "out")), server)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [".davit-pull", "adapter_config.json",
                                                                    "adapter_model.safetensors"]
    assert staged(tmp_path / "cache") == []
    server.close()
    assert pull("--offline").stdout.strip() == str(folder)
    refused(pull("--offline", url=server.url + "/other"), "is not in the cache")


def test_large_files_come_in_parts(server, pull):
    weights = server.files["adapter_model.safetensors"] = safetensors(80 * MIB, seed=1)
    check(pull("--digest", hashlib.sha256(weights).hexdigest()), server)
    assert sorted(server.ranges(), key=lambda text: int(text[6:].split("-")[0])) == [
        f"bytes={start}-{min(start + 32 * MIB, len(weights)) - 1}" for start in range(0, len(weights), 32 * MIB)]
    assert server.served == len(weights)


@pytest.mark.parametrize("cut_bytes", [1 << 20, 7 * MIB + 13])
def test_parts_are_gone_on_from(server, pull, cut_bytes):
    weights = server.files["adapter_model.safetensors"] = safetensors(80 * MIB, seed=2)
    server.faults.cut_bytes = cut_bytes
    check(pull(), server)
    assert server.served == len(weights)


def test_a_server_without_ranges(server, pull):
    weights = server.files["adapter_model.safetensors"] = safetensors(70 * MIB, seed=3)
    server.faults.has_ranges = False
    check(pull(), server)
    assert server.gets <= 5  # the parts that were asked for, then the whole
    assert None in server.ranges()
    assert len(weights) <= server.served


def test_a_server_without_ranges_that_cuts_is_not_hurried(server, pull):
    server.faults.has_ranges, server.faults.cut_bytes = False, 3 * MIB
    started = time.monotonic()
    refused(pull(), "never came whole")
    assert 3 <= server.gets <= 5
    assert time.monotonic() - started > 0.5  # pauses of at least 0.125, 0.25 and so on seconds


def test_a_server_without_lengths_or_head(server, pull):
    server.faults.has_head = server.faults.has_ranges = server.faults.has_etag = False
    check(pull(), server)


def test_what_has_no_validator_is_not_put_together(server, pull):
    """A file that changes unseen between two tries is begun anew."""
    server.faults.has_etag = False
    server.faults.cut_bytes = MIB
    other = safetensors(4 * MIB, seed=9)
    server.faults.swap = (1, other)
    result = pull()
    if result.returncode == 0:
        check(result, server)
    else:
        refused(result, "never came whole")


def test_a_query_may_choose_the_adapter(server, pull):
    server.faults.has_etag, server.faults.modified = False, "Wed, 25 Nov 2026 08:00:00 GMT"
    check(pull(url=server.url + "?adapter=sql"), server)
    server.files["adapter_model.safetensors"] = safetensors(4 * MIB, seed=1)  # of the same size, from the same moment
    check(pull(url=server.url + "?adapter=poetry"), server)
    check(pull(url=server.url + "?adapter=poetry"), server)
    assert server.gets == 2


@pytest.mark.parametrize("has_conditions", [True, False])  # some take no notice of If-Match
def test_a_file_that_changes_meanwhile_is_listed_anew(server, pull, has_conditions):
    server.faults.has_conditions = has_conditions
    server.faults.cut_bytes = 3 * MIB
    server.faults.swap = (1, safetensors(4 * MIB, seed=5))
    check(pull(), server)


# ---- servers that are slow or busy ----

def test_a_stall_is_ended_and_gone_on_from(server, pull):
    server.faults.stall_after = MIB
    check(pull("--stall-timeout", "300ms"), server)
    assert server.gets == 2
    assert int(server.ranges()[1][6:].split("-")[0]) >= MIB - 65536


def test_a_slow_server_meets_the_deadline(server, pull, tmp_path):
    server.faults.rate = 256 * 1024
    refused(pull("--timeout", "1s"), f"{server.url}: the time for the fetch is over")
    assert objects(tmp_path / "cache") == []
    server.faults.rate = None
    before = server.served
    check(pull(), server)
    assert server.served - before < len(server.files["adapter_model.safetensors"])  # it went on


def test_a_server_that_drips_is_not_waited_for(server, pull, tmp_path):
    server.faults.rate = 50  # a byte every 20 ms: no stall
    started = time.monotonic()
    refused(pull("--stall-timeout", "500ms"), f"{server.url}: too slow:", "bytes came in ")
    assert time.monotonic() - started < 10 * SLOW
    # Nor for one whose every try moves a little.
    server.faults.rate, server.faults.cut_bytes = None, 1
    refused(pull("--stall-timeout", "500ms"), f"{server.url}: too slow:", "the next fetch goes on with what is there")
    server.faults.cut_bytes = None
    before = len(server.ranges())
    check(pull(), server)
    assert int(server.ranges()[before][6:].split("-")[0]) > 10


def test_a_list_is_not_waited_for_without_end(server, pull):
    """Each answer is in time, and there are many."""
    server.faults.delay = 0.4
    refused(pull("--stall-timeout", "100ms"), f"{server.url}: too slow: the time for listing what is there is over")
    assert 2 <= len(server.requests) <= 4


def test_a_busy_server_without_lengths_is_given_time(server, pull):
    server.faults.has_head = server.faults.has_ranges = False
    server.faults.statuses = (None, 503, 503, 503, 503)  # the first one is to the question how large it is
    check(pull(), server)
    assert server.gets == 6


def test_busy_answers_are_tried_again(server, pull):
    server.faults.statuses = (503, 429, 500)
    check(pull(), server)
    assert server.gets == 4


@pytest.mark.parametrize(("status", "words"), [(403, "403, forbidden"), (401, "401"), (404, "404")])
def test_refusals_are_final(server, pull, status, words):
    server.faults.status = status
    refused(pull(), words)
    assert server.gets == 1


def test_a_certificate_that_nobody_vouches_for_is_final(server, pull, tmp_path):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
                    "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
                    "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    connections = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            while True:
                try:
                    connections.append(listener.accept()[0])
                    context.wrap_socket(connections[-1], server_side=True)
                except ssl.SSLError:
                    pass
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        refused(pull(url=f"https://127.0.0.1:{listener.getsockname()[1]}/sql"), "certificate")
        listener.shutdown(socket.SHUT_RDWR)
    assert len(connections) == 1


# ---- what is not what was promised ----

@pytest.mark.parametrize("difference", [-1000, 1000])
def test_a_wrong_length(server, pull, tmp_path, difference):
    size = len(server.files["adapter_model.safetensors"])
    server.faults.length = size + difference
    refused(pull(), "adapter_model.safetensors", f"expected {size + difference} bytes, found")
    assert objects(tmp_path / "cache") == [] and staged(tmp_path / "cache") == []


def test_a_lie_about_10_gib_costs_no_disk(server, pull, tmp_path):
    server.faults.length = 10 << 30
    refused(pull("--timeout", "20s"), "adapter_model.safetensors")
    used = sum(p.stat().st_blocks * 512 for p in (tmp_path / "cache").rglob("*") if p.is_file())
    assert used < 16 * MIB
    server.faults.length = 17 << 30
    refused(pull(), "larger than the limit of 17179869184 bytes")


@pytest.mark.parametrize(("config", "words"), [
    (b"{", "adapter_config.json"),
    (b'{"peft_type":"LORA","lora_alpha":1,"target_modules":["q"]}', "Missing required configuration fields"),
    (b"[" * 100000, "adapter_config.json")])
def test_a_broken_config(server, pull, config, words):
    server.files["adapter_config.json"] = config
    refused(pull(), words)


def test_broken_weights_and_a_high_rank(server, pull):
    refused(pull("--max-rank", "4"), "LoRA rank 8 is greater than max_lora_rank 4")
    server.files["adapter_model.safetensors"] = b"not safetensors at all"
    refused(pull(), "adapter_model.safetensors")


def test_pickle(server, pull):
    server.files["adapter_model.bin"] = server.files.pop("adapter_model.safetensors")
    refused(pull(), "pickle can run code")
    folder = pull("--allow-pickle").stdout.strip()
    assert (Path(folder) / "adapter_model.bin").exists()


# ---- where URLs lead ----

def test_addresses_and_redirects(server, pull, tmp_path):
    refused(pull(url="http://169.254.169.254/sql"), "169.254.169.254 is not allowed")
    refused(pull(url="http://[::ffff:a9fe:a9fe]/sql"), "is not allowed")
    refused(pull(url="http://2852039166/sql"), "169.254.169.254 is not allowed")
    server.faults.redirect = (302, "http://169.254.169.254")
    refused(pull(), "169.254.169.254 is not allowed")
    other = FaultServer(server.files["adapter_model.safetensors"])
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    server.faults.redirect = (302, f"http://127.0.0.1:{other.port}")
    result = pull("--secret-file", f"token={secret}", "--log-level", "debug")
    check(result, server)
    assert all("Authorization" in headers for _, _, headers in server.requests[-2:])
    assert not any("Authorization" in headers for _, _, headers in other.requests)
    assert "s3cret" not in result.stdout + result.stderr
    assert not any(b"s3cret" in p.read_bytes() for p in (tmp_path / "cache").rglob("*") if p.is_file())
    other.close()


def test_a_server_does_not_steer_the_terminal(server, pull):
    server.faults.redirect = (302, "http://127.0.0.1/\x1b]0;title\x07")
    result = pull()
    refused(result, "redirects to", "]0;title")
    assert "\x1b" not in result.stderr and "\x07" not in result.stderr


def test_links_in_the_cache_are_not_followed(server, pull, tmp_path):
    folder = check(pull(), server)
    target = tmp_path / "target"
    target.write_bytes((folder / "adapter_model.safetensors").read_bytes())
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.safetensors").symlink_to(target)
    check(pull(), server)
    assert not (folder / "adapter_model.safetensors").is_symlink()  # it was brought anew
    assert server.gets == 2


# ---- the disk ----

def test_a_disk_that_is_too_small_for_what_nobody_said_the_size_of(server, pull, tmp_path):
    """On a file system of 24 MiB in a mount namespace of its own."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode != 0:
        pytest.skip("no namespaces here")
    server.files["adapter_model.safetensors"] = safetensors(40 * MIB, seed=4)
    mount = tmp_path / "mount"
    mount.mkdir()

    def on_small_disk(script):
        return subprocess.run(["unshare", "-rm", "sh", "-c", f'mount -t tmpfs -o size=24m none "{mount}" && {script}'],
                              capture_output=True, text=True, timeout=60 * SLOW)

    server.faults.has_head = server.faults.has_ranges = False
    refused(on_small_disk(" ".join(command(url=server.url, cache=mount / "cache"))), "the disk of the cache is full")


# ---- many at once, and kills ----

def test_kill_9_at_many_points_leaves_it_whole_or_goes_on(server, tmp_path):
    weights = server.files["adapter_model.safetensors"] = safetensors(80 * MIB, seed=6)
    server.faults.rate = 24 * MIB
    arguments = command(url=server.url, cache=tmp_path / "cache")
    # Before anything came, and then after so many more MiB.
    for mib in [0, 0, 0, 0, 0.1, 0.3, 0.7, 1, 2, 3, 5, 8, 13, 21]:
        before, started = server.served, time.monotonic()
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while process.poll() is None and (server.served - before < mib * MIB or time.monotonic() - started < 0.02 * (mib == 0)):
            time.sleep(0.002)
        process.kill()
        process.communicate()
        for folder in objects(tmp_path / "cache"):
            assert (folder / "adapter_model.safetensors").read_bytes() == weights  # what is there is whole
    server.faults.rate = None
    check(subprocess.run(arguments, capture_output=True, text=True, timeout=60 * SLOW), server)
    assert staged(tmp_path / "cache") == []
    # Each try begins where the one before had noted, never before.
    starts = [int(text[6:].split("-")[0]) for text in server.ranges() if text]
    for chunk in range(3):
        mine = [start for start in starts if start // (32 * MIB) == chunk]
        assert mine == sorted(mine)
    assert len(set(starts)) >= 12
    assert sorted(path.name for path in (tmp_path / "cache/v1").iterdir()) == ["locks", "objects", "sources", "staging", "uses"]


def test_interrupt_ends_it_and_the_next_goes_on(server, tmp_path):
    server.faults.rate = MIB
    arguments = command(url=server.url, cache=tmp_path / "cache")
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while server.served < MIB // 2:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=10 * SLOW)
    assert process.returncode == 1 and "cancelled" in said
    server.faults.rate = None
    check(subprocess.run(arguments, capture_output=True, text=True, timeout=60), server)
    assert int(server.ranges()[1][6:].split("-")[0]) > MIB // 4


def sparse_adapter(folder, data_bytes):
    """An adapter whose weights are large and take no room."""
    folder.mkdir()
    header = json.dumps({"a": {"dtype": "F32", "shape": [data_bytes // 4], "data_offsets": [0, data_bytes]}}).encode()
    (folder / "adapter_config.json").write_bytes(CONFIG)
    with open(folder / "adapter_model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + data_bytes)
    return folder


def start(*arguments, **kwargs):
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs)


def wait_for(process, condition):
    until = time.monotonic() + 30 * SLOW
    while not condition():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.002)


def proc_field(process, file, name):
    text = Path(f"/proc/{process.pid}/{file}").read_text()
    return next(line.split()[1] for line in text.splitlines() if line.startswith(name + ":"))


def test_hashing_ends_when_it_is_interrupted(tmp_path):
    folder = sparse_adapter(tmp_path / "adapter", 200 << 30)
    process = start(*command("--digest", "0" * 64, url=str(folder), cache=tmp_path / "cache"))
    wait_for(process, lambda: int(proc_field(process, "io", "rchar")) > 64 * MIB)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=10 * SLOW)
    assert process.returncode == 1 and "cancelled" in said


def test_a_second_interrupt_ends_it_at_once(tmp_path):
    """The fetch sees nothing: it waits in open(2) for somebody who writes a token."""
    os.mkfifo(tmp_path / "token")
    environment = {key: value for key, value in os.environ.items() if key not in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")}
    process = start(*command(url="hf://org/repo", cache=tmp_path / "cache"),
                    env={**environment, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN_PATH": str(tmp_path / "token")})

    def is_caught():
        return int(proc_field(process, "status", "SigCgt"), 16) & 1 << signal.SIGINT - 1 != 0

    try:
        wait_for(process, is_caught)
        process.send_signal(signal.SIGINT)
        wait_for(process, lambda: not is_caught())
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10 * SLOW) == -signal.SIGINT
    finally:
        process.kill()
        process.communicate()


# ---- --to ----

def test_to_takes_the_place_of_an_older_version(server, pull, tmp_path):
    to = tmp_path / "out"
    server.files["tokenizer_config.json"] = b"{}"
    check(pull("--to", str(to)), server)
    (to / "README.md").write_text("mine")
    (to / "tokenizer.json").write_text("mine too")
    (to / ".davit-pull.0011223344556677").write_text("of a killed one")
    os.utime(to / ".davit-pull.0011223344556677", (1000, 1000))
    del server.files["tokenizer_config.json"]
    server.files["adapter_model.safetensors"] = safetensors(MIB, seed=7)
    check(pull("--to", str(to)), server)
    assert sorted(p.name for p in to.iterdir()) == [".davit-pull", "README.md", "adapter_config.json",
                                                    "adapter_model.safetensors", "tokenizer.json"]


def test_to_changes_nothing_when_it_is_interrupted(tmp_path):
    to = tmp_path / "out"
    to.mkdir()
    (to / "adapter_config.json").write_text("older")
    folder = sparse_adapter(tmp_path / "adapter", 4 << 30)
    process = start(*command("--to", str(to), url=str(folder), cache=tmp_path / "cache"))
    wait_for(process, lambda: any(p.name.startswith(".davit-pull.") and p.stat().st_size > MIB for p in to.iterdir()))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20 * SLOW)
    assert process.returncode == 1 and "cancelled" in said
    assert [(p.name, p.read_text()) for p in to.iterdir()] == [("adapter_config.json", "older")]


# ---- davit cache ----

def cache_command(verb, cache, *options):
    return subprocess.run([DAVIT, "cache", verb, "--cache", str(cache), *options], capture_output=True, text=True, timeout=60)


def test_the_cap_removes_what_was_used_longest_ago(server, pull, tmp_path):
    folders = []
    for seed in range(4):
        server.files["adapter_model.safetensors"] = safetensors(4 * MIB, seed=seed)
        folders.append(check(pull("--cache-size", "10MiB", url=f"{server.url}{seed}"), server))
        os.utime(folders[-1], (1000 + seed, 1000 + seed))
    assert [folder.exists() for folder in folders] == [False, False, True, True]
    listed = cache_command("ls", tmp_path / "cache")
    assert listed.stdout.count(server.url) == 2
    pruned = cache_command("prune", tmp_path / "cache", "--keep", "5MiB")
    assert pruned.stdout.startswith("removed 1 adapter,")
    assert [folder.exists() for folder in folders] == [False, False, False, True]


def test_verify_finds_what_changed(server, pull, tmp_path):
    folder = check(pull(), server)
    assert cache_command("verify", tmp_path / "cache").returncode == 0
    with open(folder / "adapter_model.safetensors", "r+b") as file:
        file.seek(MIB)
        file.write(b"x")
    result = cache_command("verify", tmp_path / "cache")
    assert result.returncode == 1 and "adapter_model.safetensors: expected SHA-256" in result.stdout
    assert cache_command("prune", tmp_path / "cache").returncode == 0
    check(pull(), server)


def test_a_folder_that_holds_no_adapter(pull, tmp_path):
    refused(pull(url=str(tmp_path)), f"{tmp_path}/adapter_config.json: No such file")
    refused(pull("--revision", "v1", url=str(tmp_path)), f'{tmp_path}: a folder keeps no revisions: expected none, found "v1"')


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["/x", "--digest", "12"], ["/x", "--allow-address", "nowhere"]])
def test_wrong_usage(arguments):
    result = subprocess.run([DAVIT, "pull", *arguments], capture_output=True, text=True, timeout=20)
    assert result.returncode == 2 and "davit pull --help" in result.stderr


def test_schemes_that_are_not_known(pull, tmp_path):
    refused(pull(url="ftp://user:s3cret@127.0.0.1/sql"), "ftp://127.0.0.1/sql: expected s3://")
    (tmp_path / "sql").mkdir()
    refused(pull(url="./sql", cwd=tmp_path), f"expected a URL or an absolute path: `davit pull {tmp_path}/sql`")
    refused(pull(url="org/sql", cwd=tmp_path), "there is no such folder here, and a model of the Hugging Face Hub is hf://org/sql")
    refused(pull(url="sql2", cwd=tmp_path), "expected s3://")
