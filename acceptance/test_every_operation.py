"""Every operation of the catalogue: a success, refusals and a denied user, by the official SDK and signed in XML."""

import copy
import json

import pytest
import requests
from alibabacloud_iot20180120 import models
from alibabacloud_iot20180120.client import Client
from alibabacloud_tea_openapi.exceptions import ClientException

from support.backend import Backend, unique
from support.cases import CASES, World
from support.operations import (
    CATALOGUE,
    SERVED,
    empty_lists,
    flat,
    from_xml,
    misfits,
    reads,
    without_empty_lists,
)
from support.signed import Caller

REQUIRED = [name for name in SERVED if any(parameter["required"] for parameter in CATALOGUE[name]["request"])]


OURS = {name for name, entry in CATALOGUE.items() if entry.get("ours")}


class Recorder(Client):
    """The SDK's client, which remembers the answer's JSON before the model reads it."""

    answered = None

    def call_api(self, params, request, runtime):
        answer = super().call_api(params, request, runtime)
        self.answered = copy.deepcopy(answer["body"])
        return answer


class Sdk(Backend):
    """Calls by wire names through the SDK's models."""

    def __init__(self, server, key=None):
        super().__init__(server, key)
        self.client.__class__ = Recorder
        self.caller = Caller(server, key)

    def exchange(self, action, parameters):
        """(the answer's JSON, the same after it went through the SDK's model, if it has one)."""
        if action in OURS:
            answer = self.caller.call(action, flat(parameters), method="POST").json
            return answer, answer
        request = getattr(models, f"{action}Request")().from_map(parameters)
        assert json.loads(json.dumps(_drop_empty(request.to_map()))) == _drop_empty(parameters), "the SDK has all of them"
        body = self.send(action, request)
        return self.client.answered, body.to_map()

    def refusal(self, action, parameters):
        """The code of a refusal, business or gateway."""
        try:
            answer, _ = self.exchange(action, parameters)
            if action in OURS and "Message" in answer:
                return answer["Code"]
        except ClientException as error:
            assert error.message and error.data["RequestId"], error
            return error.code
        assert answer["Success"] is False, answer
        assert answer["ErrorMessage"] and answer["RequestId"]
        assert not misfits(answer, CATALOGUE[action]["response"])
        return answer["Code"]


def _drop_empty(parameters):
    return {name: value for name, value in parameters.items() if value != []}


@pytest.fixture(scope="module")
def world(server, backend, tmp_path_factory):
    world = World(server, backend, tmp_path_factory.mktemp("world"))
    yield world
    world.fleet.stop()


@pytest.fixture(scope="module")
def sdk(server):
    return Sdk(server)


every_operation = pytest.mark.parametrize("action", SERVED)


def test_the_tables_have_every_operation(server):
    """The server's own description has the operations that are tried here, and each has its cases."""
    described = requests.get(f"http://{server.api}/openapi.json", timeout=20).json()["paths"]
    assert sorted(path.removeprefix("/#") for path in described) == SERVED
    assert CASES.keys() == CATALOGUE.keys() == set(SERVED)
    assert [action for action, case in CASES.items() if not case.refusals] == []


@every_operation
def test_a_success(world, sdk, action):
    case, shape = CASES[action], CATALOGUE[action]["response"]
    parameters = case.make(world)
    answer, modelled = sdk.exchange(action, parameters)
    assert answer["Success"] is True, answer
    assert "Code" not in answer and "ErrorMessage" not in answer
    assert misfits(answer, shape) == []
    assert empty_lists(action, answer) == case.empty
    # Whatever the server sends, a field of the model takes.
    assert without_empty_lists(modelled) == without_empty_lists(answer)

    again = parameters if reads(action) else case.make(world)
    document = world.caller.call(action, flat(again), method="POST", Format="XML").xml
    assert document.tag == CATALOGUE[action]["xml_root"]
    by_xml = from_xml(document, shape)
    assert by_xml["Success"] is True, by_xml
    assert empty_lists(action, by_xml) == case.empty
    if reads(action):
        assert by_xml | {"RequestId": ""} == without_empty_lists(answer) | {"RequestId": ""}
    else:
        assert _names(by_xml) == _names(without_empty_lists(answer))


def _names(value):
    """The names of all fields, wherever."""
    if isinstance(value, dict):
        return set(value) | {name for item in value.values() for name in _names(item)}
    if isinstance(value, list):
        return {name for item in value for name in _names(item)}
    return set()


@every_operation
def test_refusals(world, sdk, action):
    valid = CASES[action].make(world)
    for changes, expected in CASES[action].refusals:
        changed = valid | changes
        changed = {name: value for name, value in changed.items() if value is not None}
        assert sdk.refusal(action, changed) == expected, changes
        document = world.caller.call(action, flat(changed), method="POST", Format="XML").xml
        assert document.findtext("Code") == expected
        if expected.startswith("iot."):
            assert from_xml(document, CATALOGUE[action]["response"])["Success"] is False
        else:
            assert document.tag == "Error" and document.findtext("Message")


@pytest.mark.parametrize("action", REQUIRED)
def test_what_is_mandatory(sdk, world, action):
    code = sdk.refusal(action, {})
    needed = {f"Missing{p['name']}" for p in CATALOGUE[action]["request"] if p["required"]}
    assert code in needed
    document = world.caller.call(action, method="POST", Format="XML").xml
    assert (document.tag, document.findtext("Code")) == ("Error", code)


@pytest.fixture(scope="module")
def users(server):
    """Seven RAM users; number n may not call the operations whose number in the catalogue has bit n.

    So each operation is denied to somebody and allowed to somebody, without a user for each.
    """
    made = []
    for bit in range(7):
        name = unique("user")
        denied = [f"iot:{action}" for action, number in _numbers().items() if number >> bit & 1]
        statements = [
            {"Effect": "Allow", "Action": "iot:*", "Resource": "*"},
            {"Effect": "Deny", "Action": denied, "Resource": "*"},
        ]
        policy = json.dumps({"Version": "1", "Statement": statements})
        server.admin("ram", "create-user", "--user", name)
        server.admin("ram", "put-policy", "--user", name, "--file", "-", input=policy)
        key = server.create_access_key(name)
        made.append((Sdk(server, key), Caller(server, key)))
    return made


def _numbers():
    return {action: number for number, action in enumerate(sorted(CATALOGUE), 1)}


@every_operation
def test_a_policy_that_denies_it(users, action):
    number = _numbers()[action]
    denied, signed = next(user for bit, user in enumerate(users) if number >> bit & 1)
    assert denied.refusal(action, {}) == "NoPermission"
    document = signed.call(action, method="POST", Format="XML").xml
    assert (document.tag, document.findtext("Code")) == ("Error", "NoPermission")
    _, allowed = next(user for bit, user in enumerate(users) if not number >> bit & 1)
    assert "NoPermission" not in allowed.call(action).text
