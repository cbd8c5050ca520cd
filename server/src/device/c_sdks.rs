//! Link SDKs for C as readers of what we send, told again for tests: they search the text instead of parsing JSON.
//!
//! What is modelled comes from captures of Link SDK for C 4.2.0 against a small server on loopback, and from the
//! sources of 4.x (`aiot_ota_api.c`, `core_string.c`) and 3.x (`ota.c`, `ota_lib.c`, `iotx_http.c`).

use super::DEFAULT_MODULE;
use super::link::{Package, PackageFile};
use super::push;
use proptest::prelude::*;
use updraft_core::firmware::SignMethod;
use updraft_core::job::Tag;

const BASE: &str = "http://ota.example.com:8080";

/// What follows the first `"key":` in the text, as SDK 4.x cuts it: a text ends at its first quote, an object or a
/// list where its brackets are closed, whatever stands in texts, anything else at the next `,`, `]` or `}`. A blank
/// after the colon makes it no value.
fn value<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    let at = text.find(&format!("\"{key}\":"))? + key.len() + 3;
    let rest = &text[at..];
    let first = rest.chars().next()?;
    match first {
        '"' => rest[1..].find('"').map(|end| &rest[1..=end]),
        '{' | '[' => {
            let last = if first == '{' { '}' } else { ']' };
            let mut depth = 0;
            for (at, c) in rest.char_indices() {
                depth += i32::from(c == first) - i32::from(c == last);
                if depth == 0 {
                    return Some(&rest[..=at]);
                }
            }
            None
        }
        c if c.is_whitespace() => None,
        _ => rest.find([',', ']', '}']).map(|end| &rest[..end]),
    }
}

/// The elements of a list of objects, as 4.x walks it.
fn elements(list: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = list;
    while let Some(start) = rest.find('{') {
        let mut depth = 0;
        let end = rest[start..].char_indices().find(|(_, c)| {
            depth += i32::from(*c == '{') - i32::from(*c == '}');
            depth == 0
        });
        let Some((end, _)) = end else { break };
        found.push(&rest[start..=start + end]);
        rest = &rest[start + end + 1..];
    }
    found
}

/// A file as an SDK for C sees it.
#[derive(Debug, PartialEq, Eq)]
struct File {
    size: i64,
    sign: String,
    /// An address, or stream, file and protocol.
    from: Vec<String>,
    name: Option<String>,
}

/// A push as an SDK for C sees it.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    version: String,
    method: String,
    module: Option<String>,
    files: Vec<File>,
}

/// A file among several, as 4.x reads it.
fn listed_file(file: &str, digits: usize) -> Option<File> {
    Some(File {
        size: value(file, "fileSize")?.parse().ok()?,
        sign: value(file, "fileSign").filter(|sign| sign.len() == digits)?.to_owned(),
        from: vec![value(file, "fileUrl")?.to_owned()],
        // An application that wants the name takes its escapes back.
        name: serde_json::from_str(&format!("\"{}\"", value(file, "fileName")?)).ok()?,
    })
}

/// The only file, as 4.x reads it.
fn only_file(data: &str, digits: usize) -> Option<File> {
    let stream =
        || ["streamId", "streamFileId", "dProtocol"].into_iter().map(|key| value(data, key)).collect();
    let from: Option<Vec<&str>> = value(data, "url").map(|url| vec![url]).or_else(stream);
    Some(File {
        size: value(data, "size")?.parse().ok()?,
        sign: value(data, "sign").filter(|sign| sign.len() == digits)?.to_owned(),
        from: from?.into_iter().map(str::to_owned).collect(),
        name: None,
    })
}

/// SDK 4.x: needs version, signMethod, and of each file size, sign and a place to fetch it; a list of files counts if
/// it has more than one.
fn read_4x(payload: &str) -> Option<Seen> {
    let data = value(payload, "data")?;
    let owned = |text: &str| Some(text.to_owned());
    let method = value(data, "signMethod")?;
    let digits = match method {
        "Md5" => 32,
        "SHA256" | "Sha256" => 64,
        _ => return None,
    };
    let listed = value(data, "files").map(elements).filter(|files| files.len() > 1);
    let files = match listed {
        Some(files) => files.into_iter().map(|file| listed_file(file, digits)).collect::<Option<Vec<_>>>(),
        None => only_file(data, digits).map(|file| vec![file]),
    }?;
    Some(Seen {
        version: owned(value(data, "version")?)?,
        method: owned(method)?,
        module: value(data, "module").and_then(owned),
        files,
    })
}

