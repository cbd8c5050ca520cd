"""Several nodes of Updraft on one PostgreSQL database, with their files in one folder."""

import contextlib
import shutil
import socket
import threading
import time

import requests

from .postgres import Postgres
from .server import Server
from .waiting import wait_for


class Nodes:
    """A database and the nodes that serve it, by name."""

    def __init__(self, folder, **settings):
        self.folder = folder
        self.postgres = Postgres(folder / "postgres")
        self.settings = {
            "quota_scale": 0,
            "database_url": self.postgres.url,
            "blobs_url": f"file:{folder / 'blobs'}",
            "master_key_file": str(folder / "master.key"),
            "node_lease_seconds": 3,
            "drain_seconds": 3,
        } | settings
        self.nodes = {}

    def start(self, name, host=None, program=None, **settings):
        """Starts a node, the first of all with a new master key, on this address of the machine."""
        key = self.folder / "master.key"
        if not key.exists():
            key.write_text("07" * 32)
            key.chmod(0o600)
        node = Server(self.folder / name, **(self.settings | {"node_name": name} | settings))
        self.nodes[name] = node
        node.program = program or node.program
        if host is not None:
            node.api = node.mqtt = f"{host}:0"
        return node.start()

    def root_key(self):
        """The root account's key, which the first node made."""
        for node in self.nodes.values():
            with contextlib.suppress(FileNotFoundError):
                return node.root_key()
        raise AssertionError("no node has made the root key")

    def known(self):
        """The names of the nodes that are in the database."""
        return sorted(name for (name,) in self.postgres.query("SELECT name FROM serving_node"))

    def leader(self):
        """The node that carries batches out."""
        rows = self.postgres.query("SELECT name FROM serving_node WHERE roles >= 4 ORDER BY id LIMIT 1")
        return self.nodes[rows[0][0]]

    def end(self):
        for node in self.nodes.values():
            node.kill()
        with contextlib.suppress(AssertionError):
            self.postgres.crash()
        shutil.rmtree(self.folder, ignore_errors=True)


class Balancer:
    """A load balancer for TCP: sends connections in turn to those servers that say that they are ready."""

    def __init__(self, targets, ready):
        """`targets` are addresses to connect to, `ready` those to ask at `/readyz`, in the same order."""
        self.targets, self.ready = targets, ready
        self._up = []
        self._next = 0
        self._closed = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.address = "127.0.0.1:%d" % self._listener.getsockname()[1]
        for work in (self._look, self._accept):
            threading.Thread(target=work, daemon=True).start()
        wait_for(lambda: len(self._up) == len(targets), timeout=30)

    def _look(self):
        while not self._closed.is_set():
            self._up = [target for target, ready in zip(self.targets, self.ready) if self._is_up(ready)]
            time.sleep(0.1)

    @staticmethod
    def _is_up(address):
        try:
            return requests.get(f"http://{address}/readyz", timeout=2).status_code == 200
        except requests.RequestException:
            return False

    def _accept(self):
        while not self._closed.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        up = list(self._up)
        for _ in range(len(up)):
            self._next += 1
            host, port = up[self._next % len(up)].rsplit(":", 1)
            try:
                server = socket.create_connection((host, int(port)), timeout=2)
            except OSError:
                continue
            server.settimeout(None)
            threading.Thread(target=self._copy, args=(client, server), daemon=True).start()
            self._copy(server, client)
            return
        client.close()

    @staticmethod
    def _copy(source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self):
        self._closed.set()
        self._listener.close()


class Front:
    """What back ends and devices see of several nodes."""

    def __init__(self, servers):
        ready = [server.api for server in servers]
        self._calls, self._devices = Balancer(ready, ready), Balancer([server.mqtt for server in servers], ready)
        self.api, self.mqtt, self.ca_file = self._calls.address, self._devices.address, servers[0].ca_file
        self.mqtt_host, self.mqtt_port = self.mqtt.rsplit(":", 1)

    def close(self):
        self._calls.close()
        self._devices.close()
