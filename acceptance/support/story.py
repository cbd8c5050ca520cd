"""Tells the smoke story with a program of `sdk/` and compares what it saw with what the server has."""

import json
import os
import subprocess

from .backend import Backend, unique

DESCRIPTION = "a b*~/+é'!() 说明"
TAGS = [["ring", "1 + 1 = 2 & more"], ["owner", "我"]]


def tell(server, command, protocol="http", timeout=60, **environment):
    """Runs a program to its end; what it saw, checked against the server."""
    key_id, secret = server.root_key()
    environment = {
        "SDK_ENDPOINT": server.api,
        "SDK_PROTOCOL": protocol,
        "SDK_KEY_ID": key_id,
        "SDK_KEY_SECRET": secret,
        "SDK_NAME": unique("story"),
        "SDK_CA": str(server.ca_file),
    } | environment
    # A proxy of the machine is nothing for a server on it.
    inherited = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(
        command, env=inherited | environment, capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, f"{command} failed:\n{done.stdout}\n{done.stderr}"
    # SDKs print, too; the story is the last line.
    seen = json.loads(done.stdout.splitlines()[-1])
    _check(Backend(server), seen)
    return seen


def _check(backend, seen):
    assert seen["jobs"] == [seen["dynamic"], seen["static"]], "newest first"
    assert seen["total"] == 2
    assert seen["tags"] == TAGS
    assert seen["tasks"] == ["CANCELED"]
    assert seen["description"] == DESCRIPTION

    package = backend.firmware(seen["firmware"])
    assert (package.product_key, package.firmware_desc) == (seen["product"], DESCRIPTION)
    fixed = backend.job(seen["static"])
    assert (fixed.selection_type, fixed.target_selection) == ("STATIC", "SPECIFIC")
    assert [[tag.key, tag.value] for tag in fixed.tags.ota_tag_dto] == TAGS
    standing = backend.job(seen["dynamic"])
    assert (standing.selection_type, standing.job_status) == ("DYNAMIC", "CANCELED")
    assert standing.src_versions.src_version == ["1.0.0"]
    assert set(backend.tasks(seen["static"])) == {seen["device"]}

    assert seen["business"]["code"] == "iot.ota.JobNotFound"
    assert seen["business"]["message"] and seen["unknown_key"]["message"]
    assert seen["unknown_key"]["code"] == "InvalidAccessKeyId.NotFound"
    assert seen["unknown_key"]["thrown"] and seen["wrong_secret"]["thrown"]
