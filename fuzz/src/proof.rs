//! How the world's device proves who it is: by its secret, its product's, or a token of the HTTP channel.

use crate::world::{Things, World, said};
use serde_json::Value;
use updraft_server::api::sign::hmac_sha1;

impl World {
    /// What the device signs: with its secret, as client `fuzz`, and with its product's, with the random `R`.
    pub(crate) fn signs(&self) -> [(&'static str, String); 2] {
        let Things { product, product_secret, device, secret, .. } = &self.things;
        let sign =
            |secret: &str, content: String| hex::encode(hmac_sha1(secret.as_bytes(), content.as_bytes()));
        let of_device = format!("clientIdfuzzdeviceName{device}productKey{product}");
        let of_product = format!("deviceName{device}productKey{product}randomR");
        [("{sign}", sign(secret, of_device)), ("{register}", sign(product_secret, of_product))]
    }

    /// A token of the device, or nothing if it may have none.
    pub(crate) fn token(&mut self) -> String {
        let [(_, sign), _] = self.signs();
        let Things { product, device, .. } = &self.things;
        let body = format!(
            r#"{{"productKey":"{product}","deviceName":"{device}","clientId":"fuzz","signmethod":"hmacsha1","sign":"{sign}"}}"#
        );
        let head = format!("POST /auth HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
        let answer = self.client.exchange((head + &body).as_bytes());
        let said_so = answer.ok().and_then(|answer| serde_json::from_slice(&answer.body).ok());
        said(&said_so.unwrap_or(Value::Null), "/info/token")
    }
}
