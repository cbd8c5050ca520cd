//! What calls about batches have in common: tags, times, retries, target names, package; and how a batch is found.

use crate::api::error::{ApiError, Code};
use crate::api::params::Params;
use crate::app::App;
use std::collections::BTreeSet;
use updraft_core::id::InstanceNo;
use updraft_core::job::{Conduct, DownloadProtocol, OverwriteMode, Schedule, Tag};
use updraft_core::limits::{
    PER_MINUTE_MAX, PER_MINUTE_MIN, RETRY_COUNTS, RETRY_INTERVALS_MINUTES, SRC_VERSIONS_MAX,
    TAG_VALUE_CHARS_MAX, TAGS_CHARS_MAX, TAGS_MAX, TIMEOUT_MINUTES,
};
use updraft_core::text;
use updraft_core::time::Timestamp;
use updraft_store::{Candidate, Device, Firmware, Job, Product, RetryRule, Tx};

/// Most devices that a refusal names.
const OFFENDERS_TOLD: usize = 5;

/// What a caller says of any batch.
#[derive(Clone)]
pub struct BatchRequest {
    pub firmware_id: String,
    pub product_key: String,
    pub need_push: bool,
    pub need_confirm: bool,
    pub timeout_minutes: Option<i64>,
    download: DownloadProtocol,
    pub tags: Vec<Tag>,
}

impl BatchRequest {
    pub fn read(params: &Params) -> Result<Self, ApiError> {
        Ok(Self {
            firmware_id: params.need("FirmwareId")?.to_owned(),
            product_key: params.need("ProductKey")?.to_owned(),
            need_push: params.flag("NeedPush")?.unwrap_or(true),
            need_confirm: params.flag("NeedConfirm")?.unwrap_or(false),
            timeout_minutes: timeout_minutes(params)?,
            download: download(params)?,
            tags: tags_of(params, "Tag")?,
        })
    }

    /// The package, which must be the product's.
    pub fn firmware(&self, tx: &mut Tx<'_>, instance: InstanceNo) -> Result<Firmware, ApiError> {
        let firmware = tx
            .firmware_find(instance, &self.firmware_id)?
            .ok_or_else(|| ApiError::new(Code::FirmwareNotFound))?;
        let product = tx
            .product_find(instance, &self.product_key)?
            .ok_or_else(|| ApiError::new(Code::ProductNotFound))?;
        if product.no == firmware.product { Ok(firmware) } else { Err(Code::FirmwareOfOtherProduct.into()) }
    }

    /// How the package is downloaded, if it can be so: by MQTT only one file that is not too large.
    pub fn download(&self, firmware: &Firmware, app: &App) -> Result<DownloadProtocol, ApiError> {
        let bytes_max = app.config.mqtt_file_bytes_max;
        let refuse = |why: String| Err(ApiError::with(Code::DownloadNotByMqtt, why));
        if self.download == DownloadProtocol::Https {
            return Ok(self.download);
        }
        match firmware.files.as_slice() {
            [file] if file.size <= bytes_max => Ok(self.download),
            [file] => refuse(format!(
                "The package has {} bytes, and DownloadProtocol MQTT is for {bytes_max} at most \
                 (mqtt_file_bytes_max): use HTTPS.",
                file.size
            )),
            files => refuse(format!(
                "The package has {} files, and DownloadProtocol MQTT is for one file: use HTTPS.",
                files.len()
            )),
        }
    }
}

fn download(params: &Params) -> Result<DownloadProtocol, ApiError> {
    let Some(name) = params.text("DownloadProtocol") else { return Ok(DownloadProtocol::default()) };
    let found = DownloadProtocol::ALL.into_iter().find(|protocol| protocol.name().eq_ignore_ascii_case(name));
    found.ok_or_else(|| ApiError::invalid("DownloadProtocol", "It must be HTTPS or MQTT."))
}

