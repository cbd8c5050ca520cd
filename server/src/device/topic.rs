//! The grammar of device topics, both ways, and what a device may touch.
//!
//! A topic belongs to a device if product key and device name stand in it as neighbouring levels; where,
//! differs from family to family (`/sys/{pk}/{dn}/…`, `/ota/device/inform/{pk}/{dn}`, `/{pk}/{dn}/user/…`).

/// The messages from devices that the server reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uplink {
    /// A version report.
    Inform,
    /// A progress report.
    Progress,
    /// A question for a package.
    FirmwareGet,
    /// The same on the topic of older SDKs.
    Request,
    /// A question for a block of a file.
    FileDownload,
    /// The device's own topic, of which the server knows nothing: accepted and ignored.
    Unknown,
}

/// The topics that the server writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DownTopic {
    /// Package information, pushed.
    Upgrade,
    /// Package information, as an answer.
    GetReply,
    /// The same on the topic of older SDKs; the device's own question is never echoed there.
    RequestReply,
    /// A block of a file.
    FileReply,
}

impl DownTopic {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Upgrade, Self::GetReply, Self::RequestReply, Self::FileReply];

    fn around(self) -> (&'static str, &'static str) {
        match self {
            Self::Upgrade => ("/ota/device/upgrade/", ""),
            Self::GetReply => ("/sys/", "/thing/ota/firmware/get_reply"),
            Self::RequestReply => ("/ota/device/request/", ""),
            Self::FileReply => ("/sys/", "/thing/file/download_reply"),
        }
    }
}

/// A device's name in topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner<'a> {
    /// Its product key.
    pub product_key: &'a str,
    /// Its device name.
    pub device_name: &'a str,
}

impl Owner<'_> {
    /// What a device's message is about; `None` if the topic is not its own.
    pub fn uplink(&self, topic: &str) -> Option<Uplink> {
        for (before, after, kind) in [
            ("/ota/device/inform/", "", Uplink::Inform),
            ("/ota/device/progress/", "", Uplink::Progress),
            ("/sys/", "/thing/ota/firmware/get", Uplink::FirmwareGet),
            ("/ota/device/request/", "", Uplink::Request),
            ("/sys/", "/thing/file/download", Uplink::FileDownload),
        ] {
            if self.is(topic, before, after) {
                return Some(kind);
            }
        }
        self.owns(topic).then_some(Uplink::Unknown)
    }

    /// The name of a topic that the server writes to.
    pub fn downlink(&self, topic: DownTopic) -> String {
        let (before, after) = topic.around();
        [before, self.product_key, "/", self.device_name, after].concat()
    }

    /// Whether a topic or filter is this device's own.
    pub fn owns(&self, topic: &str) -> bool {
        let mut before = None;
        topic.split('/').any(|level| {
            let pair = before == Some(self.product_key) && level == self.device_name;
            before = Some(level);
            pair
        })
    }

    /// Whether a filter names exactly this topic.
    pub fn names(&self, filter: &str, topic: DownTopic) -> bool {
        let (before, after) = topic.around();
        self.is(filter, before, after)
    }

    /// `topic == {before}{product key}/{device name}{after}`, without building that text.
    pub fn is(&self, topic: &str, before: &str, after: &str) -> bool {
        topic
            .strip_prefix(before)
            .and_then(|rest| rest.strip_prefix(self.product_key))
            .and_then(|rest| rest.strip_prefix('/'))
            .and_then(|rest| rest.strip_prefix(self.device_name))
            == Some(after)
    }
}

/// Whether a text is a topic filter: `+` and `#` fill a level, `#` only the last one.
pub fn is_filter(filter: &str) -> bool {
    if filter.is_empty() || filter.contains('\0') {
        return false;
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let fits = match level {
            "+" => true,
            "#" => levels.peek().is_none(),
            level => !level.contains(['+', '#']),
        };
        if !fits {
            return false;
        }
    }
    true
}

