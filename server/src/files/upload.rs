//! Uploads: the form target that the answers of GenerateOTAUploadURL and GenerateDeviceNameListURL point to (an OSS
//! PostObject).
//!
//! The ticket is checked when the upload starts; the size while it streams. The file is acknowledged only
//! when its bytes and its row are durable.

use crate::api::answer::Object;
use crate::app::App;
use crate::files::address::TicketRefusal;
use crate::files::blobs::is_away;
use crate::files::busy::Busy;
use crate::files::reserve::{self, NoRoom};
use crate::http::{Reply, plain_reply, xml_reply};
use bytes::Bytes;
use http::StatusCode;
use md5::{Digest as _, Md5};
use multer::{Field, Multipart};
use sha2::Sha256;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use updraft_core::id;
use updraft_store::{Lane, UploadNoted};

/// Bytes of a form before its file: fields, part headers, whatever stands before the first boundary.
const HEAD_BYTES_MAX: u64 = 512 * 1024;
/// Bytes of a form besides its file, once the ticket is good.
const FORM_BYTES_MAX: u64 = 1024 * 1024;
/// Ours: the store whose form this is has no end.
const INSUFFICIENT_STORAGE: &str = "InsufficientStorage";
const IN_USE: &str = "A firmware uses this key.";
/// Longest text field of a form, in bytes.
const FIELD_BYTES_MAX: u64 = 16 * 1024;
/// Most text fields before the file.
const FIELDS_MAX: usize = 32;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why an upload is refused: OSS's status and code, and words.
struct Refusal(StatusCode, &'static str, String);

/// What stands before a form.
pub struct Head<'a> {
    /// The host that the caller named.
    pub host: &'a str,
    /// With the form's boundary.
    pub content_type: &'a str,
    /// Bytes of the whole form, if the caller says so.
    pub announced: Option<u64>,
}

/// Answers `POST /` with a multipart form.
pub async fn answer<B, E>(app: &App, request_id: &str, head: &Head<'_>, body: B) -> Reply
where
    B: futures_util::Stream<Item = Result<Bytes, E>> + Send + 'static,
    E: Into<BoxError> + 'static,
{
    match receive(app, head, body).await {
        Ok(status) => {
            metrics::counter!("updraft_uploads_total", "outcome" => "ok").increment(1);
            plain_reply(status, "")
        }
        Err(Refusal(status, code, message)) => {
            metrics::counter!("updraft_uploads_total", "outcome" => "refused").increment(1);
            tracing::info!(code, message, "an upload was refused");
            let body = Object::new()
                .text("Code", code)
                .text("Message", message)
                .text("RequestId", request_id)
                .text("HostId", head.host);
            xml_reply(status, &body, "Error")
        }
    }
}

async fn receive<B, E>(app: &App, head: &Head<'_>, body: B) -> Result<StatusCode, Refusal>
where
    B: futures_util::Stream<Item = Result<Bytes, E>> + Send + 'static,
    E: Into<BoxError> + 'static,
{
    let boundary = multer::parse_boundary(head.content_type).map_err(|error| malformed(&error))?;
    // The parser keeps in memory whatever it has not understood yet, so the stream itself is limited: to the head
    // of a form until its ticket is good, and in time.
    let allowed = Arc::new(AtomicU64::new(HEAD_BYTES_MAX));
    let patience = Duration::from_secs(app.config.http_seconds.into());
    let body = metered(body, Arc::clone(&allowed), patience);
    let longest = app.config.file_bytes_max.max(app.config.list_file_bytes_max);
    let limits = multer::SizeLimit::new().per_field(longest.unsigned_abs().saturating_add(1));
    let mut form = Multipart::with_constraints(body, boundary, multer::Constraints::new().size_limit(limits));
    let mut fields: BTreeMap<String, String> = BTreeMap::new();
    while let Some(field) = form.next_field().await.map_err(|error| malformed(&error))? {
        let name = field.name().unwrap_or_default().to_ascii_lowercase();
        if name == "file" {
            let (object_key, bytes_max) = check(app, &fields)?;
            // The form is the file and a few hundred bytes more.
            reserve::room_for(app, head.announced.unwrap_or(0)).map_err(no_room)?;
            let budget = bytes_max.unsigned_abs().saturating_add(FORM_BYTES_MAX);
            allowed.store(budget, Ordering::Relaxed);
            store_file(app, &object_key, bytes_max, field).await?;
            return Ok(wanted_status(&fields));
        }
        if fields.len() >= FIELDS_MAX {
            return Err(Refusal(
                StatusCode::BAD_REQUEST,
                "MalformedPOSTRequest",
                "Too many fields.".to_owned(),
            ));
        }
        let value = text(field).await?;
        fields.insert(name, value);
    }
    Err(Refusal(
        StatusCode::BAD_REQUEST,
        "IncorrectNumberOfFilesInPOSTRequest",
        "The form must have one file, in the field `file`, behind all others.".to_owned(),
    ))
}

fn malformed(error: &dyn std::error::Error) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, "MalformedPOSTRequest", format!("The form cannot be read: {error}."))
}

