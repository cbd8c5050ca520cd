"""ListOTAJobByFirmware to the letter of its page: names, types, values, JSON and XML, paging, errors."""

import json
import re

import pytest

from support.backend import tags
from support.signed import Caller, code

UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
REQUEST_ID = re.compile(r"[0-9A-F]{8}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{12}")

TOP = {"RequestId", "Success", "Data", "CurrentPage", "PageSize", "PageCount", "Total"}
# The page's example; Tags and UtcEndTime come when there are any.
ROW = {
    "FirmwareId", "JobId", "JobStatus", "JobType", "ProductKey", "SelectionType", "TargetSelection",
    "UtcCreate", "UtcModified", "UtcStartTime",
}


@pytest.fixture(scope="module")
def history(backend):
    """A package with a verification that runs, and a package with seven batches, the last of them running."""
    product_key = backend.product()
    verified = backend.package(product_key, "1.9.0", need_to_verify=True)
    firmware_id = backend.package(product_key, "2.0.0")
    # Without devices a batch ends as it begins.
    jobs = [backend.batch(product_key, firmware_id) for _ in range(5)]
    jobs.append(backend.batch(product_key, firmware_id, tag=tags(key1="value1", key2="<&>\"' ü")))
    for job_id in jobs:
        backend.wait_ended(firmware_id, job_id)
    identity = backend.device(product_key)
    jobs.append(backend.batch(product_key, firmware_id, identity))
    backend.wait_task(jobs[-1], identity, "QUEUED")
    # The device is busy by now; the verification's task fails, and with it the verification.
    other = backend.device(product_key)
    verification = backend.verification(product_key, verified, other)
    return {
        "product_key": product_key,
        "firmware_id": firmware_id,
        "jobs": jobs,
        "verified": verified,
        "verification": verification,
    }


def page(history, number=1, size=10, **changes):
    return {"FirmwareId": history["firmware_id"], "CurrentPage": number, "PageSize": size} | changes


def test_the_json_has_the_pages_names_and_types(caller, history):
    body = caller.ok("ListOTAJobByFirmware", page(history))
    assert body.keys() == TOP
    assert REQUEST_ID.fullmatch(body["RequestId"])
    assert body["Success"] is True
    assert [body[name] for name in ("Total", "PageCount", "PageSize", "CurrentPage")] == [7, 1, 10, 1]
    assert body["Data"].keys() == {"SimpleOTAJobInfo"}
    rows = body["Data"]["SimpleOTAJobInfo"]
    assert [row["JobId"] for row in rows] == history["jobs"][::-1], "newest first"

    running, tagged, *plain = rows
    assert running.keys() == ROW, "no UtcEndTime while it runs, no Tags without tags"
    assert tagged.keys() == ROW | {"Tags", "UtcEndTime"}
    assert all(row.keys() == ROW | {"UtcEndTime"} for row in plain)
    assert (running["JobStatus"], running["TargetSelection"]) == ("IN_PROGRESS", "SPECIFIC")
    assert (tagged["JobStatus"], tagged["TargetSelection"]) == ("COMPLETE", "ALL")
    assert tagged["Tags"] == {
        "OtaTagDTO": [{"Key": "key1", "Value": "value1"}, {"Key": "key2", "Value": "<&>\"' ü"}]
    }
    for row in rows:
        assert all(isinstance(value, str) for name, value in row.items() if name != "Tags")
        assert (row["FirmwareId"], row["ProductKey"]) == (history["firmware_id"], history["product_key"])
        assert (row["JobType"], row["SelectionType"]) == ("UPGRADE_FIRMWARE", "STATIC")
        assert all(UTC.fullmatch(value) for name, value in row.items() if name.startswith("Utc"))
        assert len(row["JobId"]) <= 32


def test_a_verification_is_spelt_as_on_the_page(caller, history):
    body = caller.ok("ListOTAJobByFirmware", page(history, FirmwareId=history["verified"]))
    (row,) = body["Data"]["SimpleOTAJobInfo"]
    assert row["JobId"] == history["verification"]
    assert (row["JobType"], row["JobStatus"]) == ("VERFIY_FIRMWARE", "IN_PROGRESS")
    assert (row["SelectionType"], row["TargetSelection"]) == ("STATIC", "SPECIFIC")


def tree(element):
    """An XML element as (name, text or children by name): the order of fields means nothing."""
    assert not element.attrib
    if len(element) == 0:
        return element.tag, element.text or ""
    return element.tag, sorted((tree(child) for child in element), key=lambda child: child[0])


def as_tree(name, value):
    """What `tree` must make of a JSON value rendered by the rules: wrapped lists repeat their element."""
    if isinstance(value, dict):
        children = []
        for key, inner in value.items():
            children += [as_tree(key, item) for item in inner] if isinstance(inner, list) else [as_tree(key, inner)]
        return name, sorted(children, key=lambda child: child[0]) if children else ""
    return name, json.dumps(value) if isinstance(value, (bool, int)) else value


