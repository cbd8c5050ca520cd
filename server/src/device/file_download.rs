//! Downloads by MQTT: `/sys/{pk}/{dn}/thing/file/download`, answered block by block on `…/download_reply`.
//!
//! An answer is the length of a JSON text (two bytes, big endian), the text, the block, and the block's CRC-16 (two
//! bytes, little endian). A refusal is the length and the text alone.

use super::firmware_get::is_echoed;
use super::link::{Block, NoBlock, Wanted};
use super::{Ignored, payload_text};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::fmt::Write as _;

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    params: Params<'a>,
}

#[derive(Deserialize)]
struct Params<'a> {
    #[serde(borrow, default, rename = "fileToken")]
    token: Option<&'a RawValue>,
    #[serde(borrow, rename = "fileInfo")]
    info: FileInfo<'a>,
    #[serde(borrow, rename = "fileBlock")]
    block: FileBlock<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileInfo<'a> {
    #[serde(borrow)]
    stream_id: &'a RawValue,
    #[serde(borrow)]
    file_id: &'a RawValue,
}

#[derive(Deserialize)]
struct FileBlock<'a> {
    #[serde(borrow)]
    size: &'a RawValue,
    #[serde(borrow)]
    offset: &'a RawValue,
}

/// A device's question for a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its id as JSON text; empty if it had none.
    id: String,
    /// Its token as JSON text, which the answer repeats: Link SDK for C 4.x throws away what has another one.
    token: Option<String>,
    /// What it wants.
    pub wanted: Wanted,
}

/// What a device asks for.
pub fn decode(payload: &[u8]) -> Result<Request, Ignored> {
    let text = payload_text(payload)?;
    read(text).or_else(|ignored| match ignored {
        // Link SDK for C 4.x writes `"fileId":1,}`.
        Ignored::NotJson => read(&without_last_commas(text)),
        other => Err(other),
    })
}

fn read(text: &str) -> Result<Request, Ignored> {
    let message: Message<'_> = serde_json::from_str(text).map_err(|_| Ignored::NotJson)?;
    let Params { token, info, block } = message.params;
    let id = message.id.map_or("", RawValue::get);
    let token = token.map(RawValue::get).filter(|token| *token != "null");
    if !is_echoed(id) || !token.is_none_or(is_echoed) {
        return Err(Ignored::Id);
    }
    // Numbers may be written as texts.
    let number = |raw: &RawValue| raw.get().trim_matches('"').trim().parse().map_err(|_| Ignored::Block);
    Ok(Request {
        id: id.to_owned(),
        token: token.map(str::to_owned),
        wanted: Wanted {
            stream: number(info.stream_id)?,
            file: number(info.file_id)?,
            offset: number(block.offset)?,
            size: number(block.size)?,
        },
    })
}

/// The text without commas before a closing bracket; what stands in texts is left alone.
fn without_last_commas(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut inside, mut escaped) = (false, false);
    for c in text.chars() {
        if !inside && matches!(c, '}' | ']') {
            let end = out.trim_end().len();
            if out[..end].ends_with(',') {
                out.truncate(end - 1);
            }
        }
        inside ^= c == '"' && !escaped;
        escaped = inside && c == '\\' && !escaped;
        out.push(c);
    }
    out
}

