"""The catalogue of operations (`docs/api/operations.json`), and which of them a server serves."""

import json

from .server import REPOSITORY
from .signed import code

CATALOGUE = {
    operation["name"]: operation
    for operation in json.loads((REPOSITORY / "docs/api/operations.json").read_text())["operations"]
}


def is_served(caller, action):
    """Whether the server knows an operation."""
    answer = caller.call(action)
    return answer.status == 200 or code(answer) != "InvalidAction.NotFound"
