//! The messages of an update: topics, what a device writes, and a tolerant reader for what it gets.

use serde_json::{Value, json};
use updraft_core::device::DEFAULT_MODULE;
use updraft_core::firmware::SignMethod;

use crate::login::Identity;

/// The kinds of topics that an update uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// The device reports its version.
    Inform,
    /// The server pushes a package.
    Upgrade,
    /// The device reports its progress.
    Progress,
    /// The device asks for a package.
    Get,
    /// The server answers.
    GetReply,
}

impl Topic {
    /// The topic of this kind for one device.
    pub fn of(self, identity: &Identity) -> String {
        let Identity { product_key: pk, device_name: dn, .. } = identity;
        match self {
            Self::Inform => format!("/ota/device/inform/{pk}/{dn}"),
            Self::Upgrade => format!("/ota/device/upgrade/{pk}/{dn}"),
            Self::Progress => format!("/ota/device/progress/{pk}/{dn}"),
            Self::Get => format!("/sys/{pk}/{dn}/thing/ota/firmware/get"),
            Self::GetReply => format!("/sys/{pk}/{dn}/thing/ota/firmware/get_reply"),
        }
    }
}

/// Adds the module, which is left out when it is the default one.
fn with_module(mut params: Value, module: &str) -> Value {
    if module != DEFAULT_MODULE {
        params["module"] = json!(module);
    }
    params
}

/// A version report.
pub fn inform(id: u64, module: &str, version: &str) -> Vec<u8> {
    let params = with_module(json!({ "version": version }), module);
    json!({ "id": id.to_string(), "params": params }).to_string().into_bytes()
}

/// A progress report: 0–100, or negative for a failure.
pub fn progress(id: u64, module: &str, step: i64, desc: &str) -> Vec<u8> {
    let params = with_module(json!({ "step": step.to_string(), "desc": desc }), module);
    json!({ "id": id.to_string(), "params": params }).to_string().into_bytes()
}

/// A question for a package.
pub fn get(id: u64, module: &str) -> Vec<u8> {
    let params = with_module(json!({}), module);
    json!({ "id": id.to_string(), "version": "1.0", "params": params, "method": "thing.ota.firmware.get" })
        .to_string()
        .into_bytes()
}

/// A package that the server offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The module that it is for.
    pub module: String,
    /// The version that it leads to.
    pub version: String,
    /// How its files are signed.
    pub method: SignMethod,
    /// Its files; empty if none can be had by HTTP.
    pub files: Vec<OfferFile>,
}

/// One file of an [`Offer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferFile {
    /// Where to get it.
    pub url: String,
    /// Its length in bytes, 0 if unknown.
    pub size: u64,
    /// Its digest in hexadecimal.
    pub sign: String,
}

/// Reads a push or the answer to a question; `None` if it offers nothing.
pub fn parse_offer(payload: &[u8]) -> Option<Offer> {
    let message: Value = serde_json::from_slice(payload).ok()?;
    let accepted = match message.get("code") {
        None => true,
        Some(code) => matches!(number(code), Some(200 | 1000)),
    };
    let data = message.get("data").filter(|_| accepted)?;
    let version = text(data, "version")?;
    let method = match data.get("signMethod").and_then(Value::as_str) {
        Some(name) if name.eq_ignore_ascii_case("sha256") => SignMethod::Sha256,
        _ => SignMethod::Md5,
    };
    let files = match data.get("files").and_then(Value::as_array) {
        Some(list) => list
            .iter()
            .filter_map(|file| parse_file(file, ["fileUrl", "fileSize", "fileSign", "fileMd5"]))
            .collect(),
        None => parse_file(data, ["url", "size", "sign", "md5"]).into_iter().collect(),
    };
    let module = text(data, "module").unwrap_or_else(|| DEFAULT_MODULE.to_owned());
    Some(Offer { module, version, method, files })
}

fn parse_file(file: &Value, [url, size, sign, md5]: [&str; 4]) -> Option<OfferFile> {
    Some(OfferFile {
        url: text(file, url)?,
        size: file.get(size).and_then(number).unwrap_or(0),
        sign: text(file, sign).or_else(|| text(file, md5)).unwrap_or_default(),
    })
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// A number, whether it was written as one or as a text.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(payload: &[u8]) -> Value {
        serde_json::from_slice(payload).unwrap()
    }

    #[test]
    fn reports_name_the_module_unless_it_is_the_default() {
        assert_eq!(said(&inform(1, "default", "1.0")), json!({"id":"1","params":{"version":"1.0"}}));
        assert_eq!(
            said(&progress(2, "MCU", -3, "bad")),
            json!({"id":"2","params":{"step":"-3","desc":"bad","module":"MCU"}})
        );
        assert_eq!(said(&get(3, "MCU"))["params"], json!({"module":"MCU"}));
    }

    #[test]
    fn a_push_and_an_answer_read_alike() {
        let data =
            r#"{"size":84,"sign":"ab","version":"2.0","url":"http://h/f","signMethod":"Md5","md5":"ab"}"#;
        let push = format!(r#"{{"code":"1000","data":{data},"id":1,"message":"success"}}"#);
        let reply = format!(r#"{{"id":"1","code":200,"data":{data}}}"#);
        let offer = parse_offer(push.as_bytes()).unwrap();
        assert_eq!(Some(&offer), parse_offer(reply.as_bytes()).as_ref());
        assert_eq!((offer.module.as_str(), offer.version.as_str()), ("default", "2.0"));
        let file = OfferFile { url: "http://h/f".into(), size: 84, sign: "ab".into() };
        assert_eq!(offer.files, [file]);
    }

    #[test]
    fn several_files_and_sha256_are_read() {
        let push = br#"{"code":"1000","data":{"version":"2","signMethod":"SHA256","module":"MCU","files":[
            {"fileSize":1,"fileUrl":"a","fileSign":"x"},{"fileSize":"2","fileUrl":"b","fileMd5":"y"}]}}"#;
        let offer = parse_offer(push).unwrap();
        assert_eq!(offer.method, SignMethod::Sha256);
        assert_eq!(offer.module, "MCU");
        assert_eq!(offer.files.iter().map(|f| f.size).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(offer.files[1].sign, "y");
    }

    #[test]
    fn nothing_offered_reads_as_nothing() {
        for payload in [
            r#"{"id":"1","code":200,"data":{}}"#,
            r#"{"id":"1","code":500,"data":{"version":"2","url":"u"}}"#,
            r#"{"id":"1"}"#,
            "not json",
            "",
            "[]",
            r#"{"code":[],"data":7}"#,
        ] {
            assert_eq!(parse_offer(payload.as_bytes()), None, "{payload}");
        }
        let mqtt_only = br#"{"code":"1000","data":{"version":"2","streamId":7,"dProtocol":"mqtt","size":1}}"#;
        assert_eq!(parse_offer(mqtt_only).unwrap().files, []);
    }
}
