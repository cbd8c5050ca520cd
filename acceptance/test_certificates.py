"""Products with AuthType x509: devices log in with a client certificate that the server has made for them."""

import json
import ssl
import subprocess
import threading

import paho.mqtt.client as mqtt
import pytest

from support.backend import Identity, unique
from support.waiting import wait_for

IDENTITY = "/ext/auth/identity/response"
# What the platform's sample for Java sends, and SDKs for C 3.x and 4.x with empty names.
NAMELESS = [
    (".|securemode=2|", "", ""),
    (".|timestamp=2524608000000,_v=sdk-c-3.2.0,securemode=2,signmethod=hmacsha256,lan=C|", "&", "F7" * 32),
    (".|timestamp=2524608000000,_ss=1,_v=sdk-c-4.2.0,securemode=2,signmethod=hmacsha256,ext=3|", "&", "F7" * 32),
]


@pytest.fixture(scope="module")
def product(backend):
    made = backend.ok("CreateProduct", product_name=unique("x509"), node_type=0, auth_type="x509")
    assert made.data.auth_type == "x509"
    return made.product_key


@pytest.fixture
def certified(backend, product, tmp_path):
    """Makes devices with their certificates in files: (identity, certificate, key)."""

    def make(product_key=product):
        identity = backend.device(product_key)
        asked = {"product_key": product_key, "device_name": identity.name}
        info = backend.ok("QueryDeviceCert", **asked).device_cert_info
        assert info.status == 2 and info.cert_sn
        files = (tmp_path / f"{identity.name}.pem", tmp_path / f"{identity.name}-key.pem")
        files[0].write_text(info.certificate)
        files[1].write_text(info.private_key)
        return identity, *map(str, files)

    return make


class Login:
    """A connection of paho's, its return code and what came."""

    def __init__(self, server, fields, files=None, port="mqtt"):
        client_id, user, password = fields
        self.codes, self.messages, self._news = [], [], threading.Event()
        self.client = mqtt.Client(client_id, clean_session=True)
        self.client.username_pw_set(user, password)
        certificate, key = files or (None, None)
        self.client.tls_set(ca_certs=server.ca_file, certfile=certificate, keyfile=key, cert_reqs=ssl.CERT_REQUIRED)
        self.client.on_connect = lambda client, data, flags, code: self.codes.append(code)
        self.client.on_message = lambda client, data, message: self.messages.append(message)
        host, number = getattr(server, port).rsplit(":", 1)
        self.client.connect(host, int(number), keepalive=60)
        self.client.loop_start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.disconnect()
        self.client.loop_stop()

    def code(self):
        return wait_for(lambda: self.codes)[0] if not self.codes else self.codes[0]

    def identity(self):
        message = wait_for(lambda: self.messages)[0]
        assert message.topic == IDENTITY
        return json.loads(message.payload)


def named(identity):
    client_id = "00:11:22|securemode=2,signmethod=hmacsha1,timestamp=132323232|"
    return client_id, f"{identity.name}&{identity.product_key}", ""


@pytest.mark.parametrize("fields", NAMELESS)
@pytest.mark.parametrize("port", ["mqtt", "mqtt_tls"])
def test_a_device_without_names_is_told_them(server, certified, backend, fields, port):
    identity, *files = certified()
    with Login(server, fields, files, port) as login:
        assert login.code() == 0
        assert login.identity() == {"productKey": identity.product_key, "deviceName": identity.name}
        wait_for(lambda: backend.detail(identity).status == "ONLINE")


def test_a_device_that_knows_its_names_gives_them_and_upgrades(server, certified, backend):
    identity, *files = certified()
    with Login(server, named(identity), files) as login:
        assert login.code() == 0
        topic = f"/ota/device/inform/{identity.product_key}/{identity.name}"
        login.client.publish(topic, json.dumps({"id": "1", "params": {"version": "x1"}}), qos=1)
        wait_for(lambda: backend.detail(identity).firmware_version == "x1")
        assert login.messages == [], "it is not told what it knows"


