"""Worlds for the tests: one with the tiny random model, one with the real 135M model (release build only)."""

import os
import re
from pathlib import Path

import pytest
from world import ROOT, TINY, World, processes_of

ALARM = re.compile(r"AddressSanitizer|LeakSanitizer|runtime error:|\bFATAL\b|Assertion `|stack smashing")


def pytest_configure(config):
    config.addinivalue_line("markers", "real_model: needs the 135M model; not run under sanitizers")


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
