"""`updraft simulate`: what it tells of a run is what the server says, also when the server dies meanwhile."""

import json
import re
import subprocess
import tomllib

import pytest

from support.backend import Backend, unique
from support.server import REPOSITORY, binary
from support.waiting import wait_for

DEVICES = 300
# Behaviours that fail and end: 6 % of the devices.
MIX = "fails-download=2,fails-verification=2,fails-flashing=2,flaky=4"
FAILING = DEVICES * 6 // 100


started = []


@pytest.fixture(autouse=True)
def none_is_left():
    """A simulation never gives up, so one that a failing test leaves behind would run for ever."""
    yield
    for process in started:
        process.kill()
    started.clear()


def simulate(server, *arguments, **rest):
    """Starts a simulation against a server."""
    command = [binary(), "simulate", "--api", f"http://{server.api}", "--mqtt", server.mqtt]
    command += ["--key-file", str(server.data_dir / "root-access-key.json"), *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started.append(subprocess.Popen(command, **pipes, **rest))
    return started[-1]


def ended(process, timeout=120):
    """How a simulation ended: its exit status and what it printed."""
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def rollout(server, tmp_path_factory):
    """A rollout to 300 devices with failures, both versions of MQTT, HTTP, ranges, and a storm in its middle."""
    file = tmp_path_factory.mktemp("simulate") / "out.json"
    process = simulate(
        server, "--product", unique("simulated"), "--devices", str(DEVICES), "--mix", MIX, "--json", str(file),
        "--http-share", "5", "--poll-seconds", "2", "--mqtt5-share", "40", "--storm-at", "3",
        "--rollout", "--package-bytes", "100000", "--range-bytes", "30000",
        "--install-ms", "3000", "--reboot-ms", "1000", "--connect-per-second", "0",
    )  # fmt: skip
    status, out, err = ended(process)
    told = json.loads(file.read_text())
    assert (status, told["reached"], told["unreached"]) == (0, True, []), out + err
    return told, out


def test_what_it_tells_is_what_the_server_lists(rollout, backend):
    told, out = rollout
    pages = (backend.task_page(told["rollout"]["job_id"], current_page=page) for page in (1, 2, 3, 4))
    tasks = [task for page in pages for task in page.data.simple_otatask_info or []]
    states = [task.task_status for task in tasks]
    assert len({task.device_name for task in tasks}) == len(tasks) == DEVICES
    assert told["rollout"]["compared"]["tasks"] == {state: states.count(state) for state in set(states)}
    assert (states.count("FAILED"), states.count("SUCCEEDED")) == (FAILING, DEVICES - FAILING)
    compared = told["rollout"]["compared"]
    assert (compared["contradictions"], compared["pushed_again"]) == (0, 0)
    assert compared["running"] == DEVICES - FAILING
    assert compared["pushed"] + told["devices"]["by_http"] == DEVICES, "who has no connection cannot be pushed to"
    assert compared["downloads"] >= DEVICES - FAILING
    assert told["rollout"]["rate"]["kept"]
    assert f"SUCCEEDED {DEVICES - FAILING}" in out and out.rstrip().endswith("reached")


def test_its_figures_fit_together(rollout):
    told, _ = rollout
    times, totals = told["latency_ms"], told["totals"]
    assert times["connect"]["count"] + times["http_auth"]["count"] == totals["connections"]
    assert times["puback"]["count"] + times["http_report"]["count"] == totals["reports_acknowledged"]
    assert times["push"]["count"] == told["rollout"]["compared"]["pushed"]
    for name, time in times.items():
        assert 0 < time["p50"] <= time["p90"] <= time["p99"] <= time["p999"] <= time["max"], name
    assert sum(second["pushes"] for second in told["series"]) <= totals["pushes"]
    assert max(second["connected"] for second in told["series"]) <= told["devices"]["connected_most"]
    (storm,) = [outage for outage in told["outages"] if outage["storm"]]
    assert storm["lost"] >= DEVICES // 20 and storm["half_back"] <= storm["back"]
    assert told["generator"]["peak_bytes"] > 0


def test_devices_outlive_their_server(own_server, tmp_path):
    """A killed server is an outage that ends, not the end of the run."""
    server = own_server()
    file = tmp_path / "out.json"
    process = simulate(
        server, "--devices", "100", "--json", str(file), "--backoff-first-ms", "100", "--backoff-max-ms", "500"
    )
    online = lambda: Backend(server).ok("QueryDeviceStatistics").data.online_count  # noqa: E731
    wait_for(online, until=lambda count: count == 100)
    server.kill()
    server.start()
    wait_for(online, until=lambda count: count == 100)
    process.send_signal(2)
    status, out, err = ended(process)
    told = json.loads(file.read_text())
    assert (status, told["interrupted"]) == (0, True), out + err
    (outage,) = told["outages"]
    assert (outage["lost"], outage["storm"]) == (100, False) and outage["back"] > 0
    assert told["totals"]["connections"] == 200
    assert any(error.startswith("connection lost: ") for error in told["errors"])


def test_devices_of_a_file_need_no_key(server, backend, tmp_path):
    product_key = backend.product()
    identities = backend.devices(product_key, 3)
    lines = ["productKey,deviceName,deviceSecret", *(f"{i.product_key},{i.name},{i.secret}" for i in identities)]
    (tmp_path / "devices.csv").write_text("\n".join(lines))
    (tmp_path / "some.toml").write_text('versions = "7.1"\nseconds = 600\n')
    command = [binary(), "simulate", "--mqtt", server.mqtt, "--devices-file", "devices.csv", "--scenario", "some.toml"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        backend.wait_ready("7.1", *identities)
    finally:
        process.send_signal(2)
    status, out, err = ended(process)
    assert status == 0 and out.startswith("3 devices"), out + err


def test_a_rollout_that_cannot_be_reached_says_so(server):
    status, out, _ = ended(
        simulate(
            server, "--product", unique("simulated"), "--devices", "5", "--mix", "stays-old=20", "--rollout",
            "--task-timeout-minutes", "9", "--seconds", "6", "--package-bytes", "1000",
        )  # fmt: skip
    )
    assert status == 1
    assert "not reached: the rollout had not ended when the time was over" in out


def test_a_device_that_never_answers_is_not_waited_for(server):
    status, out, err = ended(
        simulate(
            server, "--product", unique("simulated"), "--devices", "5", "--mix", "silent=20", "--rollout",
            "--task-timeout-minutes", "9", "--install-ms", "0", "--reboot-ms", "0", "--package-bytes", "1000",
        )  # fmt: skip
    )
    assert status == 0, out + err
    assert "NOTIFIED 1" in out and "SUCCEEDED 4" in out


def test_wrong_use_is_told_apart(tmp_path):
    run = lambda *arguments: subprocess.run(  # noqa: E731
        [binary(), "simulate", *arguments], capture_output=True, text=True, timeout=30, cwd=tmp_path
    )
    (tmp_path / "bad.toml").write_text("devises = 3\n")
    for arguments, named in [
        ([], "--api"),
        (["--api", "http://127.0.0.1:1", "--mix", "lazy=3"], "lazy"),
        (["--api", "http://127.0.0.1:1", "--devices", "many"], "--devices"),
        (["--scenario", "bad.toml"], "devises"),
    ]:
        done = run(*arguments)
        assert done.returncode == 2 and named in done.stderr, done


def test_the_example_scenario_has_only_keys_that_the_help_has():
    text = subprocess.run([binary(), "simulate", "--help"], capture_output=True, text=True, check=True).stdout
    flags = set(re.findall(r"--([a-z0-9-]+)", text))
    scenario = tomllib.loads((REPOSITORY / "docs" / "simulate.toml").read_text())
    assert {key.replace("_", "-") for key in scenario} <= flags
