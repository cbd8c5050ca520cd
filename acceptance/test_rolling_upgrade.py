"""Nodes are upgraded one after another, and programs of two releases work on one database meanwhile.

`UPDRAFT_BEFORE=path` is the program of the release before, which is upgraded to the one under test. Without it the
program under test is upgraded to itself: the steps and the checks are the same, the schema stays.
"""

import concurrent.futures
import contextlib
import json
import os
import threading

import pytest
from outages.checks import bad_lines, rows
from support.backend import Backend, unique
from support.nodes import Front
from support.server import binary
from support.waiting import wait_for

OLD, NEW = "1.0.0", "2.0.0"
BEFORE = os.environ.get("UPDRAFT_BEFORE", binary())
# The least that a batch may have: one device in six seconds.
PER_MINUTE = 10


def upgrade(server, program):
    """One step: an orderly stop, and a start with the other program."""
    server.stop()
    server.program = program
    server.start()


@contextlib.contextmanager
def calling(backend):
    """Back ends that write and read all the time; the first call that fails fails the test in the end."""
    stopped, answered = threading.Event(), []

    def call():
        while not stopped.is_set():
            product_key = backend.product(unique("upgraded"))
            backend.ok("QueryProduct", product_key=product_key)
            answered.append(product_key)

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        work = [pool.submit(call) for _ in range(3)]
        try:
            yield answered
        finally:
            stopped.set()
        for one in work:
            one.result()


def test_a_rolling_upgrade_fails_no_call_and_updates_each_device_once(make_nodes, fleet):
    nodes = make_nodes(drain_delay_seconds=3, product_max=1_000_000)
    servers = [nodes.start(name, program=BEFORE) for name in ("one", "two", "three")]
    front = Front(servers)
    backend = Backend(front, key=nodes.root_key())
    product_key = backend.product()
    identities = backend.devices(product_key, 8)
    for identity in identities:
        fleet.python(identity, front, version=OLD)
    backend.wait_ready(OLD, *identities)
    firmware_id = backend.package(product_key, NEW, b"for everybody" * 10_000)
    job_id = backend.batch(product_key, firmware_id, maximum_per_minute=PER_MINUTE)

    def queued():
        return sum(task.task_status == "QUEUED" for task in backend.tasks(job_id).values())

    wait_for(queued, lambda count: count == len(identities) - 1)
    with calling(backend) as answered:
        upgrade(servers[0], binary())
        # One of the release before ends and comes back in the middle, on what the new one made of the schema.
        upgrade(servers[1], BEFORE)
        upgrade(servers[1], binary())
        upgrade(servers[2], binary())
        assert queued() > 0, "the batch runs all the time"
        seen = len(answered)
        wait_for(lambda: len(answered), lambda count: count > seen + 10)
    assert seen > 20
    assert nodes.known() == ["one", "three", "two"]
    assert backend.wait_ended(firmware_id, job_id, timeout=90).job_status == "COMPLETE"
    states = {task.task_status for task in backend.tasks(job_id).values()}
    assert states == {"SUCCEEDED"} and len(backend.tasks(job_id)) == len(identities)
    assert not rows(nodes.postgres.query), "each task was told once and ended once"
    made = {key for (key,) in nodes.postgres.query("SELECT product_key FROM product")}
    assert made.issuperset(answered), "what was acknowledged is there"
    for server in servers:
        assert not bad_lines(server.log), server.log
    front.close()


def declare(nodes, oldest_able):
    """Says in the database, as a release to come would, which programs may work on it; what is there by now."""
    known = int(nodes.postgres.query("SELECT MAX(number) FROM migration")[0][0])
    column = "INSERT INTO migration (number, checksum, oldest_able) VALUES"
    # COPY of a query takes one that writes, if it returns something.
    nodes.postgres.query(f"{column} ({known + 1}, 'of the future', {known + oldest_able}) RETURNING number")
    return known


def test_a_node_starts_again_on_a_newer_schema_that_lets_it(make_nodes):
    nodes = make_nodes()
    one, two = nodes.start("one"), nodes.start("two")
    backend = Backend(one, key=nodes.root_key())
    known = declare(nodes, oldest_able=0)
    product_key = backend.product()
    upgrade(two, binary())
    assert Backend(two, key=nodes.root_key()).ok("QueryProduct", product_key=product_key)
    assert [line.split()[1] for line in two.admin("node", "list").splitlines()[1:]] == ["one", "two"]
    report = json.loads(two.command("doctor", "--json").stdout)
    (database,) = (finding for finding in report["findings"] if finding["check"] == "database")
    assert database["level"] == "warning" and f"schema {known + 1}" in database["what"], database


def test_a_node_that_is_too_old_goes_on_and_starts_no_more(make_nodes):
    nodes = make_nodes()
    one, two = nodes.start("one"), nodes.start("two")
    backend = Backend(one, key=nodes.root_key())
    known = declare(nodes, oldest_able=1)
    backend.product()
    two.stop()
    with pytest.raises(AssertionError, match=f"works that knows schema {known + 1}"):
        two.start()
    two.kill()
    assert "start the newer release, or restore a backup" in two.refuses("node", "list")
