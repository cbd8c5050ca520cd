"""For every operation of the catalogue: parameters of a call that succeeds, and calls that must be refused."""

import dataclasses
import functools
import hmac
import json

from .backend import Identity, unique
from .devices import Fleet
from .operations import flat
from .signed import Caller
from .waiting import wait_for

CASES = {}
PAGE = {"CurrentPage": 1, "PageSize": 10}


@dataclasses.dataclass(frozen=True)
class Case:
    """One operation."""

    make: object  # (World) -> the parameters of a call that succeeds, anew at each call
    refusals: tuple  # of (changes of these parameters, the error code)
    empty: frozenset  # lists that have no item in the answer


def case(action, *refusals, empty=()):
    """Registers what makes a call; `refusals` are (changes, code), a change to None takes a parameter away."""

    def register(make):
        assert action not in CASES, action
        CASES[action] = Case(make, refusals, frozenset(empty))
        return make

    return register


class World:
    """What the calls are about, made on demand and once."""

    def __init__(self, server, backend, folder):
        self.server = server
        self.backend = backend
        self.caller = Caller(server)
        self.fleet = Fleet(folder)

    def ok(self, action, **parameters):
        return self.caller.ok(action, flat(parameters), method="POST")

    @functools.cached_property
    def product(self):
        return self.backend.product()

    @functools.cached_property
    def certified(self):
        """A device of a product whose devices log in with certificates."""
        made = self.ok("CreateProduct", ProductName=unique("x509"), NodeType=0, AuthType="x509")
        return self.backend.device(made["ProductKey"])

    def new_device(self):
        return self.backend.device(self.product)

    @functools.cached_property
    def device(self):
        """A device with an open task of a batch with tags, in a group, with a tag."""
        return self.new_device()

    @functools.cached_property
    def reporter(self):
        """A device that is connected and has reported a version."""
        identity = self.new_device()
        self.fleet.python(identity, self.server)
        self.backend.wait_ready("1.0.0", identity)
        return identity

    def new_package(self, **fields):
        return self.backend.package(self.product, **fields)

    @functools.cached_property
    def package(self):
        return self.new_package()

    @functools.cached_property
    def job(self):
        """A static batch with tags and one queued task."""
        return self.ok(
            "CreateOTAStaticUpgradeJob",
            ProductKey=self.product,
            FirmwareId=self.package,
            TargetSelection="SPECIFIC",
            TargetDeviceName=[self.device.name],
            Tag=[{"Key": "ring", "Value": "<early> & \"late\""}],
        )["Data"]["JobId"]

    @functools.cached_property
    def job_of_versions(self):
        """A static batch with tags and source versions, which no device runs: it has ended."""
        job = self.ok(
            "CreateOTAStaticUpgradeJob",
            ProductKey=self.product,
            FirmwareId=self.new_package(version="3.0.0"),
            TargetSelection="ALL",
            SrcVersion=["0.8.0", "0.9.0"],
            Tag=[{"Key": "owner", "Value": "我"}],
        )["Data"]["JobId"]
        wait_for(lambda: self.ok("QueryOTAJob", JobId=job)["Data"]["JobStatus"], lambda status: status == "COMPLETED")
        return job

    def new_job(self, **fields):
        """A static batch over one new device: (JobId, TaskId, device)."""
        identity = self.new_device()
        job = self.backend.batch(self.product, self.package, identity, **fields)
        return job, self.backend.task(job, identity).task_id, identity

    def new_dynamic_job(self):
        return self.ok("CreateOTADynamicUpgradeJob", **CASES["CreateOTADynamicUpgradeJob"].make(self))["Data"]["JobId"]

    def new_module(self):
        name = unique("m")
        self.ok("CreateOTAModule", ProductKey=self.product_of_modules, ModuleName=name, AliasName="模块")
        return name

    @functools.cached_property
    def product_of_modules(self):
        return self.backend.product()

    def new_group(self, **fields):
        return self.ok("CreateDeviceGroup", GroupName=unique("grp"), GroupDesc="组", **fields)["Data"]["GroupId"]

    @functools.cached_property
    def group(self):
        """A group with the device in it."""
        group = self.new_group()
        self.ok("BatchAddDeviceGroupRelations", GroupId=group, Device=devices(self.device))
        return group

    def new_dynamic_group(self):
        made = self.ok("CreateDeviceDynamicGroup", **CASES["CreateDeviceDynamicGroup"].make(self))
        return made["Data"]["GroupId"]

    @functools.cached_property
    def dynamic_group(self):
        """A dynamic group that has taken devices in."""
        self.device  # noqa: B018 - made so that there is one
        group = self.new_dynamic_group()
        wait_for(lambda: self.ok("QueryDynamicGroupDevices", GroupId=group, **PAGE)["Total"])
        return group

    def new_tag(self):
        """A new tag of the product: its key."""
        key = unique_key()
        self.ok("CreateProductTags", ProductKey=self.product, ProductTag=[{"TagKey": key, "TagValue": "v"}])
        return key

    @functools.cached_property
    def prop(self):
        """A tag of the device: (key, value)."""
        key, value = unique_key(), "杭州"
        self.ok("SaveDeviceProp", IotId=self.device.iot_id, Props=json.dumps({key: value}))
        return key, value

    def apply(self):
        """A product of its own, and the id of names that were found good for it."""
        product = self.backend.product()
        names = [{"DeviceName": unique("dev"), "DeviceNickname": "昵称_1"}, {"DeviceName": unique("dev")}]
        applied = self.ok("BatchCheckDeviceNames", ProductKey=product, DeviceNameList=names)["Data"]["ApplyId"]
        self.wait_apply(product, applied, "CHECK_SUCCESS")
        return product, applied

    def wait_apply(self, product, applied, status):
        question = {"ProductKey": product, "ApplyId": applied}
        wait_for(lambda: self.ok("QueryBatchRegisterDeviceStatus", **question)["Data"]["Status"], lambda s: s == status)


