// A device on mqtt.js alone: logs in, reports its version, prints the answer to a ping of its own, and ends.
// Arguments: URL, client id, user name, password, product key, device name. The CA is in NODE_EXTRA_CA_CERTS.
const mqtt = require("mqtt");

const [url, clientId, username, password, productKey, deviceName] = process.argv.slice(2);
const client = mqtt.connect(url, { clientId, username, password, keepalive: 60, reconnectPeriod: 0 });
const say = (event, fields) => console.log(JSON.stringify({ event, ...fields }));

client.on("connect", () => {
  say("connected", {});
  const report = JSON.stringify({ id: "1", params: { version: "1.0.0" } });
  // Acknowledged once it is durable.
  client.publish(`/ota/device/inform/${productKey}/${deviceName}`, report, { qos: 1 }, (error) => {
    say("version", { ok: !error });
    client.end();
  });
});
client.on("error", (error) => say("error", { text: String(error) }));
client.on("close", () => say("closed", {}));
