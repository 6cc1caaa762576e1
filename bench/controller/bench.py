#!/usr/bin/env python3
"""Measures the controller against fake engines and prints a table a scenario: time, requests, CPU seconds, memory.

The embedded API by default; with --api kubernetes a real kube-apiserver in a network namespace (tests/interop/kubernetes: root, etcd; built
once). DAVIT_TEST_KUBECONFIG names any other that has the ModelAdapter CRD; it is left as it was found. DAVIT_TEST_NETWORK is then the /16
for engines, since a real API server takes no loopback addresses. With --reference, the path of the reference's controller manager, both
are measured one after the other.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
INTEROP = ROOT / "tests/interop/kubernetes"
sys.path.insert(0, str(ROOT / "tests/integration"))

import scenarios  # noqa: E402
from run import Run  # noqa: E402
from subjects import Davit, Reference  # noqa: E402


def cell(value):
    if value is None:
        return "never"
    return f"{value:,.2f}" if isinstance(value, float) and value < 1000 else f"{value:,.0f}"


def print_table(title, columns):
    """columns: subject -> rows."""
    names = list(dict.fromkeys(name for rows in columns.values() for name in rows))
    width = max(map(len, names))
    print(f"\n{title}\n{'':{width}}  " + "  ".join(f"{subject:>12}" for subject in columns))
    for name in names:
        print(f"{name:{width}}  " + "  ".join(f"{cell(rows[name]) if name in rows else '':>12}" for rows in columns.values()), flush=True)


def machine():
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "?")
    commit = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    cores = len(os.sched_getaffinity(0))
    return f"{time.strftime('%Y-%m-%d %H:%M')} UTC, commit {commit}, {cores} cores of {model}, Linux {platform.release()}"


def run_on_kubernetes(folder, arguments):
    """This program again, inside the network namespace of a real Kubernetes API."""
    sys.path.insert(0, str(INTEROP))
    from cluster import Cluster
    with Cluster(folder, crds=[ROOT / "deploy/crd/modeladapters.yaml"]) as cluster:
        environment = {"DAVIT_TEST_KUBECONFIG": str(cluster.kubeconfig), "DAVIT_TEST_NETWORK": "10.77",
                       "DAVIT_TEST_AUDIT": str(cluster.folder / "audit.log"),
                       "DAVIT_TEST_PIDS": ",".join(str(process.pid) for process in cluster.processes)}
        command = cluster.namespace.command([sys.executable, __file__, *arguments])
        return subprocess.run(command, env={**os.environ, **environment}).returncode


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", help=f"of {', '.join(scenarios.ALL)} (default: {' '.join(scenarios.DEFAULT)})")
    parser.add_argument("--adapters", type=int, default=1000)
    parser.add_argument("--pods", type=int, default=10)
    parser.add_argument("--delay-ms", type=int, default=50, help="of each load in the scenario `slow`")
    parser.add_argument("--rest-seconds", type=int, default=60)
    parser.add_argument("--hang-seconds", type=int, default=300, help="to wait for the other pods")
    parser.add_argument("--scale-adapters", type=int, default=10000)
    parser.add_argument("--scale-pods", type=int, default=500)
    parser.add_argument("--poll-seconds", type=float, default=3)
    parser.add_argument("--reference", help="path of the reference's controller manager")
    parser.add_argument("--api", choices=("embedded", "kubernetes"), default="embedded")
    parser.add_argument("--keep", metavar="DIR", help="leave logs there")
    options = parser.parse_args()
    unknown = set(options.scenarios) - set(scenarios.ALL)
    if unknown:
        parser.error(f"no such scenario: {', '.join(unknown)}")
    subjects = [Davit(), *([Reference(options.reference)] if options.reference else [])]
    with tempfile.TemporaryDirectory(prefix="davit-bench-") as scratch:
        folder = Path(options.keep or scratch)
        if options.api == "kubernetes" and "DAVIT_TEST_KUBECONFIG" not in os.environ:
            return run_on_kubernetes(folder / "kubernetes", sys.argv[1:])
        print(f"{machine()}, {'a real' if 'DAVIT_TEST_KUBECONFIG' in os.environ else 'the embedded'} API server", flush=True)
        runs = 0
        for name in options.scenarios or scenarios.DEFAULT:
            tables = {}
            for subject in subjects:
                def open_run(pods, subject=subject, **more):
                    nonlocal runs
                    runs += 1
                    return Run(subject, folder / f"{runs:02}-{name}-{subject.name if subject else 'nobody'}", options, pods, **more)
                for title, rows in scenarios.ALL[name](open_run, options):
                    tables.setdefault(title, {})[subject.name] = rows
                    if len(tables[title]) == len(subjects):
                        print_table(title, tables[title])
    return 0


if __name__ == "__main__":
    sys.exit(main())
