"""Uploads and downloads as devices and back ends do them, header by header."""

import hashlib
import re
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import pytest
import requests
from alibabacloud_tea_openapi.exceptions import ClientException

from support.backend import Backend, unique, upload
from support.raw import get
from support.waiting import wait_for

CONTENT = bytes(i * 7 % 251 for i in range(10_000))


@pytest.fixture(scope="module")
def url(backend):
    """A signed address of CONTENT."""
    return backend.firmware(backend.package(backend.product(), content=CONTENT)).firmware_url


def test_the_whole_file_comes_with_the_headers_that_devices_look_for(url):
    answer = get(url)
    assert answer.status == 200 and answer.body == CONTENT
    # C SDKs search the text for these spellings.
    assert answer.header("Content-Length") == str(len(CONTENT))
    assert answer.header("Accept-Ranges") == "bytes"
    names = {name for name, _ in answer.headers}
    assert not {"transfer-encoding", "content-encoding", "location"} & {name.lower() for name in names}
    assert all(re.fullmatch(r"[A-Z][a-z0-9]*(-[A-Za-z0-9]+)*", name) for name in names), names
    assert all(len(f"{name}: {value}\r\n") < 126 for name, value in answer.headers)


def test_headers_are_in_title_case_for_the_api_too(caller):
    answer = get(f"http://{caller.server.api}/?{caller.query('QueryOTAJob', {'JobId': 'x'})}")
    assert answer.header("Content-Length") and answer.header("Content-Type") == "application/json;charset=utf-8"


@pytest.mark.parametrize(
    "asked, first, last",
    [
        ("bytes=0-", 0, 9_999),
        ("bytes=0-0", 0, 0),
        ("bytes=100-199", 100, 199),
        ("bytes=9000-", 9_000, 9_999),
        ("bytes=9990-20000", 9_990, 9_999),
        ("bytes=-500", 9_500, 9_999),
        ("bytes=-20000", 0, 9_999),
    ],
)
def test_a_range_is_served(url, asked, first, last):
    answer = get(url, Range=asked)
    assert answer.status == 206
    assert answer.header("Content-Range") == f"bytes {first}-{last}/10000"
    assert answer.header("Content-Length") == str(last - first + 1)
    assert answer.body == CONTENT[first : last + 1]


@pytest.mark.parametrize("asked", ["bytes=10000-", "bytes=20000-30000", "bytes=-0"])
def test_a_range_outside_the_file_is_416(url, asked):
    answer = get(url, Range=asked)
    assert answer.status == 416
    assert answer.header("Content-Range") == "bytes */10000"
    assert not answer.body


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "bytes=5-1", "bytes=a-b", "lines=1-2", "bytes", "bytes=-"])
def test_what_is_no_single_range_gets_the_whole_file(url, asked):
    answer = get(url, Range=asked)
    assert answer.status == 200 and answer.body == CONTENT


def test_head_tells_the_size_without_the_file(url):
    answer = get(url, "HEAD")
    assert (answer.status, answer.header("Content-Length")) == (200, "10000")


def test_unknown_methods_on_a_file_are_refused(url):
    for method in ("PUT", "DELETE", "POST"):
        assert 400 <= get(url, method).status < 500
    assert get(url).body == CONTENT


