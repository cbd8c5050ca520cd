//! What a device is told about a package, as bytes.
//!
//! Some SDKs search the text instead of parsing JSON, so its form matters: no blank outside of texts, the
//! keys in this order, texts of users last, `/` and `&` not escaped. Link SDK for C 4.x ignores a push with
//! blanks, takes the first `"key":` that it meets, and ends a text at its first quote.

use super::DEFAULT_MODULE;
use super::link::Package;
use crate::files::direct;
use std::fmt::Write as _;
use updraft_core::firmware::SignMethod;

/// The keys of what devices are told. A tag of such a name is written with an escape, so that who searches the text
/// does not take it for the key.
pub const KEYS: &[&str] = &[
    "code",
    "data",
    "id",
    "message",
    "size",
    "sign",
    "version",
    "isDiff",
    "url",
    "streamId",
    "streamFileId",
    "dProtocol",
    "signMethod",
    "md5",
    "digestsign",
    "module",
    "extData",
    "files",
    "fileSize",
    "fileUrl",
    "fileMd5",
    "fileSign",
    "fileName",
];

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

/// What a question by HTTP is answered with: the `data` of [`reply`].
pub fn object(package: Option<&Package>, base: &str) -> String {
    let mut out = String::with_capacity(512);
    match package {
        Some(package) => data(&mut out, package, base),
        None => out.push_str("{}"),
    }
    out
}

