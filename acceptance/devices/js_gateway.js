// A gateway on an official JavaScript SDK (option sdk: `alibabacloud-iot-device-sdk` or the older
// `aliyun-iot-device-sdk`) with one device behind it: topology, login, the device's OTA topics subscribed by hand, a
// download in ranges, progress and the new version. Events are those of linkkit_gateway.py.
'use strict';

const crypto = require('crypto');
const http = require('http');
const { parseArgs } = require('util');

const text = { type: 'string' };
const { values: options } = parseArgs({
  options: {
    host: text, port: text, 'product-key': text, 'device-name': text, 'device-secret': text,
    'sub-product-key': text, 'sub-name': text, 'sub-secret': text, sdk: text,
  },
});
const iot = require(options.sdk);

const sub = {
  productKey: options['sub-product-key'],
  deviceName: options['sub-name'],
  deviceSecret: options['sub-secret'],
};
const owner = `${sub.productKey}/${sub.deviceName}`;
const upgrade = `/ota/device/upgrade/${owner}`;
let messageId = 0;

function emit(event, fields = {}) {
  process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);
}

const gateway = iot.gateway({
  productKey: options['product-key'],
  deviceName: options['device-name'],
  deviceSecret: options['device-secret'],
  brokerUrl: `mqtt://${options.host}:${options.port}/`,
});

function publish(kind, params) {
  messageId += 1;
  const payload = JSON.stringify({ id: String(messageId), params });
  return new Promise((resolve, reject) => {
    gateway.publish(`/ota/device/${kind}/${owner}`, payload, { qos: 1 }, (error) => (error ? reject(error) : resolve()));
  });
}

async function report(version) {
  await publish('inform', { version });
  emit('version', { version });
}

async function progress(step) {
  await publish('progress', { step: String(step), desc: '' });
  emit('progress', { step });
}

function range(url, first, last) {
  return new Promise((resolve, reject) => {
    http.get(url, { headers: { Range: `bytes=${first}-${last}` } }, (response) => {
      const parts = [];
      response.on('data', (part) => parts.push(part));
      response.on('end', () => (response.statusCode === 206 ? resolve(Buffer.concat(parts)) : reject(new Error(`${response.statusCode}`))));
    }).on('error', reject);
  });
}

async function update(data) {
  await progress(0);
  const parts = [];
  for (let first = 0; first < data.size; first += 4096) {
    parts.push(await range(data.url, first, Math.min(first + 4096, data.size) - 1));
  }
  const content = Buffer.concat(parts);
  const md5 = crypto.createHash('md5').update(content).digest('hex');
  emit('downloaded', { ok: md5 === data.sign, size: content.length, md5, requests: parts.length });
  await progress(100);
  await report(data.version);
}

let updating = false;
gateway.on('message', (topic, payload) => {
  if (topic === upgrade && !updating) {
    updating = true;
    const push = JSON.parse(payload.toString());
    emit('push', { version: push.data.version, size: push.data.size });
    update(push.data).catch((error) => emit('error', { message: String(error) }));
  } else if (topic.startsWith('/ext/error/')) {
    emit('error', JSON.parse(payload.toString()));
  }
});

let begun = false;
gateway.on('connect', () => {
  emit('connected');
  if (begun) return;
  begun = true;
  gateway.addTopo([sub], (added) => {
    emit('topo', { code: added.code, data: added.data });
    gateway.getTopo((listed) => {
      emit('listed', { code: listed.code, data: listed.data });
      const device = gateway.login(sub, (answer) => {
        emit('login', { code: answer.code, data: answer.data });
        gateway.subscribe(upgrade, { qos: 1 }, (error, granted) => {
          emit('subscribed', { granted: granted && granted.map((one) => one.qos) });
          report('1.0.0');
        });
      });
      device.on('error', () => {});
    });
  });
});
process.stdin.resume();
process.stdin.on('end', () => process.exit());
