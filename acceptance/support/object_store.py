"""An object store that speaks S3, in this process: moto, whose objects can be made older and whose calls are counted."""

import contextlib
import datetime
import itertools
import json
import logging

from moto import settings
from moto.core import DEFAULT_ACCOUNT_ID
from moto.core.authorization import ActionAuthenticatorMixin
from moto.iam.models import iam_backends
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer

_NUMBERS = itertools.count(1)


class _Calls(logging.Handler):
    """The first lines of the requests, as the HTTP server logs them."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


class ObjectStore:
    """The store and one bucket, which no other test uses; the store may go away and come back."""

    def __init__(self):
        self.bucket = f"bucket{next(_NUMBERS)}"
        self.calls = _Calls()
        logger = logging.getLogger("werkzeug")
        logger.addHandler(self.calls)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        self.port = 0
        self.start()
        self._state.create_bucket(self.bucket, "us-east-1")

    def start(self):
        self.process = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self.process.start()
        _, self.port = self.process.get_host_and_port()

    def stop(self):
        if self.process:
            self.process.stop()
            self.process = None

    def close(self):
        self.stop()
        logging.getLogger("werkzeug").removeHandler(self.calls)

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def settings(self):
        """The keys of a server that has its files here."""
        return {
            "blobs_url": f"s3://{self.bucket}/files",
            "s3_endpoint": self.endpoint,
            "s3_region": "us-east-1",
            "s3_access_key_id": "store-key",
            "s3_secret_access_key": "store-secret",
            "s3_path_style": "true",
        }

    @property
    def _state(self):
        return s3_backends[DEFAULT_ACCOUNT_ID]["aws"]

    @property
    def _keys(self):
        return self._state.buckets[self.bucket].keys

    def names(self):
        """The keys of all objects but the one that says whose they are."""
        return sorted(key for key in self._keys if key != "files/installation")

    def unfinished(self):
        """How many parts each multipart upload in progress has."""
        uploads = self._state.buckets[self.bucket].multiparts.values()
        return [len(upload.parts) for upload in uploads]

    def content(self, name):
        return self._keys[name].value

    def put(self, name, content=b"content"):
        self._state.put_object(self.bucket, name, content)

    def remove(self, name):
        del self._keys[name]

    def age(self, name, **age):
        """Makes an object older."""
        key = self._keys[name]
        key.last_modified = key.last_modified - datetime.timedelta(**age)

    @contextlib.contextmanager
    def guarded(self, policy):
        """Meanwhile the store looks at signatures and permissions; the settings of a key that has this policy."""
        iam = iam_backends[DEFAULT_ACCOUNT_ID]["aws"]
        user = f"user{next(_NUMBERS)}"
        iam.create_user("us-east-1", user)
        iam.put_user_policy(user, "updraft", json.dumps(policy))
        key = iam.create_access_key(user)
        before = settings.INITIAL_NO_AUTH_ACTION_COUNT, ActionAuthenticatorMixin.request_count
        settings.INITIAL_NO_AUTH_ACTION_COUNT, ActionAuthenticatorMixin.request_count = 0.0, 0
        try:
            yield {"s3_access_key_id": key.access_key_id, "s3_secret_access_key": key.secret_access_key}
        finally:
            settings.INITIAL_NO_AUTH_ACTION_COUNT, ActionAuthenticatorMixin.request_count = before

    def reads(self):
        """How many objects, or parts of objects, were read until now."""
        return sum(f"GET /{self.bucket}/files/" in line for line in self.calls.lines)
