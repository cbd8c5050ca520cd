"""The smoke story with the official SDKs for Java (`./test sdk-java`); needs a JDK 17 and Maven."""

import subprocess

import pytest

from support.devices import FOLDER
from support.story import tell

JAVA = FOLDER / "sdk" / "java"

# The first build downloads the SDKs.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def classpath():
    """Builds the programs with all that they need."""
    command = ["mvn", "-q", "-B", "package", "dependency:copy-dependencies", "-DoutputDirectory=target/lib"]
    subprocess.run(command, cwd=JAVA, check=True)
    return f"{JAVA / 'target/classes'}:{JAVA / 'target/lib'}/*"


@pytest.fixture
def trust(server, tmp_path):
    """A trust store with the server's CA."""
    store = tmp_path / "trust.p12"
    command = ["keytool", "-importcert", "-noprompt", "-alias", "updraft", "-file", str(server.ca_file)]
    subprocess.run(
        [*command, "-keystore", str(store), "-storepass", "changeit"], check=True, capture_output=True
    )
    return [f"-Djavax.net.ssl.trustStore={store}", "-Djavax.net.ssl.trustStorePassword=changeit"]


@pytest.mark.parametrize("protocol", ["http", "https"])
@pytest.mark.parametrize(
    ("program", "form"),
    [
        pytest.param("TeaStory", "JSON", id="iot20180120"),
        pytest.param("ClassicStory", "JSON", id="aliyun-java-sdk-iot in JSON"),
        pytest.param("ClassicStory", "XML", id="aliyun-java-sdk-iot in XML"),
    ],
)
def test_the_smoke_story(server, classpath, trust, program, form, protocol):
    command = ["java", *trust, "-cp", classpath, f"story.{program}"]
    seen = tell(server, command, protocol, SDK_FORMAT=form)
    assert not seen["business"]["thrown"]
    # The older SDK compares the server's string to sign with its own and draws the conclusion itself.
    assert seen["wrong_secret"]["code"] == (
        "SignatureDoesNotMatch" if program == "TeaStory" else "SDK.InvalidAccessKeySecret"
    )
