//! Raw bytes into the HTTP port: heads, query strings, bodies, headers, signed and not.

use super::{Target, tokens};
use crate::dice::Dice;
use crate::http::{Answer, storm};
use crate::mutate::mutate;
use crate::world::{World, class};
use crate::{Broken, corpus, shown};
use serde_json::Value;

/// Statuses whose answer may be empty or plain text: they come from HTTP itself, or are no API answers.
const BARE: [u16; 12] = [200, 201, 204, 400, 403, 404, 405, 408, 411, 413, 414, 431];

/// The target.
pub struct Http {
    world: World,
    tokens: Vec<Vec<u8>>,
}

impl Http {
    pub fn new() -> Result<Self, Broken> {
        let tokens = tokens(&[
            "{query}",
            "{length}",
            "{firmware}",
            "{product}",
            "{device}",
            "{token}",
            "{sign}",
            "{register}",
            "password: ",
            "/topic/",
            "/auth",
            "Action=",
            "&Signature=",
            "&Format=XML",
            "%00",
            "%ff",
            "%",
            "+",
            r"\r\n",
            r"\r\n\r\n",
            "Content-Length: ",
            "Transfer-Encoding: chunked\\r\\n",
            "Expect: 100-continue\\r\\n",
            "Content-Type: multipart/form-data; boundary=",
            "Content-Type: application/x-www-form-urlencoded\\r\\n",
            "Authorization: ACS3-HMAC-SHA256 Credential=UPDRFUZZ,SignedHeaders=host,Signature=00\\r\\n",
            "x-acs-date: ",
            "Range: bytes=0-\\r\\n",
            "Upgrade: h2c\\r\\n",
            "HEAD ",
            "OPTIONS * ",
            "/ota/",
            "/errors?q=",
            "../",
            "HTTP/1.0",
            "HTTP/2.0",
            r"\x16\x03\x01",
        ]);
        Ok(Self { world: World::start()?, tokens })
    }
}

/// Judges an answer of any path; answers its class.
pub(super) fn judge(answer: &Answer) -> Result<String, Broken> {
    let kind = answer.header("content-type").unwrap_or_default();
    let is_api = kind.starts_with("application/json") || kind.starts_with("text/xml");
    if is_api && answer.header("x-acs-request-id").is_some() {
        return class(answer);
    }
    let status = answer.status;
    if status >= 500 {
        return Err(Broken::new("a 5xx", format!("{status} {}", shown(&answer.body))));
    }
    if is_api || matches!(status, 200 | 206 | 304 | 409 | 412 | 416) || BARE.contains(&status) {
        return Ok(format!("{status} {kind}"));
    }
    Err(Broken::new("a strange status", format!("{status} {}", shown(&answer.body))))
}

impl Target for Http {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let text = include_str!("../../corpus/http.txt");
        corpus::blocks(text).iter().map(|lines| corpus::bytes(&lines.concat())).collect()
    }

    fn mutate(&self, dice: &mut Dice, entry: &[u8], other: &[u8]) -> Vec<u8> {
        mutate(dice, entry, other, &self.tokens)
    }

    fn attempt(&mut self, input: &[u8]) -> Result<String, Broken> {
        let bytes = self.world.place(input, &Value::Null);
        let answers = storm(self.world.api, &bytes)?;
        let mut classes = Vec::new();
        for answer in answers.iter().take(3) {
            classes.push(judge(answer)?);
        }
        Ok(if classes.is_empty() { "closed".to_owned() } else { classes.join(", ") })
    }

    fn check(&mut self) -> Result<(), Broken> {
        self.world.check()
    }

    fn renew(&mut self) -> Result<(), Broken> {
        self.world = World::start()?;
        Ok(())
    }
}
