"""A device without MQTT, on Python's standard library alone: it logs in, tells its version, asks until there is an
update, downloads it, and tells its new version. Events go to stdout, one JSON object a line.
"""

import argparse
import hashlib
import hmac
import json
import time
import urllib.request

parser = argparse.ArgumentParser()
parser.add_argument("--server", required=True, help="HOST:PORT")
parser.add_argument("--product-key", required=True)
parser.add_argument("--device-name", required=True)
parser.add_argument("--device-secret", required=True)
parser.add_argument("--version", default="1.0.0")
parser.add_argument("--legacy", action="store_true", help="ask on the topic of Link SDKs for C 2.x and 3.x")
arguments = parser.parse_args()

identity = f"{arguments.product_key}/{arguments.device_name}"


def emit(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def post(path, body, **headers):
    request = urllib.request.Request(f"http://{arguments.server}{path}", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        said = json.load(answer)
    assert said["code"] == 0, said
    return said["info"]


def login():
    content = f"clientIdhttpdeviceName{arguments.device_name}productKey{arguments.product_key}"
    sign = hmac.new(arguments.device_secret.encode(), content.encode(), hashlib.sha256).hexdigest()
    said = {"productKey": arguments.product_key, "deviceName": arguments.device_name, "clientId": "http"}
    json_type = {"Content-Type": "application/json"}
    return post("/auth", said | {"signmethod": "hmacsha256", "sign": sign}, **json_type)["token"]


token = login()


def say(topic, params):
    return post(f"/topic{topic}", {"id": "1", "params": params}, password=token).get("data")


def asked():
    if arguments.legacy:
        return say(f"/ota/device/request/{identity}", {"version": arguments.version})
    return say(f"/sys/{identity}/thing/ota/firmware/get", {})


say(f"/ota/device/inform/{identity}", {"version": arguments.version})
emit("version", version=arguments.version)
while not (package := asked()):
    time.sleep(0.2)
emit("push", **package)
say(f"/ota/device/progress/{identity}", {"step": "0", "desc": "download"})
with urllib.request.urlopen(package["url"], timeout=20) as answer:
    content = answer.read()
digest = {"Md5": hashlib.md5, "SHA256": hashlib.sha256}[package["signMethod"]](content).hexdigest()
ok = digest == package["sign"] and len(content) == package["size"]
emit("downloaded", ok=ok, md5=hashlib.md5(content).hexdigest())
say(f"/ota/device/progress/{identity}", {"step": "100" if ok else "-3", "desc": ""})
if ok:
    say(f"/ota/device/inform/{identity}", {"version": package["version"]})
    emit("version", version=package["version"])