/// SDK 3.x: needs `"message":"success"`, version, url, size, and an md5 of 32 characters whatever the sign method;
/// of the address, what stands before the first `:` behind the scheme is the host, and the rest up to `/` the port.
fn read_3x(payload: &str) -> Option<(String, i64, String, String, String)> {
    if value(payload, "message")? != "success" {
        return None;
    }
    let md5 = value(payload, "md5").filter(|md5| md5.len() == 32)?;
    let url = value(payload, "url")?;
    let (_, rest) = url.split_once("://")?;
    let port = match rest.split_once(':') {
        Some((_, behind)) => behind.split_once('/')?.0.parse::<u16>().ok()?.to_string(),
        None => "80".to_owned(),
    };
    let size = value(payload, "size")?.parse().ok()?;
    Some((value(payload, "version")?.to_owned(), size, url.to_owned(), md5.to_owned(), port))
}

/// What a package is, as they should see it.
fn expected(package: &Package) -> Seen {
    let several = package.files.len() > 1;
    let file = |file: &PackageFile| File {
        size: file.size,
        sign: file.sign.clone(),
        from: match package.stream {
            Some(stream) => vec![stream.to_string(), "1".to_owned(), "mqtt".to_owned()],
            None => vec![format!("{BASE}{}", file.path)],
        },
        name: several.then(|| file.name.clone()),
    };
    Seen {
        version: package.version.clone(),
        method: package.sign_method.device_name().to_owned(),
        module: Some(package.module.clone()).filter(|module| module != DEFAULT_MODULE),
        files: package.files.iter().map(file).collect(),
    }
}

fn check(package: &Package) {
    let payloads = [
        push::push(package, BASE, 1),
        push::reply("\"1\"", Some(package), BASE),
        push::request_reply("0", package, BASE),
    ];
    for payload in payloads {
        let text = String::from_utf8(payload).unwrap();
        assert_eq!(read_4x(&text), Some(expected(package)), "4.x reads {text}");
        if let ([file], None) = (package.files.as_slice(), package.stream) {
            let seen = (
                package.version.clone(),
                file.size,
                format!("{BASE}{}", file.path),
                file.md5.clone(),
                "8080".to_owned(),
            );
            assert_eq!(read_3x(&text), Some(seen), "3.x reads {text}");
        }
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        for tag in &package.tags {
            assert_eq!(json["data"]["extData"][&tag.key], tag.value.as_str(), "{text}");
        }
        let udi = json["data"]["extData"]["_package_udi"].as_str();
        assert_eq!(udi, package.udi.as_deref(), "{text}");
        for (at, file) in package.files.iter().enumerate().filter(|_| package.files.len() > 1) {
            assert_eq!(json["data"]["files"][at]["fileName"], file.name.as_str());
        }
    }
}

/// Texts that mean something to who searches: keys, quotes, brackets, blanks, line ends.
fn nasty() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "\"",
        "\\",
        "\",\"url\":\"",
        "http://evil/",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"size\":1",
        "\"data\":{",
        "\n",
        " ",
        "路",
        "\u{1}",
        "module",
        "success\"}",
        "a",
    ]);
    prop::collection::vec(pieces, 1..12).prop_map(|pieces| pieces.concat())
}

/// Tag keys, the protocol's own among them.
fn tag_key() -> impl Strategy<Value = String> {
    prop_oneof![prop::sample::select(push::KEYS).prop_map(str::to_owned), "[A-Za-z0-9.]{1,30}"]
}

prop_compose! {
    fn file()(size in 0_i64..=1_048_576_000, name in nasty(), sha256 in any::<bool>()) -> PackageFile {
        // Names hold no quote, backslash or control character (`core/src/text.rs`).
        let name = name.replace(['"', '\\', '\n', '\u{1}'], "");
        let sign = if sha256 { "5".repeat(64) } else { "1".repeat(32) };
        let path = "/d/AAECAwQFBgcICQoLDA0OD2ZTo4DgX-9kQ3aZ_0123456789".to_owned();
        PackageFile { name, size, path, sign, md5: "1".repeat(32) }
    }
}

