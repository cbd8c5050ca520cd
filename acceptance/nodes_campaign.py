"""Several nodes in trouble, again and again, under a fleet that updates: everything ends as it should, once.

`./test nodes -- --minutes 30 --seed 7`; a short form runs with the acceptance tests (test_nodes_campaign.py).
Rounds: in each `updraft simulate` rolls a package out over its devices, which compare in the end what they lived
through with what the server says, while nodes, their database and the wires between them are killed, stopped, stalled,
slowed and cut (outages/faults.py) and back ends call every node (outages/calls.py). Afterwards the rows are looked at.
The seed repeats the faults and their moments, not the scheduling.
"""

import argparse
import contextlib
import json
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from outages import checks, faults
from outages.calls import Calls
from support.link import Link
from support.nodes import Nodes
from support.server import binary
from support.signed import Caller
from support.waiting import wait_for

# What a node does, by the half of the campaign.
ALIKE = {"one": "all", "two": "all", "three": "all"}
APART = {"api": "api", "worker": "worker", "gateway-1": "gateway", "gateway-2": "gateway"}
# A node is given up after the lease, and after a write that stood still held the others up.
GIVEN_UP_WITHIN = 10


class Campaign:
    """Nodes with their roles on one database, and their trouble."""

    def __init__(self, folder, seed, roles=ALIKE, devices=300, per_minute=300, lease=5, say=print):
        self.rng, self.seed, self.say = random.Random(seed), seed, say
        self.devices, self.per_minute, self.lease = devices, per_minute, lease
        self.folder, self.ends = pathlib.Path(folder), contextlib.ExitStack()
        self.crashes, self.faults, self.wrong, self.rounds = [], [], [], []
        self.audit_lost = None
        self.cluster = Nodes(self.folder, quota_scale=1, node_lease_seconds=lease, node_cut_off_seconds=15)
        self.ends.callback(self.cluster.end)
        self.postgres = self.cluster.postgres
        self.to_database, self.to_devices, self.nodes = {}, {}, []
        socket = f"{self.postgres.folder}/.s.PGSQL.5432"
        for number, (name, role) in enumerate(roles.items()):
            host = f"127.0.0.{11 + number}"
            link = self._link(socket, host)
            url = f"postgres://updraft@{link.address}/updraft?sslmode=disable"
            node = self.cluster.start(name, host=host, role=role, database_url=url)
            node.name, node.role = name, role
            self.to_database[node] = link
            self.nodes.append(node)
            if node.mqtt is not None:
                self.to_devices[node] = self._link(node.mqtt, host)
        self.key = self.cluster.root_key()
        callable_ = [node for node in self.nodes if node.role in ("all", "api")]
        caller = Caller(callable_[0], key=self.key)
        product = caller.ok("CreateProduct", {"ProductName": "called", "NodeType": "0"})["Data"]["ProductKey"]
        self.calls = Calls(callable_, self.key, product)
        self.ends.callback(self.calls.stop)

    def _link(self, target, host):
        link = Link(target, host)
        self.ends.callback(link.close)
        return link

    # For faults

    def pause(self, least, most):
        """Lets time pass."""
        time.sleep(self.rng.uniform(least, max(least, most)))

    def kill(self, node):
        node.kill()

    def number_of(self, node):
        """The number that a living node has in the database."""
        ((number,),) = self.postgres.query(f"SELECT MAX(id) FROM serving_node WHERE name = '{node.name}'")
        return int(number)

    def wait_given_up(self, node, number):
        """A node is away from now on: the others give it up, and its devices are offline there."""
        began = time.monotonic()
        there = f"SELECT 1 FROM serving_node WHERE id = {number}"
        online = f"SELECT id FROM device WHERE status = 1 AND session >> 40 = {number} LIMIT 1"
        within = self.lease + GIVEN_UP_WITHIN
        # Somebody must be left who may say so.
        wait_for(lambda: not self.postgres.query(there) and not self.postgres.query(online), timeout=within + 30)
        took = time.monotonic() - began
        self._check(took <= within, f"{node.name} was given up after {took:.1f} s")

    def _check(self, holds, what):
        if not holds:
            self.wrong.append(what)
            self.say(f"WRONG: {what}", flush=True)

    # A round

    def round(self, plan=None, until=None):
        """One rollout. The faults are those of `plan`, pairs of a fault and a node's place, or drawn until the rollout
        has ended."""
        number = len(self.rounds) + 1
        before = self._newest_job()
        result, log = self.folder / f"simulate-{number}.json", self.folder / f"simulate-{number}.log"
        fleet = self._simulate(result, log)
        try:
            wait_for(lambda: self._newest_job() != before or fleet.poll() is not None, timeout=180, every=0.5)
            draws = self._drawn(until) if plan is None else ((fault, self.nodes[place]) for fault, place in plan)
            made = []
            for fault, node in draws:
                if fleet.poll() is not None:
                    break
                made.append(self._fault(fault, node))
                self._wait_ready()
                self.pause(3, 8) if plan is None else self.pause(1, 1)
            fleet.wait(timeout=600)
        finally:
            fleet.kill()
            fleet.wait()
        self._judge(number, result, log, made)

    def _drawn(self, until):
        while until is None or time.monotonic() < until:
            fault, node = self.rng.choice(faults.ALL), self.rng.choice(self.nodes)
            if fault.__name__.startswith("devices") and node not in self.to_devices:
                continue
            yield fault, node

    def _newest_job(self):
        ((newest,),) = self.postgres.query("SELECT COALESCE(MAX(id), 0) FROM job")
        return int(newest)

    def _simulate(self, result, log):
        key = self.folder / "key.json"
        key.write_text(json.dumps(dict(zip(("AccessKeyId", "AccessKeySecret"), self.key))))
        command = [
            binary(), "simulate", "--devices", str(self.devices), "--key-file", str(key), "--rollout",
            "--per-minute", str(self.per_minute), "--package-bytes", "20000", "--json", str(result),
            "--keep-alive", "30", "--backoff-first-ms", "500", "--backoff-max-ms", "4000", "--io-timeout-seconds", "10",
            "--install-ms", "500", "--reboot-ms", "1500", "--connect-per-second", "400", "--source", "127.0.0.101",
            "--mqtt5-share", "30", "--seed", str(self.rng.randrange(1 << 30)),
        ]
        for node in self.calls.nodes:
            command += ["--api", f"http://{node.api}"]
        for node, link in self.to_devices.items():
            command += ["--mqtt", link.address, "--mqtt", node.mqtt]
        fleet = subprocess.Popen(command, stdout=log.open("wb"), stderr=subprocess.PIPE, text=True)
        self.seconds_line = None
        threading.Thread(target=self._follow, args=(fleet, log), daemon=True).start()
        return fleet

    def _follow(self, fleet, log):
        """Keeps what the simulation says, and when its time began."""
        with log.with_suffix(".err").open("w") as kept:
            for line in fleet.stderr:
                kept.write(line)
                kept.flush()
                if (at := re.match(r"\s*(\d+) s  ", line)) and self.seconds_line is None:
                    self.seconds_line = time.time() - int(at.group(1))

    def _fault(self, fault, node):
        of = "" if fault in faults.OF_ALL else f" ({node.name})"
        began = time.time()
        fault(self, node)
        ended = time.time()
        self.faults.append((fault, None if fault in faults.OF_ALL else node, began, ended))
        self.say(f"  {fault.__doc__}{of}: {ended - began:.1f} s", flush=True)
        return self.faults[-1]

    def _wait_ready(self):
        for node in self.nodes:
            wait_for(node._is_ready, timeout=60)

    # What came of it

    def _judge(self, number, result, log, made):
        self._check(result.exists(), f"the simulation left no result: {log.with_suffix('.err').read_text()[-500:]}")
        if not result.exists():
            self.rounds.append({})
            return
        told = json.loads(result.read_text())
        job = self._newest_job()
        query = self.postgres.query
        notified = checks.notified_in_a_minute(query, job)
        self._check(notified <= self.per_minute, f"{notified} tasks became NOTIFIED within a minute")
        rate, stood = (told["rollout"] or {}).get("rate") or {}, max((e - b for _, _, b, e in made), default=0) + 10
        held = any(fault in faults.HOLDS_PUSHES for fault, *_ in made)
        bound = self.per_minute * (1 + (stood if held else 1) / 60)
        self._check(rate.get("most_in_a_minute", 0) <= bound, f"pushes in a minute: {rate}, at most {bound:.0f}")
        for reason in told["unreached"]:
            if not reason.startswith("more pushes arrived") or not held:
                self._check(False, f"round {number}: {reason}: {(told['rollout'] or {}).get('compared')}")
        states = dict(query(f"SELECT status, COUNT(*) FROM task WHERE job = {job} GROUP BY status"))
        # A device gives up an update of which no download attempt came through, and says so; the simulation has compared
        # what each device lived through with its task.
        failed = int(states.pop(str(checks.FAILED), 0))
        expected = min(told["totals"]["updates_failed"], self.devices // 100)
        self._check(failed <= expected, f"round {number}: {failed} tasks failed, and {expected} at most should")
        ended = {str(checks.SUCCEEDED): str(self.devices - failed)}
        self._check(states == ended, f"round {number}: tasks by state: {states}, and {failed} failed")
        # Everybody has gone.
        online = "SELECT COUNT(*) FROM device WHERE status = 1"
        with contextlib.suppress(AssertionError):
            wait_for(lambda: query(online) == [("0",)], timeout=self.lease + 45, every=0.5)
        self._check(query(online) == [("0",)], f"round {number}: {query(online)} devices are online, and none is there")
        known = sorted(node.name for node in self.nodes)
        self._check(self.cluster.known() == known, f"nodes that serve: {self.cluster.known()}")
        for wrong in checks.rows(query):
            self._check(False, f"round {number}: {wrong}")
        figures = {
            "devices": told["devices"]["all"], "seconds": round(told["seconds"], 1),
            "connections": told["totals"]["connections"], "pushes": told["totals"]["pushes"],
            "failed as their devices said": failed,
            "notified in a minute": notified, "pushes in a minute": rate.get("most_in_a_minute"),
            "asked per minute": self.per_minute, "errors of devices": told["errors"],
            "contradictions": told["rollout"]["compared"] and told["rollout"]["compared"]["contradictions"],
            "told again": told["rollout"]["compared"] and told["rollout"]["compared"]["pushed_after_return"],
            "faults": [self._recovery(told, *fault) for fault in made],
        }
        self.rounds.append(figures)
        self.say(f"round {number}: {json.dumps({k: v for k, v in figures.items() if k != 'faults'})}", flush=True)

    def _recovery(self, told, fault, node, began, ended):
        """How long a fault was felt: by calls, and by the devices that lost their connections to it."""
        found = {"fault": fault.__doc__, "node": node and node.name, "seconds": round(ended - began, 1)}
        found["first good call, from its beginning"] = self.calls.first_good(began)
        if node is None or node in self.calls.nodes:
            found["first good call there, from its end"] = self.calls.first_good(ended, node)
        if self.seconds_line is None:
            return found
        start = began - self.seconds_line
        series = [row for row in told["series"] if start - 3 <= row["at"] <= ended - self.seconds_line + 60]
        after = [row for row in series if row["at"] >= start]
        lost = max((row["missing"] for row in after if row["at"] <= ended - self.seconds_line + 5), default=0)
        if lost * 100 < self.devices:
            return found
        worst = next(row["at"] for row in after if row["missing"] == lost)
        until = [(row["missing"], round(row["at"] - start, 1)) for row in after if row["at"] >= worst]

        def back(share):
            return next((at for missing, at in until if missing <= lost * share), None)

        return found | {"devices lost": lost, "half back": back(0.5), "99 % back": back(0.01)}

    def finish(self):
        """No more calls; the last looks."""
        self.calls.stop()
        registered = {name for (name,) in self.postgres.query("SELECT name FROM device WHERE name LIKE 'called-%'")}
        gone = self.calls.acknowledged - registered
        self._check(not gone, f"{len(gone)} devices were registered and are not there: {sorted(gone)[:3]}")
        audited = "\n".join(row[0] for row in self.postgres.query("SELECT subject FROM audit WHERE outcome = 'ok'"))
        untold = [name for name in self.calls.acknowledged if name not in audited]
        # A database that is away for longer than a node waits for it loses such lines, and the log says of each.
        lost = sum(checks.lost_audit_lines(node.log, "RegisterDevice") for node in self.nodes)
        self._check(
            len(untold) <= lost,
            f"{len(untold)} devices were registered without a line in the audit log, and {lost} lines lost: {untold[:3]}",
        )
        self.audit_lost = lost

        def excused(at):
            # A database that crashes may forget the last half second of what was counted.
            return any(abs(at - crash) <= 2 for crash in self.crashes)

        over = self.calls.over_quota(excused)
        self._check(not over, f"more calls than the quota within a second, {len(over)} times, at {over[:3]}")
        for node in self.nodes:
            bad = checks.bad_lines(node.log)
            self._check(not bad, f"{len(bad)} lines in the log of {node.name} that no fault explains: {bad[:5]}")

    def summary(self, seconds):
        def where(began, ended, node):
            felt = [at for _, at, first, last in self.faults if ended >= first and began <= last + self.lease]
            if not felt:
                return "outside"
            # A write of a node that stands still holds up those at others.
            return "inside" if any(at in (None, node) for at in felt) else "elsewhere"

        return {
            "seed": self.seed, "roles": {node.name: node.role for node in self.nodes},
            "minutes": round(seconds / 60, 1), "faults": len(self.faults), "calls": self.calls.rates(where),
            "devices registered by calls": len(self.calls.acknowledged),
            "audit lines of them lost to the database's absence": self.audit_lost, "wrong": self.wrong, "rounds": self.rounds,
        }

    def close(self):
        """Ends whatever still runs."""
        self.ends.close()


def main():
    parser = argparse.ArgumentParser(description="Makes trouble for several nodes under load and checks.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--devices", type=int, default=1_000)
    parser.add_argument("--per-minute", type=int, default=1_000, help="MaximumPerMinute of the batches")
    parser.add_argument("--roles", choices=["alike", "apart", "both"], default="both")
    parser.add_argument("--json", type=pathlib.Path, help="writes the figures to this file")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended early"))
    halves = {"alike": [ALIKE], "apart": [APART], "both": [ALIKE, APART]}[arguments.roles]
    summaries, kept = [], []
    for roles in halves:
        # PostgreSQL does not run as root, and must reach its folder.
        folder = pathlib.Path(tempfile.mkdtemp(prefix="updraft-nodes-"))
        began = time.monotonic()
        until = began + arguments.minutes * 60 / len(halves)
        campaign = Campaign(
            folder / "world", arguments.seed, roles, devices=arguments.devices, per_minute=arguments.per_minute
        )
        try:
            while time.monotonic() < until and len(campaign.wrong) < 20:
                campaign.round(until=until)
            campaign.finish()
        except BaseException:
            print(f"seed {arguments.seed} failed; logs and data are in {folder}", file=sys.stderr)
            raise
        finally:
            summaries.append(campaign.summary(time.monotonic() - began))
            text = json.dumps(summaries, indent=2)
            if arguments.json:
                arguments.json.write_text(text + "\n")
            if campaign.wrong:  # before the nodes' folders go
                shutil.copytree(folder / "world", folder / "kept", ignore=shutil.ignore_patterns("postgres", "blobs"))
                kept.append(folder / "kept")
            campaign.close()
        if not campaign.wrong:
            shutil.rmtree(folder)
    print(text)
    if kept:
        sys.exit(f"seed {arguments.seed}: something is wrong; logs are in {', '.join(map(str, kept))}")


if __name__ == "__main__":
    main()
