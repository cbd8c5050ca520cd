"""The load of a campaign: devices that take every update, operators that order them, and what was acknowledged."""

import contextlib
import copy
import hashlib
import hmac
import json
import queue
import threading

import paho.mqtt.client as mqtt
import requests

from support.backend import Backend, unique

# Refusals that say to come again: what a full disk answers.
MAY_BE_SAID = ("InsufficientStorage", "ServiceUnavailable")
# One in so many upgrades fails on the device.
FAILS_ONE_IN = 25


class Ledger:
    """What was acknowledged, and how many checks it took part in."""

    def __init__(self):
        self.lock = threading.RLock()
        self.products, self.devices, self.packages, self.jobs = set(), set(), {}, {}
        self.cancelled = {}  # in order, as are the two below
        self.rules = {}  # dynamic batches: they end when they are told to
        self.asking = {}  # batches whose tasks wait for a confirmation
        self.reopened = set()  # batches with tasks that may have been put back in line
        self.deleted = set()  # packages whose deletion was asked for
        self.package_of = {}  # of a batch
        self.progress = {}  # (device, version): the highest step acknowledged
        self.reported = set()  # (device, version): acknowledged version reports
        self.final = {}  # (job, ordinal): state, once it was a final one
        self.broken = []  # what devices found wrong
        self.calls = {}  # acknowledged calls by what they did
        self.acknowledged = self.lost = self.refused = self.checks = 0

    def note(self):
        self.acknowledged += 1

    def did(self, what):
        """Notes an acknowledged call. The lock must be held."""
        self.calls[what] = self.calls.get(what, 0) + 1
        self.acknowledged += 1

    def moment(self):
        """What a backup that begins now must hold."""
        with self.lock:
            kept = copy.copy(self)
            for name in ("products", "devices", "packages", "jobs", "reopened", "deleted", "progress", "reported"):
                setattr(kept, name, copy.copy(getattr(self, name)))
        kept.final, kept.broken, kept.checks = {}, [], 0
        return kept

    def askable(self):
        """Batches and packages that answers are expected of. The lock must be held."""
        jobs = [job for job in self.jobs if self.package_of[job] not in self.deleted]
        return jobs, [(key, value) for key, value in self.packages.items() if key not in self.deleted]


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

    def _fail(self, version, code):
        self._publish("progress", {"step": str(code), "desc": "as drawn"}, ("failure", version, 0))

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
                        return self._fail(version, -2)  # the package was deleted, or the campaign is over
                    if digest != data["md5"]:
                        self.ledger.broken.append(f"{self.identity.name}: {version} is not what was announced")
                    if self.rng.randrange(FAILS_ONE_IN) == 0:
                        return self._fail(version, -4)
            self.version = version
        return self.report()

    def _downloaded(self, url):
        while not self.stopped.is_set():
            with contextlib.suppress(requests.RequestException):
                answer = requests.get(url, timeout=10)
                if answer.status_code == 200:
                    return hashlib.md5(answer.content).hexdigest()
                if answer.status_code in (403, 404):
                    return None
            self.stopped.wait(0.2)
        return None

    def stop(self):
        self.stopped.set()
        self.pushes.put(None)
        self.client.disconnect()
        self.client.loop_stop()


