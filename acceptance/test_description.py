"""Calls made up from the API's own description by schemathesis: answers are as described, and so is what is accepted.

`--examples N` makes up N calls of each operation, other ones in each run.
"""

import json
from xml.etree import ElementTree

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from support.backend import Backend
from support.cases import CASES, World
from support.operations import CATALOGUE, DESCRIPTION, SERVED, flat, from_xml

API = schemathesis.openapi.from_dict(DESCRIPTION)
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
# The caller fills these in; signatures and what is common to all calls have tests of their own.
COMMON = {"Action", "Version", "Format", "Signature"}
GATEWAY_ERROR = dict.fromkeys(("RequestId", "HostId", "Code", "Message", "Recommend"), "string")
FEW = 10
# A debug build on a busy machine answers in milliseconds.
LONGEST_SECONDS = 5


@schemathesis.deserializer("text/xml")
def xml_as_json(context, response):
    """An XML answer as the JSON that says the same, for the checks."""
    entry = CATALOGUE[context.operation.label.split("#")[1]]
    document = ElementTree.fromstring(response.text)
    failed = response.status_code != 200
    assert document.tag == ("Error" if failed else entry["xml_root"])
    return from_xml(document, GATEWAY_ERROR if failed else entry["response"])


@pytest.fixture(scope="module")
def world(make_server, tmp_path_factory):
    """A server of its own: others need not find what is made here."""
    server = make_server()
    world = World(server, Backend(server), tmp_path_factory.mktemp("world"))
    yield world
    world.fleet.stop()


def on_the_wire(value):
    return value if isinstance(value, str) else json.dumps(value)


@st.composite
def calls(draw, operation, valid):
    """(the case for the checks, parameters, the way to send them, the format of the answer).

    Some of the calls are made up altogether; the others are a good call with a few parameters changed or left out,
    since what is made up names no object that exists.
    """
    modes = [operation.as_strategy(mode) for mode in schemathesis.GenerationMode]
    case = draw(st.one_of(modes))
    made_up = {name: on_the_wire(value) for name, value in (case.query or {}).items() if name not in COMMON}
    parameters = made_up
    if draw(st.integers(0, 2)):
        changed = draw(st.sets(st.sampled_from(sorted(made_up)), max_size=3)) if made_up else ()
        left_out = draw(st.sets(st.sampled_from(sorted(valid)), max_size=1)) if valid else ()
        parameters = {name: value for name, value in valid.items() if name not in left_out}
        parameters |= {name: made_up[name] for name in changed}
    way = draw(st.sampled_from([{"method": "GET"}, {"method": "POST"}, {"body": True}]))
    return case, parameters, way, draw(st.sampled_from(["JSON", "XML"]))


def not_as_described(action, parameters):
    """Those of the parameters whose values their description does not allow."""
    listed = DESCRIPTION["paths"][f"/#{action}"]["post"]["parameters"]
    described = {parameter["name"]: parameter["schema"] for parameter in listed if "name" in parameter}
    wrong = []
    # An optional parameter with an empty value counts as absent.
    for name in {name for name, value in parameters.items() if value} & described.keys():
        readings = [parameters[name]]
        try:
            readings.append(json.loads(parameters[name]))
        except ValueError:
            pass  # a text
        validator = jsonschema_rs.validator_for(described[name])
        if not any(map(validator.is_valid, readings)):
            wrong.append((name, parameters[name]))
    return wrong


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("action", SERVED)
def test_made_up_calls(world, action, request):
    examples = request.config.getoption("--examples")
    operation = API[f"/#{action}"]["post"]
    valid = {name: on_the_wire(value) for name, value in flat(CASES[action].make(world)).items()}

    def check(case, parameters, way, form):
        answer = world.caller.call(action, parameters, Format=form, **way)
        assert answer.response.elapsed.total_seconds() < LONGEST_SECONDS
        case.validate_response(answer.response, checks=CHECKS)
        body = answer.json if form == "JSON" else {child.tag: child.text for child in answer.xml}
        if body.get("Success") in (True, "true"):
            assert not_as_described(action, parameters) == []
        return body

    @settings(
        max_examples=examples or FEW,
        derandomize=not examples,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(calls(operation, valid))
    def made_up(call):
        note(call[1:])
        check(*call)

    assert check(operation.Case(), valid, {"method": "POST"}, "JSON")["Success"] is True
    made_up()