/// The instance's batch of this id, with its package and product.
pub fn find_job(
    tx: &mut Tx<'_>,
    instance: InstanceNo,
    job_id: &str,
) -> Result<(Job, Firmware, Product), ApiError> {
    let missing = || ApiError::new(Code::JobNotFound);
    let job = tx.job_find(instance, job_id)?.ok_or_else(missing)?;
    let firmware = tx.firmwares_load(&[job.firmware])?.pop().ok_or_else(missing)?;
    let product = tx.product_load(job.product)?.ok_or_else(missing)?;
    Ok((job, firmware, product))
}

/// `TimeoutInMinutes`.
pub fn timeout_minutes(params: &Params) -> Result<Option<i64>, ApiError> {
    let minutes = params.int("TimeoutInMinutes")?;
    if minutes.is_some_and(|minutes| !TIMEOUT_MINUTES.contains(&minutes)) {
        return Err(Code::InvalidJobLimit.into());
    }
    Ok(minutes)
}

/// `MaximumPerMinute`, or its default.
pub fn per_minute(params: &Params) -> Result<i64, ApiError> {
    let value = params.int("MaximumPerMinute")?.unwrap_or(PER_MINUTE_MAX);
    if (PER_MINUTE_MIN..=PER_MINUTE_MAX).contains(&value) {
        Ok(value)
    } else {
        Err(Code::InvalidJobLimit.into())
    }
}

/// `OverwriteMode` and `MultiModuleMode`.
pub fn conduct(params: &Params) -> Result<Conduct, ApiError> {
    let overwrite = match params.int("OverwriteMode")? {
        None => OverwriteMode::default(),
        Some(code) => OverwriteMode::from_code(code).ok_or(Code::InvalidOverwriteMode)?,
    };
    let multi_module = params.flag("MultiModuleMode")?.unwrap_or(false);
    if multi_module && overwrite == OverwriteMode::Replace {
        return Err(Code::InvalidOverwriteMode.into());
    }
    Ok(Conduct { overwrite, multi_module, ..Conduct::default() })
}

/// `RetryInterval` and `RetryCount`.
pub fn retry(params: &Params, timeout_minutes: Option<i64>) -> Result<Option<RetryRule>, ApiError> {
    let (interval, count) = (params.int("RetryInterval")?, params.int("RetryCount")?);
    let (interval_minutes, count) = match (interval, count) {
        (None, None) => return Ok(None),
        (Some(interval), Some(count)) => (interval, count),
        _ => return Err(Code::InvalidRetry.into()),
    };
    let fits = RETRY_INTERVALS_MINUTES.contains(&interval_minutes)
        && RETRY_COUNTS.contains(&count)
        && timeout_minutes.is_none_or(|timeout| interval_minutes < timeout);
    if fits { Ok(Some(RetryRule { interval_minutes, count })) } else { Err(Code::InvalidRetry.into()) }
}

/// `ScheduleTime` and `ScheduleFinishTime`.
pub fn schedule(params: &Params, now: Timestamp, minute_ms: i64) -> Result<Schedule, ApiError> {
    let asked = Schedule {
        start: params.int("ScheduleTime")?.map(Timestamp),
        finish: params.int("ScheduleFinishTime")?.map(Timestamp),
    };
    asked.check(now, minute_ms).map_err(|why| ApiError::with(Code::InvalidSchedule, why))
}

/// `SrcVersion.N`: each once.
pub fn src_versions(params: &Params) -> Result<Vec<String>, ApiError> {
    versions_of(params, "SrcVersion")
}

/// A list of versions: each once.
pub fn versions_of(params: &Params, parameter: &str) -> Result<Vec<String>, ApiError> {
    let versions = params.list(parameter, SRC_VERSIONS_MAX)?;
    let mut seen = BTreeSet::new();
    if versions.iter().all(|version| text::version(version) && seen.insert(*version)) {
        Ok(versions.into_iter().map(str::to_owned).collect())
    } else {
        Err(Code::InvalidSrcVersion.into())
    }
}

