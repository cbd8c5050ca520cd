"""Dynamic batches with real devices and the official SDK: devices of now and of later, by version and by group."""

from support.backend import Backend, unique
from support.waiting import wait_for

OLD, NEW = "1.0.0", "2.0.0"


def rule(backend, product_key, firmware_id, **fields):
    """A dynamic batch; its JobId."""
    made = backend.ok(
        "CreateOTADynamicUpgradeJob",
        product_key=product_key,
        firmware_id=firmware_id,
        maximum_per_minute=1_000,
        **fields,
    )
    return made.data.job_id


def names(backend, job_id):
    return set(backend.tasks(job_id))


def test_devices_of_later_are_taken_in_until_the_rule_ends(server, backend, fleet):
    product_key = backend.product()
    here, elsewhere = backend.devices(product_key, 2)
    fleet.javascript(here, server)
    fleet.javascript(elsewhere, server, version="0.9.0")
    backend.wait_ready(OLD, here)
    backend.wait_ready("0.9.0", elsewhere)
    firmware_id = backend.package(product_key, NEW)
    job_id = rule(backend, product_key, firmware_id, src_version=[OLD])
    backend.wait_task(job_id, here, "SUCCEEDED")
    # It is registered only now, and comes with the version that the rule asks for.
    later = backend.device(product_key)
    fleet.python(later, server)
    backend.wait_task(job_id, later, "SUCCEEDED")
    assert names(backend, job_id) == {here.name, later.name}
    job = backend.job(job_id)
    assert (job.selection_type, job.job_status, job.dynamic_mode) == ("DYNAMIC", "IN_PROGRESS", 1)

    other = backend.package(product_key, "3.0.0")
    static = backend.batch(product_key, other, elsewhere)
    assert backend.refused("CancelOTAStrategyByJob", job_id=static) == "iot.ota.NotDynamicJob"
    backend.ok("CancelOTAStrategyByJob", job_id=job_id)
    assert backend.job(job_id).job_status == "CANCELED"
    late = backend.device(product_key)
    fleet.javascript(late, server)
    backend.wait_ready(OLD, late)
    # A rule of after that, for another version, proves that the engine saw the device meanwhile.
    next_job = rule(backend, product_key, other, src_version=[OLD], need_push=False)
    wait_for(lambda: names(backend, next_job), lambda seen: seen == {late.name})
    assert names(backend, job_id) == {here.name, later.name}


def test_who_comes_into_the_group_is_upgraded_also_when_the_server_is_killed(own_server, fleet):
    server = own_server()
    backend = Backend(server)
    product_key = backend.product()
    first, second, outside = backend.devices(product_key, 3)
    group_id = backend.ok(
        "CreateDeviceDynamicGroup",
        group_name=unique("group"),
        dynamic_group_expression=f"product_key = '{product_key}' and tag.ring = 'canary'",
    ).data.group_id
    backend.ok("SaveDeviceProp", iot_id=first.iot_id, props='{"ring": "canary"}')
    firmware_id = backend.package(product_key, NEW)
    job_id = rule(
        backend, product_key, firmware_id, group_id=group_id, group_type="LINK_PLATFORM_DYNAMIC", need_push=True
    )
    wait_for(lambda: names(backend, job_id), lambda seen: seen == {first.name})
    # The tag is acknowledged, then the server dies before or after it has drawn the consequence.
    backend.ok("SaveDeviceProp", iot_id=second.iot_id, props='{"ring": "canary"}')
    server.kill()
    server.start()
    wait_for(lambda: names(backend, job_id), lambda seen: seen == {first.name, second.name})
    for device in (first, second, outside):
        fleet.javascript(device, server)
    backend.wait_task(job_id, first, "SUCCEEDED")
    backend.wait_task(job_id, second, "SUCCEEDED")
    assert outside.name not in names(backend, job_id)
    # The tags are gone, and with them the reason; what was done stays.
    backend.ok("DeleteDeviceProp", iot_id=second.iot_id, prop_key="ring")
    assert backend.refused("DeleteDeviceDynamicGroup", group_id=group_id) == "iot.group.GroupInUse"
    backend.ok("CancelOTAStrategyByJob", job_id=job_id)
    backend.ok("DeleteDeviceDynamicGroup", group_id=group_id)
    assert backend.job(job_id).job_status == "CANCELED"