def unique_key():
    """A tag's key: letters, digits and dots."""
    return unique("key").replace("_", ".")


def devices(*identities: Identity):
    return [{"ProductKey": identity.product_key, "DeviceName": identity.name} for identity in identities]


def names(identity):
    """A device by product and name."""
    return {"ProductKey": identity.product_key, "DeviceName": identity.name}


NO_PRODUCT = ({"ProductKey": "a1Unknown00"}, "iot.prod.NotExistedProduct")
NO_DEVICE = ({"DeviceName": "unknown"}, "iot.device.NotExistedDevice")
NO_IOT_ID = ({"IotId": "unknown"}, "iot.device.NotExistedDevice")
NO_FIRMWARE = ({"FirmwareId": "unknown"}, "iot.ota.FirmwareNotFound")
NO_JOB = ({"JobId": "unknown"}, "iot.ota.JobNotFound")
NO_GROUP = ({"GroupId": "unknown"}, "iot.group.NotExistedGroup")
BAD_PAGE = ({"CurrentPage": 0}, "iot.common.InvalidPageParams")
NO_INSTANCE = ({"IotInstanceId": "iot-unknown"}, "iot.system.InstanceNotFound")


def page_of(size):
    """Refused: a page larger than the largest."""
    return ({"PageSize": size + 1}, "iot.common.InvalidPageParams")


# Products


@case(
    "CreateProduct",
    ({"ProductName": "abc"}, "iot.prod.InvalidFormattedProductName"),
    ({"NodeType": 2}, "iot.prod.InvalidNodeType"),
    ({"Description": "x" * 101}, "iot.prod.LongProductDesc"),
)
def _(_world):
    return {"ProductName": unique("prod"), "NodeType": 0, "Description": "产品 & more"}


@case("QueryProduct", NO_PRODUCT)
def _(world):
    return {"ProductKey": world.product}


@case("QueryProductList", BAD_PAGE, page_of(200))
def _(world):
    world.product  # noqa: B018
    return PAGE


@case("UpdateProduct", NO_PRODUCT, ({"ProductName": "abc"}, "iot.prod.InvalidFormattedProductName"))
def _(world):
    return {"ProductKey": world.product, "ProductName": unique("prod")}


@case("DeleteProduct", NO_PRODUCT)
def _(world):
    return {"ProductKey": world.backend.product()}


