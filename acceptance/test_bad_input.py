"""Whatever is sent, the answer is a proper refusal, nothing has changed, and the server goes on."""

import contextlib
import pathlib
import re

import pytest

from support.backend import unique
from support.raw import connect, exchange
from support.signed import code, is_refusal
from support.waiting import wait_for

LONG = 10_000


@pytest.fixture(scope="module")
def world(backend):
    """A product with a package, a batch and a queued task: what must not change."""
    product_key = backend.product()
    identity = backend.device(product_key)
    firmware_id = backend.package(product_key, "2.0.0")
    job_id = backend.batch(product_key, firmware_id)
    backend.wait_task(job_id, identity, "QUEUED")
    return {
        "ProductKey": product_key,
        "DeviceName": identity.name,
        "FirmwareId": firmware_id,
        "JobId": job_id,
        "FirmwareUrl": backend.uploaded(b"another file"),
    }


@pytest.fixture
def nothing_changes(backend, world):
    """Compares everything that can be seen of the world before and after a test."""

    def look():
        package = backend.firmware(world["FirmwareId"]).to_map()
        del package["FirmwareUrl"]  # signed anew each time
        listed = [job.to_map() for job in backend.listed(world["FirmwareId"])]
        tasks = {name: task.to_map() for name, task in backend.tasks(world["JobId"]).items()}
        device = backend.ok(
            "QueryDeviceDetail", product_key=world["ProductKey"], device_name=world["DeviceName"]
        ).data.to_map()
        return package, listed, tasks, device

    before = look()
    yield
    assert look() == before


@pytest.fixture
def call(caller, world):
    """Calls an operation with good parameters of which the test spoils some; `None` leaves one out."""

    good = {
        "ListOTAJobByFirmware": {"FirmwareId": world["FirmwareId"], "CurrentPage": 1, "PageSize": 10},
        "ListOTATaskByJob": {"JobId": world["JobId"], "CurrentPage": 1, "PageSize": 10},
        "QueryOTAJob": {"JobId": world["JobId"]},
        "QueryOTAFirmware": {"FirmwareId": world["FirmwareId"]},
        "CancelOTATaskByJob": {"JobId": world["JobId"], "CancelQueuedTask": "true"},
        "CreateProduct": {"ProductName": unique("bad"), "NodeType": 0},
        "RegisterDevice": {"ProductKey": world["ProductKey"], "DeviceName": unique("bad")},
        "QueryDeviceDetail": {"ProductKey": world["ProductKey"], "DeviceName": world["DeviceName"]},
        "GenerateOTAUploadURL": {},
        "CreateOTAFirmware": {
            "ProductKey": world["ProductKey"],
            "FirmwareName": unique("bad"),
            "DestVersion": "3.0.0",
            "FirmwareUrl": world["FirmwareUrl"],
        },
        "CreateOTAVerifyJob": {
            "ProductKey": world["ProductKey"],
            "FirmwareId": world["FirmwareId"],
            "TargetDeviceName.1": world["DeviceName"],
        },
        "CreateOTAStaticUpgradeJob": {
            "ProductKey": world["ProductKey"],
            "FirmwareId": world["FirmwareId"],
            "TargetSelection": "SPECIFIC",
            "TargetDeviceName.1": world["DeviceName"],
        },
    }

    def call(action, spoilt=None, extra=(), **rest):
        parameters = good[action] | (spoilt or {})
        pairs = [(name, value) for name, value in parameters.items() if value is not None]
        return caller.call(action, pairs + list(extra), **rest)

    return call


NUMBERS = ["99999999999999999999", "-1", "0", "1.5", " ", "1 ", "0x10", "1e1", "NaN", "١", "9" * LONG]


@pytest.mark.parametrize("value", NUMBERS, ids=lambda value: repr(value[:22]))
@pytest.mark.parametrize("action, name", [
    ("ListOTAJobByFirmware", "PageSize"),
    ("ListOTAJobByFirmware", "CurrentPage"),
    ("ListOTATaskByJob", "PageSize"),
])
def test_absurd_numbers_are_refused(call, nothing_changes, action, name, value):
    answer = call(action, {name: value})
    assert is_refusal(answer), answer.text[:500]


