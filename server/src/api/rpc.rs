//! The door: from an HTTP request to a verified call, and from its answer back.
//!
//! The order of checks is the platform's as far as its answers show it: method, action, version, format,
//! access key, time, signature, nonce, quota, permission, mandatory parameters, types, service.

use crate::api::access::Signer;
use crate::api::answer::{Format, Object};
use crate::api::error::{ApiError, Code, Kind};
use crate::api::params::Params;
use crate::api::verify::{header, signer};
use crate::api::{Call, Operation, audit, find, policy};
use crate::app::App;
use crate::http::Known;
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::request::Parts;
use http::{HeaderMap, Method, Response};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tracing::Instrument as _;
use updraft_core::id::InstanceNo;
use updraft_core::policy::permits;

/// The API version that this server speaks.
const VERSION: &str = "2018-01-20";

/// Answers one request; `base` is where this caller reaches the server.
pub async fn answer(app: Arc<App>, base: String, parts: Parts, body: Bytes) -> Response<Bytes> {
    let request_id = app.random.request_id();
    // At the level of errors, so that it is there whatever the log leaves out.
    let span = tracing::error_span!("call", request.id = request_id);
    answer_as(app, base, parts, body, request_id).instrument(span).await
}

async fn answer_as(
    app: Arc<App>,
    base: String,
    parts: Parts,
    body: Bytes,
    request_id: String,
) -> Response<Bytes> {
    let (params, spoilt) =
        Params::read_leniently(parts.uri.query().unwrap_or_default(), form_body(&parts.headers, &body));
    let acs3 = header(&parts.headers, "authorization").is_some_and(|value| value.starts_with("ACS3-"));
    let action = action_name(&parts.headers, &params, acs3).unwrap_or_default().to_owned();
    let wanted = format(&parts.headers, &params, acs3);
    let format = wanted.unwrap_or(if acs3 { Format::Json } else { Format::Xml });
    let arrival = Arrival { app: &app, base: &base, request_id: &request_id };
    let outcome = match spoilt {
        Some(error) => Err(error),
        None => run(arrival, &parts, &body, params, acs3, wanted.is_none()).await,
    };
    let host = header(&parts.headers, "host").unwrap_or_default();
    match outcome {
        Ok((operation, object)) => {
            tracing::debug!(operation = operation.name, "answered");
            metrics::counter!("updraft_api_calls_total", "operation" => operation.name, "outcome" => "ok")
                .increment(1);
            success(format, operation, &request_id, object)
        }
        Err(error) => {
            log(&action, &error);
            failure(format, &action, &request_id, host, &base, &error)
        }
    }
}

/// Where a request came in, and what its answer will be called.
struct Arrival<'a> {
    app: &'a Arc<App>,
    base: &'a str,
    request_id: &'a str,
}

async fn run(
    arrival: Arrival<'_>,
    parts: &Parts,
    body: &Bytes,
    params: Params,
    acs3: bool,
    bad_format: bool,
) -> Result<(&'static Operation, Object), ApiError> {
    if parts.method != Method::GET && parts.method != Method::POST {
        return Err(Code::UnsupportedHttpMethod.into());
    }
    let action = action_name(&parts.headers, &params, acs3).ok_or_else(|| ApiError::missing("Action"))?;
    let operation = find(action).ok_or(Code::ActionNotFound)?;
    let version = if acs3 { header(&parts.headers, "x-acs-version") } else { params.text("Version") };
    if version.ok_or_else(|| ApiError::missing("Version"))? != VERSION {
        return Err(Code::InvalidVersion.into());
    }
    if bad_format {
        return Err(Code::InvalidFormat.into());
    }
    let signer = signer(arrival.app, parts, body, &params, acs3).await?;
    throttle(arrival.app, operation, &signer).await?;
    let app = Arc::clone(arrival.app);
    let base = arrival.base.to_owned();
    let outcome = if operation.changes {
        let request_id = arrival.request_id.to_owned();
        // A task of its own: a caller that hangs up must not leave a change without its audit line.
        let work = async move {
            let draft = audit::draft(&params);
            let outcome = perform(&app, operation, &signer, params, base).await;
            audit::write(&app, operation, &signer, &request_id, draft, &outcome).await;
            outcome
        };
        let task = arrival.app.calls.spawn(work.in_current_span());
        task.await.unwrap_or_else(|_| Err(ApiError::new(Code::SystemException).because("its task ended")))
    } else {
        perform(&app, operation, &signer, params, base).await
    };
    outcome.map(|object| (operation, object))
}

