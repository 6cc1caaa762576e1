"""kill -9 of the controller in a churn: small here, a thousand adapters by `make test-churn`."""

import os
import random

import pytest
from churn import run
from churn_judge import Change, Pod, Records, judge

SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(10**6))


def test_killed_in_a_churn(tmp_path, api_server):
    run(tmp_path, api_server, SEED, strikes=4, adapters=60)


def test_leaders_killed_and_frozen_in_a_churn(tmp_path, api_server):
    run(tmp_path, api_server, SEED, strikes=4, adapters=40, pods=4, spares=2, controllers=2, rate=30)


# ---- the judge itself ----

def event(call, began, ended, path="/v1", status=200):
    return {"call": call, "began": began, "ended": ended, "address": "x", "name": "a", "status": status, "path": path}


def slice_event(at, pods, kind="MODIFIED"):
    return at, kind, {"metadata": {"name": "a", "uid": "s", "ownerReferences": [{"uid": "u"}]},
                      "endpoints": [{"addresses": ["x"], "targetRef": {"uid": pod}} for pod in pods]}


GOOD = [event("load", 1, 2), event("generate", 2, 3)]
JUDGED = {
    "true": (GOOD, [(4, ["p"])], None),
    "not held": ([], [(4, ["p"])], "not held"),
    "not proved": ([event("load", 1, 2)], [(4, ["p"])], "without a proof"),
    "proof after": ([event("load", 1, 2), event("generate", 2, 5)], [(4, ["p"])], "without a proof"),
    "proof of others": ([*GOOD, event("unload", 3.1, 3.2), event("load", 3.3, 3.4)], [(4, ["p"])], "without a proof"),
    "refused": ([event("load", 1, 2, status=400), event("generate", 2, 3)], [(4, ["p"])], "not held"),
    "unwanted": ([event("load", 1, 2, "/v0"), event("generate", 2, 3)], [(4, ["p"])], "not wanted"),
    "unloaded under it": ([*GOOD, event("unload", 5, 6)], [(4, ["p"]), (5.5, [])], "unload"),
    "unloaded after": ([*GOOD, event("unload", 6, 7)], [(4, ["p"]), (5.5, [])], None),
    "replaced under it": ([*GOOD, event("load", 5, 6)], [(4, ["p"])], "load"),
    "after its pod": ([*GOOD, event("unload", 11, 12)], [(4, ["p"])], None),
}


@pytest.mark.parametrize("case", JUDGED)
def test_the_judge(case):
    events, slices, problem = JUDGED[case]
    records = Records(events, [slice_event(at, pods) for at, pods in slices], [Change(0, 0.1, "u", "/v1")], [Pod("p", "p", "x", 0, 10)])
    problems = judge(records).problems
    assert [problem in text for text in problems] == ([True] if problem else []), problems
