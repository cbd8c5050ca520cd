"""Several nodes on one PostgreSQL database: one system for back ends and devices, whichever node they meet."""

import concurrent.futures
import json
import threading
import time

import pytest
from alibabacloud_tea_openapi.exceptions import ServerException
from support.backend import Backend, unique
from support.nodes import Front
from support.server import Server
from support.signed import Caller
from support.waiting import wait_for

OLD, NEW = "1.0.0", "2.0.0"


@pytest.fixture
def three(make_nodes):
    """Three nodes that do everything."""
    nodes = make_nodes()
    for name in ("one", "two", "three"):
        nodes.start(name)
    return nodes


def backend_of(nodes, name):
    return Backend(nodes.nodes[name], key=nodes.root_key())


def test_a_batch_made_at_one_node_updates_the_devices_of_all(three, fleet):
    backend = backend_of(three, "one")
    product_key = backend.product()
    identities = backend.devices(product_key, 3)
    devices = [
        fleet.python(identity, three.nodes[name], version=OLD)
        for identity, name in zip(identities, ("one", "two", "three"))
    ]
    backend.wait_ready(OLD, *identities)
    firmware_id = backend.package(product_key, NEW, b"for everybody" * 1_000)
    job_id = backend_of(three, "two").batch(product_key, firmware_id)
    for identity, device in zip(identities, devices):
        device.wait("downloaded", ok=True)
        backend.wait_task(job_id, identity, "SUCCEEDED")
    assert backend_of(three, "three").wait_ended(firmware_id, job_id).job_status == "COMPLETE"
    assert all(len(device.all("push")) == 1 for device in devices), "each is told once"


def test_a_device_that_logs_in_elsewhere_is_logged_out_here(three, fleet):
    backend = backend_of(three, "one")
    product_key = backend.product()
    identity = backend.device(product_key)
    first = fleet.plain("paho", identity, three.nodes["one"])
    first.wait("connected")
    backend.wait_online(identity)
    second = fleet.plain("paho", identity, three.nodes["two"])
    second.wait("connected")
    taken_over = 0x8E
    assert first.wait("disconnected")["code"] == taken_over
    first.stop()
    # The end of the first login is written now, and the device stays online.
    other = backend.device(product_key)
    fleet.plain("paho", other, three.nodes["one"]).wait("connected")
    backend.wait_online(other)
    assert backend.detail(identity).status == "ONLINE"


def test_a_device_that_is_disabled_at_one_node_is_sent_away_by_another(three, fleet):
    backend = backend_of(three, "one")
    product_key = backend.product()
    identity = backend.device(product_key)
    device = fleet.plain("paho", identity, three.nodes["three"])
    device.wait("connected")
    backend.wait_online(identity)
    backend.ok("DisableThing", product_key=product_key, device_name=identity.name)
    device.wait("disconnected")


@pytest.mark.parametrize("dies", ["leader", "other"])
def test_when_a_node_is_killed_the_others_go_on(three, fleet, dies):
    leader = three.leader()
    others = [node for node in three.nodes.values() if node is not leader]
    victim, witness = (leader, others[0]) if dies == "leader" else (others[0], leader)
    third = next(node for node in three.nodes.values() if node not in (victim, witness))
    key = three.root_key()
    backend = Backend(witness, key=key)
    product_key = backend.product()
    here, away, silent = backend.devices(product_key, 3)
    fleet.python(here, witness, version=OLD)
    moving = fleet.python(away, victim, version=OLD)
    fleet.plain("paho", silent, victim).wait("connected")
    backend.wait_ready(OLD, here, away)
    backend.wait_online(silent)
    firmware_id = backend.package(product_key, NEW)
    victim.kill()
    killed = time.monotonic()
    job_id = backend.batch(product_key, firmware_id)
    moving.stop()
    fleet.python(away, third, version=OLD)
    backend.wait_task(job_id, here, "SUCCEEDED")
    backend.wait_task(job_id, away, "SUCCEEDED")
    # Who did not come back is offline once the node is given up: a lease and the beats around it.
    wait_for(lambda: backend.detail(silent).status, lambda status: status == "OFFLINE", timeout=15)
    assert time.monotonic() - killed < 15
    assert len(three.known()) == 2
    # It comes back as another node, and serves.
    victim.start()
    wait_for(three.known, lambda known: len(known) == 3)
    fleet.python(silent, victim, version=OLD)
    backend.wait_task(job_id, silent, "SUCCEEDED")
    assert backend.wait_ended(firmware_id, job_id).job_status == "COMPLETE"


