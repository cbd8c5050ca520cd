//! Seeds on disk: `fuzz/corpus/*.txt`, one a block, blocks parted by empty lines, `#` for remarks.
//!
//! `\r \n \t \\ \xNN` are escapes. What a line means is its target's; for MQTT the packets are written in
//! words, see [`packets`].

use crate::mqtt;

/// The blocks of a corpus file, each a list of lines, escapes still in them.
pub fn blocks(text: &str) -> Vec<Vec<&str>> {
    let mut all = vec![Vec::new()];
    for line in text.lines() {
        if line.starts_with('#') {
            continue;
        }
        if line.is_empty() {
            all.push(Vec::new());
        } else if let Some(last) = all.last_mut() {
            last.push(line);
        }
    }
    all.retain(|block| !block.is_empty());
    all
}

/// A text with its escapes resolved. Panics on a bad escape: the corpus is ours.
pub fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first != b'\\' {
            out.push(*first);
            rest = tail;
            continue;
        }
        let used = match tail.first() {
            Some(b'n') => (b'\n', 1),
            Some(b'r') => (b'\r', 1),
            Some(b't') => (b'\t', 1),
            Some(b'x') => {
                let digits = tail.get(1..3).and_then(|digits| std::str::from_utf8(digits).ok());
                (digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).expect("two hex digits"), 3)
            }
            _ => (b'\\', 1),
        };
        out.push(used.0);
        rest = &tail[used.1.min(tail.len())..];
    }
    out
}

/// MQTT packets in words, one a line, fields parted by ` :: `:
/// `connect :: MQTT :: 4 :: c2 :: 60 :: CLIENT ID :: USER :: PASSWORD`,
/// `publish :: QOS :: TOPIC :: PAYLOAD`, `subscribe :: FILTER QOS :: …`, `unsubscribe :: FILTER`,
/// `puback :: ID`, `hex :: 1000`; of MQTT 5, with properties in hex, `connect5 :: c2 :: 60 :: PROPERTIES :: CLIENT ID ::
/// USER :: PASSWORD`, `publish5 :: QOS :: PROPERTIES :: TOPIC :: PAYLOAD`, `subscribe5 :: PROPERTIES :: FILTER QOS :: …`.
pub fn packets(lines: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let fields: Vec<Vec<u8>> = line.split(" :: ").map(bytes).collect();
        let text =
            |at: usize| String::from_utf8_lossy(fields.get(at).map_or(&[][..], Vec::as_slice)).into_owned();
        let int = |at: usize, radix| u16::from_str_radix(&text(at), radix).expect("a number in the corpus");
        let properties = |at: usize| hex::decode(text(at)).expect("hex in the corpus");
        let id = number as u16 + 1;
        out.extend(match text(0).as_str() {
            "connect" => {
                mqtt::connect(&text(1), int(2, 10) as u8, int(3, 16) as u8, int(4, 10), &fields[5..])
            }
            "connect5" => mqtt::connect5(int(1, 16) as u8, int(2, 10), &properties(3), &fields[4..]),
            "publish5" => {
                mqtt::publish5(&text(3), (int(1, 10) > 0).then_some(id), &properties(2), &fields[4])
            }
            "subscribe5" => mqtt::subscribe5(id, &properties(1), &fields[2..]),
            "publish" => mqtt::publish(&text(2), (int(1, 10) > 0).then_some(id), &fields[3]),
            "subscribe" => mqtt::subscribe(id, &fields[1..]),
            "unsubscribe" => mqtt::unsubscribe(id, &fields[1]),
            "puback" => mqtt::packet(0x40, &int(1, 10).to_be_bytes()),
            "hex" => hex::decode(text(1)).expect("hex in the corpus"),
            other => panic!("the corpus has no packet {other}"),
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_escapes() {
        assert_eq!(blocks("# a\nx\ny\n\n\n# b\nz\n"), [vec!["x", "y"], vec!["z"]]);
        assert_eq!(bytes(r"a\r\n\x00\\b"), b"a\r\n\x00\\b");
        assert_eq!(packets(&["publish :: 1 :: a/b :: {}"]), b"\x32\x09\x00\x03a/b\x00\x01{}");
        assert_eq!(packets(&["publish5 :: 0 :: 0101 :: a :: {}"]), b"\x30\x08\x00\x01a\x02\x01\x01{}");
        assert_eq!(packets(&["subscribe5 ::  :: a 1"]), b"\x82\x07\x00\x01\x00\x00\x01a\x01");
    }
}
