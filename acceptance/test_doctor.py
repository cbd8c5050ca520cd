"""`updraft doctor`: what it finds where all is well, and where something is broken."""

import contextlib
import json
import os
import sqlite3
import subprocess

import pytest

from support.raw import connect
from support.server import Server, binary


def doctor(server, *arguments, returncode=0):
    command = [binary(), "doctor", "--json", "--data-dir", str(server.data_dir)]
    command += ["--api-addr", server.api, "--mqtt-addr", server.mqtt, *map(str, arguments)]
    run = subprocess.run(command, env=server.environment, capture_output=True, text=True, timeout=60)
    report = json.loads(run.stdout)
    assert run.returncode == returncode, run.stdout
    assert report["broken"] == bool(returncode)
    for found in report["findings"]:
        assert found["level"] == "ok" or (found["what"] and found["why"] and found["action"])
    return report["findings"]


def finding(findings, check):
    """The worst finding of a check."""
    return max((f for f in findings if f["check"] == check), key=lambda f: ["ok", "warning", "broken"].index(f["level"]))


def snapshot(folder):
    return {
        str(path.relative_to(folder)): (path.stat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in folder.rglob("*")
        # SQLite's index of its log, in memory that its users share.
        if not path.name.endswith("-shm")
    }


def test_the_doctor_finds_a_healthy_server_healthy(own_server):
    server = own_server()
    findings = doctor(server)
    assert finding(findings, "server")["what"].startswith("it is ready")
    assert "running server's" in finding(findings, "MQTT port")["what"]
    assert finding(findings, "master key")["level"] == "ok"
    assert "sound" in finding(findings, "database")["what"]
    server.stop()
    before = snapshot(server.data_dir)
    findings = doctor(server)
    assert finding(findings, "API port")["what"].endswith("is free")
    assert snapshot(server.data_dir) == before, "it changes nothing"
    table = subprocess.run(
        [binary(), "doctor", "--data-dir", str(server.data_dir), "--api-addr", server.api, "--mqtt-addr", server.mqtt],
        env=server.environment, capture_output=True, text=True, timeout=60,
    )
    assert table.returncode == 0 and " 0 broken" in table.stdout


@pytest.mark.sqlite
def test_the_doctor_finds_what_is_broken(own_server, tmp_path):
    server = own_server()
    taken = Server(tmp_path / "other")
    with connect(server.api):
        taken.api, taken.mqtt = server.api, "127.0.0.1:0"
        assert finding(doctor(taken, returncode=1), "API port")["level"] == "broken"
    assert not taken.data_dir.exists()
    server.stop()

    key = server.data_dir / "master.key"
    content = key.read_text()
    key.write_text("0" * 64)
    assert "not the key" in finding(doctor(server, returncode=1), "master key")["what"]
    key.unlink()
    assert finding(doctor(server, returncode=1), "master key")["level"] == "broken"
    key.write_text(content)
    key.chmod(0o644)
    assert "master.key" in finding(doctor(server, returncode=1), "secrets")["what"]
    key.chmod(0o600)

    bad = doctor(server, "--tls-cert", key, "--tls-key", key, returncode=1)
    assert finding(bad, "certificate")["level"] == "broken"
    bad = doctor(server, "--public-url", "http://0.0.0.0", returncode=1)
    assert finding(bad, "public url")["level"] == "broken"
    bad = doctor(server, "--log-format", "verse", returncode=1)
    assert "log_format" in finding(bad, "configuration")["what"]
    bad = doctor(server, "--database-url", "postgres://nobody@127.0.0.1:1/none", returncode=1)
    assert finding(bad, "database")["level"] == "broken"

    run = server.data_dir / "run.json"
    run.write_text("{}")
    os.utime(run, (4_000_000_000, 4_000_000_000))
    assert finding(doctor(server, returncode=1), "clock")["level"] == "broken"
    run.unlink()

    database = server.data_dir / "updraft.db"
    with database.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(3 * 4096))
    assert finding(doctor(server, returncode=1), "database")["level"] == "broken"


@pytest.mark.sqlite
def test_the_doctor_knows_a_newer_schema(own_server):
    server = own_server()
    server.stop()
    with contextlib.closing(sqlite3.connect(server.data_dir / "updraft.db")) as database:
        database.execute("INSERT INTO migration (number, checksum) VALUES (999, 'of the future')")
        database.commit()
    assert "999" in finding(doctor(server, returncode=1), "database")["what"]
