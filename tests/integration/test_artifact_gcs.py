"""gs:// by the sidecar: identities, pages, checksums, cuts, and what is said when it cannot be had."""

import json

import pytest
from fake_gcs import FakeGcs
from test_artifact_runtime import Runtime, files_in
from test_runtime import Engine
from web_server import make_adapter

FILES = make_adapter(width=4000)


@pytest.fixture
def store(tmp_path):
    store = FakeGcs(tmp_path)
    for name, content in FILES.items():
        store.put(f"a/sql/{name}", content)
    yield store
    store.close()


@pytest.fixture
def runtime(tmp_path, store, monkeypatch):
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GCE_METADATA_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", store.host)
    monkeypatch.setenv("HOME", str(tmp_path))
    engine = Engine()
    engine.go.set()
    runtime = Runtime(tmp_path, engine.url)
    yield runtime
    runtime.close()
    engine.shutdown()
    engine.server_close()


def expect(runtime, status, words="", url="gs://models/a/sql", **more):
    found, answer = runtime.load(url, **more)
    assert found == status and words in json.dumps(answer), answer
    return answer


def test_a_service_account_of_the_adapters_own(runtime, store):
    store.wants_token = True
    account = store.service_account()
    answer = expect(runtime, 200, credentials={"gcp_service_account_json": account})
    assert files_in(answer["local_path"]) == FILES
    assert store.tokens == 1, "one token serves the list and every file"
    assert all("generation=" in path for path, _ in store.asked if "alt=media" in path)
    expect(runtime, 200, name="again", credentials={"gcp_service_account_json": account})
    assert store.tokens == 1 and runtime.metric("davit_runtime_cache_hits_total") == 1
    store.good.clear()
    expect(runtime, 200, name="renewed", credentials={"gcp_service_account_json": account})
    assert store.tokens == 2
    stranger = json.loads(account) | {"private_key": json.loads(store.service_account("stranger"))["private_key"]}
    answer = expect(runtime, 401, "invalid_grant: Invalid JWT Signature.", name="b", credentials={
        "gcp_service_account_json": json.dumps(stranger)})
    assert answer["reason"] == "ArtifactUnauthorized"
    assert "PRIVATE KEY" not in runtime.log.read_text() and "eyJ" not in runtime.log.read_text()


def test_errors_keep_their_meaning(runtime, store):
    expect(runtime, 404, "The specified bucket does not exist.", url="gs://elsewhere/a")
    expect(runtime, 400, "expected gs://bucket/folder", url="gs://UPPER/a")
    expect(runtime, 400, '\\"gcp_service_account_json\\"', credentials={"gcp_service_account_json": "{"})
    expect(runtime, 501, "external_account", credentials={"gcp_service_account_json": '{"type": "external_account"}'})
    store.wants_token = True
    expect(runtime, 401, "without credentials: Anonymous caller")


def test_pages_and_what_lies_beside(runtime, store):
    for i in range(7):
        store.put(f"a/sql/aaa-{i}.txt", b"x")
    store.put("a/sql/checkpoint-1/adapter_config.json", b"{}")
    store.page_size = 2
    answer = expect(runtime, 200)
    assert files_in(answer["local_path"]) == FILES
    assert sum("prefix=" in path for path, _ in store.asked) == 5
