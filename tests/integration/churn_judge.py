"""Whether endpoints were true at every moment of a churn, from what was recorded: pure.

All times are of one CLOCK_MONOTONIC. What engines say is exact; what a watch saw happened somewhat before."""

from dataclasses import dataclass, field

WANTED_LAG_SECONDS = 5.0  # a write of the controller may be under way when the object changes
FOREVER = float("inf")


@dataclass
class Change:
    """The object `uid` has had this URL since some time between the two."""
    began: float
    ended: float
    uid: str
    url: str


@dataclass
class Pod:
    uid: str
    name: str
    address: str
    born: float
    died: float | None = None

    def end(self):
        return FOREVER if self.died is None else self.died


@dataclass
class Records:
    engine_events: list  # roles.Fakes.events()
    slice_events: list  # (time, type, object) of a watch
    changes: list
    pods: list


@dataclass
class Published:
    """A pod was an endpoint of an adapter from `since` until `until`."""
    name: str
    owner: str
    pod: str
    since: float
    until: float = FOREVER


@dataclass
class Verdict:
    published: int = 0
    problems: list = field(default_factory=list)


def endpoints_of(endpoint_slice):
    return {endpoint["targetRef"]["uid"] for endpoint in endpoint_slice.get("endpoints") or []
            if endpoint.get("conditions", {}).get("ready", True)}


def publications(slice_events):
    found, current = [], {}
    for at, kind, item in slice_events:
        meta = item["metadata"]
        owner = meta["ownerReferences"][0]["uid"]
        pods = endpoints_of(item) if kind != "DELETED" else set()
        known = current.setdefault(meta["uid"], {})
        for pod in known.keys() - pods:
            known.pop(pod).until = at
        for pod in pods - known.keys():
            known[pod] = Published(meta["name"].partition(".")[0], owner, pod, at)
            found.append(known[pod])
    return found


def was_wanted(changes, url, since, until):
    """Whether the object may have had this URL at some time between the two."""
    for i, change in enumerate(changes):
        end = changes[i + 1].ended if i + 1 < len(changes) else FOREVER
        if change.url == url and change.began <= until and end >= since:
            return True
    return False


def changes_weights(event):
    return event["call"] in ("load", "unload") and event["status"] in (0, 200)


def judge_one(published, pod, events, changes):
    """Why the endpoint should not have been there, or None. `events`: of this name at this pod's engine, in order."""
    before = [event for event in events if event["ended"] <= published.since and changes_weights(event)]
    if not before or before[-1]["call"] != "load":
        return "published and not held"
    load = before[-1]
    proofs = [event for event in events if event["call"] == "generate" and event["status"] == 200
              and event["began"] >= load["ended"] and event["ended"] <= published.since]
    if not proofs:
        return f"{load['path']} was published without a proof"
    if not was_wanted(changes, load["path"], published.since - WANTED_LAG_SECONDS, published.since):
        return f"{load['path']} was published, which was not wanted then"
    last = min(published.until, pod.end())
    for event in events:
        if changes_weights(event) and event["ended"] > published.since and event["began"] < last:
            return f"{event['call']} {event['began'] - published.since:.3f} s after it was published and {last - event['began']:.3f} s " \
                   "before it was out"
    return None


def judge(records):
    verdict = Verdict()
    pods = {pod.uid: pod for pod in records.pods}
    events, changes = {}, {}
    for event in records.engine_events:
        events.setdefault((event["address"], event["name"]), []).append(event)
    for change in records.changes:
        changes.setdefault(change.uid, []).append(change)
    for published in publications(records.slice_events):
        pod = pods[published.pod]
        its = [event for event in events.get((pod.address, published.name), [])
               if pod.born <= event["ended"] and event["began"] <= pod.end()]
        problem = judge_one(published, pod, its, changes.get(published.owner, []))
        verdict.published += 1
        if problem:
            verdict.problems.append(f"{published.name} on {pod.name} ({pod.address}) at {published.since:.3f}: {problem}")
    return verdict