/// Whether a batch that finds its devices by version may do so by these: none of them the package's own, and for
/// a differential package its source version and no other.
pub fn check_sources(firmware: &Firmware, asked: &[String]) -> Result<(), ApiError> {
    if asked.contains(&firmware.dest_version) {
        return Err(Code::InvalidSrcVersion.into());
    }
    match firmware.differs_from() {
        Some(source) if asked != [source] => Err(ApiError::with(
            Code::InvalidSrcVersion,
            format!(
                "The firmware is differential: SrcVersion.1 must be its SrcVersion, {source}, and the only one."
            ),
        )),
        _ => Ok(()),
    }
}

/// Whether devices that are named one by one may be given the package: one that is differential wants all of them
/// to run its source version. Both lists are in registration order; the first others are named in the error.
pub fn check_named(firmware: &Firmware, devices: &[Device], known: &[Candidate]) -> Result<(), ApiError> {
    let Some(source) = firmware.differs_from() else { return Ok(()) };
    let others: Vec<String> = devices
        .iter()
        .zip(known)
        .filter(|(_, known)| known.version.as_deref() != Some(source))
        .map(|(device, known)| {
            format!("{} ({})", device.name, known.version.as_deref().unwrap_or("never reported"))
        })
        .take(OFFENDERS_TOLD)
        .collect();
    if others.is_empty() {
        return Ok(());
    }
    Err(ApiError::with(
        Code::DeviceOffSource,
        format!(
            "The firmware is differential and for devices that run {source} only; these do not: {}.",
            others.join(", ")
        ),
    ))
}

/// `TargetDeviceName.N`: up to `max` names, each once.
pub fn target_names(params: &Params, max: usize) -> Result<Vec<String>, ApiError> {
    device_names(params, "TargetDeviceName", max)
}

/// A list of up to `max` device names, each once.
pub fn device_names(params: &Params, parameter: &str, max: usize) -> Result<Vec<String>, ApiError> {
    let names: Vec<String> = params.list(parameter, max)?.into_iter().map(str::to_owned).collect();
    let mut seen = BTreeSet::new();
    if let Some(twice) = names.iter().find(|name| !seen.insert(name.as_str())) {
        return Err(ApiError::with(
            Code::InvalidTargets,
            format!("The device {} is named twice.", text::clip(twice, 32)),
        ));
    }
    Ok(names)
}

/// The devices of these names, in registration order; the first unknown names are named in the error.
pub fn target_devices(
    tx: &mut Tx<'_>,
    firmware: &Firmware,
    names: &[String],
) -> Result<Vec<Device>, ApiError> {
    let mut devices = tx.devices_find(firmware.product, names)?;
    if devices.len() != names.len() {
        let found: BTreeSet<&str> = devices.iter().map(|device| device.name.as_str()).collect();
        let unknown: Vec<&str> = names
            .iter()
            .filter(|name| !found.contains(name.as_str()))
            .map(|name| text::clip(name, 32))
            .take(OFFENDERS_TOLD)
            .collect();
        return Err(ApiError::with(
            Code::TargetNotFound,
            format!("These devices are not of the product: {}.", unknown.join(", ")),
        ));
    }
    devices.sort_by_key(|device| device.no);
    Ok(devices)
}

