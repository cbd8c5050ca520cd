"""Accounts, instances, users, keys, policies and the audit log, on a real server and beside it."""

import concurrent.futures
import json
import subprocess
import threading

import pytest
from aliyunsdkcore.auth.credentials import StsTokenCredential
from aliyunsdkcore.client import AcsClient
from aliyunsdkiot.request.v20180120.QueryProductListRequest import QueryProductListRequest
from Tea.exceptions import TeaException

from support.backend import Backend, unique
from support.server import binary
from support.signed import Caller, code
from support.waiting import wait_for

PAGE = {"CurrentPage": 1, "PageSize": 10}


def key_of(printed):
    key = json.loads(printed)
    return key["AccessKeyId"], key["AccessKeySecret"]


def lines(printed):
    return [json.loads(line) for line in printed.splitlines()]


def answers(caller, action="QueryProductList", parameters=PAGE):
    """The code of a refusal, or None."""
    answer = caller.call(action, parameters)
    return None if answer.status == 200 and answer.json["Success"] else code(answer)


def within_a_second(caller, expected, **call):
    """Waits, at most a second, until calls are answered so."""
    wait_for(lambda: answers(caller, **call) == expected, timeout=1)


@pytest.fixture(scope="module")
def mine(make_server):
    return make_server()


def user(server, name):
    """A new user's caller and AccessKeyId."""
    key = server.create_access_key(name)
    return Caller(server, key), key[0]


def test_accounts_have_worlds_of_their_own(mine):
    name = unique("acme")
    made = json.loads(mine.admin("account", "create", "--name", name))
    assert made["Account"] == name
    theirs, ours = Backend(mine, (made["AccessKeyId"], made["AccessKeySecret"])), Backend(mine)
    product = theirs.product("lamps")
    assert ours.product("lamps") != product
    assert ours.refused("QueryProduct", product_key=product) == "iot.prod.NotExistedProduct"
    assert name in [line["Account"] for line in lines(mine.admin("account", "list", "--json"))]
    assert "already" in mine.refuses("account", "create", "--name", name)
    assert "letters" in mine.refuses("account", "create", "--name", "a b")
    assert "no account" in mine.refuses("ram", "create-user", "--user", "x", "--account", "nobody")


def test_instances_are_worlds_within_an_account(mine):
    name = unique("plant")
    made = json.loads(mine.admin("instance", "create", "--name", name))
    instance = made["IotInstanceId"]
    assert instance.startswith("iot-") and instance == instance.lower()
    backend = Backend(mine)
    product = backend.ok(
        "CreateProduct", product_name=unique("prod"), node_type=0, iot_instance_id=instance
    ).product_key
    assert backend.refused("QueryProduct", product_key=product) == "iot.prod.NotExistedProduct"
    assert backend.ok("QueryProduct", product_key=product, iot_instance_id=instance)
    listed = lines(mine.admin("instance", "list", "--json"))
    assert listed[0]["IotInstanceId"] is None and instance in [line["IotInstanceId"] for line in listed]

    other = key_of(mine.admin("account", "create", "--name", unique("other")))
    refusal = Backend(mine, other).refused("QueryProduct", product_key=product, iot_instance_id=instance)
    assert refusal == "iot.system.InstanceNotFound"
    assert "already" in mine.refuses("instance", "create", "--name", name)


def test_a_key_dies_within_a_second_and_lives_again(mine):
    caller, key = user(mine, unique("user"))
    assert answers(caller) is None
    mine.admin("ram", "disable-access-key", key)
    within_a_second(caller, "InvalidAccessKeyId.Inactive")
    mine.admin("ram", "enable-access-key", key)
    within_a_second(caller, None)
    mine.admin("ram", "delete-access-key", key)
    within_a_second(caller, "InvalidAccessKeyId.NotFound")
    assert key in mine.refuses("ram", "delete-access-key", key)


