"""The operator's command line, beside a running server: looking at a fleet, following and stopping a batch."""

import csv
import io
import json
import subprocess

import pytest

from support.backend import Backend
from support.server import binary
from support.waiting import wait_for


def lines(printed):
    return [json.loads(line) for line in printed.splitlines()]


@pytest.fixture(scope="module")
def world(make_server):
    """A server with a product, devices, a package and a batch over all of them."""
    server = make_server()
    backend = Backend(server)
    product = backend.product()
    devices = backend.devices(product, 5)
    firmware = backend.package(product)
    job = backend.batch(product, firmware)
    wait_for(lambda: backend.task_page(job).total == 5)
    return server, product, devices, firmware, job


def test_a_fleet_is_listed_shown_and_exported(world):
    server, product, devices, firmware, job = world
    names = [device.name for device in devices]

    assert product in [row["ProductKey"] for row in lines(server.admin("product", "list", "--json"))]
    shown = json.loads(server.admin("product", "show", product, "--json"))
    assert (shown["DeviceCount"], shown["UNACTIVE"], shown["FirmwareCount"]) == (5, 5, 1)

    of = ("--product", product)
    listed = lines(server.admin("device", "list", *of, "--json"))
    assert [row["DeviceName"] for row in listed] == names
    table = server.admin("device", "list", *of).splitlines()
    assert table[0].split()[:2] == ["ProductKey", "DeviceName"] and len(table) == 6
    assert len({line.index(name) for line, name in zip(table[1:], names)}) == 1, "names stand in one column"
    assert len(lines(server.admin("device", "list", *of, "--name-prefix", names[0], "--json"))) == 1
    assert server.admin("device", "list", *of, "--status", "ONLINE", "--json") == ""
    shown = json.loads(server.admin("device", "show", *of, "--name", names[0], "--json"))
    assert shown["IotId"] == devices[0].iot_id
    assert json.loads(server.admin("device", "show", "--iot-id", devices[0].iot_id, "--json")) == shown

    shown = json.loads(server.admin("firmware", "show", firmware, "--json"))
    assert (shown["FirmwareId"], shown["JobCount"], shown["Status"]) == (firmware, 1, "NO_VERIFICATION")
    (row,) = lines(server.admin("job", "list", "--firmware", firmware, "--json"))
    assert (row["JobId"], row["JobStatus"], row["Total"], row["QUEUED"]) == (job, "IN_PROGRESS", 5, 5)
    assert server.admin("job", "list", "--firmware", firmware, "--status", "CANCELED", "--json") == ""

    exported = list(csv.DictReader(io.StringIO(server.admin("task", "export", job))))
    assert [row["DeviceName"] for row in exported] == names
    assert {row["TaskStatus"] for row in exported} == {"QUEUED"}
    first = exported[0]["TaskId"]
    assert json.loads(server.admin("task", "show", first, "--json"))["DeviceName"] == names[0]
    (born,) = lines(server.admin("task", "history", first, "--json"))
    assert (born["Event"], born["Cause"], born["ToStatus"]) == ("CREATED", "BATCH", "QUEUED")
    assert server.admin("task", "history", first).splitlines()[1].split()[1:5] == ["CREATED", "BATCH", "-", "QUEUED"]
    as_json = lines(server.admin("task", "export", job, "--format", "json"))
    assert [row["TaskId"] for row in as_json] == [row["TaskId"] for row in exported]


def test_command_and_operation_explain_the_same(world):
    server, product, devices, firmware, job = world
    device = devices[0]

    def asked(*names):
        """What ExplainOTATask answers."""
        answer = server.admin("api", "ExplainOTATask", *names, "--endpoint", f"http://{server.api}")
        return json.loads(answer)["Data"]

    for named, of_batch in ((("--job", job), (f"JobId={job}",)), ((), ())):
        for form in (f"{product}/{device.name}", device.iot_id):
            told = json.loads(server.admin("explain", "--device", form, *named, "--json"))
            assert told == asked(f"IotId={device.iot_id}", *of_batch)
        (batch,) = told["Batches"]["BatchExplanation"]
        assert (batch["JobId"], batch["Verdict"], batch["WaitsFor"]) == (job, "WAITING", "CONNECTION")
        (no,) = [check for check in batch["Checks"]["Check"] if check["Holds"] == "NO"]
        assert (no["Name"], no["Seen"]) == ("CONNECTION", "the device has never connected")
    said = server.admin("explain", "--device", device.iot_id, "--job", job)
    assert f"Batch {job} to 2.0.0" in said and "  NO   CONNECTION" in said and "Nothing happens by itself." in said
    task = json.loads(server.admin("task", "show", batch["TaskId"], "--json"))
    assert (task["WaitsFor"], task["UtcWaitsSince"]) == (batch["WaitsFor"], batch["UtcWaitsSince"])

    # A device that was registered after the batch was made.
    backend = Backend(server)
    product = backend.product()
    backend.devices(product, 1)
    job = backend.batch(product, backend.package(product))
    wait_for(lambda: backend.task_page(job).total == 1)
    (late,) = backend.devices(product, 1)
    (batch,) = json.loads(server.admin("explain", "--device", late.iot_id, "--json"))["Batches"]["BatchExplanation"]
    assert (batch["Verdict"], batch["Next"]) == ("LEFT_OUT", "NOTHING") and "registered at" in batch["Summary"]
    # A product without batches.
    (lonely,) = backend.devices(backend.product(), 1)
    assert "nothing updates it" in server.admin("explain", "--device", lonely.iot_id)


