"""Gateways on the official device SDKs, and devices behind them."""

import hashlib
import hmac
import json
import queue

import paho.mqtt.client as mqtt
import pytest
from test_mqtt_download import crc16

from support.backend import unique
from support.waiting import wait_for

OLD, NEW = "1.0.0", "2.0.0"
IMAGE = bytes(range(256)) * 40


@pytest.fixture
def site(backend):
    """A gateway, and a device of another product that may be behind it."""
    name = unique("gateways")
    gateways = backend.ok("CreateProduct", product_name=name, node_type=1).product_key
    lamps = backend.product()
    return backend.device(gateways), backend.device(lamps)


def status(backend, identity):
    return backend.ok("GetDeviceStatus", iot_id=identity.iot_id).data.status


@pytest.mark.parametrize("kind", ["python", "alibabacloud-iot-device-sdk", "aliyun-iot-device-sdk"])
def test_a_device_behind_a_gateway_is_updated(server, backend, fleet, site, kind):
    gateway, sub = site
    firmware_id = backend.package_of(sub.product_key, {"image.bin": IMAGE}, NEW)
    behind = {"sub_product_key": sub.product_key, "sub_name": sub.name, "sub_secret": sub.secret}
    device = fleet.gateway(kind, gateway, server, **behind)
    named = {"deviceName": sub.name, "productKey": sub.product_key}
    assert device.wait("topo")["data"] == [named]
    assert device.wait("login", code=200)
    device.wait("version", version=OLD)
    backend.wait_ready(OLD, sub)
    assert (status(backend, gateway), status(backend, sub)) == ("ONLINE", "ONLINE")
    listed = backend.ok("GetThingTopo", iot_id=gateway.iot_id, page_no=1, page_size=10).data
    assert [one.iot_id for one in listed.list.device_info] == [sub.iot_id]
    assert backend.ok("GetGatewayBySubDevice", iot_id=sub.iot_id).data.iot_id == gateway.iot_id

    job_id = backend.batch(sub.product_key, firmware_id, sub)
    assert device.wait("push")["version"] == NEW
    got = device.wait("downloaded")
    assert (got["ok"], got["md5"]) == (True, hashlib.md5(IMAGE).hexdigest())
    backend.wait_task(job_id, sub, "SUCCEEDED")

    device.stop()
    wait_for(lambda: status(backend, sub) == "OFFLINE")
    wait_for(lambda: status(backend, gateway) == "OFFLINE")


def test_what_a_back_end_does_reaches_the_gateway(server, backend, fleet, site):
    gateway, sub = site
    behind = {"sub_product_key": sub.product_key, "sub_name": sub.name, "sub_secret": sub.secret}
    device = fleet.gateway("python", gateway, server, **behind)
    device.wait("login", code=200)
    sublist = [{"deviceName": sub.name, "productKey": sub.product_key}]
    backend.ok("DisableThing", iot_id=sub.iot_id)
    device.wait("error", code=522)
    assert device.wait("change")["params"] == {"status": 8, "subList": sublist}
    backend.ok("EnableThing", iot_id=sub.iot_id)
    assert device.wait("change", count=2)["params"] == {"status": 2, "subList": sublist}
    backend.ok("RemoveThingTopo", iot_id=sub.iot_id)
    assert device.wait("change", count=3)["params"] == {"status": 1, "subList": sublist}
    device.send("logout")
    assert device.wait("logout")["code"] == 520
    device.send("delete")
    assert device.wait("deleted")["code"] == 6401


class Gateway:
    """A gateway on paho alone."""

    def __init__(self, server, identity):
        self.owner = f"{identity.product_key}/{identity.name}"
        client_id = f"{identity.name}|securemode=3,signmethod=hmacsha256,_ss=1|"
        password = sign(identity, identity.name)
        self.arrived = queue.Queue()
        self.client = mqtt.Client(client_id, clean_session=True)
        self.client.username_pw_set(f"{identity.name}&{identity.product_key}", password)
        self.client.on_message = lambda _client, _data, message: self.arrived.put((message.topic, message.payload))
        self.client.connect(server.mqtt_host, server.mqtt_port)
        self.client.loop_start()

    def publish(self, topic, payload):
        self.client.publish(topic, payload if isinstance(payload, str) else json.dumps(payload), qos=1)

    def next(self, topic):
        found, payload = self.arrived.get(timeout=30)
        assert found == topic, payload
        return payload

    def ask(self, topic, params):
        self.publish(topic, {"id": "1", "params": params})
        answer = json.loads(self.next(f"{topic}_reply"))
        assert answer["code"] == 200, answer
        return answer["data"]


def sign(identity, client_id):
    content = f"clientId{client_id}deviceName{identity.name}productKey{identity.product_key}"
    return hmac.new(identity.secret.encode(), content.encode(), hashlib.sha256).hexdigest()


def test_a_device_behind_a_gateway_downloads_by_mqtt(server, backend, site):
    identity, sub = site
    gateway = Gateway(server, identity)
    client_id = "c|_ss=1|"
    claim = {
        "productKey": sub.product_key,
        "deviceName": sub.name,
        "clientId": client_id,
        "signMethod": "hmacSha256",
        "sign": sign(sub, client_id),
    }
    gateway.ask(f"/sys/{gateway.owner}/thing/topo/add", [claim])
    gateway.ask(f"/ext/session/{gateway.owner}/combine/login", claim)
    owner = f"{sub.product_key}/{sub.name}"
    gateway.publish(f"/ota/device/inform/{owner}", {"id": 1, "params": {"version": OLD}})
    backend.wait_ready(OLD, sub)
    firmware_id = backend.package_of(sub.product_key, {"image.bin": IMAGE}, NEW)
    job_id = backend.batch(sub.product_key, firmware_id, sub, download_protocol="MQTT")
    data = json.loads(gateway.next(f"/ota/device/upgrade/{owner}"))["data"]
    gateway.publish(f"/ota/device/progress/{owner}", {"id": 2, "params": {"step": "0"}})
    got = b""
    while len(got) < data["size"]:
        # As Link SDK for C 4.2 asks, with a comma too many.
        gateway.publish(
            f"/sys/{owner}/thing/file/download",
            '{"id":"1","version":"1.0","params":{"fileToken":"default","fileInfo":{"streamId":%d,"fileId":%d,},'
            '"fileBlock":{"size":4096,"offset":%d}}}' % (data["streamId"], data["streamFileId"], len(got)),
        )
        answer = gateway.next(f"/sys/{owner}/thing/file/download_reply")
        length = int.from_bytes(answer[:2], "big")
        block = answer[2 + length : -2]
        assert int.from_bytes(answer[-2:], "little") == crc16(block)
        got += block
    assert got == IMAGE
    gateway.publish(f"/ota/device/inform/{owner}", {"id": 3, "params": {"version": NEW}})
    backend.wait_task(job_id, sub, "SUCCEEDED")
    gateway.client.disconnect()
    gateway.client.loop_stop()
    wait_for(lambda: status(backend, sub) == "OFFLINE")