fn data(out: &mut String, package: &Package, base: &str) {
    // With one file SDKs for C look for the keys of the single form, even if an array is there.
    if let [file] = package.files.as_slice() {
        let _ = write!(out, r#"{{"size":{}"#, file.size);
        text(out, "sign", &file.sign);
        text(out, "version", &package.version);
        difference(out, package);
        match package.stream {
            None => text(out, "url", &direct::address(base, &file.path)),
            Some(stream) => {
                let _ = write!(out, r#","streamId":{stream},"streamFileId":1"#);
                text(out, "dProtocol", "mqtt");
            }
        }
        text(out, "signMethod", package.sign_method.device_name());
        text(out, "md5", &file.md5);
    } else {
        out.push('{');
        first_text(out, "version", &package.version);
        difference(out, package);
        text(out, "signMethod", package.sign_method.device_name());
    }
    if package.module != DEFAULT_MODULE {
        text(out, "module", &package.module);
    }
    if package.files.len() != 1 {
        files(out, package, base);
    }
    if !package.tags.is_empty() || package.udi.is_some() {
        let mut extra = String::new();
        for tag in &package.tags {
            extra.push(',');
            tag_key(&mut extra, &tag.key);
            extra.push(':');
            quoted_of_users(&mut extra, &tag.value);
        }
        if let Some(udi) = &package.udi {
            extra.push(',');
            quoted(&mut extra, UDI_KEY);
            extra.push(':');
            quoted_of_users(&mut extra, udi);
        }
        let _ = write!(out, r#","extData":{{{}}}"#, extra.trim_start_matches(','));
    }
    out.push('}');
}

/// Appends `,"isDiff":1` if the package is a difference.
fn difference(out: &mut String, package: &Package) {
    if package.differential {
        out.push_str(r#","isDiff":1"#);
    }
}

/// Appends `,"files":[…]`. The names are users' texts, so they are last in each; they hold no quote.
fn files(out: &mut String, package: &Package, base: &str) {
    out.push_str(r#","files":["#);
    for (at, file) in package.files.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        let _ = write!(out, r#"{{"fileSize":{}"#, file.size);
        text(out, "fileUrl", &direct::address(base, &file.path));
        if package.sign_method == SignMethod::Md5 {
            text(out, "fileMd5", &file.md5);
        }
        text(out, "fileSign", &file.sign);
        out.push(',');
        quoted(out, "fileName");
        out.push(':');
        quoted_of_users(out, &file.name);
        out.push('}');
    }
    out.push(']');
}

/// Appends `,"key":"value"`.
fn text(out: &mut String, key: &str, value: &str) {
    out.push(',');
    first_text(out, key, value);
}

/// Appends `"key":"value"`.
fn first_text(out: &mut String, key: &str, value: &str) {
    quoted(out, key);
    out.push(':');
    quoted(out, value);
}

/// Appends a tag's key.
fn tag_key(out: &mut String, key: &str) {
    match key.split_at_checked(1).filter(|_| KEYS.contains(&key)) {
        Some((first, rest)) => {
            let first = first.chars().next().map_or(0, u32::from);
            let _ = write!(out, "\"\\u{first:04x}{rest}\"");
        }
        None => quoted(out, key),
    }
}

/// Appends a text of users. Link SDK for C 4.x finds the end of an object by counting brackets, in texts too; where
/// they do not match in the text itself they are escaped.
fn quoted_of_users(out: &mut String, value: &str) {
    if matches_itself(value, '{', '}') && matches_itself(value, '[', ']') {
        return quoted(out, value);
    }
    let start = out.len();
    quoted(out, value);
    let escaped = out.split_off(start);
    for c in escaped.chars() {
        match c {
            '{' | '}' | '[' | ']' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
}

/// Whether every bracket that is opened in a text is closed in it, and no other is.
fn matches_itself(text: &str, open: char, close: char) -> bool {
    let mut depth = 0_usize;
    for c in text.chars() {
        if c == open {
            depth += 1;
        } else if c == close {
            let Some(outer) = depth.checked_sub(1) else { return false };
            depth = outer;
        }
    }
    depth == 0
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
    use crate::device::link::PackageFile;
    use updraft_core::job::Tag;

    const MD5: &str = "93230c3bde425a9d7984a594ac55ea1e";
    const BASE: &str = "http://127.0.0.1:8080";

    fn file(name: &str, sign: &str) -> PackageFile {
        PackageFile {
            name: name.to_owned(),
            size: 84,
            path: "/d/f1?Expires=1&Signature=ab/c".to_owned(),
            sign: sign.to_owned(),
            md5: MD5.to_owned(),
        }
    }

    fn of_two_files() -> Package {
        let second = PackageFile { size: 1, path: "/d/f2".to_owned(), ..file("固件 (2).bin", MD5) };
        Package { files: vec![file("a.bin", MD5), second], ..rich() }
    }

    fn package() -> Package {
        Package {
            version: "2.0.0".to_owned(),
            module: "default".to_owned(),
            differential: false,
            sign_method: SignMethod::Md5,
            files: vec![file("a.bin", MD5)],
            stream: None,
            tags: Vec::new(),
            udi: None,
        }
    }

    fn rich() -> Package {
        let tag = |key: &str, value: &str| Tag { key: key.to_owned(), value: value.to_owned() };
        Package {
            module: "MCU".to_owned(),
            sign_method: SignMethod::Sha256,
            files: vec![file("a.bin", &"a".repeat(64))],
            tags: vec![tag("b.1", "x: y, \"z\""), tag("a", "路/灯&\\\u{1}")],
            udi: Some("{\"k\": [1, 2]}\n".to_owned()),
            ..package()
        }
    }

    #[test]
    fn a_difference_says_so_right_after_its_version() {
        let one = Package { differential: true, ..package() };
        let text = String::from_utf8(push(&one, BASE, 1)).unwrap();
        assert!(text.contains(r#""version":"2.0.0","isDiff":1,"url":"#), "{text}");
        let two = Package { differential: true, ..of_two_files() };
        let text = String::from_utf8(reply("1", Some(&two), BASE)).unwrap();
        assert!(
            text.contains(r#""data":{"version":"2.0.0","isDiff":1,"signMethod":"SHA256","module":"#),
            "{text}"
        );
        assert!(!String::from_utf8(push(&package(), BASE, 1)).unwrap().contains("isDiff"));
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
            String::from_utf8(push(&Package { stream: Some(27_367), ..package() }, BASE, 1)).unwrap(),
            concat!(
                r#"{"code":"1000","data":{"size":84,"sign":"93230c3bde425a9d7984a594ac55ea1e","version":"2.0.0","#,
                r#""streamId":27367,"streamFileId":1,"dProtocol":"mqtt","signMethod":"Md5","#,
                r#""md5":"93230c3bde425a9d7984a594ac55ea1e"},"id":1,"message":"success"}"#
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

    /// Small devices have a buffer of 1 KB for a message and of 128 bytes for an address.
    #[test]
    fn a_push_is_small_with_the_longest_usual_fields() {
        let base = format!("https://{}:65535", "h".repeat(40));
        let path = format!("/d/{}", "x".repeat(48));
        assert!(base.len() + path.len() < 128);
        let file = PackageFile { size: 1_048_576_000, path, ..file(&"n".repeat(32), &"a".repeat(64)) };
        let longest = Package {
            version: "v".repeat(64),
            module: "m".repeat(64),
            differential: true,
            files: vec![file.clone()],
            tags: Vec::new(),
            udi: None,
            ..rich()
        };
        let bytes = |package: &Package| push(package, &base, 1_777_439_217_705).len();
        assert!(bytes(&longest) < 600, "{}", bytes(&longest));
        // What is left is for the operator's texts: tags, custom information, more files.
        let tag = Tag { key: "k".repeat(30), value: "v".repeat(64) };
        let tagged = Package { tags: vec![tag; 4], ..longest.clone() };
        assert!(bytes(&tagged) < 1_024, "{}", bytes(&tagged));
        let several = Package { version: "2.0.0".to_owned(), files: vec![file; 2], ..longest };
        assert!(bytes(&several) < 1_024, "{}", bytes(&several));
    }

    #[test]
    fn a_package_of_several_files_lists_them() {
        let plain = Package {
            module: "default".to_owned(),
            sign_method: SignMethod::Md5,
            tags: Vec::new(),
            udi: None,
            ..of_two_files()
        };
        assert_eq!(
            String::from_utf8(push(&plain, BASE, 1)).unwrap(),
            concat!(
                r#"{"code":"1000","data":{"version":"2.0.0","signMethod":"Md5","files":[{"fileSize":84,"#,
                r#""fileUrl":"http://127.0.0.1:8080/d/f1?Expires=1&Signature=ab/c","#,
                r#""fileMd5":"93230c3bde425a9d7984a594ac55ea1e","#,
                r#""fileSign":"93230c3bde425a9d7984a594ac55ea1e","fileName":"a.bin"},"#,
                r#"{"fileSize":1,"fileUrl":"http://127.0.0.1:8080/d/f2","#,
                r#""fileMd5":"93230c3bde425a9d7984a594ac55ea1e","#,
                r#""fileSign":"93230c3bde425a9d7984a594ac55ea1e","fileName":"固件 (2).bin"}]},"#,
                r#""id":1,"message":"success"}"#
            )
        );
        let rich = String::from_utf8(reply("1", Some(&of_two_files()), BASE)).unwrap();
        let expected = concat!(
            r#"{"code":200,"data":{"version":"2.0.0","signMethod":"SHA256","module":"MCU","files":[{"fileSize":84,"#,
            r#""fileUrl":"http://127.0.0.1:8080/d/f1?Expires=1&Signature=ab/c","#,
            r#""fileSign":"93230c3bde425a9d7984a594ac55ea1e","fileName":"a.bin"},"#,
        );
        assert!(rich.starts_with(expected), "{rich}");
        assert!(rich.contains(r#""fileName":"固件 (2).bin"}],"extData":{"b.1":"#), "{rich}");
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
            push(&of_two_files(), BASE, 1),
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