fn too_large() -> Refusal {
    Refusal(
        StatusCode::BAD_REQUEST,
        "EntityTooLarge",
        "The file is larger than its policy allows.".to_owned(),
    )
}

async fn text(mut field: Field<'_>) -> Result<String, Refusal> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(|error| malformed(&error))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > FIELD_BYTES_MAX {
            return Err(Refusal(
                StatusCode::BAD_REQUEST,
                "FieldItemTooLong",
                "A field is too long.".to_owned(),
            ));
        }
    }
    String::from_utf8(bytes).map_err(|error| malformed(&error))
}

/// The body as long as it stays within `allowed` bytes and each piece comes within `patience`.
fn metered<B, E>(
    body: B,
    allowed: Arc<AtomicU64>,
    patience: Duration,
) -> impl futures_util::Stream<Item = Result<Bytes, BoxError>> + Send + 'static
where
    B: futures_util::Stream<Item = Result<Bytes, E>> + Send + 'static,
    E: Into<BoxError> + 'static,
{
    let state = (Box::pin(body), 0_u64);
    // A stranger's form may not take long altogether; once its ticket is good, each piece must come in time.
    let head_until = tokio::time::Instant::now() + patience;
    futures_util::stream::try_unfold(state, move |(mut body, seen)| {
        let allowed = Arc::clone(&allowed);
        async move {
            // The parser reads all that it can get before it looks at it. Piece by piece, it finds the file's part
            // before much of the file is counted as head.
            let mut until = tokio::time::Instant::now() + patience;
            if allowed.load(Ordering::Relaxed) <= HEAD_BYTES_MAX {
                tokio::task::yield_now().await;
                until = until.min(head_until);
            }
            let next = tokio::time::timeout_at(until, futures_util::StreamExt::next(&mut body));
            let Some(chunk) = next.await.map_err(|_| BoxError::from("the form came too slowly"))? else {
                return Ok(None);
            };
            let chunk = chunk.map_err(Into::into)?;
            let seen = seen + chunk.len() as u64;
            if seen > allowed.load(Ordering::Relaxed) {
                return Err(BoxError::from("the form is too large before its file, or altogether"));
            }
            Ok(Some((chunk, (body, seen))))
        }
    })
}

/// Stores the file under its key, whose ticket is good.
async fn store_file(
    app: &App,
    object_key: &str,
    bytes_max: i64,
    mut field: Field<'_>,
) -> Result<(), Refusal> {
    let conflict = |code, words: &str| Refusal(StatusCode::CONFLICT, code, words.to_owned());
    let _busy = Busy::take(app, object_key)
        .ok_or_else(|| conflict("OperationAborted", "Another upload to this key is in progress."))?;
    // Looked up while the key is taken, so that its row is not purged meanwhile.
    ticket(app, object_key).await?;
    let name = id::alphanumeric(&app.random.bytes::<24>("blob"));
    let mut incoming = app.blobs.create(name, bytes_max).await.map_err(|error| unstorable(&error))?;
    let (mut md5, mut sha256, mut size) = (Md5::new(), Sha256::new(), 0_i64);
    let mut measured = 0;
    while let Some(chunk) = field.chunk().await.map_err(|error| match error {
        multer::Error::FieldSizeExceeded { .. } => too_large(),
        other => malformed(&other),
    })? {
        size += chunk.len() as i64;
        if size > bytes_max {
            return Err(too_large());
        }
        if size - measured >= reserve::STEP_BYTES {
            reserve::room_for(app, chunk.len() as u64).map_err(no_room)?;
            measured = size;
        }
        md5.update(&chunk);
        sha256.update(&chunk);
        incoming.write(&chunk).await.map_err(|error| unstorable(&error))?;
    }
    let blob = incoming.keep().await.map_err(|error| unstorable(&error))?;
    let (md5, sha256) = (hex::encode(md5.finalize()), hex::encode(sha256.finalize()));
    let (row, now) = ((object_key.to_owned(), blob.clone()), app.now());
    let noted = app
        .store
        .write(Lane::Interactive, move |tx| tx.file_uploaded(&row.0, &row.1, size, &md5, &sha256, now))
        .await
        .map_err(|error| unstorable(&std::io::Error::other(error)))?;
    let refused = noted == UploadNoted::Refused;
    let useless = match noted {
        UploadNoted::First => None,
        UploadNoted::Replaced(before) => Some(before),
        UploadNoted::Refused => Some(blob),
    };
    if let Some(blob) = useless
        && let Err(error) = app.blobs.remove(&blob).await
    {
        tracing::warn!(%error, blob, "a blob of no further use could not be removed");
    }
    if refused { Err(conflict("FileAlreadyExists", IN_USE)) } else { Ok(()) }
}

