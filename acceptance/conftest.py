"""Fixtures of the acceptance tests: real servers, official SDKs, devices in their own processes."""

import tempfile

import pytest

from support.backend import Backend
from support.devices import Fleet
from support.nodes import Nodes
from support.postgres import Postgres
from support.server import Server
from support.signed import Caller


def pytest_addoption(parser):
    parser.addoption("--examples", type=int, help="calls of each operation for test_description.py to make up")
    parser.addoption(
        "--engine", choices=["sqlite", "postgres"], default="sqlite", help="where servers keep their databases"
    )


def pytest_collection_modifyitems(config, items):
    if config.getoption("--engine") == "postgres":
        for item in items:
            if item.get_closest_marker("sqlite"):
                item.add_marker(pytest.mark.skip(reason="is about SQLite's file"))


@pytest.fixture(scope="session", autouse=True)
def engine(request):
    """One PostgreSQL for the run, with a database for each server, if that was asked for."""
    if request.config.getoption("--engine") == "sqlite":
        yield
        return
    # Not among pytest's folders: PostgreSQL does not run as root, and pytest keeps those to its user.
    with tempfile.TemporaryDirectory(prefix="updraft-") as folder:
        Server.postgres = Postgres(f"{folder}/cluster", fsync="off", max_connections=400)
        yield
        Server.postgres.crash()


@pytest.fixture(scope="session")
def make_server(tmp_path_factory):
    """Starts servers that live until the end of the run."""
    made = []

    def make(**settings):
        # Quotas have their own tests; elsewhere they would only slow the polling down.
        settings = {"quota_scale": 0} | settings
        server = Server(tmp_path_factory.mktemp("server") / "data", **settings)
        made.append(server)
        return server.start()

    yield make
    for server in made:
        server.stop()


@pytest.fixture(scope="session")
def server(make_server):
    """The server that most stories share; each uses its own product."""
    return make_server()


@pytest.fixture(scope="session")
def backend(server):
    """The root account on the current SDK, by plain HTTP."""
    return Backend(server)


@pytest.fixture(scope="session")
def caller(server):
    """The root account without an SDK."""
    return Caller(server)


@pytest.fixture
def own_server(tmp_path):
    """Makes servers for one test, which may kill them."""
    made = []

    def make(**settings):
        server = Server(tmp_path / f"data{len(made)}", **({"quota_scale": 0} | settings))
        made.append(server)
        return server.start()

    yield make
    for server in made:
        server.kill()


@pytest.fixture
def make_nodes(tmp_path):
    """Makes databases with nodes for one test."""
    made = []

    def make(**settings):
        nodes = Nodes(tmp_path / f"nodes{len(made)}", **settings)
        made.append(nodes)
        return nodes

    yield make
    for nodes in made:
        nodes.end()


@pytest.fixture
def fleet(tmp_path):
    """Starts devices."""
    devices = Fleet(tmp_path)
    yield devices
    devices.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A failing test shows what the servers and its devices logged."""
    report = yield
    if report.failed:
        for server in Server.running:
            report.sections.append((f"log of {server.data_dir}", server.log_tail()))
        devices = item.funcargs.get("fleet")
        for device in devices.started if devices else []:
            report.sections.append((f"events of {device.log.name}", "\n".join(map(str, device.events))))
            report.sections.append((f"log of {device.log.name}", device.log_tail()))
    return report
