"""deploy/: kustomize and helm say the same, ask for no more than is needed, and start programs that take the arguments they are given."""

import json
import os
import re
import subprocess

import pytest
import yaml
from world import ROOT

KUBECTL = os.environ.get("KUBECTL", "kubectl")
DAVIT = os.environ.get("DAVIT", ROOT / "build/release/davit")
OVERLAYS = {  # overlay or components of a throw-away one -> the chart's values
    "default": [],
    "direct": ["controller.enableRuntimeSidecar=false"],
    "components/runtime-sidecar components/service-monitor components/secrets-everywhere":
        ["serviceMonitor.enabled=true", "secrets.everywhere=true"],
    "components/gateway-routes": ["controller.enableRuntimeSidecar=false", "gatewayRoutes.enabled=true"],
    "components/versioned-names": ["controller.enableRuntimeSidecar=false", "controller.engineNames=versioned"],
}
HELM_LABELS = {"app.kubernetes.io/instance", "app.kubernetes.io/managed-by", "app.kubernetes.io/version", "helm.sh/chart"}


def output_of(*command, stdin=None):
    result = subprocess.run([str(part) for part in command], text=True, capture_output=True, input=stdin, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="session")
def helm():
    return os.environ.get("HELM") or output_of(ROOT / "scripts/fetch-kubectl", "helm").strip()


def kustomized(overlay, folder):
    if not overlay.startswith("components/"):
        return list(yaml.safe_load_all(output_of(KUBECTL, "kustomize", ROOT / "deploy/kustomize" / overlay)))
    kustomize = os.path.relpath(ROOT / "deploy/kustomize", folder)
    (folder / "kustomization.yaml").write_text(json.dumps({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": [f"{kustomize}/../crd", f"{kustomize}/base"],
        "components": [f"{kustomize}/{component}" for component in overlay.split()]}))
    return list(yaml.safe_load_all(output_of(KUBECTL, "kustomize", folder)))


def templated(helm, *values):
    settings = [part for value in values for part in ("--set", value)]
    return list(yaml.safe_load_all(output_of(helm, "template", "davit", ROOT / "deploy/helm/davit", "-n", "davit-system", "--include-crds",
                                             *settings)))


def substance(value):
    """Without what only one of the tools writes, and without what is the default anyway."""
    if isinstance(value, dict):
        return {key: substance(item) for key, item in value.items()
                if key not in HELM_LABELS and (key, item) not in (("imagePullPolicy", "IfNotPresent"), ("type", "ClusterIP"))}
    return [substance(item) for item in value] if isinstance(value, list) else value


def by_identity(objects):
    found = {}
    for thing in filter(None, objects):
        if thing["kind"] == "Namespace":
            continue  # helm makes it itself (--create-namespace)
        thing = substance(thing)
        labels = thing["metadata"].get("labels", {})
        labels.pop("app.kubernetes.io/name", None)  # helm puts it on a few objects more
        if not labels:
            thing["metadata"].pop("labels", None)
        identity = thing["kind"], thing["metadata"].get("namespace", ""), thing["metadata"]["name"]
        assert identity not in found
        found[identity] = thing
    return found


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_helm_and_kustomize_agree(overlay, helm, tmp_path):
    by_kustomize, by_helm = by_identity(kustomized(overlay, tmp_path)), by_identity(templated(helm, *OVERLAYS[overlay]))
    assert by_kustomize.keys() == by_helm.keys()
    for identity, thing in by_kustomize.items():
        assert thing == by_helm[identity], identity


def test_the_sidecar_is_used_where_it_is_said(tmp_path):
    for overlay in ("default", "direct"):
        controller = by_identity(kustomized(overlay, tmp_path))["Deployment", "davit-system", "davit-controller"]
        arguments = controller["spec"]["template"]["spec"]["containers"][0]["args"]
        assert ("--enable-runtime-sidecar" in arguments) == (overlay == "default")


def test_secrets_are_read_by_name_only(helm):
    """Nothing lists or watches Secrets, unless it names them."""
    granted = ["secrets.byName[0].namespace=team-a", "secrets.byName[0].names={hf-token,engine-key}"]
    for values in ([], ["secrets.everywhere=true"], granted):
        rules = [(thing, rule) for thing in templated(helm, *values) if thing["kind"] in ("Role", "ClusterRole")
                 for rule in thing["rules"] if "secrets" in rule["resources"] or "*" in rule["resources"]]
        for thing, rule in rules:
            assert rule["verbs"] == ["get"] or (thing["kind"] == "Role" and rule["resourceNames"]), thing
        assert len(rules) == (1 if values else 0)
    role = next(thing for thing, _ in rules)
    assert role["metadata"]["namespace"] == "team-a" and role["rules"][0]["resourceNames"] == ["hf-token", "engine-key"]


