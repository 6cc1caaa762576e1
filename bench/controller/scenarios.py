"""The scenarios: each takes (open a run, options) and yields tables: (title, rows), as they are ready."""

import json
import statistics
import time

from run import memory_mib

TIMEOUT_SECONDS = 1200


def apply(open_run, options, delay_ms=0):
    """Every adapter on every pod, from the first create to all served."""
    settings = {"faults": {"load": {"delay_ms": delay_ms}}}
    with open_run(options.pods, settings=settings) as run:
        yield f"apply: {sizes_of(options)}, loads {f'{delay_ms} ms' if delay_ms else 'instant'}", apply_in(run, options)
        steps = written_by(run)
    if not delay_ms:
        yield from floor(open_run, options, steps)


def sizes_of(options):
    return f"{options.adapters:,} adapters x {options.pods} pods"


def apply_in(run, options):
    adapters, copies = options.adapters, options.adapters * options.pods
    before = run.meter()
    created = run.create(adapters)
    ready = run.driver.wait("ready", TIMEOUT_SECONDS, at_least=adapters)
    loaded = run.wait_loaded(adapters, copies, TIMEOUT_SECONDS)
    cpu = {name: spent - before["cpu"][name] for name, spent in run.spent().items()}
    run.settle()
    return {"created in, s": created["ended"] - created["began"], "all Ready after, s": seconds(ready, created["began"]),
            "all loaded after, s": seconds(loaded, created["began"]), "controller CPU until then, s": cpu["controller"],
            "all parties' CPU until then, s": sum(cpu.values()), **run.since(before, adapters)}


def written_by(run):
    """What the controller wrote for one adapter, as steps of the driver; of the status, which has grown, its beginning and its end."""
    name = f"a-{0:05}"
    made = {kind: run.api.get(kind, name) for kind in ("modeladapters", "services", "endpointslices")}
    events = [event for event in run.api.list("events")["items"] if event["involvedObject"]["kind"] == "ModelAdapter"]
    adapter, status = made["modeladapters"], made["modeladapters"]["status"]
    begun = {**{key: value for key, value in status.items() if key not in ("loads", "instances")}, "phase": "Pending"}
    steps = [{"verb": "create", "body": run.adapter()},
             {"verb": "patch", "body": {"metadata": {"finalizers": adapter["metadata"]["finalizers"]}}},
             {"verb": "create", "resource": "services", "body": as_sent(made["services"])},
             {"verb": "patch", "subresource": "status", "body": {"status": begun}},
             {"verb": "create", "resource": "endpointslices", "body": as_sent(made["endpointslices"])},
             {"verb": "patch", "subresource": "status", "body": {"status": status}},
             *({"verb": "create", "resource": "events", "body": event_of(event)} for event in events[:1])]
    text = json.dumps(steps).replace(adapter["metadata"]["uid"], "@UID@").replace(name, "@NAME@").replace(run.namespace, "@NAMESPACE@")
    return json.loads(text)


def as_sent(item):
    """An object without what the API server adds; of a Service only what the controller decides."""
    metadata = {key: value for key, value in item["metadata"].items() if key in ("name", "labels", "ownerReferences")}
    spec = {key: value for key, value in item.get("spec", {}).items() if key in ("clusterIP", "ports", "publishNotReadyAddresses")}
    return {**item, "metadata": metadata, **({"spec": spec} if spec else {})}


def event_of(item):
    """An event of any adapter, as one of the adapter that is written."""
    about = {**item["involvedObject"], "name": "@NAME@", "uid": "@UID@"}
    return {**item, "apiVersion": "v1", "kind": "Event", "metadata": {"name": "@NAME@"}, "involvedObject": about}


def floor(open_run, options, steps):
    """The same writes, from a client that does nothing else: no controller could be done earlier on this machine."""
    with open_run(options.pods, subject=None) as run:
        before = run.meter()
        here = json.loads(json.dumps(steps).replace("@NAMESPACE@", run.namespace))
        written = run.write(options.adapters, *here)
        rows = {"all written after, s": written["ended"] - written["began"], "writes an adapter": len(steps), **run.since(before)}
        yield f"the same writes by a client that only writes: {options.adapters:,} adapters", rows


def seconds(at, since):
    return at - since if at is not None else None


def apply_slowly(open_run, options):
    yield from apply(open_run, options, delay_ms=options.delay_ms)


def life(open_run, options):
    """apply, rest, one engine forgets, delete: one after the other with the same adapters. Then the writes alone."""
    with open_run(options.pods) as run:
        yield f"apply: {sizes_of(options)}, loads instant", apply_in(run, options)
        steps = written_by(run)
        yield f"at rest for {options.rest_seconds} s: {sizes_of(options)}", rest_in(run, options)
        yield f"one engine forgets: {sizes_of(options)}", forget_in(run, options)
        yield f"delete: {sizes_of(options)}", delete_in(run, options)
    yield from floor(open_run, options, steps)


def rest_in(run, options):
    run.settle()
    before = run.meter()
    time.sleep(options.rest_seconds)
    rows = run.since(before)
    return {"controller CPU, % of a core": 100 * rows["controller CPU, s"] / options.rest_seconds,
            "RSS, MiB": memory_mib(run.controller.pid, "VmRSS"), **rows}


