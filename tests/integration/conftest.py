"""Worlds for the tests: one with the tiny random model, one with the real 135M model (release build only); and the Kubernetes API of
tests of the controller, of which there is a choice (apis.py)."""

import os
import re
from pathlib import Path

import apis
import pytest
from world import ROOT, TINY, World, processes_of

ALARM = re.compile(r"AddressSanitizer|LeakSanitizer|runtime error:|\bFATAL\b|Assertion `|stack smashing")


def pytest_configure(config):
    config.addinivalue_line("markers", "real_model: needs the 135M model; not run under sanitizers")
    config.addinivalue_line("markers", "embedded_only(reason): takes the fixture api_server and cannot be on a real Kubernetes API")


def pytest_collection_modifyitems(config, items):
    """On a real API: what takes the API from outside, and nothing else."""
    if not apis.is_real():
        return
    chosen = [item for item in items if "api_server" in item.fixturenames]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


def pytest_runtest_setup(item):
    marker = item.get_closest_marker("embedded_only")
    if marker and apis.is_real():
        pytest.skip(f"not on a real Kubernetes API: {marker.args[0]}")


@pytest.fixture(scope="session")
def real_api(tmp_path_factory):
    reason = apis.missing()
    if reason:
        pytest.skip(f"no Kubernetes of our own: {reason}")
    with apis.RealApi(tmp_path_factory.mktemp("kubernetes")) as api:
        yield api


@pytest.fixture(scope="module")
def api_server(request, tmp_path_factory):
    """The API that this run of the tests is against: an embedded one for each module, or one real one for all."""
    if apis.is_real():
        yield request.getfixturevalue("real_api")
        return
    server = apis.EmbeddedApi(tmp_path_factory.mktemp("api"))
    yield server
    server.check()


def alarms(folder):
    """Lines that no process of a world may have written: its roles' logs, its pods' logs and what sanitizers reported, of dead ones too."""
    found = []
    for path in [*folder.glob("logs/*"), *folder.glob("node/pods/**/*.log*"), *folder.glob("sanitizer.*")]:
        found += [f"{path}: {line}" for line in path.read_text(errors="replace").splitlines() if ALARM.search(line)]
    return found


@pytest.fixture(scope="session", autouse=True)
def no_alarms(tmp_path_factory):
    """Worlds that tests make for themselves are looked at too."""
    yield
    found = [line for folder in tmp_path_factory.getbasetemp().rglob("davit.json") for line in alarms(folder.parent)]
    assert not found, "\n".join(found)


def run_world(folder, model, artifacts):
    world = World(folder)
    world.artifacts, world.is_real = artifacts, not model.is_relative_to(TINY)
    world.up()
    try:
        world.apply_base(model)
        yield world
    finally:
        world.down()
        left = processes_of(world.dir)
        assert not left, f"davit down left processes behind: {left}"


@pytest.fixture(scope="session")
def tiny_world(tmp_path_factory):
    yield from run_world(tmp_path_factory.mktemp("tiny"), TINY / "model.gguf", {name: TINY / f"adapter-{name}" for name in "abc"})


@pytest.fixture(scope="session")
def real_world(tmp_path_factory):
    yield from run_world(tmp_path_factory.mktemp("real"), Path(os.environ["DAVIT_TEST_MODEL"]),
                         {name: ROOT / "samples/adapters" / name for name in ("sql", "json", "pirate")})


@pytest.fixture(scope="session", params=["tiny", pytest.param("real", marks=pytest.mark.real_model)])
def either_world(request):
    return request.getfixturevalue(f"{request.param}_world")


@pytest.fixture(scope="module")
def served(either_world):
    """A world whose three adapters are served by every pod."""
    either_world.serve(either_world.artifacts)
    yield either_world
    either_world.delete_adapters()
