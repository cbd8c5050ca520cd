"""Back ends that call all nodes all the time, and what became of each call."""

import collections
import itertools
import threading
import time
import uuid

import requests

from support.signed import Caller

# A call that takes longer is one that failed.
ANSWER_WITHIN = 5
# Calls of one operation that an account may make in a second.
QUOTA = 10


class Calls:
    """Calls that read and write, at each node in turn, and an account that always wants more than its quota."""

    def __init__(self, nodes, key, product):
        """`nodes` are those that answer calls."""
        self.nodes, self.key, self.product = nodes, key, product
        self.made, self.granted, self.acknowledged = [], [], set()
        self.lock, self.stopped = threading.Lock(), threading.Event()
        loops = [(self._work, index) for index in range(3)] + [(self._press, index) for index in range(3)]
        self.threads = [threading.Thread(target=work, args=(index,), daemon=True) for work, index in loops]
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join(30)

    def _work(self, first):
        for number in itertools.count(first):
            if self.stopped.wait(0.15):
                return
            node = self.nodes[number % len(self.nodes)]
            if number % 2:
                self._call(node, "QueryProduct", {"ProductKey": self.product})
                continue
            name = f"called-{uuid.uuid4().hex[:12]}"
            if self._call(node, "RegisterDevice", {"ProductKey": self.product, "DeviceName": name}) == "good":
                with self.lock:
                    self.acknowledged.add(name)

    def _press(self, index):
        fields = {"FirmwareId": "none", "PageSize": "10", "CurrentPage": "1"}
        while not self.stopped.wait(0.05):
            self._call(self.nodes[index % len(self.nodes)], "ListOTAJobByFirmware", fields, noted=False)

    def _call(self, node, action, fields, noted=True):
        began = time.time()
        try:
            text = Caller(node, key=self.key).query(action, fields)
            answer = requests.get(f"http://{node.api}/?{text}", timeout=ANSWER_WITHIN)
            outcome = self._outcome(answer)
        except requests.Timeout:
            outcome = "no answer"
        except requests.ConnectionError:
            outcome = "no connection"
        ended = time.time()
        with self.lock:
            if noted:
                self.made.append((began, ended, node, outcome))
            elif outcome not in ("throttled", "no answer", "no connection") and not outcome.startswith("5"):
                self.granted.append((began, ended))
        return outcome

    @staticmethod
    def _outcome(answer):
        try:
            body = answer.json()
        except ValueError:
            return f"{answer.status_code} without JSON"
        code = body.get("Code", "")
        if code.startswith("Throttling"):
            return "throttled"
        return "good" if body.get("Success") is True else f"{answer.status_code} {code}"

    # Afterwards

    def over_quota(self, excused):
        """Moments when the account was granted more than its quota within a second, but for those that `excused` names:
        a function of a moment."""
        granted, over = sorted(self.granted), []
        for first, (moment, _) in enumerate(granted):
            # Calls that waited were granted at some time until their end: only those that are within the second count.
            within = 0
            for began, ended in itertools.islice(granted, first, None):
                if began >= moment + 1:
                    break
                within += ended < moment + 1
            if within > QUOTA and not excused(moment):
                over.append(moment)
        return over

    def first_good(self, since, node=None):
        """Seconds from a moment to the first good answer to a call made after it, at one node or any."""
        good = (
            ended for began, ended, at, outcome in self.made
            if began >= since and outcome == "good" and node in (None, at)
        )
        first = min(good, default=None)
        return None if first is None else round(first - since, 2)

    def rates(self, where):
        """Calls by outcome: outside of faults, at the node of a fault (inside), or at another one meanwhile (elsewhere).
        `where` tells of a call (began, ended, node)."""
        counts = {"inside": collections.Counter(), "elsewhere": collections.Counter(), "outside": collections.Counter()}
        for began, ended, node, outcome in self.made:
            counts[where(began, ended, node)][outcome] += 1
        return {place: dict(sorted(count.items())) for place, count in counts.items()}