def test_routes_are_written_where_the_gateway_is(helm):
    """And nowhere without being asked for."""
    for values, namespaces in (([], []), (["gatewayRoutes.enabled=true", "gatewayRoutes.gatewayNamespace=edge"], ["edge"])):
        things = templated(helm, *values)
        roles = [thing for thing in things if thing["kind"] in ("Role", "ClusterRole")
                 and any("httproutes" in rule["resources"] for rule in thing["rules"])]
        assert [thing["metadata"].get("namespace") for thing in roles] == namespaces
        controller = next(thing for thing in things if thing["kind"] == "Deployment" and thing["metadata"]["name"] == "davit-controller")
        arguments = controller["spec"]["template"]["spec"]["containers"][0]["args"]
        assert ("--routes=off" in arguments, "--gateway-namespace=edge" in arguments) == (not namespaces, bool(namespaces))


def test_no_wildcards(tmp_path):
    for thing in kustomized("default", tmp_path):
        for rule in thing.get("rules", []) if thing["kind"] in ("Role", "ClusterRole") else []:
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"], thing["metadata"]["name"]


def test_programs_take_their_arguments(tmp_path):
    """They get as far as the Kubernetes API that is not there. A wrong option ends with status 2."""
    kubeconfig = tmp_path / "none"
    containers = [container for thing in kustomized("default", tmp_path) if thing["kind"] == "Deployment"
                  for container in thing["spec"]["template"]["spec"]["containers"]]
    assert len(containers) == 2
    for container in containers:
        arguments = [argument.replace("$(POD_NAMESPACE)", "davit-system") for argument in container["args"]]
        result = subprocess.run([DAVIT, *arguments, f"--kubeconfig={kubeconfig}"], text=True, capture_output=True, timeout=60)
        assert result.returncode == 1 and str(kubeconfig) in result.stderr, (arguments, result)


def test_sidecars_take_their_arguments():
    for name in ("vllm", "sglang"):
        pod = yaml.safe_load((ROOT / f"deploy/samples/{name}.yaml").read_text())["spec"]["template"]["spec"]
        sidecar = next(container for container in pod["containers"] if container["name"] == "aibrix-runtime")
        result = subprocess.run([DAVIT, *sidecar["args"], "--log-level=none"], text=True, capture_output=True, timeout=60)
        assert result.returncode == 2 and "log-level" in result.stderr, result  # the only argument that is wrong


def test_the_embedded_api_takes_what_it_has(tiny_world, tmp_path):
    kinds = set(re.findall(r"\S+$", tiny_world.kubectl("api-resources", "--no-headers").stdout, re.MULTILINE))
    for thing in kustomized("default", tmp_path):
        if thing["kind"] in kinds and thing["kind"] != "Namespace":
            thing["metadata"].update({"namespace": "default"} if "namespace" in thing["metadata"] else {})
            tiny_world.kubectl("apply", "--dry-run=server", "-f", "-", stdin=json.dumps(thing))
    for sample in sorted((ROOT / "deploy/samples").glob("*.yaml")):
        tiny_world.kubectl("apply", "--dry-run=server", "-f", str(sample))


def test_the_image_has_the_libraries():
    """What the program is linked to is installed by the second stage of the container file."""
    text = (ROOT / "deploy/container/Containerfile").read_text().split("FROM")[-1]
    needed = re.findall(r"NEEDED.*\[(.*)\]", output_of("readelf", "-d", DAVIT))
    assert needed
    for library in needed:
        package = re.sub(r"\.so\.(.*)$", lambda match: ("" if not re.search(r"\d\.so", library) else "-") + match[1], library)
        package = package.replace("_", "-").lower()
        if not re.match(r"lib(c|m|asan|ubsan|gcc-s)-?\d*$", package):
            assert re.search(rf"\b{re.escape({'libcrypto3': 'libssl3', 'libz1': 'zlib1g'}.get(package, package))}\b", text), (library, package)
