"""The smoke story with the official SDKs for Go (`./test sdk-go`); needs Go 1.22 or newer."""

import subprocess

import pytest

from support.devices import FOLDER
from support.story import tell

GO = FOLDER / "sdk" / "go"

# The first build downloads and compiles the SDKs.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """Builds the programs; their folder."""
    folder = tmp_path_factory.mktemp("go")
    subprocess.run(["go", "build", "-mod=readonly", "-o", f"{folder}/", "./classic", "./tea"], cwd=GO, check=True)
    return folder


@pytest.mark.parametrize("protocol", ["http", "https"])
@pytest.mark.parametrize("program", ["classic", "tea"])
def test_the_smoke_story(server, programs, program, protocol):
    seen = tell(server, [str(programs / program)], protocol, SSL_CERT_FILE=str(server.ca_file))
    assert not seen["business"]["thrown"]
    # The older SDK compares the server's string to sign with its own and draws the conclusion itself.
    expected = "InvalidAccessKeySecret: Please check you AccessKeySecret" if program == "classic" else "SignatureDoesNotMatch"
    assert seen["wrong_secret"]["code"] == expected
