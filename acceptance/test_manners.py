"""How a server treats strangers, slow clients, signals, certificates and its log."""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import threading

import pytest
import requests

from support.backend import Backend, upload
from support.raw import connect, read_answer
from support.server import Server, binary
from support.signed import Caller, code
from support.waiting import wait_for

NOT_EXEMPT = {"limit_exempt": ""}
TRY_LATER, BAD_LOGIN, WELCOME = b"\x20\x02\x00\x03", b"\x20\x02\x00\x04", b"\x20\x02\x00\x00"


def logged(server):
    return server.log.read_text(errors="replace")


def metric(server, name):
    lines = requests.get(f"http://{server.api}/metrics", timeout=10).text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


def text(value):
    return len(value).to_bytes(2, "big") + value.encode()


def connect_packet(user="nobody&nothing"):
    body = text("MQTT") + b"\x04\xc2\x00\x3c" + text("c|securemode=3|") + text(user) + text("00")
    return b"\x10" + bytes([len(body)]) + body


def login(server):
    with connect(server.mqtt) as device:
        device.sendall(connect_packet())
        return device.recv(4)


def ends(connection):
    """Whether the server ends a connection, in whichever way."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


# Limits per address


def test_an_address_that_fails_to_log_in_waits(own_server):
    server = own_server(mqtt_failures_per_minute=3, **NOT_EXEMPT)
    assert [login(server) for _ in range(6)] == [BAD_LOGIN] * 3 + [TRY_LATER] * 3
    assert metric(server, 'updraft_refused_by_address_total{port="mqtt",limit="failures"}') == 3
    assert logged(server).count("an address is refused") == 1, "said once"


def test_an_address_that_fails_to_sign_waits(own_server):
    server = own_server(api_failures_per_minute=3, **NOT_EXEMPT)
    good, wrong = Caller(server), Caller(server, (Caller(server).key_id, "wrong"))
    unknown = Caller(server, ("nobody", "x"))
    query = {"ProductName": "manners", "NodeType": 0}
    good.ok("CreateProduct", query)
    assert code(wrong.call("CreateProduct", query)) == "SignatureDoesNotMatch"
    assert code(unknown.call("CreateProduct", query)) == "InvalidAccessKeyId.NotFound"
    # A call that is refused for another reason does not count.
    assert code(good.call("CreateProduct", query, Timestamp="2001-01-01T00:00:00Z")) == "InvalidTimeStamp.Expired"
    assert code(unknown.call("CreateProduct", query)) == "InvalidAccessKeyId.NotFound"
    refused = unknown.call("CreateProduct", query)
    assert code(refused) == "Throttling"
    # Who holds a key that is known does not pay for its neighbours.
    assert code(good.call("CreateProduct", query)) == "iot.prod.AlreadyExistedProductName"
    assert 0 < int(refused.headers["x-acs-retry-after"]) <= 60_000
    assert requests.get(f"http://{server.api}/healthz", timeout=10).status_code == 200


def test_connections_of_one_address_are_bounded(own_server):
    server = own_server(api_connections_per_address=4, mqtt_strangers_per_address=2, **NOT_EXEMPT)
    for address, most in ((server.api, 4), (server.mqtt, 2)):
        wait_for(lambda: metric_free(server), lambda free: free)
        wait_for(lambda: only_the_last_ends(address, most + 1), lambda only: only, timeout=60)
    wait_for(lambda: metric_free(server), lambda free: free)


def only_the_last_ends(address, count):
    """Whether of so many connections the last is one too many; one that has just closed may still count."""
    with contextlib.ExitStack() as stack:
        *held, last = [stack.enter_context(connect(address)) for _ in range(count)]
        return ends(last) and all(still_open(connection) for connection in held)


def metric_free(server):
    """Whether the API's port has room again: closed connections are noticed a moment later."""
    try:
        return requests.get(f"http://{server.api}/healthz", timeout=10).status_code == 200
    except requests.ConnectionError:
        return False


def still_open(connection):
    connection.setblocking(False)
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False
    finally:
        connection.settimeout(20)


def test_by_default_a_thousand_devices_behind_one_address_fail_and_none_is_locked_out(own_server):
    server = own_server(**NOT_EXEMPT)
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda _: login(server), range(900)))
    assert answers == [BAD_LOGIN] * 900


# Slow clients


def drip(connection, start, piece, seconds=15):
    """Sends a piece a tenth of a second until the server ends the connection."""
    connection.settimeout(0.1)
    connection.sendall(start)
    for _ in range(seconds * 10):
        try:
            connection.sendall(piece)
            if connection.recv(65536) == b"":
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


FORM = (
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 400000\r\n"
    b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
)
BODY = (
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n\r\n"
)


@pytest.mark.parametrize("start, piece", [(b"GET / HTTP/1.1\r\n", b"x: y\r\n"), (BODY, b"a"), (FORM, b"a")])
def test_a_client_that_drips_is_cut_off(own_server, start, piece):
    server = own_server(http_seconds=1)
    with connect(server.api) as slow:
        assert drip(slow, start, piece)