@pytest.mark.parametrize(
    "action, spoilt",
    [
        # Numbers and booleans
        ("CreateOTAStaticUpgradeJob", {"MaximumPerMinute": "9"}),
        ("CreateOTAStaticUpgradeJob", {"MaximumPerMinute": "10001"}),
        ("CreateOTAStaticUpgradeJob", {"TimeoutInMinutes": "0"}),
        ("CreateOTAStaticUpgradeJob", {"TimeoutInMinutes": "1441"}),
        ("CreateOTAStaticUpgradeJob", {"TimeoutInMinutes": "9999999999999999999999"}),
        ("CreateOTAStaticUpgradeJob", {"NeedPush": "maybe"}),
        ("CreateOTAStaticUpgradeJob", {"OverwriteMode": "3"}),
        ("CreateOTAVerifyJob", {"NeedPush": "2"}),
        ("CreateOTAStaticUpgradeJob", {"NeedConfirm": "perhaps"}),
        ("CreateOTAStaticUpgradeJob", {"GrayPercent": "10"}),  # and SPECIFIC
        ("CreateOTAStaticUpgradeJob", {"SrcVersion.1": "1.0.0"}),
        ("CreateOTAStaticUpgradeJob", {"TargetSelection": "GRAY", "TargetDeviceName.1": None}),
        ("CreateOTAStaticUpgradeJob", {"ScheduleTime": "1999999999999"}),
        ("CreateOTAStaticUpgradeJob", {"ScheduleTime": "-9223372036854775808"}),
        ("CreateOTAStaticUpgradeJob", {"ScheduleFinishTime": "9223372036854775807"}),
        ("CreateOTAStaticUpgradeJob", {"RetryInterval": "10"}),
        ("CreateOTAStaticUpgradeJob", {"RetryCount": "1"}),
        ("CancelOTATaskByJob", {"CancelQueuedTask": "yes"}),
        ("CreateProduct", {"NodeType": "2"}),
        ("CreateProduct", {"NodeType": "zero"}),
        ("ListOTATaskByJob", {"PageSize": "101"}),
        ("ListOTATaskByJob", {"CurrentPage": "1001", "PageSize": "100"}),
        ("ListOTATaskByJob", {"TaskStatus": "DONE"}),
        # Targets
        ("CreateOTAStaticUpgradeJob", {"TargetSelection": "EVERYONE"}),
        ("CreateOTAStaticUpgradeJob", {"TargetSelection": "ALL"}),  # and names
        ("CreateOTAStaticUpgradeJob", {"TargetDeviceName.1": None}),
        ("CreateOTAStaticUpgradeJob", {"TargetDeviceName.1": "no-such-device"}),
        ("CreateOTAStaticUpgradeJob", {"ProductKey": "a1NoProduct"}),
        ("CreateOTAStaticUpgradeJob", {"FirmwareId": "NoSuchFirmware0123456"}),
        ("CreateOTAVerifyJob", {"TargetDeviceName.1": "no-such-device"}),
        ("CreateOTAVerifyJob", {f"TargetDeviceName.{n}": f"device-{n}" for n in range(1, 12)}),
        ("CreateOTAStaticUpgradeJob", {f"TargetDeviceName.{n}": f"device-{n}" for n in range(1, 202)}),
        # Indices
        ("CreateOTAStaticUpgradeJob", {"TargetDeviceName.2": "$DeviceName"}),
        ("CreateOTAStaticUpgradeJob", {"TargetDeviceName.1": None, "TargetDeviceName.0": "$DeviceName"}),
        ("CreateOTAStaticUpgradeJob", {"TargetDeviceName.1": None, "TargetDeviceName.x": "$DeviceName"}),
        ("CreateOTAStaticUpgradeJob", {"TargetDeviceName.1": None, "TargetDeviceName.99999999999999999999": "$DeviceName"}),
        ("CreateOTAStaticUpgradeJob", {"Tag.1.Key": "a", "Tag.1.Value": "1", "Tag.3.Key": "b", "Tag.3.Value": "2"}),
        ("CreateOTAStaticUpgradeJob", {"Tag.1.Key": "a", "Tag.1.Value": "1", "Tag.2.Key": "a", "Tag.2.Value": "2"}),
        # Tags
        ("CreateOTAStaticUpgradeJob", {"Tag.1.Key": "a"}),
        ("CreateOTAStaticUpgradeJob", {"Tag.1.Value": "a"}),
        ("CreateOTAStaticUpgradeJob", {"Tag.1.Key": "a b", "Tag.1.Value": "1"}),
        ("CreateOTAStaticUpgradeJob", {"Tag.1.Key": "k" * 31, "Tag.1.Value": "1"}),
        ("CreateOTAStaticUpgradeJob", {"Tag.1.Key": "a", "Tag.1.Value": "v" * 1025}),
        (
            "CreateOTAStaticUpgradeJob",
            {f"Tag.{n}.{part}": f"v{n}" for n in range(1, 12) for part in ("Key", "Value")},
        ),
        (
            "CreateOTAStaticUpgradeJob",
            {f"Tag.{n}.Key": f"k{n}" for n in range(1, 6)} | {f"Tag.{n}.Value": "v" * 1000 for n in range(1, 6)},
        ),
        # Names and texts
        ("CreateProduct", {"ProductName": "abc"}),
        ("CreateProduct", {"ProductName": "p" * 31}),
        ("CreateProduct", {"ProductName": "no blank"}),
        ("CreateProduct", {"Description": "d" * 101}),
        ("RegisterDevice", {"DeviceName": "abc"}),
        ("RegisterDevice", {"DeviceName": "d" * 33}),
        ("RegisterDevice", {"DeviceName": "设备设备"}),
        ("RegisterDevice", {"DeviceName": "$DeviceName"}),
        ("RegisterDevice", {"ProductKey": "a1NoProduct"}),
        ("RegisterDevice", {"DeviceName": "../../../../etc"}),
        ("CreateOTAFirmware", {"FirmwareName": "n" * 41}),
        ("CreateOTAFirmware", {"FirmwareName": "_first"}),
        ("CreateOTAFirmware", {"DestVersion": "v" * 65}),
        ("CreateOTAFirmware", {"DestVersion": "1 0"}),
        ("CreateOTAFirmware", {"FirmwareDesc": "d" * 101}),
        ("CreateOTAFirmware", {"Udi": "u" * 4097}),
        ("CreateOTAFirmware", {"SignMethod": "CRC32"}),
        ("CreateOTAFirmware", {"FirmwareSign": "not hex"}),
        ("CreateOTAFirmware", {"FirmwareSize": "-1"}),
        ("CreateOTAFirmware", {"ProductKey": None}),
        ("CreateOTAFirmware", {"ProductKey": "a1NoProduct"}),
        ("CreateOTAFirmware", {"FirmwareUrl": None}),
        # Text that no database and no XML can hold
        ("CreateOTAFirmware", {"FirmwareDesc": "a\0b"}),
        ("CreateOTAFirmware", {"FirmwareName": "a\0b"}),
        ("CreateProduct", {"Description": "\0"}),
        ("CreateOTAStaticUpgradeJob", {"Tag.1.Key": "a", "Tag.1.Value": "\0"}),
        # Broken UTF-8
        ("CreateOTAFirmware", {"FirmwareName": b"name\xff\xfe"}),
        ("CreateOTAFirmware", {"FirmwareDesc": b"\xc3"}),
        ("CreateOTAFirmware", {"Udi": b"\xed\xa0\x80"}),
        ("CreateOTAStaticUpgradeJob", {"Tag.1.Key": "a", "Tag.1.Value": b"\xf0\x28\x8c\x28"}),
        ("ListOTAJobByFirmware", {"FirmwareId": b"\x80"}),
        # Unknown things
        ("QueryOTAJob", {"JobId": "NoSuchJob0123456789"}),
        ("QueryOTAFirmware", {"FirmwareId": "NoSuchFirmware0123456"}),
        ("ListOTATaskByJob", {"JobId": "NoSuchJob0123456789"}),
        ("CancelOTATaskByJob", {"JobId": "NoSuchJob0123456789"}),
        ("CancelOTATaskByJob", {"CancelQueuedTask": "false"}),
        ("QueryDeviceDetail", {"DeviceName": "no-such-device"}),
        ("QueryDeviceDetail", {"DeviceName": None, "ProductKey": None}),
        ("GenerateOTAUploadURL", {"FileSuffix": "../../x"}),
        # Long ones
        ("QueryOTAJob", {"JobId": "j" * LONG}),
        ("ListOTAJobByFirmware", {"FirmwareId": "f" * LONG}),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(
        f"{name}={value!r}"[:40] for name, value in list(value.items())[-2:]
    ),
)
def test_spoilt_parameters_are_refused(call, world, nothing_changes, action, spoilt):
    spoilt = {
        name: world[value[1:]] if isinstance(value, str) and value[:1] == "$" else value
        for name, value in spoilt.items()
    }
    answer = call(action, spoilt)
    assert is_refusal(answer), answer.text[:500]
    assert "iot.system.SystemException" not in answer.text


@pytest.mark.parametrize(
    "action, name, value",
    [
        ("CreateProduct", "Id2", "true"),
        ("RegisterDevice", "PinCode", "1234"),
    ],
)
def test_what_is_not_served_is_refused_by_name(call, nothing_changes, action, name, value):
    answer = call(action, {name: value})
    assert code(answer) == "iot.common.ParameterNotSupported"
    assert name.split(".")[0] in answer.json["ErrorMessage"]


@pytest.mark.parametrize(
    "name, value",
    [
        ("NeedConfirm", "false"),
        ("OverwriteMode", "1"),
        ("MultiModuleMode", "false"),
        ("DownloadProtocol", "HTTPS"),
        ("GrayPercent", ""),
        ("NoSuchParameter", "is ignored"),
    ],
)
def test_defaults_may_be_spelled_out(backend, caller, name, value):
    product_key = backend.product()
    parameters = {"ProductKey": product_key, "FirmwareId": backend.package(product_key), "TargetSelection": "ALL"}
    assert caller.ok("CreateOTAStaticUpgradeJob", parameters | {name: value})["Data"]["JobId"]


def test_a_parameter_given_twice_is_refused(call, world, nothing_changes):
    for action, extra in [
        ("CreateOTAStaticUpgradeJob", ("TargetDeviceName.1", world["DeviceName"])),
        ("CreateOTAStaticUpgradeJob", ("TargetSelection", "ALL")),
        ("CancelOTATaskByJob", ("JobId", world["JobId"])),
    ]:
        assert is_refusal(call(action, extra=[extra])), action


@pytest.mark.parametrize("body", [False, True], ids=["query", "body"])
def test_broken_percent_encoding_is_refused(caller, world, nothing_changes, body):
    for broken in ("%", "%4", "%zz", "%E4%BD", "%u4F60"):
        text = caller.query("CancelOTATaskByJob", {"JobId": world["JobId"]}, "POST" if body else "GET")
        text += f"&CancelQueuedTask={broken}"
        if body:
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            answer = caller.send("POST", "/", data=text, headers=headers)
        else:
            request = f"GET /?{text} HTTP/1.1\r\nHost: {caller.server.api}\r\n\r\n"
            answer = exchange(caller.server.api, request.encode())
        assert answer.status == 400, broken
        said = answer.text if body else answer.body.decode()
        assert "InvalidCancelQueuedTask" in said, "refused for what it is, not for the signature"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "HEAD", "BREW"])
