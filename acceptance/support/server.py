"""A real `updraft serve` process on free ports, its keys, and its death."""

import json
import os
import pathlib
import signal
import subprocess

import requests

from .waiting import wait_for

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def binary():
    """The program under test: UPDRAFT_BIN, or what `cargo build` made."""
    target = os.environ.get("CARGO_TARGET_DIR", str(REPOSITORY / "target"))
    return os.environ.get("UPDRAFT_BIN", f"{target}/debug/updraft")


class Server:
    """One data folder and the process that serves it; the process may die and start again."""

    running = []  # every server with a process, so that a failing test can show their logs
    postgres = None  # where servers that say nothing else keep their databases; SQLite if nowhere

    def __init__(self, data_dir, **settings):
        """`settings` are configuration keys, given as UPDRAFT_… environment variables."""
        self.data_dir = pathlib.Path(data_dir)
        self.log = self.data_dir.parent / f"{self.data_dir.name}.log"
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("UPDRAFT_")}
        self.environment["UPDRAFT_MQTT_TLS_ADDR"] = "127.0.0.1:0"
        self.environment |= {f"UPDRAFT_{key.upper()}": str(value) for key, value in settings.items()}
        if Server.postgres and "UPDRAFT_DATABASE_URL" not in self.environment:
            self.environment["UPDRAFT_DATABASE_URL"] = Server.postgres.database()
        default = f"sqlite:{self.data_dir}/updraft.db"
        self.database_url = self.environment.get("UPDRAFT_DATABASE_URL", default)
        self.program = binary()
        self.process = None
        self.api = self.mqtt = "127.0.0.1:0"
        self.mqtt_tls = self.mqtt_ws = None
        self.ca_file = None

    def start(self):
        """Starts the process (on the same ports if it ran before) and waits until it serves."""
        command = [self.program, "serve", "--data-dir", str(self.data_dir)]
        command += ["--api-addr", self.api, "--mqtt-addr", self.mqtt or "127.0.0.1:0"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        Server.running.append(self)
        run = wait_for(self._run_file, timeout=30)
        self.api, self.mqtt, self.ca_file = run["api_addr"], run["mqtt_addr"], run["ca_file"]
        self.mqtt_tls, self.mqtt_ws = run["mqtt_tls_addr"], run["mqtt_ws_addr"]
        wait_for(self._is_ready, timeout=30)
        return self

    def _run_file(self):
        assert self.process.poll() is None, f"updraft serve ended:\n{self.log_tail()}"
        try:
            run = json.loads((self.data_dir / "run.json").read_text())
        except (FileNotFoundError, ValueError):
            return None
        # A killed process leaves its file behind.
        return run if run["pid"] == self.process.pid else None

    def _is_ready(self):
        try:
            return requests.get(f"http://{self.api}/readyz", timeout=5).status_code == 200
        except requests.ConnectionError:
            return False

    def kill(self):
        """SIGKILL: no goodbye, no flush."""
        self._end(signal.SIGKILL)

    def stop(self):
        """SIGTERM: an orderly end."""
        self._end(signal.SIGTERM)

    def _end(self, how):
        if self.process is None:
            return
        self.process.send_signal(how)
        try:
            self.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.process = None
            Server.running.remove(self)

    @property
    def mqtt_host(self):
        return self.mqtt.rsplit(":", 1)[0]

    @property
    def mqtt_port(self):
        return int(self.mqtt.rsplit(":", 1)[1])

    def root_key(self):
        """(AccessKeyId, AccessKeySecret) of the root account."""
        key = json.loads((self.data_dir / "root-access-key.json").read_text())
        return key["AccessKeyId"], key["AccessKeySecret"]

    def command(self, *arguments, **rest):
        """Runs a command beside the server, as it ends."""
        command = [self.program, *arguments, "--data-dir", str(self.data_dir)]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=30, **rest
        )

    def admin(self, *arguments, **rest):
        """Runs a command beside the server, which must succeed; what it prints."""
        done = self.command(*arguments, **rest)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refuses(self, *arguments, **rest):
        """Runs a command beside the server, which must fail; why."""
        done = self.command(*arguments, **rest)
        assert done.returncode == 1 and done.stderr.startswith("updraft: "), done
        return done.stderr

    def create_access_key(self, user):
        """A new key of a RAM user of the root account, made beside the running server."""
        key = json.loads(self.admin("ram", "create-access-key", "--user", user))
        return key["AccessKeyId"], key["AccessKeySecret"]

    def log_tail(self, size=6_000):
        try:
            return self.log.read_bytes()[-size:].decode(errors="replace")
        except FileNotFoundError:
            return "(no log)"
