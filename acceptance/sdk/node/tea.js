// The smoke story with `@alicloud/iot20180120` (header signature).
'use strict';

const iot = require('@alicloud/iot20180120');
const tea = require('@alicloud/tea-typescript');
const { Config } = require('@alicloud/openapi-client');
const tell = require('./story');

const { SDK_ENDPOINT: endpoint, SDK_PROTOCOL: protocol } = process.env;

tell({
  async call({ id, secret }, action, parameters) {
    const client = new iot.default(new Config({ accessKeyId: id, accessKeySecret: secret, endpoint, protocol }));
    const request = tea.cast(parameters, new iot[`${action}Request`]({}));
    const answer = await client[action[0].toLowerCase() + action.slice(1)](request);
    return tea.toMap(answer.body);
  },
  // A business failure is an answer, a gateway failure is thrown.
  refusal(error, body) {
    return error ? { code: error.code, message: error.message, thrown: true } : { code: body.Code, message: body.ErrorMessage, thrown: false };
  },
});
