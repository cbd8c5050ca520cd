"""`updraft api`: any operation from the shell, with whatever key and over whatever endpoint."""

import json
import os
import subprocess

import pytest

from support.backend import unique
from support.server import binary
from support.waiting import wait_for


class Shell:
    """Runs `updraft api` in a home of its own, with no key but what a test puts there."""

    def __init__(self, server, home):
        self.server, self.home = server, home
        drop = ("ALIBABA_CLOUD_", "UPDRAFT_")
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(drop)} | {"HOME": str(home)}
        self.plain, self.tls = f"http://{server.api}", f"https://{server.api}"

    def api(self, *arguments, **environment):
        return self.run("api", *arguments, **environment)

    def run(self, *arguments, **environment):
        return subprocess.run(
            [binary(), *arguments],
            env=self.environment | environment,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=30,
        )

    def own(self, *arguments, **environment):
        """With the root key of the server, through its data folder."""
        return self.api(*arguments, "--data-dir", str(self.server.data_dir), **environment)


@pytest.fixture
def shell(server, tmp_path):
    return Shell(server, tmp_path)


LIST = "QueryProductList", "CurrentPage=1", "PageSize=10"


def keys(key, token=None):
    made = {"ALIBABA_CLOUD_ACCESS_KEY_ID": key[0], "ALIBABA_CLOUD_ACCESS_KEY_SECRET": key[1]}
    return made | ({"ALIBABA_CLOUD_SECURITY_TOKEN": token} if token else {})


def credentials(home, **profiles):
    folder = home / ".alibabacloud"
    folder.mkdir(exist_ok=True)
    lines = []
    for name, fields in profiles.items():
        lines += [f"[{name}]", *(f"{field} = {value}" for field, value in fields.items())]
    (folder / "credentials.ini").write_text("\n".join(lines))


def code(done):
    """The error code of an answer that is no success."""
    assert done.returncode == 1, done
    return json.loads(done.stdout)["Code"]


@pytest.mark.parametrize("scheme", ["acs3", "v1"])
def test_a_call_is_made_in_both_schemes_and_formats(shell, scheme):
    name = unique("shell") + "_\u6e29"
    made = shell.own("CreateProduct", f"ProductName={name}", "NodeType=0", "--signature", scheme)
    assert made.returncode == 0 and made.stderr == "", made
    answer = json.loads(made.stdout)
    assert answer["Success"] is True and made.stdout.count("\n") > 5
    key = answer["ProductKey"]
    shown = shell.own("QueryProduct", f"ProductKey={key}", "--format", "xml", "--signature", scheme)
    assert shown.returncode == 0 and f"<ProductName>{name}</ProductName>" in shown.stdout
    # So long that it goes into the body.
    names = [f"TargetDeviceName.{n}={unique('device')}{'x' * 20}" for n in range(1, 151)]
    batch = f"ProductKey={key}", "FirmwareId=gone", "TargetSelection=SPECIFIC", *names
    assert code(shell.own("CreateOTAStaticUpgradeJob", *batch, "--signature", scheme)) == "iot.ota.FirmwareNotFound"


def test_the_key_is_found_where_sdks_look_for_it(shell):
    root = shell.server.root_key()
    at = "--endpoint", shell.plain
    assert "there is no access key" in shell.api(*LIST, *at).stderr
    assert shell.api(*LIST, *at).returncode == 2
    assert shell.api(*LIST, *at, **keys(root)).returncode == 0
    assert "go together" in shell.api(*LIST, *at, ALIBABA_CLOUD_ACCESS_KEY_ID="a").stderr

    temporary = json.loads(shell.server.admin("ram", "create-sts-token", "--root"))
    sts = temporary["AccessKeyId"], temporary["AccessKeySecret"]
    for scheme in "acs3", "v1":
        done = shell.api(*LIST, *at, "--signature", scheme, **keys(sts, temporary["SecurityToken"]))
        assert done.returncode == 0, done
    assert code(shell.api(*LIST, *at, **keys(sts))) == "MissingSecurityToken"

    lasting = {"enable": "true", "type": "access_key", "access_key_id": root[0], "access_key_secret": root[1]}
    fleeting = {"type": "sts", "access_key_id": sts[0], "access_key_secret": sts[1]}
    fleeting["security_token"] = temporary["SecurityToken"]
    role = {"type": "ram_role_arn"}
    credentials(shell.home, default=lasting | {"access_key_id": "nobody"}, mine=lasting, fleeting=fleeting, role=role)
    wrong = shell.api(*LIST, *at)
    assert code(wrong) == "InvalidAccessKeyId.NotFound" and "[default] of" in wrong.stderr
    assert shell.api(*LIST, *at, ALIBABA_CLOUD_PROFILE="mine").returncode == 0
    assert shell.api(*LIST, *at, "--profile", "fleeting", ALIBABA_CLOUD_PROFILE="mine").returncode == 0
    # Whoever names a profile means it, whatever the environment holds.
    other = keys(("nobody", "x"))
    assert code(shell.api(*LIST, *at, **other)) == "InvalidAccessKeyId.NotFound"
    assert shell.api(*LIST, *at, "--profile", "mine", **other).returncode == 0
    assert "no profile [gone]" in shell.api(*LIST, *at, "--profile", "gone").stderr
    assert "ram_role_arn" in shell.api(*LIST, *at, "--profile", "role").stderr
    moved = shell.home / "elsewhere.ini"
    (shell.home / ".alibabacloud" / "credentials.ini").rename(moved)
    done = shell.api(*LIST, *at, "--profile", "mine", ALIBABA_CLOUD_CREDENTIALS_FILE=str(moved))
    assert done.returncode == 0

    flags = "--access-key-id", root[0], "--access-key-secret", root[1]
    done = shell.api(*LIST, *at, *flags, **other)
    assert done.returncode == 0 and "can see a secret" in done.stderr
    assert root[1] not in done.stdout + done.stderr


