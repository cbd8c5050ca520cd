"""Packages' files in an object store that speaks S3, from the upload to the end of the package."""

import concurrent.futures
import hashlib
import json
import random
import re
import socket
import threading

import pytest
import requests
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from support.backend import Backend, unique, upload
from support.object_store import ObjectStore
from support.raw import get
from support.server import REPOSITORY, Server
from support.waiting import wait_for
from test_mqtt_download import Device

OLD, NEW = "1.0.0", "2.0.0"
MIB = 1024 * 1024
# Three parts of an upload, and many chunks of downloads.
IMAGE = random.Random(11).randbytes(12 * MIB + 12_345)
ORPHAN = "files/ab/abcdefghijklmnopqrstuvwx"


@pytest.fixture
def store():
    store = ObjectStore()
    yield store
    store.close()


@pytest.fixture
def stored(store, own_server):
    """Starts servers that have their files in the store."""
    return lambda **settings: own_server(**(store.settings | settings))


def test_a_package_lives_in_the_object_store_from_its_upload_to_its_end(store, stored, fleet):
    # The purge looks as often as uploads may wait.
    server = stored(upload_ticket_seconds=10, upload_unused_seconds=10)
    backend = Backend(server)
    product_key = backend.product()
    by_http, by_mqtt = backend.devices(product_key, 2)
    program, device = fleet.javascript(by_http, server), Device(server, by_mqtt)
    device.report(OLD)
    backend.wait_ready(OLD, by_http, by_mqtt)
    firmware_id = backend.package(product_key, NEW, IMAGE)
    (name,) = store.names()
    assert re.fullmatch(r"files/(..)/\1[A-Za-z0-9]{22}", name)
    assert store.content(name) == IMAGE and store.unfinished() == []
    assert list((server.data_dir / "blobs").glob("*/*")) == [], "nothing on the disk"

    job_id = backend.batch(product_key, firmware_id, by_http)
    backend.wait_task(job_id, by_http, "SUCCEEDED")
    assert program.wait("downloaded")["md5"] == hashlib.md5(IMAGE).hexdigest()

    url = backend.firmware(firmware_id).firmware_url
    assert url.startswith(f"http://{server.api}/")
    whole, head = get(url), get(url, method="HEAD")
    assert whole.status == 200 and whole.body == IMAGE
    for answer in (whole, head):
        assert answer.header("Content-Length") == str(len(IMAGE))
        assert answer.header("Etag") == f'"{hashlib.md5(IMAGE).hexdigest()}"'
    for asked, first, last in [
        ("bytes=0-0", 0, 0),
        ("bytes=262143-262144", 262_143, 262_144),
        (f"bytes={5 * MIB}-", 5 * MIB, len(IMAGE) - 1),
        ("bytes=-10", len(IMAGE) - 10, len(IMAGE) - 1),
    ]:
        part = get(url, Range=asked)
        assert part.status == 206 and part.body == IMAGE[first : last + 1]
        assert part.header("Content-Range") == f"bytes {first}-{last}/{len(IMAGE)}"
    assert get(url, Range=f"bytes={len(IMAGE)}-").status == 416

    # Blocks of 512 bytes are no requests of 512 bytes.
    job_id = backend.batch(product_key, firmware_id, by_mqtt, download_protocol="MQTT")
    data = json.loads(device.next(f"/ota/device/upgrade/{device.owner}"))["data"]
    before = store.reads()
    got = b"".join(device.block(data, offset, 512) for offset in range(MIB, MIB + 51_200, 512))
    assert got == IMAGE[MIB : MIB + 51_200]
    assert store.reads() - before <= 1
    device.stop()

    backend.cancel(job_id, cancel_notified_task=True, cancel_in_progress_task=True)
    backend.ok("DeleteOTAFirmware", firmware_id=firmware_id)
    wait_for(store.names, lambda names: names == [], timeout=40)
    assert get(url).status == 404