def test_a_client_that_drips_at_the_port_of_metrics_is_cut_off(own_server):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = "127.0.0.1:%d" % free.getsockname()[1]
    own_server(http_seconds=1, metrics_addr=address)
    with connect(address) as slow:
        assert drip(slow, b"GET / HTTP/1.1\r\n", b"x: y\r\n")


def test_a_device_that_drips_its_login_is_cut_off(own_server):
    server = own_server(mqtt_connect_seconds=1)
    packet = connect_packet()
    with connect(server.mqtt) as slow:
        assert drip(slow, packet[:5], b"", seconds=10)


@pytest.mark.parametrize("port", ["api", "mqtt"])
def test_a_tls_handshake_that_stops_half_way_is_cut_off(own_server, port):
    server = own_server(handshake_seconds=1)
    with connect(getattr(server, port)) as half:
        half.sendall(b"\x16\x03\x01\x02\x00\x01")
        assert ends(half)


def download(server, size):
    """A signed address of a package of `size` bytes."""
    backend = Backend(server)
    firmware_id = backend.package(backend.product(), content=os.urandom(size))
    return backend.firmware(firmware_id).firmware_url


def ask(url):
    """A connection on which a download was asked for, and of which little is read."""
    address, path = url.removeprefix("http://").split("/", 1)
    host, port = address.rsplit(":", 1)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(20)
    connection.connect((host, int(port)))
    connection.sendall(f"GET /{path} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
    assert connection.recv(15) == b"HTTP/1.1 200 OK"
    return connection


def established(connection):
    """Whether the server still has its end of a connection open."""
    port = f":{connection.getsockname()[1]:04X}"
    table = pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
    rows = [line.split() for line in table]
    return any(row[2].endswith(port) and row[3] == "01" for row in rows)


def test_a_client_that_does_not_read_its_download_is_cut_off(own_server):
    server = own_server(http_write_seconds=1, http_seconds=60)
    url = download(server, 20_000_000)
    with ask(url) as silent:
        # It reads what it had got, and not the rest.
        assert established(silent)
        wait_for(lambda: not established(silent))
        silent.settimeout(20)
        got = 0
        with contextlib.suppress(ConnectionError):
            while part := silent.recv(1 << 20):
                got += len(part)
        assert got < 20_000_000


# Stops


def test_a_stop_lets_a_download_and_an_upload_end(own_server):
    server = own_server(drain_seconds=20)
    backend = Backend(server)
    url = download(server, 20_000_000)
    ticket = backend.ticket()
    sent, may_end = threading.Event(), threading.Event()

    def slowly():
        yield b"first"
        sent.set()
        may_end.wait(20)
        yield b"last"

    with ask(url) as loading, concurrent.futures.ThreadPoolExecutor() as pool:
        uploading = pool.submit(stream_upload, server, ticket, slowly())
        assert sent.wait(20)
        # The server has begun with it, too.
        wait_for(lambda: list((server.data_dir / "blobs/incoming").iterdir()), lambda files: files)
        process = server.process
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: refused(server), lambda gone: gone)
        assert process.poll() is None
        may_end.set()
        assert uploading.result(timeout=20) == 200
        with loading.makefile("rb") as stream:
            while stream.readline() != b"\r\n":
                pass
            assert len(stream.read(20_000_000)) == 20_000_000
    assert process.wait(timeout=20) == 0


def stream_upload(server, ticket, pieces):
    """Uploads piece by piece; the status."""
    fields = {
        "key": ticket.key,
        "policy": ticket.policy,
        "OSSAccessKeyId": ticket.ossaccess_key_id,
        "signature": ticket.signature,
        "success_action_status": "200",
    }

    def body():
        for name, value in fields.items():
            yield f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        yield from pieces
        yield b"\r\n--b--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    return requests.post(f"http://{server.api}/", data=body(), headers=headers, timeout=40).status_code


def refused(server):
    """Whether nobody is let in any more."""
    try:
        connect(server.api).close()
    except ConnectionError:
        return True
    return False


def test_a_second_signal_stops_at_once(own_server):
    server = own_server(drain_seconds=600)
    with ask(download(server, 20_000_000)):
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: refused(server), lambda gone: gone)
        assert server.process.poll() is None, "it waits for the download"
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=10) == 1
    assert "second signal" in logged(server)


def test_a_stop_closes_kept_connections(own_server):
    server = own_server(drain_seconds=600)
    with connect(server.api) as kept, kept.makefile("rb") as stream:
        kept.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_answer(stream).status == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=10) == 0


# Certificates and systemd


def certificate_of(address, ca):
    context = ssl.create_default_context(cafile=str(ca))
    with connect(address) as plain, context.wrap_socket(plain, server_hostname="localhost") as secure:
        return secure.getpeercert(binary_form=True)


