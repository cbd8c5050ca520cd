//! The API for a simulation: signed calls at one of several nodes, which may be away for a while.

use crate::cli::api::keys::Key;
use crate::cli::api::request::{Call, Scheme, signed};
use crate::cli::api::transport::{self, Endpoint, Trust};
use crate::cli::now;
use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::Value;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use updraft_server::api::answer::utc;
use updraft_server::random::Random;
use updraft_server::upload_form::UploadForm;

/// How long a call is tried again: nodes may be restarting.
const PATIENCE: Duration = Duration::from_mins(2);
/// The wait before the next try.
const PAUSE: Duration = Duration::from_millis(300);

/// Calls the API.
pub struct Caller {
    endpoints: Vec<Endpoint>,
    tls: rustls::ClientConfig,
    key: Key,
    random: Random,
    /// The endpoint that is tried next, counted in a circle.
    next: AtomicUsize,
}

/// What a try came to.
enum Tried {
    Done(Value),
    /// Not now: too many calls, or nobody is there.
    Later(anyhow::Error),
    Refused(anyhow::Error),
}

impl Caller {
    /// Calls at these nodes with this key.
    pub fn new(endpoints: Vec<Endpoint>, trust: &Trust<'_>, key: Key) -> anyhow::Result<Self> {
        let tls = transport::tls(trust)?;
        Ok(Self { endpoints, tls, key, random: Random::from_system()?, next: AtomicUsize::new(0) })
    }

    /// Calls an operation that only reads; tried again for a while if no node answers.
    pub async fn read(&self, action: &str, params: &[(&str, &str)]) -> anyhow::Result<Value> {
        self.call(action, params, true).await
    }

    /// Calls an operation that changes something; not tried again after it may have been done.
    pub async fn change(&self, action: &str, params: &[(&str, &str)]) -> anyhow::Result<Value> {
        self.call(action, params, false).await
    }

    async fn call(&self, action: &str, params: &[(&str, &str)], again: bool) -> anyhow::Result<Value> {
        let params: Vec<(String, String)> =
            params.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let begun = Instant::now();
        loop {
            match self.once(action, &params, again).await? {
                Tried::Done(answer) => return Ok(answer),
                Tried::Refused(error) => return Err(error),
                Tried::Later(error) if begun.elapsed() > PATIENCE => return Err(error),
                Tried::Later(_) => sleep(PAUSE).await,
            }
        }
    }

    async fn once(&self, action: &str, params: &[(String, String)], again: bool) -> anyhow::Result<Tried> {
        let at = self.next.load(Relaxed).checked_rem(self.endpoints.len()).unwrap_or_default();
        let endpoint = self.endpoints.get(at).context("--api is missing")?;
        let timestamp = utc(now()).get(..19).unwrap_or_default().to_owned() + "Z";
        let call = Call {
            action,
            params,
            format: "JSON",
            host: &endpoint.host(),
            timestamp: &timestamp,
            nonce: &self.random.request_id(),
        };
        let request = signed(&call, &self.key, Scheme::Acs3)?;
        let answer = match self.send(endpoint, request).await {
            Ok(answer) => answer,
            Err(error) => {
                self.next.fetch_add(1, Relaxed);
                let error = error.context(format!("{action} was not answered"));
                return Ok(if again { Tried::Later(error) } else { Tried::Refused(error) });
            }
        };
        let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        if body["Success"] == true {
            return Ok(Tried::Done(body));
        }
        let error = anyhow::anyhow!("{action} was refused: {}", answer.body.trim());
        let throttled = body["Code"].as_str().is_some_and(|code| code.starts_with("Throttling"));
        // A server that is stopping or has lost its database says 5xx.
        let later = throttled || again && answer.status >= 500;
        Ok(if later { Tried::Later(error) } else { Tried::Refused(error) })
    }

    async fn send(
        &self,
        endpoint: &Endpoint,
        request: Request<Full<Bytes>>,
    ) -> anyhow::Result<transport::Answer> {
        transport::send(endpoint, endpoint.tls.then(|| self.tls.clone()), request).await
    }

    /// Uploads a file with a ticket of GenerateOTAUploadURL or GenerateDeviceNameListURL.
    pub async fn upload(&self, ticket: &Value, name: &str, file: &[u8]) -> anyhow::Result<()> {
        let data = &ticket["Data"];
        let endpoint = Endpoint::parse(data["Host"].as_str().context("the ticket has no Host")?)?;
        let form = UploadForm::new(data, name, file)?;
        let request = Request::post("/")
            .header("host", endpoint.host())
            .header("content-type", form.content_type)
            .body(Full::new(Bytes::from(form.body)))?;
        let answer = self.send(&endpoint, request).await?;
        if !(200..300).contains(&answer.status) {
            bail!("the upload was refused: {}", answer.body.trim());
        }
        Ok(())
    }
}