fn unstorable(error: &std::io::Error) -> Refusal {
    // A store that is away has said so once.
    if !is_away(error) {
        tracing::error!(%error, "an upload cannot be stored");
    }
    if error.kind() == std::io::ErrorKind::StorageFull {
        let words = "The server's disk is full.".to_owned();
        return Refusal(StatusCode::INSUFFICIENT_STORAGE, INSUFFICIENT_STORAGE, words);
    }
    Refusal(
        StatusCode::SERVICE_UNAVAILABLE,
        "ServiceUnavailable",
        "The file cannot be stored now.".to_owned(),
    )
}

fn no_room(why: NoRoom) -> Refusal {
    Refusal(StatusCode::INSUFFICIENT_STORAGE, INSUFFICIENT_STORAGE, why.to_string())
}

/// The status of success that the form asks for.
fn wanted_status(fields: &BTreeMap<String, String>) -> StatusCode {
    match fields.get("success_action_status").map(String::as_str) {
        Some("200") => StatusCode::OK,
        Some("201") => StatusCode::CREATED,
        _ => StatusCode::NO_CONTENT,
    }
}

/// Checks the signed ticket; answers the key and the most bytes.
fn check(app: &App, fields: &BTreeMap<String, String>) -> Result<(String, i64), Refusal> {
    let field = |name: &str| {
        fields.get(name).map(String::as_str).ok_or_else(|| {
            Refusal(
                StatusCode::BAD_REQUEST,
                "InvalidArgument",
                format!("The field {name} must stand before the file."),
            )
        })
    };
    let object_key = field("key")?;
    // A ticket for a list has another name for it.
    let access_key_id =
        field("ossaccesskeyid").or_else(|refusal| field("accesskeyid").map_err(|_| refusal))?;
    let bytes_max = app
        .addresses
        .check_ticket(object_key, access_key_id, field("policy")?, field("signature")?, app.now())
        .map_err(|refusal| {
            let (code, words) = match refusal {
                TicketRefusal::NotOurs => {
                    ("SignatureDoesNotMatch", "The ticket was not given by this server.")
                }
                TicketRefusal::Expired => ("AccessDenied", "The ticket's time is over: ask for a new one."),
                TicketRefusal::OtherKey => ("AccessDenied", "The ticket is for another key."),
            };
            Refusal(StatusCode::FORBIDDEN, code, words.to_owned())
        })?;
    Ok((object_key.to_owned(), bytes_max))
}

/// Whether the ticket is on record and no package uses its key.
async fn ticket(app: &App, object_key: &str) -> Result<(), Refusal> {
    let wanted = object_key.to_owned();
    let ticket = app.store.read(move |tx| tx.file_ticket_find(&wanted)).await.map_err(|error| {
        tracing::error!(%error, "an upload ticket could not be looked up");
        Refusal(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", "Try again later.".to_owned())
    })?;
    match ticket {
        Some(None) => Ok(()),
        Some(Some(_)) => Err(Refusal(StatusCode::CONFLICT, "FileAlreadyExists", IN_USE.to_owned())),
        None => Err(Refusal(StatusCode::FORBIDDEN, "AccessDenied", "There is no such ticket.".to_owned())),
    }
}
