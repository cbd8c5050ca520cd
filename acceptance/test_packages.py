"""Packages for modules, differential packages, and their changes and deletion, with the official SDKs."""

import requests

from support.waiting import wait_for

OLD, NEW = "1.0.0", "2.0.0"
MODULE = "MCU"
WITH_MODULE = f"{MODULE}={OLD}"


def with_module(backend):
    """A product that has the module; its key."""
    product_key = backend.product()
    backend.ok("CreateOTAModule", product_key=product_key, module_name=MODULE, alias_name="micro controller")
    return product_key


def modules(backend, identity):
    """The versions that a device reported, by module."""
    page = {"current_page": 1, "page_size": 100}
    answer = backend.ok("ListOTAModuleVersionsByDevice", iot_id=identity.iot_id, **page)
    rows = answer.data.simple_otamodule_info or []
    return {row.module_name: row.module_version for row in rows}


def wait_modules(backend, identity, expected):
    wait_for(lambda: modules(backend, identity), lambda found: found == expected)


def test_a_module_is_updated_and_the_rest_of_the_device_stays(server, backend, fleet):
    product_key = with_module(backend)
    identity = backend.device(product_key)
    device = fleet.python(identity, server, module=WITH_MODULE)
    wait_modules(backend, identity, {"default": OLD, MODULE: OLD})
    firmware_id = backend.package(product_key, NEW, b"for the module", module_name=MODULE)
    job_id = backend.batch(product_key, firmware_id)
    assert device.wait("push")["module"] == MODULE
    backend.wait_task(job_id, identity, "SUCCEEDED")
    wait_modules(backend, identity, {"default": OLD, MODULE: NEW})
    task = backend.task(job_id, identity)
    assert (task.src_version, task.dest_version) == (OLD, NEW)
    assert len(device.all("push")) == 1


def test_a_device_of_three_modules_is_told_of_one_at_a_time(server, backend, fleet):
    product_key = with_module(backend)
    backend.ok("CreateOTAModule", product_key=product_key, module_name="radio")
    identity = backend.device(product_key)
    device = fleet.python(identity, server, module=f"{WITH_MODULE},radio={OLD}", hold=True)
    wait_modules(backend, identity, {"default": OLD, MODULE: OLD, "radio": OLD})
    jobs = {}
    for module in ("default", MODULE, "radio"):
        of = {} if module == "default" else {"module_name": module}
        firmware_id = backend.package(product_key, NEW, module.encode(), **of)
        jobs[module] = backend.batch(product_key, firmware_id, multi_module_mode=True)
    device.wait("holding")
    # Well within its first update the others wait.
    for module in (MODULE, "radio"):
        backend.wait_task(jobs[module], identity, "QUEUED")
    assert [push["module"] for push in device.all("push")] == ["default"]
    device.send("go")
    for job_id in jobs.values():
        backend.wait_task(job_id, identity, "SUCCEEDED")
    wait_modules(backend, identity, {"default": NEW, MODULE: NEW, "radio": NEW})
    told = [e for e in device.events if e["event"] == "push" or e["event"] == "version" and e["version"] == NEW]
    assert [(e["event"], e["module"]) for e in told] == [
        (event, module) for module in ("default", MODULE, "radio") for event in ("push", "version")
    ]
    assert [done["ok"] for done in device.all("downloaded")] == [True] * 3


def test_a_device_asks_for_a_module(server, backend, fleet):
    product_key = with_module(backend)
    identity = backend.device(product_key)
    device = fleet.python(identity, server, module=WITH_MODULE)
    wait_modules(backend, identity, {"default": OLD, MODULE: OLD})
    firmware_id = backend.package(product_key, NEW, module_name=MODULE)
    job_id = backend.batch(product_key, firmware_id, need_push=False)
    device.send("pull")
    device.send(f"pull {MODULE}")
    push = device.wait("push")
    assert (push["kind"], push["module"]) == ("pull", MODULE)
    backend.wait_task(job_id, identity, "SUCCEEDED")