def test_unknown_methods_are_refused(caller, world, nothing_changes, method):
    answer = caller.call("CancelOTATaskByJob", {"JobId": world["JobId"], "CancelQueuedTask": "true"}, method)
    assert 400 <= answer.status < 500


@pytest.mark.parametrize(
    "path",
    ["/nothing", "//", "/ota", "/ota/", "/ota/x/../../root-access-key.json", "/../root-access-key.json",
     "/%2e%2e/%2e%2e/etc/passwd", "/index.html", "/healthz/x", "/" + "p" * LONG],
    ids=lambda path: path[:40],
)
def test_unknown_paths_are_refused(caller, world, nothing_changes, path):
    query = caller.query("CancelOTATaskByJob", {"JobId": world["JobId"], "CancelQueuedTask": "true"})
    for target in (path, f"{path}?{query}"):
        # By hand: clients tidy paths up.
        request = f"GET {target} HTTP/1.1\r\nHost: {caller.server.api}\r\n\r\n"
        answer = exchange(caller.server.api, request.encode())
        assert 400 <= answer.status < 500, target[:100]
        assert b"AccessKeySecret" not in answer.body


@pytest.mark.parametrize(
    "common, status, expected",
    [
        ({"Action": None}, 400, "MissingAction"),
        ({"Action": "DropEverything"}, 404, "InvalidAction.NotFound"),
        ({"Action": "listotajobbyfirmware"}, 404, "InvalidAction.NotFound"),
        ({"Version": None}, 400, "MissingVersion"),
        ({"Version": "2017-01-01"}, 400, "InvalidVersion"),
        ({"AccessKeyId": None}, 400, "MissingAccessKeyId"),
        ({"AccessKeyId": "nobody"}, 404, "InvalidAccessKeyId.NotFound"),
        ({"Timestamp": None}, 400, "MissingTimestamp"),
        ({"Timestamp": "yesterday"}, 400, "InvalidTimeStamp.Format"),
        ({"Timestamp": "2018-01-20T00:00:00Z"}, 400, "InvalidTimeStamp.Expired"),
        ({"Timestamp": "2100-01-20T00:00:00Z"}, 400, "InvalidTimeStamp.Expired"),
        ({"SignatureMethod": "HMAC-MD5"}, 400, "InvalidSignatureMethod"),
        ({"SignatureNonce": None}, 400, "MissingSignatureNonce"),
        ({"Signature": "c29tZXRoaW5n"}, 400, "SignatureDoesNotMatch"),
        ({"Signature": "no base64 !"}, 400, "SignatureDoesNotMatch"),
    ],
    ids=lambda value: str(value),
)
def test_requests_that_are_not_signed_well_are_refused(call, nothing_changes, common, status, expected):
    answer = call("CancelOTATaskByJob", **common)
    assert (answer.status, code(answer)) == (status, expected)


