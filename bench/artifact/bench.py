#!/usr/bin/env python3
"""Fetching adapters from one server on loopback, side by side in one run: Davit, curl (the limit), boto3 and huggingface_hub.

    one file of 1 GiB   and 1,000 adapters of 2 MB each, into a folder in memory, where nothing waits for a disk, and on the disk
    the runtime         start, memory at rest, what it adds to a load, what becomes of an engine's refusal

Davit hashes what comes and has it on the disk (fsync) before it says that it is there; the others do neither, but for the rows that
say so. All fetch in turn, round after round; shown are medians, and of ratios the median of those within a round. Prints Markdown."""

import argparse
import contextlib
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

import contestants  # noqa: E402
import runtime  # noqa: E402
from store import Store, Weights  # noqa: E402


def machine():
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "?")
    commit = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    curl = subprocess.run(["curl", "--version"], capture_output=True, text=True).stdout.split()[1]
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    cores = len(os.sched_getaffinity(0))
    return (f"{time.strftime('%Y-%m-%d %H:%M')} UTC, commit {commit}, {cores} cores of {model}, Linux {platform.release()}, "
            f"load average {load}; curl {curl}, boto3 {version('boto3')}, huggingface_hub {version('huggingface_hub')}")


def fresh(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.sync()  # nobody pays for what another one left to be written
    return folder


def race(rows, url, out, names, rounds):
    """Samples of each row, round after round, each round begun by another one."""
    samples = {row: [] for row in rows}
    order = list(rows)
    for _ in range(rounds):
        for row in order:
            samples[row].append(rows[row](url, fresh(out), names))
        order = order[1:] + order[:1]
    shutil.rmtree(out, ignore_errors=True)
    return samples


def ratio(samples, row, base):
    """How much faster than `base`: the median over the rounds."""
    return statistics.median(b.seconds / own.seconds for own, b in zip(samples[row], samples[base], strict=True))


def show(title, samples, megabytes, adapters, bases):
    units = ["MB/s"] if adapters == 1 else ["adapters/s", "MB/s"]
    print(f"\n{title}\n\n| | {' | '.join([*units, *(f'x {base}' for base in bases), 'CPU s', 'MB resident'])} |")
    print("|---" * (len(units) + len(bases) + 3) + "|")
    for row, runs in samples.items():
        seconds = statistics.median(run.seconds for run in runs)
        cells = [*([] if adapters == 1 else [f"{adapters / seconds:.0f}"]), f"{megabytes / seconds:.0f}",
                 *(f"{ratio(samples, row, base):.2f}" for base in bases), f"{statistics.median(run.cpu for run in runs):.2f}",
                 f"{max(run.resident_mb for run in runs):.1f}"]
        print(f"| {row} | {' | '.join(cells)} |", flush=True)


def large(options, url, out, megabytes, is_on_disk):
    rows = {
        "curl -o": contestants.curl(),
        **({"curl -o, then sync": contestants.curl(sync=True)} if is_on_disk else {}),
        "davit pull": contestants.davit_pull(options.davit),
        "davit runtime": contestants.davit_runtime(options.davit, "http", 1),
        "boto3": contestants.python("boto3", 1),
        "huggingface_hub": contestants.python("hub", 1),
    }
    samples = race(rows, url, out, ["large"], options.rounds)
    show(f"One file of {megabytes:.0f} MB, {'on the disk' if is_on_disk else 'in memory (tmpfs)'}:", samples, megabytes, 1,
         [row for row in samples if row.startswith("curl")])


def small(options, url, out, names, megabytes, is_on_disk):
    rows = {"curl -Z, 4 at once": contestants.curl(parallel=4)}
    for at_once in (1, 4):
        rows |= {f"davit runtime, {scheme}, {at_once} at once": contestants.davit_runtime(options.davit, scheme, at_once)
                 for scheme in ("http", "s3", "hf")}
        rows |= {f"boto3, {at_once} at once": contestants.python("boto3", at_once),
                 f"huggingface_hub, {at_once} at once": contestants.python("hub", at_once)}
    samples = race(rows, url, out, names, options.small_rounds)
    show(f"{len(names):,} adapters of {megabytes / len(names):.0f} MB, {'on the disk' if is_on_disk else 'in memory (tmpfs)'}:", samples,
         megabytes, len(names), ["boto3, 1 at once", "boto3, 4 at once"])


def storages(options):
    """Folders to fetch into, and whether they are on a disk."""
    if not options.disk_only and os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free > 4 * options.bytes:
        yield "/dev/shm", False
    if not options.memory_only:
        yield options.scratch, True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--davit", default=str(ROOT / "build/release/davit"))
    parser.add_argument("--server", default=str(ROOT / "build/release/bench/artifact/bench_artifact_server"))
    parser.add_argument("--bytes", type=int, default=1 << 30, help="of the large file; 0 = leave it out")
    parser.add_argument("--adapters", type=int, default=1000, help="0 = leave them out")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small-rounds", type=int, default=3)
    parser.add_argument("--loads", type=int, default=300, help="to measure what the runtime adds to one; 0 = leave it out")
    parser.add_argument("--scratch", help="folder on the disk to write to (default: the temporary folder)")
    parser.add_argument("--memory-only", action="store_true")
    parser.add_argument("--disk-only", action="store_true")
    options = parser.parse_args()
    print(machine())
    with contextlib.ExitStack() as stack:
        folders = [(Path(stack.enter_context(tempfile.TemporaryDirectory(dir=place, prefix="davit-bench-"))), is_on_disk)
                   for place, is_on_disk in storages(options)]
        store = Store(folders[0][0] / "store")
        names = [str(i) for i in range(options.adapters)]
        if options.bytes:
            store.add("large", 0, Weights(options.bytes))
        weights = Weights(2_000_000)
        for number, name in enumerate([*names, "local"], 1):
            store.add(name, number, weights)
        server, url = store.serve(options.server)
        stack.callback(server.wait)
        stack.callback(server.kill)
        if options.loads:
            runtime.show(options, url, folders[0][0] / "out", store.folder / "local")
        for folder, is_on_disk in folders:
            if options.bytes:
                large(options, url, folder / "out", options.bytes / 1e6, is_on_disk)
            if names:
                small(options, url, folder / "out", names, len(names) * 2.0, is_on_disk)
    print(f"\nLoad average at the end: {' '.join(f'{value:.1f}' for value in os.getloadavg())}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