@case("SetProductDynamicRegister", NO_PRODUCT, ({"DynamicRegister": "on"}, "InvalidDynamicRegister"))
def _(world):
    return {"ProductKey": world.product, "DynamicRegister": "PREREGISTERED"}


@case("QueryProductDynamicRegister", NO_PRODUCT)
def _(world):
    return {"ProductKey": world.product}


@case("CreateProductTags", NO_PRODUCT, empty=["InvalidProductTags.ProductTag[]"])
def _(world):
    return {"ProductKey": world.product, "ProductTag": [{"TagKey": unique_key(), "TagValue": "v"}]}


@case("UpdateProductTags", NO_PRODUCT, empty=["InvalidProductTags.ProductTag[]"])
def _(world):
    return {"ProductKey": world.product, "ProductTag": [{"TagKey": world.new_tag(), "TagValue": "w"}]}


@case("DeleteProductTags", NO_PRODUCT)
def _(world):
    return {"ProductKey": world.product, "ProductTagKey": [world.new_tag()]}


@case("ListProductTags", NO_PRODUCT)
def _(world):
    world.new_tag()
    return {"ProductKey": world.product}


@case("ListProductByTags", BAD_PAGE)
def _(world):
    return PAGE | {"ProductTag": [{"TagKey": world.new_tag(), "TagValue": "v"}]}


# Devices


@case("RegisterDevice", NO_PRODUCT, ({"DeviceName": "abc"}, "iot.device.InvalidFormattedDeviceName"))
def _(world):
    return {"ProductKey": world.product, "DeviceName": unique("dev"), "Nickname": "昵称_1"}


@case("QueryDevice", NO_PRODUCT, BAD_PAGE, page_of(50))
def _(world):
    world.device  # noqa: B018
    return PAGE | {"ProductKey": world.product}


@case("QueryDeviceDetail", NO_PRODUCT, NO_DEVICE, NO_IOT_ID)
def _(world):
    return names(world.reporter)


@case("QueryDeviceCert", NO_PRODUCT, ({"DeviceName": "no-such-device"}, "iot.device.NotExistedDevice"))
def _(world):
    return names(world.certified)


@case("QueryDeviceInfo", NO_PRODUCT, NO_DEVICE, NO_IOT_ID)
def _(world):
    return names(world.device)


@case("GetDeviceStatus", NO_PRODUCT, NO_DEVICE, NO_IOT_ID)
def _(world):
    return names(world.reporter)


@case("BatchQueryDeviceDetail", NO_PRODUCT)
def _(world):
    return {"ProductKey": world.product, "DeviceName": [world.device.name, world.reporter.name]}


@case("BatchGetDeviceState", NO_PRODUCT)
def _(world):
    return {"ProductKey": world.product, "DeviceName": [world.device.name, world.reporter.name]}


@case("QueryDeviceStatistics", NO_PRODUCT)
def _(world):
    world.reporter  # noqa: B018
    return {"ProductKey": world.product}


@case("SaveDeviceProp", NO_DEVICE, ({"Props": "[]"}, "iot.device.InvalidFormattedDevicePropertiesString"))
def _(world):
    return names(world.device) | {"Props": json.dumps({unique_key(): "杭州-1"})}


@case("QueryDeviceProp", NO_DEVICE)
def _(world):
    world.prop  # noqa: B018
    return names(world.device)


@case("DeleteDeviceProp", NO_DEVICE)
def _(world):
    key = unique_key()
    world.ok("SaveDeviceProp", IotId=world.device.iot_id, Props=json.dumps({key: "v"}))
    return names(world.device) | {"PropKey": key}


@case("QueryDeviceByTags", BAD_PAGE, page_of(50))
def _(world):
    key, value = world.prop
    return PAGE | {"Tag": [{"TagKey": key, "TagValue": value}]}


@case("BatchRegisterDevice", NO_PRODUCT, ({"Count": 10_001}, "iot.device.DeviceCountExceeded"))
def _(world):
    return {"ProductKey": world.backend.product(), "Count": 2}


