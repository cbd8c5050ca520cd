//! What a device is told about a package, as bytes.
//!
//! Some SDKs search the text instead of parsing JSON, so its form matters: no blank outside of texts, the
//! keys in this order, texts of users last, `/` and `&` not escaped. Link SDK for C 4.x ignores a push with
//! blanks, takes the first `"key":` that it meets, and ends a text at its first quote.

use super::DEFAULT_MODULE;
use super::link::Package;
use std::fmt::Write as _;

/// The key under which devices find a package's custom information.
const UDI_KEY: &str = "_package_udi";

/// The payload for `/ota/device/upgrade/{pk}/{dn}`; `base` is the address before the download path.
pub fn push(package: &Package, base: &str, id: i64) -> Vec<u8> {
    request_reply(&id.to_string(), package, base)
}

/// The payload for `/ota/device/request/{pk}/{dn}`: a push with the question's `id`, as JSON text; 0 if it had
/// none.
pub fn request_reply(id: &str, package: &Package, base: &str) -> Vec<u8> {
    let id = if id.is_empty() { "0" } else { id };
    let mut out = String::with_capacity(512);
    // Here the code is a text; in the answer to a question it is a number.
    out.push_str(r#"{"code":"1000","data":"#);
    data(&mut out, package, base);
    // Writing to a String cannot fail.
    let _ = write!(out, r#","id":{id},"message":"success"}}"#);
    out.into_bytes()
}

/// The payload for `/sys/{pk}/{dn}/thing/ota/firmware/get_reply`. `id` is the question's, as JSON text, and
/// left out if it had none.
pub fn reply(id: &str, package: Option<&Package>, base: &str) -> Vec<u8> {
    let mut out = String::with_capacity(512);
    out.push_str(r#"{"code":200,"data":"#);
    match package {
        Some(package) => data(&mut out, package, base),
        None => out.push_str("{}"),
    }
    if !id.is_empty() {
        out.push_str(r#","id":"#);
        out.push_str(id);
    }
    out.push_str(r#","message":"success"}"#);
    out.into_bytes()
}

fn data(out: &mut String, package: &Package, base: &str) {
    let _ = write!(out, r#"{{"size":{}"#, package.size);
    text(out, "sign", &package.sign);
    text(out, "version", &package.version);
    text(out, "url", &format!("{base}{}", package.path));
    text(out, "signMethod", package.sign_method.device_name());
    text(out, "md5", &package.md5);
    if package.module != DEFAULT_MODULE {
        text(out, "module", &package.module);
    }
    if !package.tags.is_empty() || package.udi.is_some() {
        let mut extra = String::new();
        for tag in &package.tags {
            text(&mut extra, &tag.key, &tag.value);
        }
        if let Some(udi) = &package.udi {
            text(&mut extra, UDI_KEY, udi);
        }
        let _ = write!(out, r#","extData":{{{}}}"#, extra.trim_start_matches(','));
    }
    out.push('}');
}

/// Appends `,"key":"value"`.
fn text(out: &mut String, key: &str, value: &str) {
    out.push(',');
    quoted(out, key);
    out.push(':');
    quoted(out, value);
}

/// Appends a JSON text that escapes no more than JSON demands.
fn quoted(out: &mut String, value: &str) {
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use updraft_core::firmware::SignMethod;
    use updraft_core::job::Tag;

    const MD5: &str = "93230c3bde425a9d7984a594ac55ea1e";
    const BASE: &str = "http://127.0.0.1:8080";

    fn package() -> Package {
        Package {
            version: "2.0.0".to_owned(),
            module: "default".to_owned(),
            size: 84,
            path: "/d/f1?Expires=1&Signature=ab/c".to_owned(),
            sign_method: SignMethod::Md5,
            sign: MD5.to_owned(),
            md5: MD5.to_owned(),
            tags: Vec::new(),
            udi: None,
        }
    }

    fn rich() -> Package {
        let tag = |key: &str, value: &str| Tag { key: key.to_owned(), value: value.to_owned() };
        Package {
            module: "MCU".to_owned(),
            sign_method: SignMethod::Sha256,
            sign: "a".repeat(64),
            tags: vec![tag("b.1", "x: y, \"z\""), tag("a", "路/灯&\\\u{1}")],
            udi: Some("{\"k\": [1, 2]}\n".to_owned()),
            ..package()
        }
    }

    #[test]
    fn a_push_is_these_bytes() {
        assert_eq!(
            String::from_utf8(push(&package(), BASE, 1_777_439_217_705)).unwrap(),
            concat!(
                r#"{"code":"1000","data":{"size":84,"sign":"93230c3bde425a9d7984a594ac55ea1e","version":"2.0.0","#,
                r#""url":"http://127.0.0.1:8080/d/f1?Expires=1&Signature=ab/c","signMethod":"Md5","#,
                r#""md5":"93230c3bde425a9d7984a594ac55ea1e"},"id":1777439217705,"message":"success"}"#
            )
        );
        assert_eq!(
            String::from_utf8(push(&rich(), "https://[::1]", 1)).unwrap(),
            concat!(
                r#"{"code":"1000","data":{"size":84,"#,
                r#""sign":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","version":"2.0.0","#,
                r#""url":"https://[::1]/d/f1?Expires=1&Signature=ab/c","signMethod":"SHA256","#,
                r#""md5":"93230c3bde425a9d7984a594ac55ea1e","module":"MCU","#,
                r#""extData":{"b.1":"x: y, \"z\"","a":"路/灯&\\\u0001","_package_udi":"{\"k\": [1, 2]}\n"}},"#,
                r#""id":1,"message":"success"}"#
            )
        );
    }

    #[test]
    fn a_reply_repeats_the_id_in_its_own_type() {
        let nothing = |id| String::from_utf8(reply(id, None, BASE)).unwrap();
        assert_eq!(nothing("1"), r#"{"code":200,"data":{},"id":1,"message":"success"}"#);
        assert_eq!(nothing(r#""123""#), r#"{"code":200,"data":{},"id":"123","message":"success"}"#);
        assert_eq!(nothing(""), r#"{"code":200,"data":{},"message":"success"}"#);
        assert_eq!(
            String::from_utf8(reply(r#""7""#, Some(&package()), BASE)).unwrap(),
            concat!(
                r#"{"code":200,"data":{"size":84,"sign":"93230c3bde425a9d7984a594ac55ea1e","version":"2.0.0","#,
                r#""url":"http://127.0.0.1:8080/d/f1?Expires=1&Signature=ab/c","signMethod":"Md5","#,
                r#""md5":"93230c3bde425a9d7984a594ac55ea1e"},"id":"7","message":"success"}"#
            )
        );
    }

    #[test]
    fn no_blank_stands_outside_of_texts_and_the_json_is_valid() {
        let only_udi = Package { udi: Some(String::new()), ..package() };
        for bytes in [
            push(&package(), BASE, 1),
            push(&rich(), BASE, i64::MAX),
            push(&only_udi, BASE, -1),
            reply("1", Some(&rich()), BASE),
            reply("1", None, BASE),
        ] {
            let text = String::from_utf8(bytes).unwrap();
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(value["message"], "success");
            let (mut inside, mut escaped) = (false, false);
            for c in text.chars() {
                assert!(inside || !c.is_whitespace(), "{text}");
                if c == '"' && !escaped {
                    inside = !inside;
                }
                escaped = inside && c == '\\' && !escaped;
            }
        }
        let value: serde_json::Value = serde_json::from_slice(&push(&rich(), BASE, 1)).unwrap();
        assert_eq!(value["data"]["extData"]["a"], "路/灯&\\\u{1}");
        assert_eq!(value["data"]["extData"]["_package_udi"], "{\"k\": [1, 2]}\n");
    }
}
