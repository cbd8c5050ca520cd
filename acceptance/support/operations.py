"""The catalogue of operations (`docs/api/operations.json`): parameters on the wire, and the shape of answers."""

import json

from .server import REPOSITORY

CATALOGUE = {
    operation["name"]: operation
    for operation in json.loads((REPOSITORY / "docs/api/operations.json").read_text())["operations"]
}

# The operations that the server of this revision serves: a Rust test keeps its description up to date.
DESCRIPTION = json.loads((REPOSITORY / "docs/api/openapi.json").read_text())
SERVED = sorted(path.removeprefix("/#") for path in DESCRIPTION["paths"])

# Names that only read: the same question twice has the same answer.
_READING = ("Query", "List", "Get", "BatchQuery", "BatchGet")


def reads(action):
    """Whether an operation changes nothing."""
    return action.startswith(_READING)


def flat(parameters, prefix=""):
    """Parameters as they go over the wire: `{"Tag": [{"Key": "a"}]}` is `{"Tag.1.Key": "a"}`."""
    wire = {}
    for name, value in parameters.items():
        if isinstance(value, list):
            items = {str(number): item for number, item in enumerate(value, 1)}
            wire |= flat(items, f"{prefix}{name}.")
        elif isinstance(value, dict):
            wire |= flat(value, f"{prefix}{name}.")
        else:
            wire[prefix + name] = value
    return wire


def _is_scalar(value, kind):
    expected = {"string": str, "boolean": bool, "integer": int}[kind]
    # A bool is an int to Python only.
    return isinstance(value, expected) and isinstance(value, bool) == (kind == "boolean")


def misfits(value, shape, path="answer"):
    """Where a JSON answer differs from a shape of the catalogue; absent fields are allowed."""
    if isinstance(shape, str):
        return [] if _is_scalar(value, shape) else [f"{path} is {value!r} and no {shape}"]
    if isinstance(shape, list):
        if not isinstance(value, list):
            return [f"{path} is {value!r} and no list"]
        return [found for number, item in enumerate(value) for found in misfits(item, shape[0], f"{path}[{number}]")]
    if not isinstance(value, dict):
        return [f"{path} is {value!r} and no object"]
    found = [f"{path}.{name} is not in the catalogue" for name in value.keys() - shape.keys()]
    for name in value.keys() & shape.keys():
        found += misfits(value[name], shape[name], f"{path}.{name}")
    return found


def from_xml(element, shape):
    """An XML answer as the JSON that says the same, read by the shape; fails where it does not fit."""
    assert not element.attrib, element.tag
    if isinstance(shape, str):
        assert len(element) == 0, f"{element.tag} has children"
        text = element.text or ""
        if shape == "boolean":
            return {"true": True, "false": False}[text]
        return int(text) if shape == "integer" else text
    assert not (element.text or "").strip(), f"{element.tag} has text"
    value = {}
    for child in element:
        assert child.tag in shape, f"{element.tag}/{child.tag} is not in the catalogue"
        if isinstance(shape[child.tag], list):
            value.setdefault(child.tag, []).append(from_xml(child, shape[child.tag][0]))
        else:
            assert child.tag not in value, f"{element.tag} has two {child.tag}"
            value[child.tag] = from_xml(child, shape[child.tag])
    return value


def without_empty_lists(value):
    """JSON without its empty lists, which XML cannot say."""
    if isinstance(value, dict):
        return {name: without_empty_lists(item) for name, item in value.items() if item != []}
    if isinstance(value, list):
        return [without_empty_lists(item) for item in value]
    return value


def empty_lists(action, body):
    """The lists of an operation (paths in the catalogue) without an item in this answer."""

    def items(value, names):
        if not names:
            return [value]
        name, *rest = names
        found = value.get(name.removesuffix("[]"))
        if found is None:
            return []
        steps = found if name.endswith("[]") else [found]
        return [item for step in steps for item in items(step, rest)]

    paths = [entry["path"] for entry in CATALOGUE[action]["lists"]]
    return {path for path in paths if not items(body, path.split("."))}