_FOUND_WRONG = (
    "Data.InvalidDetailList.InvalidDetailList[]",
    "Data.InvalidDeviceNameList.InvalidDeviceName[]",
    "Data.InvalidDeviceNicknameList.InvalidDeviceNickname[]",
    "Data.RepeatedDeviceNameList.RepeatDevieNameList[]",
)


@case("BatchCheckDeviceNames", NO_PRODUCT, empty=_FOUND_WRONG)
def _(world):
    return {"ProductKey": world.backend.product(), "DeviceName": [unique("dev"), unique("dev")]}


@case("BatchRegisterDeviceWithApplyId", NO_PRODUCT, ({"ApplyId": 1}, "iot.device.DeviceApplyIsNotFound"))
def _(world):
    product, applied = world.apply()
    return {"ProductKey": product, "ApplyId": applied}


@case(
    "QueryBatchRegisterDeviceStatus",
    NO_PRODUCT,
    ({"ApplyId": 1}, "iot.device.DeviceApplyIsNotFound"),
    # Filled where names were found wrong only.
    empty=["Data.InvalidDetailList.invalidDetailList[]", "Data.InvalidList.Name[]", "Data.ValidList.Name[]"],
)
def _(world):
    product, applied = world.apply()
    return {"ProductKey": product, "ApplyId": applied}


@case("QueryPageByApplyId", BAD_PAGE, page_of(50), ({"ApplyId": 1}, "iot.device.DeviceApplyIsNotFound"))
def _(world):
    product, applied = world.apply()
    world.ok("BatchRegisterDeviceWithApplyId", ProductKey=product, ApplyId=applied)
    world.wait_apply(product, applied, "CREATE_SUCCESS")
    return PAGE | {"ApplyId": applied}


@case("DeleteDevice", NO_PRODUCT, NO_DEVICE, NO_IOT_ID)
def _(world):
    return names(world.new_device())


@case("DisableThing", NO_PRODUCT, NO_DEVICE, NO_IOT_ID)
def _(world):
    return names(world.new_device())


@case("EnableThing", NO_PRODUCT, NO_DEVICE, NO_IOT_ID)
def _(world):
    identity = world.new_device()
    world.ok("DisableThing", IotId=identity.iot_id)
    return names(identity)


@case("ResetThing", NO_PRODUCT, NO_DEVICE, NO_IOT_ID)
def _(world):
    return names(world.new_device())


# Gateways

NO_GATEWAY = ({"GwDeviceName": "unknown"}, "iot.device.NotExistedDevice")
NO_GATEWAYS = ({"GwProductKey": "a1Unknown00"}, "iot.prod.NotExistedProduct")


def new_topology(world):
    """A new gateway, and what puts a new device behind it: (gateway, device, parameters)."""
    gateways = world.ok("CreateProduct", ProductName=unique("gateways"), NodeType=1)["ProductKey"]
    gateway, identity = world.backend.device(gateways), world.new_device()
    content = f"clientIdcdeviceName{identity.name}productKey{identity.product_key}timestamp7"
    item = {
        "ClientId": "c",
        "DeviceName": identity.name,
        "ProductKey": identity.product_key,
        "Sign": hmac.new(identity.secret.encode(), content.encode(), "sha1").hexdigest(),
        "SignMethod": "hmacSha1",
        "Timestamp": "7",
    }
    return gateway, identity, {"GwProductKey": gateways, "GwDeviceName": gateway.name, "TopoAddItem": [item]}


@case("BatchAddThingTopo", NO_GATEWAY, NO_GATEWAYS)
def _(world):
    return new_topology(world)[2]


@case(
    "GetThingTopo",
    NO_PRODUCT,
    NO_DEVICE,
    NO_IOT_ID,
    ({"PageNo": 0}, "iot.common.InvalidPageParams"),
    ({"PageSize": 51}, "iot.common.InvalidPageParams"),
)
def _(world):
    gateway, _, added = new_topology(world)
    world.ok("BatchAddThingTopo", **added)
    return names(gateway) | {"PageNo": 1, "PageSize": 10}


@case("GetGatewayBySubDevice", NO_PRODUCT, NO_DEVICE, NO_IOT_ID)
def _(world):
    _, identity, added = new_topology(world)
    world.ok("BatchAddThingTopo", **added)
    return names(identity)


