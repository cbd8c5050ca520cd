// The smoke story with `@alicloud/pop-core` (signature in the parameters), by GET or by POST.
'use strict';

const { RPCClient } = require('@alicloud/pop-core');
const tell = require('./story');

const { SDK_ENDPOINT: endpoint, SDK_PROTOCOL: protocol, SDK_METHOD: method } = process.env;

tell({
  call({ id, secret }, action, parameters) {
    const client = new RPCClient({
      accessKeyId: id,
      accessKeySecret: secret,
      endpoint: `${protocol}://${endpoint}`,
      apiVersion: '2018-01-20',
    });
    return client.request(action, parameters, method === 'POST' ? { method } : {});
  },
  // This SDK throws for every body with a Code, and finds the text of gateway errors only.
  refusal(error, body) {
    if (!error) throw new Error(`no refusal: ${JSON.stringify(body)}`);
    return { code: error.code, message: error.data.ErrorMessage || error.data.Message, thrown: true };
  },
});
