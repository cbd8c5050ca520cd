"""Files of a data folder that are not what was written: refused in clear words, and left as they are."""

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess

import pytest
import requests

from support.backend import Backend
from support.server import Server, binary
from support.waiting import wait_for

pytestmark = pytest.mark.sqlite

PAGE = 4096


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The data folder of a server that was killed, with a log that holds more than the file."""
    server = Server(tmp_path_factory.mktemp("killed") / "data", quota_scale=0).start()
    try:
        backend = Backend(server)
        server.stop()
        server.start()
        backend = Backend(server)
        product = backend.product()
        backend.devices(product, 5)
        backend.batch(product, backend.package(product), *backend.devices(product, 2))
    finally:
        server.kill()
    assert (server.data_dir / "updraft.db-wal").stat().st_size > 10 * PAGE
    return server.data_dir


@pytest.fixture
def folder(killed, tmp_path):
    """A copy of it to be damaged."""
    shutil.copytree(killed, tmp_path / "data")
    return tmp_path / "data"


def updraft(*arguments):
    done = subprocess.run(
        [binary(), *map(str, arguments)],
        env={name: value for name, value in os.environ.items() if not name.startswith("UPDRAFT_")},
        capture_output=True, text=True, timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


def serve(folder):
    ports = ["--api-addr", "127.0.0.1:0", "--mqtt-addr", "127.0.0.1:0", "--mqtt-tls-addr", ""]
    return updraft("serve", "--data-dir", folder, *ports)


def content(folder):
    """What is in the database's files and beside them; the index that SQLite's users share is none of it."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(("-shm", "lock"))
    }


def merged(folder):
    """Puts the log into the file, as an orderly stop does."""
    with contextlib.closing(sqlite3.connect(folder / "updraft.db")) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def overwritten(path, at, with_what):
    with path.open("r+b") as file:
        file.seek(at)
        file.write(with_what)


def flipped(path, at):
    byte = path.read_bytes()[at]
    overwritten(path, at, bytes([byte ^ 0xFF]))


def root_page(folder, kind, table):
    """Where the first page of a table, or of one of its indexes, is in the file."""
    with contextlib.closing(sqlite3.connect(folder / "updraft.db")) as database:
        sql = "SELECT rootpage FROM sqlite_schema WHERE type = ? AND tbl_name = ?"
        (page,) = database.execute(sql, [kind, table]).fetchone()
    return (page - 1) * PAGE


def truncated(bytes_left):
    return lambda folder: os.truncate(folder / "updraft.db", bytes_left)


def cut_log_in_its_middle(folder):
    flipped(folder / "updraft.db-wal", 32 + 24 + 7)


def foreign_log(folder):
    """A log of another database of the same schema, whose commits fit its own file only."""
    other = Server(folder.parent / "other", quota_scale=0).start()
    other.kill()
    shutil.copy(other.data_dir / "updraft.db-wal", folder / "updraft.db-wal")


def page_of(kind, table):
    def damage(folder):
        merged(folder)
        overwritten(folder / "updraft.db", root_page(folder, kind, table), os.urandom(200))

    return damage


DAMAGES = {
    "cut to a header": truncated(100),
    "cut to less than a header": truncated(50),
    "cut to a page": truncated(PAGE),
    "cut within a page": truncated(7 * PAGE + 1000),
    "half": lambda folder: os.truncate(folder / "updraft.db", (folder / "updraft.db").stat().st_size // 2),
    "empty": truncated(0),
    "gone": lambda folder: (folder / "updraft.db").unlink(),
    "something else": lambda folder: (folder / "updraft.db").write_text("this is no database\n" * 1000),
    "random bytes": lambda folder: (folder / "updraft.db").write_bytes(os.urandom(40 * PAGE)),
    "bad magic": lambda folder: flipped(folder / "updraft.db", 3),
    "bad page size": lambda folder: flipped(folder / "updraft.db", 16),
    "schema page": lambda folder: (merged(folder), overwritten(folder / "updraft.db", 100, os.urandom(300))),
    "small table": page_of("table", "account"),
    "large table": page_of("table", "device"),
    "index": page_of("index", "device"),
    "damaged log": cut_log_in_its_middle,
    "damaged log header": lambda folder: flipped(folder / "updraft.db-wal", 18),
    "foreign log": foreign_log,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_database_is_refused_by_every_command_and_left_as_it_is(folder, damage, tmp_path):
    damage(folder)
    before = content(folder)
    for command in (serve, lambda folder: updraft("product", "list", "--data-dir", folder)):
        code, said, errors = command(folder)
        assert (code, said) == (1, ""), errors
        assert errors.splitlines()[-1].startswith("updraft: "), errors
        assert "restore" in errors or "belongs to another database" in errors, errors
        assert content(folder) == before
    code, said, _ = updraft("doctor", "--json", "--data-dir", folder)
    assert code == 1 and json.loads(said)["broken"]
    assert updraft("backup", tmp_path / "backup", "--data-dir", folder)[0] == 1
    assert not (tmp_path / "backup" / "backup.json").exists()
    assert content(folder) == before


def test_other_files_of_a_data_folder_that_are_damaged_are_named(folder):
    for name, words in {
        "master.key": "is not a master key",
        "installation": "restore it from a backup",
    }.items():
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])
        before = content(folder)
        code, _, errors = serve(folder)
        assert code == 1 and name in errors and words in errors, errors
        assert content(folder)["updraft.db"] == before["updraft.db"] and content(folder)[name] == before[name]
        (folder / name).write_bytes(whole)


def test_a_file_that_lost_bytes_is_served_to_nobody(own_server):
    server = own_server()
    backend = Backend(server)
    firmware = backend.package(backend.product(), content=bytes(100_000))
    url = backend.firmware(firmware).firmware_url
    assert requests.get(url, timeout=10).content == bytes(100_000)
    (blob,) = (path for path in (server.data_dir / "blobs").rglob("*") if path.is_file())
    os.truncate(blob, 50_000)
    for headers in ({}, {"Range": "bytes=0-99"}):
        assert requests.get(url, headers=headers, timeout=10).status_code == 404
    assert "it has 50000 bytes and had 100000" in server.log.read_text()


def overwritten_pages(folder):
    for kind in ("table", "index"):
        overwritten(folder / "updraft.db", root_page(folder, kind, "product"), os.urandom(2000))


def cut_off(folder):
    os.truncate(folder / "updraft.db", 30 * PAGE)


@pytest.mark.parametrize("damage", [overwritten_pages, cut_off])
def test_damage_that_is_found_while_the_server_runs_ends_all_writing(own_server, damage):
    server = own_server()
    backend = Backend(server)
    product = backend.product()
    backend.devices(product, 3)
    # Stopped and started: everything is in the file, and nothing of it in memory.
    server.stop()
    server.start()
    assert requests.get(f"http://{server.api}/readyz", timeout=5).status_code == 200
    damage(server.data_dir)
    with pytest.raises(Exception, match="ServiceUnavailable"):
        backend.product()
    ready = requests.get(f"http://{server.api}/readyz", timeout=5)
    assert ready.status_code == 503 and "damaged" in ready.text and "restore" in ready.text
    # Also what would touch other pages only.
    with pytest.raises(Exception, match="ServiceUnavailable"):
        backend.ok("GenerateOTAUploadURL")
    wait_for(lambda: "updraft_database_writable 0" in requests.get(f"http://{server.api}/metrics", timeout=5).text)
    assert server.log.read_text().count("the database takes no writes") == 1
    server.stop()
    code, _, errors = serve(server.data_dir)
    assert code == 1 and "restore" in errors
