"""Batches in full, told with the official SDKs: shares, source versions, schedules, consent, retries, second tries."""

import hashlib
import hmac
import json
import threading
import time

import paho.mqtt.client as mqtt
import pytest
from alibabacloud_iot20180120 import models

from support.backend import Backend, unique
from support.waiting import wait_for

OLD, NEW = "1.0.0", "2.0.0"


@pytest.fixture(scope="module")
def hurried(make_server):
    """A server whose minute has a tenth of a second: schedules and retries need not be waited for."""
    return make_server(minute_ms=100)


def in_minutes(minutes):
    """So many of its minutes from now, as the API takes it."""
    return int(time.time() * 1_000 + minutes * 100)


def statuses(backend, job_id):
    return sorted(task.task_status for task in backend.tasks(job_id).values())


def test_a_gray_batch_takes_exactly_its_share(backend):
    product_key = backend.product()
    devices = backend.devices(product_key, 7)
    firmware_id = backend.package(product_key, NEW)
    job_id = backend.batch(product_key, firmware_id, target_selection="GRAY", gray_percent="50")
    tasks = wait_for(lambda: backend.tasks(job_id), lambda tasks: len(tasks) == 3)
    assert set(tasks) < {identity.name for identity in devices}
    job = backend.job(job_id)
    assert (job.target_selection, job.gray_percent) == ("GRAY", "50.00")
    # The rest follows: those that are in the first share are busy there.
    rest = backend.batch(product_key, firmware_id)
    wait_for(lambda: statuses(backend, rest), lambda found: found == ["FAILED"] * 3 + ["QUEUED"] * 4)


def test_source_versions_decide_who_is_in_a_batch(server, backend, fleet):
    product_key = backend.product()
    old, older = backend.devices(product_key, 2)
    fleet.javascript(old, server)
    fleet.javascript(older, server, version="0.9.0")
    backend.wait_ready(OLD, old)
    backend.wait_ready("0.9.0", older)
    firmware_id = backend.package(product_key, NEW)
    job_id = backend.batch(product_key, firmware_id, src_version=[OLD, "1.1.0"])
    assert backend.wait_ended(firmware_id, job_id).job_status == "COMPLETE"
    assert {name: task.src_version for name, task in backend.tasks(job_id).items()} == {old.name: OLD}
    assert backend.job(job_id).src_versions.src_version == [OLD, "1.1.0"]
    assert backend.detail(older).firmware_version == "0.9.0"


def test_nobody_is_told_before_the_user_agreed(server, backend, fleet):
    product_key = backend.product()
    agreeing, silent = backend.devices(product_key, 2)
    devices = [fleet.python(agreeing, server, hold=True), fleet.javascript(silent, server)]
    backend.wait_ready(OLD, agreeing, silent)
    firmware_id = backend.package(product_key, NEW)
    job_id = backend.batch(product_key, firmware_id, agreeing, silent, need_confirm=True)
    assert backend.job(job_id).need_confirm is True
    wait_for(lambda: statuses(backend, job_id), lambda found: found == ["CONFIRM", "CONFIRM"])
    devices[1].send("pull")
    devices[1].wait("nothing")
    task = backend.task(job_id, agreeing)
    backend.ok("ConfirmOTATask", task_id=[task.task_id])
    devices[0].wait("holding")
    # Once more is no mistake, and no reason to tell a device again that is at work.
    backend.ok("ConfirmOTATask", task_id=[task.task_id])
    devices[0].send("go")
    backend.wait_task(job_id, agreeing, "SUCCEEDED")
    assert len(devices[0].all("push")) == 1
    assert not devices[1].all("push")
    waiting = backend.ok(
        "ListOTAUnfinishedTaskByDevice", product_key=product_key, device_name=silent.name
    ).data.simple_otatask_info
    assert [(row.job_id, row.task_status, row.dest_version) for row in waiting] == [(job_id, "CONFIRM", NEW)]
    backend.cancel(job_id, cancel_unconfirmed_task=True)
    assert backend.wait_ended(firmware_id, job_id).job_status == "COMPLETE"


