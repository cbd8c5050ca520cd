//! What devices send and hear, byte by byte.

use super::world::PATIENCE;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

#[derive(Clone)]
pub struct Connect {
    pub protocol: &'static str,
    pub level: u8,
    pub flags: u8,
    pub keepalive: u16,
    pub client_id: String,
    pub user: &'static str,
    pub password: &'static str,
    /// Of MQTT 5.
    pub properties: Vec<u8>,
}

impl Connect {
    pub fn new(client_id: &str, user: &'static str, password: &'static str) -> Self {
        let client_id = client_id.to_owned();
        let properties = Vec::new();
        Self { protocol: "MQTT", level: 4, flags: 0xc2, keepalive: 60, client_id, user, password, properties }
    }

    /// The same with MQTT 5.
    pub fn five(self, properties: &[u8]) -> Self {
        Self { level: 5, properties: properties.to_vec(), ..self }
    }

    /// Link SDK for Python: HMAC-SHA1, automatic delivery.
    pub fn python() -> Self {
        Self::new(
            "a1TestPk001&dev01|securemode=3,signmethod=hmacsha1,ext=1,_ss=1,lan=Python,_v=1.2.13,timestamp=1795521172|",
            "dev01&a1TestPk001",
            "74e8a4dde7aa5838777acb76190804041702a4f8",
        )
    }

    /// Link SDK for JavaScript: HMAC-SHA1, subscribes, wants a persistent session.
    pub fn javascript() -> Self {
        let connect = Self::new(
            "a1TestPk001&dev01|securemode=3,signmethod=hmacsha1,timestamp=1795521924932,lan=NodeJS,_v=1.2.8|",
            "dev01&a1TestPk001",
            "ae778e953966f6c20435d6ebf76f487d76155a85",
        );
        Self { flags: 0xc0, ..connect }
    }

    /// The same without a persistent session.
    pub fn clean(self) -> Self {
        Self { flags: self.flags | 0b10, ..self }
    }

    /// Link SDK for C: HMAC-SHA256 in upper case, automatic delivery.
    pub fn c() -> Self {
        let connect = Self::new(
            "a1TestPk001.dev01|timestamp=2524608000000,_ss=1,_v=sdk-c-4.2.0,securemode=3,signmethod=hmacsha256,ext=3,_conn=tcp_0|",
            "dev01&a1TestPk001",
            "C3F73921B6A23D3900E420B2F501BCAFC4CEA25E34CAE6C313CC45B9254C2A73",
        );
        Self { keepalive: 1_200, ..connect }
    }

    /// By hand: HMAC-MD5, another device.
    pub fn by_hand() -> Self {
        Self::new(
            "12345|securemode=3,signmethod=hmacmd5,timestamp=789|",
            "device&pk",
            "14b198324fe55e1d3c88f2e705e201ee",
        )
    }

    /// A gateway: HMAC-MD5, no automatic delivery.
    pub fn gateway() -> Self {
        Self::new("gw01|securemode=3|", "gw01&a1GatewayP1", "5a8c5eaf10df5313e63ce7333b1e524c")
    }

    /// Another gateway.
    pub fn other_gateway() -> Self {
        Self::new("gw02|securemode=3|", "gw02&a1GatewayP1", "6d658ce37dd0b058bbcf0d8baf27b89e")
    }

    /// A device that is often behind a gateway, on its own.
    pub fn sub() -> Self {
        Self::new("sub01|securemode=3,_ss=1|", "sub01&a1SubPk0001", "bcd1f7947281034f142f5baf4d6cc936")
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut body = text(self.protocol);
        body.extend([self.level, self.flags]);
        body.extend(self.keepalive.to_be_bytes());
        if self.level == 5 {
            body.push(self.properties.len() as u8);
            body.extend(&self.properties);
        }
        for field in [&self.client_id, self.user, self.password] {
            body.extend(text(field));
        }
        packet(0x10, &body)
    }
}

pub fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u16).to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

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

/// A PUBLISH, at QoS 1 if it has an id.
pub fn publish(topic: &str, id: Option<u16>, payload: &str) -> Vec<u8> {
    let mut body = text(topic);
    body.extend(id.iter().flat_map(|id| id.to_be_bytes()));
    body.extend(payload.as_bytes());
    packet(if id.is_some() { 0x32 } else { 0x30 }, &body)
}

pub fn subscribe(id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    for (filter, qos) in filters {
        body.extend(text(filter));
        body.push(*qos);
    }
    packet(0x82, &body)
}

pub fn unsubscribe(id: u16, filter: &str) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    body.extend(text(filter));
    packet(0xa2, &body)
}

pub fn puback(id: u16) -> Vec<u8> {
    packet(0x40, &id.to_be_bytes())
}

pub const PINGREQ: [u8; 2] = [0xc0, 0];
pub const PINGRESP: (u8, Vec<u8>) = (0xd0, Vec::new());

pub struct Client<S>(pub S);

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// The next packet: first byte and what follows the length.
    pub async fn receive(&mut self) -> (u8, Vec<u8>) {
        let read = async {
            let first = self.0.read_u8().await.unwrap();
            let (mut length, mut shift) = (0, 0);
            loop {
                let byte = self.0.read_u8().await.unwrap();
                length |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            let mut body = vec![0; length];
            self.0.read_exact(&mut body).await.unwrap();
            (first, body)
        };
        timeout(PATIENCE, read).await.expect("a packet")
    }

    /// A message of the server: topic, id, payload. An id means QoS 1.
    pub async fn message(&mut self) -> (String, Option<u16>, String) {
        let (topic, id, payload) = self.message_of_bytes().await;
        (topic, id, String::from_utf8(payload).unwrap())
    }

    /// The same, if the payload is no text.
    pub async fn message_of_bytes(&mut self) -> (String, Option<u16>, Vec<u8>) {
        let (first, body) = self.receive().await;
        assert!(matches!(first, 0x30 | 0x32), "{first:#x} {body:?}");
        let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let topic = String::from_utf8(body[2..2 + length].to_vec()).unwrap();
        let mut rest = &body[2 + length..];
        let id = (first == 0x32).then(|| {
            let id = u16::from_be_bytes([rest[0], rest[1]]);
            rest = &rest[2..];
            id
        });
        (topic, id, rest.to_vec())
    }

    /// Proves that nothing else was on its way: the answer to a ping comes next.
    pub async fn nothing_else(&mut self) {
        self.send(&PINGREQ).await;
        assert_eq!(self.receive().await, PINGRESP);
    }

    /// All that comes until the connection ends.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // A reset is an end too.
        let _ = timeout(PATIENCE, self.0.read_to_end(&mut bytes)).await.expect("an end");
        bytes
    }
}