def test_a_node_that_stood_still_lets_its_devices_go_and_joins_anew(three, fleet):
    backend = backend_of(three, "one")
    product_key = backend.product()
    identity = backend.device(product_key)
    device = fleet.plain("paho", identity, three.nodes["two"])
    device.wait("connected")
    backend.wait_online(identity)
    process = three.nodes["two"].process
    process.send_signal(19)  # SIGSTOP: the machine is suspended, say
    try:
        wait_for(lambda: backend.detail(identity).status, lambda status: status == "OFFLINE", timeout=15)
        assert three.known() == ["one", "three"]
    finally:
        process.send_signal(18)
    device.wait("disconnected")
    wait_for(three.known, lambda known: len(known) == 3)
    fleet.plain("paho", identity, three.nodes["two"]).wait("connected")
    backend.wait_online(identity)


def test_calls_and_nonces_count_for_all_nodes_together(make_nodes):
    nodes = make_nodes(quota_scale=1)
    servers = [nodes.start(name) for name in ("one", "two", "three")]
    key = nodes.root_key()
    callers = [Caller(server, key=key) for server in servers]
    fields = {"FirmwareId": "none", "PageSize": "10", "CurrentPage": "1"}
    moments = []
    lock = threading.Lock()

    def ask(caller):
        began = time.monotonic()
        answer = caller.call("ListOTAJobByFirmware", fields).json
        if answer["Code"] != "Throttling.User":
            with lock:
                moments.append((began, time.monotonic()))

    end = time.monotonic() + 3
    with concurrent.futures.ThreadPoolExecutor(9) as pool:
        def loop(caller):
            while time.monotonic() < end:
                ask(caller)

        for work in [pool.submit(loop, caller) for caller in callers * 3]:
            work.result()
    # In any second at most ten: of eleven in a row the last was answered a second after the first was asked.
    moments.sort()
    assert len(moments) >= 25, "the quota is used"
    for (began, _), (_, ended) in zip(moments, moments[10:]):
        assert ended - began >= 1, "eleven calls within a second"

    request = "/?" + callers[0].query("QueryProduct", {"ProductKey": "none"})
    assert callers[0].send("GET", request).json["Code"] != "SignatureNonceUsed"
    assert callers[1].send("GET", request).json["Code"] == "SignatureNonceUsed"


def test_a_rolling_restart_fails_no_call_and_loses_no_device(make_nodes, fleet):
    nodes = make_nodes(drain_delay_seconds=1, product_max=1_000_000)
    servers = [nodes.start(name) for name in ("one", "two", "three")]
    front = Front(servers)
    backend = Backend(front, key=nodes.root_key())
    product_key = backend.product()
    identities = backend.devices(product_key, 4)
    running = [fleet.python(identity, front, version=OLD) for identity in identities]
    backend.wait_ready(OLD, *identities)
    stopped = threading.Event()
    answered = []

    def keep_calling():
        while not stopped.is_set():
            backend.product(unique("rolling"))
            answered.append(time.monotonic())

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        work = [pool.submit(keep_calling) for _ in range(2)]
        try:
            for server in servers:
                server.stop()
                server.start()
        finally:
            stopped.set()
        for one in work:
            one.result()  # the first failed call fails the test here
    assert len(answered) > 20
    assert len(nodes.known()) == 3
    backend.wait_online(*identities)
    firmware_id = backend.package(product_key, NEW)
    job_id = backend.batch(product_key, firmware_id)
    for identity in identities:
        backend.wait_task(job_id, identity, "SUCCEEDED")
    assert all(len(device.all("push")) == 1 for device in running)
    front.close()


