"""The main job from end to end: official back-end SDK, official device SDKs, a real server."""

import dataclasses
import hashlib

import pytest

from support.backend import Backend, tags
from support.waiting import wait_for

OLD, NEW = "1.0.0", "2.0.0"


def test_a_package_is_verified_on_one_device_and_then_rolled_out_to_the_fleet(server, backend, fleet):
    content = bytes(range(256)) * 80  # 20 KiB: several ranged requests
    digest = hashlib.md5(content).hexdigest()
    product_key = backend.product()
    test_device, *others = backend.devices(product_key, 4)

    firmware_id = backend.package(
        product_key, NEW, content, need_to_verify=True, firmware_desc="说明 & <story>", udi='{"a": "b"}'
    )
    package = backend.firmware(firmware_id)
    assert package.status == 0 and package.verify_progress == 0
    assert (package.firmware_sign, package.firmware_size) == (digest, len(content))
    assert (package.sign_method, package.dest_version, package.type) == ("MD5", NEW, 0)
    assert (package.firmware_desc, package.udi) == ("说明 & <story>", '{"a": "b"}')
    assert (package.product_key, package.module_name) == (product_key, "default")

    # Not verified yet: no roll-out.
    assert backend.refused(
        "CreateOTAStaticUpgradeJob",
        product_key=product_key,
        firmware_id=firmware_id,
        target_selection="ALL",
    ).startswith("iot.ota.")

    programs = [
        fleet.python(test_device, server),
        fleet.python(others[0], server),
        fleet.javascript(others[1], server),
        fleet.javascript(others[2], server),
    ]
    backend.wait_ready(OLD, test_device, *others)

    verification = backend.verification(product_key, firmware_id, test_device)
    backend.wait_task(verification, test_device, "SUCCEEDED")
    backend.wait_ended(firmware_id, verification)
    package = backend.firmware(firmware_id)
    assert package.status == 1 and package.verify_progress == 100
    assert programs[0].wait("downloaded") == {
        "event": "downloaded", "ok": True, "result": "ErrorCode.SUCCESS", "size": len(content), "md5": digest,
    }

    # Named devices first, with tags; then everyone who is left.
    named = backend.batch(
        product_key, firmware_id, others[0], others[1], tag=tags(ring="early", owner="me"), timeout_in_minutes=60
    )
    named_row = backend.wait_ended(firmware_id, named)
    everyone = backend.batch(product_key, firmware_id)
    everyone_row = backend.wait_ended(firmware_id, everyone)

    # The devices that already run the version are not bothered again.
    assert set(backend.tasks(named)) == {others[0].name, others[1].name}
    assert set(backend.tasks(everyone)) == {others[2].name}
    for job_id, identity in [(named, others[0]), (named, others[1]), (everyone, others[2])]:
        task = backend.task(job_id, identity)
        assert (task.task_status, task.progress, task.task_desc) == ("SUCCEEDED", "100.00", "")
        assert (task.src_version, task.dest_version) == (OLD, NEW)
        assert (task.job_id, task.firmware_id) == (job_id, firmware_id)
        assert (task.product_key, task.device_name, task.iot_id) == (product_key, identity.name, identity.iot_id)
        assert backend.detail(identity).firmware_version == NEW
    assert backend.task(named, others[0]).timeout == "60"
    assert backend.task(everyone, others[2]).timeout is None
    for program in programs[1:]:
        assert program.wait("downloaded")["md5"] == digest
    assert programs[2].wait("downloaded")["requests"] == 5
    assert [len(program.all("push")) for program in programs] == [1, 1, 1, 1], "each device was told once"

    # What the lists and the single view say of the batches.
    rows = backend.listed(firmware_id)
    assert [row.job_id for row in rows] == [everyone, named, verification], "newest first"
    assert [row.job_status for row in rows] == ["COMPLETE"] * 3
    assert [row.job_type for row in rows] == ["UPGRADE_FIRMWARE", "UPGRADE_FIRMWARE", "VERFIY_FIRMWARE"]
    assert [row.target_selection for row in rows] == ["ALL", "SPECIFIC", "SPECIFIC"]
    for row in rows:
        assert (row.firmware_id, row.product_key, row.selection_type) == (firmware_id, product_key, "STATIC")
        assert row.utc_create <= row.utc_start_time <= row.utc_end_time
        assert row.utc_modified >= row.utc_end_time
    assert {tag.key: tag.value for tag in named_row.tags.ota_tag_dto} == {"ring": "early", "owner": "me"}
    assert everyone_row.tags is None

    job = backend.job(named)
    assert (job.job_status, job.job_type) == ("COMPLETED", "UPGRADE_FIRMWARE")
    assert backend.job(verification).job_type == "VERIFY_FIRMWARE"
    assert (job.job_id, job.firmware_id, job.product_key) == (named, firmware_id, product_key)
    assert (job.selection_type, job.target_selection) == ("STATIC", "SPECIFIC")
    assert (job.name, job.dest_version) == (package.firmware_name, NEW)
    assert (job.need_push, job.need_confirm, job.multi_module_mode) == (True, False, False)
    assert (job.maximum_per_minute, job.overwrite_mode, job.timeout_in_minutes) == (10_000, 1, 60)
    assert job.download_protocol == "HTTPS"
    assert {tag.key: tag.value for tag in job.tags.ota_tag_dto} == {"ring": "early", "owner": "me"}
    assert (job.utc_create, job.utc_end_time) == (named_row.utc_create, named_row.utc_end_time)


