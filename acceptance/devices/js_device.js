// A device on the official JavaScript SDK (`alibabacloud-iot-device-sdk`): subscribes to the OTA
// topics itself (its client id has no `_ss=1`), downloads in ranges, checks the digest, reports
// progress and the new version.
//
// Events, commands and options are those of linkkit_device.py; see support/devices.py.
'use strict';

const crypto = require('crypto');
const http = require('http');
const readline = require('readline');
const { parseArgs } = require('util');
const iot = require('alibabacloud-iot-device-sdk');

const { values: options } = parseArgs({
  options: {
    host: { type: 'string' },
    port: { type: 'string' },
    'product-key': { type: 'string' },
    'device-name': { type: 'string' },
    'device-secret': { type: 'string' },
    version: { type: 'string', default: '1.0.0' },
    fail: { type: 'string' }, // after the download report this negative step and stop
    hold: { type: 'boolean', default: false }, // wait at 50 percent for the command go
    ignore: { type: 'boolean', default: false }, // take note of pushes and do nothing
    tls: { type: 'boolean', default: false }, // the CA comes from NODE_EXTRA_CA_CERTS
    range: { type: 'string', default: '4096' }, // bytes per download request
  },
});

const identity = `${options['product-key']}/${options['device-name']}`;
const topics = {
  inform: `/ota/device/inform/${identity}`,
  progress: `/ota/device/progress/${identity}`,
  upgrade: `/ota/device/upgrade/${identity}`,
  get: `/sys/${identity}/thing/ota/firmware/get`,
  reply: `/sys/${identity}/thing/ota/firmware/get_reply`,
};

let version = options.version;
let messageId = 0;
let release;
const go = new Promise((resolve) => { release = resolve; });

function emit(event, fields = {}) {
  process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);
}

const device = iot.device({
  productKey: options['product-key'],
  deviceName: options['device-name'],
  deviceSecret: options['device-secret'],
  brokerUrl: `${options.tls ? 'mqtts' : 'mqtt'}://${options.host}:${options.port}/`,
});

// Resolves once the server has acknowledged the message.
function publish(topic, params) {
  messageId += 1;
  const payload = JSON.stringify({ id: String(messageId), params });
  return new Promise((resolve, reject) => {
    device.publish(topic, payload, { qos: 1 }, (error) => (error ? reject(error) : resolve()));
  });
}

async function progress(step, desc = '') {
  await publish(topics.progress, { step: String(step), desc });
  emit('progress', { step });
}

async function report(reported) {
  version = reported;
  await publish(topics.inform, { version });
  emit('version', { version });
}

function getRange(url, first, last) {
  return new Promise((resolve, reject) => {
    const request = http.get(url, { headers: { Range: `bytes=${first}-${last}` } }, (response) => {
      const parts = [];
      response.on('data', (part) => parts.push(part));
      response.on('error', reject);
      response.on('end', () => {
        const body = Buffer.concat(parts);
        const range = response.headers['content-range'];
        if (response.statusCode !== 206 || range === undefined || range.split('/')[0] !== `bytes ${first}-${last}`) {
          reject(new Error(`asked for bytes ${first}-${last}, got ${response.statusCode} ${range}`));
        } else {
          resolve(body);
        }
      });
    });
    request.on('error', reject);
  });
}

async function downloadFile(file, signMethod) {
  const parts = [];
  for (let first = 0; first < file.size; first += Number(options.range)) {
    const last = Math.min(first + Number(options.range), file.size) - 1;
    parts.push(await getRange(file.url, first, last)); // one request after the other, as a device does
  }
  const content = Buffer.concat(parts);
  const method = { Md5: 'md5', SHA256: 'sha256' }[signMethod];
  const ok = crypto.createHash(method).update(content).digest('hex') === file.sign;
  emit('downloaded', {
    ok,
    name: file.name,
    requests: parts.length,
    size: content.length,
    md5: crypto.createHash('md5').update(content).digest('hex'),
  });
  return ok;
}

// A package of several files has them in a list, under names of their own.
async function download(data) {
  const several = data.files?.map((file) => ({
    name: file.fileName, size: file.fileSize, url: file.fileUrl, sign: file.fileSign,
  }));
  for (const file of several ?? [data]) {
    if (!(await downloadFile(file, data.signMethod))) return false;
  }
  return true;
}

async function upgrade(data) {
  if (data.version === version) return; // a repeated push
  await progress(0, 'download');
  const ok = await download(data);
  if (options.fail !== undefined || !ok) {
    await progress(options.fail === undefined ? -3 : Number(options.fail), ok ? 'as asked' : 'wrong digest');
    return;
  }
  await progress(50);
  if (options.hold) {
    emit('holding');
    await go;
  }
  await progress(100);
  await report(data.version);
}

// One upgrade at a time, in the order of the pushes.
let upgrades = Promise.resolve();

device.on('message', (topic, payload) => {
  if (topic !== topics.upgrade && topic !== topics.reply) return;
  const message = JSON.parse(payload.toString());
  const kind = topic === topics.upgrade ? 'push' : 'pull';
  if (message.data.version === undefined) {
    emit('nothing', { kind, message });
    return;
  }
  const { data } = message;
  emit('push', {
    kind,
    version: data.version,
    size: data.size,
    url: data.url,
    sign_method: data.signMethod,
    sign: data.sign,
    message,
    text: payload.toString(),
    at: Date.now(),
  });
  if (options.ignore) return;
  upgrades = upgrades
    .then(() => upgrade(data))
    .catch((error) => {
      emit('error', { message: error.message });
      return progress(-2, error.message);
    });
});

device.on('connect', () => {
  emit('connected');
  device.subscribe([topics.upgrade, topics.reply], { qos: 1 }, (error, granted) => {
    emit('subscribed', { error: error ? error.message : null, granted });
    report(version).catch((failure) => emit('error', { message: failure.message }));
  });
});
// The SDK hands the event's arguments on as one array.
device.on('error', ([error]) => emit('connack', { code: error.code, message: error.message }));
device.on('close', () => emit('disconnected'));

// Reports 1, 2, 3, … percent, each after the acknowledgement of the one before.
async function stream() {
  for (let step = 1; step < 100; step += 1) {
    await publish(topics.progress, { step: String(step), desc: '' });
    emit('acknowledged', { step });
  }
}

const input = readline.createInterface({ input: process.stdin });
input.on('line', (line) => {
  const [command, argument] = line.trim().split(/\s+/);
  if (command === 'go') release();
  else if (command === 'pull') publish(topics.get, {});
  else if (command === 'progress') progress(Number(argument));
  else if (command === 'report') report(argument);
  else if (command === 'stream') stream();
});
input.on('close', () => process.exit(0));
