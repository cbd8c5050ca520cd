"""Disks that are full or read-only, at the start and under a running server, and clocks that are set back."""

import errno
import hashlib
import hmac
import json
import sqlite3
import subprocess
import threading

import paho.mqtt.client as mqtt
import pytest
import requests

from support.backend import Backend, upload
from support.server import Server, binary
from support.waiting import wait_for
from support.world import World, may_mount, small_disk, squeezed

pytestmark = pytest.mark.sqlite

FULL, READ_ONLY = errno.ENOSPC, errno.EROFS


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


@pytest.fixture
def started(world, tmp_path):
    """Starts servers in that world, which end with the test."""
    servers = []

    def start(data_dir=None, **settings):
        server = Server(data_dir or tmp_path / f"data{len(servers)}", quota_scale=0, **settings)
        server.environment |= world.environment
        server.log = tmp_path / f"log{len(servers)}"
        servers.append(server)
        return server.start()

    yield start
    for server in servers:
        server.kill()


class Device:
    """A device on paho that reports at QoS 1 and hears what is acknowledged."""

    def __init__(self, identity, server):
        self.identity, self.acknowledged, self.lost = identity, set(), 0
        content = f"clientIddiskdeviceName{identity.name}productKey{identity.product_key}"
        self.client = mqtt.Client("disk|securemode=3,signmethod=hmacsha1,_ss=1|")
        password = hmac.new(identity.secret.encode(), content.encode(), hashlib.sha1).hexdigest()
        self.client.username_pw_set(f"{identity.name}&{identity.product_key}", password)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_publish = lambda _client, _data, mid: self.acknowledged.add(mid)
        self.client.on_disconnect = self._gone
        self.client.connect(server.mqtt_host, server.mqtt_port)
        self.client.loop_start()

    def _gone(self, *_):
        self.lost += 1

    def report(self, version):
        topic = f"/ota/device/inform/{self.identity.product_key}/{self.identity.name}"
        return self.client.publish(topic, json.dumps({"id": "1", "params": {"version": version}}), qos=1).mid

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


def ready(server):
    return requests.get(f"http://{server.api}/readyz", timeout=5)


def metrics(server):
    return requests.get(f"http://{server.api}/metrics", timeout=5).text


@pytest.mark.parametrize(("error", "words"), [(FULL, "the disk is full"), (READ_ONLY, "not available")])
def test_a_disk_that_takes_no_writes_costs_nothing_acknowledged_and_is_recovered_from_alone(
    started, world, error, words
):
    server = started()
    backend = Backend(server)
    product = backend.product()
    silent, talking = (Device(identity, server) for identity in backend.devices(product, 2))
    backend.wait_online(silent.identity, talking.identity)
    ticket = backend.ticket()
    try:
        with world.writes_fail(error):
            with pytest.raises(Exception, match="ServiceUnavailable"):
                backend.product()
            wait_for(lambda: "updraft_database_writable 0" in metrics(server))
            assert ready(server).status_code == 503 and words in ready(server).text
            refused = upload(ticket, b"content")
            assert refused.status_code in (503, 507), refused.text
            report = talking.report("2.0.0")
            # A full disk may stay so; what may be over in a moment is waited for, and nobody is sent away.
            if error == FULL:
                wait_for(lambda: talking.lost)
            # What only reads goes on.
            assert backend.detail(silent.identity).status == "ONLINE"
            assert talking.acknowledged == set()
        wait_for(lambda: ready(server).status_code == 200)
        assert "updraft_database_writable 1" in metrics(server)
        wait_for(lambda: report in talking.acknowledged)
        assert (talking.lost > 0) == (error == FULL)
        assert upload(ticket, b"content").status_code == 200
        made = backend.product()
        assert silent.lost == 0, "who asks for nothing stays connected"
    finally:
        silent.close()
        talking.close()
    server.kill()
    log = server.log.read_text()
    assert log.count("the database takes no writes") == log.count("the database takes writes again") == 1
    server.start()
    backend = Backend(server)
    assert backend.detail(talking.identity).firmware_version == "2.0.0"
    assert backend.ok("QueryProduct", product_key=made).data.product_key == made


@pytest.mark.parametrize(("error", "words"), [(FULL, "the disk is full"), (READ_ONLY, "read-only")])
def test_a_start_on_a_disk_that_takes_no_writes_says_so(started, world, error, words):
    server = started()
    server.kill()
    before = {path.name: path.read_bytes() for path in server.data_dir.iterdir() if path.name.startswith("updraft.db")}
    with world.writes_fail(error):
        ports = ["--api-addr", server.api, "--mqtt-addr", server.mqtt]
        refused = server.command("serve", *ports)
    assert refused.returncode == 1 and words in refused.stderr and str(server.data_dir) in refused.stderr
    after = {path.name: path.read_bytes() for path in server.data_dir.iterdir() if path.name.startswith("updraft.db")}
    assert before == after
    server.start()