def test_a_scheduled_batch_begins_at_its_time_and_is_over_at_its_end(hurried, fleet):
    backend = Backend(hurried)
    product_key = backend.product()
    live, away = backend.devices(product_key, 2)
    device = fleet.javascript(live, hurried)
    backend.wait_ready(OLD, live)
    firmware_id = backend.package(product_key, NEW)
    start, finish = in_minutes(15), in_minutes(80)
    job_id = backend.batch(product_key, firmware_id, schedule_time=start, schedule_finish_time=finish)
    row = backend.listed_job(firmware_id, job_id)
    assert (row.job_status, row.utc_start_time) == ("PLANNED", None)
    wait_for(lambda: statuses(backend, job_id), lambda found: found == ["QUEUED", "QUEUED"])
    # Who asks too early gets nothing.
    device.send("pull")
    device.wait("nothing")
    push = device.wait("push")
    assert push["at"] >= start, "told before the time"
    backend.wait_task(job_id, live, "SUCCEEDED")
    # The device that is away is not waited for beyond the end.
    ended = backend.wait_ended(firmware_id, job_id)
    assert ended.job_status == "COMPLETE" and ended.utc_start_time
    assert time.time() * 1_000 >= finish
    assert backend.task(job_id, away).task_status == "CANCELED"
    job = backend.job(job_id)
    assert job.utc_schedule_time and job.utc_schedule_finish_time


def test_a_planned_batch_can_be_called_off(hurried):
    backend = Backend(hurried)
    product_key = backend.product()
    identity = backend.device(product_key)
    firmware_id = backend.package(product_key, NEW)
    job_id = backend.batch(product_key, firmware_id, identity, schedule_time=in_minutes(1_000))
    backend.cancel(job_id, cancel_scheduled_task=True)
    assert backend.listed_job(firmware_id, job_id).job_status == "CANCELED"


def test_a_failed_attempt_is_repeated_and_its_last_failure_stays(hurried, fleet):
    backend = Backend(hurried)
    product_key = backend.product()
    identity = backend.device(product_key)
    device = fleet.javascript(identity, hurried, fail=-4)
    backend.wait_ready(OLD, identity)
    firmware_id = backend.package(product_key, NEW)
    job_id = backend.batch(product_key, firmware_id, retry_interval=10, retry_count=2)
    device.wait("progress", step=-4)
    # It is told twice more, each time after the interval, and the task looks as if it ran meanwhile.
    first, second, third = (device.wait("push", count=n)["at"] for n in (1, 2, 3))
    assert second - first >= 1_000 and third - second >= 1_000
    task = backend.wait_task(job_id, identity, "FAILED")
    assert task.task_desc == "flashing failed: as asked"
    assert len(device.all("push")) == 3
    assert backend.listed_job(firmware_id, job_id).job_status == "COMPLETE"


def test_a_device_that_failed_is_put_back_in_line(server, backend, fleet):
    product_key = backend.product()
    identity = backend.device(product_key)
    broken = fleet.javascript(identity, server, fail=-2)
    backend.wait_ready(OLD, identity)
    firmware_id = backend.package(product_key, NEW)
    job_id = backend.batch(product_key, firmware_id, identity)
    task = backend.wait_task(job_id, identity, "FAILED")
    assert backend.listed_job(firmware_id, job_id).job_status == "COMPLETE"
    broken.stop()
    backend.ok("ReupgradeOTATask", job_id=job_id, task_id=[task.task_id])
    assert backend.listed_job(firmware_id, job_id).job_status == "IN_PROGRESS"
    assert backend.refused("ReupgradeOTATask", job_id=job_id, task_id=[task.task_id]) == (
        "iot.ota.TaskStatusForbids"
    )
    fleet.javascript(identity, server)
    assert backend.wait_ended(firmware_id, job_id).job_status == "COMPLETE"
    assert backend.task(job_id, identity).task_status == "SUCCEEDED"
    listed = backend.ok(
        "ListOTAJobByDevice",
        firmware_id=firmware_id,
        product_key=product_key,
        device_name=identity.name,
        page_size=100,
        current_page=1,
    )
    assert [row.job_id for row in listed.data.simple_otajob_info] == [job_id]