def test_a_nonce_is_good_for_one_request(caller, world, nothing_changes):
    text = caller.query("QueryOTAJob", {"JobId": world["JobId"]})
    assert caller.send("GET", f"/?{text}").json["Success"] is True
    again = caller.send("GET", f"/?{text}")
    assert (again.status, code(again)) == (400, "SignatureNonceUsed")


def test_a_changed_request_does_not_match_its_signature(caller, world, nothing_changes):
    text = caller.query("CancelOTATaskByJob", {"JobId": world["JobId"]})
    answer = caller.send("GET", f"/?{text}&CancelQueuedTask=true")
    assert code(answer) == "SignatureDoesNotMatch"
    # Python's old core splits the message at the colon; without one it crashes.
    assert answer.json["Message"].split(":")[1].startswith("GET&%2F&")


def test_oversized_bodies_are_refused_without_reading_them(caller, nothing_changes):
    head = (
        f"POST / HTTP/1.1\r\nHost: {caller.server.api}\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 1000000000\r\n\r\n"
    )
    answer = exchange(caller.server.api, head.encode() + b"a=" + b"b" * 100_000)
    assert answer is not None and 400 <= answer.status < 500


def test_oversized_chunked_bodies_are_refused(caller, nothing_changes):
    head = (
        f"POST / HTTP/1.1\r\nHost: {caller.server.api}\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    chunk = b"10000\r\n" + b"b" * 0x10000 + b"\r\n"
    answer = exchange(caller.server.api, head.encode() + chunk * 300)
    # A server that gives up in the middle of the body may reset the connection before its answer is read.
    assert answer is None or 400 <= answer.status < 500


def test_oversized_queries_and_headers_are_refused(caller, nothing_changes):
    for request in (
        f"GET /?{'a' * 1_000_000}=1 HTTP/1.1\r\nHost: x\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: x\r\nX-Long: {'a' * 1_000_000}\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n" + "".join(f"X-{n}: y\r\n" for n in range(20_000)) + "\r\n",
    ):
        answer = exchange(caller.server.api, request.encode())
        assert answer is None or 400 <= answer.status < 500


def test_twenty_thousand_parameters_are_read_or_refused(caller, world, nothing_changes):
    many = {f"Tag.{n}.Key": "k" for n in range(20_000)}
    listing = {"FirmwareId": world["FirmwareId"], "CurrentPage": "1", "PageSize": "10"}
    assert caller.call("ListOTAJobByFirmware", listing | many, body=True).status in (200, 400)
    batch = {"FirmwareId": world["FirmwareId"], "ProductKey": world["ProductKey"], "TargetSelection": "ALL"}
    assert is_refusal(caller.call("CreateOTAStaticUpgradeJob", batch | many, body=True))


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "multipart/form-data", "multipart/form-data; boundary=x"])
def test_other_kinds_of_bodies_are_refused(caller, nothing_changes, content_type):
    # Signed and complete, were it not that the body is no form.
    query = caller.query("CreateProduct", {"NodeType": "0", "ProductName": "in_the_query"}, "POST")
    query = query.replace("ProductName=in_the_query", "")
    answer = caller.send("POST", f"/?{query}", data="ProductName=in_the_query", headers={"Content-Type": content_type})
    assert 400 <= answer.status < 500