@case("RemoveThingTopo", NO_PRODUCT, NO_DEVICE, NO_IOT_ID)
def _(world):
    _, identity, added = new_topology(world)
    world.ok("BatchAddThingTopo", **added)
    return names(identity)


@case("NotifyAddThingTopo", NO_GATEWAY, NO_GATEWAYS, ({"DeviceListStr": "[]"}, "InvalidDeviceListStr"))
def _(world):
    gateway, identity, _ = new_topology(world)
    listed = [{"productKey": identity.product_key, "deviceName": identity.name}, {"IotId": identity.iot_id}]
    return {
        "GwProductKey": gateway.product_key,
        "GwDeviceName": gateway.name,
        "DeviceListStr": json.dumps(listed),
    }


# Groups


@case(
    "CreateDeviceGroup",
    ({"GroupName": "abc"}, "iot.group.InvalidFormattedGroupName"),
    ({"GroupDesc": "x" * 101}, "iot.group.LongGroupDesc"),
    ({"SuperGroupId": "unknown"}, "iot.group.NotExistedGroup"),
)
def _(world):
    return {"GroupName": unique("grp"), "GroupDesc": "组", "SuperGroupId": world.group}


@case("UpdateDeviceGroup", NO_GROUP, ({"GroupDesc": "x" * 101}, "iot.group.LongGroupDesc"))
def _(world):
    return {"GroupId": world.group, "GroupDesc": "另一组"}


@case("DeleteDeviceGroup", NO_GROUP)
def _(world):
    return {"GroupId": world.new_group()}


@case("QueryDeviceGroupList", BAD_PAGE, page_of(200))
def _(world):
    world.group  # noqa: B018
    return PAGE


@case("QueryDeviceGroupInfo", NO_GROUP)
def _(world):
    return {"GroupId": world.group}


@case("QuerySuperDeviceGroup", NO_GROUP)
def _(world):
    return {"GroupId": world.new_group(SuperGroupId=world.group)}


@case("BatchAddDeviceGroupRelations", NO_GROUP)
def _(world):
    return {"GroupId": world.group, "Device": devices(world.new_device(), world.new_device())}


@case("BatchDeleteDeviceGroupRelations", NO_GROUP)
def _(world):
    identity = world.new_device()
    world.ok("BatchAddDeviceGroupRelations", GroupId=world.group, Device=devices(identity))
    return {"GroupId": world.group, "Device": devices(identity)}


@case("QueryDeviceListByDeviceGroup", NO_GROUP, BAD_PAGE)
def _(world):
    return PAGE | {"GroupId": world.group}


@case("QueryDeviceGroupByDevice", NO_PRODUCT, NO_DEVICE)
def _(world):
    world.group  # noqa: B018
    return names(world.device)


@case("CreateDeviceDynamicGroup", ({"DynamicGroupExpression": "product_key ="}, "iot.group.InvalidDynamicGroupExpression"))
def _(world):
    expression = f"product_key = \"{world.product}\""
    return {"GroupName": unique("dyn"), "GroupDesc": "动态", "DynamicGroupExpression": expression}


@case("DeleteDeviceDynamicGroup", NO_GROUP)
def _(world):
    return {"GroupId": world.new_dynamic_group()}


@case("QueryDynamicGroupDevices", NO_GROUP, BAD_PAGE)
def _(world):
    return PAGE | {"GroupId": world.dynamic_group}


# Packages and modules


@case("GenerateOTAUploadURL", ({"FileSuffix": "exe"}, "InvalidFileSuffix"), NO_INSTANCE)
def _(_world):
    return {"FileSuffix": "zip"}


@case("GenerateDeviceNameListURL", NO_INSTANCE)
def _(_world):
    return {}