/// Runs a verified call of an operation.
async fn perform(
    app: &Arc<App>,
    operation: &'static Operation,
    signer: &Signer,
    params: Params,
    base: String,
) -> Result<Object, ApiError> {
    permit(operation, signer)?;
    if let Some(missing) = operation.required.iter().find(|name| !params.has(name)) {
        return Err(ApiError::missing(missing));
    }
    let instance = instance(app, signer, &params).await?;
    refuse_not_served(operation, &params)?;
    let call = Call { app: Arc::clone(app), account: signer.account, instance, params, base };
    let outcome = AssertUnwindSafe((operation.run)(call)).catch_unwind().await;
    outcome.unwrap_or_else(|_| Err(ApiError::new(Code::SystemException).because("the operation panicked")))
}

fn action_name<'a>(headers: &'a HeaderMap, params: &'a Params, acs3: bool) -> Option<&'a str> {
    if acs3 { header(headers, "x-acs-action") } else { params.text("Action") }
}

/// The body, if it holds form parameters. Some clients send an empty body with no content type.
fn form_body<'a>(headers: &HeaderMap, body: &'a Bytes) -> &'a [u8] {
    let form = header(headers, "content-type")
        .is_none_or(|kind| kind.to_ascii_lowercase().starts_with("application/x-www-form-urlencoded"));
    if form { body } else { &[] }
}

/// The format asked for: the parameter, else (ACS3) the Accept header. `None`: one that does not exist.
fn format(headers: &HeaderMap, params: &Params, acs3: bool) -> Option<Format> {
    match params.text("Format") {
        Some(text) if text.eq_ignore_ascii_case("json") => Some(Format::Json),
        Some(text) if text.eq_ignore_ascii_case("xml") => Some(Format::Xml),
        Some(_) => None,
        None if acs3 => {
            let xml = header(headers, "accept").is_some_and(|accept| accept.contains("xml"));
            Some(if xml { Format::Xml } else { Format::Json })
        }
        None => Some(Format::Xml),
    }
}

/// The instance that a call names, or the account's public one.
async fn instance(app: &App, signer: &Signer, params: &Params) -> Result<InstanceNo, ApiError> {
    let Some(id) = params.text("IotInstanceId") else { return Ok(signer.public) };
    app.instances.find(&app.store, signer.account, id).await?.ok_or_else(|| Code::InstanceNotFound.into())
}

async fn throttle(app: &Arc<App>, operation: &'static Operation, signer: &Signer) -> Result<(), ApiError> {
    let (quotas, account) = (&app.quotas, signer.account);
    let taken = if app.nodes.is_shared() {
        let there = Arc::clone(app);
        quotas.take_together(&app.store, move || there.now(), account, operation.name, operation.qps).await?
    } else {
        quotas.take(account, operation.name, operation.qps, app.now())
    };
    taken.map_err(|wait_ms| ApiError { retry_after_ms: Some(wait_ms), ..ApiError::new(Code::ThrottlingUser) })
}

