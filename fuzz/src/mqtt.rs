//! MQTT packets as bytes, and a device that waits for none longer than it has to.

use crate::Broken;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// No answer of the server takes longer, unless it is broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// A text with its length in front.
fn text(bytes: &[u8]) -> Vec<u8> {
    let mut out = (bytes.len() as u16).to_be_bytes().to_vec();
    out.extend(bytes);
    out
}

/// A packet: first byte, length, body.
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = body.len();
    loop {
        let more = if length > 127 { 0x80 } else { 0 };
        bytes.push((length % 128) as u8 | more);
        length /= 128;
        if more == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

/// Properties of MQTT 5 with their length in front; shorter than 128 bytes.
fn block(properties: &[u8]) -> Vec<u8> {
    [&[properties.len() as u8], properties].concat()
}

/// A CONNECT of MQTT 5 with its properties and the fields client id, user name, password.
pub fn connect5(flags: u8, keepalive: u16, properties: &[u8], fields: &[Vec<u8>]) -> Vec<u8> {
    let mut body = text(b"MQTT");
    body.extend([5, flags]);
    body.extend(keepalive.to_be_bytes());
    body.extend(block(properties));
    body.extend(fields.iter().flat_map(|field| text(field)));
    packet(0x10, &body)
}

/// A PUBLISH of MQTT 5, at QoS 1 if it has an id.
pub fn publish5(topic: &str, id: Option<u16>, properties: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut body = text(topic.as_bytes());
    body.extend(id.iter().flat_map(|id| id.to_be_bytes()));
    body.extend(block(properties));
    body.extend(payload);
    packet(if id.is_some() { 0x32 } else { 0x30 }, &body)
}

/// A SUBSCRIBE of MQTT 5; each filter is `FILTER QOS`.
pub fn subscribe5(id: u16, properties: &[u8], filters: &[Vec<u8>]) -> Vec<u8> {
    let (_, body) = first_packet(&subscribe(id, filters)).map_or((0, Vec::new()), |(packet, _)| packet);
    let (id, filters) = body.split_at(2);
    packet(0x82, &[id, &block(properties), filters].concat())
}

/// A CONNECT with the fields client id, user name, password.
pub fn connect(protocol: &str, level: u8, flags: u8, keepalive: u16, fields: &[Vec<u8>]) -> Vec<u8> {
    let mut body = text(protocol.as_bytes());
    body.extend([level, flags]);
    body.extend(keepalive.to_be_bytes());
    body.extend(fields.iter().flat_map(|field| text(field)));
    packet(0x10, &body)
}

/// A PUBLISH, at QoS 1 if it has an id.
pub fn publish(topic: &str, id: Option<u16>, payload: &[u8]) -> Vec<u8> {
    let mut body = text(topic.as_bytes());
    body.extend(id.iter().flat_map(|id| id.to_be_bytes()));
    body.extend(payload);
    packet(if id.is_some() { 0x32 } else { 0x30 }, &body)
}

/// A SUBSCRIBE; each filter is `FILTER QOS`.
pub fn subscribe(id: u16, filters: &[Vec<u8>]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    for filter in filters {
        let (qos, name) = filter.split_last().map_or((b'0', &[][..]), |(qos, name)| (*qos, name));
        body.extend(text(name.trim_ascii_end()));
        body.push(qos.wrapping_sub(b'0'));
    }
    packet(0x82, &body)
}

/// An UNSUBSCRIBE.
pub fn unsubscribe(id: u16, filter: &[u8]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    body.extend(text(filter));
    packet(0xa2, &body)
}

/// A connected device.
pub struct Device {
    stream: TcpStream,
    inbox: Vec<u8>,
}

/// A packet of the server: first byte, and what follows the length.
pub type Packet = (u8, Vec<u8>);

impl Device {
    /// Connects, and logs in with these fields.
    pub fn login(mqtt: SocketAddr, fields: &[Vec<u8>]) -> Result<Self, Broken> {
        let stream = TcpStream::connect(mqtt)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut device = Self { stream, inbox: Vec::new() };
        device.send(&connect("MQTT", 4, 0xc2, 60, fields));
        match device.receive()? {
            Some((0x20, body)) if body == [0, 0] => Ok(device),
            other => Err(Broken::new("a valid device is refused", format!("{other:?}"))),
        }
    }

    /// Sends bytes; whether they arrive is seen in the answers.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Closes our side: the server reads what was sent, and then closes too.
    pub fn finish(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The next packet; `None` at the end.
    pub fn receive(&mut self) -> Result<Option<Packet>, Broken> {
        let mut piece = [0; 16 * 1024];
        loop {
            if let Some((packet, used)) = first_packet(&self.inbox) {
                self.inbox.drain(..used);
                return Ok(Some(packet));
            }
            match self.stream.read(&mut piece) {
                Ok(0) => return Ok(None),
                Ok(read) => self.inbox.extend_from_slice(&piece[..read]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Err(Broken::new("no answer in time", "from the devices' port"));
                }
                // A reset is an end too.
                Err(_) => return Ok(None),
            }
        }
    }
}

/// The first whole packet of some bytes, and its length with its header.
pub fn first_packet(bytes: &[u8]) -> Option<(Packet, usize)> {
    let (mut length, mut header) = (0, 1);
    for (place, byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * place);
        header += 1;
        if byte & 0x80 == 0 {
            let body = bytes.get(header..header + length)?.to_vec();
            return Some(((bytes[0], body), header + length));
        }
    }
    None
}

/// Topic, packet id (QoS 1) and payload of a PUBLISH's body.
pub fn message(packet: &Packet) -> Option<(String, Option<u16>, Vec<u8>)> {
    let (first, body) = packet;
    if first & 0xf0 != 0x30 {
        return None;
    }
    let length = usize::from(u16::from_be_bytes([*body.first()?, *body.get(1)?]));
    let topic = String::from_utf8(body.get(2..2 + length)?.to_vec()).ok()?;
    let rest = &body[2 + length..];
    if first & 0x06 == 0 {
        return Some((topic, None, rest.to_vec()));
    }
    let id = u16::from_be_bytes([*rest.first()?, *rest.get(1)?]);
    Some((topic, Some(id), rest[2..].to_vec()))
}
