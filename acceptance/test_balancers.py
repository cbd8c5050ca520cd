"""Nodes behind the load balancers of deploy/: calls and devices pass through, and nodes that drain are left alone."""

import json
import threading

import pytest
from support.backend import Backend
from support.deployed import BALANCER, Front, free_ports, installed
from support.nodes import Nodes
from support.waiting import wait_for

OLD, NEW = "1.0.0", "2.0.0"


@pytest.fixture
def behind(tmp_path):
    """Makes three nodes behind a balancer, for one test."""
    made = []

    def make(kind, **settings):
        if not installed(kind):
            pytest.skip(f"{kind} is not installed")
        ports = free_ports()
        public = f"http://127.0.0.1:{ports['8080']}"
        nodes = Nodes(tmp_path / "nodes", proxy_protocol_from=BALANCER, public_url=public, **settings)
        made.append(nodes.end)
        servers = [nodes.start(name) for name in ("node1", "node2", "node3")]
        front = Front(kind, servers, tmp_path, ports)
        made.append(front.close)
        return nodes, front

    yield make
    for end in reversed(made):
        end()


def online_at(nodes, witness):
    """How many devices are online at each node, by name."""
    out = nodes.nodes[witness].admin("node", "list", "--json")
    return {node["Name"]: node["DevicesOnline"] for node in map(json.loads, out.splitlines())}


@pytest.mark.parametrize("kind", ["haproxy", "nginx"])
def test_calls_and_devices_pass_through(behind, fleet, kind):
    nodes, front = behind(kind)
    backend = Backend(front, key=nodes.root_key())
    product_key = backend.product()
    identities = backend.devices(product_key, 3)
    devices = [fleet.python(identity, front, version=OLD) for identity in identities]
    backend.wait_ready(OLD, *identities)
    assert {backend.detail(identity).ip_address for identity in identities} == {"127.0.0.1"}, "not the balancer's"
    wait_for(lambda: sorted(online_at(nodes, "node1").values()), lambda counts: counts == [1, 1, 1])
    firmware_id = backend.package(product_key, NEW, b"through a balancer" * 1_000)
    job_id = backend.batch(product_key, firmware_id)
    for identity, device in zip(identities, devices):
        assert front.api in device.wait("push")["url"]
        device.wait("downloaded", ok=True)
        backend.wait_task(job_id, identity, "SUCCEEDED")
    # A node that is gone costs nobody a call.
    nodes.nodes["node3"].kill()
    for _ in range(12):
        assert backend.call("QueryProduct", product_key=product_key).success


def test_a_node_that_drains_gets_no_new_connections(behind, fleet):
    nodes, front = behind("haproxy", drain_delay_seconds=8)
    backend = Backend(front, key=nodes.root_key())
    product_key = backend.product()
    node = nodes.nodes["node2"]
    stop = threading.Thread(target=node.stop)
    stop.start()
    try:
        for group in ("api", "mqtt", "mqtt_tls"):
            wait_for(lambda: front.has_said(f"Server {group}/node2 is DOWN"))
        # It serves still, and nobody is sent there.
        assert stop.is_alive() and online_at(nodes, "node1")["node2"] == 0
        identities = backend.devices(product_key, 4)
        for identity in identities:
            fleet.plain("paho", identity, front).wait("connected")
        backend.wait_online(*identities)
        counts = online_at(nodes, "node1")
        assert counts == {"node1": 2, "node2": 0, "node3": 2}
    finally:
        stop.join()
    assert sorted(online_at(nodes, "node1")) == ["node1", "node3"]
    node.start()
    wait_for(lambda: front.has_said("Server mqtt/node2 is UP"))
    newcomer = backend.device(product_key)
    fleet.plain("paho", newcomer, front).wait("connected")
    backend.wait_online(newcomer)
    assert online_at(nodes, "node1")["node2"] == 1, "the node with the fewest connections"
