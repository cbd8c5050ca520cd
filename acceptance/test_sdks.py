"""Each official back-end SDK, each way of signing, plain and by TLS; the quota that users share."""

import asyncio
import hashlib
import types

import pytest
from alibabacloud_iot20180120 import models
from alibabacloud_tea_openapi.exceptions import ClientException, ThrottlingException
from aliyunsdkcore.acs_exception.exceptions import ServerException

from support.backend import Backend, Identity, unique, upload
from support.classic import ClassicBackend
from support.signed import Caller, code
from support.waiting import wait_for


def test_the_classic_sdk_runs_the_main_job(server, backend, caller, fleet):
    classic = ClassicBackend(server)
    made = classic.ok("CreateProduct", ProductName=unique("classic"), NodeType=0)
    product_key = made["ProductKey"]
    assert made["Data"]["ProductKey"] == product_key
    device = classic.ok("RegisterDevice", ProductKey=product_key, DeviceName=unique("dev"))["Data"]
    identity = Identity(product_key, device["DeviceName"], device["DeviceSecret"])
    fleet.python(identity, server)
    backend.wait_ready("1.0.0", identity)

    ticket = classic.ok("GenerateOTAUploadURL", FileSuffix="zip")["Data"]
    assert ticket["FirmwareUrl"] == f"{ticket['Host']}/{ticket['Key']}"
    assert ticket["ObjectStorage"] == "OSS" and ticket["Key"].endswith(".zip")
    content = b"classic"
    form = types.SimpleNamespace(
        host=ticket["Host"],
        key=ticket["Key"],
        policy=ticket["Policy"],
        ossaccess_key_id=ticket["OSSAccessKeyId"],
        signature=ticket["Signature"],
    )
    assert upload(form, content).status_code == 200
    firmware_id = classic.ok(
        "CreateOTAFirmware",
        ProductKey=product_key,
        FirmwareName=unique("fw"),
        DestVersion="2.0.0",
        FirmwareUrl=ticket["FirmwareUrl"],
        FirmwareSign=hashlib.md5(content).hexdigest(),
        FirmwareSize=len(content),
        SignMethod="MD5",
        NeedToVerify=True,  # goes out as "True"
    )["Data"]["FirmwareId"]
    assert classic.ok("QueryOTAFirmware", FirmwareId=firmware_id)["FirmwareInfo"]["Status"] == 0

    verification = classic.ok(
        "CreateOTAVerifyJob",
        ProductKey=product_key,
        FirmwareId=firmware_id,
        TargetDeviceNames=[identity.name],
        NeedPush=True,
    )["Data"]["JobId"]
    backend.wait_ended(firmware_id, verification)
    assert classic.ok("QueryOTAFirmware", FirmwareId=firmware_id)["FirmwareInfo"]["Status"] == 1
    job_id = classic.ok(
        "CreateOTAStaticUpgradeJob",
        ProductKey=product_key,
        FirmwareId=firmware_id,
        TargetSelection="SPECIFIC",
        TargetDeviceNames=[identity.name],
        Tags=[{"Key": "a", "Value": "1 + 1"}],
    )["Data"]["JobId"]
    backend.wait_ended(firmware_id, job_id)

    listing = {"FirmwareId": firmware_id, "CurrentPage": 1, "PageSize": 10}
    body = classic.ok("ListOTAJobByFirmware", **listing)
    rows = body["Data"]["SimpleOTAJobInfo"]
    assert [row["JobId"] for row in rows] == [job_id, verification]
    assert rows[0]["Tags"] == {"OtaTagDTO": [{"Key": "a", "Value": "1 + 1"}]}
    # The one device already runs the version.
    assert classic.ok("ListOTATaskByJob", JobId=job_id, CurrentPage=1, PageSize=10)["Total"] == 0
    tasks = classic.ok("ListOTATaskByJob", JobId=verification, CurrentPage=1, PageSize=10)
    assert [task["TaskStatus"] for task in tasks["Data"]["SimpleOTATaskInfo"]] == ["SUCCEEDED"]
    assert classic.ok("QueryOTAJob", JobId=job_id)["Data"]["JobStatus"] == "COMPLETED"
    detail = classic.ok("QueryDeviceDetail", ProductKey=product_key, DeviceName=identity.name)["Data"]
    assert detail["FirmwareVersion"] == "2.0.0"
    # The same in XML, which this SDK leaves to its callers.
    xml = caller.call("ListOTAJobByFirmware", listing, Format="XML").xml
    assert [row.findtext("JobId") for row in xml.iter("SimpleOTAJobInfo")] == [job_id, verification]


