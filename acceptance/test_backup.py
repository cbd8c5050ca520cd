"""A backup of a server under use, and the life of what is restored from it."""

import json
import subprocess
import threading

import pytest

from support.backend import Backend
from support.server import Server, binary
from support.waiting import wait_for

pytestmark = pytest.mark.sqlite

OLD, NEW = "1.0.0", "2.0.0"


def command(*arguments):
    """Runs updraft; its answer and what it said."""
    done = subprocess.run([binary(), *map(str, arguments)], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def started():
    """Starts servers that end with the test."""
    servers = []

    def start(server):
        servers.append(server)
        return server.start()

    yield start
    for server in servers:
        server.kill()


def test_a_backup_taken_under_use_becomes_a_server_that_goes_on(own_server, fleet, tmp_path, started):
    server = own_server()
    backend = Backend(server)
    product_key = backend.product()
    away, working = backend.devices(product_key, 2)
    device = fleet.javascript(working, server, hold=True)
    backend.wait_ready(OLD, working)
    firmware_id = backend.package(product_key, NEW)
    job_id = backend.batch(product_key, firmware_id, away, working)
    device.wait("holding")
    backend.wait_task(job_id, working, "IN_PROGRESS")

    # Somebody registers devices all the while.
    registered, enough = [], threading.Event()

    def register():
        while not enough.is_set():
            registered.append(backend.device(product_key))

    writer = threading.Thread(target=register)
    writer.start()
    try:
        wait_for(lambda: len(registered) > 3)
        before = list(registered)
        code, said, errors = command("backup", "--data-dir", server.data_dir, tmp_path / "backup")
    finally:
        enough.set()
        writer.join()
    assert code == 0, errors
    assert json.loads(said)["damaged"] == []
    assert command("restore", "--check", tmp_path / "backup")[0] == 0
    device.stop()
    server.kill()

    restored = Server(tmp_path / "restored", quota_scale=0)
    code, said, errors = command("restore", tmp_path / "backup", "--data-dir", restored.data_dir)
    assert code == 0, errors
    assert json.loads(said)["folder"] == str(restored.data_dir)
    started(restored)
    # Keys, the certificate that devices trust, batches, tasks and secrets are those of before.
    assert (restored.data_dir / "tls/ca.pem").read_text() == (server.data_dir / "tls/ca.pem").read_text()
    backend = Backend(restored, server.root_key())
    assert {name: task.task_status for name, task in backend.tasks(job_id).items()} == {
        away.name: "QUEUED",
        working.name: "IN_PROGRESS",
    }
    assert all(backend.detail(identity).device_secret == identity.secret for identity in before)
    for identity in (away, working):
        fleet.python(identity, restored)
    assert backend.wait_ended(firmware_id, job_id).job_status == "COMPLETE"
    assert {task.task_status for task in backend.tasks(job_id).values()} == {"SUCCEEDED"}


def test_a_damaged_backup_is_refused_and_makes_no_server(own_server, tmp_path):
    server = own_server()
    backup, restored = tmp_path / "backup", tmp_path / "restored"
    assert command("backup", "--data-dir", server.data_dir, backup)[0] == 0
    database = bytearray((backup / "updraft.db").read_bytes())
    database[len(database) // 2] ^= 1
    (backup / "updraft.db").write_bytes(database)
    for arguments in (["--check"], ["--data-dir", restored]):
        code, said, errors = command("restore", backup, *arguments)
        assert (code, said) == (1, "")
        assert "updraft.db is damaged: it is not what was backed up" in errors
    assert list(restored.iterdir()) == []
    # A folder that is in use is nobody's to overwrite.
    code, _, errors = command("restore", backup, "--data-dir", server.data_dir)
    assert code == 1 and "is not empty" in errors