@case(
    "CreateOTAFirmware",
    NO_PRODUCT,
    ({"FirmwareName": "_fw"}, "iot.ota.InvalidFormattedFirmwareName"),
    ({"FirmwareDesc": "x" * 101}, "iot.ota.LongFirmwareText"),
    ({"DestVersion": "2 0"}, "iot.ota.InvalidFormattedVersion"),
    ({"ModuleName": "unknown"}, "iot.ota.ModuleNotFound"),
)
def _(world):
    url = world.backend.uploaded(b"firmware")
    return {
        "ProductKey": world.product, "FirmwareName": unique("fw"), "DestVersion": "2.0.0", "FirmwareUrl": url,
        "NeedToVerify": False, "FirmwareSize": 8, "SignMethod": "MD5", "Udi": '{"a": "<b>"}',
    }


@case("QueryOTAFirmware", NO_FIRMWARE)
def _(world):
    return {"FirmwareId": world.backend.package_of(world.product, {"one": b"1", "other": b"2"})}


@case("ListOTAFirmware", NO_PRODUCT, BAD_PAGE, page_of(100))
def _(world):
    world.package  # noqa: B018
    return PAGE | {"ProductKey": world.product}


@case("ModifyOTAFirmware", NO_FIRMWARE, ({"FirmwareDesc": "x" * 101}, "iot.ota.LongFirmwareText"))
def _(world):
    return {"ProductKey": world.product, "FirmwareId": world.package, "FirmwareDesc": "包", "FirmwareName": unique("fw")}


@case("DeleteOTAFirmware", NO_FIRMWARE)
def _(world):
    return {"FirmwareId": world.new_package()}


@case("CreateOTAModule", NO_PRODUCT)
def _(world):
    return {"ProductKey": world.product_of_modules, "ModuleName": unique("m"), "AliasName": "模块", "Desc": "a <b>"}


@case("UpdateOTAModule", NO_PRODUCT, ({"ModuleName": "unknown"}, "iot.ota.ModuleNotFound"))
def _(world):
    return {"ProductKey": world.product_of_modules, "ModuleName": world.new_module(), "Desc": "b"}


@case("DeleteOTAModule", NO_PRODUCT, ({"ModuleName": "unknown"}, "iot.ota.ModuleNotFound"))
def _(world):
    return {"ProductKey": world.product_of_modules, "ModuleName": world.new_module()}


@case("ListOTAModuleByProduct", NO_PRODUCT)
def _(world):
    world.new_module()
    return {"ProductKey": world.product_of_modules}


@case("ListOTAModuleVersionsByDevice", NO_PRODUCT, NO_DEVICE, NO_IOT_ID, BAD_PAGE, page_of(200))
def _(world):
    return PAGE | names(world.reporter)


# Batches and tasks


@case(
    "CreateOTAVerifyJob",
    NO_PRODUCT,
    NO_FIRMWARE,
    ({"TargetDeviceName": ["unknown"]}, "iot.ota.TargetDeviceNotFound"),
    ({"TimeoutInMinutes": 1441}, "iot.ota.InvalidJobLimit"),
)
def _(world):
    package = world.new_package(need_to_verify=True)
    return {"ProductKey": world.product, "FirmwareId": package, "TargetDeviceName": [world.new_device().name]}


BAD_BATCH = (
    NO_PRODUCT,
    NO_FIRMWARE,
    ({"TargetSelection": "SOME"}, "InvalidTargetSelection"),
    ({"TargetDeviceName": ["unknown"]}, "iot.ota.TargetDeviceNotFound"),
    ({"TargetDeviceName": None, "DnListFileUrl": "unknown"}, "iot.ota.InvalidDnListFileUrl"),
    ({"MaximumPerMinute": 9}, "iot.ota.InvalidJobLimit"),
    ({"Tag": [{"Key": "alone"}]}, "iot.ota.InvalidTag"),
)


@case("CreateOTAStaticUpgradeJob", *BAD_BATCH)
def _(world):
    return {
        "ProductKey": world.product, "FirmwareId": world.package, "TargetSelection": "SPECIFIC",
        "TargetDeviceName": [world.new_device().name], "NeedConfirm": True, "MaximumPerMinute": 100,
        "Tag": [{"Key": "ring", "Value": "1 + 1"}, {"Key": "owner", "Value": "我"}],
    }


@case("PlanOTAJob", *BAD_BATCH)
def _(world):
    return CASES["CreateOTAStaticUpgradeJob"].make(world)


