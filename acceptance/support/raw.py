"""HTTP by hand on a socket: requests cut short, header names as they are sent, bytes that are no HTTP."""

import contextlib
import dataclasses
import socket
from urllib.parse import urlsplit


@dataclasses.dataclass(frozen=True)
class RawAnswer:
    """An HTTP answer as it came: header lines in their spelling, and the body."""

    status: int
    headers: list
    body: bytes

    def header(self, name):
        """The value of a header spelt exactly like this, or None."""
        return next((value for key, value in self.headers if key == name), None)


def connect(address):
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=20)


def read_answer(stream, head_only=False):
    """One answer from a socket's file; None if the server closed without one."""
    try:
        status_line = stream.readline()
    except ConnectionError:
        return None
    if not status_line:
        return None
    assert status_line.startswith(b"HTTP/1.1 "), status_line
    headers = []
    while (line := stream.readline().rstrip(b"\r\n")) != b"":
        key, _, value = line.decode().partition(": ")
        headers.append((key, value))
    answer = RawAnswer(int(status_line.split()[1]), headers, b"")
    length = next((value for key, value in headers if key.lower() == "content-length"), "0")
    body = b"" if head_only else stream.read(int(length))
    return dataclasses.replace(answer, body=body)


def exchange(address, request):
    """Sends bytes and reads the answer, also if the server stops reading before the end."""
    with connect(address) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(request)
        with connection.makefile("rb") as stream:
            return read_answer(stream, head_only=request.startswith(b"HEAD "))


def get(url, method="GET", **headers):
    """Fetches a URL with exactly these headers (underscores stand for hyphens)."""
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    lines = [f"{method} {target} HTTP/1.1", f"Host: {parts.netloc}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return exchange(parts.netloc, ("\r\n".join(lines) + "\r\n\r\n").encode())