@pytest.mark.parametrize("method", ["MD5", "SHA256"])
def test_the_push_is_what_device_sdks_parse(server, backend, fleet, method):
    content = b"content of the pushed file"
    product_key = backend.product()
    identity, plain = backend.devices(product_key, 2)
    program = fleet.javascript(identity, server, ignore=True)
    other = fleet.python(plain, server, ignore=True)
    backend.wait_ready(OLD, identity, plain)
    firmware_id = backend.package(product_key, NEW, content, sign_method=method, udi="udi-text")
    backend.batch(product_key, firmware_id, tag=tags(wifi="only"))

    push = program.wait("push")
    message, data = push["message"], push["message"]["data"]
    digest = hashlib.new(method.lower(), content).hexdigest()
    assert (message["code"], message["message"]) == ("1000", "success")
    assert type(message["id"]) is int
    assert ": " not in push["text"] and ", " not in push["text"], "C SDKs miss pushes that hold blanks"
    assert data["size"] == len(content)
    assert (data["version"], data["sign"]) == (NEW, digest)
    assert data["signMethod"] == {"MD5": "Md5", "SHA256": "SHA256"}[method]
    assert "module" not in data and "isDiff" not in data
    assert data["url"].startswith(f"http://{server.mqtt_host}:")
    assert len(data["url"]) < 512 and '"' not in data["url"]
    assert data["extData"] == {"wifi": "only", "_package_udi": "udi-text"}
    assert list(data)[-1] == "extData", "C SDKs take the first key of a name that they meet"
    assert other.wait("push")["sign"] == digest


def test_a_device_that_finds_the_package_bad_fails_its_task_and_says_why(server, backend, fleet):
    product_key = backend.product()
    good, bad, worse = backend.devices(product_key, 3)
    fleet.python(good, server)
    fleet.python(bad, server, fail=-3)
    fleet.javascript(worse, server, fail=-4)
    backend.wait_ready(OLD, good, bad, worse)
    firmware_id = backend.package(product_key, NEW)
    job_id = backend.batch(product_key, firmware_id)

    assert backend.wait_ended(firmware_id, job_id).job_status == "COMPLETE"
    assert backend.task(job_id, good).task_status == "SUCCEEDED"
    for identity, text in [(bad, "verification"), (worse, "flashing")]:
        task = backend.task(job_id, identity)
        assert task.task_status == "FAILED"
        assert text in task.task_desc
    failed = backend.task_page(job_id, task_status="FAILED")
    assert failed.total == 2
    assert {row.device_name for row in failed.data.simple_otatask_info} == {bad.name, worse.name}
    found = backend.task_page(job_id, device_names=[good.name, "no-such-device"]).data.simple_otatask_info
    assert [row.device_name for row in found] == [good.name]