@pytest.mark.skipif(not may_mount(), reason="needs to mount a small disk; the tests above do without")
def test_a_small_disk_that_fills_under_load_loses_nothing(tmp_path, started):
    (tmp_path / "disk").mkdir()
    with small_disk(tmp_path / "disk", 256) as disk:
        server = started(disk / "data", disk_reserve_bytes=2_000_000)
        backend = Backend(server)
        product = backend.product()
        made, refusals, enough = [], [], threading.Event()

        def register():
            registrar = Backend(server)
            while not enough.is_set():
                try:
                    made.append(registrar.device(product).name)
                except Exception as refused:
                    refusals.append(str(refused))

        workers = [threading.Thread(target=register) for _ in range(3)]
        for worker in workers:
            worker.start()
        try:
            wait_for(lambda: len(made) > 20)
            ticket = backend.ticket()
            with squeezed(disk, 0):
                assert upload(ticket, bytes(100_000)).status_code == 507
                wait_for(lambda: refusals and ready(server).status_code == 503)
            wait_for(lambda: ready(server).status_code == 200)
            before = len(made)
            wait_for(lambda: len(made) > before + 10)
        finally:
            enough.set()
            for worker in workers:
                worker.join()
        assert all("ServiceUnavailable" in refused for refused in refusals), refusals[:3]
        server.kill()
        with sqlite3.connect(f"file:{server.data_dir}/updraft.db?mode=ro", uri=True) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            there = {name for (name,) in database.execute("SELECT name FROM device")}
        assert set(made) <= there
        with squeezed(disk, 0):
            ports = ["--api-addr", server.api, "--mqtt-addr", server.mqtt]
            refused = server.command("serve", *ports)
            assert refused.returncode == 1 and "the disk is full" in refused.stderr
        server.start()
        server.stop()


def test_backups_on_a_full_disk_or_cut_short_are_no_backups(started, world, tmp_path):
    server = started()
    backend = Backend(server)
    backend.package(backend.product(), content=bytes(300_000))
    with world.writes_fail(FULL):
        refused = server.command("backup", str(tmp_path / "full"))
        assert refused.returncode == 1 and "full" in refused.stderr.lower() or "No space" in refused.stderr
    command = [binary(), "backup", "--data-dir", str(server.data_dir)]
    finished = 0
    for number in range(6):
        folder = tmp_path / f"cut{number}"
        taking = subprocess.Popen([*command, str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            taking.wait(timeout=0.02 * number)
        except subprocess.TimeoutExpired:
            taking.kill()
            taking.wait()
        check = server.command("restore", "--check", str(folder))
        finished += check.returncode == 0
        assert check.returncode == 0 or "no backup, or one that was not finished" in check.stderr, check.stderr
    whole = server.command("backup", str(tmp_path / "whole"))
    assert whole.returncode == 0, whole.stderr
    restored = tmp_path / "restored"
    command = [binary(), "restore", str(tmp_path / "whole"), "--data-dir", str(restored)]
    with world.writes_fail(FULL):
        refused = subprocess.run(command, env=server.environment, capture_output=True, text=True, timeout=30)
    assert refused.returncode == 1 and list(restored.iterdir()) == [], refused.stderr
    done = subprocess.run(command, env=server.environment, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


def test_a_clock_that_is_set_back_fires_nothing_twice_and_stops_nothing(started, world):
    server = started()
    backend = Backend(server)
    product = backend.product()
    identities = backend.devices(product, 2)
    devices = [Device(identity, server) for identity in identities]
    try:
        for device in devices:
            device.report("1.0.0")
        backend.wait_ready("1.0.0", *identities)
        job = backend.batch(product, backend.package(product), *identities, timeout_in_minutes=60)
        for identity in identities:
            backend.wait_task(job, identity, "NOTIFIED")
        for how in ("while it runs", "before a start"):
            if how == "before a start":
                server.kill()
            world.set_clock(-3_600)
            if how == "before a start":
                server.start()
            # Calls are signed by a clock that is an hour ahead of the server's: refused by name.
            with pytest.raises(Exception, match="InvalidTimeStamp"):
                backend.product()
            report = devices[0].report("1.0.0")
            wait_for(lambda: report in devices[0].acknowledged)
            world.set_clock(0)
            assert {task.task_status for task in backend.tasks(job).values()} == {"NOTIFIED"}
        world.set_clock(-3_600)
        doctor = json.loads(server.command("doctor", "--json").stdout)
        (clock,) = (found for found in doctor["findings"] if found["check"] == "clock")
        assert clock["level"] == "broken" and "behind" in clock["what"]
        # A batch that is made by the earlier clock goes its way by it; the operator's clock is the server's.
        made = server.admin("api", "RegisterDevice", f"ProductKey={product}", "DeviceName=later-one")
        assert json.loads(made)["Success"] is True
        for device in devices:
            device.report("2.0.0")
        world.set_clock(0)
        for identity in identities:
            backend.wait_task(job, identity, "SUCCEEDED")
        assert backend.job(job).job_status == "COMPLETED"
    finally:
        for device in devices:
            device.close()
