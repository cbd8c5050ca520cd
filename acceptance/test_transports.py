"""What carries a device's connection: plain, TLS, WebSocket, a load balancer; with clients that know nothing of us."""

import hashlib
import hmac
import json
import os
import socket
import ssl
import subprocess
import threading

import paho.mqtt.client as mqtt
import pytest

from support.devices import FOLDER
from support.waiting import wait_for


@pytest.fixture(scope="module")
def server(make_server):
    return make_server(mqtt_ws_addr="127.0.0.1:0", proxy_protocol_from="127.0.0.2")


@pytest.fixture(scope="module")
def backend(server):
    from support.backend import Backend

    return Backend(server)


def login(identity):
    """(client id, user name, password) as the platform's pages say."""
    cid = f"{identity.product_key}&{identity.name}"
    content = f"clientId{cid}deviceName{identity.name}productKey{identity.product_key}"
    password = hmac.new(identity.secret.encode(), content.encode(), hashlib.sha256).hexdigest()
    return f"{cid}|securemode=2,signmethod=hmacsha256,_ss=1|", f"{identity.name}&{identity.product_key}", password


def inform(identity):
    return f"/ota/device/inform/{identity.product_key}/{identity.name}"


def report(version):
    return json.dumps({"id": "1", "params": {"version": version}})


def version(backend, identity):
    return backend.detail(identity).firmware_version


