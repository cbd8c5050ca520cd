"""SIGKILL again and again under load: what was acknowledged is there, and everything ends.

`./test campaign -- --minutes 60 --seed 7`; a short form runs with the acceptance tests (test_campaign.py).
The load: operators on the official SDK make products, devices, packages and batches and cancel some; devices
on paho take every update. After each kill the database is read as the dead server left it (from a copy, so
that the server does its own recovery), then the server starts again and is asked.
"""

import argparse
import contextlib
import hashlib
import hmac
import json
import pathlib
import queue
import random
import shutil
import sqlite3
import sys
import tempfile
import threading
import time

import paho.mqtt.client as mqtt
import requests

from support.backend import Backend, unique
from support.server import Server
from support.waiting import wait_for

# No limits of rates and counts, which have tests of their own; small chunks, so that kills fall between them.
SETTINGS = {"engine_chunk_rows": 20, "mqtt_uplink_per_second": 0, "firmware_max": 1_000_000}
OPEN_STATES = 4  # storage numbers of task states: below are the open ones
# Queries that must find nothing, and what it would mean.
MUST_BE_EMPTY = {
    "counts differ from rows": """
        SELECT job, status, SUM(n) FROM job_count GROUP BY job, status HAVING SUM(n) <> 0
        EXCEPT SELECT job, status, COUNT(*) FROM task GROUP BY job, status""",
    "rows differ from counts": """
        SELECT job, status, COUNT(*) FROM task GROUP BY job, status
        EXCEPT SELECT job, status, SUM(n) FROM job_count GROUP BY job, status""",
    "a device has two open tasks": """
        SELECT device FROM task WHERE status < 4 GROUP BY device HAVING COUNT(*) > 1""",
    "all tasks have ended but the batch has not": """
        SELECT id FROM job WHERE expanded = 1 AND end_at IS NULL AND task_count > 0
        AND NOT EXISTS (SELECT 1 FROM task WHERE task.job = job.id AND task.status < 4)""",
    "an ended batch has open tasks": """
        SELECT job.id FROM job JOIN task ON task.job = job.id WHERE job.end_at IS NOT NULL AND task.status < 4""",
    "a product counts its devices wrongly": """
        SELECT id FROM product
        WHERE device_count <> (SELECT COUNT(*) FROM device WHERE device.product = product.id AND deleted_at IS NULL)""",
}


class Ledger:
    """What was acknowledged, and how many checks it took part in."""

    def __init__(self):
        self.lock = threading.Lock()
        self.products, self.devices, self.packages, self.jobs = set(), set(), {}, {}
        self.cancelled = set()
        self.progress = {}  # (device, version): the highest step acknowledged
        self.reported = set()  # (device, version): acknowledged version reports
        self.final = {}  # (job, ordinal): state, once it was a final one
        self.broken = []  # what devices found wrong
        self.acknowledged = self.lost = self.checks = 0

    def note(self):
        self.acknowledged += 1


class Device:
    """A device on paho that takes every update; it lives through the server's deaths."""

    def __init__(self, identity, server, ledger, rng):
        self.identity, self.ledger, self.rng, self.version = identity, ledger, rng, "1.0.0"
        self.pushes, self.waiting, self.stopped = queue.Queue(), {}, threading.Event()
        content = f"clientIdcampaigndeviceName{identity.name}productKey{identity.product_key}"
        self.client = mqtt.Client("campaign|securemode=3,signmethod=hmacsha1,_ss=1|")
        password = hmac.new(identity.secret.encode(), content.encode(), hashlib.sha1).hexdigest()
        self.client.username_pw_set(f"{identity.name}&{identity.product_key}", password)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = lambda *_: self.report()
        self.client.on_message = lambda _client, _data, message: self.pushes.put(json.loads(message.payload))
        self.client.on_publish = self._acknowledged
        self.client.connect(server.mqtt_host, server.mqtt_port)
        self.client.loop_start()
        threading.Thread(target=self._work, daemon=True).start()

    def _publish(self, kind, params, meaning):
        topic = f"/ota/device/{kind}/{self.identity.product_key}/{self.identity.name}"
        # Not under the ledger's lock: paho holds one of its own here, and also when it calls us.
        info = self.client.publish(topic, json.dumps({"id": "1", "params": params}), qos=1)
        self._both(info.mid, meaning)

    def _acknowledged(self, _client, _data, mid):
        self._both(mid, None)

    def _both(self, mid, meaning):
        """Notes a message once we know both what it means and that it is acknowledged, in either order."""
        with self.ledger.lock:
            if mid not in self.waiting:
                self.waiting[mid] = meaning
                return
            kind, version, step = self.waiting.pop(mid) or meaning
            self.ledger.note()
            key = (self.identity.name, version)
            if kind == "progress":
                self.ledger.progress[key] = max(self.ledger.progress.get(key, 0), step)
            elif kind == "inform":
                self.ledger.reported.add(key)

    def report(self):
        self._publish("inform", {"version": self.version}, ("inform", self.version, 0))

    def _work(self):
        while not self.stopped.is_set():
            push = self.pushes.get()
            if push is not None:
                self._upgrade(push["data"])

    def _upgrade(self, data):
        version = data.get("version")
        if version is None:
            return
        if version != self.version:
            for step in (0, 20, 40, 60, 80, 100):
                # One at a time: after a reconnection paho may send an unacknowledged one behind a newer one.
                self._publish("progress", {"step": str(step), "desc": ""}, ("progress", version, step))
                while self.ledger.progress.get((self.identity.name, version), -1) < step:
                    if self.stopped.wait(0.02):
                        return
                self.stopped.wait(self.rng.uniform(0.01, 0.15))
                if step == 40:
                    digest = self._downloaded(data["url"])
                    if digest is None:
                        return  # the campaign is over
                    if digest != data["md5"]:
                        self.ledger.broken.append(f"{self.identity.name}: {version} is not what was announced")
            self.version = version
        self.report()

    def _downloaded(self, url):
        while not self.stopped.is_set():
            with contextlib.suppress(requests.RequestException):
                answer = requests.get(url, timeout=10)
                if answer.status_code == 200:
                    return hashlib.md5(answer.content).hexdigest()
            self.stopped.wait(0.2)
        return None

    def stop(self):
        self.stopped.set()
        self.pushes.put(None)
        self.client.disconnect()
        self.client.loop_stop()


