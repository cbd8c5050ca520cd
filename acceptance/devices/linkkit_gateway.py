"""A gateway on the official Python SDK (`aliyun-iot-linkkit`) with one device behind it: adds the topology, logs the
device in with a batch, reports its version, takes what it is pushed, downloads it, reports progress and the new version.

It subscribes to nothing. Events are those of linkkit_device.py, of the device behind the gateway, and `topo` and
`login` (code, data), `error` (code; what comes on /ext/error), `change` (params); commands: `logout`, `delete`.
"""

import argparse
import hashlib
import json
import queue
import sys
import threading
import urllib.request

from linkkit.linkkit import LinkKit

parser = argparse.ArgumentParser()
for name in ("host", "product-key", "device-name", "device-secret", "sub-product-key", "sub-name", "sub-secret"):
    parser.add_argument(f"--{name}", required=True)
parser.add_argument("--port", required=True, type=int)
arguments = parser.parse_args()

SUB = [arguments.sub_product_key, arguments.sub_name, arguments.sub_secret]
OWNER = f"{SUB[0]}/{SUB[1]}"
printing = threading.Lock()
pushes = queue.Queue()


def emit(event, **fields):
    with printing:
        print(json.dumps({"event": event, **fields}), flush=True)


kit = LinkKit(
    host_name=arguments.host,
    product_key=arguments.product_key,
    device_name=arguments.device_name,
    device_secret=arguments.device_secret,
)
kit.config_mqtt(port=arguments.port, secure="", endpoint=arguments.host, auto_reconnect_max_sec=1)


def publish(kind, params):
    kit.publish_topic(f"/ota/device/{kind}/{OWNER}", json.dumps({"id": "1", "params": params}), qos=1)


def report(version):
    publish("inform", {"version": version})
    emit("version", version=version)


def progress(step):
    publish("progress", {"step": str(step), "desc": ""})
    emit("progress", step=step)


def work():
    while True:
        data = pushes.get()["data"]
        progress(0)
        with urllib.request.urlopen(data["url"]) as answer:
            content = answer.read()
        digest = hashlib.md5(content).hexdigest()
        emit("downloaded", ok=digest == data["sign"], size=len(content), md5=digest)
        progress(100)
        report(data["version"])


def on_topo(_request, code, data, _message, _user):
    emit("topo", code=code, data=data)
    if code == 200 and data and not done.is_set():
        kit.gateway_login_subdev([SUB])


def on_login(_request, code, data, _message, _user):
    emit("login", code=code, data=data)
    if code == 200:
        report("1.0.0")


def on_message(topic, payload, _qos, _user):
    if topic == f"/ota/device/upgrade/{OWNER}":
        push = json.loads(payload)
        emit("push", version=push["data"]["version"], size=push["data"]["size"])
        pushes.put(push)
    elif topic.startswith("/ext/error/"):
        emit("error", **json.loads(payload))


done = threading.Event()
kit.on_gateway_add_subdev_topo_reply = on_topo
kit.on_gateway_delete_subdev_topo_reply = lambda _id, code, data, _message, _user: emit("deleted", code=code, data=data)
kit.on_gateway_login_subdev_reply = on_login
kit.on_gateway_logout_subdev_reply = lambda _id, code, data, _message, _user: emit("logout", code=code, data=data)
kit.on_gateway_topo_change = lambda _id, params, _user: emit("change", params=params)
kit.on_topic_message = on_message


def on_connect(_session, code, _user):
    emit("connected" if code == 0 else "unreachable", code=code)
    if code == 0:
        kit.gateway_add_subdev_topo([SUB])


kit.on_connect = on_connect
threading.Thread(target=work, daemon=True).start()
kit.connect_async()
for line in sys.stdin:
    if line.strip() == "logout":
        kit.gateway_logout_subdev([SUB[:2]])
    elif line.strip() == "delete":
        done.set()
        kit.gateway_delete_subdev_topo([SUB[:2]])
