"""Devices on the official SDKs, each in its own process.

Events (JSON lines on stdout): `registered` (Python, with the option register: code, 0 if it succeeded, and what it got), `connected`, `connack` (code; of a refused login), `disconnected`,
`version` (reported), `push` (kind push or pull, version, size, url, sign_method, sign, …),
`downloaded` (ok, size, md5; name of a file among several; JavaScript), `progress` (step), `holding` (with the option hold), `nothing` (a pull
without an update; JavaScript), `acknowledged` (step, of the command stream; JavaScript).

Commands: `go` (ends holding), `pull` (Python: of a module that is named), `progress N`, `report VERSION`, `stream` (JavaScript).
"""

import json
import os
import pathlib
import subprocess
import sys
import threading
import time

FOLDER = pathlib.Path(__file__).resolve().parents[1]


class Device:
    """A running device program: its events so far, and waiting for more."""

    def __init__(self, command, log, environment=None):
        self.log = log
        self.events = []
        self._arrived = threading.Condition()
        self._ended = False
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("ab"),
            text=True,
            cwd=FOLDER,
            env=os.environ | (environment or {}),
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            with self._arrived:
                try:
                    self.events.append(json.loads(line))
                except ValueError:
                    self.events.append({"event": "noise", "line": line})  # the SDKs print at times
                self._arrived.notify_all()
        with self._arrived:
            self._ended = True
            self._arrived.notify_all()

    def all(self, event, **fields):
        """The events of a kind so far, with these fields."""
        with self._arrived:
            return [
                e
                for e in self.events
                if e["event"] == event and all(e.get(name) == value for name, value in fields.items())
            ]

    def wait(self, event, timeout=30, count=1, **fields):
        """Waits for the `count`th event of a kind with these fields; that event."""
        deadline = time.monotonic() + timeout
        while True:
            with self._arrived:
                seen = [
                    e
                    for e in self.events
                    if e["event"] == event and all(e.get(name) == value for name, value in fields.items())
                ]
                if len(seen) >= count:
                    return seen[count - 1]
                left = deadline - time.monotonic()
                if left <= 0 or self._ended:
                    what = "ended" if self._ended else f"took {timeout} s"
                    raise AssertionError(f"the device {what} without {event} {fields}; it said {self.events}")
                self._arrived.wait(left)

    def send(self, command):
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()

    def log_tail(self, size=3_000):
        return self.log.read_bytes()[-size:].decode(errors="replace")

    def stop(self):
        """Unplugs the device: its connection closes without a DISCONNECT."""
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()


class Fleet:
    """Starts devices for one test and stops them at its end."""

    def __init__(self, folder):
        self.folder = folder
        self.started = []

    def _start(self, command, identity, server, options, environment=None):
        arguments = {
            "host": server.mqtt_host,
            "port": server.mqtt_port,
            "product_key": identity.product_key,
            "device_name": identity.name,
            "device_secret": identity.secret,
        } | options
        for name, value in arguments.items():
            flag = f"--{name.replace('_', '-')}"
            if value is True:
                command = [*command, flag]
            elif value is not False:
                command = [*command, f"{flag}={value}"]
        log = self.folder / f"device-{len(self.started)}.log"
        device = Device(command, log, environment)
        self.started.append(device)
        return device

    def python(self, identity, server, **options):
        """A device on `aliyun-iot-linkkit`; options are those of linkkit_device.py."""
        return self._start([sys.executable, "devices/linkkit_device.py"], identity, server, options)

    def javascript(self, identity, server, **options):
        """A device on `alibabacloud-iot-device-sdk`; options are those of js_device.js."""
        # The SDK has no option for a CA of one's own; Node has.
        trust = {"NODE_EXTRA_CA_CERTS": str(server.ca_file)}
        return self._start(["node", "devices/js_device.js"], identity, server, options, trust)

    def gateway(self, kind, identity, server, **options):
        """A gateway on `python` or a named SDK for JavaScript; options and events are those of linkkit_gateway.py."""
        if kind == "python":
            return self._start([sys.executable, "devices/linkkit_gateway.py"], identity, server, options)
        return self._start(["node", "devices/js_gateway.js"], identity, server, options | {"sdk": kind})

    def plain(self, client, identity, server, **options):
        """A device on a client for MQTT 5 alone, `paho` or `mqttjs`; options and events are those of paho_device.py."""
        if client == "mqttjs":
            return self._start(["node", "devices/mqtt5_device.js"], identity, server, options)
        # The SDK for Python needs an older paho; `./test` puts this one beside it.
        beside = {"PYTHONPATH": str(pathlib.Path(sys.prefix) / "paho2")}
        return self._start([sys.executable, "devices/paho_device.py"], identity, server, options, beside)

    def http(self, identity, server, legacy=False):
        """A device on Python's standard library that speaks by HTTP only."""
        command = [sys.executable, "devices/http_device.py", f"--server={server.api}"]
        command += [f"--product-key={identity.product_key}", f"--device-name={identity.name}"]
        command += [f"--device-secret={identity.secret}"] + ["--legacy"] * legacy
        device = Device(command, self.folder / f"device-{len(self.started)}.log")
        self.started.append(device)
        return device

    def stop(self):
        for device in self.started:
            device.stop()