def test_each_node_does_its_part_of_the_work(make_nodes, fleet):
    nodes = make_nodes()
    api = nodes.start("api", role="api")
    worker = nodes.start("worker", role="worker")
    gateway = nodes.start("gateway", role="gateway")
    assert api.mqtt is None and worker.mqtt is None
    backend = Backend(api, key=nodes.root_key())
    product_key = backend.product()
    identity = backend.device(product_key)
    device = fleet.python(identity, gateway, version=OLD)
    backend.wait_ready(OLD, identity)
    firmware_id = backend.package(product_key, NEW)
    job_id = backend.batch(product_key, firmware_id)
    # It downloads from the node that it is connected to.
    assert gateway.api in device.wait("push")["url"]
    backend.wait_task(job_id, identity, "SUCCEEDED")
    refused = Caller(gateway, key=nodes.root_key()).call("QueryProduct", {"ProductKey": product_key})
    assert refused.status == 404 and refused.xml.findtext("Code") == "InvalidApi.NotFound"


def test_the_database_server_restarts_and_everybody_goes_on(three, fleet):
    backend = backend_of(three, "one")
    product_key = backend.product()
    identities = backend.devices(product_key, 2)
    devices = [fleet.plain("paho", identity, three.nodes[name]) for identity, name in zip(identities, ("one", "two"))]
    for device in devices:
        device.wait("connected")
    backend.wait_online(*identities)
    numbers = three.postgres.query("SELECT id FROM serving_node ORDER BY id")
    three.postgres.crash()
    three.postgres.start()

    def states():
        # Each of a node's connections finds out by itself that the database is back.
        try:
            return {backend.detail(identity).status for identity in identities}
        except ServerException as error:
            assert error.status_code == 503, error

    wait_for(states, lambda seen: seen == {"ONLINE"})
    assert three.postgres.query("SELECT id FROM serving_node ORDER BY id") == numbers, "nobody was given up"
    assert not any(device.all("disconnected") for device in devices)


def test_a_server_that_keeps_its_files_to_itself_shares_no_database(three, tmp_path):
    alone = {name: value for name, value in three.settings.items() if name != "blobs_url"}
    server = Server(tmp_path / "alone", **alone)
    with pytest.raises(AssertionError, match="another updraft serves this database"):
        server.start()
    server.kill()


def test_an_operator_sees_the_nodes_and_their_devices(make_nodes, fleet):
    nodes = make_nodes()
    api = nodes.start("api", role="api")
    gateway = nodes.start("gateway", role="gateway")
    backend = Backend(api, key=nodes.root_key())
    product_key = backend.product()
    identity = backend.device(product_key)
    fleet.plain("paho", identity, gateway).wait("connected")
    backend.wait_online(identity)

    def listed():
        out = api.command("node", "list", "--json").stdout
        return [json.loads(line) for line in out.splitlines()]

    seen = [(node["Name"], node["Role"], node["DevicesOnline"]) for node in listed()]
    assert seen == [("api", "api", 0), ("gateway", "gateway", 1)]
    assert all(node["Release"] and node["UtcSince"] for node in listed())
    numbers = [str(node["Node"]) for node in listed()]
    lines = api.command("node", "list").stdout.splitlines()
    assert lines[0].split() == ["Node", "Name", "Role", "UtcSince", "Release", "DevicesOnline"]
    assert [line.split()[0] for line in lines[1:]] == numbers
    gateway.stop()
    assert [node["Name"] for node in listed()] == ["api"], "who leaves is listed no more"