@pytest.mark.parametrize("spoken", ["tlsv1.2", "tlsv1.3"])
def test_both_versions_of_tls_take_certificates(server, certified, backend, spoken):
    identity, certificate, key = certified()
    client_id, user, _ = named(identity)
    host, number = server.mqtt_tls.rsplit(":", 1)
    topic = f"/ota/device/inform/{identity.product_key}/{identity.name}"
    command = ["mosquitto_pub", "-h", host, "-p", number, "-i", client_id, "-u", user, "-P", "", "-q", "1"]
    command += ["--cafile", server.ca_file, "--cert", certificate, "--key", key, "--tls-version", spoken]
    command += ["-t", topic, "-m", json.dumps({"id": "1", "params": {"version": spoken}})]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert backend.detail(identity).firmware_version == spoken


def test_a_certificate_is_good_for_its_own_device_only(server, certified, backend):
    mine, *files = certified()
    other, *_ = certified()
    elsewhere = backend.device(backend.product())
    for identity in (other, elsewhere, Identity(mine.product_key, "nobody", "")):
        with Login(server, named(identity), files) as login:
            assert login.code() == 4
    assert backend.detail(other).status == "UNACTIVE"


def test_a_secret_is_not_enough(server, certified, backend):
    from test_transports import login as by_secret

    identity, *files = certified()
    for fields, code in ((by_secret(identity), 5), (NAMELESS[0], 4), (named(identity), 4)):
        with Login(server, fields) as login:
            assert login.code() == code
    # The other way round: who has a secret needs no certificate.
    plain = backend.device(backend.product())
    with Login(server, by_secret(plain)) as login:
        assert login.code() == 0
    with pytest.raises(Exception, match="InvalidProductKey"):
        backend.ok("QueryDeviceCert", product_key=plain.product_key, device_name=plain.name)


def test_a_strangers_certificate_is_refused_in_the_handshake(server, certified, tmp_path):
    identity, *_ = certified()
    files = tmp_path / "own.pem", tmp_path / "own-key.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=Updraft device CA"]
    subprocess.run([*make, "-out", files[0], "-keyout", files[1]], check=True, capture_output=True)
    context = ssl.create_default_context(cafile=server.ca_file)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(*files)
    host, number = server.mqtt.rsplit(":", 1)
    import socket

    with socket.create_connection((host, int(number)), timeout=20) as connection:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            context.wrap_socket(connection, server_hostname="localhost")


def test_disabled_and_deleted_devices_stay_out(server, certified, backend):
    identity, *files = certified()
    backend.ok("DisableThing", iot_id=identity.iot_id)
    with Login(server, NAMELESS[0], files) as login:
        assert login.code() == 5
    backend.ok("EnableThing", iot_id=identity.iot_id)
    with Login(server, NAMELESS[0], files) as login:
        assert login.code() == 0
    backend.ok("DeleteDevice", iot_id=identity.iot_id)
    with Login(server, NAMELESS[0], files) as login:
        assert login.code() == 5
    # A new device of the same name is another one.
    new = backend.device(identity.product_key, identity.name)
    with Login(server, named(new), files) as login:
        assert login.code() == 5
    asked = {"product_key": new.product_key, "device_name": new.name}
    assert backend.ok("QueryDeviceCert", **asked).device_cert_info.certificate


@pytest.mark.sqlite
def test_certificates_outlive_a_restart(own_server, tmp_path):
    from support.backend import Backend

    server = own_server()
    backend = Backend(server)
    key = backend.ok("CreateProduct", product_name="x509", node_type=0, auth_type="x509").product_key
    identity = backend.device(key)
    info = backend.ok("QueryDeviceCert", product_key=key, device_name=identity.name).device_cert_info
    files = tmp_path / "device.pem", tmp_path / "device-key.pem"
    for file, text in zip(files, (info.certificate, info.private_key)):
        file.write_text(text)
    server.kill()
    server.start()
    with Login(server, NAMELESS[0], tuple(map(str, files))) as login:
        assert login.code() == 0 and login.identity()["deviceName"] == identity.name
    # Nothing secret is in the clear in the database.
    stored = (server.data_dir / "updraft.db").read_bytes()
    stored += (server.data_dir / "updraft.db-wal").read_bytes()
    assert b"BEGIN CERTIFICATE" in stored and b"PRIVATE KEY" not in stored