def test_a_verification_with_one_failure_leaves_the_package_unverified(server, backend, fleet):
    product_key = backend.product()
    good, bad = backend.devices(product_key, 2)
    fleet.python(good, server)
    broken = fleet.python(bad, server, fail=-3)
    backend.wait_ready(OLD, good, bad)
    firmware_id = backend.package(product_key, NEW, need_to_verify=True)

    first = backend.verification(product_key, firmware_id, good, bad)
    backend.wait_ended(firmware_id, first)
    assert backend.firmware(firmware_id).status == 3
    assert backend.refused(
        "CreateOTAStaticUpgradeJob",
        product_key=product_key,
        firmware_id=firmware_id,
        target_selection="ALL",
    ).startswith("iot.ota.")

    # Verification may be repeated, and decides anew.
    broken.stop()
    fleet.python(bad, server)
    backend.wait_ready(OLD, bad)
    second = backend.verification(product_key, firmware_id, bad)
    backend.wait_ended(firmware_id, second)
    assert backend.firmware(firmware_id).status == 1
    assert backend.refused(
        "CreateOTAVerifyJob",
        product_key=product_key,
        firmware_id=firmware_id,
        target_device_name=[bad.name],
    ).startswith("iot.ota.")


def test_a_version_that_was_not_asked_for_fails_the_task(server, backend, fleet):
    product_key = backend.product()
    identity = backend.device(product_key)
    program = fleet.python(identity, server, ignore=True)
    backend.wait_ready(OLD, identity)
    firmware_id = backend.package(product_key, NEW)
    job_id = backend.batch(product_key, firmware_id)
    program.wait("push")
    program.send("progress 10")
    backend.wait_task(job_id, identity, "IN_PROGRESS")
    # A reboot into the old image is no failure …
    program.send(f"report {OLD}")
    program.send("progress 20")
    assert backend.wait_task(job_id, identity, "IN_PROGRESS").task_desc == ""
    # … a third version is.
    program.send("report 1.5.0")
    task = backend.wait_task(job_id, identity, "FAILED")
    assert task.task_desc == "report version is not conform"


def test_hundred_percent_is_no_success_but_the_version_is(server, backend, fleet):
    product_key = backend.product()
    identity = backend.device(product_key)
    program = fleet.javascript(identity, server, ignore=True)
    backend.wait_ready(OLD, identity)
    firmware_id = backend.package(product_key, NEW)
    job_id = backend.batch(product_key, firmware_id)
    program.wait("push")
    program.send("progress 100")
    program.wait("progress", step=100)  # comes after the server's acknowledgement
    task = backend.wait_task(job_id, identity, "IN_PROGRESS")
    assert task.progress == "100.00"
    assert backend.listed_job(firmware_id, job_id).job_status == "IN_PROGRESS"
    program.send(f"report {NEW}")
    backend.wait_task(job_id, identity, "SUCCEEDED")


@pytest.mark.parametrize("language", ["python", "javascript"])
def test_an_offline_device_is_pushed_its_package_when_it_comes_online(server, backend, fleet, language):
    product_key = backend.product()
    identity = backend.device(product_key)
    assert backend.detail(identity).status == "UNACTIVE"
    firmware_id = backend.package(product_key, NEW)
    job_id = backend.batch(product_key, firmware_id)
    assert backend.wait_task(job_id, identity, "QUEUED").progress == "0.00"

    program = getattr(fleet, language)(identity, server)
    backend.wait_task(job_id, identity, "SUCCEEDED")
    assert program.wait("push")["kind"] == "push"
    backend.wait_ended(firmware_id, job_id)


def test_a_push_is_repeated_when_the_device_returns(server, backend, fleet):
    product_key = backend.product()
    identity = backend.device(product_key)
    program = fleet.python(identity, server, ignore=True)
    backend.wait_ready(OLD, identity)
    firmware_id = backend.package(product_key, NEW)
    job_id = backend.batch(product_key, firmware_id)
    program.wait("push")
    backend.wait_task(job_id, identity, "NOTIFIED")
    program.stop()
    again = fleet.python(identity, server)
    again.wait("push")
    backend.wait_task(job_id, identity, "SUCCEEDED")