/// Whether a filter matches a topic, by MQTT's rules. The server has no topic that starts with `$`.
pub fn matches(filter: &str, topic: &str) -> bool {
    let (mut filters, mut levels) = (filter.split('/'), topic.split('/'));
    loop {
        match (filters.next(), levels.next()) {
            // `a/#` matches `a` too.
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(filter), Some(level)) if filter == level => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Owner<'static> = Owner { product_key: "a1TestPk001", device_name: "dev01" };

    #[test]
    fn the_grammar_of_topics() {
        for (topic, expected) in [
            ("/ota/device/inform/a1TestPk001/dev01", Some(Uplink::Inform)),
            ("/ota/device/progress/a1TestPk001/dev01", Some(Uplink::Progress)),
            ("/sys/a1TestPk001/dev01/thing/ota/firmware/get", Some(Uplink::FirmwareGet)),
            ("/ota/device/request/a1TestPk001/dev01", Some(Uplink::Request)),
            ("/sys/a1TestPk001/dev01/thing/file/download", Some(Uplink::FileDownload)),
            ("/sys/a1TestPk001/dev02/thing/file/download", None),
            ("/sys/a1TestPk001/dev01/thing/event/property/post", Some(Uplink::Unknown)),
            ("/sys/a1TestPk001/dev01/thing/ota/firmware/get_reply", Some(Uplink::Unknown)),
            ("/ota/device/inform/a1TestPk001/dev01/", Some(Uplink::Unknown)),
            ("/a1TestPk001/dev01/user/x", Some(Uplink::Unknown)),
            ("a1TestPk001/dev01", Some(Uplink::Unknown)),
            ("/ota/device/inform/a1TestPk001/dev02", None),
            ("/ota/device/inform/a1TestPk001/dev011", None),
            ("/ota/device/inform/a1TestPk001x/dev01", None),
            ("/ota/device/inform/a1TestPk001/x/dev01", None),
            ("/ota/device/inform/dev01/a1TestPk001", None),
            ("/ota/device/inform/a1TestPk001", None),
            ("/ota/device/inform/+/+", None),
            ("dev01", None),
            ("", None),
            ("/", None),
        ] {
            assert_eq!(ME.uplink(topic), expected, "{topic}");
        }
        assert_eq!(ME.downlink(DownTopic::Upgrade), "/ota/device/upgrade/a1TestPk001/dev01");
        assert_eq!(ME.downlink(DownTopic::GetReply), "/sys/a1TestPk001/dev01/thing/ota/firmware/get_reply");
        for topic in DownTopic::ALL {
            assert!(ME.names(&ME.downlink(topic), topic));
            assert!(ME.owns(&ME.downlink(topic)));
        }
    }

    #[test]
    fn filters_match_by_mqtts_rules() {
        let topic = "/ota/device/upgrade/a1TestPk001/dev01";
        for (filter, valid, hit, own) in [
            (topic, true, true, true),
            ("/ota/device/+/a1TestPk001/dev01", true, true, true),
            ("/ota/device/upgrade/a1TestPk001/dev01/#", true, true, true),
            ("/+/+/+/a1TestPk001/dev01", true, true, true),
            ("+/ota/+/upgrade/a1TestPk001/dev01", true, true, true),
            ("/sys/a1TestPk001/dev01/#", true, false, true),
            ("/ota/device/+/a1TestPk001/dev01/+", true, false, true),
            ("/ota/device/upgrade/+/+", true, true, false),
            ("/ota/device/upgrade/a1TestPk001/+", true, true, false),
            ("/ota/#", true, true, false),
            ("#", true, true, false),
            ("+", true, false, false),
            ("/ota/device/upgrade/a1TestPk001/dev02", true, false, false),
            ("/ota/#/a1TestPk001/dev01", false, true, true),
            ("/ota/device/up+/a1TestPk001/dev01", false, false, true),
            ("/ota/device/upgrade/a1TestPk001/dev01#", false, false, false),
            ("", false, false, false),
            ("/a1TestPk001/dev01/\0", false, false, true),
        ] {
            assert_eq!(is_filter(filter), valid, "valid: {filter}");
            assert_eq!(matches(filter, topic), hit, "match: {filter}");
            assert_eq!(ME.owns(filter), own, "own: {filter}");
        }
    }
}
