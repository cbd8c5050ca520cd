"""What the platform's operations say of who is connected: through crashes, takeovers and pings."""

import hashlib
import hmac
import time

import requests

from support.backend import Backend
from support.raw import connect
from support.waiting import wait_for

WELCOME, DISCONNECT, PING, PONG = b"\x20\x02\x00\x00", b"\xe0\x00", b"\xc0\x00", b"\xd0\x00"


def text(value):
    return len(value).to_bytes(2, "big") + value.encode()


def log_in(server, identity):
    """A device's connection, made by hand."""
    content = f"clientIdpresencedeviceName{identity.name}productKey{identity.product_key}"
    password = hmac.new(identity.secret.encode(), content.encode(), hashlib.sha256).hexdigest()
    user = f"{identity.name}&{identity.product_key}"
    body = text("MQTT") + b"\x04\xc2\x01\x2c"
    body += text("presence|securemode=3,signmethod=hmacsha256|") + text(user) + text(password)
    device = connect(server.mqtt)
    device.sendall(b"\x10" + (len(body) % 128 | 128).to_bytes(1, "big") + bytes([len(body) // 128]) + body)
    return device, device.recv(4)


def welcomed(server, identity):
    device, answer = log_in(server, identity)
    assert answer == WELCOME
    return device


def state(backend, identity):
    """Status and the time of its last change, in milliseconds."""
    seen = backend.ok("GetDeviceStatus", iot_id=identity.iot_id).data
    return seen.status, int(seen.timestamp or 0)


def events(server):
    """What devices did that was handed to the engine, and so to the database, since the start."""
    lines = requests.get(f"http://{server.api}/metrics", timeout=10).text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("updraft_device_events_total"))


def wait_status(backend, identity, status):
    return wait_for(lambda: state(backend, identity), lambda seen: seen[0] == status)[1]


def test_presence_follows_a_device_through_crashes_takeovers_and_pings(own_server):
    server = own_server()
    backend = Backend(server)
    identity, other = backend.devices(backend.product(), 2)
    assert [state(backend, device)[0] for device in (identity, other)] == ["UNACTIVE", "UNACTIVE"]
    assert not backend.detail(identity).ip_address

    before = time.time() * 1_000
    first = welcomed(server, identity)
    came = wait_status(backend, identity, "ONLINE")
    assert before - 1_000 <= came <= time.time() * 1_000 + 1_000
    active = backend.detail(identity)
    assert active.ip_address == "127.0.0.1"
    assert active.utc_active == active.utc_online

    # Pings keep the connection and cost no write: nothing of them goes to where writes are made.
    noted = events(server)
    for _ in range(100):
        first.sendall(PING)
        assert first.recv(2) == PONG
    assert events(server) == noted > 0

    # Another connection of the same device: online all the time, since the first login.
    second = welcomed(server, identity)
    assert first.recv(1) == b"", "the first connection was ended"
    wait_for(lambda: backend.detail(identity).utc_online, lambda seen: seen > active.utc_online)
    assert state(backend, identity) == ("ONLINE", came)
    assert backend.detail(identity).utc_active == active.utc_active

    # The server is killed: the device was online until nobody can say when, and is not after the next start.
    server.kill()
    killed = time.time() * 1_000
    server.start()
    status, since = state(backend, identity)
    assert status == "OFFLINE" and since >= killed - 1_000
    assert state(backend, other)[0] == "UNACTIVE"
    second.close()

    # It comes back, is disabled, and is what it was before once that is over.
    third = welcomed(server, identity)
    back = wait_status(backend, identity, "ONLINE")
    assert back >= since
    backend.ok("DisableThing", iot_id=identity.iot_id)
    assert third.recv(1) == b"", "a disabled device is sent away"
    assert state(backend, identity)[0] == "DISABLE"
    assert log_in(server, identity)[1] == b"\x20\x02\x00\x05"
    backend.ok("EnableThing", iot_id=identity.iot_id)
    assert state(backend, identity)[0] == "OFFLINE"

    # A goodbye, and a connection that is simply gone.
    for goodbye in (DISCONNECT, b""):
        device = welcomed(server, identity)
        wait_status(backend, identity, "ONLINE")
        device.sendall(goodbye)
        device.close()
        assert wait_status(backend, identity, "OFFLINE") >= back