/// A list of tags, each with a key that no other has.
pub fn tags_of(params: &Params, parameter: &str) -> Result<Vec<Tag>, ApiError> {
    let mut tags: Vec<Tag> = Vec::new();
    let mut chars = 0;
    for item in params.structs(parameter, TAGS_MAX)? {
        let (Some(key), Some(value)) = (item.get("Key"), item.get("Value")) else {
            return Err(ApiError::with(Code::InvalidTag, "A tag needs both Key and Value."));
        };
        let length = value.chars().count();
        chars += key.chars().count() + length;
        let doubled = tags.iter().any(|tag| tag.key == *key);
        if item.len() != 2
            || doubled
            || !text::tag_key(key)
            || !(1..=TAG_VALUE_CHARS_MAX).contains(&length)
            || chars > TAGS_CHARS_MAX
        {
            return Err(Code::InvalidTag.into());
        }
        tags.push(Tag { key: (*key).to_owned(), value: (*value).to_owned() });
    }
    Ok(tags)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Vec<Tag>, ApiError> {
        tags_of(&Params::from_pairs(pairs.iter().copied()), "Tag")
    }

    #[test]
    fn tags_need_key_and_value_each_within_bounds() {
        assert_eq!(of(&[("Tag.1.Key", "a.b"), ("Tag.1.Value", "路")]).unwrap()[0].value, "路");
        assert!(of(&[("Tag.1.Key", "a")]).is_err());
        assert!(of(&[("Tag.1.Key", "a_b"), ("Tag.1.Value", "v")]).is_err());
        assert!(of(&[("Tag.1.Key", "a"), ("Tag.1.Value", &"v".repeat(1_025))]).is_err());
        let twice = [("Tag.1.Key", "a"), ("Tag.1.Value", "v"), ("Tag.2.Key", "a"), ("Tag.2.Value", "w")];
        assert!(of(&twice).is_err());
    }

    #[test]
    fn retries_have_an_interval_and_a_count_and_end_before_the_time_out() {
        let retry = |pairs: &[(&str, &str)], timeout| {
            super::retry(&Params::from_pairs(pairs.iter().copied()), timeout).map(|rule| rule.is_some())
        };
        assert_eq!(retry(&[], None), Ok(false));
        let both = |interval, count| [("RetryInterval", interval), ("RetryCount", count)];
        assert_eq!(retry(&both("0", "5"), Some(1)), Ok(true));
        assert_eq!(retry(&both("30", "2"), Some(60)), Ok(true));
        assert_eq!(retry(&both("1440", "1"), None), Ok(true));
        for (interval, count, timeout) in
            [("60", "2", Some(60)), ("5", "2", None), ("10", "3", None), ("10", "0", None)]
        {
            assert!(retry(&both(interval, count), timeout).is_err(), "{interval} {count} {timeout:?}");
        }
        assert!(retry(&[("RetryInterval", "10")], None).is_err());
        assert!(retry(&[("RetryCount", "2")], None).is_err());
    }

    #[test]
    fn source_versions_are_named_once_each() {
        let versions =
            |pairs: &[(&str, &str)]| super::src_versions(&Params::from_pairs(pairs.iter().copied()));
        assert_eq!(versions(&[]).unwrap().len(), 0);
        assert_eq!(versions(&[("SrcVersion.1", "1.0"), ("SrcVersion.2", "1.1")]).unwrap(), ["1.0", "1.1"]);
        assert!(versions(&[("SrcVersion.1", "1.0"), ("SrcVersion.2", "1.0")]).is_err());
        assert!(versions(&[("SrcVersion.1", "1 0")]).is_err());
        assert!(versions(&[("SrcVersion.11", "1.0")]).is_err());
    }

    #[test]
    fn all_tags_together_are_bounded() {
        let value = "v".repeat(1_023);
        let names: Vec<(String, String)> =
            (1..=4).map(|n| (format!("Tag.{n}.Key"), format!("Tag.{n}.Value"))).collect();
        let keys = ["a", "b", "c", "d"];
        let mut pairs = Vec::new();
        for (index, (key, val)) in names.iter().enumerate() {
            pairs.push((key.as_str(), keys[index]));
            pairs.push((val.as_str(), value.as_str()));
        }
        assert!(of(&pairs).is_ok());
        pairs.extend([("Tag.5.Key", "e"), ("Tag.5.Value", "v")]);
        assert!(of(&pairs).is_err());
    }
}