def test_a_back_end_switches_keys_without_an_outage(mine):
    name = unique("user")
    old, key = user(mine, name)
    new = Caller(mine, key_of(mine.admin("ram", "rotate-access-key", key)))
    assert answers(old) is None and answers(new) is None
    mine.admin("ram", "disable-access-key", key)
    within_a_second(old, "InvalidAccessKeyId.Inactive")
    assert answers(new) is None
    listed = lines(mine.admin("ram", "list-access-keys", "--user", name, "--json"))
    assert {line["AccessKeyId"]: line["Status"] for line in listed} == {key: "Inactive", new.key_id: "Active"}
    assert new.secret not in mine.admin("ram", "list-access-keys")


def test_a_rotated_key_is_no_way_back(mine):
    name = unique("user")
    key = mine.create_access_key(name)[0]
    mine.admin("ram", "disable-access-key", key)
    assert "--force" in mine.refuses("ram", "rotate-access-key", key)
    rotated = key_of(mine.admin("ram", "rotate-access-key", key, "--force"))[0]
    command = lines(mine.admin("audit", "--action", "ram rotate-access-key", "--limit", "1", "--json"))[0]
    assert (command["RamUser"], command["AccessKeyId"]) == (name, rotated)
    mine.admin("ram", "delete-user", "--user", name, "--force")
    assert "no access key" in mine.refuses("ram", "rotate-access-key", key, "--force")
    assert name not in mine.admin("ram", "list-users")


def test_a_secret_that_cannot_be_printed_is_an_error(mine):
    name = unique("user")
    command = [binary(), "ram", "create-access-key", "--user", name, "--data-dir", str(mine.data_dir)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, env=mine.environment, stdout=full, stderr=subprocess.PIPE, text=True)
    [key] = lines(mine.admin("ram", "list-access-keys", "--user", name, "--json"))
    assert done.returncode == 1 and f"delete-access-key {key['AccessKeyId']}" in done.stderr
    assert f"{name} did not exist" in done.stderr and "everything" in done.stderr


def test_commands_at_once_keep_the_limits(own_server):
    server = own_server()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        names = ["acme"] * 4
        made = list(pool.map(lambda name: server.command("account", "create", "--name", name), names))
    assert sorted(done.returncode for done in made) == [0, 1, 1, 1]


def test_the_accounts_last_key_is_not_lost_by_accident(mine):
    name = unique("acme")
    first = key_of(mine.admin("account", "create", "--name", name))
    of = ("--account", name)
    for command in ("disable-access-key", "delete-access-key"):
        assert "--force" in mine.refuses("ram", command, first[0], *of)
    assert answers(Caller(mine, first)) is None
    second = key_of(mine.admin("ram", "create-access-key", "--root", *of))
    mine.admin("ram", "delete-access-key", first[0], *of)
    assert answers(Caller(mine, second)) is None
    mine.admin("ram", "disable-access-key", second[0], "--force", *of)
    within_a_second(Caller(mine, second), "InvalidAccessKeyId.Inactive")
    assert "no access key" in mine.refuses("ram", "delete-access-key", second[0]), "it is another account's"


def test_users_and_keys_are_limited_by_name(own_server):
    server = own_server(ram_user_max=1, access_key_max=2)
    assert "ram_user_max" in server.refuses("ram", "create-user", "--user", "carol", "--ram-user-max", "0")
    server.admin("ram", "create-user", "--user", "alice")
    assert "ram_user_max" in server.refuses("ram", "create-user", "--user", "bob")
    assert "ram_user_max" in server.refuses("ram", "create-access-key", "--user", "bob")
    key = server.create_access_key("alice")[0]
    server.admin("ram", "rotate-access-key", key)
    assert "access_key_max" in server.refuses("ram", "create-access-key", "--user", "alice")
    assert "access_key_max" in server.refuses("ram", "rotate-access-key", key)
    assert "still work" in server.refuses("ram", "delete-user", "--user", "alice")
    server.admin("ram", "delete-user", "--user", "alice", "--force")
    assert server.admin("ram", "list-users", "--json") == ""


def put_policy(server, name, *statements):
    document = json.dumps({"Version": "1", "Statement": statements})
    return server.admin("ram", "put-policy", "--user", name, "--file", "-", input=document)