def altered(url, **changes):
    """The URL with query parameters replaced."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    assert changes.keys() <= query.keys(), query
    return urlunsplit(parts._replace(query=urlencode(query | changes)))


def test_a_url_without_its_signature_or_with_another_is_refused(url):
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    assert query, "the address is signed in its query"
    assert get(urlunsplit(parts._replace(query=""))).status == 403
    for name, value in query.items():
        changed = ("0" if value[0] != "0" else "1") + value[1:]
        assert get(altered(url, **{name: changed})).status == 403, name
        without = urlencode({n: v for n, v in query.items() if n != name})
        assert get(urlunsplit(parts._replace(query=without))).status == 403, name


def test_a_signature_is_good_for_one_file_only(backend, url):
    other = backend.firmware(backend.package(backend.product(), content=b"other")).firmware_url
    mixed = urlunsplit(urlsplit(url)._replace(path=urlsplit(other).path))
    assert get(mixed).status == 403


def test_an_expired_url_is_refused(make_server):
    server = make_server(download_url_seconds=1)
    backend = Backend(server)
    url = backend.firmware(backend.package(backend.product(), content=CONTENT)).firmware_url
    wait_for(lambda: get(url).status, lambda status: status == 403, timeout=10)


@pytest.mark.parametrize("suffix", ["bin", "dav", "apk", "tar", "gz", "tar.gz", "zip", "gzip"])
def test_a_ticket_keeps_the_files_suffix(backend, suffix):
    ticket = backend.ticket(file_suffix=suffix)
    assert re.fullmatch(rf"ota/[0-9a-f]{{32}}/[A-Za-z0-9]+\.{re.escape(suffix)}", ticket.key)
    assert ticket.firmware_url == f"{ticket.host}/{ticket.key}"
    assert ticket.object_storage == "OSS"


def test_the_default_suffix_is_bin_and_an_unknown_one_is_refused(backend):
    assert backend.ticket().key.endswith(".bin")
    with pytest.raises(ClientException) as refusal:
        backend.call("GenerateOTAUploadURL", file_suffix="exe")
    assert refusal.value.code == "InvalidFileSuffix"


@pytest.mark.parametrize("size", [1, 65_536, 3_000_001, 50_000_000])
def test_files_of_any_size_come_back_as_they_went(backend, size):
    content = bytes(size)
    info = backend.firmware(backend.package(backend.product(), content=content))
    assert (info.firmware_size, info.firmware_sign) == (size, hashlib.md5(content).hexdigest())
    assert requests.get(info.firmware_url, timeout=30).content == content


@pytest.mark.parametrize("name", ["key", "policy", "OSSAccessKeyId", "signature"])
@pytest.mark.parametrize("change", ["changed", "absent"])
def test_an_upload_with_another_ticket_is_refused(backend, name, change):
    ticket = backend.ticket()
    value = "ota/00000000000000000000000000000000/x.bin" if name == "key" else "b3RoZXI="
    answer = upload(ticket, b"x", **{name: value if change == "changed" else None})
    assert 400 <= answer.status_code < 500
    assert not unusable(backend, ticket).startswith("iot.system.")


def unusable(backend, ticket):
    """The error code with which CreateOTAFirmware refuses a file that never arrived."""
    return backend.refused(
        "CreateOTAFirmware",
        product_key=backend.product(),
        firmware_name=unique("fw"),
        dest_version="1",
        firmware_url=ticket.firmware_url,
    )


def test_an_expired_ticket_is_refused(make_server):
    server = make_server(upload_ticket_seconds=1)
    backend = Backend(server)
    ticket = backend.ticket()
    # Each try is a whole upload: those before the end of the ticket succeed.
    wait_for(lambda: upload(ticket, b"x").status_code, lambda status: 400 <= status < 500, timeout=10)


def test_a_wrong_digest_or_size_is_refused(backend):
    product_key = backend.product()
    for fields in ({"firmware_sign": "0" * 32}, {"firmware_size": 5}):
        assert backend.refused(
            "CreateOTAFirmware",
            product_key=product_key,
            firmware_name=unique("fw"),
            dest_version="1",
            firmware_url=backend.uploaded(b"four"),
            **fields,
        ).startswith("iot.")


def test_an_address_that_was_not_issued_makes_no_package(backend, server):
    for address in (f"http://{server.api}/ota/{'0' * 32}/none.bin", "http://example.com/x.bin", "x", "file:///etc/passwd"):
        assert backend.refused(
            "CreateOTAFirmware",
            product_key=backend.product(),
            firmware_name=unique("fw"),
            dest_version="1",
            firmware_url=address,
        ).startswith("iot.")


def test_an_uploaded_file_is_not_public(backend):
    address = backend.uploaded(b"secret firmware")
    assert get(address).status == 403
