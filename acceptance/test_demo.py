"""What a new user meets first: the demo, and the README's snippets."""

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree

import pytest

from support.backend import Backend
from support.server import REPOSITORY, binary

README = REPOSITORY / "README.md"


def jsons(text):
    """Every JSON object that stands somewhere in a text."""
    decoder, at = json.JSONDecoder(), 0
    while (at := text.find("{", at)) != -1:
        try:
            value, end = decoder.raw_decode(text, at)
        except ValueError:
            at += 1
            continue
        yield value
        at = end


def test_the_demo_shows_the_batches_in_json_and_in_xml_within_a_minute(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("UPDRAFT_")}
    demo = subprocess.run(
        [binary(), "demo"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert demo.returncode == 0, demo.stderr + demo.stdout
    assert not list(tmp_path.iterdir()), "the demo leaves nothing behind"

    (listing,) = [value for value in jsons(demo.stdout) if "PageCount" in value]
    rows = listing["Data"]["SimpleOTAJobInfo"]
    assert listing["Success"] is True
    assert [row["JobType"] for row in rows] == ["UPGRADE_FIRMWARE", "VERFIY_FIRMWARE"], "newest first"

    (text,) = re.findall(r"<ListOTAJobByFirmwareResponse>.*</ListOTAJobByFirmwareResponse>", demo.stdout, re.DOTALL)
    root = xml.etree.ElementTree.fromstring(text)
    assert root.findtext("Success") == "true"
    assert [row.findtext("JobId") for row in root.iter("SimpleOTAJobInfo")] == [row["JobId"] for row in rows]


def snippet(name):
    """The Python block that follows the marker `<!-- test:name -->` in the README."""
    found = re.search(rf"<!-- test:{name} -->\s*```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert found, f"README.md has no Python block marked test:{name}"
    return found.group(1)


def paste(name, tmp_path, **environment):
    """Runs a snippet as a user would: as it stands, with the variables that the README names."""
    run = subprocess.run(
        [sys.executable, "-c", snippet(name)],
        cwd=tmp_path,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr + run.stdout
    return run.stdout


@pytest.mark.parametrize("time", ["first", "second"])
def test_the_readmes_snippets_work_when_pasted(server, tmp_path, time):
    """Also the second time, on a server that remembers the first."""
    key_id, secret = server.root_key()
    out = paste("backend", tmp_path, UPDRAFT_API=server.api, ACCESS_KEY_ID=key_id, ACCESS_KEY_SECRET=secret)
    identity = dict(re.findall(r"(PRODUCT_KEY|DEVICE_NAME|DEVICE_SECRET)=(\S+)", out))
    firmware_id = re.search(r"FIRMWARE_ID=(\S+)", out).group(1)
    backend = Backend(server)
    assert [row.job_status for row in backend.listed(firmware_id)] == ["IN_PROGRESS"]

    paste(
        "device",
        tmp_path,
        UPDRAFT_MQTT_HOST=server.mqtt_host,
        UPDRAFT_MQTT_PORT=str(server.mqtt_port),
        **identity,
    )
    (row,) = backend.listed(firmware_id)
    assert backend.wait_ended(firmware_id, row.job_id).job_status == "COMPLETE"
    (task,) = backend.tasks(row.job_id).values()
    assert task.task_status == "SUCCEEDED"
