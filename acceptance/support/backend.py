"""A back end on the current official SDK (`alibabacloud_iot20180120`), and uploads as its users do them."""

import dataclasses
import itertools
import os

import requests
from alibabacloud_iot20180120 import models
from alibabacloud_iot20180120.client import Client
from alibabacloud_tea_openapi.models import Config

from .waiting import wait_for

# The SDK spells GenerateOTAUploadURL as generate_otaupload_url; look it up rather than imitate it.
_METHODS = {name.replace("_", ""): name for name in dir(Client)}
_NUMBERS = itertools.count(1)

ENDED = ("COMPLETE", "CANCELED")


def unique(prefix):
    """A name that no other test uses, also on a server that outlives the test run."""
    return f"{prefix}_{os.getpid()}_{next(_NUMBERS)}"


@dataclasses.dataclass(frozen=True)
class Identity:
    """What is burnt into a device."""

    product_key: str
    name: str
    secret: str
    iot_id: str = ""


def tags(**pairs):
    """Tags of a batch in the SDK's form."""
    return [models.CreateOTAStaticUpgradeJobRequestTag(key=k, value=v) for k, v in pairs.items()]


def upload(ticket, content, ca=None, **changes):
    """Posts `content` with a ticket of GenerateOTAUploadURL, as the page's sample does; the HTTP answer.

    `changes` replace form fields; None leaves one out. `ca` is the CA to trust: who calls by HTTPS is given
    an HTTPS address to upload to.
    """
    fields = {
        "key": ticket.key,
        "policy": ticket.policy,
        "OSSAccessKeyId": ticket.ossaccess_key_id,
        "signature": ticket.signature,
        "success_action_status": "200",
    }
    fields |= changes
    fields = {name: value for name, value in fields.items() if value is not None}
    # requests writes the fields first and the file last, which is what the form asks for.
    files = {"file": ("package.bin", content)}
    return requests.post(ticket.host, data=fields, files=files, timeout=30, verify=ca)


