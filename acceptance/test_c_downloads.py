"""Downloads as Link SDKs for C make them: their requests byte for byte, and readers that demand what they demand.

The requests are captures of Link SDK for C 4.2.0, and what the source of 3.x (`iotx_http.c`) writes.
"""

import re
import socket
import threading
import time
from urllib.parse import urlsplit

import pytest

from support.backend import Backend
from support.raw import get
from support.waiting import wait_for

OLD = "1.0.0"
CONTENT = bytes(i * 11 % 253 for i in range(30_000))

REQUEST_4X = (
    "GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n"
    "Accept: text/html, application/xhtml+xml, application/xml;q=0.9, */*;q=0.8\r\n"
    "Range: {range}\r\nContent-Length: 0\r\n\r\n"
)
REQUEST_3X = (
    "GET {path} HTTP/1.1\r\nHost: {host}\r\nRange: {range}\r\nAccept-Encoding: gzip, deflate\r\n\r\n"
)


@pytest.fixture(scope="module")
def pushed_url(server, backend, tmp_path_factory):
    """An address that a device was pushed."""
    from support.devices import Fleet

    fleet = Fleet(tmp_path_factory.mktemp("device"))
    product_key = backend.product()
    identity = backend.device(product_key)
    device = fleet.python(identity, server, ignore=True)
    backend.wait_ready(OLD, identity)
    backend.batch(product_key, backend.package(product_key, content=CONTENT), identity)
    yield device.wait("push")["url"]
    fleet.stop()


def converse(url, request, asked):
    """Sends the bytes of a request; everything that comes back until the body is complete."""
    parts = urlsplit(url)
    path = url[len(f"{parts.scheme}://{parts.netloc}") :]
    text = request.format(path=path, host=parts.hostname, port=parts.port, range=asked)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        connection.sendall(text.encode("ascii"))
        answer = b""
        while b"\r\n\r\n" not in answer:
            piece = connection.recv(1_000)
            assert piece, answer
            answer += piece
        head, _, body = answer.partition(b"\r\n\r\n")
        length = content_length(head)
        while len(body) < length:
            piece = connection.recv(10_000)
            assert piece, "the body is shorter than it says"
            body += piece
    return head, body


def content_length(head):
    """Found by its spelling, as both generations do."""
    found = re.search(rb"Content-Length: (\d+)", head)
    assert found, head
    return int(found[1])


def check_4x(head):
    """What makes 4.2 give up: another status line, a long line, chunks, a redirect."""
    lines = head.split(b"\r\n")
    assert re.fullmatch(rb"HTTP/1\.1 (200|206) .*", lines[0]), lines[0]
    assert all(len(line) < 126 for line in lines), lines
    assert not re.search(rb"(?i)^(transfer-encoding|content-encoding|location):", head, re.M), head


@pytest.mark.parametrize(
    "asked, first, last",
    [("bytes=0-", 0, 29_999), ("bytes=12345-", 12_345, 29_999), ("bytes=5000-9999", 5_000, 9_999)],
)
@pytest.mark.parametrize("request_of", [REQUEST_4X, REQUEST_3X])
def test_an_sdk_for_c_gets_what_it_asks_for(pushed_url, request_of, asked, first, last):
    head, body = converse(pushed_url, request_of, asked)
    check_4x(head)
    assert body == CONTENT[first : last + 1]
    assert f"Content-Range: bytes {first}-{last}/30000".encode() in head


def test_an_address_is_one_that_small_devices_can_hold(pushed_url):
    assert len(pushed_url) < 128
    assert pushed_url.startswith("http://"), "SDKs check HTTPS against CAs of their own"
    host = urlsplit(pushed_url).netloc
    # 3.x takes what is behind the first colon for the port; 4.x ends the address at the first quote.
    assert pushed_url.count(":") == 1 + host.count(":") and '"' not in pushed_url


def test_a_pull_gives_a_fresh_address_and_an_old_one_ends(make_server, fleet):
    server = make_server(download_url_seconds=2)
    backend = Backend(server)
    product_key = backend.product()
    identity = backend.device(product_key)
    device = fleet.python(identity, server, ignore=True)
    backend.wait_ready(OLD, identity)
    backend.batch(product_key, backend.package(product_key, content=CONTENT), identity, need_push=False)
    device.send("pull")
    first = device.wait("push")["url"]
    assert get(first).body == CONTENT
    wait_for(lambda: get(first).status, lambda status: status == 403, timeout=10)
    device.send("pull")
    second = device.wait("push", count=2)["url"]
    assert second != first and get(second).body == CONTENT
    assert get(first).status == 403


def test_downloads_share_the_bandwidth_and_a_stalled_one_holds_nobody_up(make_server):
    content = bytes(1_000_000)
    server = make_server(download_bytes_per_second=2_000_000)
    backend = Backend(server)
    url = backend.firmware(backend.package(backend.product(), content=content)).firmware_url
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as stalled:
        stalled.sendall(f"GET {url[url.index('/ota/'):]} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        assert stalled.recv(10), "it begins, and takes no more"
        began = time.monotonic()
        took = {}

        def fetch(number):
            assert get(url).body == content
            took[number] = time.monotonic() - began

        clients = [threading.Thread(target=fetch, args=(number,)) for number in range(3)]
        for client in clients:
            client.start()
        for client in clients:
            client.join(20)
    # 3 MB and what the stalled one's buffers took, at 2 MB a second, the same for each.
    assert len(took) == 3 and all(1.2 < seconds < 6 for seconds in took.values()), took
    assert max(took.values()) - min(took.values()) < 0.7, took


def test_each_download_has_a_cap_of_its_own(make_server):
    server = make_server(download_device_bytes_per_second=500_000)
    backend = Backend(server)
    url = backend.firmware(backend.package(backend.product(), content=bytes(400_000))).firmware_url
    began = time.monotonic()
    assert len(get(url).body) == 400_000
    assert 0.5 < time.monotonic() - began < 3


def test_who_comes_when_too_many_download_is_told_when_to_come_back(make_server):
    server = make_server(download_connections_max=1)
    backend = Backend(server)
    url = backend.firmware(backend.package(backend.product(), content=bytes(50_000_000))).firmware_url
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as first:
        first.sendall(f"GET {url[url.index('/ota/'):]} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        assert first.recv(10)
        told = [get(url) for _ in range(5)]
        assert {answer.status for answer in told} == {503}
        waits = [int(answer.header("Retry-After")) for answer in told]
        assert all(5 <= wait <= 30 for wait in waits), waits
        assert len(set(waits)) > 1, "they do not come back all at once"
        assert get(url, "HEAD").status == 200
    wait_for(lambda: get(url, Range="bytes=0-9").status, lambda status: status == 206, timeout=10)
