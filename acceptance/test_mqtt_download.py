"""Downloads by MQTT: a raw client that follows the documented protocol byte by byte."""

import hashlib
import hmac
import json
import queue
import random
import struct

import paho.mqtt.client as mqtt
import pytest
from Tea.exceptions import TeaException

OLD, NEW = "1.0.0", "2.0.0"
IMAGE = random.Random(7).randbytes(100_003)


def crc16(data):
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
    return crc


class Device:
    """A device that is logged in, on paho alone."""

    def __init__(self, server, identity):
        self.owner = f"{identity.product_key}/{identity.name}"
        client_id = f"{identity.name}|securemode=3,signmethod=hmacsha256,_ss=1|"
        signed = f"clientId{identity.name}deviceName{identity.name}productKey{identity.product_key}"
        password = hmac.new(identity.secret.encode(), signed.encode(), hashlib.sha256).hexdigest()
        self.arrived = queue.Queue()
        self.client = mqtt.Client(client_id, clean_session=True)
        self.client.username_pw_set(f"{identity.name}&{identity.product_key}", password)
        self.client.on_message = lambda _client, _data, message: self.arrived.put((message.topic, message.payload))
        self.client.connect(server.mqtt_host, server.mqtt_port)
        self.client.loop_start()

    def publish(self, topic, payload, qos=1):
        self.client.publish(topic, payload, qos=qos)

    def report(self, version):
        self.publish(f"/ota/device/inform/{self.owner}", json.dumps({"id": "1", "params": {"version": version}}))

    def next(self, topic):
        """The payload of the next message, which must be on this topic."""
        found, payload = self.arrived.get(timeout=30)
        assert found == topic
        return payload

    def ask(self, payload, qos=0):
        """One question for a block: the answer's JSON text, and what follows it."""
        self.publish(f"/sys/{self.owner}/thing/file/download", payload, qos)
        answer = self.next(f"/sys/{self.owner}/thing/file/download_reply")
        (length,) = struct.unpack(">H", answer[:2])
        return answer[2 : 2 + length].decode(), answer[2 + length :]

    def block(self, data, offset, size):
        """A block in the form of Link SDK for C 4.2, whose JSON has a comma too many."""
        text, rest = self.ask(
            '{"id":"1","version":"1.0","params":{"fileToken":"default","fileInfo":{"streamId":%d,"fileId":%d,},'
            '"fileBlock":{"size":%d,"offset":%d}}}' % (data["streamId"], data["streamFileId"], size, offset)
        )
        content, sent_crc = rest[:-2], struct.unpack("<H", rest[-2:])[0]
        assert text == (
            '{"code":200,"data":{"fileToken":"default","bOffset":%d,"fileLength":%d,"bSize":%d},"id":"1","message":"success"}'
            % (offset, data["size"], len(content))
        )
        assert sent_crc == crc16(content)
        return content

    def stop(self):
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def connect(server):
    devices = []

    def start(identity):
        devices.append(Device(server, identity))
        return devices[-1]

    yield start
    for device in devices:
        device.stop()


def question(data, offset=0, size=1_024):
    return json.dumps(
        {
            "id": "7",
            "params": {
                "fileInfo": {"streamId": data["streamId"], "fileId": data["streamFileId"]},
                "fileBlock": {"size": size, "offset": offset},
            },
        }
    )


def test_a_device_downloads_block_by_block_and_goes_on_after_a_reconnect(backend, connect):
    product_key = backend.product()
    identity, other = backend.devices(product_key, 2)
    device, stranger = connect(identity), connect(other)
    device.report(OLD)
    backend.wait_ready(OLD, identity)
    firmware_id = backend.package_of(product_key, {"image.bin": IMAGE}, NEW)
    job_id = backend.batch(product_key, firmware_id, identity, download_protocol="MQTT")
    assert backend.job(job_id).download_protocol == "MQTT"

    push = json.loads(device.next(f"/ota/device/upgrade/{device.owner}"))
    data = push["data"]
    assert list(data)[:6] == ["size", "sign", "version", "streamId", "streamFileId", "dProtocol"]
    assert "url" not in data and data["dProtocol"] == "mqtt" and data["size"] == len(IMAGE)

    device.publish(f"/ota/device/progress/{device.owner}", '{"id":"2","params":{"step":"0","desc":""}}')
    got = b"".join(device.block(data, offset, 5_120) for offset in range(0, 51_200, 5_120))
    device.stop()

    # The push is repeated, and the same stream goes on.
    device = connect(identity)
    again = json.loads(device.next(f"/ota/device/upgrade/{device.owner}"))["data"]
    assert again["streamId"] == data["streamId"]
    got += b"".join(device.block(data, offset, 131_072) for offset in (51_200,))
    assert got == IMAGE
    assert hashlib.md5(got).hexdigest() == data["sign"]

    # Asked for, the package comes in the same form.
    device.publish(f"/sys/{device.owner}/thing/ota/firmware/get", '{"id":3,"params":{}}')
    pulled = json.loads(device.next(f"/sys/{device.owner}/thing/ota/firmware/get_reply"))["data"]
    assert pulled == again

    # What cannot be: behind the end, too much at a time, another file, another device.
    for offset, size in [(len(IMAGE), 1_024), (-1, 1_024), (0, 131_073), (0, 0)]:
        text, rest = device.ask(question(data, offset, size), qos=1)
        assert (json.loads(text)["code"], rest) == (400, b"")
    for stream in [data | {"streamFileId": 2}, data | {"streamId": data["streamId"] + 1}]:
        text, rest = device.ask(question(stream))
        assert (json.loads(text)["code"], json.loads(text)["id"], rest) == (404, "7", b"")
    text, rest = stranger.ask(question(data))
    assert (json.loads(text)["code"], rest) == (404, b"")

    # With its end the task's file is closed.
    device.report(NEW)
    backend.wait_task(job_id, identity, "SUCCEEDED")
    text, _ = device.ask(question(data))
    assert json.loads(text)["code"] == 404


def test_a_package_that_does_not_fit_is_refused(backend):
    product_key = backend.product()
    (identity,) = backend.devices(product_key, 1)
    several = backend.package_of(product_key, {"a": b"a", "b": b"b"}, NEW)
    with pytest.raises(Exception, match="one file") as refusal:
        backend.batch(product_key, several, identity, download_protocol="MQTT")
    assert not isinstance(refusal.value, TeaException)