@pytest.mark.parametrize("language", ["python", "javascript"])
def test_a_batch_without_push_waits_until_the_device_asks(server, backend, fleet, language):
    product_key = backend.product()
    identity = backend.device(product_key)
    program = getattr(fleet, language)(identity, server)
    backend.wait_ready(OLD, identity)
    firmware_id = backend.package(product_key, NEW)
    job_id = backend.batch(product_key, firmware_id, need_push=False)
    backend.wait_task(job_id, identity, "QUEUED")
    assert not program.all("push")

    program.send("pull")
    assert program.wait("push")["kind"] == "pull"
    backend.wait_task(job_id, identity, "SUCCEEDED")
    assert not program.all("push", kind="push")


def test_a_device_that_asks_for_nothing_is_told_so(server, backend, fleet):
    product_key = backend.product()
    identity = backend.device(product_key)
    program = fleet.javascript(identity, server)
    backend.wait_ready(OLD, identity)
    program.send("pull")
    message = program.wait("nothing")["message"]
    assert (message["code"], message["data"]) == (200, {})
    assert isinstance(message["id"], str), "the id comes back in the type in which it was sent"


@pytest.mark.parametrize("language", ["python", "javascript"])
def test_a_wrong_secret_is_refused(server, backend, fleet, language):
    identity = backend.device(backend.product())
    stranger = dataclasses.replace(identity, secret="0" * 32)
    program = getattr(fleet, language)(stranger, server)
    assert program.wait("connack")["code"] == 4
    assert not program.all("connected")
    assert backend.detail(identity).status == "UNACTIVE"


@pytest.mark.parametrize("who", ["unknown device", "unknown product"])
def test_unknown_devices_are_refused(server, backend, fleet, who):
    identity = backend.device(backend.product())
    change = {"name": "never-made"} if who == "unknown device" else {"product_key": "a1NoProduct"}
    program = fleet.python(dataclasses.replace(identity, **change), server)
    assert program.wait("connack")["code"] == 4


def test_old_mqtt_with_a_persistent_session_and_a_long_keepalive_works(server, backend, fleet):
    product_key = backend.product()
    identity = backend.device(product_key)
    fleet.python(identity, server, protocol="MQTTv31", persistent=True, keep_alive=1200)
    backend.wait_ready(OLD, identity)
    firmware_id = backend.package(product_key, NEW)
    job_id = backend.batch(product_key, firmware_id)
    backend.wait_task(job_id, identity, "SUCCEEDED")


def test_a_device_may_connect_by_tls_on_the_same_port(server, backend, fleet):
    product_key = backend.product()
    identity = backend.device(product_key)
    fleet.javascript(identity, server, tls=True)
    backend.wait_ready(OLD, identity)
    firmware_id = backend.package(product_key, NEW)
    job_id = backend.batch(product_key, firmware_id)
    backend.wait_task(job_id, identity, "SUCCEEDED")


def test_a_python_device_may_connect_by_tls_too(server, backend, fleet):
    product_key = backend.product()
    identity = backend.device(product_key)
    # This SDK reads and writes one TLS connection from two threads, which Python's ssl does not survive when both
    # happen at once: a push that is acknowledged while progress is published ends in an endless repetition of
    # the push inside the SDK. So this device says nothing while it is told.
    program = fleet.python(identity, server, ca_file=server.ca_file, ignore=True)
    backend.wait_ready(OLD, identity)
    job_id = backend.batch(product_key, backend.package(product_key, NEW))
    program.wait("push")
    backend.wait_task(job_id, identity, "NOTIFIED")


def test_the_second_connection_of_an_identity_ends_the_first(server, backend, fleet):
    identity = backend.device(backend.product())
    first = fleet.python(identity, server)
    first.wait("connected")
    second = fleet.python(identity, server)
    second.wait("connected")
    first.wait("disconnected")
    # Both reconnect on their own and go on taking over from each other, as on the platform.
    second.wait("disconnected")


def test_a_device_goes_offline_when_its_connection_breaks(server, backend, fleet):
    identity = backend.device(backend.product())
    program = fleet.javascript(identity, server)
    backend.wait_online(identity)
    detail = backend.detail(identity)
    assert detail.utc_active and detail.utc_online
    assert detail.device_secret == identity.secret
    program.stop()
    wait_for(lambda: backend.detail(identity).status, lambda status: status == "OFFLINE")