def forget_in(run, options):
    before, fallen = run.meter(), run.driver.do(do="counts")["fallen"]
    forgot = time.monotonic()
    run.fakes.order("forget", [run.addresses[0]])
    seen = all_seen = None
    if run.subject.has_fully_loaded:
        seen = run.driver.wait("fallen", 60, at_least=fallen + 1)
        all_seen = run.driver.wait("fallen", 60, at_least=fallen + options.adapters)
    while run.fakes.counts()["adapters"] < options.adapters * options.pods and time.monotonic() - forgot < TIMEOUT_SECONDS:
        time.sleep(0.02)
    held = time.monotonic()
    back = run.wait_loaded(options.adapters, options.adapters * options.pods, TIMEOUT_SECONDS)
    run.settle()
    return {"first status false after, s": seconds(seen, forgot), "all were false after, s": seconds(all_seen, forgot),
            "engine holds all after, s": held - forgot, "all loaded again after, s": seconds(back, forgot),
            **run.since(before, options.adapters)}


def delete_in(run, options):
    before = run.meter()
    deleted = run.write(options.adapters, {"verb": "delete"})
    gone = run.driver.wait("objects", TIMEOUT_SECONDS, at_most=0)
    rows = {"deleted in, s": deleted["ended"] - deleted["began"], "all gone after, s": seconds(gone, deleted["began"]),
            "left on engines": run.fakes.counts()["adapters"], **run.since(before)}
    rows.pop("writes in the store", None)  # objects that go take others with them
    return rows


def scale(open_run, options):
    """Many pods, each adapter on two of them; then at rest; then one pod is replaced."""
    sizes = f"{options.scale_adapters:,} adapters x {options.scale_pods} pods, each on 2"
    with open_run(options.scale_pods, spare=1) as run:
        before = run.meter()
        created = run.create(options.scale_adapters, replicas=2)
        ready = run.driver.wait("ready", TIMEOUT_SECONDS, at_least=options.scale_adapters)
        loaded = run.wait_loaded(options.scale_adapters, 2 * options.scale_adapters, TIMEOUT_SECONDS)
        run.settle()
        spread = [engine["adapters"] for address, engine in run.fakes.ask("GET", "engines")["engines"].items() if address in run.addresses]
        yield f"apply: {sizes}", {
            "created in, s": created["ended"] - created["began"], "all Ready after, s": seconds(ready, created["began"]),
            "all loaded after, s": seconds(loaded, created["began"]), "adapters a pod, fewest": min(spread),
            "adapters a pod, most": max(spread), **run.since(before, options.scale_adapters)}
        yield f"at rest for {options.rest_seconds} s: {sizes}", rest_in(run, options)
        yield f"one pod is replaced: {sizes}", replace_in(run, options)


def replace_in(run, options):
    name, address = next(iter(run.pods.items()))
    run.settle()
    before, held = run.meter(), set(run.fakes.adapters(address))
    start = run.fakes.ask("GET", "log?from=0")["next"]
    replaced = time.monotonic()
    run.api.delete("pods", name)
    run.add_pod("pod-new", run.spare[0])
    run.own_writes += 3
    copies = 2 * options.scale_adapters + len(held)  # those of the engine that no pod stands for any more are still counted
    loaded = run.wait_loaded(options.scale_adapters, copies, 120)
    run.settle()
    loads = run.fakes.events("load", start=start)
    unloads = [event for event in run.fakes.events("unload", start=start) if event["address"] != address]
    touched = {event["name"] for event in (*loads, *unloads)}
    return {"adapters of the pod": len(held), "all loaded again after, s": seconds(loaded, replaced), "adapters touched": len(touched),
            "  that were not the pod's": len(touched - held), "loads": len(loads), "unloads of others": len(unloads),
            **run.since(before, len(held))}


def hang(open_run, options):
    """One pod of several never answers: what that costs the adapters on the others."""
    rows = {}
    for hangs in (False, True):
        # Compared with the others alone: with ten that answer there would be a tenth more to do.
        with open_run(options.pods if hangs else options.pods - 1) as run:
            well = run.addresses[1:] if hangs else run.addresses
            if hangs:
                run.fakes.hang(run.addresses[0])
            created = run.create(options.adapters)
            call = "generate" if run.subject.has_fully_loaded else "load"
            done = wait_done(run, call, options.adapters, well)
            words = "one hangs" if hangs else "without it"
            rows[f"{words}: mean, s"] = statistics.mean(done) - created["began"] if done else None
            rows[f"{words}: last, s"] = max(done) - created["began"] if done else None
    if rows["one hangs: mean, s"] and rows["without it: mean, s"]:
        rows["mean is later by, %"] = 100 * (rows["one hangs: mean, s"] / rows["without it: mean, s"] - 1)
        rows["last is later by, %"] = 100 * (rows["one hangs: last, s"] / rows["without it: last, s"] - 1)
    yield f"1 of {options.pods} pods hangs: {options.adapters:,} adapters, served by the others", rows


def wait_done(run, call, adapters, addresses):
    """When each adapter was done with on each of the addresses; None when not in time."""
    deadline = time.monotonic() + run.options.hang_seconds
    wanted = adapters * len(addresses)
    while time.monotonic() < deadline:
        engines = run.fakes.ask("GET", "engines")["engines"]
        if sum(engines[address]["requests"][call] for address in addresses) >= wanted:
            return [event["ended"] for event in run.fakes.events(call) if event["address"] in addresses]
        time.sleep(0.1)
    return None


ALL = {"life": life, "apply": apply, "slow": apply_slowly, "scale": scale, "hang": hang}
DEFAULT = ("life", "slow", "scale", "hang")
