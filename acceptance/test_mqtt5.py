"""MQTT 5 and kept sessions, with clients that know nothing of us: paho-mqtt 2 and mqtt.js 5."""

import dataclasses
import json

import pytest

from support.backend import Backend
from support.waiting import wait_for

BOTH = pytest.mark.parametrize("client", ["paho", "mqttjs"])


class Topics:
    def __init__(self, identity):
        own = f"{identity.product_key}/{identity.name}"
        self.inform = f"/ota/device/inform/{own}"
        self.upgrade = f"/ota/device/upgrade/{own}"
        self.get = f"/sys/{own}/thing/ota/firmware/get"
        self.reply = f"/sys/{own}/thing/ota/firmware/get_reply"


def tell(device, do, **fields):
    device.send(json.dumps({"do": do} | fields))


@BOTH
def test_logins_and_answers_have_their_codes(server, backend, fleet, client):
    identity = backend.device(backend.product())
    stranger = dataclasses.replace(identity, secret="0" * 32)
    assert fleet.plain(client, stranger, server).wait("refused")["code"] == 0x86
    device = fleet.plain(client, identity, server)
    told = {name.lower(): value for name, value in device.wait("connected")["properties"].items()}
    assert told["receivemaximum"] == 256 and told["maximumqos"] == 1 and told["topicaliasmaximum"] == 16
    backend.wait_online(identity)

    own = Topics(identity)
    filters = [[own.upgrade, 1], [own.reply, 0], [own.upgrade + "x", 1], [f"$share/g/{own.upgrade}", 1]]
    tell(device, "subscribe", filters=filters)
    assert device.wait("subscribed")["codes"] == [1, 0, 0x87, 0x9E]
    tell(device, "unsubscribe", filters=[own.reply, own.upgrade + "x"])
    assert device.wait("unsubscribed")["codes"] == [0, 0x11]
    for count, (topic, payload, code) in enumerate(
        [
            (own.inform, '{"id":"1","params":{"version":"1.0.0"}}', 0),
            (own.inform, "nonsense", 0x99),
            (own.inform + "x", "{}", 0x87),
        ]
    ):
        tell(device, "publish", topic=topic, payload=payload)
        assert device.wait("published", count=count + 1)["code"] == code
    backend.wait_ready("1.0.0", identity)
    backend.ok("DisableThing", iot_id=identity.iot_id)
    assert device.wait("disconnected")["code"] == 0x98
    assert fleet.plain(client, identity, server).wait("refused")["code"] == 0x8A


@BOTH
def test_a_takeover_says_so(server, backend, fleet, client):
    identity = backend.device(backend.product())
    first = fleet.plain(client, identity, server)
    first.wait("connected")
    second = fleet.plain(client, identity, server)
    second.wait("connected")
    assert first.wait("disconnected")["code"] == 0x8E
    assert not second.all("disconnected")


@BOTH
def test_topics_get_short_and_one_message_is_under_way_at_a_time(server, backend, fleet, client):
    product_key = backend.product()
    identity = backend.device(product_key)
    own = Topics(identity)
    device = fleet.plain(client, identity, server, alias_max=2, receive_max=1)
    device.wait("connected")
    tell(device, "subscribe", filters=[[own.upgrade, 1]])
    device.wait("subscribed")
    backend.batch(product_key, backend.package(product_key, "2.0.0"), identity)
    push = device.wait("message", topic=own.upgrade)
    assert (push["alias"], push["again"]) == (1, False)
    assert json.loads(push["payload"])["data"]["version"] == "2.0.0"
    for number in (1, 2):
        tell(device, "publish", topic=own.get, payload=json.dumps({"id": str(number), "params": {}}))
        reply = device.wait("message", count=number + 1)
        assert reply["alias"] == 2 and json.loads(reply["payload"])["id"] == str(number)
        # paho leaves what an alias stands for to its user.
        assert reply["topic"] == own.reply or (client == "paho" and number == 2)


@BOTH
@pytest.mark.parametrize("mqtt", [5, 4])
def test_a_kept_session_brings_what_was_missed_once(server, backend, fleet, client, mqtt):
    product_key = backend.product()
    identity = backend.device(product_key)
    own = Topics(identity)
    options = {"mqtt": mqtt, "keep": 60}
    first = fleet.plain(client, identity, server, hold=True, **options)
    assert not first.wait("connected")["present"]
    tell(first, "subscribe", filters=[[own.upgrade, 1]])
    assert first.wait("subscribed")["codes"] == [1]
    backend.batch(product_key, backend.package(product_key, "2.0.0"), identity)
    push = first.wait("message", topic=own.upgrade)
    assert not push["again"]
    first.stop()
    wait_for(lambda: backend.detail(identity).status, lambda status: status == "OFFLINE")

    second = fleet.plain(client, identity, server, **options)
    assert second.wait("connected")["present"]
    # Without a SUBSCRIBE, with a fresh address, and no other comes before the answer to a question.
    again = second.wait("message", topic=own.upgrade)
    assert (again["id"], again["again"]) == (push["id"], True)
    tell(second, "publish", topic=own.get, payload='{"id":"1","params":{}}')
    assert second.wait("message", topic=own.reply)
    assert len(second.all("message", topic=own.upgrade)) == 1
    second.stop()
    wait_for(lambda: backend.detail(identity).status, lambda status: status == "OFFLINE")

    # It was acknowledged: the engine reminds the device, with a new message.
    third = fleet.plain(client, identity, server, **options)
    assert third.wait("connected")["present"]
    assert not third.wait("message", topic=own.upgrade)["again"]
    # A clean start forgets.
    clean = fleet.plain(client, identity, server, mqtt=mqtt)
    assert not clean.wait("connected")["present"]
    third.wait("disconnected")
    tell(clean, "publish", topic=own.get, payload='{"id":"1","params":{}}')
    clean.wait("message", topic=own.reply)
    assert not clean.all("message", topic=own.upgrade)


def test_a_restart_forgets_sessions_and_who_relies_on_one_is_told_all_the_same(own_server, fleet):
    server = own_server(mqtt_session_seconds=30)
    backend = Backend(server)
    product_key = backend.product()
    identity = backend.device(product_key)
    first = fleet.plain("mqttjs", identity, server, keep=60)
    assert first.wait("connected")["properties"]["sessionExpiryInterval"] == 30, "no longer than we keep any"
    first.stop()
    second = fleet.plain("mqttjs", identity, server, keep=20)
    connected = second.wait("connected")
    assert connected["present"] and "sessionExpiryInterval" not in connected["properties"]
    server.kill()
    server.start()
    # As the SDK for JavaScript: it subscribed once, long ago, and does not look at SessionPresent.
    third = fleet.plain("paho", identity, server, mqtt=4, keep=60)
    assert not third.wait("connected")["present"]
    backend.batch(product_key, backend.package(product_key, "2.0.0"), identity)
    third.wait("message", topic=Topics(identity).upgrade)