def test_devices_are_taken_out_of_a_batch(server, backend, fleet):
    product_key = backend.product()
    leaving, staying = backend.devices(product_key, 2)
    device = fleet.javascript(leaving, server, hold=True)
    backend.wait_ready(OLD, leaving)
    firmware_id = backend.package(product_key, NEW)
    job_id = backend.batch(product_key, firmware_id, leaving, staying)
    device.wait("holding")
    backend.wait_task(job_id, leaving, "IN_PROGRESS")
    backend.ok(
        "CancelOTATaskByDevice",
        firmware_id=firmware_id,
        product_key=product_key,
        device_name=[leaving.name],
    )
    assert statuses(backend, job_id) == ["CANCELED", "QUEUED"]
    # What it does now is its own business: the task stays cancelled, the version is known.
    device.send("go")
    wait_for(lambda: backend.detail(leaving).firmware_version, lambda version: version == NEW)
    assert backend.task(job_id, leaving).task_status == "CANCELED"


def test_products_devices_and_packages_are_listed(server, backend, fleet):
    product_key = backend.product()
    devices = backend.devices(product_key, 3)
    fleet.javascript(devices[0], server)
    backend.wait_online(devices[0])
    product = backend.ok("QueryProduct", product_key=product_key).data
    assert (product.device_count, product.net_type, product.owner) == (3, 3, True)
    newest = backend.ok("QueryProductList", current_page=1, page_size=1).data
    assert newest.list.product_info[0].product_key == product_key
    page = backend.ok("QueryDevice", product_key=product_key, page_size=2)
    names = [row.device_name for row in page.data.device_info]
    assert (page.total, page.page_count, names) == (3, 2, [devices[2].name, devices[1].name])
    rest = backend.ok("QueryDevice", product_key=product_key, page_size=2, next_token=page.next_token)
    row = rest.data.device_info[0]
    assert (row.device_name, row.device_status, row.device_secret) == (
        devices[0].name,
        "ONLINE",
        devices[0].secret,
    )
    assert not rest.next_token
    status = backend.ok("GetDeviceStatus", iot_id=devices[0].iot_id).data
    assert status.status == "ONLINE"
    assert abs(status.timestamp / 1_000 - time.time()) < 60


def test_a_device_with_an_old_sdk_asks_on_the_old_topic(server, backend, fleet):
    """Link SDKs for C 2.x and 3.x ask on /ota/device/request, and hear the answer there. No binary of theirs is at
    hand: a plain MQTT client says what they say."""
    product_key = backend.product()
    identity = backend.device(product_key)
    firmware_id = backend.package(product_key, NEW)
    job_id = backend.batch(product_key, firmware_id, identity, need_push=False)
    client_id, user, password = _login(identity)
    client = mqtt.Client(client_id=client_id, protocol=mqtt.MQTTv31)
    client.username_pw_set(user, password)
    topic = f"/ota/device/request/{product_key}/{identity.name}"
    heard, subscribed = [], threading.Event()
    client.on_message = lambda _client, _data, message: heard.append((message.topic, json.loads(message.payload)))
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_connect = lambda *_: client.subscribe(topic, qos=1)
    client.connect(server.mqtt_host, server.mqtt_port, keepalive=60)
    client.loop_start()
    try:
        assert subscribed.wait(20)
        client.publish(topic, '{"id":"0","params":{"version":"1.0.0"}}', qos=1).wait_for_publish(20)
        wait_for(lambda: heard)
        # Its own question does not come back to it.
        ((where, message),) = heard
        assert where == topic
        assert (message["message"], message["data"]["version"]) == ("success", NEW)
        assert {"size", "url", "md5", "sign"} <= set(message["data"])
        backend.wait_task(job_id, identity, "NOTIFIED")
    finally:
        client.loop_stop()
        client.disconnect()


