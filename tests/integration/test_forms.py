"""Manifests of the forms that AIBrix documents, as they are, by kubectl, until they run: tests/fixtures/forms. Pods are those that the
Deployments describe; no node runs them."""

import base64

import pytest
import yaml
from fake_world import FakeWorld
from world import ROOT, until

FORMS = ROOT / "tests/fixtures/forms"
# Of a form: the base, the adapter's file, how many pods hold each of its adapters, and what the engines and sidecars are.
KEYED = {"api_key": "form-key"}
S3 = {"s3_access_key": "form-access-key", "s3_secret_key": "form-secret-key"}
ROWS = {
    "plain": ("base", "adapter", 3, {}),
    "without-runtime": ("base-without-runtime", "adapter", 2, {}),
    "api-key": ("base-api-key", "adapter-api-key", 1, KEYED),
    "several": ("base", "adapter-several", 3, {}),
    "replicas-1": ("base", "adapter-one-pod", 1, {}),
    "replicas-absent": ("base", "adapter-every-pod", 3, {}),
    "s3-with-secret": ("base", "adapter-s3", 3, S3),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory, api_server):
    world = FakeWorld(tmp_path_factory.mktemp("forms"), api_server)
    yield world
    world.close()


def manifests(name):
    return list(yaml.safe_load_all((FORMS / f"{name}.yaml").read_text()))


def room_of(world, base, settings):
    """A room with the pods that the base's Deployment describes."""
    deployment = manifests(base)[0]
    template, pods = deployment["spec"]["template"], deployment["spec"]["replicas"]
    has_sidecar = any(container["name"] == "aibrix-runtime" for container in template["spec"]["containers"])
    room = world.room(0, spares=pods, sidecar=has_sidecar, settings={"base_model": deployment["metadata"]["name"], **settings})
    room.kubectl("apply", "-f", FORMS / f"{base}.yaml")
    for i, address in enumerate(room.spares):
        room.add_pod_of(f"coder-base-{i}", address, template)
    return room


@pytest.mark.parametrize("row", ROWS)
def test_reaches_running(world, row):
    base, file, pods, settings = ROWS[row]
    with room_of(world, base, settings) as room:
        said = room.kubectl("apply", "-f", FORMS / f"{file}.yaml")
        assert "warning" not in said.lower(), said
        adapters = [found for found in manifests(file) if found["kind"] == "ModelAdapter"]
        for adapter in adapters:
            name = adapter["metadata"]["name"]
            room.wait(name, "FullyLoaded")
            found = until(lambda name=name: len(room.published(name)) == pods and room.api.get("modeladapters", name), "it is published")
            status = found["status"]
            assert (status["phase"], status["desiredReplicas"], status["candidates"]) == ("Running", pods, len(room.spares))
            assert status["readyReplicas"] == pods == len(status["instances"]), status
            holders = {address for address in room.spares if name in room.fakes.adapters(address)}
            assert holders == room.published(name)
        assert room.fakes.counts()["refused"]["load"] == 0, "nothing was sent that the sidecar or the engine does not take"
        assert "unchanged" in room.kubectl("apply", "-f", FORMS / f"{file}.yaml").lower()
        room.kubectl("delete", "-f", FORMS / f"{file}.yaml", "--timeout=30s")
        assert not any(room.fakes.adapters(address) for address in room.spares)


def secret(values):
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "aws-credential"},
            "data": {name: base64.b64encode(value.encode()).decode() for name, value in values.items()}}


def test_credentials_are_those_of_the_secret(world):
    """Wrong, and then right, for a folder and for one object: the cause is told in the sidecar's words, the values never. The Secret is
    read again for every try."""
    wrong = {"aws_access_key_id": "form-access-key", "aws_secret_access_key": "a-wrong-secret"}
    with room_of(world, "base", S3) as room:
        adapter = manifests("adapter-s3")[1]
        one = {**adapter, "metadata": {"name": "one-object"}, "spec": {**adapter["spec"], "artifactURL": "s3://bucket/one-object"}}
        causes = {adapter["metadata"]["name"]: "SignatureDoesNotMatch", "one-object": "Permission denied: Access denied to S3 object"}
        room.api.create("secrets", secret(wrong))
        for each in (adapter, one):
            room.api.create("modeladapters", each)
        for name, cause in causes.items():
            until(lambda name=name, cause=cause: cause in room.condition(name).get("message", ""), "the sidecar's refusal is told")
            assert room.condition(name)["status"] == "False" and not room.published(name)
        room.api.patch("secrets", "aws-credential", {"data": secret({"aws_secret_access_key": "form-secret-key"})["data"]})
        for name in causes:
            room.wait(name, "FullyLoaded")
        told = [room.api.list("modeladapters"), room.api.list("events"), world.controller.text(), world.controller.metrics()]
        for value in ("a-wrong-secret", "form-access-key", "form-secret-key"):
            assert value not in str(told), value
