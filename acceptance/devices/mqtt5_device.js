// A device on mqtt.js 5 alone; events, commands and options are those of paho_device.py.
'use strict';

const crypto = require('crypto');
const readline = require('readline');
const { parseArgs } = require('util');
const mqtt = require('mqtt5');

const { values: options } = parseArgs({
  options: {
    host: { type: 'string' },
    port: { type: 'string' },
    'product-key': { type: 'string' },
    'device-name': { type: 'string' },
    'device-secret': { type: 'string' },
    mqtt: { type: 'string', default: '5' },
    keep: { type: 'string', default: '0' }, // keep the session for so many seconds
    'receive-max': { type: 'string', default: '100' },
    'alias-max': { type: 'string', default: '0' },
    hold: { type: 'boolean', default: false }, // acknowledge nothing
  },
});

function emit(event, fields = {}) {
  process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);
}

const [name, key] = [options['device-name'], options['product-key']];
const modern = options.mqtt === '5';
const keep = Number(options.keep);
const client = mqtt.connect({
  host: options.host,
  port: Number(options.port),
  protocolVersion: Number(options.mqtt),
  clientId: `${name}|securemode=3,signmethod=hmacsha256|`,
  username: `${name}&${key}`,
  password: crypto.createHmac('sha256', options['device-secret'])
    .update(`clientId${name}deviceName${name}productKey${key}`).digest('hex'),
  clean: keep === 0,
  reconnectPeriod: 0,
  properties: modern ? {
    receiveMaximum: Number(options['receive-max']),
    topicAliasMaximum: Number(options['alias-max']),
    ...(keep ? { sessionExpiryInterval: keep } : {}),
  } : undefined,
});

let said = null;
// Before mqtt.js puts the topic in the place of its alias.
client.on('packetreceive', (packet) => {
  switch (packet.cmd) {
    case 'suback': return emit('subscribed', { codes: packet.granted });
    case 'unsuback': return emit('unsubscribed', { codes: packet.granted });
    case 'puback': return emit('published', { code: packet.reasonCode ?? 0 });
    default: return undefined;
  }
});
client.on('connect', (connack) => {
  emit('connected', { present: connack.sessionPresent, properties: connack.properties ?? {} });
});
client.on('message', (topic, payload, packet) => emit('message', {
  topic,
  payload: payload.toString(),
  again: packet.dup,
  id: packet.messageId ?? 0,
  alias: packet.properties?.topicAlias ?? null,
}));
client.on('disconnect', (packet) => { said = packet.reasonCode; });
client.on('error', (error) => { if (typeof error.code === 'number') emit('refused', { code: error.code }); });
client.on('close', () => emit('disconnected', { code: said }));
if (options.hold) client.handleMessage = () => {};

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const command = JSON.parse(line);
  // What the server refuses is an event here, not an error.
  const done = () => {};
  switch (command.do) {
    case 'subscribe':
      client.subscribe(Object.fromEntries(command.filters.map(([filter, qos]) => [filter, { qos }])), done);
      break;
    case 'unsubscribe': client.unsubscribe(command.filters, done); break;
    case 'publish': client.publish(command.topic, command.payload, { qos: 1 }, done); break;
    case 'disconnect': client.end(); break;
    default: throw new Error(`no command ${line}`);
  }
}).on('close', () => process.exit(0));