@pytest.fixture
def pairs(own_server, tmp_path):
    """Two certificate pairs of two authorities, each in a folder with its `ca.pem`."""
    made = []
    for _ in range(2):
        server = own_server()
        folder = tmp_path / f"pair{len(made)}"
        shutil.copytree(server.data_dir / "tls", folder)
        server.stop()
        made.append(folder)
    return made


def put(pair, folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names or ("server.pem", "server-key.pem"):
        shutil.copy(pair / name, folder / name)


@pytest.mark.parametrize("how", ["signal", "time"])
def test_a_renewed_certificate_is_used_without_a_restart(own_server, pairs, tmp_path, how):
    old, new = pairs
    folder = tmp_path / "given"
    put(old, folder)
    server = own_server(
        tls_cert=folder / "server.pem",
        tls_key=folder / "server-key.pem",
        tls_reload_seconds=1 if how == "time" else 0,
    )

    def look():
        if how == "signal":
            server.process.send_signal(signal.SIGHUP)

    first = certificate_of(server.api, old / "ca.pem")
    context = ssl.create_default_context(cafile=str(old / "ca.pem"))
    with connect(server.api) as plain, context.wrap_socket(plain, server_hostname="localhost") as kept:
        # A certificate without its key is refused, and the old one goes on.
        put(new, folder, "server.pem")
        look()
        wait_for(lambda: logged(server), lambda log: "the one before stays in use" in log)
        assert certificate_of(server.mqtt, old / "ca.pem") == first

        put(new, folder)
        look()
        wait_for(lambda: logged(server), lambda log: "a new certificate is in use" in log)
        for address in (server.api, server.mqtt):
            assert certificate_of(address, new / "ca.pem") != first
        kept.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        with kept.makefile("rb") as stream:
            assert read_answer(stream).status == 200, "an open connection goes on"
    assert logged(server).count("the one before stays in use") == 1


def test_systemd_is_told(own_server, tmp_path):
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(path)
        systemd.settimeout(20)
        server = Server(tmp_path / "data", tls_reload_seconds=0)
        server.environment |= {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "200000"}
        server.start()

        def told(word):
            while word not in (message := systemd.recv(4096).decode()):
                assert message.strip() in ("READY=1", "WATCHDOG=1"), message
            return message

        told("READY=1")
        told("WATCHDOG=1")
        server.process.send_signal(signal.SIGHUP)
        assert "MONOTONIC_USEC=" in told("RELOADING=1")
        told("READY=1")
        told("WATCHDOG=1")
        server.process.send_signal(signal.SIGTERM)
        told("STOPPING=1")
        assert server.process.wait(timeout=20) == 0
        Server.running.remove(server)


# The log


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_what_is_logged_of_a_call_or_an_upload_has_its_request_id(own_server, log_format):
    server = own_server(log_format=log_format, log="info,updraft_server=debug")
    caller, backend = Caller(server), Backend(server)
    fine = caller.ok("CreateProduct", {"ProductName": "manners", "NodeType": 0})["RequestId"]
    answer = caller.call("CreateProduct", {"ProductName": "x", "NodeType": 0})
    bad_upload = upload(backend.ticket(), b"x", signature="wrong").text
    lost = requests.get(f"http://{server.api}/nowhere", timeout=10)
    ids = {
        "answered": fine,
        "a call was refused": answer.json["RequestId"],
        "an upload was refused": bad_upload.split("<RequestId>")[1].split("<")[0],
        "InvalidApi.NotFound": lost.text.split("<RequestId>")[1].split("<")[0],
    }
    assert answer.headers["x-acs-request-id"] == ids["a call was refused"]
    for words, request_id in ids.items():
        lines = [line for line in logged(server).splitlines() if request_id in line]
        assert any(words in line for line in lines), (words, lines)
        if log_format == "json":
            assert all(json.loads(line)["span"]["request.id"] == request_id for line in lines)


def test_a_log_of_errors_only_has_request_ids_too(own_server, tmp_path):
    server = own_server(log="error")
    ticket = Backend(server).ticket()
    shutil.rmtree(server.data_dir / "blobs")
    answer = upload(ticket, b"x")
    assert answer.status_code == 503
    request_id = answer.text.split("<RequestId>")[1].split("<")[0]
    assert any("cannot be stored" in line and request_id in line for line in logged(server).splitlines())


# Schemas


@pytest.mark.sqlite
def test_an_older_program_refuses_a_newer_schema(own_server):
    server = own_server()
    server.stop()
    with contextlib.closing(sqlite3.connect(server.data_dir / "updraft.db")) as database:
        database.execute("INSERT INTO migration (number, checksum) VALUES (999, 'of the future')")
        database.commit()
    folder = ["--data-dir", str(server.data_dir)]
    ports = ["--api-addr", "127.0.0.1:0", "--mqtt-addr", "127.0.0.1:0", "--mqtt-tls-addr", ""]
    for command in (["serve", *ports], ["ram", "create-access-key", "--user", "alice"]):
        run = subprocess.run([binary(), *command, *folder], capture_output=True, text=True, timeout=20)
        assert run.returncode == 1 and "999" in run.stderr and "newer" in run.stderr, run.stderr