class Campaign:
    """One data folder, its load, its kills."""

    def __init__(self, folder, seed, devices=8, operators=3, say=print):
        self.seed, self.rng, self.say = seed, random.Random(seed), say
        self.folder = pathlib.Path(folder)
        self.server = Server(self.folder / "data", quota_scale=0, **SETTINGS)
        self.server.start()
        self.ledger, self.stopped, self.errors = Ledger(), threading.Event(), []
        self.starts = []
        backend = Backend(self.server)
        self.product = backend.product()
        identities = backend.devices(self.product, devices)
        self.names = [identity.name for identity in identities]
        self.ledger.products.add(self.product)
        self.ledger.devices.update(self.names)
        self.devices = [
            Device(identity, self.server, self.ledger, random.Random(f"{seed} {number}"))
            for number, identity in enumerate(identities)
        ]
        backend.wait_online(*identities)
        self.identities = identities
        self.operators = [
            threading.Thread(target=self._operate, args=(random.Random(f"{seed} operator {number}"),))
            for number in range(operators)
        ]

    # The load

    def _operate(self, rng):
        backend = Backend(self.server)
        while not self.stopped.is_set():
            try:
                self._operation(backend, rng)
            except AssertionError as error:
                self.errors.append(error)  # refused, though it was right
                return
            except Exception:  # the server died; the SDK says so in many ways
                with self.ledger.lock:
                    self.ledger.lost += 1
                self.stopped.wait(0.1)

    def _operation(self, backend, rng):
        choice = rng.randrange(20)
        ledger = self.ledger
        if choice == 0:
            made, into = backend.product(), ledger.products
        elif choice < 8:
            made, into = backend.device(self.product).name, ledger.devices
        elif choice < 15:
            return self._roll_out(backend, rng)
        else:
            with ledger.lock:
                known = sorted(set(ledger.jobs) - ledger.cancelled)
            if not known:
                return None
            made, into = rng.choice(known[-10:]), ledger.cancelled
            backend.cancel(made, cancel_queued_task=True, cancel_notified_task=True)
        with ledger.lock:
            into.add(made)
            ledger.note()
        return None

    def _roll_out(self, backend, rng):
        """A package of its own for each batch, so that a version tells the batch."""
        content = rng.randbytes(rng.randrange(1, 60_000))
        version = unique("2.0").replace("_", ".")
        firmware = backend.package(self.product, version, content)
        with self.ledger.lock:
            self.ledger.packages[firmware] = (version, hashlib.md5(content).hexdigest())
            self.ledger.note()
        targets = rng.sample(self.identities, rng.randrange(1, len(self.identities) + 1))
        job = backend.batch(self.product, firmware, *targets)
        with self.ledger.lock:
            self.ledger.jobs[job] = version
            self.ledger.note()

    # The kills

    def run(self, minutes=None, kills=None):
        """Kills until the time is over or so many were made, then lets everything end."""
        for operator in self.operators:
            operator.start()
        until = None if minutes is None else time.monotonic() + minutes * 60
        made = 0
        while (kills is None or made < kills) and (until is None or time.monotonic() < until):
            # Some kills come when the server is hardly up.
            self.stopped.wait(self.rng.uniform(0, 0.3) if self.rng.random() < 0.2 else self.rng.uniform(0.5, 4))
            self.server.kill()
            made += 1
            self._kill_checks()
            began = time.monotonic()
            self.server.start()
            self.starts.append(time.monotonic() - began)
            self._ask()
            assert not self.errors, self.errors
            ledger = self.ledger
            self.say(
                f"kill {made}: ready again after {self.starts[-1]:.2f} s; {ledger.acknowledged} acknowledged, "
                f"{ledger.lost} lost with the server, {ledger.checks} checks"
            )
        self._end()
        return made

    def _dead_database(self):
        """The database as the dead server left it: a copy, since reading it would repair it."""
        copy = pathlib.Path(tempfile.mkdtemp(dir=self.folder))
        for name in ("updraft.db", "updraft.db-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(self.server.data_dir / name, copy / name)
        return copy

    def _kill_checks(self):
        copy = self._dead_database()
        database = sqlite3.connect(copy / "updraft.db")
        with self.ledger.lock:  # nothing is acknowledged any more: the server is dead
            self._check_rows(database)
        database.close()
        shutil.rmtree(copy)

    def _check(self, holds, what):
        assert not self.ledger.broken, f"seed {self.seed}: {self.ledger.broken}"
        self.ledger.checks += 1
        assert holds, f"seed {self.seed}: {what}"

    def _check_rows(self, database):
        ledger = self.ledger
        (verdict,) = database.execute("PRAGMA integrity_check").fetchone()
        self._check(verdict == "ok", f"the database is damaged: {verdict}")
        for meaning, sql in MUST_BE_EMPTY.items():
            found = database.execute(sql).fetchall()
            self._check(not found, f"{meaning}: {found[:5]}")
        for table, column, known in (
            ("product", "product_key", ledger.products),
            ("device", "name", ledger.devices),
            ("firmware", "firmware_id", set(ledger.packages)),
            ("job", "job_id", set(ledger.jobs)),
        ):
            there = {row[0] for row in database.execute(f"SELECT {column} FROM {table}")}
            ledger.checks += len(known)
            assert known <= there, f"seed {self.seed}: {table} acknowledged and gone: {known - there}"
        rows = database.execute(
            "SELECT task.job, task.ordinal, task.status, task.progress, device.name, firmware.dest_version "
            "FROM task JOIN device ON device.id = task.device JOIN job ON job.id = task.job "
            "JOIN firmware ON firmware.id = job.firmware"
        )
        for job, ordinal, state, progress, device, version in rows:
            before = ledger.final.get((job, ordinal))
            self._check(before in (None, state), f"task {job}-{ordinal} was {before} and is {state}")
            if state >= OPEN_STATES:
                ledger.final[job, ordinal] = state
                continue
            step = ledger.progress.get((device, version), 0)
            self._check(progress >= step, f"{device} {version}: {step} was acknowledged, {progress} is there")
            self._check((device, version) not in ledger.reported, f"{device} reported {version}, its task is open")

    def _ask(self):
        """Asks the new server for some of what is acknowledged, and fetches files."""
        backend, ledger = Backend(self.server), self.ledger
        with ledger.lock:
            jobs, packages = sorted(ledger.jobs), sorted(ledger.packages.items())
        for job in {*jobs[-3:], *self.rng.sample(jobs, min(5, len(jobs)))}:
            self._check(backend.job(job).job_id == job, f"batch {job} is not told")
        for firmware, (version, md5) in [*packages[-2:], *self.rng.sample(packages, min(3, len(packages)))]:
            info = backend.firmware(firmware)
            self._check(info.dest_version == version, f"package {firmware} has another version")
            answer = requests.get(info.firmware_url, timeout=30)
            self._check(hashlib.md5(answer.content).hexdigest() == md5, f"package {firmware} has other bytes")

    # The end

    def _end(self):
        """No more orders: every batch ends, and every device is there."""
        self.stopped.set()
        for operator in self.operators:
            operator.join(60)
        assert not self.errors, self.errors
        backend = Backend(self.server)
        for identity in self.identities:
            wait_for(lambda: backend.detail(identity).status, lambda status: status == "ONLINE", timeout=60)
            self.ledger.checks += 1
        for job in sorted(self.ledger.jobs):
            wait_for(
                lambda: backend.job(job).job_status,
                lambda status: status in ("COMPLETED", "CANCELED"),
                timeout=120,
                every=0.2,
            )
            self.ledger.checks += 1
        self.server.kill()
        self._kill_checks()

    def close(self):
        """Ends whatever still runs."""
        self.stopped.set()
        for device in self.devices:
            device.stop()
        self.server.kill()


def main():
    parser = argparse.ArgumentParser(description="Kills a real server under load and checks what is left.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--devices", type=int, default=8)
    arguments = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="updraft-campaign-")
    campaign = Campaign(folder, arguments.seed, devices=arguments.devices)
    try:
        kills = campaign.run(minutes=arguments.minutes)
    except BaseException:
        print(f"seed {arguments.seed} failed; the data and the log are in {folder}", file=sys.stderr)
        raise
    finally:
        campaign.close()
    ledger, starts = campaign.ledger, sorted(campaign.starts)
    print(
        f"seed {arguments.seed}: {kills} kills, {ledger.acknowledged} acknowledged operations and messages, "
        f"{ledger.lost} calls lost with the server, {len(ledger.jobs)} batches, {len(ledger.packages)} packages, "
        f"{len(ledger.final)} ended tasks, {ledger.checks} checks; ready again after "
        f"{starts[len(starts) // 2]:.2f} s (median), {starts[-1]:.2f} s (most)"
    )
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
