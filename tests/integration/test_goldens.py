"""Each golden was made by the script, from the model and of the adapter that are in the tree now."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from world import ROOT, TINY

GOLDENS = sorted((ROOT / "tests/goldens").glob("*.json"))


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def check_adapter(adapter, folder):
    if adapter is not None:
        assert adapter["sha256"] == digest(folder / adapter["name"] / "adapter_model.safetensors"), f"{adapter['name']}: other weights"
        assert adapter["config_sha256"] == digest(folder / adapter["name"] / "adapter_config.json"), f"{adapter['name']}: another configuration"


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_golden_is_of_what_is_here(path):
    golden = json.loads(path.read_text())
    generator = golden["generator"]
    assert generator["sha256"] == digest(ROOT / generator["script"]), f"{path.name} is older than {generator['script']}: make it again"
    assert generator["torch"] and generator["transformers"] and generator["peft"]
    check_adapter(golden["adapter"], ROOT / "samples/adapters")
    if golden["model"]["name"] == "tiny":
        assert golden["model"]["sha256"] == digest(TINY / "model.gguf")
        for case in golden["cases"]:
            check_adapter(case["adapter"], TINY)


@pytest.mark.real_model
def test_goldens_are_of_the_model_that_is_fetched():
    fetched = digest(os.environ["DAVIT_TEST_MODEL"])
    assert {json.loads(path.read_text())["model"]["sha256"] for path in GOLDENS} == {fetched, digest(TINY / "model.gguf")}
