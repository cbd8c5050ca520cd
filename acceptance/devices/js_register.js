// Registers a device by HTTP with the official JavaScript SDK, and prints its answer as one line of JSON.
// The argument is what `iot.register` takes, as JSON.
'use strict';

const iot = require('alibabacloud-iot-device-sdk');

iot.register(JSON.parse(process.argv[2]), (answer) => {
  process.stdout.write(`${JSON.stringify(answer)}\n`);
});
