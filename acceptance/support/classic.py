"""A back end on the older official SDK (`aliyun-python-sdk-core` with `aliyun-python-sdk-iot`)."""

import importlib
import json

from aliyunsdkcore.client import AcsClient

REGION = "cn-shanghai"


class ClassicBackend:
    """The SDK client; operations by name, parameters by their names on the wire."""

    def __init__(self, server, key=None):
        key_id, secret = key or server.root_key()
        # Retries only blur what a test sees; the SDK makes none for this product anyway.
        self.client = AcsClient(key_id, secret, REGION, auto_retry=False)
        self.client.add_endpoint(REGION, "Iot", server.api)

    def call(self, action, **parameters):
        """Calls an operation; the answer's JSON. A gateway error is the SDK's ServerException."""
        module = importlib.import_module(f"aliyunsdkiot.request.v20180120.{action}Request")
        request = getattr(module, f"{action}Request")()
        for name, value in parameters.items():
            getattr(request, f"set_{name}")(value)
        return json.loads(self.client.do_action_with_exception(request))

    def ok(self, action, **parameters):
        body = self.call(action, **parameters)
        assert body["Success"] is True, body
        return body
