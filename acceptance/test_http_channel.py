"""Devices that cannot keep a connection: they log in, report, ask and upgrade by HTTP alone."""

import hashlib

import pytest
import requests

OLD, NEW = "1.0.0", "2.0.0"
CONTENT = b"firmware for those without a connection" * 1_000


@pytest.mark.parametrize("legacy", [False, True])
def test_a_device_upgrades_by_http_alone(server, backend, fleet, legacy):
    product_key = backend.product()
    identity = backend.device(product_key)
    device = fleet.http(identity, server, legacy=legacy)
    device.wait("version", version=OLD)
    seen = backend.detail(identity)
    assert (seen.status, seen.firmware_version) == ("OFFLINE", OLD)
    assert seen.gmt_active and seen.ip_address == "127.0.0.1"
    firmware_id = backend.package(product_key, NEW, CONTENT)
    job_id = backend.batch(product_key, firmware_id, identity)
    backend.wait_task(job_id, identity, "SUCCEEDED")
    assert device.wait("downloaded") == {"event": "downloaded", "ok": True, "md5": hashlib.md5(CONTENT).hexdigest()}
    assert backend.wait_ended(firmware_id, job_id).job_status == "COMPLETE"
    assert backend.detail(identity).status == "OFFLINE"


def test_a_token_ends_with_its_device(server, backend, fleet):
    """What a device with a wrong secret, or none any more, is told on the wire."""
    identity = backend.device(backend.product())
    said = {"productKey": identity.product_key, "deviceName": identity.name, "clientId": "c", "sign": "00"}
    answer = requests.post(f"https://{server.api}/auth", json=said, verify=str(server.ca_file), timeout=20)
    assert (answer.status_code, answer.json()["code"]) == (200, 20000)
    topic = f"/topic/ota/device/inform/{identity.product_key}/{identity.name}"
    for headers, code in [({}, 20002), ({"password": "made-up"}, 20003)]:
        answer = requests.post(f"http://{server.api}{topic}", data="{}", headers=headers, timeout=20)
        assert answer.json()["code"] == code
