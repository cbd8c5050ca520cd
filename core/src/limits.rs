//! Every bound of the system that the platform's pages fix, with its unit in the name.
//!
//! Bounds that an operator may change are configuration keys instead; their defaults stand there.

/// Largest update file over HTTP(S), in bytes (1000 MB).
pub const FILE_BYTES_MAX: i64 = 1_000 * 1024 * 1024;
/// Most files of one package.
pub const MULTI_FILES_MAX: usize = 20;
/// Longest name of a file in a package, in characters.
pub const FILE_NAME_CHARS_MAX: usize = 32;
/// Largest page of ListOTAFirmware, in rows.
pub const FIRMWARE_PAGE_SIZE_MAX: i64 = 100;
/// Longest package description, in characters.
pub const FIRMWARE_DESC_CHARS_MAX: usize = 100;
/// Longest custom information of a package (`Udi`), in characters.
pub const UDI_CHARS_MAX: usize = 4_096;
/// Longest product description, in characters.
pub const PRODUCT_DESC_CHARS_MAX: usize = 100;
/// Longest description of a module, in characters.
pub const MODULE_DESC_CHARS_MAX: usize = 100;
/// Largest page of ListOTAModuleVersionsByDevice, in rows.
pub const MODULE_PAGE_SIZE_MAX: i64 = 200;
/// Most test devices of one verification batch.
pub const VERIFY_TARGETS_MAX: usize = 10;
/// Most devices named one by one in one static batch.
pub const STATIC_TARGETS_MAX: usize = 200;
/// Most tags of a batch.
pub const TAGS_MAX: usize = 10;
/// Longest tag value, in characters.
pub const TAG_VALUE_CHARS_MAX: usize = 1_024;
/// Longest sum of all tag keys and values of a batch, in characters.
pub const TAGS_CHARS_MAX: usize = 4_096;
/// Fewest devices that a batch may be told to serve in a minute.
pub const PER_MINUTE_MIN: i64 = 10;
/// Most devices that a batch serves in a minute; also the default.
pub const PER_MINUTE_MAX: i64 = 10_000;
/// Most tasks that one device gets of one dynamic batch.
pub const DYNAMIC_MATCHES_MAX: usize = 10;
/// How often the terms for further tasks of a dynamic batch (time-out, source versions) may be changed.
pub const JOB_TERMS_MAX: usize = 50;
/// Most source versions of a batch.
pub const SRC_VERSIONS_MAX: usize = 10;
/// The waits that RetryInterval may name, in minutes.
pub const RETRY_INTERVALS_MINUTES: [i64; 5] = [0, 10, 30, 60, 1_440];
/// What RetryCount may be.
pub const RETRY_COUNTS: [i64; 3] = [1, 2, 5];
/// How far ahead ScheduleTime may lie, in minutes: 5 minutes to 7 days.
pub const SCHEDULE_AHEAD_MINUTES: std::ops::RangeInclusive<i64> = 5..=7 * 24 * 60;
/// How long after the start ScheduleFinishTime may lie, in minutes: 1 hour to 30 days.
pub const SCHEDULE_LENGTH_MINUTES: std::ops::RangeInclusive<i64> = 60..=30 * 24 * 60;
/// Most tasks of one ConfirmOTATask or ReupgradeOTATask call.
pub const TASK_IDS_MAX: usize = 10;
/// Most devices of one CancelOTATaskByDevice call.
pub const CANCEL_DEVICES_MAX: usize = 200;
/// Largest page of ListOTAJobByDevice, in rows.
pub const JOB_BY_DEVICE_PAGE_SIZE_MAX: i64 = 100;
/// Largest page of QueryProductList, in rows.
pub const PRODUCT_PAGE_SIZE_MAX: i64 = 200;
/// Largest page of QueryDevice, in rows.
pub const DEVICE_PAGE_SIZE_MAX: i64 = 50;
/// Most devices that are registered in bulk with one ApplyId.
pub const APPLY_NAMES_MAX: usize = 10_000;
/// QueryDevice wants a NextToken beyond CurrentPage × PageSize of this many rows.
pub const DEVICE_PAGE_REACH_MAX: i64 = 10_000;
/// QueryProductList and QueryDevice have a smaller quota from CurrentPage × PageSize of this many rows on.
pub const DEEP_PAGE_ROWS: i64 = 100_000;
/// Shortest and longest task time-out, in minutes.
pub const TIMEOUT_MINUTES: std::ops::RangeInclusive<i64> = 1..=1_440;
/// Largest page of ListOTAJobByFirmware, in rows.
pub const JOB_PAGE_SIZE_MAX: i64 = 200;
/// Largest page of ListOTATaskByJob, in rows.
pub const TASK_PAGE_SIZE_MAX: i64 = 100;
/// ListOTATaskByJob refuses pages beyond CurrentPage × PageSize of this many rows.
pub const TASK_PAGE_REACH_MAX: i64 = 100_000;
/// Most device names that filter one ListOTATaskByJob call.
pub const TASK_DEVICE_NAMES_MAX: usize = 50;
/// Longest description kept of a device's progress report, in characters.
pub const PROGRESS_DESC_CHARS_MAX: usize = 128;
/// Longest MQTT payload, in bytes (256 KB).
pub const MQTT_PAYLOAD_BYTES_MAX: usize = 256 * 1024;
/// Longest payload of a message by HTTP, in bytes (128 KB).
pub const HTTP_PAYLOAD_BYTES_MAX: usize = 128 * 1024;
/// Largest block of a download by MQTT, in bytes (128 KB).
pub const MQTT_BLOCK_BYTES_MAX: i64 = 128 * 1024;
/// Longest MQTT topic, in bytes.
pub const MQTT_TOPIC_BYTES_MAX: usize = 128;
/// Longest free part of an MQTT client id (before the first `|`), in characters.
pub const CLIENT_ID_CHARS_MAX: usize = 64;
/// Keepalive that the platform accepts, in seconds.
pub const KEEPALIVE_SECONDS: std::ops::RangeInclusive<u16> = 30..=1_200;
/// Most custom subscriptions that one connection may hold.
pub const SUBSCRIPTIONS_MAX: usize = 64;
/// Most modules of which one device's version is remembered (`default` and ten custom ones).
pub const MODULES_PER_DEVICE_MAX: i64 = 11;
/// Longest group description, in characters.
pub const GROUP_DESC_CHARS_MAX: usize = 100;
/// Longest expression of a dynamic group, in characters.
pub const EXPRESSION_CHARS_MAX: usize = 1_024;
/// How deep parentheses and `not` of an expression may be nested.
pub const EXPRESSION_DEPTH_MAX: usize = 16;
/// Most static groups that one device is in.
pub const STATIC_GROUPS_PER_DEVICE_MAX: usize = 10;
/// Most devices of one BatchAddDeviceGroupRelations or BatchDeleteDeviceGroupRelations call.
pub const GROUP_RELATIONS_MAX: usize = 200;
/// Largest page of the lists of groups and of their devices, in rows.
pub const GROUP_PAGE_SIZE_MAX: i64 = 200;
/// Longest policy document of a RAM user, in characters.
pub const POLICY_CHARS_MAX: usize = 6_144;
/// How long a temporary key may work, in seconds: 15 minutes to 12 hours.
pub const STS_SECONDS: std::ops::RangeInclusive<i64> = 900..=43_200;
/// Longest policy document of a temporary key, in characters.
pub const SESSION_POLICY_CHARS_MAX: usize = 2_048;
/// Most tags of a device, and of one SaveDeviceProp call.
pub const DEVICE_TAGS_MAX: usize = 100;
/// Longest `Props` of SaveDeviceProp, in bytes (5 KB).
pub const DEVICE_PROPS_BYTES_MAX: usize = 5 * 1024;
/// Most tags that QueryDeviceByTags or ListProductByTags asks for.
pub const TAGS_ASKED_MAX: usize = 10;
/// Largest page of QueryDeviceByTags and ListProductByTags, in rows.
pub const BY_TAGS_PAGE_SIZE_MAX: i64 = 50;
/// Most tags of a product.
pub const PRODUCT_TAGS_MAX: usize = 100;
/// Most tags of one CreateProductTags, UpdateProductTags or DeleteProductTags call.
pub const PRODUCT_TAGS_PER_CALL_MAX: usize = 10;
/// Most devices of one BatchQueryDeviceDetail call.
pub const DEVICE_DETAILS_MAX: usize = 100;
/// Most devices of one BatchGetDeviceState call.
pub const DEVICE_STATES_MAX: usize = 50;
/// Most devices that one BatchAddThingTopo call puts behind a gateway.
pub const TOPO_ADDED_MAX: usize = 10;
/// Largest page of GetThingTopo, in rows.
pub const TOPO_PAGE_SIZE_MAX: i64 = 50;
/// Longest category key of a product, in characters.
pub const CATEGORY_KEY_CHARS_MAX: usize = 64;
