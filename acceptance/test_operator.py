"""What an operator does, and does wrong: stops, other databases, lost keys, metrics."""

import json
import signal
import socket
import subprocess

import pytest
import requests

from support.backend import Backend
from support.raw import connect
from support.server import Server, binary


def refused_start(server, *arguments):
    """Starts the server's data folder with other arguments; what it says when it refuses."""
    command = [binary(), "serve", "--data-dir", str(server.data_dir), "--api-addr", "127.0.0.1:0"]
    command += ["--mqtt-addr", "127.0.0.1:0", *arguments]
    run = subprocess.run(command, env=server.environment, capture_output=True, text=True, timeout=20)
    assert run.returncode != 0
    return run.stderr


def create_key(*arguments):
    command = [binary(), "ram", "create-access-key", "--user", "alice", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=20)


@pytest.fixture
def stopped(own_server):
    """A server with a package, stopped; and the package's id."""
    server = own_server()
    backend = Backend(server)
    firmware_id = backend.package(backend.product())
    server.stop()
    return server, firmware_id


def works_as_before(server, firmware_id):
    server.start()
    url = Backend(server).firmware(firmware_id).firmware_url
    return requests.get(url, timeout=10).content == b"new firmware"


def test_a_start_with_another_database_is_refused_and_harms_nothing(stopped, tmp_path):
    server, firmware_id = stopped
    said = refused_start(server, "--database-url", f"sqlite:{tmp_path}/empty.db")
    assert "missing or empty" in said and str(server.data_dir) in said
    assert works_as_before(server, firmware_id)


def test_a_start_with_another_installations_folder_is_refused(stopped, tmp_path):
    server, firmware_id = stopped
    other = Server(tmp_path / "other")
    other.start()
    other.stop()
    database = server.database_url
    assert "master key" in refused_start(other, "--database-url", database)
    key = server.data_dir / "master.key"
    said = refused_start(other, "--database-url", database, "--master-key-file", str(key))
    assert "another database" in said
    assert works_as_before(server, firmware_id)


def test_a_lost_master_key_is_missed_not_replaced(stopped):
    server, firmware_id = stopped
    key = server.data_dir / "master.key"
    content = key.read_text()
    key.unlink()
    assert "restore" in refused_start(server)
    assert not key.exists()
    key.write_text("0" * 64)
    assert "not the master key" in refused_start(server)
    key.write_text(content)
    assert works_as_before(server, firmware_id)


@pytest.mark.sqlite
def test_keys_are_made_only_where_a_server_is(own_server, tmp_path):
    made = create_key("--data-dir", tmp_path / "nothing")
    assert made.returncode != 0 and "no database" in made.stderr
    assert not (tmp_path / "nothing").exists()

    key_file = tmp_path / "kept-elsewhere.key"
    key_file.write_text("ab" * 32)
    server = own_server(master_key_file=key_file)
    made = create_key("--data-dir", server.data_dir, "--master-key-file", key_file)
    key = json.loads(made.stdout)
    assert Backend(server, (key["AccessKeyId"], key["AccessKeySecret"])).product()
    assert create_key("--data-dir", server.data_dir).returncode != 0, "without the key nothing can be sealed"


def test_a_second_server_on_the_same_database_is_refused(own_server, tmp_path):
    server = own_server()
    other = Server(tmp_path / "other")
    said = refused_start(other, "--database-url", server.database_url)
    assert "another updraft serves this database" in said


def test_the_data_folder_is_the_owners_alone(own_server):
    server = own_server()
    assert server.data_dir.stat().st_mode & 0o077 == 0
    for secret in ("master.key", "root-access-key.json"):
        assert (server.data_dir / secret).stat().st_mode & 0o077 == 0


def test_silent_connections_do_not_hold_up_a_stop(own_server):
    server = own_server(drain_seconds=2)
    with connect(server.mqtt), connect(server.api):
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=5) == 0


def test_metrics_may_have_an_address_of_their_own(own_server):
    with free_port() as free:
        address = "127.0.0.1:%d" % free.getsockname()[1]
    server = own_server(metrics_addr=address)
    Backend(server).product()
    text = requests.get(f"http://{address}/anything", timeout=10).text
    assert 'updraft_api_calls_total{operation="CreateProduct",outcome="ok"} 1' in text
    assert requests.get(f"http://{server.api}/metrics", timeout=10).status_code == 404


def free_port():
    free = socket.socket()
    free.bind(("127.0.0.1", 0))
    return free


def test_every_key_is_documented_by_the_program():
    text = subprocess.run([binary(), "config"], capture_output=True, text=True, timeout=10).stdout
    help_text = subprocess.run([binary(), "serve", "--help"], capture_output=True, text=True, timeout=10).stdout
    keys = [line.split(" = ")[0].removeprefix("# ") for line in text.splitlines() if " = " in line]
    assert len(keys) > 20
    for key in keys:
        assert f"--{key.replace('_', '-')}" in help_text
        assert f"UPDRAFT_{key.upper()}" in help_text