def test_files_of_every_size_come_back_as_they_were(store, stored):
    backend = Backend(stored())
    product_key = backend.product()
    part = 5 * MIB
    files = {str(size): IMAGE[:size] for size in (0, 1, 262_144, 262_145, part, part + 1, 2 * part)}
    firmware_id = backend.package_of(product_key, files)
    for file in backend.firmware(firmware_id).multi_files:
        assert requests.get(file.url, timeout=10).content == files[file.name], file.name


def signed_by(url, store):
    """The signature that AWS's own library gives an address."""
    unsigned, signature = url.split("&X-Amz-Signature=")
    keys = Credentials(store.settings["s3_access_key_id"], store.settings["s3_secret_access_key"])
    signer = S3SigV4QueryAuth(keys, "s3", store.settings["s3_region"])
    request = AWSRequest(method="GET", url=unsigned)
    request.context["timestamp"] = re.search(r"X-Amz-Date=(\w+)", url)[1]
    return signature, signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)


def test_devices_and_back_ends_are_sent_to_the_store_if_so_wished(store, stored, fleet):
    server = stored(downloads_direct="true", download_url_seconds=10_000_000)
    backend = Backend(server)
    product_key = backend.product()
    identity = backend.device(product_key)
    program = fleet.javascript(identity, server)
    backend.wait_ready(OLD, identity)
    content = IMAGE[:100_000]
    firmware_id = backend.package(product_key, NEW, content)
    url = backend.firmware(firmware_id).firmware_url
    assert url.startswith(f"{store.endpoint}/{store.bucket}/files/")
    assert "X-Amz-Expires=604800&" in url, "seven days at most"
    found, expected = signed_by(url, store)
    assert found == expected
    assert requests.get(url, timeout=10, headers={"Range": "bytes=7-9"}).content == content[7:10]

    job_id = backend.batch(product_key, firmware_id)
    backend.wait_ended(firmware_id, job_id)
    assert backend.task(job_id, identity).task_status == "SUCCEEDED"
    assert program.wait("downloaded")["md5"] == hashlib.md5(content).hexdigest()
    assert program.wait("push")["message"]["data"]["url"].startswith(f"{store.endpoint}/{store.bucket}/")


def test_while_the_store_is_away_nothing_is_lost_and_everybody_is_told_to_come_back(store, stored):
    server = stored()
    backend = Backend(server)
    product_key = backend.product()
    url = backend.firmware(backend.package(product_key, NEW, IMAGE)).firmware_url
    ticket = backend.ticket()
    store.stop()
    for _ in range(2):
        answer = get(url)
        assert answer.status == 503 and int(answer.header("Retry-After")) >= 5
    # Who waits for the same bytes is told together, not one after the other.
    with concurrent.futures.ThreadPoolExecutor(60) as many:
        answers = list(many.map(lambda _: requests.get(url, timeout=20).status_code, range(60)))
    assert answers == [503] * 60
    refused = upload(ticket, IMAGE)
    assert refused.status_code == 503 and "<Code>ServiceUnavailable</Code>" in refused.text
    assert requests.get(f"http://{server.api}/readyz", timeout=5).status_code == 200
    store.start()
    assert wait_for(lambda: get(url), lambda answer: answer.status == 200).body == IMAGE
    assert upload(ticket, IMAGE).status_code == 200
    assert len(store.names()) == 2
    log = server.log.read_text()
    assert log.count("the object store does not work") == 1 and log.count("the object store works again") == 1
    assert "store-secret" not in log


def test_an_object_that_is_gone_or_was_cut_is_served_to_nobody(store, stored):
    backend = Backend(stored())
    product_key = backend.product()
    for version, damage in [("1", store.remove), ("2", lambda name: store.put(name, b"cont"))]:
        before = set(store.names())
        url = backend.firmware(backend.package(product_key, version, b"content")).firmware_url
        (name,) = set(store.names()) - before
        damage(name)
        for method in ("GET", "HEAD"):
            assert get(url, method=method).status == 404


