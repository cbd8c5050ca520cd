"""SIGKILL at bad moments: after the restart all that was acknowledged is there, and the work goes on."""

import concurrent.futures
import hashlib
import subprocess
import threading

import requests

from support.backend import Backend, unique, upload
from support.raw import connect
from support.server import binary
from support.waiting import wait_for

OLD, NEW = "1.0.0", "2.0.0"


def everything(backend, firmware_id):
    """All that the API tells about a package and its batches, except what is signed anew."""
    info = backend.firmware(firmware_id).to_map()
    del info["FirmwareUrl"]
    rows = [row.to_map() for row in backend.listed(firmware_id)]
    tasks = {
        row["JobId"]: {name: task.to_map() for name, task in backend.tasks(row["JobId"]).items()}
        for row in rows
    }
    return info, rows, tasks


def test_a_server_killed_during_an_upload_has_lost_nothing_it_acknowledged(own_server):
    server = own_server()
    backend = Backend(server)
    product_key = backend.product()
    identity = backend.device(product_key)
    content = bytes(range(256)) * 4_000  # 1 MB
    firmware_id = backend.package(product_key, NEW, content)
    job_id = backend.batch(product_key, firmware_id)
    backend.wait_task(job_id, identity, "QUEUED")
    complete = backend.uploaded(b"uploaded, not yet used")
    before = everything(backend, firmware_id)

    # Half an upload is on its way when the server dies.
    ticket = backend.ticket()
    fields = {
        "key": ticket.key,
        "policy": ticket.policy,
        "OSSAccessKeyId": ticket.ossaccess_key_id,
        "signature": ticket.signature,
        "success_action_status": "200",
    }
    form = requests.Request("POST", ticket.host, data=fields, files={"file": ("f.bin", content)}).prepare()
    head = "".join(f"{name}: {value}\r\n" for name, value in form.headers.items())
    request = f"POST / HTTP/1.1\r\nHost: {server.api}\r\n{head}\r\n".encode() + form.body
    with connect(server.api) as connection:
        connection.sendall(request[: len(request) // 2])
        # The server goes on serving others meanwhile; by then it has begun to read this one.
        backend.firmware(firmware_id)
        server.kill()
    server.start()

    assert everything(backend, firmware_id) == before
    answer = requests.get(backend.firmware(firmware_id).firmware_url, timeout=30)
    assert hashlib.md5(answer.content).digest() == hashlib.md5(content).digest()
    package = {"product_key": product_key, "dest_version": "3.0.0"}
    # What had arrived whole can be used, what had not cannot …
    assert backend.ok("CreateOTAFirmware", firmware_name=unique("fw"), firmware_url=complete, **package)
    assert backend.refused(
        "CreateOTAFirmware", firmware_name=unique("fw"), firmware_url=ticket.firmware_url, **package
    ).startswith("iot.")
    # … and the ticket is still good for trying again.
    assert upload(ticket, content).status_code == 200
    made = backend.ok(
        "CreateOTAFirmware", firmware_name=unique("fw"), firmware_url=ticket.firmware_url, **package
    ).data.firmware_id
    assert backend.firmware(made).firmware_sign == hashlib.md5(content).hexdigest()


def test_a_server_killed_while_it_creates_batches_creates_them_to_the_end(own_server, fleet):
    # Small chunks: the kill leaves batches in the middle of their expansion.
    server = own_server(engine_chunk_rows=50)
    backend = Backend(server)
    product_key = backend.product()
    live = backend.device(product_key)
    fleet.python(live, server)
    backend.wait_ready(OLD, live)
    names = [unique("crowd") for _ in range(599)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: backend.device(product_key, name), names))

    # Several batches are created one after the other; the kill comes somewhere in between.
    firmware_id = backend.package(product_key, NEW)
    acknowledged = []
    some = threading.Event()

    def create():
        creator = Backend(server)
        try:
            while True:
                acknowledged.append(creator.batch(product_key, firmware_id))
                if len(acknowledged) == 3:
                    some.set()
        except Exception:  # the connection breaks in whatever way the SDK reports it
            some.set()

    creating = threading.Thread(target=create)
    creating.start()
    assert some.wait(30)
    server.kill()
    creating.join()
    assert len(acknowledged) >= 3
    server.start()

    listed = [row.job_id for row in backend.listed(firmware_id)]
    # A batch whose answer was lost may exist; one that was acknowledged must, in order.
    assert len(listed) - len(acknowledged) in (0, 1)
    assert listed[len(listed) - len(acknowledged) :] == acknowledged[::-1]

    # Each is expanded to the last device, or to all but the one that has the version by then.
    for job_id in listed:
        wait_for(lambda: backend.task_page(job_id, 1).total, lambda total: total in (599, 600), timeout=60)
    # The device that is there upgrades; for the others the batches are called off and so come to their ends.
    wait_for(lambda: backend.detail(live).firmware_version, lambda version: version == NEW)
    for job_id in listed:
        backend.cancel(job_id, cancel_queued_task=True, cancel_notified_task=True)
    for job_id in listed:
        assert backend.wait_ended(firmware_id, job_id, timeout=60).utc_end_time
    # No device was ever in two batches at once: one task of each was open, the rest failed at once.
    called_off = [backend.task_page(job_id, 1, task_status="CANCELED").total for job_id in listed]
    assert sum(called_off) == 599


def test_a_server_killed_during_progress_knows_the_progress_and_the_batch_ends(own_server, fleet):
    server = own_server()
    backend = Backend(server)
    product_key = backend.product()
    holding, streaming, offline, failed = backend.devices(product_key, 4)
    python = fleet.python(holding, server, hold=True)
    javascript = fleet.javascript(streaming, server, ignore=True)
    fleet.javascript(failed, server, fail=-2)
    backend.wait_ready(OLD, holding, streaming, failed)
    firmware_id = backend.package(product_key, NEW)
    job_id = backend.batch(product_key, firmware_id, timeout_in_minutes=60)
    python.wait("holding")
    backend.wait_task(job_id, failed, "FAILED")
    wait_for(lambda: backend.task(job_id, holding).progress, lambda progress: progress == "50.00")
    javascript.wait("push")
    javascript.send("stream")
    javascript.wait("acknowledged", count=5)
    server.kill()

    # Whatever the device saw acknowledged was on disk.
    last = javascript.all("acknowledged")[-1]["step"]
    server.start()
    tasks = backend.tasks(job_id)
    assert {name: task.task_status for name, task in tasks.items()} == {
        holding.name: "IN_PROGRESS",
        streaming.name: "IN_PROGRESS",
        offline.name: "QUEUED",
        failed.name: "FAILED",
    }
    assert tasks[holding.name].progress == "50.00"
    assert float(tasks[streaming.name].progress) >= last
    assert backend.listed_job(firmware_id, job_id).job_status == "IN_PROGRESS"
    assert backend.detail(offline).status == "UNACTIVE"

    # The devices come back by themselves and are told again; then everything goes its way.
    backend.wait_online(holding, streaming)
    python.wait("push", count=2)
    javascript.wait("push", count=2)
    python.send("go")
    javascript.send(f"report {NEW}")
    fleet.python(offline, server)
    assert backend.wait_ended(firmware_id, job_id).job_status == "COMPLETE"
    assert sorted(task.task_status for task in backend.tasks(job_id).values()) == [
        "FAILED", "SUCCEEDED", "SUCCEEDED", "SUCCEEDED",
    ]


def test_an_orderly_stop_loses_nothing_either_and_answers_what_it_began(own_server):
    server = own_server()
    backend = Backend(server)
    product_key = backend.product()
    made = []
    stopped = threading.Event()

    def register():
        registrar = Backend(server)
        while not stopped.is_set():
            try:
                made.append(registrar.device(product_key).name)
            except Exception:  # the listener is gone
                return

    workers = [threading.Thread(target=register) for _ in range(4)]
    for worker in workers:
        worker.start()
    wait_for(lambda: len(made), lambda count: count >= 20)
    server.stop()
    stopped.set()
    for worker in workers:
        worker.join()
    server.start()
    for name in made:
        assert backend.ok("QueryDeviceDetail", product_key=product_key, device_name=name).data.device_name == name


def test_a_second_server_on_the_same_folder_is_refused(own_server):
    server = own_server()
    command = [binary(), "serve", "--data-dir", str(server.data_dir)]
    command += ["--api-addr", "127.0.0.1:0", "--mqtt-addr", "127.0.0.1:0"]
    second = subprocess.run(command, capture_output=True, text=True, timeout=30, env=server.environment)
    assert second.returncode != 0
    assert str(server.data_dir) in second.stderr + second.stdout
    # The first one is untouched, and so is what it wrote about itself.
    assert Backend(server).product()
    pid = server.process.pid
    server.kill()
    assert pid != server.start().process.pid
