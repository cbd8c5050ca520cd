"""The smoke story with the official SDKs for Node; those for Java and Go are in `sdk/`."""

import pytest

from support.devices import FOLDER
from support.story import tell

NODE = FOLDER / "sdk" / "node"


@pytest.mark.parametrize("protocol", ["http", "https"])
@pytest.mark.parametrize(
    ("program", "method"),
    [
        pytest.param("tea.js", "POST", id="iot20180120"),
        pytest.param("pop.js", "GET", id="pop-core by GET"),
        pytest.param("pop.js", "POST", id="pop-core by POST"),
    ],
)
def test_the_smoke_story(server, program, method, protocol):
    seen = tell(
        server,
        ["node", str(NODE / program)],
        protocol,
        SDK_METHOD=method,
        NODE_EXTRA_CA_CERTS=str(server.ca_file),
    )
    assert seen["wrong_secret"]["code"] == "SignatureDoesNotMatch"
    # pop-core throws for any Code; the current SDK hands business errors to its caller.
    assert seen["business"]["thrown"] == (program == "pop.js")
