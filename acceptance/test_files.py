"""Packages of several files, their list, and the end of uploads that nobody uses."""

import hashlib
import re

import pytest
import requests

from support.backend import Backend, upload
from support.waiting import wait_for

OLD, NEW = "1.0.0", "2.0.0"
FILES = {
    "kernel (1).bin": bytes(range(256)) * 40,  # 10 KiB: several ranged requests
    "根文件系统.img": b"root file system",
    "empty": b"",
}


@pytest.mark.parametrize("method", ["MD5", "SHA256"])
def test_a_device_downloads_every_file_of_a_package_and_checks_each(server, backend, fleet, method):
    product_key = backend.product()
    identity = backend.device(product_key)
    program = fleet.javascript(identity, server)
    backend.wait_ready(OLD, identity)
    firmware_id = backend.package_of(product_key, FILES, NEW, sign_method=method, udi="udi-text")

    info = backend.firmware(firmware_id)
    assert (info.firmware_url, info.firmware_size, info.firmware_sign) == (None, None, None)
    assert [file.name for file in info.multi_files] == list(FILES)
    for file, content in zip(info.multi_files, FILES.values(), strict=True):
        assert file.size == len(content)
        assert file.file_md_5 == hashlib.md5(content).hexdigest()
        assert file.sign_value == hashlib.new(method.lower(), content).hexdigest()
        assert requests.get(file.url, timeout=10).content == content

    job_id = backend.batch(product_key, firmware_id)
    backend.wait_ended(firmware_id, job_id)
    assert backend.task(job_id, identity).task_status == "SUCCEEDED"
    for name, content in FILES.items():
        done = program.wait("downloaded", name=name)
        assert done["ok"] and done["md5"] == hashlib.md5(content).hexdigest()

    push = program.wait("push")
    data = push["message"]["data"]
    assert not {"size", "url", "sign", "md5"} & set(data), "the keys of the single form are absent"
    assert data["signMethod"] == {"MD5": "Md5", "SHA256": "SHA256"}[method]
    assert [file["fileName"] for file in data["files"]] == list(FILES)
    assert len({file["fileUrl"] for file in data["files"]}) == len(FILES)
    assert all(("fileMd5" in file) == (method == "MD5") for file in data["files"])
    assert all(list(file)[-1] == "fileName" for file in data["files"]), "texts of users come last"
    assert list(data)[-1] == "extData"
    outside = push["text"].replace("kernel (1).bin", "")
    assert " " not in outside, "C SDKs miss pushes that hold blanks"


def test_a_package_of_one_named_file_reaches_every_device_in_the_single_form(server, backend, fleet):
    product_key = backend.product()
    identities = backend.devices(product_key, 2)
    programs = [fleet.javascript(identities[0], server), fleet.python(identities[1], server)]
    backend.wait_ready(OLD, *identities)
    firmware_id = backend.package_of(product_key, {"only.bin": b"the only file"}, NEW)
    assert [file.name for file in backend.firmware(firmware_id).multi_files] == ["only.bin"]
    job_id = backend.batch(product_key, firmware_id)
    backend.wait_ended(firmware_id, job_id)
    assert {task.task_status for task in backend.tasks(job_id).values()} == {"SUCCEEDED"}
    for program in programs:
        assert program.wait("push")["size"] == len(b"the only file")
    assert "files" not in programs[0].wait("push")["message"]["data"]


def test_packages_are_listed_newest_first(backend):
    product_key, other = backend.product(), backend.product()
    single = backend.package(product_key, "1.1", b"content")
    several = backend.package_of(product_key, {"a": b"12", "b": b"345"}, "1.2")
    elsewhere = backend.package(other, "1.2")

    def listed(**fields):
        body = backend.ok("ListOTAFirmware", **({"current_page": 1, "page_size": 100} | fields))
        rows = body.firmware_info.simple_firmware_info or []
        return body, {row.firmware_id: row for row in rows}

    body, rows = listed(product_key=product_key)
    assert list(rows) == [several, single] and body.total == 2
    assert (rows[single].firmware_size, rows[single].firmware_sign) == (7, hashlib.md5(b"content").hexdigest())
    assert (rows[several].firmware_size, rows[several].firmware_sign) == (5, None)
    assert (rows[several].dest_version, rows[several].status, rows[several].type) == ("1.2", -1, 0)
    assert list(listed(dest_version="1.2", product_key=other)[1]) == [elsewhere]
    body, rows = listed(product_key=product_key, page_size=1, current_page=2)
    assert list(rows) == [single] and (body.page_count, body.current_page) == (2, 2)


def test_uploads_without_a_package_are_purged_at_last_and_others_stay(own_server):
    server = own_server(upload_unused_seconds=1, upload_ticket_seconds=1)
    backend = Backend(server)
    product_key = backend.product()
    kept = backend.firmware(backend.package(product_key, content=b"kept"))
    url = backend.uploaded(b"left behind")
    stored = lambda: len(list((server.data_dir / "blobs").glob("??/*")))
    wait_for(stored, lambda count: count == 1, timeout=60)
    assert backend.refused(
        "CreateOTAFirmware", product_key=product_key, firmware_name="late", dest_version="2.0", firmware_url=url
    ) == "iot.ota.InvalidFirmwareUrl"
    # Neither the row nor the blob comes back with a start, and what a package uses is there.
    server.kill()
    server.start()
    assert stored() == 1
    assert requests.get(kept.firmware_url, timeout=10).content == b"kept"
    free = re.search(r"^updraft_disk_free_bytes (\S+)", requests.get(f"http://{server.api}/metrics").text, re.M)
    assert float(free[1]) > 0


def test_a_disk_without_room_refuses_uploads_and_the_rest_goes_on(own_server):
    server = own_server()
    backend = Backend(server)
    product_key, ticket = backend.product(), backend.ticket()
    server.stop()
    server.environment["UPDRAFT_DISK_RESERVE_BYTES"] = str(2**62)
    server.start()
    assert backend.refused("GenerateOTAUploadURL") == "iot.ota.InsufficientStorage"
    answer = upload(ticket, b"content", backend.ca)
    assert answer.status_code == 507
    assert "<Code>InsufficientStorage</Code>" in answer.text and "disk_reserve_bytes" in answer.text
    assert backend.device(product_key).secret
