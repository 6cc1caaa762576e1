"""Worlds for the tests: one with the tiny random model, one with the real 135M model (release build only)."""

import os

import pytest
from world import ROOT, SQL_QUESTION, TINY, World, processes_of


def pytest_configure(config):
    config.addinivalue_line("markers", "real_model: needs the 135M model; not run under sanitizers")


def run_world(folder, model):
    world = World(folder)
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
    yield from run_world(tmp_path_factory.mktemp("tiny"), TINY / "model.gguf")


@pytest.fixture(scope="session")
def real_world(tmp_path_factory):
    yield from run_world(tmp_path_factory.mktemp("real"), os.environ["DAVIT_TEST_MODEL"])


@pytest.fixture(params=["tiny", pytest.param("real", marks=pytest.mark.real_model)])
def served(request):
    """(world, artifact path of an adapter that changes what the base says, a question that shows it)."""
    if request.param == "tiny":
        return request.getfixturevalue("tiny_world"), TINY / "adapter-b", SQL_QUESTION
    return request.getfixturevalue("real_world"), ROOT / "samples/adapters/sql", SQL_QUESTION
