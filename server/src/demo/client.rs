//! A small client of the API: signs calls (v1.0, GET) and uploads forms, over plain HTTP.

use crate::api::answer::utc;
use crate::api::params::Params;
use crate::api::sign::{V1Hash, v1_signature, v1_string_to_sign};
use crate::clock::{Clock as _, SystemClock};
use crate::random::Random;
use crate::serve::Server;
use crate::upload_form::UploadForm;
use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::net::SocketAddr;

/// Calls one server with one access key.
pub struct ApiClient {
    addr: SocketAddr,
    key_id: String,
    secret: String,
    random: Random,
}

impl ApiClient {
    /// A client with the root key of a server in this process.
    pub fn of(server: &Server) -> anyhow::Result<Self> {
        let file = server.root_key_file.as_ref().context("the root key was not written")?;
        let key: Value = serde_json::from_str(&std::fs::read_to_string(file)?)?;
        let field = |name: &str| {
            key[name].as_str().map(str::to_owned).with_context(|| format!("{name} is not in the key file"))
        };
        Ok(Self {
            addr: server.api_addr,
            key_id: field("AccessKeyId")?,
            secret: field("AccessKeySecret")?,
            random: Random::from_system()?,
        })
    }

    /// Calls an operation; an error if it does not succeed.
    pub async fn call(&self, action: &str, params: &[(&str, &str)]) -> anyhow::Result<Value> {
        let body = self.raw(action, params, "JSON").await?;
        let answer: Value =
            serde_json::from_str(&body).with_context(|| format!("{action} answered {body}"))?;
        ensure!(answer["Success"] == Value::Bool(true), "{action} was refused: {body}");
        Ok(answer)
    }

    /// Calls an operation and gives the answer as it came.
    pub async fn raw(&self, action: &str, params: &[(&str, &str)], format: &str) -> anyhow::Result<String> {
        let timestamp = utc(SystemClock.now());
        let timestamp = format!("{}Z", timestamp.get(..19).unwrap_or_default());
        let nonce = self.random.request_id();
        let common = [
            ("Action", action),
            ("Version", "2018-01-20"),
            ("Format", format),
            ("AccessKeyId", &self.key_id),
            ("SignatureMethod", "HMAC-SHA1"),
            ("SignatureVersion", "1.0"),
            ("SignatureNonce", &nonce),
            ("Timestamp", &timestamp),
        ];
        let signed = Params::from_pairs(common.into_iter().chain(params.iter().copied()));
        let signature = v1_signature(V1Hash::Sha1, &self.secret, &v1_string_to_sign("GET", &signed));
        let all = Params::from_pairs(signed.iter().chain([("Signature", signature.as_str())]));
        let escape = |text| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC);
        let query: Vec<String> =
            all.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
        let request = Request::builder()
            .method(Method::GET)
            .uri(format!("/?{}", query.join("&")))
            .header("host", self.addr.to_string())
            .body(Full::new(Bytes::new()))?;
        let (_, body) = self.send(request).await?;
        Ok(body)
    }

    /// Uploads a file with a ticket of GenerateOTAUploadURL.
    pub async fn upload(&self, ticket: &Value, file: &[u8]) -> anyhow::Result<()> {
        let form = UploadForm::new(&ticket["Data"], "f.bin", file)?;
        let request = Request::post("/")
            .header("host", self.addr.to_string())
            .header("content-type", form.content_type)
            .body(Full::new(Bytes::from(form.body)))?;
        let (status, body) = self.send(request).await?;
        ensure!(status.is_success(), "the upload was refused: {body}");
        Ok(())
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> anyhow::Result<(http::StatusCode, String)> {
        let stream = tokio::net::TcpStream::connect(self.addr).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request = sender.send_request(request);
        // The connection ends with its one answer.
        let answer = async {
            let answer = request.await?;
            let status = answer.status();
            let body = answer.into_body().collect().await?.to_bytes();
            anyhow::Ok((status, String::from_utf8(body.to_vec())?))
        };
        let mut connection = std::pin::pin!(connection);
        let mut answer = std::pin::pin!(answer);
        loop {
            tokio::select! {
                biased;
                done = &mut answer => return done,
                ended = &mut connection => ended?,
            }
        }
    }
}
