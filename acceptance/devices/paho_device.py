"""A device on paho-mqtt 2 alone, as users of MQTT 5 write one; the same is mqtt5_device.js on mqtt.js 5.

Events, one JSON object a line on stdout: `connected` (present, properties), `refused` (code), `subscribed`,
`unsubscribed` (codes), `published` (code), `message` (topic, payload, again, id, alias), `disconnected` (code, if
the server said one). Commands from stdin, JSON: {"do": "subscribe", "filters": [[FILTER, QOS], …]},
{"do": "unsubscribe", "filters": […]}, {"do": "publish", "topic": …, "payload": …}, {"do": "disconnect"}.
"""

import argparse
import hashlib
import hmac
import json
import sys

import paho.mqtt
from paho.mqtt.client import CallbackAPIVersion, Client, MQTTv5, MQTTv311
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

parser = argparse.ArgumentParser()
parser.add_argument("--host", required=True)
parser.add_argument("--port", required=True, type=int)
parser.add_argument("--product-key", required=True)
parser.add_argument("--device-name", required=True)
parser.add_argument("--device-secret", required=True)
parser.add_argument("--mqtt", default=5, type=int, choices=[4, 5])
parser.add_argument("--keep", default=0, type=int, help="keep the session for so many seconds")
parser.add_argument("--receive-max", default=100, type=int)
parser.add_argument("--alias-max", default=0, type=int)
parser.add_argument("--hold", action="store_true", help="acknowledge nothing")
arguments = parser.parse_args()
assert paho.mqtt.__version__.startswith("2."), paho.mqtt.__version__
modern = arguments.mqtt == 5


def emit(event, **fields):
    print(json.dumps({"event": event} | fields), flush=True)


def codes(reasons):
    return [reason.value for reason in reasons]


def on_connect(client, userdata, flags, reason, properties):
    if reason.is_failure:
        emit("refused", code=reason.value)
    else:
        said = properties.json() if modern else {}
        emit("connected", present=flags.session_present, properties=said)


def on_message(client, userdata, message):
    alias = getattr(message.properties, "TopicAlias", None) if modern else None
    fields = {"topic": message.topic, "payload": message.payload.decode(), "again": message.dup}
    emit("message", **fields, id=message.mid, alias=alias)


def on_disconnect(client, userdata, flags, reason, properties):
    said = flags.is_disconnect_packet_from_server
    emit("disconnected", code=reason.value if said else None)
    client.disconnect()


name, key = arguments.device_name, arguments.product_key
content = f"clientId{name}deviceName{name}productKey{key}".encode()
client = Client(
    CallbackAPIVersion.VERSION2,
    f"{name}|securemode=3,signmethod=hmacsha256|",
    protocol=MQTTv5 if modern else MQTTv311,
    clean_session=None if modern else arguments.keep == 0,
    manual_ack=arguments.hold,
    reconnect_on_failure=False,
)
secret = arguments.device_secret.encode()
client.username_pw_set(f"{name}&{key}", hmac.new(secret, content, hashlib.sha256).hexdigest())
client.on_connect, client.on_disconnect, client.on_message = on_connect, on_disconnect, on_message
client.on_subscribe = lambda client, userdata, mid, reasons, properties: emit("subscribed", codes=codes(reasons))
client.on_unsubscribe = lambda client, userdata, mid, reasons, properties: emit(
    "unsubscribed", codes=codes(reasons)
)
client.on_publish = lambda client, userdata, mid, reason, properties: emit("published", code=reason.value)
if modern:
    wishes = Properties(PacketTypes.CONNECT)
    wishes.ReceiveMaximum = arguments.receive_max
    wishes.TopicAliasMaximum = arguments.alias_max
    if arguments.keep:
        wishes.SessionExpiryInterval = arguments.keep
    client.connect(arguments.host, arguments.port, clean_start=arguments.keep == 0, properties=wishes)
else:
    client.connect(arguments.host, arguments.port)
client.loop_start()

for line in sys.stdin:
    command = json.loads(line)
    match command["do"]:
        case "subscribe" if modern:
            client.subscribe([(filter, SubscribeOptions(qos)) for filter, qos in command["filters"]])
        case "subscribe":
            client.subscribe([(filter, qos) for filter, qos in command["filters"]])
        case "unsubscribe":
            client.unsubscribe(command["filters"])
        case "publish":
            client.publish(command["topic"], command["payload"], qos=1)
        case "disconnect":
            client.disconnect()
