//! WebSocket frames of a client, taken apart where they lie: pure, and without a buffer.
//!
//! MQTT does not care where frames begin and end, so payloads are handed on as they come, whatever a frame
//! announces; of a frame only its head and, if it is about the connection itself, its short payload are kept.

use std::io::Cursor;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

/// The longest head of a client's frame.
const HEAD_BYTES_MAX: usize = 14;
/// The longest payload of a frame that is about the connection itself.
const CONTROL_BYTES_MAX: u64 = 125;

/// How a client's side of a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// By a frame that says so.
    Closed,
    /// By frames that may not come.
    Violated(CloseCode, &'static str),
}

impl Ended {
    /// What the client is told in return.
    pub fn code(self) -> CloseCode {
        match self {
            Self::Closed => CloseCode::Normal,
            Self::Violated(code, _) => code,
        }
    }
}

const fn violation(what: &'static str) -> Ended {
    Ended::Violated(CloseCode::Protocol, what)
}

/// Takes a client's frames apart.
#[derive(Debug, Default)]
pub(super) struct Frames {
    head: [u8; HEAD_BYTES_MAX],
    head_bytes: u8,
    /// The frame whose payload comes.
    frame: Option<Frame>,
    /// Whether a message goes on in the next frame.
    unfinished: bool,
    /// What the last ping had in it, until it is answered. One answer is enough for several.
    pub ping: Option<Vec<u8>>,
    /// How it ended; nothing is read any more.
    pub ended: Option<Ended>,
}

#[derive(Debug)]
struct Frame {
    left: u64,
    mask: [u8; 4],
    /// What has come of a frame about the connection; `None`: a part of a message.
    control: Option<(Control, Vec<u8>)>,
}

impl Frames {
    /// Takes the next bytes; leaves the messages' bytes among them at the front, and says how many they are.
    pub fn take(&mut self, bytes: &mut [u8]) -> usize {
        let (mut from, mut to) = (0, 0);
        while from < bytes.len() && self.ended.is_none() {
            let Some(frame) = &mut self.frame else {
                from += 1;
                if let Err(ended) = self.head(bytes[from - 1]) {
                    self.ended = Some(ended);
                }
                continue;
            };
            let here = bytes.len() - from;
            let count = usize::try_from(frame.left).unwrap_or(here).min(here);
            for (byte, mask) in bytes[from..from + count].iter_mut().zip(frame.mask.iter().cycle()) {
                *byte ^= mask;
            }
            frame.mask.rotate_left(count % 4);
            frame.left -= count as u64;
            if let Some((_, kept)) = &mut frame.control {
                kept.extend_from_slice(&bytes[from..from + count]);
            } else {
                bytes.copy_within(from..from + count, to);
                to += count;
            }
            from += count;
            self.finish();
        }
        to
    }