@case("CreateOTADynamicUpgradeJob", NO_PRODUCT, NO_FIRMWARE, ({"MaximumPerMinute": 9}, "iot.ota.InvalidJobLimit"))
def _(world):
    return {"ProductKey": world.product, "FirmwareId": world.new_package(version="9.0.0"), "SrcVersion": ["0.1.0"]}


@case(
    "UpdateOTAJob",
    NO_JOB,
    ({"MaximumPerMinute": 9}, "iot.ota.InvalidJobLimit"),
    ({"UpgradeType": "STATIC"}, "iot.ota.InvalidJobUpdate"),
)
def _(world):
    return {
        "JobId": world.new_dynamic_job(), "MaximumPerMinute": 500, "TargetSelection": "ALL", "UpgradeType": "DYNAMIC",
        "Tags": [{"Key": "ring", "Value": "迟"}], "SrcVersionList": ["0.2.0"], "TimeoutInMinutes": 60,
    }


@case("CancelOTAStrategyByJob", NO_JOB)
def _(world):
    return {"JobId": world.new_dynamic_job()}


@case("QueryOTAJob", NO_JOB)
def _(world):
    return {"JobId": world.job_of_versions}


@case("ListOTAJobByFirmware", NO_FIRMWARE, BAD_PAGE, page_of(200))
def _(world):
    world.job  # noqa: B018
    return PAGE | {"FirmwareId": world.package, "PageSize": 200}


@case("ListOTAJobByDevice", NO_FIRMWARE, NO_PRODUCT, NO_DEVICE, BAD_PAGE, page_of(100))
def _(world):
    world.job  # noqa: B018
    return PAGE | names(world.device) | {"FirmwareId": world.package}


@case("ListOTATaskByJob", NO_JOB, BAD_PAGE, page_of(100), ({"TaskStatus": "DONE"}, "iot.ota.InvalidTaskStatus"))
def _(world):
    return PAGE | {"JobId": world.job}


@case(
    "ListOTATaskHistory",
    ({"TaskId": "unknown"}, "iot.ota.TaskNotFound"),
    BAD_PAGE,
    page_of(100),
    empty=("Data.Refusals.TaskRefusal[]",),
)
def _(world):
    _, task, _ = world.new_job(need_confirm=True)
    world.ok("ConfirmOTATask", TaskId=[task])
    return PAGE | {"TaskId": task}


@case(
    "ExplainOTATask",
    NO_PRODUCT,
    NO_DEVICE,
    NO_JOB,
    empty=("Data.Refusals.DeviceRefusal[]", "Data.Batches.BatchExplanation[].Refusals.TaskRefusal[]"),
)
def _(world):
    job, _, identity = world.new_job(need_confirm=True)
    return names(identity) | {"JobId": job}


@case("ListOTAUnfinishedTaskByDevice", NO_PRODUCT, NO_DEVICE, ({"TaskStatus": "FAILED"}, "iot.ota.InvalidTaskStatus"))
def _(world):
    world.job  # noqa: B018
    return names(world.device)


@case("ConfirmOTATask", ({"TaskId": ["unknown"]}, "iot.ota.TaskNotFound"))
def _(world):
    return {"TaskId": [world.new_job(need_confirm=True)[1]]}


@case("ReupgradeOTATask", NO_JOB, ({"TaskId": ["unknown"]}, "iot.ota.TaskNotFound"))
def _(world):
    job, task, _ = world.new_job()
    world.backend.cancel(job, cancel_queued_task=True)
    return {"JobId": job, "TaskId": [task]}


@case("CancelOTATaskByJob", NO_JOB, ({"CancelQueuedTask": None}, "iot.ota.NullCancelFlag"))
def _(world):
    return {"JobId": world.new_job()[0], "CancelQueuedTask": True}


@case("CancelOTATaskByDevice", NO_PRODUCT, NO_FIRMWARE, ({"DeviceName": ["unknown"]}, "iot.ota.TargetDeviceNotFound"))
def _(world):
    job, _, identity = world.new_job()
    return {
        "ProductKey": world.product, "FirmwareId": world.package, "DeviceName": [identity.name], "JobId": job,
    }