def test_long_lists_are_cut_and_exports_are_not(world):
    server, product, *_ = world
    cut = server.command("device", "list", "--product", product, "--limit", "2", "--json")
    assert len(cut.stdout.splitlines()) == 2 and "--limit 0" in cut.stderr
    whole = server.command("device", "list", "--product", product, "--limit", "5", "--json")
    assert len(whole.stdout.splitlines()) == 5 and whole.stderr == ""
    assert len(server.admin("device", "export", "--product", product).splitlines()) == 6


def test_what_is_not_there_is_said(world):
    server, server_product, *_ = world
    for command in (
        ("product", "show", "a1none"),
        ("device", "show", "--iot-id", "none"),
        ("device", "list", "--product", "a1none"),
        ("firmware", "show", "none"),
        ("job", "show", "none"),
        ("job", "stop", "none"),
        ("job", "watch", "none"),
        ("task", "list", "none"),
        ("task", "show", "none"),
        ("explain", "--device", "a1none/none"),
        ("explain", "--device", f"{server_product}/none"),
        ("explain", "--device", "none"),
        ("explain", "--device", "none", "--job", "none"),
    ):
        assert "there is no" in server.refuses(*command), command


def test_no_secret_is_shown(world):
    server, product, devices, firmware, job = world
    told = server.admin("device", "export") + server.admin("product", "export", "--format", "json")
    told += server.admin("device", "show", "--iot-id", devices[0].iot_id)
    told += server.admin("firmware", "show", firmware) + server.admin("job", "show", job)
    assert not any(device.secret in told for device in devices)


def test_a_batch_is_stopped_at_once_and_watched_to_its_end(world):
    server, product, devices, *_ = world
    backend = Backend(server)
    product = backend.product()
    backend.devices(product, 3)
    job = backend.batch(product, backend.package(product))
    wait_for(lambda: backend.task_page(job).total == 3)

    command = [binary(), "job", "watch", job, "--data-dir", str(server.data_dir)]
    with subprocess.Popen(command, env=server.environment, stdout=subprocess.PIPE, text=True) as watching:
        assert "IN_PROGRESS  QUEUED 3" in watching.stdout.readline()
        said = server.admin("job", "stop", job)
        assert "3 tasks that no device has begun are cancelled" in said
        wait_for(lambda: backend.job(job).job_status == "CANCELED", timeout=2)
        rest = watching.stdout.read().splitlines()
        assert watching.wait(timeout=5) == 0
    assert rest[-1].endswith("CANCELED  CANCELED 3")
    assert "ended already" in server.refuses("job", "stop", job)

    (line,) = [row for row in lines(server.admin("audit", "--action", "job stop", "--json")) if job in row["Subject"]]
    assert (line["Outcome"], line["Account"]) == ("ok", "root") and line["OsUser"]


def test_a_closed_pipe_ends_an_export_quietly(world):
    server, *_ = world
    whole = f"{binary()} device export --data-dir {server.data_dir} | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", whole], env=server.environment, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0 and done.stderr == ""


def test_after_a_stop_nobody_is_told_and_who_has_begun_finishes(world, fleet):
    server, *_ = world
    backend = Backend(server)
    product = backend.product()
    identities = backend.devices(product, 2)
    devices = {one.name: fleet.javascript(one, server, hold=True) for one in identities}
    backend.wait_ready("1.0.0", *identities)
    job = backend.batch(product, backend.package(product), maximum_per_minute=10)  # the second is 6 s behind
    begun = wait_for(
        lambda: [task.device_name for task in backend.tasks(job).values() if task.task_status == "IN_PROGRESS"]
    )
    said = server.admin("job", "stop", job)
    assert "1 task that no device has begun is cancelled" in said and "1 in progress go on" in said
    (waiting,) = set(devices) - set(begun)
    wait_for(lambda: backend.tasks(job)[waiting].task_status == "CANCELED", timeout=2)
    assert devices[waiting].all("push") == []
    devices[begun[0]].send("go")
    wait_for(lambda: backend.tasks(job)[begun[0]].task_status == "SUCCEEDED")
    assert devices[waiting].all("push") == []
