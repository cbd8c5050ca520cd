//! Every error code of the API: one closed table.
//!
//! Gateway errors have an HTTP status of 4xx or 5xx; business errors come with HTTP 200 and
//! `Success: false`. Codes that the platform does not document are marked as ours in `docs/errors.md`, to
//! which `Recommend` points; a test compares that page with this table.

use std::collections::BTreeSet;

/// How an error travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Refused before the operation: HTTP status, `Code`, `Message`.
    Gateway(u16),
    /// Refused by the operation: HTTP 200, `Success: false`, `Code`, `ErrorMessage`.
    Business,
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $kind:expr, $code:literal, $text:literal;)+) => {
        /// The errors with fixed codes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The code on the wire.
            pub fn wire(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            /// How it travels.
            pub fn kind(self) -> Kind {
                match self { $(Self::$name => $kind,)+ }
            }

            /// The standard text.
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

codes! {
    /// The HTTP method is neither GET nor POST.
    UnsupportedHttpMethod = Kind::Gateway(400), "UnsupportedHTTPMethod", "This http method is not supported.";
    /// The path is not `/`.
    PathNotFound = Kind::Gateway(404), "InvalidApi.NotFound",
        "Specified api is not found, please check your url and method.";
    /// The action is unknown.
    ActionNotFound = Kind::Gateway(404), "InvalidAction.NotFound",
        "Specified api is not found, please check your url and method.";
    /// The version is not 2018-01-20.
    InvalidVersion = Kind::Gateway(400), "InvalidVersion", "Specified parameter Version is not valid.";
    /// The format is neither JSON nor XML.
    InvalidFormat = Kind::Gateway(400), "InvalidParameter.Format", "Specified parameter format is not valid.";
    /// No such access key.
    AccessKeyNotFound = Kind::Gateway(404), "InvalidAccessKeyId.NotFound", "Specified access key is not found.";
    /// The access key is disabled.
    AccessKeyInactive = Kind::Gateway(400), "InvalidAccessKeyId.Inactive", "Specified access key is disabled.";
    /// The time is not `YYYY-MM-DDThh:mm:ssZ`.
    TimestampFormat = Kind::Gateway(400), "InvalidTimeStamp.Format",
        "Specified time stamp or date value is not well formatted.";
    /// The time is too far off.
    TimestampExpired = Kind::Gateway(400), "InvalidTimeStamp.Expired",
        "Specified time stamp or date value is expired.";
    /// The nonce was used before.
    NonceUsed = Kind::Gateway(400), "SignatureNonceUsed", "Specified signature nonce was used already.";
    /// The signature method is unknown.
    InvalidSignatureMethod = Kind::Gateway(400), "InvalidSignatureMethod",
        "Specified signature method is not valid.";
    /// The signature version is unknown.
    InvalidSignatureVersion = Kind::Gateway(400), "InvalidSignatureVersion",
        "Specified signature version is not valid.";
    /// The signature is wrong. Official SDKs split the message at its colon.
    SignatureDoesNotMatch = Kind::Gateway(400), "SignatureDoesNotMatch",
        "Specified signature is not matched with our calculation. server string to sign is:";
    /// The Authorization header cannot be read.
    IncompleteSignature = Kind::Gateway(400), "IncompleteSignature",
        "The request signature does not conform to Aliyun standards.";
    /// The token's temporary key has expired.
    SecurityTokenExpired = Kind::Gateway(400), "InvalidSecurityToken.Expired",
        "Specified SecurityToken is expired.";
    /// The token is another key's, or its key is not a temporary one.
    SecurityTokenMismatch = Kind::Gateway(400), "InvalidSecurityToken.MismatchWithAccessKey",
        "Specified SecurityToken mismatches with the AccessKey.";
    /// No token of this server.
    SecurityTokenMalformed = Kind::Gateway(400), "InvalidSecurityToken.Malformed",
        "Specified SecurityToken is malformed.";
    /// The RAM user's policy does not allow the action.
    NoPermission = Kind::Gateway(403), "NoPermission",
        "User not authorized to operate on the specified resource, or this API doesn't support RAM.";
    /// More calls than the account's quota.
    ThrottlingUser = Kind::Gateway(400), "Throttling.User", "Request was denied due to user flow control.";
    /// More remembered nonces than the server keeps.
    Throttling = Kind::Gateway(400), "Throttling", "Request was denied due to request throttling.";
    /// The body of a call is too large, or cannot be read.
    InvalidBody = Kind::Gateway(400), "InvalidParameter.Body", "The request body cannot be read.";
    /// The database is out of reach, or the server is stopping.
    ServiceUnavailable = Kind::Gateway(503), "ServiceUnavailable",
        "The request has failed due to a temporary failure of the server.";
    /// A fault before the operation began.
    InternalError = Kind::Gateway(500), "InternalError",
        "The request processing has failed due to some unknown error, exception or failure.";

    /// A fault inside an operation.
    SystemException = Kind::Business, "iot.system.SystemException", "A system exception occurred.";
    /// No such IotInstanceId.
    InstanceNotFound = Kind::Business, "iot.system.InstanceNotFound", "The specified instance does not exist.";
    /// Page number or size out of range.
    InvalidPageParams = Kind::Business, "iot.common.InvalidPageParams",
        "The page number or the page size is out of range.";
    /// A parameter that this release does not serve.
    ParameterNotSupported = Kind::Business, "iot.common.ParameterNotSupported",
        "A parameter is not supported by this release.";
    /// A product of this name exists.
    ProductNameExists = Kind::Business, "iot.prod.AlreadyExistedProductName",
        "A product of this name exists already.";
    /// The product name breaks its rule.
    InvalidProductName = Kind::Business, "iot.prod.InvalidFormattedProductName",
        "ProductName must be 4 to 30 characters (a Chinese one counts 2) of Chinese, letters, digits and _.";
    /// The product description is too long.
    LongProductDesc = Kind::Business, "iot.prod.LongProductDesc", "Description must be at most 100 characters.";
    /// NodeType is neither 0 nor 1.
    InvalidNodeType = Kind::Business, "iot.prod.InvalidNodeType", "NodeType must be 0 (device) or 1 (gateway).";
    /// AliyunCommodityCode is unknown.
    InvalidCommodityCode = Kind::Business, "iot.prod.InvalidAliyunCommodityCode",
        "AliyunCommodityCode must be iothub_senior or absent.";
    /// CategoryKey breaks its rule.
    InvalidCategoryKey = Kind::Business, "iot.prod.InvalidFormattedCatId",
        "CategoryKey must be at most 64 characters, none of them a control character.";
    /// The instance has as many products as it may.
    ProductCountExceeded = Kind::Business, "iot.prod.ProductCountExceedMax",
        "The instance has as many products as it may have.";
    /// A product with devices is not deleted.
    ProductHasDevices = Kind::Business, "iot.prod.ProductHasDevices",
        "The product has devices: delete them before the product.";
    /// A product's tag breaks its rule.
    InvalidProductTag = Kind::Business, "iot.prod.InvalidProductTag",
        "A tag's key must be 1 to 30 letters, digits and dots, given once, and not abc, which is reserved; its value \
         1 to 128 characters (a Chinese one counts 2) of Chinese, letters, digits and _ -";
    /// The product has a tag of this key.
    ProductTagExists = Kind::Business, "iot.prod.AlreadyExistedProductTag",
        "The product has tags of these keys already; UpdateProductTags changes them.";
    /// The product has no tag of this key.
    ProductTagNotFound = Kind::Business, "iot.prod.NotExistedProductTag",
        "The product has no tags of these keys; CreateProductTags makes them.";
    /// The product would have too many tags.
    ProductTagsExceeded = Kind::Business, "iot.prod.ProductTagCountExceedMax",
        "A product may have at most 100 tags; delete others first.";
    /// No such product.
    ProductNotFound = Kind::Business, "iot.prod.NotExistedProduct", "The specified product does not exist.";
    /// A device of this name exists in the product.
    DeviceNameExists = Kind::Business, "iot.device.AlreadyExistedDeviceName",
        "A device of this name exists in the product already.";
    /// The device name breaks its rule.
    InvalidDeviceName = Kind::Business, "iot.device.InvalidFormattedDeviceName",
        "DeviceName must be 4 to 32 characters of letters, digits and - _ @ . :";
    /// The nickname breaks its rule.
    InvalidNickname = Kind::Business, "iot.device.InvalidFormattedNickname",
        "Nickname must be 4 to 64 characters (a Chinese one counts 2) of Chinese, letters, digits and _.";
    /// Neither IotId nor ProductKey and DeviceName.
    NullDeviceName = Kind::Business, "iot.device.NullDeviceName",
        "Give IotId, or ProductKey together with DeviceName.";
    /// No such device.
    DeviceNotFound = Kind::Business, "iot.device.NotExistedDevice", "The specified device does not exist.";
    /// A device cannot be put behind a gateway.
    AddTopoFailed = Kind::Business, "iot.device.AddTopoRelationFailed",
        "The devices cannot be put behind the gateway.";
    /// A device is behind no gateway that it could be taken from.
    RemoveTopoFailed = Kind::Business, "iot.device.RemoveTopoRelationFailed",
        "The device is behind no gateway.";
    /// A device is behind no gateway.
    QueryTopoFailed = Kind::Business, "iot.device.QueryTopoRelationFailed", "The device is behind no gateway.";
    /// A gateway would have too many devices behind it.
    TopoCountExceeded = Kind::Business, "iot.device.TopoRelationCountExceeded",
        "The gateway would have more devices behind it than it may have; remove others first.";
    /// Props is no JSON object of texts.
    InvalidDeviceProps = Kind::Business, "iot.device.InvalidFormattedDevicePropertiesString",
        "Props must be a JSON object of tags: {\"key\": \"value\", …}.";
    /// Props has no tag.
    NoDeviceProps = Kind::Business, "iot.device.NoneDeviceProperties", "Props must have at least one tag.";
    /// Props is too long.
    LongDeviceProps = Kind::Business, "iot.device.LongDevicePropertiesString", "Props must be at most 5 KB.";
    /// Props has too many tags.
    TooManyDeviceProps = Kind::Business, "iot.device.TooManyDevicePropertiesPerTime",
        "Props must have at most 100 tags.";
    /// The device would have too many tags.
    DeviceTagsExceeded = Kind::Business, "iot.device.DevicePropertyCountExceeded",
        "A device may have at most 100 tags; delete others first.";
    /// A tag's key breaks its rule.
    InvalidDevicePropKey = Kind::Business, "iot.device.InvalidFormattedDevicePropertyKey",
        "A tag's key must be 1 to 32 letters, digits and dots, and not abc, which is reserved.";
    /// A tag's value breaks its rule.
    InvalidDevicePropValue = Kind::Business, "iot.device.InvalidFormattedDevicePropertyValue",
        "A tag's value must be 1 to 128 characters (a Chinese one counts 2) of Chinese, letters, digits and _ - . :";

    /// BatchCheckDeviceNames without a name.
    NoneDeviceName = Kind::Business, "iot.device.NoneDeviceNameElement",
        "Give DeviceName.N or DeviceNameList.N.DeviceName.";
    /// A name stands twice in one call.
    RepeatedDeviceName = Kind::Business, "iot.device.RepeatedDeviceName",
        "A device name stands twice in the call.";
    /// More devices than one call may register.
    DeviceCountExceeded = Kind::Business, "iot.device.DeviceCountExceeded",
        "These are more devices than one call may register.";
    /// No such registration in bulk.
    ApplyNotFound = Kind::Business, "iot.device.DeviceApplyIsNotFound", "The specified ApplyId does not exist.";
    /// Another registration of the product is running.
    CreateDeviceTaskIsRunning = Kind::Business, "iot.device.CreateDeviceTaskIsRunning",
        "Devices of the product are being registered in bulk already; wait for the end of that.";
    /// The registration cannot be carried out, or was already.
    IncorrectApply = Kind::Business, "iot.device.IncorrentDeviceApplyInfo",
        "Nothing can be registered with this ApplyId.";
    /// The product has as many devices as it may.
    ProductDeviceCountExceeded = Kind::Business, "iot.prod.DeviceCountExceedMax",
        "The product has as many devices as it may have.";

    /// No such group, or it is of the other kind.
    GroupNotFound = Kind::Business, "iot.group.NotExistedGroup", "The specified device group does not exist.";
    /// A group of this name exists.
    GroupNameExists = Kind::Business, "iot.group.AlreadyExistedGroupName",
        "A device group of this name exists already.";
    /// The group name breaks its rule.
    InvalidGroupName = Kind::Business, "iot.group.InvalidFormattedGroupName",
        "GroupName must be 4 to 30 characters (a Chinese one counts 2) of Chinese, letters, digits and _.";
    /// The group description is too long.
    LongGroupDesc = Kind::Business, "iot.group.LongGroupDesc", "GroupDesc must be at most 100 characters.";
    /// The group type is unknown.
    InvalidGroupType = Kind::Business, "iot.group.InvalidGroupType",
        "GroupType must be LINK_PLATFORM_DYNAMIC (a dynamic group), LINK_PLATFORM or absent (a static one).";
    /// The expression of a dynamic group cannot be read.
    InvalidGroupExpression = Kind::Business, "iot.group.InvalidDynamicGroupExpression",
        "DynamicGroupExpression cannot be read.";
    /// The instance has as many groups as it may.
    GroupCountExceeded = Kind::Business, "iot.group.GroupCountExceedMax",
        "The instance has as many device groups as it may have.";
    /// The groups would be nested too deep.
    GroupDepthExceeded = Kind::Business, "iot.group.GroupDepthExceedMax", "Device groups are nested too deep.";
    /// A group with groups in it is not deleted.
    GroupHasSubgroups = Kind::Business, "iot.group.GroupHasSubgroups",
        "There are groups within this group; delete them first.";
    /// A group that a batch takes devices from is not deleted.
    GroupInUse = Kind::Business, "iot.group.GroupInUse", "A job still takes devices from this group.";

    /// No such package.
    FirmwareNotFound = Kind::Business, "iot.ota.FirmwareNotFound", "The specified firmware does not exist.";
    /// A package of this name exists.
    FirmwareNameExists = Kind::Business, "iot.ota.AlreadyExistedFirmwareName",
        "A firmware of this name exists already.";
    /// The package name breaks its rule.
    InvalidFirmwareName = Kind::Business, "iot.ota.InvalidFormattedFirmwareName",
        "FirmwareName must be 1 to 40 characters of Chinese, Japanese, letters, digits and - _ ( ), \
         beginning with none of the marks.";
    /// A version breaks its rule.
    InvalidVersionText = Kind::Business, "iot.ota.InvalidFormattedVersion",
        "DestVersion must be 1 to 64 characters of letters, digits and . - _";
    /// FirmwareDesc or Udi is too long.
    LongFirmwareText = Kind::Business, "iot.ota.LongFirmwareText",
        "FirmwareDesc must be at most 100 characters, Udi at most 4096.";
    /// FirmwareUrl is not one that GenerateOTAUploadURL gave, or nothing was uploaded there, or it is in use.
    InvalidFirmwareUrl = Kind::Business, "iot.ota.InvalidFirmwareUrl",
        "FirmwareUrl must be one given by GenerateOTAUploadURL, uploaded and not used by another firmware.";
    /// MultiFiles does not fit.
    InvalidMultiFiles = Kind::Business, "iot.ota.InvalidMultiFiles",
        "MultiFiles must be up to 20 files, each with a Url of its own and a Name that no other has, and goes with \
         none of FirmwareUrl, FirmwareSign and FirmwareSize.";
    /// An upload would take of the disk's reserve.
    InsufficientStorage = Kind::Business, "iot.ota.InsufficientStorage",
        "The server's disk has no room for more files.";
    /// FirmwareSign, FirmwareSize or SignMethod does not fit the uploaded file.
    FirmwareMismatch = Kind::Business, "iot.ota.FirmwareFileMismatch",
        "FirmwareSign or FirmwareSize differs from the uploaded file.";
    /// SignMethod is neither MD5 nor SHA256.
    InvalidSignMethod = Kind::Business, "iot.ota.InvalidSignMethod", "SignMethod must be MD5 or SHA256.";
    /// No such module in the product.
    ModuleNotFound = Kind::Business, "iot.ota.ModuleNotFound",
        "The specified module does not exist in the product.";
    /// ModuleName breaks its rule.
    InvalidModule = Kind::Business, "iot.ota.InvalidFormattedModuleName",
        "ModuleName must be 1 to 64 characters of letters, digits and . - _";
    /// AliasName or Desc of a module breaks its rule.
    InvalidModuleText = Kind::Business, "iot.ota.InvalidModuleText",
        "AliasName must be 1 to 64 characters, Desc at most 100.";
    /// A module of this name exists.
    ModuleExists = Kind::Business, "iot.ota.AlreadyExistedModuleName",
        "The product has a module of this name already; upper and lower case count as the same.";
    /// The product has as many modules as it may.
    ModuleCountExceeded = Kind::Business, "iot.ota.ModuleCountExceedMax",
        "The product has as many modules as it may have.";
    /// A change of the module that every product has.
    DefaultModule = Kind::Business, "iot.ota.DefaultModuleFixed",
        "The module default is every product's own: it cannot be changed or deleted.";
    /// A package of the module exists.
    ModuleInUse = Kind::Business, "iot.ota.ModuleInUse",
        "A firmware of the module exists: delete it before the module.";
    /// Type 1 without SrcVersion, or with DestVersion in its place.
    InvalidFirmwareSource = Kind::Business, "iot.ota.InvalidFirmwareSrcVersion",
        "Type 1 (differential) needs a SrcVersion that is not DestVersion.";
    /// A device does not run the version that a differential package starts from.
    DeviceOffSource = Kind::Business, "iot.ota.DeviceSrcVersionMismatch",
        "Some target devices do not run the SrcVersion of the differential firmware.";
    /// The instance has as many packages as it may.
    FirmwareCountExceeded = Kind::Business, "iot.ota.FirmwareCountExceedMax",
        "The account has as many firmwares as it may have.";
    /// The package belongs to another product.
    FirmwareOfOtherProduct = Kind::Business, "iot.ota.FirmwareProductMismatch",
        "The specified firmware belongs to another product.";
    /// CreateOTAVerifyJob while the package is being verified or is verified.
    VerifyNotAllowed = Kind::Business, "iot.ota.FirmwareVerifyNotAllowed",
        "The firmware is being verified or is verified already.";
    /// An upgrade batch for a package that is not verified.
    FirmwareNotVerified = Kind::Business, "iot.ota.FirmwareNotVerified",
        "The firmware must be verified on a device before a batch may start.";
    /// A test device already runs the version.
    DeviceOnDestVersion = Kind::Business, "iot.ota.DeviceOnDestVersion",
        "A test device already runs the firmware's version, so it would prove nothing.";
    /// Target devices do not fit: none, given twice, or given where they must not be.
    InvalidTargets = Kind::Business, "iot.ota.InvalidTargetDevices", "The target devices do not fit.";
    /// Some target devices do not exist.
    TargetNotFound = Kind::Business, "iot.ota.TargetDeviceNotFound", "Some target devices do not exist.";
    /// DnListFileUrl is no list that was uploaded lately.
    InvalidListFile = Kind::Business, "iot.ota.InvalidDnListFileUrl",
        "DnListFileUrl must be a FileUrl given by GenerateDeviceNameListURL, uploaded not long ago.";
    /// The package cannot be downloaded by MQTT.
    DownloadNotByMqtt = Kind::Business, "iot.ota.DownloadProtocolNotAllowed",
        "DownloadProtocol MQTT is for packages of one file, which must not be too large.";
    /// A tag breaks its rule.
    InvalidTag = Kind::Business, "iot.ota.InvalidTag",
        "At most 10 tags; keys of 1 to 30 letters, digits and dots, each once; values of 1 to 1024 characters; \
         4096 in all.";
    /// TimeoutInMinutes or MaximumPerMinute is out of range.
    InvalidJobLimit = Kind::Business, "iot.ota.InvalidJobLimit",
        "TimeoutInMinutes must be 1 to 1440, MaximumPerMinute 10 to 10000.";
    /// No such batch.
    JobNotFound = Kind::Business, "iot.ota.JobNotFound", "The specified job does not exist.";
    /// ScheduleTime or ScheduleFinishTime is out of range.
    InvalidSchedule = Kind::Business, "iot.ota.InvalidSchedule",
        "ScheduleTime must lie 5 minutes to 7 days ahead, ScheduleFinishTime 1 hour to 30 days after the start.";
    /// OverwriteMode is unknown, or excluded by MultiModuleMode.
    InvalidOverwriteMode = Kind::Business, "iot.ota.InvalidOverwriteMode",
        "OverwriteMode must be 1 (keep) or 2 (replace), and 2 excludes MultiModuleMode.";
    /// RetryInterval and RetryCount do not fit.
    InvalidRetry = Kind::Business, "iot.ota.InvalidRetry",
        "RetryInterval (0, 10, 30, 60 or 1440) and RetryCount (1, 2 or 5) go together, and the interval must be \
         shorter than TimeoutInMinutes.";
    /// SrcVersion does not fit.
    InvalidSrcVersion = Kind::Business, "iot.ota.InvalidSrcVersion",
        "SrcVersion must be up to 10 versions, each once and none of them DestVersion, and needs TargetSelection \
         ALL or GRAY.";
    /// A dynamic batch asks neither for versions nor for a group, or for both.
    InvalidDynamicTargets = Kind::Business, "iot.ota.InvalidDynamicTargets",
        "A dynamic job needs either SrcVersion or GroupId with GroupType, not both.";
    /// The package has a running dynamic batch.
    DynamicJobRuns = Kind::Business, "iot.ota.DynamicJobExists",
        "A dynamic job of the firmware takes devices in already; end it by CancelOTAStrategyByJob first.";
    /// The group's running dynamic batches have other modes.
    GroupModesDiffer = Kind::Business, "iot.ota.GroupJobModesDiffer",
        "OverwriteMode and MultiModuleMode must equal those of the group's running dynamic jobs.";
    /// A change that the batch does not allow.
    InvalidJobUpdate = Kind::Business, "iot.ota.InvalidJobUpdate", "The job cannot be changed like this.";
    /// The batch does not run, or is a verification.
    JobStatusForbids = Kind::Business, "iot.ota.JobStatusForbids",
        "Only an upgrade job that is IN_PROGRESS can be changed.";
    /// The batch is static.
    NotDynamicJob = Kind::Business, "iot.ota.NotDynamicJob",
        "The specified job is static: it has no strategy to cancel.";
    /// GrayPercent does not fit.
    InvalidGrayPercent = Kind::Business, "iot.ota.InvalidGrayPercent",
        "GrayPercent must be above 0 and at most 100, with at most 3 decimals, and goes with TargetSelection GRAY.";
    /// No such task.
    TaskNotFound = Kind::Business, "iot.ota.TaskNotFound", "The specified task does not exist.";
    /// The task's status, or its batch's, forbids it.
    TaskStatusForbids = Kind::Business, "iot.ota.TaskStatusForbids",
        "The status of a task or of its job does not allow this.";
    /// CancelOTATaskByJob without a flag.
    NullCancelFlag = Kind::Business, "iot.ota.NullCancelFlag", "At least one Cancel… parameter must be true.";
    /// TaskStatus is unknown.
    InvalidTaskStatus = Kind::Business, "iot.ota.InvalidTaskStatus",
        "TaskStatus must be one of CONFIRM, QUEUED, NOTIFIED, IN_PROGRESS, SUCCEEDED, FAILED, CANCELED.";
}

/// Every HTTP status of errors before an operation.
pub fn gateway_statuses() -> BTreeSet<u16> {
    let status = |code: &Code| match code.kind() {
        Kind::Gateway(status) => Some(status),
        Kind::Business => None,
    };
    Code::ALL.iter().filter_map(status).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_each_has_its_section_in_the_docs() {
        let page = include_str!("../../../docs/errors.md");
        let mut seen = BTreeSet::new();
        for code in Code::ALL {
            assert!(seen.insert(code.wire()), "{} stands twice", code.wire());
            assert!(
                page.contains(&format!("\n### {}\n", code.wire())),
                "docs/errors.md has no section for {}",
                code.wire()
            );
        }
        for line in page.lines().filter_map(|line| line.strip_prefix("### ")) {
            assert!(
                seen.contains(line) || line.starts_with("Missing") || line.starts_with("Invalid"),
                "docs/errors.md describes {line}, which the server never answers"
            );
        }
    }
}