def _login(identity):
    """What a device made by hand logs in with."""
    cid = f"{identity.product_key}.{identity.name}"
    content = f"clientId{cid}deviceName{identity.name}productKey{identity.product_key}"
    password = hmac.new(identity.secret.encode(), content.encode(), hashlib.sha256).hexdigest()
    return f"{cid}|securemode=3,signmethod=hmacsha256|", f"{identity.name}&{identity.product_key}", password


def test_a_newer_batch_replaces_what_has_not_begun(server, backend, fleet):
    product_key = backend.product()
    busy, away = backend.devices(product_key, 2)
    device = fleet.javascript(busy, server, hold=True)
    backend.wait_ready(OLD, busy)
    older = backend.package(product_key, NEW)
    first = backend.batch(product_key, older)
    device.wait("holding")
    newer = backend.package(product_key, "3.0.0")
    second = backend.batch(product_key, newer, overwrite_mode=2)
    wait_for(lambda: statuses(backend, second), lambda found: found == ["FAILED", "QUEUED"])
    assert backend.job(second).overwrite_mode == 2
    # Who has begun is not interrupted; who has not is taken over.
    assert backend.task(first, busy).task_status == "IN_PROGRESS"
    assert backend.task(first, away).task_status == "CANCELED"
    assert backend.task(second, busy).task_desc == "the device has an unfinished task in another batch"
    device.send("go")
    backend.wait_task(first, busy, "SUCCEEDED")
    assert backend.wait_ended(older, first).job_status == "COMPLETE"
    late = fleet.python(away, server)
    backend.wait_task(second, away, "SUCCEEDED")
    assert [push["version"] for push in late.all("push")][0] == "3.0.0"
    assert backend.wait_ended(newer, second).job_status == "COMPLETE"


def test_modules_of_a_device_are_upgraded_one_after_the_other(server, backend, fleet):
    product_key = backend.product()
    identity = backend.device(product_key)
    backend.ok("CreateOTAModule", product_key=product_key, module_name="radio")
    device = fleet.python(identity, server, module="radio=5.0.0", hold=True)
    backend.wait_ready(OLD, identity)
    device.wait("version", version="5.0.0")
    whole = backend.package(product_key, NEW)
    part = backend.package(product_key, "5.1.0", module_name="radio")
    first = backend.batch(product_key, whole, identity)
    device.wait("holding")
    # Any other batch finds the device busy; one that says so waits for its turn.
    kept = backend.batch(product_key, part, identity)
    backend.wait_task(kept, identity, "FAILED")
    beside = backend.batch(product_key, part, identity, multi_module_mode=True)
    assert backend.job(beside).multi_module_mode is True
    unfinished = backend.ok(
        "ListOTAUnfinishedTaskByDevice", product_key=product_key, device_name=identity.name
    ).data.simple_otatask_info
    assert sorted(row.module_name for row in unfinished) == ["default", "radio"]
    assert not device.all("push", module="radio")
    device.send("go")
    device.wait("push", version="5.1.0", module="radio")
    backend.wait_task(first, identity, "SUCCEEDED")
    backend.wait_task(beside, identity, "SUCCEEDED")


def test_a_batch_for_a_group_has_its_devices(server, backend):
    product_key = backend.product()
    inside, outside = backend.devices(product_key, 2)
    group = backend.ok("CreateDeviceGroup", group_name=unique("group")).data.group_id
    member = models.BatchAddDeviceGroupRelationsRequestDevice(product_key=product_key, device_name=inside.name)
    backend.ok("BatchAddDeviceGroupRelations", group_id=group, device=[member])
    job_id = backend.batch(
        product_key,
        backend.package(product_key, NEW),
        target_selection="GROUP",
        group_id=group,
        group_type="LINK_PLATFORM",
    )
    wait_for(lambda: backend.tasks(job_id), lambda tasks: set(tasks) == {inside.name})
    job = backend.job(job_id)
    assert (job.target_selection, job.group_id) == ("GROUP", group)
