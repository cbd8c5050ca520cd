"""SIGKILL again and again under load: what was acknowledged is there, and everything ends.

`./test campaign -- --minutes 60 --seed 7`; a short form runs with the acceptance tests (test_campaign.py).
The load: operators on the official SDK make products, devices, packages and batches of all kinds, and confirm,
cancel, change, put back in line and delete; devices on paho take every update, and sometimes fail
(crashes/load.py). After each kill the database is read as the dead server left it (from a copy, so that the server
does its own recovery), then the server starts again and is asked. Between kills there is other trouble
(crashes/episodes.py).
"""

import argparse
import collections
import contextlib
import hashlib
import json
import pathlib
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import time

import requests

from crashes import episodes
from crashes.checks import Checker
from crashes.load import Device, Ledger, Operator
from support.backend import Backend
from support.postgres import Postgres
from support.server import Server
from support.waiting import wait_for
from support.world import World, may_mount, small_disk

# No limits of rates and counts, which have tests of their own; small chunks, so that kills fall between them.
SETTINGS = {
    "engine_chunk_rows": 20, "mqtt_uplink_per_second": 0, "firmware_max": 1_000_000, "disk_reserve_bytes": 0,
}
# So often all rows are checked; in between those of the newest batches are.
ALL_ROWS_EVERY = 20
NEWEST_BATCHES = 400
# The disk in memory that is made full, where one may be mounted.
DISK_MEBIBYTES = 16_384