def mosquitto(identity, address, *arguments):
    """Reports a version with mosquitto_pub."""
    host, port = address.rsplit(":", 1)
    client_id, user, password = login(identity)
    command = ["mosquitto_pub", "-h", host, "-p", port, "-i", client_id, "-u", user, "-P", password]
    command += ["-V", "mqttv311", "-q", "1", "-t", inform(identity), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize("port", ["mqtt", "mqtt_tls"])
@pytest.mark.parametrize("spoken", ["tlsv1.2", "tlsv1.3"])
def test_mosquitto_speaks_tls_of_both_versions(server, backend, port, spoken):
    identity = backend.device(backend.product())
    told = ["--cafile", server.ca_file, "--tls-version", spoken, "-m", report(spoken)]
    done = mosquitto(identity, getattr(server, port), *told)
    assert done.returncode == 0, done.stderr
    assert version(backend, identity) == spoken


def test_mosquitto_speaks_plain_where_that_is_spoken(server, backend):
    identity = backend.device(backend.product())
    done = mosquitto(identity, server.mqtt, "-m", report("plain"))
    assert done.returncode == 0, done.stderr
    assert version(backend, identity) == "plain"
    for address in (server.mqtt_tls, server.mqtt_ws):
        assert mosquitto(identity, address, "-m", report("never")).returncode != 0
    assert version(backend, identity) == "plain"


def test_mosquitto_trusts_nobody_else(server, backend, tmp_path):
    other = tmp_path / "other.pem"
    key = tmp_path / "key.pem"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"]
    subprocess.run([*make, "-subj", "/CN=other", "-keyout", key, "-out", other], check=True, capture_output=True)
    identity = backend.device(backend.product())
    done = mosquitto(identity, server.mqtt_tls, "--cafile", str(other), "-m", report("never"))
    assert done.returncode != 0 and version(backend, identity) in (None, "")


@pytest.mark.parametrize("path", ["/mqtt", "/"])
@pytest.mark.parametrize("port, tls", [("mqtt", False), ("mqtt", True), ("mqtt_tls", True), ("mqtt_ws", False), ("mqtt_ws", True)])
def test_paho_speaks_over_websocket(server, backend, port, tls, path):
    identity = backend.device(backend.product())
    client_id, user, password = login(identity)
    client = mqtt.Client(client_id, transport="websockets")
    client.ws_set_options(path=path)
    client.username_pw_set(user, password)
    if tls:
        client.tls_set(ca_certs=server.ca_file)
    done = threading.Event()
    client.on_connect = lambda *_: client.publish(inform(identity), report("ws"), qos=1)
    client.on_publish = lambda *_: done.set()
    host, number = getattr(server, port).rsplit(":", 1)
    client.connect(host, int(number))
    client.loop_start()
    try:
        assert done.wait(20)
    finally:
        client.disconnect()
        client.loop_stop()
    assert version(backend, identity) == "ws"


@pytest.mark.parametrize("scheme, port", [("ws", "mqtt"), ("wss", "mqtt"), ("wss", "mqtt_tls"), ("ws", "mqtt_ws")])
def test_mqttjs_speaks_over_websocket(server, backend, scheme, port):
    identity = backend.device(backend.product())
    number = getattr(server, port).rsplit(":", 1)[1]
    url = f"{scheme}://localhost:{number}/mqtt"
    command = ["node", "devices/mqttjs_device.js", url, *login(identity), identity.product_key, identity.name]
    environment = os.environ | {"NODE_EXTRA_CA_CERTS": str(server.ca_file)}
    done = subprocess.run(command, cwd=FOLDER, env=environment, capture_output=True, text=True, timeout=30)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[:2] == [{"event": "connected"}, {"event": "version", "ok": True}], done
    assert version(backend, identity) == "1.0.0"


def test_a_big_message_comes_through_a_websocket(server, backend):
    """Longer than a frame of 64 KiB and than what is read at once, on the way up."""
    identity = backend.device(backend.product())
    client_id, user, password = login(identity)
    client = mqtt.Client(client_id, transport="websockets")
    client.username_pw_set(user, password)
    done = threading.Event()
    body = {"id": "1", "params": {"version": "big"}, "filler": "x" * 200_000}
    client.on_connect = lambda *_: client.publish(inform(identity), json.dumps(body), qos=1)
    client.on_publish = lambda *_: done.set()
    host, number = server.mqtt.rsplit(":", 1)
    client.connect(host, int(number))
    client.loop_start()
    try:
        assert done.wait(20)
    finally:
        client.disconnect()
        client.loop_stop()
    assert version(backend, identity) == "big"


def text(value):
    return len(value).to_bytes(2, "big") + value.encode()


def connect_packet(identity):
    client_id, user, password = login(identity)
    body = text("MQTT") + bytes([4, 0xC2, 0, 60]) + text(client_id) + text(user) + text(password)
    assert 127 < len(body) < 16_384
    return bytes([0x10, len(body) % 128 | 0x80, len(body) // 128]) + body


def address_of(backend, identity):
    return backend.detail(identity).ip_address


@pytest.mark.parametrize("tls", [False, True])
def test_behind_a_balancer_presence_has_the_devices_address(server, backend, tls):
    identity = backend.device(backend.product())
    host, number = server.mqtt.rsplit(":", 1)
    connection = socket.create_connection((host, int(number)), timeout=20, source_address=("127.0.0.2", 0))
    ends = socket.inet_aton("203.0.113.77") + socket.inet_aton("198.51.100.1") + (40_000).to_bytes(2, "big") + (1_883).to_bytes(2, "big")
    ends += b"\xea\x00\x04vpce"  # what AWS tells beside it
    connection.sendall(b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + len(ends).to_bytes(2, "big") + ends)
    if tls:
        context = ssl.create_default_context(cafile=server.ca_file)
        connection = context.wrap_socket(connection, server_hostname="localhost")
    with connection:
        connection.sendall(connect_packet(identity))
        assert connection.recv(4) == b"\x20\x02\x00\x00"
        assert wait_for(lambda: address_of(backend, identity)) == "203.0.113.77"


def test_who_is_no_balancer_cannot_forge_an_address(server, backend):
    identity = backend.device(backend.product())
    forged = b"PROXY TCP4 203.0.113.78 198.51.100.1 40000 1883\r\n"
    for source, header in (("127.0.0.1", forged), ("127.0.0.2", b"")):
        host, number = server.mqtt.rsplit(":", 1)
        with socket.create_connection((host, int(number)), timeout=20, source_address=(source, 0)) as connection:
            connection.sendall(header + connect_packet(identity))
            try:
                assert connection.recv(4) == b""
            except ConnectionResetError:
                pass
    assert backend.detail(identity).status == "UNACTIVE"
