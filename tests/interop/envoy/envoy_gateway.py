"""An Envoy that does what the HTTPRoutes of a cluster say: what an implementation of the Gateway API makes of them, in Envoy's own words.

Read from the API as an implementation does: HTTPRoutes that name the gateway, ReferenceGrants, the Service's port, the EndpointSlices with
the Service's name. Given to Envoy as files (xDS by the file system), replaced when something has changed.
"""

import json
import os
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
GROUP = "gateway.networking.k8s.io"
PORT = 10080
TYPE = "type.googleapis.com/envoy"
MANAGER = f"{TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = f"{TYPE}.extensions.filters.http.router.v3.Router"


def missing():
    """The path of Envoy and None, or None and why there is none."""
    brought = subprocess.run([HERE / "envoy"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    program = brought.stdout.strip()
    if brought.returncode == 0 and subprocess.run([program, "--version"], capture_output=True).returncode == 0:
        return program, None
    return None, f"Envoy cannot be had or does not run here: {brought.stderr.strip()[-200:]}"


class Gateway:
    """Envoy at 127.0.0.1:PORT in the cluster's network, while the block runs."""

    def __init__(self, cluster, program, name, namespace, folder):
        self.cluster, self.program, self.name, self.namespace = cluster, program, name, namespace
        self.folder = Path(folder)
        self.url = f"http://127.0.0.1:{PORT}"

    def __enter__(self):
        self.update()
        manager = {"@type": MANAGER, "stat_prefix": "gateway", "http_filters": [{"name": "router", "typed_config": {"@type": ROUTER}}],
                   "rds": {"route_config_name": "routes", "config_source": self.source("routes")}}
        listener = {"name": "http", "address": {"socket_address": {"address": "127.0.0.1", "port_value": PORT}},
                    "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}]}
        bootstrap = {"node": {"id": "gateway", "cluster": "gateway"}, "static_resources": {"listeners": [listener]},
                     "dynamic_resources": {"cds_config": self.source("clusters")}}
        self.write("bootstrap", bootstrap)
        command = [self.program, "-c", self.folder / "bootstrap.json", "--use-dynamic-base-id", "--concurrency", "1"]
        self.process = self.cluster.spawn(command, log="envoy.log")
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def source(self, name):
        return {"path_config_source": {"path": str(self.folder / f"{name}.json")}, "resource_api_version": "V3"}

    def write(self, name, value):
        """Envoy sees a file that is moved into its place."""
        path = self.folder / f"{name}.json"
        path.with_suffix(".new").write_text(json.dumps(value))
        os.replace(path.with_suffix(".new"), path)

    # ---- what the cluster says ----

    def update(self):
        routes, clusters = [], {}
        for route in self.cluster.get(f"httproutes.{GROUP}", namespace=self.namespace) or []:
            if {"name": self.name, "namespace": self.namespace} not in [{key: parent.get(key) for key in ("name", "namespace")}
                                                                        for parent in route["spec"]["parentRefs"]]:
                continue
            for rule in route["spec"]["rules"]:
                action = self.action(rule, clusters)
                routes += [{"match": translated(match), **action} for match in rule["matches"]]
        routes.sort(key=lambda route: -len(route["match"].get("path_separated_prefix", "")))  # the longest path first, as GEP-722 has it
        self.write("clusters", resources("config.cluster.v3.Cluster", clusters.values()))
        self.write("routes", resources("config.route.v3.RouteConfiguration", [{
            "name": "routes", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}],
            # Which endpoint answered, for the tests.
            "response_headers_to_add": [{"header": {"key": "x-upstream", "value": "%UPSTREAM_REMOTE_ADDRESS%"}}]}]))

    def action(self, rule, clusters):
        backend, = rule["backendRefs"]
        if not self.may_reach(backend):
            return {"direct_response": {"status": 500}}  # RefNotPermitted
        name = f"{backend['namespace']}/{backend['name']}:{backend['port']}"
        clusters[name] = {"name": name, "type": "STATIC", "connect_timeout": "2s",
                          "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": self.endpoints(backend)}]}}
        return {"route": {"cluster": name, "timeout": rule["timeouts"]["request"]}}

    def may_reach(self, backend):
        """By a ReferenceGrant of the backend's namespace."""
        origin = {"group": GROUP, "kind": "HTTPRoute", "namespace": self.namespace}
        grants = self.cluster.get(f"referencegrants.{GROUP}", namespace=backend["namespace"]) or []
        return backend["namespace"] == self.namespace or any(
            origin in grant["spec"]["from"] and any(to["kind"] == "Service" and to.get("name", backend["name"]) == backend["name"]
                                                    for to in grant["spec"]["to"]) for grant in grants)

    def endpoints(self, backend):
        service = self.cluster.get("service", backend["name"], backend["namespace"])
        port_name = next((port.get("name", "") for port in (service or {"spec": {"ports": []}})["spec"]["ports"]
                          if port["port"] == backend["port"]), None)
        label = f"kubernetes.io/service-name={backend['name']}"
        slices = self.cluster.get("endpointslices", namespace=backend["namespace"], selector=label)
        return [{"endpoint": {"address": {"socket_address": {"address": address, "port_value": port["port"]}}}}
                for found in slices or [] for port in found["ports"] if port.get("name", "") == port_name
                for endpoint in found.get("endpoints") or [] if endpoint.get("conditions", {}).get("ready", True)
                for address in endpoint["addresses"]]


def translated(match):
    """An HTTPRouteMatch as Envoy's RouteMatch."""
    assert match["path"]["type"] == "PathPrefix" and all(header["type"] == "Exact" for header in match["headers"]), match
    return {"path_separated_prefix": match["path"]["value"],
            "headers": [{"name": header["name"], "string_match": {"exact": header["value"]}} for header in match["headers"]]}


def resources(kind, values):
    return {"version_info": "1", "resources": [{"@type": f"{TYPE}.{kind}", **value} for value in values]}
