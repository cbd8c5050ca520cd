"""What deploy/ and the runbook say of the program is so: keys, commands, metrics, files; and the files are well-formed."""

import os
import pathlib
import re
import shutil
import subprocess
import tomllib

import pytest
import yaml
from support.deployed import DEPLOY, installed
from support.server import REPOSITORY, binary

RUNBOOK = REPOSITORY / "docs" / "runbook.md"
OPERATING = REPOSITORY / "docs" / "operating.md"
# Words of PostgreSQL that look like keys of ours.
FOREIGN = {
    "archive_command",
    "max_connections",
    "pg_basebackup",
    "pg_dump",
    "pg_stat_activity",
    "synchronous_standby_names",
}


def run(*command, **rest):
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **rest)


@pytest.fixture(scope="module")
def keys():
    """Every configuration key."""
    done = run(binary(), "config")
    found = set(re.findall(r"^# (\w+) = ", done.stdout, flags=re.MULTILINE))
    assert len(found) > 50, done
    return found


@pytest.fixture(scope="module")
def metrics():
    """Every metric that the server's source names."""
    sources = (REPOSITORY / "server" / "src").rglob("*.rs")
    return {name for path in sources for name in re.findall(r'"(updraft_\w+)"', path.read_text())}


def files():
    """The text files of deploy/, without the secrets that somebody may have made there."""
    return [path for path in sorted(DEPLOY.rglob("*")) if path.is_file() and "secrets" not in path.parent.parts]


def documents(path):
    """The documents of a YAML file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def kubernetes():
    """What the cluster is given, secrets that are made by hand among it."""
    folder = DEPLOY / "kubernetes"
    named = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    assert set(named) | {"kustomization.yaml", "secrets.example.yaml"} == {path.name for path in folder.iterdir()}
    return [document for name in [*named, "secrets.example.yaml"] for document in documents(folder / name)]


def of_kind(things, kind):
    return [thing for thing in things if thing["kind"] == kind]


def test_settings_that_deploy_names_exist(keys):
    named = {
        word.removeprefix("UPDRAFT_").lower(): path.name
        for path in files()
        for word in re.findall(r"\bUPDRAFT_[A-Z0-9_]+", path.read_text())
    }
    assert len(named) > 15
    assert {key: path for key, path in named.items() if key not in keys} == {}


def test_configuration_files_are_taken(keys, tmp_path):
    """Those that deploy/ has within other files, as the program reads them."""
    host = "ota.example.com"
    shutil.copy(DEPLOY / "compose" / "make-secrets", tmp_path)
    done = run(str(tmp_path / "make-secrets"), host)
    assert done.returncode == 0, done
    secrets = tmp_path / "secrets"
    compose = (secrets / "updraft.toml").read_text()
    example = next(thing for thing in of_kind(kubernetes(), "Secret") if "updraft.toml" in thing["stringData"])
    for text in (compose, example["stringData"]["updraft.toml"]):
        assert set(tomllib.loads(text)) <= keys
    names = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["secrets"]
    made = {path.name for path in secrets.iterdir()}
    assert {pathlib.Path(secret["file"]).name for secret in names.values()} <= made
    assert oct(secrets.stat().st_mode)[-3:] == "700"
    # Clients that trust the authority take the certificate for this name and no other.
    for name, good in ((host, True), ("elsewhere.example.com", False)):
        command = ["openssl", "verify", "-verify_hostname", name, "-CAfile", str(secrets / "ca.pem")]
        assert (run(*command, str(secrets / "tls.crt")).returncode == 0) == good
    assert run(str(tmp_path / "make-secrets"), host).returncode == 1, "what is there stays"


def test_settings_and_metrics_that_the_runbook_names_exist(keys, metrics):
    text = RUNBOOK.read_text()
    words = set(re.findall(r"`([a-z0-9]+(?:_[a-z0-9]+)+)`", text)) - FOREIGN - {"turned_away"}
    assert len(words) > 30
    assert words - keys - metrics == set()
    section = OPERATING.read_text().split("\n## Several nodes\n")[1].split("\n## ")[0]
    words = set(re.findall(r"`([a-z0-9]+(?:_[a-z0-9]+)+)`", section))
    assert words - keys - metrics == set()


def test_metrics_of_the_alerts_exist_and_their_sections_too(metrics):
    alerts = [rule for group in documents(DEPLOY / "prometheus" / "alerts.yaml")[0]["groups"] for rule in group["rules"]]
    used = {name for rule in alerts for name in re.findall(r"\bupdraft_\w+", rule["expr"])}
    assert used <= metrics
    sections = headings(RUNBOOK)
    for rule in alerts:
        page, section = rule["annotations"]["runbook"].split("#")
        assert page == "docs/runbook.md" and section in sections, rule
    assert {name for name in re.findall(r"`(Updraft\w+)`", RUNBOOK.read_text())} <= {rule["alert"] for rule in alerts}


def test_commands_that_the_runbook_names_exist():
    text = "\n".join(code(RUNBOOK.read_text()))
    named = set(re.findall(r"^updraft ([a-z]+(?: [a-z][a-z-]*)?)", text, flags=re.MULTILINE))
    assert {"doctor", "node list", "backup"} <= named
    for command in named:
        done = run(binary(), *command.split(), "--help")
        assert done.returncode == 0, (command, done.stderr)


def code(text):
    """What stands in code, in lines and in blocks."""
    return re.findall(r"```\n(.*?)```", text, flags=re.DOTALL) + re.findall(r"`([^`\n]+)`", text)


def headings(page):
    """The anchors of a page."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [RUNBOOK, OPERATING, REPOSITORY / "README.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)]+)\)", page.read_text())
    assert links
    for link in links:
        if "://" in link:
            continue
        path, _, section = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not section or section in headings(target), link