/// The answer's payload.
pub fn reply(request: &Request, answer: &Result<Block, NoBlock>) -> Vec<u8> {
    let (code, message) = match answer {
        Ok(_) => (200, "success"),
        Err(NoBlock::OutOfRange) => {
            (400, "the block is not within the file, or its size not within 1 to 131072")
        }
        Err(NoBlock::NotYours) => (404, "no unfinished task of this device is for this stream and file"),
        Err(NoBlock::Unavailable) => (503, "the server cannot read the file now"),
    };
    let mut json = format!(r#"{{"code":{code},"data":{{"#);
    // Writing to a String cannot fail.
    if let Some(token) = &request.token {
        let _ = write!(json, r#""fileToken":{token}"#);
    }
    if let Ok(block) = answer {
        let comma = if request.token.is_some() { "," } else { "" };
        let (offset, length, size) = (request.wanted.offset, block.file_bytes, block.bytes.len());
        let _ = write!(json, r#"{comma}"bOffset":{offset},"fileLength":{length},"bSize":{size}"#);
    }
    json.push('}');
    if !request.id.is_empty() {
        let _ = write!(json, r#","id":{}"#, request.id);
    }
    // Last: some firmware finds the block by looking for `success"}`.
    let _ = write!(json, r#","message":"{message}"}}"#);
    let block = answer.as_ref().map_or(&[][..], |block| &block.bytes);
    let mut out = Vec::with_capacity(json.len() + block.len() + 4);
    // Id and token are bounded, so two bytes are enough.
    out.extend((json.len() as u16).to_be_bytes());
    out.extend(json.as_bytes());
    if let Ok(block) = answer {
        out.extend(&block.bytes);
        out.extend(block.crc.to_le_bytes());
    }
    out
}

/// CRC-16/ARC: polynomial 0x8005 reflected, start 0.
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, byte| {
        let at = usize::from(crc.to_le_bytes()[0] ^ byte);
        (crc >> 8) ^ CRC_TABLE[at]
    })
}

const CRC_TABLE: [u16; 256] = crc_table();

const fn crc_table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut at = 0;
    while at < table.len() {
        let (mut crc, mut bit) = (at as u16, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xa001 } else { crc >> 1 };
            bit += 1;
        }
        table[at] = crc;
        at += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(stream: i64, file: i64, offset: i64, size: i64) -> Wanted {
        Wanted { stream, file, offset, size }
    }

    #[test]
    fn every_sdks_form_is_understood() {
        for (payload, id, token, expected) in [
            // The manual.
            (
                concat!(
                    r#"{"id":"123","version":"1.0","params":{"fileToken":"1bb8***","#,
                    r#""fileInfo":{"streamId":1234565,"fileId":1},"fileBlock":{"size":256,"offset":2}}}"#
                ),
                r#""123""#,
                Some(r#""1bb8***""#),
                wanted(1_234_565, 1, 2, 256),
            ),
            // Link SDK for C 4.2, which is no JSON.
            (
                concat!(
                    r#"{"id":"1","version":"1.0","params":{"fileToken":"default","#,
                    r#""fileInfo":{"streamId":14267,"fileId":1,},"fileBlock":{"size":8192,"offset":0}}}"#
                ),
                r#""1""#,
                Some(r#""default""#),
                wanted(14_267, 1, 0, 8_192),
            ),
            // Others: numbers as texts, a zero at the end, no id, no token.
            (
                "{\"params\":{\"fileInfo\":{\"streamId\":\"7\",\"fileId\":\"1\"},\"fileBlock\":{\"size\":\"1\",\"offset\":\"0\"}}}\0",
                "",
                None,
                wanted(7, 1, 0, 1),
            ),
            (
                r#"{"id":2,"params":{"fileToken":"a,}\",}","fileInfo":{"streamId":7,"fileId":1 , },"fileBlock":{"size":1,"offset":0,},}}"#,
                "2",
                Some(r#""a,}\",}""#),
                wanted(7, 1, 0, 1),
            ),
        ] {
            let expected = Request { id: id.to_owned(), token: token.map(str::to_owned), wanted: expected };
            assert_eq!(decode(payload.as_bytes()), Ok(expected), "{payload}");
        }
    }

    #[test]
    fn nonsense_is_named() {
        let of = |token: &str, stream: &str| {
            format!(
                r#"{{"params":{{"fileToken":{token},"fileInfo":{{"streamId":{stream},"fileId":1}},"fileBlock":{{"size":1,"offset":0}}}}}}"#
            )
        };
        let long = format!("\"{}\"", "t".repeat(256));
        for (payload, reason) in [
            (of("\"t\"", "1.5"), Ignored::Block),
            (of("\"t\"", "\"\""), Ignored::Block),
            (of("\"t\"", "[1]"), Ignored::Block),
            (of("{}", "1"), Ignored::Id),
            (of(r#""half a pair: \ud800""#, "1"), Ignored::Id),
            (of(&long, "1"), Ignored::Id),
            (r#"{"id":1,"params":{}}"#.to_owned(), Ignored::NotJson),
            ("{,}".to_owned(), Ignored::NotJson),
            (String::new(), Ignored::NotJson),
        ] {
            assert_eq!(decode(payload.as_bytes()), Err(reason), "{payload}");
        }
        assert_eq!(decode(b"\xc3\x28"), Err(Ignored::NotUtf8));
    }

    #[test]
    fn an_answer_is_these_bytes() {
        let request = |id: &str, token: Option<&str>| Request {
            id: id.to_owned(),
            token: token.map(str::to_owned),
            wanted: wanted(1, 1, 0, 9),
        };
        let block = Ok(Block { crc: crc16(b"123456789"), bytes: b"123456789".to_vec(), file_bytes: 5_092 });
        let bytes = reply(&request(r#""1""#, None), &block);
        let json =
            br#"{"code":200,"data":{"bOffset":0,"fileLength":5092,"bSize":9},"id":"1","message":"success"}"#;
        assert_eq!(bytes, [&[0, json.len() as u8][..], json, b"123456789", &[0x3d, 0xbb]].concat());
        let bytes = reply(&request("7", Some(r#""default""#)), &block);
        let json = concat!(
            r#"{"code":200,"data":{"fileToken":"default","bOffset":0,"fileLength":5092,"bSize":9},"#,
            r#""id":7,"message":"success"}"#
        );
        assert_eq!(bytes[2..2 + json.len()], *json.as_bytes());
        let bytes = reply(&request("", Some("1")), &Err(NoBlock::NotYours));
        let json = concat!(
            r#"{"code":404,"data":{"fileToken":1},"message":"no unfinished task of this device is for this "#,
            r#"stream and file"}"#
        );
        assert_eq!(bytes, [&[0, json.len() as u8][..], json.as_bytes()].concat(), "no block and no CRC");
    }

    #[test]
    fn the_sum_is_the_standards() {
        assert_eq!(crc16(b"123456789"), 0xbb3d);
        assert_eq!(crc16(b""), 0);
        assert_eq!(crc16(&[0xff]), 0x4040);
    }
}