def slow_upload(server, ticket, content):
    """Sends all of a form but its end; the connection."""
    boundary = "----slow"
    fields = {
        "key": ticket.key,
        "policy": ticket.policy,
        "OSSAccessKeyId": ticket.ossaccess_key_id,
        "signature": ticket.signature,
    }
    head = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    head += f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    length = len(head) + len(content) + 1_000
    host, port = server.api.rsplit(":", 1)
    connection = socket.create_connection((host, int(port)), timeout=20)
    connection.sendall(
        f"POST / HTTP/1.1\r\nHost: {server.api}\r\nContent-Length: {length}\r\n"
        f"Content-Type: multipart/form-data; boundary={boundary}\r\n\r\n{head}".encode()
    )
    connection.sendall(content)
    return connection


def test_an_upload_that_ends_midway_leaves_nothing_that_is_served(store, stored):
    server = stored()
    backend = Backend(server)
    ticket = backend.ticket()
    with slow_upload(server, ticket, IMAGE):
        wait_for(store.unfinished, lambda parts: parts and parts[0] >= 2)
    # Who hangs up has the upload ended.
    wait_for(store.unfinished, lambda parts: parts == [])
    with slow_upload(server, ticket, IMAGE):
        wait_for(store.unfinished, lambda parts: parts and parts[0] >= 2)
        server.kill()
    # Nobody could end this one: a rule of the bucket does.
    assert store.names() == [] and len(store.unfinished()) == 1
    server.start()
    assert backend.refused(
        "CreateOTAFirmware",
        product_key=backend.product(),
        dest_version=NEW,
        firmware_name=unique("fw"),
        firmware_url=ticket.firmware_url,
        need_to_verify=False,
    )
    assert upload(ticket, IMAGE).status_code == 200
    assert [store.content(name) for name in store.names()] == [IMAGE]


def test_objects_that_nobody_names_are_removed_when_they_are_old(store, stored):
    server = stored()
    backend = Backend(server)
    url = backend.firmware(backend.package(backend.product(), NEW, b"content")).firmware_url
    (used,) = store.names()
    young, foreign = ORPHAN.replace("ab", "cd"), ["files/notes.txt", "files/ab/short", f"elsewhere/{ORPHAN}"]
    for name in [ORPHAN, young, *foreign]:
        store.put(name)
    for name in [used, ORPHAN, *foreign]:
        store.age(name, days=2)
    server.stop()
    server.start()
    wait_for(store.names, lambda names: ORPHAN not in names)
    assert store.names() == sorted([used, young, *foreign])
    assert get(url).body == b"content"


