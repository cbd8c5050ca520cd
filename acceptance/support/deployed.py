"""The load balancers of deploy/, with their files as they are but for addresses."""

import os
import pathlib
import re
import shutil
import socket
import subprocess

from .waiting import wait_for

DEPLOY = pathlib.Path(__file__).resolve().parents[2] / "deploy"

# Where balancers connect from, so that nodes tell them from the tests, which come without a header.
BALANCER = "127.0.0.9"


def free_ports():
    """A port for each that the files name."""
    listeners = {name: socket.create_server(("127.0.0.1", 0)) for name in ("8080", "1883", "8883")}
    ports = {name: listener.getsockname()[1] for name, listener in listeners.items()}
    for listener in listeners.values():
        listener.close()
    return ports


class Front:
    """A balancer before nodes; what back ends and devices see of them."""

    def __init__(self, kind, servers, folder, ports):
        """`kind` is haproxy or nginx; the servers take the places of node1, node2 and so on, `ports` those of the file."""
        self.kind, self.servers = kind, servers
        self.ca_file = servers[0].ca_file
        self.api, self.mqtt = (f"127.0.0.1:{ports[name]}" for name in ("8080", "1883"))
        self.mqtt_host, self.mqtt_port = "127.0.0.1", ports["1883"]
        self.file = folder / f"{kind}.conf"
        self.log = folder / f"{kind}.log"
        self.file.write_text(getattr(self, f"_{kind}")(ports))
        command = {
            "haproxy": [installed(kind), "-db", "-f", str(self.file)],
            "nginx": [installed(kind), "-c", str(self.file), "-g", f"daemon off; pid {folder / 'nginx.pid'};"],
        }[kind]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_for(self._listens)

    def _target(self, node, port):
        server = self.servers[int(node) - 1]
        return {"8080": server.api, "1883": server.mqtt, "8883": server.mqtt_tls}[port]

    def _haproxy(self, ports):
        text = (DEPLOY / "haproxy" / "haproxy.cfg").read_text()
        text = re.sub(r"bind :(\d+)", lambda found: f"bind 127.0.0.1:{ports[found[1]]}", text)

        def server(found):
            asked = self.servers[int(found[1]) - 1].api.rsplit(":", 1)[1]
            return f"server node{found[1]} {self._target(found[1], found[2])} port {asked} source {BALANCER}"

        return re.sub(r"server node(\d) node\d:(\d+)", server, text).replace("maxconn 100000", "maxconn 1000")

    def _nginx(self, ports):
        text = (DEPLOY / "nginx" / "nginx.conf").read_text()
        text = re.sub(r"listen (\d+)", lambda found: f"listen 127.0.0.1:{ports[found[1]]}", text)
        text = re.sub(r"server node(\d):(\d+)", lambda found: f"server {self._target(found[1], found[2])}", text)
        text = text.replace("proxy_protocol on;", f"proxy_protocol on; proxy_bind {BALANCER};")
        return text.replace("400000", "2000").replace("worker_connections 100000", "worker_connections 1000")

    def _listens(self):
        assert self.process.poll() is None, self.log.read_text()
        try:
            socket.create_connection(("127.0.0.1", self.mqtt_port), timeout=2).close()
        except OSError:
            return False
        return True

    def has_said(self, words):
        return words in self.log.read_text()

    def close(self):
        self.process.terminate()
        self.process.wait(timeout=10)


def installed(program):
    """Where a program is, if it is there and can do what is asked of it. Debian has some where only root looks."""
    if program == "nginx" and not has_streams():
        return None
    return _path(program)


def has_streams():
    """Whether nginx has the module for TCP, built in or beside it."""
    if not _path("nginx"):
        return False
    built_in = "--with-stream " in subprocess.run([_path("nginx"), "-V"], capture_output=True, text=True).stderr
    return built_in or any(pathlib.Path("/etc/nginx/modules-enabled").glob("*stream*"))


def _path(program):
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/local/sbin:/usr/sbin:/sbin")