prop_compose! {
    fn package()(
        version in "[A-Za-z0-9._-]{1,64}",
        module in prop_oneof![Just(DEFAULT_MODULE.to_owned()), "[A-Za-z0-9._-]{1,64}"],
        differential in any::<bool>(),
        sha256 in any::<bool>(),
        mut files in prop::collection::vec(file(), 1..=20),
        mqtt in any::<bool>(),
        tags in prop::collection::btree_map(tag_key(), nasty(), 0..10),
        udi in prop::option::of(nasty()),
    ) -> Package {
        let sign_method = if sha256 { SignMethod::Sha256 } else { SignMethod::Md5 };
        for file in &mut files {
            file.sign = if sha256 { "5".repeat(64) } else { "1".repeat(32) };
        }
        let stream = (mqtt && files.len() == 1).then_some(27_367);
        let tags = tags.into_iter().map(|(key, value)| Tag { key, value }).collect();
        Package { version, module, differential, sign_method, files, stream, tags, udi }
    }
}

proptest! {
    #[test]
    fn sdks_for_c_see_every_package_as_it_is(package in package()) {
        check(&package);
    }
}

#[test]
fn a_tag_cannot_pass_for_a_key_of_the_protocol() {
    let tags = push::KEYS
        .iter()
        .map(|key| Tag { key: (*key).to_owned(), value: "\",\"url\":\"http://evil/".to_owned() })
        .collect();
    let one = PackageFile {
        name: "a".to_owned(),
        size: 1,
        path: "/d/a".to_owned(),
        sign: "1".repeat(32),
        md5: "1".repeat(32),
    };
    let package = Package {
        version: "1".to_owned(),
        module: DEFAULT_MODULE.to_owned(),
        differential: false,
        sign_method: SignMethod::Md5,
        files: vec![one],
        stream: Some(7),
        tags,
        udi: Some("}{ unbalanced".to_owned()),
    };
    check(&package);
    check(&Package { stream: None, ..package });
}

/// The models must be able to refuse: these are what the SDKs are known to ignore.
#[test]
fn the_models_refuse_what_the_sdks_refuse() {
    let good = concat!(
        r#"{"code":"1000","data":{"size":84,"sign":"93230c3bde425a9d7984a594ac55ea1e","version":"2.0.0","#,
        r#""signMethod":"Md5","url":"https://h/p","md5":"93230c3bde425a9d7984a594ac55ea1e"},"#,
        r#""id":1777439217705,"message":"success"}"#
    );
    assert!(
        read_4x(good).is_some() && read_3x(good).is_some(),
        "a push of the platform, as a device logged it"
    );
    for (from, to) in [
        ("\"version\":", "\"version\": "),
        ("\"Md5\"", "\"MD5\""),
        ("\"sign\":\"93", "\"sign\":\""),
        ("\"url\":", "\"uri\":"),
    ] {
        assert_eq!(read_4x(&good.replace(from, to)), None, "{to}");
    }
    for (from, to) in
        [("\"success\"", "\"ok\""), ("\"md5\":\"93", "\"md5\":\""), ("https://h/p", "https://h/p:1")]
    {
        assert_eq!(read_3x(&good.replace(from, to)), None, "{to}");
    }
    let stream = concat!(
        r#"{"code":"1000","data":{"size":84,"streamId":27367,"extData":{"_package_udi":"…"},"#,
        r#""sign":"93230c3bde425a9d7984a594ac55ea1e","dProtocol":"mqtt","version":"3.0.0","signMethod":"Md5","#,
        r#""streamFileId":1,"md5":"93230c3bde425a9d7984a594ac55ea1e"},"id":1777442726391,"message":"success"}"#
    );
    let seen = read_4x(stream).unwrap();
    assert_eq!(seen.files[0].from, ["27367", "1", "mqtt"], "and one of its pushes for a download by MQTT");
}