def resident(server, what):
    """Bytes of the process in memory: VmRSS now, or VmHWM at most until now."""
    with open(f"/proc/{server.process.pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(what))


def test_a_large_upload_takes_no_more_memory_than_two_parts(store, stored):
    server = stored()
    backend = Backend(server)
    assert upload(backend.ticket(), IMAGE).status_code == 200
    before = resident(server, "VmRSS")
    content = IMAGE[: 10 * MIB] * 10
    ticket = backend.ticket()
    assert upload(ticket, content).status_code == 200
    grown = resident(server, "VmHWM") - before
    assert grown < 40 * MIB, f"{grown / MIB:.0f} MiB"
    firmware_id = backend.ok(
        "CreateOTAFirmware",
        product_key=backend.product(),
        dest_version=NEW,
        firmware_name=unique("fw"),
        firmware_url=ticket.firmware_url,
        need_to_verify=False,
    ).data.firmware_id
    url = backend.firmware(firmware_id).firmware_url
    digests = []

    def download():
        with requests.get(url, stream=True, timeout=30) as answer:
            digest = hashlib.md5()
            for piece in answer.iter_content(MIB):
                digest.update(piece)
            digests.append(digest.hexdigest())

    readers = [threading.Thread(target=download) for _ in range(8)]
    reads = store.reads()
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert digests == [hashlib.md5(content).hexdigest()] * 8
    # They share what is fetched: eight readers cost far less than eight times the requests.
    assert store.reads() - reads < 2 * len(content) // (256 * 1024)
    grown = resident(server, "VmHWM") - before
    assert grown < 160 * MIB, f"{grown / MIB:.0f} MiB, 64 of them kept chunks"


@pytest.fixture
def refused(store, tmp_path):
    """Starts a server that must not start; why it does not, and the server."""

    def start(**settings):
        server = Server(tmp_path / unique("refused"), **(store.settings | settings))
        with pytest.raises(AssertionError) as error:
            server.start()
        server.process = None
        Server.running.remove(server)
        return str(error.value), server

    return start


def test_a_store_that_cannot_be_used_or_is_anothers_is_refused_by_name(store, stored, refused):
    first = stored()
    why, _ = refused(blobs_url="s3://nosuchbucket/files")
    assert "there is no such bucket" in why
    why, other = refused()
    assert "belong to another installation" in why
    report = other.command("doctor", "--json")
    assert "belong to another installation" in report.stdout and report.returncode == 1
    report = first.command("doctor", "--json")
    assert f"{store.settings['blobs_url']} can be read and is this installation's" in report.stdout


def documented_policy(store):
    """The policy of docs/operating.md, for the test's bucket and prefix."""
    text = (REPOSITORY / "docs/operating.md").read_text()
    policy = next(block for block in re.findall(r"```json\n(.*?)```", text, re.S) if "s3:PutObject" in block)
    policy = policy.replace("updraft-files/production", f"{store.bucket}/files")
    return json.loads(policy.replace("updraft-files", store.bucket))


def test_the_documented_permissions_suffice_and_a_wrong_key_is_refused(store, stored, refused):
    policy = documented_policy(store)
    with store.guarded(policy) as key:
        server = stored(**key, upload_ticket_seconds=10, upload_unused_seconds=10)
        backend = Backend(server)
        firmware_id = backend.package(backend.product(), NEW, IMAGE)
        assert get(backend.firmware(firmware_id).firmware_url).body == IMAGE
        with slow_upload(server, backend.ticket(), IMAGE):
            wait_for(store.unfinished, lambda parts: parts and parts[0] >= 2)
        wait_for(store.unfinished, lambda parts: parts == [])
        backend.ok("DeleteOTAFirmware", firmware_id=firmware_id)
        wait_for(store.names, lambda names: names == [], timeout=40)
        for wrong, word in [
            ({"s3_secret_access_key": "wrong"}, "`s3_secret_access_key` is not the secret of"),
            ({"s3_access_key_id": "AKIANOBODY"}, "does not know the key `s3_access_key_id`"),
        ]:
            why, _ = refused(**(key | wrong))
            assert word in why
    # What the key may not do is told, too.
    policy["Statement"][0]["Action"].remove("s3:PutObject")
    store.remove("files/installation")
    with store.guarded(policy) as key:
        why, _ = refused(**key)
        assert "the key may not do this" in why


def test_a_backup_lists_the_objects_that_it_does_not_hold(store, stored, tmp_path):
    server = stored()
    backend = Backend(server)
    product_key = backend.product()
    kept = backend.package(product_key, NEW, b"kept content")
    (name,) = store.names()
    backend.package(product_key, "3.0.0", b"lost content")
    (lost,) = set(store.names()) - {name}
    store.remove(lost)
    done = server.command("backup", str(tmp_path / "backup"))
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["not_copied"], said["damaged"]) == (1, [lost.removeprefix("files/")])
    assert "does not hold the 1 uploaded files" in done.stderr and store.settings["blobs_url"] in done.stderr
    manifest = json.loads((tmp_path / "backup" / "backup.json").read_text())
    digest = hashlib.sha256(b"kept content").hexdigest()
    assert manifest["not_copied"] == {name.removeprefix("files/"): {"bytes": 12, "sha256": digest}}
    server.stop()

    restored = Server(tmp_path / "restored", **(store.settings | {"quota_scale": 0}))
    done = restored.command("restore", str(tmp_path / "backup"))
    assert done.returncode == 0 and "does not hold the 1 uploaded files" in done.stderr
    restored.start()
    try:
        url = Backend(restored).firmware(kept).firmware_url
        assert get(url).body == b"kept content"
    finally:
        restored.stop()