def test_a_policy_acts_within_a_second(mine, tmp_path):
    name = unique("reader")
    caller, _ = user(mine, name)
    make = {"action": "CreateProduct", "parameters": {"ProductName": "x", "NodeType": 0}}
    assert answers(caller, **make) == "iot.prod.InvalidFormattedProductName", "everything is allowed"
    put_policy(mine, name, {"Effect": "Allow", "Action": ["iot:Query*"], "Resource": "*"})
    within_a_second(caller, "NoPermission", **make)
    assert answers(caller) is None
    deny = {"Effect": "Deny", "Action": "iot:QueryProductList"}
    put_policy(mine, name, {"Effect": "Allow", "Action": "*"}, deny)
    within_a_second(caller, "NoPermission")
    assert json.loads(mine.admin("ram", "get-policy", "--user", name))["Statement"][1] == deny
    mine.admin("ram", "delete-policy", "--user", name)
    within_a_second(caller, None)
    assert "everything" in mine.refuses("ram", "get-policy", "--user", name)

    file = tmp_path / "policy.json"
    file.write_text('{"Statement": [{"Effect": "Allow", "NotAction": "iot:CreateProduct"}]}')
    assert "NotAction" in mine.refuses("ram", "put-policy", "--user", name, "--file", str(file))
    assert answers(caller, **make) == "iot.prod.InvalidFormattedProductName", "a refused policy changes nothing"


def test_an_sdk_is_told_that_it_has_no_permission(mine):
    name = unique("reader")
    key = mine.create_access_key(name)
    put_policy(mine, name, {"Effect": "Deny", "Action": "*"})
    with pytest.raises(TeaException) as refused:
        Backend(mine, key).call("QueryProductList", current_page=1, page_size=1)
    assert refused.value.code == "NoPermission" and refused.value.statusCode == 403


def test_the_audit_log_says_who_did_what(mine):
    name = unique("user")
    caller, key = user(mine, name)
    made = caller.ok("CreateProduct", {"ProductName": unique("prod"), "NodeType": 0})
    caller.call("CreateProduct", {"ProductName": "x", "NodeType": 0})
    caller.call("QueryProductList", PAGE)
    refused, done, command = lines(mine.admin("audit", "--user", name, "--since", "1h", "--json"))
    assert (refused["Action"], refused["Outcome"]) == ("CreateProduct", "iot.prod.InvalidFormattedProductName")
    assert (done["Outcome"], done["RequestId"], done["AccessKeyId"]) == ("ok", made["RequestId"], key)
    assert f"ProductKey={made['ProductKey']}" in done["Subject"]
    assert (command["Action"], command["AccessKeyId"]) == ("ram create-access-key", key)
    assert command["OsUser"] and command["Account"] == "root"
    everything = mine.admin("audit", "--limit", "0")
    assert made["ProductKey"] in everything
    assert made["Data"]["ProductSecret"] not in everything and caller.secret not in everything
    assert lines(mine.admin("audit", "--user", name, "--limit", "1", "--json")) == [refused]


def test_the_audit_log_survives_a_kill(own_server):
    server = own_server(quota_scale=0)
    acknowledged = []
    some = threading.Event()

    def create():
        caller = Caller(server)
        try:
            while True:
                made = caller.ok("CreateProduct", {"ProductName": unique("prod"), "NodeType": 0})
                acknowledged.append(made["RequestId"])
                if len(acknowledged) >= 50:
                    some.set()
        except Exception:  # the connection breaks in whatever way
            some.set()

    workers = [threading.Thread(target=create) for _ in range(4)]
    for worker in workers:
        worker.start()
    assert some.wait(30)
    server.kill()
    for worker in workers:
        worker.join()
    assert len(acknowledged) >= 50
    told = {line["RequestId"] for line in lines(server.admin("audit", "--limit", "0", "--json"))}
    assert set(acknowledged) <= told