def test_a_form_without_end_does_not_fill_the_memory(server, nothing_changes):
    def memory():
        status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1))

    before = memory()
    head = (
        f"POST / HTTP/1.1\r\nHost: {server.api}\r\nContent-Length: 400000000\r\n"
        "Content-Type: multipart/form-data; boundary=z\r\n\r\n"
    )
    with connect(server.api) as connection:
        try:
            connection.sendall(head.encode())
            for _ in range(400):
                connection.sendall(b"a" * 1_000_000)
        except ConnectionError:
            pass  # refused long before its end
    assert memory() - before < 100_000, "kilobytes"


@pytest.mark.parametrize("port", ["api", "mqtt"])
@pytest.mark.parametrize(
    "garbage",
    [
        b"\0" * 1000,
        b"\xff" * 1000,
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello",  # begins like TLS
        b"\x10\xff\xff\xff\xff\xff",  # an MQTT CONNECT of impossible length
        b"\x10\xff\xff\xff\x7f" + b"M" * 1000,  # one of 256 MB
        b"\x30\x03\x00\x01a",  # a PUBLISH before any CONNECT
        b"SSH-2.0-x\r\n",
    ],
    ids=repr,
)
def test_bytes_that_are_no_protocol_end_the_connection_and_nothing_else(server, nothing_changes, port, garbage):
    with connect(getattr(server, port)) as connection:
        try:
            connection.sendall(garbage)
            # It may have been ended at the first byte already.
            with contextlib.suppress(OSError):
                connection.shutdown(1)
            wait_for(lambda: connection.recv(65_536), lambda data: data == b"", timeout=15)
        except ConnectionError:
            pass  # reset: ended as well


def test_a_client_that_says_nothing_does_not_keep_others_waiting(server, caller, world):
    silent = [connect(address) for address in (server.api, server.mqtt) for _ in range(20)]
    try:
        assert caller.ok("QueryOTAJob", {"JobId": world["JobId"]})
    finally:
        for connection in silent:
            connection.close()