def test_the_classic_sdk_tells_a_wrong_secret_from_an_unknown_key(server):
    key_id, _ = server.root_key()
    with pytest.raises(ServerException) as wrong:
        ClassicBackend(server, (key_id, "not-the-secret")).call("QueryOTAJob", JobId="x")
    # The SDK compares the server's string to sign with its own and draws this conclusion itself.
    assert wrong.value.get_error_code() == "InvalidAccessKeySecret"
    with pytest.raises(ServerException) as unknown:
        ClassicBackend(server, ("nobody", "not-the-secret")).call("QueryOTAJob", JobId="x")
    assert unknown.value.get_error_code() == "InvalidAccessKeyId.NotFound"
    assert unknown.value.get_http_status() == 404


@pytest.mark.parametrize(
    "config",
    [
        pytest.param({}, id="header signature by http"),
        pytest.param({"signature_algorithm": "v2"}, id="query signature by http"),
        pytest.param({"protocol": None}, id="header signature by the default protocol"),
        pytest.param({"protocol": None, "signature_algorithm": "v2"}, id="query signature by the default protocol"),
    ],
)
def test_the_current_sdk_is_understood(server, config):
    # Without a protocol the SDK speaks HTTPS; all a user adds is the server's CA.
    backend = Backend(server, ca=str(server.ca_file), **config)
    product_key = backend.product(f"产品_{unique('p')}")
    firmware_id = backend.package(product_key, firmware_name=unique("包(1)-"), firmware_desc="a b*~/+é 说明")
    assert backend.firmware(firmware_id).firmware_desc == "a b*~/+é 说明"
    job_id = backend.batch(product_key, firmware_id)
    assert backend.wait_ended(firmware_id, job_id).job_status == "COMPLETE"


def test_the_upload_address_follows_the_callers_protocol(server):
    assert Backend(server).ticket().host == f"http://{server.api}"
    assert Backend(server, protocol=None, ca=str(server.ca_file)).ticket().host == f"https://{server.api}"


def test_the_current_sdk_works_asynchronously(server, backend):
    firmware_id = backend.package(backend.product())
    request = models.ListOTAJobByFirmwareRequest(firmware_id=firmware_id, current_page=1, page_size=10)
    answer = asyncio.run(backend.client.list_otajob_by_firmware_async(request))
    assert answer.body.success is True and answer.body.total == 0


def test_the_current_sdk_tells_what_is_wrong_with_a_key(server):
    key_id, _ = server.root_key()
    for key, expected in [
        ((key_id, "not-the-secret"), "SignatureDoesNotMatch"),
        (("nobody", "not-the-secret"), "InvalidAccessKeyId.NotFound"),
    ]:
        with pytest.raises(ClientException) as refused:
            Backend(server, key).call("QueryOTAJob", job_id="x")
        assert refused.value.code == expected


def test_a_ram_user_shares_the_accounts_ten_calls_a_second(own_server):
    server = own_server(quota_scale=1)
    user_key = server.create_access_key("ci")
    root, user = Backend(server), Backend(server, user_key)
    firmware_id = root.package(root.product())
    listing = {"FirmwareId": firmware_id, "CurrentPage": 1, "PageSize": 1}

    def burst():
        """Calls in turn until one is throttled: how many were served, and what the next one met."""
        for served in range(40):
            try:
                (root, user)[served % 2].jobs(firmware_id)
            except ThrottlingException as error:
                return served, error
        return 40, None

    # A burst after a quiet second; the first try may be slowed down by opening connections.
    served, error = wait_for(burst, lambda outcome: outcome[0] == 10, timeout=10, every=1.2)
    assert error.code == "Throttling.User"
    assert 0 < error.retry_after <= 1000

    # It is the account that has used up its second, whoever calls …
    for caller in Caller(server), Caller(server, user_key):
        answer = caller.call("ListOTAJobByFirmware", listing)
        assert (answer.status, code(answer)) == (400, "Throttling.User")
        assert 0 < int(answer.headers["x-acs-retry-after"]) <= 1000
    # … of this operation only, and of this second.
    assert root.firmware(firmware_id).status == -1
    wait_for(
        lambda: Caller(server).call("ListOTAJobByFirmware", listing).status,
        lambda status: status == 200,
        timeout=5,
    )