@pytest.mark.parametrize("number", [1, 2])
def test_the_xml_is_the_json_as_a_tree(caller, history, number):
    answer = caller.call("ListOTAJobByFirmware", page(history, number), Format="XML")
    body = caller.ok("ListOTAJobByFirmware", page(history, number))
    root = answer.xml
    assert REQUEST_ID.fullmatch(root.find("RequestId").text)
    root.find("RequestId").text = body["RequestId"] = "the same"
    assert answer.status == 200
    assert tree(root) == as_tree("ListOTAJobByFirmwareResponse", body)
    rows = root.findall("./Data/SimpleOTAJobInfo")
    assert len(rows) == len(body["Data"]["SimpleOTAJobInfo"])
    if number == 1:
        assert [row.findtext("JobId") for row in rows] == history["jobs"][::-1]
        assert [tag.findtext("Value") for tag in rows[1].findall("./Tags/OtaTagDTO")] == ["value1", "<&>\"' ü"]


@pytest.mark.parametrize("spelling", ["JSON", "json", "Json"])
def test_the_format_may_be_spelt_in_any_case(caller, history, spelling):
    assert caller.ok("ListOTAJobByFirmware", page(history), Format=spelling)["Total"] == 7


@pytest.mark.parametrize("spelling", [None, "xml", "XML"])
def test_without_a_format_the_answer_is_xml(caller, history, spelling):
    answer = caller.call("ListOTAJobByFirmware", page(history), Format=spelling)
    assert answer.xml.findtext("Total") == "7"


def test_an_unknown_format_is_refused(caller, history):
    answer = caller.call("ListOTAJobByFirmware", page(history), Format="YAML")
    assert answer.status == 400
    assert "InvalidParameter.Format" in answer.text


@pytest.mark.parametrize("method, body", [("GET", False), ("POST", False), ("POST", True)])
def test_parameters_are_found_in_the_query_and_in_the_body(caller, history, method, body):
    assert caller.ok("ListOTAJobByFirmware", page(history), method=method, body=body)["Total"] == 7


def test_pages_hold_every_batch_once_newest_first(caller, history):
    seen = []
    for number in (1, 2, 3, 4):
        body = caller.ok("ListOTAJobByFirmware", page(history, number, size=2))
        assert (body["Total"], body["PageCount"], body["PageSize"], body["CurrentPage"]) == (7, 4, 2, number)
        seen += [row["JobId"] for row in body["Data"]["SimpleOTAJobInfo"]]
    assert seen == history["jobs"][::-1]


def test_a_page_past_the_end_is_empty(caller, history):
    body = caller.ok("ListOTAJobByFirmware", page(history, 9))
    assert body["Data"] == {"SimpleOTAJobInfo": []}
    assert (body["Total"], body["PageCount"], body["CurrentPage"]) == (7, 1, 9)


def test_a_package_without_batches_has_no_pages(caller, backend, history):
    firmware_id = backend.package(history["product_key"], "9.0.0")
    body = caller.ok("ListOTAJobByFirmware", page(history, FirmwareId=firmware_id))
    assert body["Data"] == {"SimpleOTAJobInfo": []}
    assert (body["Total"], body["PageCount"]) == (0, 0)


def test_the_largest_page_is_200(caller, history):
    assert caller.ok("ListOTAJobByFirmware", page(history, size=200))["PageSize"] == 200
    assert caller.ok("ListOTAJobByFirmware", page(history, size=1))["PageCount"] == 7


@pytest.mark.parametrize("changes", [{"PageSize": 201}, {"PageSize": 0}, {"CurrentPage": 0}])
def test_pages_out_of_range_are_refused(caller, history, changes):
    answer = caller.call("ListOTAJobByFirmware", page(history, **changes))
    assert (answer.status, code(answer)) == (200, "iot.common.InvalidPageParams")
    assert answer.json.keys() == {"RequestId", "Success", "Code", "ErrorMessage"}


def test_an_unknown_package_is_refused(caller, history):
    answer = caller.call("ListOTAJobByFirmware", page(history, FirmwareId="NoSuchFirmware0123456"))
    assert (answer.status, code(answer)) == (200, "iot.ota.FirmwareNotFound")
    xml = caller.call("ListOTAJobByFirmware", page(history, FirmwareId="NoSuchFirmware0123456"), Format="XML").xml
    assert xml.tag == "ListOTAJobByFirmwareResponse"
    assert (xml.findtext("Success"), xml.findtext("Code")) == ("false", "iot.ota.FirmwareNotFound")


def test_an_unknown_instance_is_refused(caller, history):
    answer = caller.call("ListOTAJobByFirmware", page(history, IotInstanceId="iot-cn-nowhere"))
    assert (answer.status, code(answer)) == (200, "iot.system.InstanceNotFound")


@pytest.mark.parametrize("name", ["FirmwareId", "CurrentPage", "PageSize"])
def test_a_missing_parameter_is_named(caller, history, name):
    parameters = page(history)
    del parameters[name]
    answer = caller.call("ListOTAJobByFirmware", parameters)
    assert (answer.status, code(answer)) == (400, f"Missing{name}")
    assert answer.json["Message"] == f"{name} is mandatory for this action."
    assert REQUEST_ID.fullmatch(answer.json["RequestId"])
    assert answer.json["HostId"]


def test_a_gateway_error_in_xml_has_the_error_element(caller, history):
    root = caller.call("ListOTAJobByFirmware", {"FirmwareId": "x"}, Format="XML").xml
    assert root.tag == "Error"
    assert {"RequestId", "HostId", "Code", "Message"} <= {child.tag for child in root}


def test_a_ram_user_sees_the_accounts_batches(server, history):
    """A RAM user is a user of the account, so what it sees is the account's."""
    user = Caller(server, server.create_access_key("reader"))
    assert user.ok("ListOTAJobByFirmware", page(history))["Total"] == 7
