"""HTTPRoutes and ReferenceGrants of davit controller on a real Kubernetes API, under the Gateway API's own CRDs, or under stand-ins for
them, which take anything, where those cannot be had."""

import json
from pathlib import Path

import pytest
import yaml
from cluster import until
from engines import TINY, Engines

ROOT = Path(__file__).resolve().parents[3]
STAND_INS = ROOT / "tests/fixtures/gateway_api/crds.yaml"
KUSTOMIZE = ROOT / "deploy/kustomize"
RIGHTS = ("Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
GROUP = "gateway.networking.k8s.io"
KEEP = "tests.davit/keep"  # a finalizer


def start(engines, gateway, **options):
    engines.start_pod("engine-0")
    engines.start_controller(f"--gateway-namespace={gateway}", log_level="debug", **options)


def route_of(engines, gateway, name="sql"):
    return engines.cluster.get(f"httproutes.{GROUP}", f"{name}-router", gateway)


def grant_of(engines, gateway):
    return engines.cluster.get(f"referencegrants.{GROUP}", f"{gateway}-reserved-referencegrant-in-{engines.namespace}", engines.namespace)


def wait_route(engines, gateway, name="sql"):
    return until(lambda: route_of(engines, gateway, name), f"{name} has its route")


def test_none_where_engines_may_have_other_names(engines, gateway):
    """Requests by a route would ask for a name that an engine need not know: what was there goes, and the adapter is served."""
    start(engines, gateway)
    engines.apply_adapter("sql")
    engines.wait_running("sql", ["engine-0"])
    wait_route(engines, gateway)
    engines.kill("controller")
    engines.start_controller(f"--gateway-namespace={gateway}", "--engine-names=versioned", log_level="debug")
    until(lambda: route_of(engines, gateway) is None and grant_of(engines, gateway) is None, "route and grant are gone")
    engines.wait_running("sql", ["engine-0"])
    engines.delete_adapter("sql")


def patch(engines, gateway, change):
    engines.cluster.kubectl("patch", f"httproute.{GROUP}", "sql-router", "-n", gateway, "--type=merge", "-p", json.dumps(change))


def writes(engines, resource):
    """(verb, status) of the controller's writes; it is told from kubectl by its agent."""
    return [(entry["verb"], entry["responseStatus"]["code"]) for entry in engines.cluster.audit()
            if entry["objectRef"].get("resource") == resource and entry["userAgent"].startswith("davit-controller")
            and entry["objectRef"].get("namespace", "").startswith(engines.namespace[:50])]


def test_there_from_publication_to_deletion(engines, gateway):
    cluster = engines.cluster
    start(engines, gateway)
    engines.apply_adapter("broken", "/nowhere/at/all")
    engines.apply_adapter("sql")
    route = wait_route(engines, gateway)
    service = cluster.get("service", "sql", engines.namespace)
    rule = route["spec"]["rules"][0]
    backend = {"name": "sql", "namespace": engines.namespace, "port": service["spec"]["ports"][0]["port"]}
    assert [ref | backend for ref in rule["backendRefs"]] == rule["backendRefs"] and len(rule["backendRefs"]) == 1
    assert {match["headers"][0]["value"] for match in rule["matches"]} == {"sql"}
    until(lambda: grant_of(engines, gateway), "the grant is there")
    engines.wait_running("sql", ["engine-0"])
    until(lambda: engines.condition("broken").get("status") == "False", "the other one fails")
    assert route_of(engines, gateway, "broken") is None
    # What the API adds to the objects as defaults is no drift.
    assert [verb for verb, _ in writes(engines, "httproutes")] == ["create"]
    assert [verb for verb, _ in writes(engines, "referencegrants")] == ["create"]

    # What drifts is mended: the specification, the labels, the object, the grant.
    patch(engines, gateway, {"spec": {"rules": []}})
    until(lambda: route_of(engines, gateway)["spec"] == route["spec"], "the rules are back")
    cluster.kubectl("delete", f"httproute.{GROUP}", "sql-router", "-n", gateway)
    wait_route(engines, gateway)
    cluster.kubectl("delete", f"referencegrants.{GROUP}", "--all", "-n", engines.namespace)
    until(lambda: grant_of(engines, gateway), "the grant is back")
    engines.cluster.kubectl("annotate", "modeladapter", "sql", "-n", engines.namespace,
                            "model.aibrix.ai/model-router-custom-paths=/v1/score")
    until(lambda: route_of(engines, gateway)["spec"]["rules"][0]["matches"][-1]["path"]["value"] == "/v1/score", "a path more")
    assert all(status < 300 for _, status in writes(engines, "httproutes"))

    # The object waits for its route, which somebody keeps for a moment.
    patch(engines, gateway, {"metadata": {"finalizers": [KEEP]}})
    engines.delete_adapter("sql")
    until(lambda: "deletionTimestamp" in route_of(engines, gateway)["metadata"], "the route is being deleted")
    until(lambda: engines.adapters_of("engine-0") == set(), "it is unloaded")
    assert engines.adapter("sql") is not None
    patch(engines, gateway, {"metadata": {"finalizers": None}})
    engines.wait_gone("sql")
    assert route_of(engines, gateway) is None
    assert grant_of(engines, gateway) is not None  # there is still an adapter
    engines.delete_adapter("broken")
    until(lambda: grant_of(engines, gateway) is None, "the grant has gone with the last adapter")


def test_others_are_left_alone(engines, gateway):
    cluster = engines.cluster
    foreign = {"apiVersion": f"{GROUP}/v1", "kind": "HTTPRoute", "metadata": {"name": "sql-router", "namespace": gateway},
               "spec": {"rules": []}}
    cluster.apply(foreign)
    start(engines, gateway)
    engines.apply_adapter("sql")
    engines.wait_running("sql", ["engine-0"])
    until(lambda: "RouteConflict" in engines.events("sql"), "an event says whose it is")
    assert engines.condition("sql").get("status") == "True"
    assert writes(engines, "httproutes") == []
    # The name is free: the adapter gets its route.
    cluster.kubectl("delete", f"httproute.{GROUP}", "sql-router", "-n", gateway)
    wait_route(engines, gateway)
    # Taken away, it is nothing of ours any more, and does not hold the object back.
    engines.kill("controller")
    cluster.kubectl("delete", f"httproute.{GROUP}", "sql-router", "-n", gateway)
    cluster.apply(foreign)
    engines.start_controller(f"--gateway-namespace={gateway}")
    engines.delete_adapter("sql")
    engines.wait_gone("sql", timeout=20)
    assert route_of(engines, gateway)["spec"] == {"rules": []}


def test_what_was_left_behind_goes(engines, gateway):
    """The adapter went while no controller ran: its finalizer was taken off by hand."""
    start(engines, gateway)
    engines.apply_adapter("sql")
    engines.apply_adapter("json")
    wait_route(engines, gateway)
    wait_route(engines, gateway, "json")
    engines.kill("controller")
    before = writes(engines, "httproutes")
    engines.cluster.kubectl("patch", "modeladapter", "sql", "-n", engines.namespace, "--type=merge", "-p",
                            '{"metadata":{"finalizers":null}}')
    engines.delete_adapter("sql")
    engines.wait_gone("sql")
    engines.start_controller(f"--gateway-namespace={gateway}")
    until(lambda: route_of(engines, gateway) is None, "the route is removed")
    assert route_of(engines, gateway, "json") is not None
    assert writes(engines, "httproutes")[len(before):] == [("delete", 200)]


def test_as_its_service_account(engines, gateway):
    """Without the component's rights none is kept and it is said once; with them, and nothing else, they are."""
    cluster = engines.cluster
    documents = yaml.safe_load_all(cluster.kubectl("kustomize", str(KUSTOMIZE / "base")).stdout)
    cluster.apply(*(document for document in documents if document["kind"] in RIGHTS))
    token = cluster.account_token("davit-controller", "davit-system")
    kubeconfig = cluster.write_kubeconfig(cluster.folder / "davit-controller.kubeconfig", {"token": token})
    start(engines, gateway, kubeconfig=kubeconfig, namespace=None)
    engines.apply_adapter("sql")
    engines.wait_running("sql", ["engine-0"])
    until(lambda: engines.log("controller").count("no routes are kept: ") == 1, "it says that it may not")
    assert writes(engines, "httproutes") == []
    rights = (KUSTOMIZE / "components/gateway-routes/rbac.yaml").read_text().replace("aibrix-system", gateway)
    cluster.apply(*yaml.safe_load_all(rights))
    wait_route(engines, gateway)
    until(lambda: grant_of(engines, gateway), "the grant is there")
    engines.delete_adapter("sql")
    engines.wait_gone("sql")
    assert route_of(engines, gateway) is None
    until(lambda: grant_of(engines, gateway) is None, "the grant has gone")
    assert engines.log("controller").count("no routes are kept: ") == 1


def told(engines, reason):
    """Messages and counts of the adapter's events with this reason."""
    events = engines.cluster.get("events", namespace=engines.namespace)
    return [(event["message"], event.get("count", 1)) for event in events
            if event["involvedObject"]["name"] == "sql" and event["reason"] == reason]


def test_a_route_that_the_api_refuses_is_told(engines, gateway):
    """The controller may see routes, and not make them: the adapter's author hears of it, once."""
    cluster = engines.cluster
    documents = yaml.safe_load_all(cluster.kubectl("kustomize", str(KUSTOMIZE / "base")).stdout)
    cluster.apply(*(document for document in documents if document["kind"] in RIGHTS))
    rights = list(yaml.safe_load_all((KUSTOMIZE / "components/gateway-routes/rbac.yaml").read_text().replace("aibrix-system", gateway)))
    for role in (right for right in rights if right["kind"] == "Role"):
        for rule in role["rules"]:
            rule["verbs"] = [verb for verb in rule["verbs"] if verb in ("get", "list", "watch")]
    cluster.apply(*rights)
    token = cluster.account_token("davit-controller", "davit-system")
    kubeconfig = cluster.write_kubeconfig(cluster.folder / "davit-controller.kubeconfig", {"token": token})
    start(engines, gateway, kubeconfig=kubeconfig, namespace=None)
    engines.apply_adapter("sql")
    until(lambda: told(engines, "RouteFailed"), "an event says that it may not")
    until(lambda: len([status for _, status in writes(engines, "httproutes") if status == 403]) > 2, "it is tried again")
    assert len(told(engines, "RouteFailed")) == 1 and told(engines, "RouteFailed")[0][1] == 1
    assert "forbidden" in told(engines, "RouteFailed")[0][0]
    assert engines.condition("sql").get("status") == "True"
    cluster.apply(*yaml.safe_load_all((KUSTOMIZE / "components/gateway-routes/rbac.yaml").read_text().replace("aibrix-system", gateway)))
    wait_route(engines, gateway)


def test_a_route_that_the_gateway_refuses_is_told(engines, gateway):
    start(engines, gateway)
    engines.apply_adapter("sql")
    route = wait_route(engines, gateway)

    def say(status, reason):
        condition = {"type": "Accepted", "status": status, "reason": reason, "message": "as the gateway says",
                     "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": route["metadata"]["generation"]}
        parent = {"parentRef": {"name": "aibrix-eg"}, "controllerName": "tests.davit/gateway", "conditions": [condition]}
        engines.cluster.kubectl("patch", f"httproute.{GROUP}", "sql-router", "-n", gateway, "--subresource=status", "--type=merge", "-p",
                                json.dumps({"status": {"parents": [parent]}}))

    say("True", "Accepted")
    say("False", "NotAllowedByListeners")
    until(lambda: told(engines, "RouteRefused"), "an event says so")
    assert "Accepted=False, NotAllowedByListeners: as the gateway says" in told(engines, "RouteRefused")[0][0]
    say("True", "Accepted")
    assert len(told(engines, "RouteRefused")) == 1
    assert [verb for verb, _ in writes(engines, "httproutes")] == ["create"]


def test_not_installed_nothing_happens(engines):
    engines.start_pod("engine-0")
    engines.start_controller(log_level="debug")
    engines.apply_adapter("sql")
    engines.wait_running("sql", ["engine-0"])
    until(lambda: "the Gateway API is not installed" in engines.log("controller"), "it has asked")
    engines.delete_adapter("sql")
    engines.wait_gone("sql", timeout=20)
    assert "httproutes" not in engines.log("controller") and "referencegrants" not in engines.log("controller")


def test_two_of_one_name(engines, gateway):
    """The older one's of two namespaces has the route; the other is told, and gets it when the first goes."""
    cluster = engines.cluster
    namespace = f"{engines.namespace}-other"
    cluster.kubectl("create", "namespace", namespace)
    until(lambda: cluster.get("serviceaccount", "default", namespace), "the namespace has its service account")
    try:
        with Engines(cluster, namespace, engines.davit) as others:
            start(engines, gateway, namespace=None)
            engines.apply_adapter("sql")
            route = wait_route(engines, gateway)
            others.start_pod("engine-1")
            others.apply_adapter("sql")
            others.wait_running("sql", ["engine-1"])
            until(lambda: "RouteConflict" in others.events("sql"), "an event says whose it is")
            assert route_of(engines, gateway)["spec"] == route["spec"]
            engines.delete_adapter("sql")
            engines.wait_gone("sql")
            until(lambda: (route_of(engines, gateway) or route)["spec"]["rules"][0]["backendRefs"][0]["namespace"] == namespace,
                  "the route is the other's")
            others.delete_adapter("sql")
            others.wait_gone("sql")
            assert route_of(engines, gateway) is None
    finally:
        cluster.kubectl("delete", "namespace", namespace, "--wait=false")


def test_uninstalled_under_it(engines, gateway, own_crds):
    """The kinds go while routes are there: nothing is held up, and nothing said again and again."""
    start(engines, gateway)
    engines.apply_adapter("sql")
    wait_route(engines, gateway)
    engines.cluster.kubectl("delete", *(part for file in own_crds or [STAND_INS] for part in ("-f", str(file))), "--timeout=30s")
    engines.apply_adapter("json", TINY / "adapter-b")
    engines.wait_running("json", ["engine-0"])
    for name in ("sql", "json"):
        engines.delete_adapter(name)
    for name in ("sql", "json"):
        engines.wait_gone(name, timeout=30)
    assert engines.processes["controller"][0].poll() is None
    assert engines.log("controller").count(" WARN ") <= 10, engines.log("controller")
