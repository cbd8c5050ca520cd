"""PostgreSQL that restarts, crashes, hangs or is full of clients: nothing acknowledged is lost, nobody is sent away."""

import concurrent.futures
import contextlib
import tempfile

import pytest
import requests

from support.backend import Backend, unique
from support.postgres import Postgres
from support.server import Server
from support.waiting import wait_for
from test_presence import log_in

PUBLISH_QOS1, PUBACK = 0x32, b"\x40\x02"


@pytest.fixture
def postgres():
    """Makes clusters that a test may break."""
    with contextlib.ExitStack() as ends:

        def make(**settings):
            folder = ends.enter_context(tempfile.TemporaryDirectory(prefix="updraft-"))
            made = Postgres(f"{folder}/cluster", **settings)
            ends.callback(made.end)
            return made

        yield make


@pytest.fixture
def world(postgres, own_server):
    """A server on a PostgreSQL of its own, and a back end."""

    def make(**settings):
        database = postgres(**settings)
        server = own_server(database_url=database.url)
        return database, server, Backend(server)

    return make


def text(value):
    return len(value).to_bytes(2, "big") + value.encode()


class Device:
    """A connection that reports versions at QoS 1 and tells which were acknowledged."""

    def __init__(self, server, identity):
        self.identity, self.packet = identity, 0
        self.wire, answer = log_in(server, identity)
        assert answer[0] == 0x20 and answer[3] == 0, answer
        self.wire.settimeout(60)

    def report(self, version):
        """Sends a report and does not wait."""
        self.packet += 1
        topic = text(f"/ota/device/inform/{self.identity.product_key}/{self.identity.name}")
        payload = f'{{"id":"{self.packet}","params":{{"version":"{version}"}}}}'.encode()
        body = topic + self.packet.to_bytes(2, "big") + payload
        head = bytes([PUBLISH_QOS1, len(body) % 128 | 128, len(body) // 128])
        self.wire.sendall(head + body)

    def acknowledged(self):
        """Waits for the acknowledgement of the last report; an end of the connection is a failure."""
        said = self.wire.recv(4)
        assert said == PUBACK + self.packet.to_bytes(2, "big"), said


def devices(server, backend, count):
    made = [Device(server, identity) for identity in backend.devices(backend.product(), count)]
    backend.wait_online(*(device.identity for device in made))
    return made


def ready(server):
    return requests.get(f"http://{server.api}/readyz", timeout=60).status_code == 200


def register(backend, product_key, name):
    """Registers a device; whether that was answered with a success, and if not, with which code."""
    try:
        body = backend.call("RegisterDevice", product_key=product_key, device_name=name)
    except Exception as refused:  # the SDK's own for answers of 503
        assert getattr(refused, "code", "") == "ServiceUnavailable", refused
        return False
    return bool(body.success)


def names(backend, product_key):
    """Every device of a product."""
    found, page = [], 1
    while True:
        body = backend.ok("QueryDevice", product_key=product_key, page_size=50, current_page=page)
        found += [device.device_name for device in body.data.device_info or []]
        if len(found) >= body.total:
            return found
        page += 1


@pytest.mark.parametrize("end", ["fast", "crash"])
def test_a_restart_loses_nothing_and_sends_nobody_away(world, end):
    postgres, server, backend = world()
    fleet = devices(server, backend, 5)
    product_key = backend.product()
    answered, stop = {}, []

    def calls(worker):
        mine = Backend(server)
        while not stop:
            name = unique(f"w{worker}")
            answered[name] = register(mine, product_key, name)

    with concurrent.futures.ThreadPoolExecutor() as workers:
        busy = [workers.submit(calls, worker) for worker in range(3)]
        try:
            for round_ in range(3):
                wait_for(lambda: sum(answered.values()) > 5 * (round_ + 1))
                postgres.stop() if end == "fast" else postgres.crash()
                for device in fleet:
                    device.report(f"1.0.{round_}")
                wait_for(lambda: not ready(server))
                postgres.start()
                for device in fleet:
                    device.acknowledged()
                wait_for(lambda: ready(server))
                count = len(answered)
                wait_for(lambda: any(list(answered.values())[count:]))
        finally:
            stop.append(True)
        for worker in busy:
            worker.result()

    stored = names(backend, product_key)
    assert len(stored) == len(set(stored))
    # What became of each commit was looked up: a refusal is as sure as a success.
    assert set(stored) == {name for name, success in answered.items() if success}
    for device in fleet:
        assert backend.detail(device.identity).firmware_version == "1.0.2"
        assert backend.detail(device.identity).status == "ONLINE"


def test_a_database_that_hangs_is_waited_for(world):
    postgres, server, backend = world()
    (device,) = devices(server, backend, 1)
    product_key = backend.product()
    with concurrent.futures.ThreadPoolExecutor() as workers:
        postgres.pause()
        try:
            device.report("1.0.1")
            waiting = workers.submit(register, backend, product_key, "patient")
            # Long enough for anything that only looked like waiting.
            with pytest.raises(concurrent.futures.TimeoutError):
                waiting.result(timeout=6)
        finally:
            postgres.resume()
        assert waiting.result(timeout=30)
    device.acknowledged()
    assert names(backend, product_key) == ["patient"]


def test_a_database_full_of_clients_is_waited_for(world):
    postgres, server, backend = world(max_connections=20)
    (device,) = devices(server, backend, 1)
    with postgres.crowd() as push:

        def refused():
            push()
            return not ready(server)

        wait_for(refused, every=0.5)
        assert "too many clients" in requests.get(f"http://{server.api}/readyz", timeout=60).text
        device.report("1.0.1")
        assert server.process.poll() is None
    device.acknowledged()
    wait_for(lambda: ready(server))
    backend.product()


def test_a_database_learns_soon_from_its_only_server_that_a_table_has_grown(world):
    postgres, _, backend = world()
    product_key = backend.product()
    backend.ok("BatchRegisterDevice", product_key=product_key, count=2_000)
    # PostgreSQL's own look, up to a minute later, is its last_autoanalyze.
    look = "SELECT count(last_analyze) FROM pg_stat_user_tables WHERE relname = 'device'"
    wait_for(lambda: postgres.query(look), until=[("1",)].__eq__)


def test_a_server_stops_in_time_while_its_database_is_away(world):
    postgres, server, backend = world()
    devices(server, backend, 3)
    postgres.crash()
    server.stop()


def test_a_start_without_the_database_says_what_is_wrong(tmp_path):
    for url, words in {
        "postgres://updraft:geheim@127.0.0.1:1/updraft": "Connection refused",
        "postgres://updraft:geheim@127.0.0.1/updraft?sslmode=verify-full": "sslrootcert=PATH",
        "postgres://updraft:geheim@127.0.0.1/updraft?ssl_mode=require": "unknown option `ssl_mode`",
    }.items():
        server = Server(tmp_path / unique("data"), database_url=url)
        done = server.command("serve", "--api-addr", "127.0.0.1:0", "--mqtt-addr", "127.0.0.1:0")
        said = done.stdout + done.stderr
        assert done.returncode != 0 and words in said and "geheim" not in said, said