class Operator:
    """Somebody who orders at random, on the official SDK, until told to stop."""

    def __init__(self, server, ledger, product, identities, rng, stopped):
        self.server, self.ledger, self.product, self.identities = server, ledger, product, identities
        self.rng, self.stopped, self.errors = rng, stopped, []
        self.thread = threading.Thread(target=self._run, daemon=True)
        # How often each is done, of all these together.
        self.orders = {
            self._product: 2, self._device: 14, self._batch: 14, self._asking_batch: 2, self._rule: 2,
            self._end_rule: 1, self._cancel: 6, self._confirm: 10, self._put_back: 8, self._update: 1, self._delete: 1,
        }

    def _run(self):
        backend = Backend(self.server)
        while not self.stopped.is_set():
            (order,) = self.rng.choices(list(self.orders), self.orders.values())
            try:
                order(backend)
            except Exception as error:  # the server died, or its disk did; the SDK says so in many ways
                if isinstance(error, AssertionError) and not any(word in str(error) for word in MAY_BE_SAID):
                    self.errors.append(error)  # refused, though it was right
                    return
                with self.ledger.lock:
                    self.ledger.lost += 1
                self.stopped.wait(0.1)
            self.stopped.wait(self.rng.uniform(0, 0.15))

    def _some(self, known):
        """One of the newest, if there is one."""
        with self.ledger.lock:
            known = list(known())[-12:]
        return self.rng.choice(known) if known else None

    def _noted(self, what, kept=None, into=None):
        with self.ledger.lock:
            if isinstance(into, dict):
                into[kept] = True
            elif into is not None:
                into.add(kept)
            self.ledger.did(what)

    def _maybe(self, backend, what, action, **fields):
        """An order that another operator or a device may have made impossible meanwhile."""
        body = backend.call(action, **fields)
        if body.success is True:
            self._noted(what)
        else:
            with self.ledger.lock:
                self.ledger.refused += 1

    def _product(self, backend):
        self._noted("products", backend.product(), self.ledger.products)

    def _device(self, backend):
        self._noted("devices", backend.device(self.product).name, self.ledger.devices)

    def _package(self, backend):
        """A package of its own for each batch, so that a version tells the batch."""
        content = self.rng.randbytes(self.rng.randrange(1, 20_000))
        version = unique("2.0").replace("_", ".")
        firmware = backend.package(self.product, version, content)
        with self.ledger.lock:
            self.ledger.packages[firmware] = (version, hashlib.md5(content).hexdigest())
            self.ledger.did("packages")
        return firmware, version

    def _batch_noted(self, what, job, firmware, version):
        with self.ledger.lock:
            self.ledger.package_of[job] = firmware
            self.ledger.jobs[job] = version
            self.ledger.did(what)

    def _batch(self, backend, what="static batches", **fields):
        firmware, version = self._package(backend)
        targets = self.rng.sample(self.identities, self.rng.randrange(1, len(self.identities) + 1))
        job = backend.batch(self.product, firmware, *targets, **fields)
        self._batch_noted(what, job, firmware, version)
        return job

    def _asking_batch(self, backend):
        job = self._batch(backend, "batches to be confirmed", need_confirm=True)
        with self.ledger.lock:
            self.ledger.asking[job] = True

    def _rule(self, backend):
        firmware, version = self._package(backend)
        wanted = {backend.detail(one).firmware_version for one in self.rng.sample(self.identities, 2)} - {version, ""}
        job = backend.ok(
            "CreateOTADynamicUpgradeJob", product_key=self.product, firmware_id=firmware,
            src_version=sorted(wanted) or ["1.0.0"], maximum_per_minute=1_000,
        ).data.job_id
        with self.ledger.lock:
            self.ledger.rules[job] = True
        self._batch_noted("dynamic batches", job, firmware, version)

    def _end_rule(self, backend):
        if job := self._some(lambda: [one for one in self.ledger.rules if one not in self.ledger.cancelled]):
            self._maybe(backend, "dynamic batches ended", "CancelOTAStrategyByJob", job_id=job)

    def _cancel(self, backend):
        if job := self._some(lambda: [one for one in self.ledger.jobs if one not in self.ledger.cancelled]):
            fields = {"cancel_queued_task": True, "cancel_notified_task": True, "cancel_unconfirmed_task": True}
            body = backend.call("CancelOTATaskByJob", job_id=job, **fields)
            assert body.success or "Firmware" in body.code or "Job" in body.code, body.code
            if body.success:
                self._noted("cancellations", job, self.ledger.cancelled)

    def _tasks(self, backend, job, status):
        rows = backend.call("ListOTATaskByJob", job_id=job, task_status=status, page_size=100, current_page=1)
        listed = rows.data.simple_otatask_info if rows.success and rows.data else None
        return [task.task_id for task in listed or []]

    def _confirm(self, backend):
        if (job := self._some(lambda: self.ledger.asking)) and (tasks := self._tasks(backend, job, "CONFIRM")):
            self._maybe(backend, "confirmations", "ConfirmOTATask", task_id=tasks[:10])

    def _put_back(self, backend):
        status = self.rng.choice(("CANCELED", "FAILED"))
        of = self.ledger.cancelled if status == "CANCELED" else self.ledger.jobs
        if (job := self._some(lambda: of)) and (tasks := self._tasks(backend, job, status)):
            with self.ledger.lock:
                self.ledger.reopened.add(job)  # before the answer, which may be lost
            self._maybe(backend, "tasks put back in line", "ReupgradeOTATask", job_id=job, task_id=tasks[:5])

    def _update(self, backend):
        if job := self._some(lambda: [one for one in self.ledger.rules if one not in self.ledger.cancelled]):
            self._maybe(
                backend, "batches changed", "UpdateOTAJob", job_id=job, upgrade_type="DYNAMIC",
                maximum_per_minute=self.rng.randrange(500, 1_000), src_version_list=["1.0.0"],
                target_selection="ALL",
            )

    def _delete(self, backend):
        # One with a batch: of the others somebody is about to make one.
        if job := self._some(lambda: [one for one in self.ledger.jobs if one not in self.ledger.cancelled]):
            firmware = self.ledger.package_of[job]
            with self.ledger.lock:
                self.ledger.deleted.add(firmware)  # before the answer, which may be lost
            self._maybe(backend, "packages deleted", "DeleteOTAFirmware", firmware_id=firmware)