def sts(server, *arguments):
    """A temporary key, made beside the running server."""
    return json.loads(server.admin("ram", "create-sts-token", *arguments))


def test_temporary_keys_work_with_the_official_sdks(mine, tmp_path):
    name = unique("ci")
    mine.admin("ram", "create-user", "--user", name)
    session = tmp_path / "session.json"
    session.write_text('{"Statement": [{"Effect": "Allow", "Action": "iot:QueryProductList"}]}')
    made = sts(mine, "--user", name, "--duration-seconds", "900", "--policy", str(session), "--session-name", "build-7")
    assert made["AccessKeyId"].startswith("STS.") and made["RamUser"] == name
    key, token = (made["AccessKeyId"], made["AccessKeySecret"]), made["SecurityToken"]

    for signature in {}, {"signature_algorithm": "v2"}:
        backend = Backend(mine, key, security_token=token, **signature)
        assert backend.ok("QueryProductList", current_page=1, page_size=10)
        with pytest.raises(TeaException) as refused:
            backend.call("CreateProduct", product_name=unique("prod"), node_type=0)
        assert refused.value.code == "NoPermission"
        with pytest.raises(TeaException) as refused:
            Backend(mine, key, security_token="token", **signature).call("QueryProductList", current_page=1, page_size=10)
        assert refused.value.code == "InvalidSecurityToken.Malformed"

    client = AcsClient(region_id="cn-shanghai", credential=StsTokenCredential(*key, token), auto_retry=False)
    client.add_endpoint("cn-shanghai", "Iot", mine.api)
    request = QueryProductListRequest()
    request.set_CurrentPage(1)
    request.set_PageSize(10)
    assert json.loads(client.do_action_with_exception(request))["Success"] is True

    caller = Caller(mine, key)
    assert answers(caller) == "MissingSecurityToken"
    with_token = lambda: code_or_none(caller.call("QueryProductList", PAGE, SecurityToken=token))
    assert with_token() is None
    line = lines(mine.admin("audit", "--json", "--limit", "20"))
    told = next(row for row in line if row["AccessKeyId"] == key[0] and row["Action"] == "ram create-sts-token")
    assert told["RamUser"] == name and "SessionName=build-7" in told["Subject"]
    assert token not in str(line) and token.encode() not in b"".join(
        file.read_bytes() for file in mine.data_dir.glob("updraft.db*")
    )
    mine.admin("ram", "delete-user", "--user", name)
    wait_for(lambda: with_token() == "InvalidAccessKeyId.NotFound", timeout=1)


def code_or_none(answer):
    return None if answer.status == 200 and answer.json["Success"] else code(answer)


def test_temporary_keys_are_made_within_limits_and_revoked(mine, tmp_path):
    name = unique("limited")
    assert f"no user {name}" in mine.refuses("ram", "create-sts-token", "--user", name)
    mine.admin("ram", "create-user", "--user", name)
    of_user = "ram", "create-sts-token", "--user", name
    assert mine.command(*of_user, "--duration-seconds", "899").returncode == 2
    assert mine.command(*of_user, "--duration-seconds", "43201").returncode == 2
    assert "session name" in mine.refuses(*of_user, "--session-name", "a b")
    policy = tmp_path / "long.json"
    policy.write_text('{"Statement": [{"Effect": "Allow", "Action": "*"}]}' + " " * 2048)
    assert "2048" in mine.refuses(*of_user, "--policy", str(policy))
    made = sts(mine, "--user", name)
    assert "sts_key_max" in mine.refuses(*of_user, "--sts-key-max", "1")
    caller = Caller(mine, (made["AccessKeyId"], made["AccessKeySecret"]))
    asked = lambda: code_or_none(caller.call("QueryProductList", PAGE, SecurityToken=made["SecurityToken"]))
    assert asked() is None
    assert json.loads(mine.admin("ram", "revoke-sts-tokens", "--user", name)) == {"Revoked": 1}
    wait_for(lambda: asked() == "InvalidAccessKeyId.NotFound", timeout=1)
    assert sts(mine, "--root")["RamUser"] is None