    /// Takes one byte of a head.
    fn head(&mut self, byte: u8) -> Result<(), Ended> {
        self.head[usize::from(self.head_bytes)] = byte;
        self.head_bytes += 1;
        let mut head = Cursor::new(&self.head[..usize::from(self.head_bytes)]);
        let parsed = FrameHeader::parse(&mut head).map_err(|_| violation("an unknown kind of frame"))?;
        let Some((header, length)) = parsed else { return Ok(()) };
        self.head_bytes = 0;
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(violation("an extension that was not agreed on"));
        }
        let mask = header.mask.ok_or(violation("a frame without mask"))?;
        let control = match header.opcode {
            OpCode::Control(kind) if header.is_final && length <= CONTROL_BYTES_MAX => {
                Some((kind, Vec::new()))
            }
            OpCode::Control(_) => return Err(violation("a long or split control frame")),
            OpCode::Data(Data::Text) => {
                return Err(Ended::Violated(CloseCode::Unsupported, "a text frame; MQTT is binary"));
            }
            OpCode::Data(kind) if (kind == Data::Continue) == self.unfinished => {
                self.unfinished = !header.is_final;
                None
            }
            OpCode::Data(_) => return Err(violation("a frame that does not continue its message")),
        };
        self.frame = Some(Frame { left: length, mask, control });
        self.finish();
        Ok(())
    }

    /// Acts on a frame whose last byte has come.
    fn finish(&mut self) {
        if self.frame.as_ref().is_none_or(|frame| frame.left > 0) {
            return;
        }
        match self.frame.take().and_then(|frame| frame.control) {
            Some((Control::Ping, payload)) => self.ping = Some(payload),
            Some((Control::Close, _)) => self.ended = Some(Ended::Closed),
            Some((Control::Pong | Control::Reserved(_), _)) | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A frame as clients send it.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![first];
        match payload.len() {
            short @ 0..126 => out.push(0x80 | short as u8),
            middle @ 126..65_536 => {
                out.push(0xfe);
                out.extend((middle as u16).to_be_bytes());
            }
            long => {
                out.push(0xff);
                out.extend((long as u64).to_be_bytes());
            }
        }
        let mask = [0xa1, 0x5f, 0x00, 0x37];
        out.extend(mask);
        out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        out
    }

    /// All that is made of bytes that come in these pieces: payload, last ping, end.
    fn of(bytes: &[u8], pieces: &[usize]) -> (Vec<u8>, Option<Vec<u8>>, Option<Ended>) {
        let (mut frames, mut out, mut rest) = (Frames::default(), Vec::new(), bytes);
        for piece in pieces.iter().copied().chain([bytes.len()]) {
            let (now, later) = rest.split_at(piece.min(rest.len()));
            let mut now = now.to_vec();
            let made = frames.take(&mut now);
            out.extend_from_slice(&now[..made]);
            rest = later;
        }
        (out, frames.ping, frames.ended)
    }

    #[test]
    fn messages_may_be_cut_and_mixed_with_pings() {
        let bytes = [
            frame(0x02, b"ab"),
            frame(0x89, b"are you there"),
            frame(0x00, b""),
            frame(0x80, b"c"),
            frame(0x8a, b"unasked"),
            frame(0x82, &[7; 300]),
            frame(0x82, &vec![8; 70_000]),
        ]
        .concat();
        let wanted = [b"abc".to_vec(), vec![7; 300], vec![8; 70_000]].concat();
        assert_eq!(of(&bytes, &[]), (wanted, Some(b"are you there".to_vec()), None));
    }

    #[test]
    fn what_may_not_come_ends_it_after_what_came_before() {
        let protocol = |bytes: Vec<u8>| (bytes, CloseCode::Protocol);
        for (bad, code) in [
            (frame(0x81, b"text"), CloseCode::Unsupported),
            protocol(frame(0x80, b"continues nothing")),
            protocol([frame(0x02, b""), frame(0x82, b"a new one")].concat()),
            protocol(frame(0xc2, b"compressed")),
            protocol(frame(0x83, b"reserved")),
            protocol(frame(0x8b, b"reserved")),
            protocol(frame(0x09, b"split ping")),
            protocol(frame(0x89, &[0; 126])),
            protocol(vec![0x82, 2, b'n', b'o']),
        ] {
            let (made, _, ended) =
                of(&[frame(0x82, b"good"), bad.clone(), frame(0x82, b"late")].concat(), &[]);
            assert_eq!((made, ended.map(Ended::code)), (b"good".to_vec(), Some(code)), "{bad:?}");
        }
        let (made, _, ended) =
            of(&[frame(0x82, b"x"), frame(0x88, b"\x03\xe8bye"), frame(0x82, b"y")].concat(), &[]);
        assert_eq!((made, ended), (b"x".to_vec(), Some(Ended::Closed)));
    }

    #[test]
    fn a_frame_may_announce_any_length() {
        let mut frames = Frames::default();
        let mut head = [0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, b'a'];
        assert_eq!((frames.take(&mut head), head[0]), (1, b'a'));
        assert_eq!(frames.take(&mut vec![0; 100_000]), 100_000);
    }

    proptest! {
        #[test]
        fn how_bytes_are_cut_changes_nothing(
            sent in prop::collection::vec((prop::sample::select(vec![0x82_u8, 0x02, 0x00, 0x80, 0x89, 0x8a, 0x88, 0x81]),
                prop::collection::vec(any::<u8>(), 0..200)), 0..6),
            garbage in prop::collection::vec(any::<u8>(), 0..40),
            pieces in prop::collection::vec(0_usize..60, 0..40),
        ) {
            let mut bytes: Vec<u8> = sent.iter().flat_map(|(first, payload)| frame(*first, payload)).collect();
            bytes.extend(garbage);
            prop_assert_eq!(of(&bytes, &pieces), of(&bytes, &[]));
        }
    }
}
