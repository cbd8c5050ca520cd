"""A device on the official Python SDK (`aliyun-iot-linkkit`): reports its version, takes what it is
pushed, downloads it with the SDK, reports progress and the new version.

It subscribes to nothing: the SDK relies on the server for that (`_ss=1` in its client id).
Events go to stdout, one JSON object a line; commands come from stdin, one a line; its end ends the
device. See support/devices.py for the events and commands.
"""

import argparse
import hashlib
import itertools
import json
import logging
import os
import queue
import re
import sys
import tempfile
import threading

from linkkit.linkkit import LinkKit

parser = argparse.ArgumentParser()
parser.add_argument("--host", required=True)
parser.add_argument("--port", required=True, type=int)
parser.add_argument("--product-key", required=True)
parser.add_argument("--device-name", required=True)
parser.add_argument("--device-secret", default="")
parser.add_argument("--register", choices=["register", "regnwl"], help="first fetch a secret, or a token")
parser.add_argument("--product-secret", help="what it registers with")
parser.add_argument("--instance", help="the instance that it names then")
parser.add_argument("--version", default="1.0.0")
parser.add_argument("--module", help="NAME=VERSION of a second module; more of them behind commas")
parser.add_argument("--fail", type=int, help="after the download report this negative step and stop")
parser.add_argument("--hold", action="store_true", help="wait at 50 percent for the command go")
parser.add_argument("--ignore", action="store_true", help="take note of pushes and do nothing")
parser.add_argument("--protocol", default="MQTTv311", choices=["MQTTv311", "MQTTv31"])
parser.add_argument("--keep-alive", default=60, type=int)
parser.add_argument("--persistent", action="store_true", help="keep the session over reconnects")
parser.add_argument("--ca-file", help="connect by TLS, trusting this CA")
arguments = parser.parse_args()

printing = threading.Lock()
connected = threading.Event()
go = threading.Event()
pushes = queue.Queue()
message_ids = itertools.count(1)
versions = {"default": arguments.version}  # by module; so the SDK calls the whole firmware
if arguments.module:
    versions |= dict(module.split("=") for module in arguments.module.split(","))


def emit(event, **fields):
    with printing:
        print(json.dumps({"event": event, **fields}), flush=True)


class Connack(logging.Handler):
    """The SDK tells its application nothing about a refused login; the log of its MQTT client does."""

    def emit(self, record):
        answer = re.match(r"Received CONNACK \(\d+, (\d+)\)", record.getMessage())
        if answer:
            emit("connack", code=int(answer.group(1)))


logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
logging.getLogger("Paho").addHandler(Connack())


def configure(made):
    made.enable_logger(logging.DEBUG)  # the answer to CONNECT is logged at this level
    made.config_mqtt(
        port=arguments.port,
        protocol=arguments.protocol,
        secure="TLS" if arguments.ca_file else "",
        keep_alive=arguments.keep_alive,
        clean_session=not arguments.persistent,
        auto_reconnect_max_sec=1,  # tests have no minutes to wait
        cadata=open(arguments.ca_file, encoding="ascii").read() if arguments.ca_file else None,
        endpoint=arguments.host,
    )
    return made


def registered():
    """Registers by MQTT, as the SDK does it; what a device logs in with then."""
    answers = queue.Queue()
    newcomer = configure(
        LinkKit(
            host_name=arguments.host,
            product_key=arguments.product_key,
            device_name=arguments.device_name,
            device_secret="",
            product_secret=arguments.product_secret,
            auth_type=arguments.register,
            instance_id=arguments.instance,
        )
    )
    newcomer.on_device_dynamic_register = lambda rc, secret, _: answers.put((rc, {"device_secret": secret}))
    newcomer.on_device_dynamic_register_nwl_reply = lambda rc, client_id, username, password: answers.put(
        (rc, {"device_secret": "", "client_id": client_id, "username": username, "password": password})
    )
    newcomer.connect_async()
    code, given = answers.get()
    emit("registered", code=code, **given)
    if code != 0:
        os._exit(1)
    return given


given = registered() if arguments.register else {"device_secret": arguments.device_secret}
kit = configure(
    LinkKit(
        host_name=arguments.host,
        product_key=arguments.product_key,
        device_name=arguments.device_name,
        **given,
    )
)


def publish(kind, params):
    """Publishes on one of the OTA topics, for which the SDK has no call; waits out a reconnection."""
    topic = f"/ota/device/{kind}/{arguments.product_key}/{arguments.device_name}"
    payload = json.dumps({"id": str(next(message_ids)), "params": params})
    while True:
        connected.wait()
        try:
            code, _ = kit.publish_topic(topic, payload, qos=1)
        except OSError:
            # Over TLS the SDK writes and reads from two threads, which Python's ssl does not always survive;
            # the SDK then connects again.
            code = None
        if code == 0:
            return
        connected.clear()


def named(module):
    """The module as messages name it."""
    return None if module == "default" else module


def progress(step, desc="", module="default"):
    of = {"module": module} if named(module) else {}
    publish("progress", {"step": str(step), "desc": desc} | of)
    emit("progress", step=step, module=module)


def report(new, module="default"):
    versions[module] = new
    kit.ota_report_version(named(module), new)
    emit("version", version=new, module=module)


def upgrade(push):
    module = push["module"]
    if push["version"] == versions[module]:
        return  # a repeated push
    progress(0, "download", module)
    path = os.path.join(tempfile.mkdtemp(), "package")
    result = kit.download_ota_firmware(push["url"], path, push["sign_method"], push["sign"])
    ok = result is LinkKit.ErrorCode.SUCCESS
    content = open(path, "rb").read() if ok else b""
    emit("downloaded", ok=ok, result=str(result), size=len(content), md5=hashlib.md5(content).hexdigest())
    if arguments.fail is not None or not ok:
        progress(arguments.fail or -2, "as asked" if ok else str(result), module)
        return
    progress(50, module=module)
    if arguments.hold:
        emit("holding")
        go.wait()
    progress(100, module=module)
    report(push["version"], module)


def work():
    while True:
        upgrade(pushes.get())


def on_connect(session_flag, rc, user_data):
    if rc != 0:
        emit("unreachable", code=rc)
        return
    connected.set()
    emit("connected", session_present=bool(session_flag))
    for module, version in list(versions.items()):
        report(version, module)


def on_disconnect(rc, user_data):
    connected.clear()
    emit("disconnected", code=rc)


def on_ota(kind, new, size, url, sign_method, sign, module, extra):
    push = {
        "kind": {1: "push", 2: "pull"}[kind],
        "version": new,
        "size": size,
        "url": url,
        "sign_method": sign_method,
        "sign": sign,
        "module": module,
        "extra": extra,
    }
    emit("push", **push)
    if not arguments.ignore:
        pushes.put(push)


kit.on_connect = on_connect
kit.on_disconnect = on_disconnect
kit.on_ota_message_arrived = on_ota
threading.Thread(target=work, daemon=True).start()
kit.connect_async()

for line in sys.stdin:
    command, *rest = line.split()
    if command == "go":
        go.set()
    elif command == "pull":
        kit.query_ota_firmware(*rest)
    elif command == "progress":
        progress(int(rest[0]))
    elif command == "report":
        report(rest[0])
os._exit(0)  # the SDK's threads are no daemons