def test_yaml_is_well_formed():
    found = [path for path in files() if path.suffix == ".yaml"]
    assert len(found) >= 9
    for path in found:
        assert documents(path), path


def test_compose_names_what_there_is():
    whole = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = whole["services"]
    for name, service in services.items():
        for kind in ("secrets", "networks"):
            assert set(service.get(kind, [])) <= set(whole[kind]), name
        assert set(service.get("depends_on", [])) <= set(services), name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (DEPLOY / source).exists() if source.startswith(".") else source in whole["volumes"], volume
        assert ":latest" not in service["image"]
    balanced = set(re.findall(r"server (node\d) ", (DEPLOY / "haproxy" / "haproxy.cfg").read_text()))
    assert balanced == {name for name in services if name.startswith("node")}
    address = services["balancer"]["networks"]["inside"]["ipv4_address"]
    assert f'proxy_protocol_from = "{address}"' in (DEPLOY / "compose" / "make-secrets").read_text()


def test_kubernetes_objects_fit_together():
    things = kubernetes()
    volumes = {("Secret", thing["metadata"]["name"]) for thing in of_kind(things, "Secret")}
    maps = {thing["metadata"]["name"]: thing["data"] for thing in of_kind(things, "ConfigMap")}
    deployments = of_kind(things, "Deployment")
    assert {thing["metadata"]["name"] for thing in deployments} == {f"updraft-{role}" for role in ("api", "gateway", "worker")}
    pods = []
    for thing in deployments:
        template = thing["spec"]["template"]
        labels = template["metadata"]["labels"]
        assert thing["spec"]["selector"]["matchLabels"].items() <= labels.items()
        pod, (container,) = template["spec"], template["spec"]["containers"]
        pods.append((labels, container))
        mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert set(mounted) == {volume["name"] for volume in pod["volumes"]}
        for volume in pod["volumes"]:
            assert "secret" not in volume or ("Secret", volume["secret"]["secretName"]) in volumes
        for source in container["envFrom"]:
            settings = maps[source["configMapRef"]["name"]]
            # The longest that a stop takes: both waits, and what ends after the connections.
            waits = int(settings["UPDRAFT_DRAIN_DELAY_SECONDS"]) + int(settings["UPDRAFT_DRAIN_SECONDS"])
            assert pod["terminationGracePeriodSeconds"] >= waits + 30
            for path in (settings[f"UPDRAFT_{name}"] for name in ("MASTER_KEY_FILE", "TLS_CERT", "TLS_KEY")):
                assert os.path.dirname(path) in mounted.values()
        assert dict(env.values() for env in container["env"])["UPDRAFT_ROLE"] == labels["app.kubernetes.io/component"]
        named = {port["name"] for port in container["ports"]}
        probes = [container[probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")]
        assert {probe["port"] for probe in probes} <= named
        assert [probe["path"] for probe in probes] == ["/healthz", "/healthz", "/readyz"]
    for thing in of_kind(things, "Service"):
        (container,) = [c for labels, c in pods if thing["spec"]["selector"].items() <= labels.items()]
        assert {port["targetPort"] for port in thing["spec"]["ports"]} <= {port["name"] for port in container["ports"]}
    for thing in of_kind(things, "PodDisruptionBudget"):
        assert [labels for labels, _ in pods if thing["spec"]["selector"]["matchLabels"].items() <= labels.items()]


def test_the_unit_is_sound(tmp_path):
    if not installed("systemd-analyze"):
        pytest.skip("systemd is not installed")
    shutil.copytree(DEPLOY / "systemd", tmp_path, dirs_exist_ok=True)
    unit = tmp_path / "updraft.service"
    unit.write_text(unit.read_text().replace("/usr/local/bin/updraft", binary()))
    done = run("systemd-analyze", "verify", str(unit))
    assert done.returncode == 0 and str(tmp_path) not in done.stderr, done.stderr
    # 0 is safe and 100 is not; a service without any of this has 96.
    done = run("systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit))
    assert done.returncode == 0, done.stdout


def test_the_image_is_built_with_the_toolchain_of_the_tests():
    toolchain = tomllib.loads((REPOSITORY / "rust-toolchain.toml").read_text())["toolchain"]["channel"]
    text = (DEPLOY / "Containerfile").read_text()
    assert f"ARG RUST={toolchain}\n" in text
    ignored = (REPOSITORY / ".containerignore").read_text()
    assert (REPOSITORY / ".dockerignore").read_text() == ignored
    lines = [line for line in ignored.splitlines() if line and not line.startswith("#")]
    members = tomllib.loads((REPOSITORY / "Cargo.toml").read_text())["workspace"]["members"]
    assert not set(lines) & {*members, "docs", "Cargo.toml", "Cargo.lock"}, "needed to build"
    assert {"target", ".git", "deploy"} <= set(lines), "also keeps secrets out"


@pytest.mark.parametrize("program", ["haproxy", "nginx"])
def test_balancers_take_their_files(program, tmp_path):
    if not installed(program):
        pytest.skip(f"{program} is not installed")
    name = {"haproxy": "haproxy.cfg", "nginx": "nginx.conf"}[program]
    text = (DEPLOY / program / name).read_text()
    for node in "123":
        text = text.replace(f"node{node}:", f"127.0.0.1{node}:")
    file = tmp_path / name
    file.write_text(text)
    check = {"haproxy": ["-c", "-f", str(file)], "nginx": ["-t", "-c", str(file), "-g", f"pid {tmp_path / 'pid'};"]}
    done = run(installed(program), *check[program])
    assert done.returncode == 0 and "warn" not in done.stderr.lower(), done.stderr


def test_alerts_do_what_their_tests_say():
    if not installed("promtool"):
        pytest.skip("promtool is not installed")
    done = run(installed("promtool"), "test", "rules", "alerts.test.yaml", cwd=DEPLOY / "prometheus")
    assert done.returncode == 0, done.stdout + done.stderr
