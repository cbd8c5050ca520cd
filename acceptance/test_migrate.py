"""A server's way from SQLite to PostgreSQL, in the middle of a batch."""

import json
import signal
import sqlite3
import subprocess

import pytest

from support.backend import Backend
from support.postgres import Postgres
from support.server import Server, binary
from support.waiting import wait_for

OLD, NEW = "1.0.0", "2.0.0"
# Enough that a migration can be caught in the middle of them.
AUDIT_LINES = 200_000


@pytest.fixture
def postgres(tmp_path):
    """A PostgreSQL of the test's own."""
    cluster = Postgres(tmp_path / "postgres")
    yield cluster
    cluster.crash()


def lists(server, job_id):
    """Everything that the command line lists, as it stands in a stopped server's database."""
    told = [server.admin(what, "list", "--json", "--limit", "0") for what in ("product", "device", "firmware", "job")]
    return [*told, server.admin("task", "list", job_id, "--json"), server.admin("audit", "--limit", "50", "--json")]


def fill(data_dir):
    """Adds lines to the audit log of a stopped server."""
    database = sqlite3.connect(data_dir / "updraft.db")
    with database:
        database.execute(
            """WITH RECURSIVE line (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM line WHERE n < ?)
               INSERT INTO audit (at, account, instance, action, outcome, subject)
               SELECT 1700000000000 + n, 'somebody', '', 'QueryProduct', 'ok', 'Größe ' || n FROM line""",
            (AUDIT_LINES,),
        )
    database.close()


def test_a_fleet_goes_on_where_it_was(own_server, fleet, postgres, tmp_path):
    server = own_server()
    backend = Backend(server)
    product_key = backend.product()
    away, working, done = identities = backend.devices(product_key, 3)
    devices = [fleet.javascript(working, server, hold=True), fleet.javascript(done, server)]
    backend.wait_ready(OLD, working, done)
    firmware_id = backend.package(product_key, NEW)
    job_id = backend.batch(product_key, firmware_id, *identities)
    devices[0].wait("holding")
    backend.wait_task(job_id, working, "IN_PROGRESS")
    backend.wait_task(job_id, done, "SUCCEEDED")

    migrate = ["migrate", "--to", postgres.url]
    assert "another updraft serves" in server.refuses(*migrate)
    for device in devices:
        device.stop()
    for identity in (working, done):
        wait_for(lambda: backend.detail(identity).status, lambda status: status == "OFFLINE")
    server.stop()
    fill(server.data_dir)
    before = lists(server, job_id)
    database = (server.data_dir / "updraft.db").read_bytes()

    # Killed in the middle.
    command = [binary(), *migrate, "--data-dir", str(server.data_dir)]
    killed = subprocess.Popen(command, env=server.environment)
    lines = "SELECT CASE WHEN to_regclass('audit') IS NULL THEN 0 ELSE 1 END"
    wait_for(lambda: postgres.query(lines) == [("1",)])
    wait_for(lambda: int(postgres.query("SELECT COUNT(*) FROM audit")[0][0]) > 0)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert 0 < int(postgres.query("SELECT COUNT(*) FROM audit")[0][0]) < AUDIT_LINES
    unfinished = ("--database-url", postgres.url)
    assert "a migration that has not ended" in server.refuses("product", "list", *unfinished)
    served = server.command("serve", *unfinished)
    assert served.returncode == 1 and "a migration that has not ended" in served.stderr
    report = json.loads(server.command("doctor", "--json", *unfinished).stdout)
    assert "a migration that has not ended" in json.dumps(report)
    assert "not every row" in server.refuses(*migrate, "--verify-only")

    # What was there is not brought again.
    ended = server.command(*migrate)
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert (told["begun"], told["copied"] < told["rows"]) == ("resumed", True)
    assert f"--data-dir {server.data_dir} --database-url postgres://" in ended.stderr
    assert "holds this installation already" in server.refuses(*migrate)
    assert json.loads(server.admin(*migrate, "--verify-only"))["tables"] == told["tables"]
    assert (server.data_dir / "updraft.db").read_bytes() == database

    # The same lists, and devices that go on.
    moved = Server(server.data_dir, quota_scale=0, database_url=postgres.url)
    assert lists(moved, job_id) == before
    moved.api, moved.mqtt = server.api, server.mqtt
    try:
        moved.start()
        backend = Backend(moved)
        for identity in (away, working):
            fleet.javascript(identity, moved)
        assert backend.wait_ended(firmware_id, job_id).job_status == "COMPLETE"
        assert {task.task_status for task in backend.tasks(job_id).values()} == {"SUCCEEDED"}
        # New rows have numbers of their own, and files are where they were.
        newcomer = backend.device(product_key)
        fleet.javascript(newcomer, moved)
        backend.wait_ready(OLD, newcomer)
        after = backend.batch(product_key, firmware_id, newcomer)
        assert backend.wait_ended(firmware_id, after).job_status == "COMPLETE"
    finally:
        moved.kill()
    # The way back: the old database, as it was left.
    assert lists(server, job_id) == before


def test_what_cannot_be_moved_is_refused(own_server, postgres):
    server = own_server()
    server.stop()
    to = ("migrate", "--to", postgres.url)
    assert "must be a PostgreSQL database" in server.refuses("migrate", "--to", "sqlite:elsewhere.db")
    assert "is in PostgreSQL already" in server.refuses(*to, "--database-url", postgres.url)
    assert "there is no database at" in server.refuses(*to, "--database-url", "sqlite:/nowhere/updraft.db")
    # Another server's database is nobody's to fill.
    other = own_server(database_url=postgres.url)
    assert "another updraft serves this database" in server.refuses(*to)
    other.stop()
    assert "belongs to another installation" in server.refuses(*to)
