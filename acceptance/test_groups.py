"""Dynamic groups with real devices: they come and go, also when the server is killed."""

from support.backend import Backend, unique
from support.waiting import wait_for

OLD = "1.0.0"


def group(backend, expression):
    """A dynamic group; its GroupId."""
    made = backend.ok(
        "CreateDeviceDynamicGroup", group_name=unique("group"), dynamic_group_expression=expression
    )
    return made.data.group_id


def names(backend, group_id):
    """The devices of a group: all pages, by token."""
    seen, token = set(), None
    while True:
        page = backend.ok("QueryDynamicGroupDevices", group_id=group_id, page_size=50, next_token=token)
        seen |= {row.device_name for row in page.data.simple_device_info or []}
        token = page.next_token
        if not token:
            return seen


def test_devices_come_and_go_also_when_the_server_is_killed(own_server, fleet):
    # Small chunks: the kill leaves groups that have not seen all devices.
    server = own_server(engine_chunk_rows=20)
    backend = Backend(server)
    product_key = backend.product()
    devices = backend.devices(product_key, 100)
    everyone = {device.name for device in devices}
    fleet.python(devices[0], server)
    backend.wait_ready(OLD, devices[0])
    online = group(backend, f"product_key = '{product_key}' and status = 'ONLINE'")
    old = group(backend, f"product_key = '{product_key}' and version < '1.0.1'")
    wait_for(lambda: [names(backend, online), names(backend, old)], lambda seen: seen == [{devices[0].name}] * 2)

    all_of_them = group(backend, f"product_key in ('{product_key}') and not status = 'DISABLE'")
    server.kill()
    fleet.stop()
    server.start()
    wait_for(lambda: names(backend, all_of_them), lambda seen: seen == everyone)
    # Who was online when the server died is not any more.
    wait_for(lambda: names(backend, online), lambda seen: seen == set())
    assert names(backend, old) == {devices[0].name}

    backend.ok("DisableThing", iot_id=devices[1].iot_id)
    wait_for(lambda: names(backend, all_of_them), lambda seen: seen == everyone - {devices[1].name})
    late = backend.device(product_key)
    wait_for(lambda: names(backend, all_of_them), lambda seen: late.name in seen)
    info = backend.ok(
        "QueryDeviceGroupInfo", group_id=all_of_them, group_type="LINK_PLATFORM_DYNAMIC"
    ).data
    assert (info.device_count, info.device_active, info.device_online) == (100, 1, 0)