class Campaign:
    """One data folder, its load, its kills."""

    def __init__(self, folder, seed, devices=8, operators=3, postgres=False, trouble=True, say=print):
        self.seed, self.rng, self.say = seed, random.Random(seed), say
        self.folder = pathlib.Path(folder)
        self.checker, self.ledger = Checker(seed), Ledger()
        self.ends = contextlib.ExitStack()
        self.stopped, self.starts, self.trouble = threading.Event(), [], collections.Counter()
        self.world = World(self.folder)
        self.disk = self.postgres = None
        data, settings = self.folder / "data", dict(SETTINGS)
        if postgres:
            self.postgres = Postgres(self.folder / "postgres")
            self.ends.callback(self._end_postgres)
            settings["database_url"] = self.postgres.url
        elif trouble and may_mount():
            (self.folder / "disk").mkdir()
            self.disk = self.ends.enter_context(small_disk(self.folder / "disk", DISK_MEBIBYTES))
            data = self.disk / "data"
        # An hour's operators make more products than an instance may have.
        self.server = Server(data, quota_scale=0, product_max=1_000_000, **settings)
        self.server.log = self.folder / "log"
        self.server.environment |= self.world.environment
        self.server.start()
        self.episodes, self.trouble_in_every_round = episodes.for_campaign(self) if trouble else [], False
        backend = Backend(self.server)
        self.product = backend.product()
        self.identities = backend.devices(self.product, devices)
        self.ledger.products.add(self.product)
        self.ledger.devices.update(identity.name for identity in self.identities)
        self.devices = [
            Device(identity, self.server, self.ledger, random.Random(f"{seed} {number}"))
            for number, identity in enumerate(self.identities)
        ]
        backend.wait_online(*self.identities)
        self.operators = [
            Operator(
                self.server, self.ledger, self.product, self.identities,
                random.Random(f"{seed} operator {number}"), self.stopped,
            )
            for number in range(operators)
        ]

    def _end_postgres(self):
        with contextlib.suppress(AssertionError):  # it has ended already
            self.postgres.crash()

    # The kills

    def run(self, minutes=None, kills=None):
        """Kills until the time is over or so many were made, then lets everything end."""
        for operator in self.operators:
            operator.thread.start()
        until = None if minutes is None else time.monotonic() + minutes * 60
        made = 0
        while (kills is None or made < kills) and (until is None or time.monotonic() < until):
            # Some kills come when the server is hardly up.
            self.pause(self.rng.uniform(0, 0.3) if self.rng.random() < 0.2 else self.rng.uniform(0.5, 4))
            what = self._trouble()
            if self.server.process is not None:
                self.server.kill()
            made += 1
            self._check_rows(everything=made % ALL_ROWS_EVERY == 0)
            began = time.monotonic()
            self.server.start()
            self.starts.append(time.monotonic() - began)
            self._ask()
            self._no_errors()
            ledger = self.ledger
            self.say(
                f"kill {made}{f', {what}' if what else ''}: ready again after {self.starts[-1]:.2f} s; "
                f"{ledger.acknowledged} acknowledged, {ledger.lost} lost, {ledger.checks} checks",
                flush=True,
            )
        self._end()
        return made

    def pause(self, seconds):
        """Lets the load run."""
        self.stopped.wait(seconds)

    def _trouble(self):
        """Makes some other trouble, or none; its name."""
        if not self.episodes or (not self.trouble_in_every_round and self.rng.random() < 0.5):
            return None
        episode = episodes.drawn(self)
        episode(self)
        self.trouble[episode.__doc__] += 1
        return episode.__doc__

    def wait_ready(self):
        """Waits until the server, which lives, says that it is ready."""
        def ready():
            assert self.server.process.poll() is None, self.server.log_tail()
            return requests.get(f"http://{self.server.api}/readyz", timeout=10).status_code == 200

        wait_for(ready, timeout=30)

    def _no_errors(self):
        errors = [error for operator in self.operators for error in operator.errors]
        assert not errors, f"seed {self.seed}: {errors}"

    # The checks

    @contextlib.contextmanager
    def dead_database(self):
        """What asks the database as the dead server left it."""
        if self.postgres is not None:
            yield self.postgres.query
            return
        # A copy, since reading it would repair it.
        copy = pathlib.Path(tempfile.mkdtemp(dir=self.folder))
        for name in ("updraft.db", "updraft.db-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(self.server.data_dir / name, copy / name)
        with contextlib.closing(sqlite3.connect(copy / "updraft.db")) as database:
            yield lambda sql: database.execute(sql).fetchall()
        shutil.rmtree(copy)

    def _check_rows(self, everything):
        with self.dead_database() as query, self.ledger.lock:  # nothing is acknowledged any more: the server is dead
            if self.postgres is None:
                how = "integrity_check" if everything else "quick_check"
                ((verdict,),) = query(f"PRAGMA {how}(1)")
                self.checker.check(self.ledger, verdict == "ok", f"the database is damaged: {verdict}")
            ((newest,),) = query("SELECT COALESCE(MAX(id), 0) FROM job")
            self.checker.rows(query, self.ledger, 0 if everything else int(newest) - NEWEST_BATCHES)

    def _ask(self):
        """Asks the new server for some of what is acknowledged, and fetches files."""
        with self.ledger.lock:
            jobs, packages = self.ledger.askable()
        self.ask(self.server, jobs, packages)

    def ask(self, server, jobs, packages, key=None):
        """Asks a server for some of these batches and packages, and fetches files."""
        backend = Backend(server, key)
        for job in {*jobs[-3:], *self.rng.sample(jobs, min(5, len(jobs)))}:
            body = backend.call("QueryOTAJob", job_id=job)
            gone = self.ledger.package_of.get(job) in self.ledger.deleted
            self._check(gone or (body.success and body.data.job_id == job), f"batch {job} is not told")
        for firmware, (version, md5) in [*packages[-2:], *self.rng.sample(packages, min(3, len(packages)))]:
            body = backend.call("QueryOTAFirmware", firmware_id=firmware)
            if firmware in self.ledger.deleted:
                continue  # meanwhile
            self._check(body.success, f"package {firmware} is not told: {body.code}")
            self._check(body.firmware_info.dest_version == version, f"package {firmware} has another version")
            answer = requests.get(body.firmware_info.firmware_url, timeout=30)
            good = hashlib.md5(answer.content).hexdigest() == md5 or firmware in self.ledger.deleted
            self._check(good, f"package {firmware} has other bytes")

    def _check(self, holds, what):
        self.checker.check(self.ledger, holds, what)

    # The end

    def _end(self):
        """No more orders: every batch ends, and every device is there."""
        self.stopped.set()
        for operator in self.operators:
            operator.thread.join(60)
        self._no_errors()
        backend = Backend(self.server)
        for identity in self.identities:
            wait_for(lambda: backend.detail(identity).status, lambda status: status == "ONLINE", timeout=60)
            self.ledger.checks += 1
        jobs, _ = self.ledger.askable()
        for job in jobs:
            wait_for(lambda: self._ended(backend, job), timeout=180, every=0.2)
            self.ledger.checks += 1
        # Whom a dynamic batch took in outlives it; and a batch whose answer was lost with the server is nobody's.
        for identity in self.identities:
            wait_for(lambda: self._unfinished(backend, identity), lambda tasks: not tasks, timeout=120, every=0.2)
            self.ledger.checks += 1
        self.server.kill()
        self._check_rows(everything=True)

    def _unfinished(self, backend, identity):
        """The tasks that a device still has; those that wait for a consent that nobody will give are called off."""
        fields = {"product_key": identity.product_key, "device_name": identity.name}
        tasks = backend.ok("ListOTAUnfinishedTaskByDevice", **fields).data.simple_otatask_info
        for task in tasks or []:
            if task.task_status == "CONFIRM":
                backend.cancel(task.job_id, cancel_unconfirmed_task=True)
        return tasks

    def _ended(self, backend, job):
        """Whether a batch has ended; does what it waits for an operator to do."""
        if backend.job(job).job_status in ("COMPLETED", "CANCELED"):
            return True
        if job in self.ledger.rules:
            backend.call("CancelOTAStrategyByJob", job_id=job)
        if job in self.ledger.asking:
            backend.cancel(job, cancel_unconfirmed_task=True)
        return False

    def summary(self, kills, seconds):
        """The figures, for people and programs."""
        ledger, starts = self.ledger, sorted(self.starts) or [0.0]
        return {
            "seed": self.seed,
            "database": "PostgreSQL" if self.postgres else "SQLite",
            "minutes": round(seconds / 60, 1),
            "kills": kills,
            "other trouble": dict(sorted(self.trouble.items())),
            "acknowledged calls and messages": ledger.acknowledged,
            "acknowledged calls": dict(sorted(ledger.calls.items())),
            "calls lost with the server or its disk": ledger.lost,
            "calls refused because they came too late": ledger.refused,
            "ended tasks": len(ledger.final),
            "checks": ledger.checks,
            "seconds to ready, median": round(starts[len(starts) // 2], 2),
            "seconds to ready, most": round(starts[-1], 2),
        }

    def close(self):
        """Ends whatever still runs."""
        self.stopped.set()
        for device in self.devices:
            device.stop()
        self.server.kill()
        self.ends.close()


def main():
    parser = argparse.ArgumentParser(description="Kills a real server under load and checks what is left.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument("--operators", type=int, default=3)
    parser.add_argument("--postgres", action="store_true", help="on a PostgreSQL of its own, which crashes too")
    parser.add_argument("--only-kills", action="store_true", help="no other trouble between the kills")
    parser.add_argument("--json", type=pathlib.Path, help="writes the figures to this file")
    arguments = parser.parse_args()
    # Whoever ends this early leaves no server and no disk behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended early"))
    folder = tempfile.mkdtemp(prefix="updraft-campaign-")
    campaign = Campaign(
        folder, arguments.seed, devices=arguments.devices, operators=arguments.operators,
        postgres=arguments.postgres, trouble=not arguments.only_kills,
    )
    began = time.monotonic()
    try:
        kills = campaign.run(minutes=arguments.minutes)
    except BaseException:
        kept = pathlib.Path(folder) / "kept"
        if campaign.disk is not None:  # what is in memory would go with it
            shutil.copytree(campaign.disk, kept)
        print(f"seed {arguments.seed} failed; the data and the log are in {folder}", file=sys.stderr)
        raise
    finally:
        campaign.close()
    summary = json.dumps(campaign.summary(kills, time.monotonic() - began), indent=2)
    print(summary)
    if arguments.json:
        arguments.json.write_text(summary + "\n")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