/// Whether the policies of the signer's user and of its session allow the operation.
fn permit(operation: &Operation, signer: &Signer) -> Result<(), ApiError> {
    let session = signer.session.as_ref().and_then(|session| session.policy.as_ref());
    if signer.policy.is_none() && session.is_none() {
        return Ok(());
    }
    let action = policy::action(operation.name);
    let whose = if !permits(signer.policy.as_ref(), &action) {
        format!("The policy of the RAM user {}", signer.ram_user.as_deref().unwrap_or_default())
    } else if !permits(session, &action) {
        "The session policy of this temporary key".to_owned()
    } else {
        return Ok(());
    };
    let said = format!("{} {whose} does not allow {action}.", Code::NoPermission.text());
    Err(ApiError::with(Code::NoPermission, said))
}

fn refuse_not_served(operation: &Operation, params: &Params) -> Result<(), ApiError> {
    for (name, harmless) in operation.not_served {
        if !params.has(name) {
            continue;
        }
        if let (Some(harmless), Some(value)) = (harmless, params.text(name))
            && value.eq_ignore_ascii_case(harmless)
        {
            continue;
        }
        let except = harmless.map_or_else(String::new, |value| format!(", except with the value {value}"));
        return Err(ApiError::with(
            Code::ParameterNotSupported,
            format!("{name} is not supported by this release{except}."),
        ));
    }
    Ok(())
}

/// Answers a request that never becomes a call: a path that does not exist, a body that cannot be read.
pub fn refuse(app: &App, host: &str, base: &str, error: &ApiError) -> Response<Bytes> {
    let request_id = app.random.request_id();
    tracing::error_span!("call", request.id = request_id).in_scope(|| log("", error));
    failure(Format::Xml, "", &request_id, host, base, error)
}

fn success(format: Format, operation: &Operation, request_id: &str, object: Object) -> Response<Bytes> {
    let mut body = Object::new().text("RequestId", request_id).flag("Success", true);
    body.0.extend(object.0);
    let root = format!("{}Response", operation.name);
    let mut response = reply(200, format, request_id, body.render(format, &root));
    response.extensions_mut().insert(Known);
    response
}

fn failure(
    format: Format,
    action: &str,
    request_id: &str,
    host: &str,
    base: &str,
    error: &ApiError,
) -> Response<Bytes> {
    let body = match error.kind {
        Kind::Business => {
            let mut body = Object::new()
                .text("RequestId", request_id)
                .flag("Success", false)
                .text("Code", error.code.as_ref())
                .text("ErrorMessage", &error.message);
            body.0.extend(error.told.0.iter().cloned());
            body.render(format, &format!("{action}Response"))
        }
        Kind::Gateway(_) => Object::new()
            .text("RequestId", request_id)
            .text("HostId", host)
            .text("Code", error.code.as_ref())
            .text("Message", &error.message)
            .text("Recommend", format!("{base}/errors?q={}", error.code))
            .render(format, "Error"),
    };
    let mut response = reply(error.status(), format, request_id, body);
    if let Some(wait_ms) = error.retry_after_ms {
        response.headers_mut().insert("x-acs-retry-after", http::HeaderValue::from(wait_ms));
    }
    response
}

fn reply(status: u16, format: Format, request_id: &str, body: Vec<u8>) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(format.content_type()));
    if let Ok(value) = http::HeaderValue::from_str(request_id) {
        headers.insert("x-acs-request-id", value);
    }
    response
}

fn log(action: &str, error: &ApiError) {
    let internal = error.internal.as_deref().unwrap_or_default();
    let code = error.code.as_ref();
    // A string to sign may hold what the caller considers private: the log has the code, not the message.
    let fault = error.status() >= 500 || code == Code::SystemException.wire();
    if fault {
        tracing::error!(operation = action, code, internal, "a call failed");
    } else {
        tracing::info!(operation = action, code, internal, "a call was refused");
    }
    let operation = find(action).map_or("unknown", |operation| operation.name);
    let outcome = if fault { "failed" } else { "refused" };
    metrics::counter!("updraft_api_calls_total", "operation" => operation, "outcome" => outcome).increment(1);
}