def test_a_difference_goes_to_devices_with_its_source_only(server, backend, fleet):
    product_key = backend.product()
    fits, other, silent = backend.devices(product_key, 3)
    device = fleet.javascript(fits, server)
    unfit = fleet.javascript(other, server, version="0.9.0")
    backend.wait_ready(OLD, fits)
    backend.wait_ready("0.9.0", other)
    firmware_id = backend.package(product_key, NEW, type=1, src_version=OLD)
    shown = backend.firmware(firmware_id)
    assert (shown.type, shown.src_version) == (1, OLD)
    for identity in (other, silent):
        code = backend.refused(
            "CreateOTAStaticUpgradeJob",
            product_key=product_key,
            firmware_id=firmware_id,
            target_selection="SPECIFIC",
            target_device_name=[fits.name, identity.name],
        )
        assert code == "iot.ota.DeviceSrcVersionMismatch"
    job_id = backend.batch(product_key, firmware_id, src_version=[OLD])
    backend.wait_ended(firmware_id, job_id)
    assert {name: task.task_status for name, task in backend.tasks(job_id).items()} == {fits.name: "SUCCEEDED"}
    assert device.wait("push")["message"]["data"]["isDiff"] == 1
    assert not unfit.all("push")


def test_a_changed_text_goes_out_with_later_pushes(server, backend, fleet):
    product_key = backend.product()
    early, late = backend.devices(product_key, 2)
    firmware_id = backend.package(product_key, NEW, udi="first")
    backend.batch(product_key, firmware_id)
    devices = [fleet.javascript(early, server, ignore=True)]
    udi = [devices[0].wait("push")["message"]["data"]["extData"]]
    backend.ok("ModifyOTAFirmware", product_key=product_key, firmware_id=firmware_id, firmware_udi="second")
    devices.append(fleet.javascript(late, server, ignore=True))
    udi.append(devices[1].wait("push")["message"]["data"]["extData"])
    assert ["first" in str(udi[0]), "second" in str(udi[1])] == [True, True], udi


def test_a_package_deleted_in_mid_batch_reaches_nobody_any_more(server, backend, fleet):
    product_key = backend.product()
    working, away = backend.devices(product_key, 2)
    device = fleet.python(working, server, hold=True)
    backend.wait_ready(OLD, working)
    firmware_id = backend.package(product_key, NEW)
    job_id = backend.batch(product_key, firmware_id)
    device.wait("holding")
    backend.wait_task(job_id, working, "IN_PROGRESS")
    url = device.wait("push")["url"]
    assert requests.get(url, timeout=10).status_code == 200

    backend.ok("DeleteOTAFirmware", firmware_id=firmware_id)
    assert requests.get(url, timeout=10).status_code == 404
    assert backend.refused("QueryOTAFirmware", firmware_id=firmware_id) == "iot.ota.FirmwareNotFound"
    for identity in (working, away):
        backend.wait_task(job_id, identity, "CANCELED")
    assert backend.job(job_id).job_status == "CANCELED"
    # Who comes now is told nothing; who had it in hand may finish, and that changes no task.
    late = fleet.javascript(away, server)
    backend.wait_ready(OLD, away)
    late.send("pull")
    late.wait("nothing")
    device.send("go")
    backend.wait_ready(NEW, working)
    assert backend.task(job_id, working).task_status == "CANCELED"
    again = {"job_id": job_id, "task_id": [backend.task(job_id, away).task_id]}
    assert backend.refused("ReupgradeOTATask", **again) == "iot.ota.FirmwareNotFound"
    # The next package finds both devices free.
    firmware_id = backend.package(product_key, "3.0.0")
    job_id = backend.batch(product_key, firmware_id)
    backend.wait_ended(firmware_id, job_id)
    assert {task.task_status for task in backend.tasks(job_id).values()} == {"SUCCEEDED"}
    assert not late.all("push", version=NEW)