def test_a_busy_device_keeps_its_task_and_fails_the_newer_one(server, backend):
    product_key = backend.product()
    identity = backend.device(product_key)
    first = backend.package(product_key, NEW)
    second = backend.package(product_key, "3.0.0")
    kept = backend.batch(product_key, first)
    backend.wait_task(kept, identity, "QUEUED")
    newer = backend.batch(product_key, second)
    task = backend.wait_task(newer, identity, "FAILED")
    assert task.task_desc
    assert backend.wait_ended(second, newer).job_status == "COMPLETE"
    assert backend.task(kept, identity).task_status == "QUEUED"


def test_cancelling_reaches_the_states_that_it_names(server, backend, fleet):
    product_key = backend.product()
    queued, notified, running = backend.devices(product_key, 3)
    fleet.python(notified, server, ignore=True)
    holding = fleet.javascript(running, server, hold=True)
    backend.wait_ready(OLD, notified, running)
    firmware_id = backend.package(product_key, NEW)
    job_id = backend.batch(product_key, firmware_id)
    holding.wait("holding")
    backend.wait_task(job_id, notified, "NOTIFIED")
    backend.wait_task(job_id, running, "IN_PROGRESS")
    backend.wait_task(job_id, queued, "QUEUED")

    def states():
        tasks = backend.tasks(job_id)
        return [tasks[identity.name].task_status for identity in (queued, notified, running)]

    assert backend.refused("CancelOTATaskByJob", job_id=job_id).startswith("iot.")
    assert states() == ["QUEUED", "NOTIFIED", "IN_PROGRESS"]
    backend.cancel(job_id, cancel_queued_task=True)
    assert states() == ["CANCELED", "NOTIFIED", "IN_PROGRESS"]
    backend.cancel(job_id, cancel_notified_task=True)
    assert states() == ["CANCELED", "CANCELED", "IN_PROGRESS"]
    assert backend.listed_job(firmware_id, job_id).job_status == "IN_PROGRESS"
    backend.cancel(job_id, cancel_in_progress_task=True)
    assert states() == ["CANCELED"] * 3
    row = backend.wait_ended(firmware_id, job_id)
    assert row.job_status == "CANCELED" and row.utc_end_time
    assert backend.job(job_id).job_status == "CANCELED"

    # The device knows nothing of it; what it reports later is its version and no more.
    holding.send("go")
    wait_for(lambda: backend.detail(running).firmware_version, lambda version: version == NEW)
    assert states() == ["CANCELED"] * 3


def test_the_timeout_counts_from_the_first_progress(make_server, fleet):
    server = make_server(minute_ms=300)
    backend = Backend(server)
    product_key = backend.product()
    silent, stuck = backend.devices(product_key, 2)
    fleet.python(silent, server, ignore=True)
    fleet.javascript(stuck, server, hold=True)
    backend.wait_ready(OLD, silent, stuck)
    firmware_id = backend.package(product_key, NEW)
    job_id = backend.batch(product_key, firmware_id, timeout_in_minutes=1)

    task = backend.wait_task(job_id, stuck, "FAILED")
    assert (task.task_desc, task.timeout) == ("timeout", "1")
    # A device that never reported progress has no deadline: the batch stays open.
    assert backend.task(job_id, silent).task_status == "NOTIFIED"
    assert backend.listed_job(firmware_id, job_id).job_status == "IN_PROGRESS"


def test_the_push_rate_of_a_batch_is_kept(server, backend, fleet):
    product_key = backend.product()
    identities = backend.devices(product_key, 4)
    programs = [fleet.javascript(identity, server) for identity in identities]
    backend.wait_ready(OLD, *identities)
    firmware_id = backend.package(product_key, NEW)
    job_id = backend.batch(product_key, firmware_id, maximum_per_minute=100)
    assert backend.job(job_id).maximum_per_minute == 100
    backend.wait_ended(firmware_id, job_id)
    arrivals = sorted(program.wait("push")["at"] for program in programs)
    # 100 a minute is one every 600 ms; the fourth comes three of those after the first.
    assert 1_500 < arrivals[-1] - arrivals[0] < 10_000
