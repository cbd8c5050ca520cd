"""The life of devices, told with the official SDKs: registration in bulk, disabling, deletion."""

from support.backend import Backend, Identity, unique
from support.classic import ClassicBackend
from support.waiting import wait_for


def state(backend, product_key, apply_id, ended):
    """The state of a registration in bulk once it has this status."""

    def now():
        asked = {"product_key": product_key, "apply_id": apply_id}
        return backend.ok("QueryBatchRegisterDeviceStatus", **asked).data

    return wait_for(now, lambda data: data.status == ended)


def test_devices_are_registered_in_bulk(server, backend, fleet):
    product_key = backend.product()
    names = [unique("bulk") for _ in range(3)]
    taken = backend.device(product_key, names[1])
    checked = backend.ok("BatchCheckDeviceNames", product_key=product_key, device_name=names).data.apply_id
    data = state(backend, product_key, checked, "CHECK_FAILED")
    assert data.valid_list.name == [names[0], names[2]] and data.invalid_list.name == [taken.name]
    assert [detail.device_name for detail in data.invalid_detail_list.invalid_detail_list] == [taken.name]

    named = [{"DeviceName": names[0], "DeviceNickname": "路灯一号"}, {"DeviceName": names[2]}]
    classic = ClassicBackend(server)
    check = {"ProductKey": product_key, "DeviceNameLists": named}
    apply_id = classic.ok("BatchCheckDeviceNames", **check)["Data"]["ApplyId"]
    state(backend, product_key, apply_id, "CHECK_SUCCESS")
    register = {"product_key": product_key, "apply_id": apply_id}
    assert backend.ok("BatchRegisterDeviceWithApplyId", **register).data.apply_id == apply_id
    state(backend, product_key, apply_id, "CREATE_SUCCESS")
    page = backend.ok("QueryPageByApplyId", apply_id=apply_id, current_page=1, page_size=50)
    rows = page.apply_device_list.apply_device_info
    assert (page.total, [row.device_name for row in rows]) == (2, [names[0], names[2]])

    identity = Identity(product_key, rows[0].device_name, rows[0].device_secret, rows[0].iot_id)
    assert backend.detail(identity).nickname == "路灯一号"
    fleet.python(identity, server)
    backend.wait_online(identity)


def test_a_bad_name_is_listed_in_the_answer(server, backend):
    body = ClassicBackend(server).call(
        "BatchCheckDeviceNames", ProductKey=backend.product(), DeviceNames=["good_1", "no", "good_1"]
    )
    assert (body["Success"], body["Code"]) == (False, "iot.device.InvalidFormattedDeviceName")
    assert body["Data"]["InvalidDeviceNameList"] == {"InvalidDeviceName": ["no"]}
    assert body["Data"]["RepeatedDeviceNameList"] == {"RepeatDevieNameList": ["good_1"]}


def test_a_disabled_device_is_cut_off_until_it_is_enabled(server, backend, fleet):
    identity = backend.device(backend.product())
    fleet.python(identity, server)
    backend.wait_online(identity)
    backend.ok("DisableThing", iot_id=identity.iot_id)
    assert backend.detail(identity).status == "DISABLE"
    backend.ok("EnableThing", iot_id=identity.iot_id)
    # The SDK tries again by itself.
    backend.wait_online(identity)


def test_a_deleted_device_ends_its_batch_and_leaves_its_name(server, backend, fleet):
    product_key = backend.product()
    old = backend.device(product_key)
    fleet.python(old, server)
    backend.wait_ready("1.0.0", old)
    firmware_id = backend.package(product_key, "2.0.0")
    offline = backend.device(product_key)
    job_id = backend.batch(product_key, firmware_id, offline)
    backend.ok("DeleteDevice", product_key=product_key, device_name=offline.name)
    backend.wait_ended(firmware_id, job_id)
    assert backend.task(job_id, offline).task_status == "CANCELED"
    backend.ok("DeleteDevice", iot_id=old.iot_id)
    assert backend.refused("QueryDeviceDetail", iot_id=old.iot_id) == "iot.device.NotExistedDevice"
    new = backend.device(product_key, old.name)
    assert (new.iot_id, new.secret) != (old.iot_id, old.secret)
    fleet.python(new, server)
    backend.wait_ready("1.0.0", new)


def test_a_registration_goes_on_where_a_killed_server_left_it(own_server):
    server = own_server(engine_chunk_rows=20)
    backend = Backend(server)
    product_key = backend.product()
    apply_id = backend.ok("BatchRegisterDevice", product_key=product_key, count=5_000).data.apply_id

    def made():
        return backend.ok("QueryPageByApplyId", apply_id=apply_id, current_page=1, page_size=1).total

    assert wait_for(made) < 5_000, "there is nothing left to go on with"
    server.kill()
    server.start()
    state(backend, product_key, apply_id, "CREATE_SUCCESS")
    assert made() == 5_000
    assert backend.ok("QueryProduct", product_key=product_key).data.device_count == 5_000
