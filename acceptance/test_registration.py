"""Devices that register themselves with their product's secret: the official SDKs by MQTT and by HTTP."""

import dataclasses
import hashlib
import hmac
import json
import subprocess

import pytest
import requests

from support.backend import Identity, unique
from support.devices import FOLDER

OLD, NEW = "1.0.0", "2.0.0"
CONTENT = b"the firmware of those that registered themselves" * 100


@dataclasses.dataclass(frozen=True)
class Product:
    """What is burnt into all devices of a product."""

    key: str
    secret: str

    def newcomer(self, name):
        """An identity without a secret."""
        return Identity(self.key, name, "")


@pytest.fixture
def product(backend, caller):
    made = backend.product()
    caller.ok("SetProductDynamicRegister", {"ProductKey": made, "DynamicRegister": "ANY"})
    return Product(made, backend.ok("QueryProduct", product_key=made).data.product_secret)


def upgraded(backend, product, device, identity):
    """A device logs in, upgrades, and is seen to."""
    device.wait("connected")
    backend.wait_ready(OLD, identity)
    firmware_id = backend.package(product.key, NEW, CONTENT)
    job_id = backend.batch(product.key, firmware_id, identity)
    backend.wait_task(job_id, identity, "SUCCEEDED")
    assert device.wait("downloaded")["md5"] == hashlib.md5(CONTENT).hexdigest()


def test_python_fetches_its_secret_and_upgrades(server, backend, product, fleet):
    known = backend.device(product.key)
    newcomer = product.newcomer(known.name)
    device = fleet.python(newcomer, server, register="register", product_secret=product.secret)
    assert device.wait("registered")["device_secret"] == known.secret, "the one that RegisterDevice answered"
    upgraded(backend, product, device, known)
    # It is active now: who has the product's secret has no way to it until it is reset.
    again = fleet.python(newcomer, server, register="register", product_secret=product.secret)
    assert again.wait("registered")["code"] != 0
    assert again.all("connack", code=5)
    backend.ok("ResetThing", product_key=product.key, device_name=known.name)
    anew = fleet.python(newcomer, server, register="register", product_secret=product.secret, version=NEW)
    secret = anew.wait("registered")["device_secret"]
    assert secret not in ("", known.secret)
    anew.wait("connected")
    device.wait("disconnected")
    assert backend.detail(known).device_secret == secret
    # With the old secret there is no way back.
    device.wait("connack", code=4)


def test_python_becomes_a_device_and_upgrades(server, backend, product, fleet):
    newcomer = product.newcomer(unique("new"))
    device = fleet.python(
        newcomer, server, register="regnwl", product_secret=product.secret, instance="iot-abc"
    )
    given = device.wait("registered")
    assert given["code"] == 0 and given["client_id"].split("|")[1].startswith("authType=connwl,securemode=-2")
    upgraded(backend, product, device, newcomer)
    # A reset ends the token and the connection.
    backend.ok("ResetThing", product_key=product.key, device_name=newcomer.name)
    device.wait("disconnected")
    device.wait("connack", code=4)


def test_nobody_registers_where_it_is_off(server, backend, caller, product, fleet):
    caller.ok("SetProductDynamicRegister", {"ProductKey": product.key, "DynamicRegister": "PREREGISTERED"})
    unlisted = fleet.python(product.newcomer(unique("new")), server, register="regnwl", product_secret=product.secret)
    assert unlisted.wait("registered")["code"] != 0
    known = product.newcomer(backend.device(product.key).name)
    guess = fleet.python(known, server, register="register", product_secret="0" * 32)
    assert guess.wait("registered")["code"] != 0
    assert guess.all("connack", code=4)
    caller.ok("SetProductDynamicRegister", {"ProductKey": product.key, "DynamicRegister": "OFF"})
    off = fleet.python(known, server, register="register", product_secret=product.secret)
    assert off.wait("registered")["code"] != 0


def by_javascript(server, product, name, **changes):
    """The answer that the JavaScript SDK hands to its application."""
    wanted = {
        "productKey": product.key,
        "productSecret": product.secret,
        "deviceName": name,
        "registerURL": f"http://{server.api}/auth/register/device",
    } | changes
    command = ["node", "devices/js_register.js", json.dumps(wanted)]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


def test_javascript_fetches_its_secret_and_upgrades(server, backend, product, fleet):
    known = backend.device(product.key)
    answer = by_javascript(server, product, known.name)
    assert answer == {
        "code": 200,
        "data": {"productKey": product.key, "deviceName": known.name, "deviceSecret": known.secret},
        "message": "success",
    }
    assert by_javascript(server, product, known.name, productSecret="0" * 32)["code"] == 6600
    assert by_javascript(server, product, unique("none"))["code"] == 6100
    upgraded(backend, product, fleet.javascript(known, server), known)
    assert by_javascript(server, product, known.name)["code"] == 6289


def test_the_form_of_link_sdks_for_c_by_https(server, backend, product):
    """C 3.x: a constant random, capitals in the method's name, a buffer of 256 bytes for the answer."""
    known = backend.device(product.key)
    random = "8Ygb7ULYh53B6OA"
    content = f"deviceName{known.name}productKey{product.key}random{random}"
    sign = hmac.new(product.secret.encode(), content.encode(), hashlib.sha256).hexdigest()
    form = f"productKey={product.key}&deviceName={known.name}&signMethod=hmacsha256&sign={sign.upper()}&version=1.0&clientId=c&random={random}"
    for _ in range(2):
        answer = requests.post(
            f"https://{server.api}/auth/register/device",
            data=form,
            headers={"Content-Type": "application/x-www-form-urlencoded", "Accept": "text/xml,text/javascript,*/*"},
            verify=str(server.ca_file),
            timeout=20,
        )
        assert answer.status_code == 200 and len(answer.content) <= 256
        assert answer.json()["data"]["deviceName"] == known.name
    assert answer.json()["data"]["deviceSecret"] == backend.detail(known).device_secret