class Backend:
    """The SDK client, and the few phrases in which the stories are told."""

    def __init__(self, server, key=None, **config):
        key_id, secret = key or server.root_key()
        self.ca = str(server.ca_file)
        config = {"protocol": "http"} | config
        config = {name: value for name, value in config.items() if value is not None}
        self.client = Client(
            Config(access_key_id=key_id, access_key_secret=secret, endpoint=server.api, **config)
        )

    def call(self, action, **fields):
        """Calls an operation; the answer's body, whatever it says."""
        return self.send(action, getattr(models, f"{action}Request")(**fields))

    def send(self, action, request):
        """Calls an operation with the SDK's request; the answer's body, whatever it says."""
        return getattr(self.client, _METHODS[action.lower()])(request).body

    def ok(self, action, **fields):
        """Calls an operation that must succeed."""
        body = self.call(action, **fields)
        assert body.success is True, f"{action}: {body.code}: {body.error_message}"
        assert not body.code, "a success body never carries Code: Node's SDK would throw"
        return body

    def refused(self, action, **fields):
        """Calls an operation that the service must refuse; the error code."""
        body = self.call(action, **fields)
        assert body.success is False, f"{action} was accepted"
        assert body.error_message
        return body.code

    # Products and devices

    def product(self, name=None):
        return self.ok("CreateProduct", product_name=name or unique("prod"), node_type=0).product_key

    def device(self, product_key, name=None):
        made = self.ok("RegisterDevice", product_key=product_key, device_name=name or unique("dev")).data
        return Identity(made.product_key, made.device_name, made.device_secret, made.iot_id)

    def devices(self, product_key, count):
        return [self.device(product_key) for _ in range(count)]

    def detail(self, identity):
        return self.ok(
            "QueryDeviceDetail", product_key=identity.product_key, device_name=identity.name
        ).data

    def wait_online(self, *identities):
        """Waits until the devices are connected."""
        for identity in identities:
            wait_for(lambda: self.detail(identity).status, lambda status: status == "ONLINE")

    def wait_ready(self, version, *identities):
        """Waits until the devices are connected and have reported `version`."""
        self.wait_online(*identities)
        for identity in identities:
            wait_for(lambda: self.detail(identity).firmware_version, lambda seen: seen == version)

    # Packages

    def ticket(self, **fields):
        return self.ok("GenerateOTAUploadURL", **fields).data

    def uploaded(self, content, **fields):
        """Uploads `content`; the FirmwareUrl that CreateOTAFirmware takes."""
        ticket = self.ticket(**fields)
        answer = upload(ticket, content, self.ca)
        assert answer.status_code == 200, answer.text
        return ticket.firmware_url

    def package(self, product_key, version="2.0.0", content=b"new firmware", **fields):
        """A package that needs no verification unless asked for; its FirmwareId."""
        fields = {"need_to_verify": False, "firmware_name": unique("fw")} | fields
        return self.ok(
            "CreateOTAFirmware",
            product_key=product_key,
            dest_version=version,
            firmware_url=self.uploaded(content),
            **fields,
        ).data.firmware_id

    def package_of(self, product_key, files, version="2.0.0", **fields):
        """A package of several files, given by name and content, that needs no verification; its FirmwareId."""
        several = [
            models.CreateOTAFirmwareRequestMultiFiles(name=name, url=self.uploaded(content), size=len(content))
            for name, content in files.items()
        ]
        fields = {"need_to_verify": False, "firmware_name": unique("fw")} | fields
        return self.ok(
            "CreateOTAFirmware", product_key=product_key, dest_version=version, multi_files=several, **fields
        ).data.firmware_id

    def firmware(self, firmware_id):
        return self.ok("QueryOTAFirmware", firmware_id=firmware_id).firmware_info

    # Batches

    def verification(self, product_key, firmware_id, *identities, **fields):
        """Starts a verification batch; its JobId."""
        return self.ok(
            "CreateOTAVerifyJob",
            product_key=product_key,
            firmware_id=firmware_id,
            target_device_name=[identity.name for identity in identities],
            **fields,
        ).data.job_id

    def batch(self, product_key, firmware_id, *identities, **fields):
        """Starts a static batch over the named devices, or over all if none is named; its JobId."""
        if identities:
            target = {
                "target_selection": "SPECIFIC",
                "target_device_name": [identity.name for identity in identities],
            }
        else:
            target = {"target_selection": "ALL"}
        return self.ok(
            "CreateOTAStaticUpgradeJob",
            product_key=product_key,
            firmware_id=firmware_id,
            **(target | fields),
        ).data.job_id

    def job(self, job_id):
        return self.ok("QueryOTAJob", job_id=job_id).data

    def jobs(self, firmware_id, page_size=200, current_page=1):
        """ListOTAJobByFirmware's body."""
        return self.ok(
            "ListOTAJobByFirmware",
            firmware_id=firmware_id,
            page_size=page_size,
            current_page=current_page,
        )

    def listed(self, firmware_id):
        """The batches of a package as ListOTAJobByFirmware has them, newest first, at most 200."""
        return self.jobs(firmware_id).data.simple_otajob_info or []

    def listed_job(self, firmware_id, job_id):
        """One of them."""
        return next(job for job in self.listed(firmware_id) if job.job_id == job_id)

    def task_page(self, job_id, page_size=100, current_page=1, **fields):
        return self.ok(
            "ListOTATaskByJob", job_id=job_id, page_size=page_size, current_page=current_page, **fields
        )

    def tasks(self, job_id):
        """The (at most 100) tasks of a batch by device name."""
        rows = self.task_page(job_id).data.simple_otatask_info or []
        return {task.device_name: task for task in rows}

    def task(self, job_id, identity):
        return self.tasks(job_id)[identity.name]

    def wait_task(self, job_id, identity, status, timeout=30):
        """Waits until a device's task stands at `status`; the task."""
        return wait_for(
            lambda: self.tasks(job_id).get(identity.name),
            lambda task: task is not None and task.task_status == status,
            timeout=timeout,
        )

    def wait_ended(self, firmware_id, job_id, timeout=40):
        """Waits until ListOTAJobByFirmware says that a batch has ended; its row."""
        return wait_for(
            lambda: self.listed_job(firmware_id, job_id),
            lambda job: job.job_status in ENDED,
            timeout=timeout,
        )

    def cancel(self, job_id, **flags):
        self.ok("CancelOTATaskByJob", job_id=job_id, **flags)