def test_tls_is_checked(shell):
    at = "--endpoint", shell.tls
    done = shell.own(*LIST, *at)
    assert done.returncode == 1 and "--ca-file" in done.stderr and done.stdout == ""
    assert shell.own(*LIST, *at, "--ca-file", shell.server.ca_file).returncode == 0
    assert shell.own(*LIST, *at, "--insecure").returncode == 0
    done = shell.own(*LIST, *at, "--ca-file", str(shell.home / "gone.pem"))
    assert done.returncode == 2 and "gone.pem" in done.stderr


def test_refusals_and_wrong_use_have_their_exit_status(shell):
    gone = shell.own("QueryProduct", "ProductKey=a1gone00000")
    assert gone.returncode == 1 and json.loads(gone.stdout)["Success"] is False and gone.stderr == ""
    unknown = shell.own("queryproduct", "ProductKey=x")
    assert code(unknown) == "InvalidAction.NotFound" and "is it QueryProduct?" in unknown.stderr
    misspelt = shell.own("QueryProduct", "Productkey=x")
    assert "has no parameter Productkey" in misspelt.stderr and misspelt.returncode == 1
    for wrong in (
        ["QueryProduct", "ProductKey"],
        ["QueryProduct", "ProductKey=a", "ProductKey=b"],
        ["QueryProduct", "Signature=x"],
        ["QueryProduct", "--endpoint", "ftp://x"],
        ["QueryProduct", "--format", "yaml"],
        ["FlyToTheMoon", "--help-params"],
        [],
    ):
        done = shell.own(*wrong)
        assert done.returncode == 2 and done.stdout == "", done
    nobody = shell.own(*LIST, "--endpoint", "http://127.0.0.1:1")
    assert nobody.returncode == 1 and "cannot connect to 127.0.0.1:1" in nobody.stderr


def test_operations_and_their_parameters_are_shown_and_completed(shell):
    names = [line.split()[0] for line in shell.api("--list").stdout.splitlines()[1:]]
    assert "ListOTAJobByFirmware" in names and names == sorted(names)
    shown = shell.api("CreateOTAStaticUpgradeJob", "--help-params").stdout
    assert "SrcVersion.N" in shown and "TargetSelection" in shown
    for name in "bash", "zsh", "fish":
        script = subprocess.run([binary(), "completions", name], capture_output=True, text=True, timeout=30)
        assert script.returncode == 0 and "ListOTAJobByFirmware" in script.stdout
    ask = 'source <("$0" completions bash); COMP_WORDS=(updraft api ListOTAJ); COMP_CWORD=2; '
    ask += '_updraft updraft ListOTAJ api; echo "${COMPREPLY[*]}"'
    done = subprocess.run(["bash", "-c", ask, binary()], capture_output=True, text=True, timeout=30)
    offered = done.stdout.split()
    assert "ListOTAJobByFirmware" in offered and all(name.startswith("ListOTAJ") for name in offered), done


def test_a_plan_is_told_in_words_and_comes_true(shell, backend):
    product = backend.product()
    ready, waiting, busy = (backend.device(product).name for _ in range(3))
    firmware = backend.package(product, content=b"x" * 1_234)
    of = f"FirmwareId={firmware}", f"ProductKey={product}"
    named = "CreateOTAStaticUpgradeJob", *of, "TargetSelection=SPECIFIC", f"TargetDeviceName.1={busy}"
    assert shell.own(*named).returncode == 0
    everybody = *of, "TargetSelection=ALL", "MaximumPerMinute=10"

    def plan(*arguments):
        return shell.run("plan", *arguments, "--data-dir", str(shell.server.data_dir))

    told = plan(*everybody)
    assert told.returncode == 0 and told.stderr == "", told
    assert "2 devices: 0 online, 0 offline, 2 never online yet, 0 disabled" in told.stdout
    assert "2,468 bytes" in told.stdout and "only the pace is known" in told.stdout
    (row,) = (line.split() for line in told.stdout.splitlines() if line.startswith("BUSY"))
    assert row[1] == "1" and row[-1] == busy, row
    answer = json.loads(plan(*everybody, "--json").stdout)
    assert answer == json.loads(shell.own("PlanOTAJob", *everybody).stdout) | {
        "RequestId": answer["RequestId"], "Data": answer["Data"]
    }
    fates = {fate["Fate"]: fate for fate in answer["Data"]["Fates"]["PlanFate"]}
    assert fates["QUEUED"]["Examples"]["DeviceName"] == [ready, waiting]

    job = json.loads(shell.own("CreateOTAStaticUpgradeJob", *everybody).stdout)["Data"]["JobId"]
    wait_for(lambda: backend.task_page(job).total == answer["Data"]["Devices"]["Tasks"] == 3)
    queued = backend.task_page(job, task_status="QUEUED").total
    assert queued == answer["Data"]["Devices"]["Taken"]

    refused = plan(*of, "TargetSelection=SOME")
    assert refused.returncode == 1 and "(InvalidTargetSelection)" in refused.stderr and refused.stdout == ""
    assert plan("TargetSelection").returncode == 2, "it is no NAME=VALUE"
    assert "has no parameter Percent" in plan(*everybody, "Percent=5").stderr
