"""Requests signed by hand (signature v1.0, HMAC-SHA1), for everything that no SDK would send.

Written from the published algorithm and not from the server, so that the two check each other.
"""

import base64
import datetime
import hashlib
import hmac
import json
import uuid
import xml.etree.ElementTree
from urllib.parse import quote

import requests


def percent(value):
    """The signature's percent-encoding of a text or of raw bytes."""
    return quote(value, safe="-_.~")


def signature(method, pairs, secret):
    """The signature over (name, value) pairs."""
    canonical = "&".join(f"{percent(name)}={percent(value)}" for name, value in sorted(pairs, key=_bytewise))
    text = f"{method}&%2F&{percent(canonical)}"
    digest = hmac.new(f"{secret}&".encode(), text.encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()


def _bytewise(pair):
    name, value = pair
    return name.encode(), value if isinstance(value, bytes) else value.encode()


class Answer:
    """An HTTP answer, read as what its Content-Type says it is."""

    def __init__(self, response):
        self.response = response
        self.status = response.status_code
        self.headers = response.headers
        self.text = response.content.decode()

    @property
    def json(self):
        assert self.headers["Content-Type"] == "application/json;charset=utf-8", self.text
        return json.loads(self.text)

    @property
    def xml(self):
        assert self.headers["Content-Type"] == "text/xml;charset=utf-8", self.text
        return xml.etree.ElementTree.fromstring(self.text)


class Caller:
    """Signs and sends."""

    def __init__(self, server, key=None):
        self.server = server
        self.key_id, self.secret = key or server.root_key()

    def query(self, action, parameters=(), method="GET", **common):
        """The signed, encoded parameters of a call.

        `parameters` is a dict or a list of pairs (names may repeat, values may be raw bytes); `common`
        replaces common parameters, None leaves one out.
        """
        now = datetime.datetime.now(datetime.timezone.utc)
        fixed = {
            "Action": action,
            "Version": "2018-01-20",
            "Format": "JSON",
            "AccessKeyId": self.key_id,
            "SignatureMethod": "HMAC-SHA1",
            "SignatureVersion": "1.0",
            "SignatureNonce": uuid.uuid4().hex,
            "Timestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        given = common.pop("Signature", None)
        fixed |= common
        pairs = list(parameters.items()) if isinstance(parameters, dict) else list(parameters)
        pairs += [(name, value) for name, value in fixed.items() if value is not None]
        pairs = [(n, v if isinstance(v, (str, bytes)) else str(v)) for n, v in pairs]
        pairs.append(("Signature", given or signature(method, pairs, self.secret)))
        return "&".join(f"{percent(name)}={percent(value)}" for name, value in pairs)

    def call(self, action, parameters=(), method="GET", body=False, path="/", **common):
        """Calls an operation with its parameters in the query, or in a form body."""
        text = self.query(action, parameters, "POST" if body else method, **common)
        if body:
            return self.send("POST", path, data=text, headers={"Content-Type": "application/x-www-form-urlencoded"})
        return self.send(method, f"{path}?{text}")

    def send(self, method, target, **rest):
        """Sends a request as it stands."""
        return Answer(requests.request(method, f"http://{self.server.api}{target}", timeout=20, **rest))

    def ok(self, action, parameters=(), **rest):
        """Calls an operation that must succeed; its JSON."""
        answer = self.call(action, parameters, **rest)
        assert answer.status == 200, answer.text
        assert answer.json["Success"] is True, answer.text
        return answer.json


def is_refusal(answer):
    """Whether an answer is a proper refusal: a gateway error or a business error, in the contract's form."""
    if answer.status == 200:
        body = answer.json
        return body["Success"] is False and body["Code"].lower().startswith("iot.") and "ErrorMessage" in body
    if not 400 <= answer.status < 500:
        return False
    body = answer.json
    return {"RequestId", "HostId", "Code", "Message"} <= body.keys()


def code(answer):
    """The error code of a refusal."""
    assert is_refusal(answer), f"{answer.status}: {answer.text[:500]}"
    return answer.json["Code"]
