//! Downloads: signed addresses, ranges, HEAD.
//!
//! What C SDKs need: `200` or `206`, an exact `Content-Length`, no chunks, no compression, no redirect.

use crate::app::App;
use crate::files::blobs::{First, ObjectBody, is_away};
use crate::files::{FileBody, Opened, address};
use crate::http::{Known, Reply, plain_reply};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use updraft_store::{StoreError, UploadedFile};

/// When who is sent away may come back, at the earliest.
const RETRY_AFTER_SECONDS: u32 = 5;
/// How much later, at most.
const RETRY_SPREAD_SECONDS: u32 = 25;

/// How a download is addressed; nothing is checked yet.
#[derive(Debug, Clone, Copy)]
pub enum Address<'a> {
    /// By the file's key, with a signature in the query: what QueryOTAFirmware shows.
    Key {
        /// The key.
        key: &'a str,
        /// The query.
        query: &'a str,
    },
    /// By a token: what devices are told.
    Token(&'a str),
}

impl<'a> Address<'a> {
    /// The address that a path and query are, if they are one.
    pub fn of(path: &'a str, query: &'a str) -> Option<Self> {
        if let Some(token) = path.strip_prefix(address::DEVICE_PATH) {
            return Some(Self::Token(token));
        }
        path.strip_prefix('/').filter(|key| key.starts_with("ota/")).map(|key| Self::Key { key, query })
    }

    /// The file that it leads to now: outside an error of the database, inside `None` for a file that is not there.
    async fn file(self, app: &App) -> Result<Result<Option<UploadedFile>, StoreError>, NotSigned> {
        match self {
            Self::Key { key, query } => {
                if !address::is_object_key(key) || !app.addresses.check_download(key, query, app.now()) {
                    return Err(NotSigned);
                }
                let key = key.to_owned();
                Ok(app.store.read(move |tx| tx.file_find_any(&key)).await)
            }
            Self::Token(token) => {
                let head = app.addresses.check_device_path(token, app.now()).ok_or(NotSigned)?;
                Ok(app.store.read(move |tx| tx.file_find_below(&head)).await)
            }
        }
    }
}

/// An address that is not ours, or whose time is over.
struct NotSigned;

/// Answers GET and HEAD of a download.
pub async fn answer(app: &App, method: &Method, address: Address<'_>, headers: &HeaderMap) -> Reply {
    if method != Method::GET && method != Method::HEAD {
        let mut reply = plain_reply(StatusCode::METHOD_NOT_ALLOWED, "Use GET or HEAD.\n");
        reply.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return reply;
    }
    let file = match address.file(app).await {
        Err(NotSigned) => {
            return plain_reply(
                StatusCode::FORBIDDEN,
                "The address is not signed, or its time is over: ask for a new one.\n",
            );
        }
        Ok(Ok(Some(file))) => file,
        Ok(Ok(None)) => return plain_reply(StatusCode::NOT_FOUND, "There is no such file.\n"),
        Ok(Err(error)) => {
            tracing::error!(%error, "a download could not be looked up");
            return later(app, "Try again later.\n");
        }
    };
    let total = file.size.unsigned_abs();
    let etag = format!("\"{}\"", file.md5);
    let range = wanted_range(headers, &etag, total);
    let first = match &range {
        Ok(range) if method == Method::GET => First::At(range.map_or(0, |(first, _)| first)),
        _ => First::Nothing,
    };
    let opened = match app.blobs.read(&file.blob, file.size, first).await {
        Ok(opened) => opened,
        Err(error) => return unreadable(app, &file, &error),
    };
    let Ok(range) = range else {
        let mut reply = plain_reply(StatusCode::RANGE_NOT_SATISFIABLE, "");
        set(reply.headers_mut(), header::CONTENT_RANGE, &format!("bytes */{total}"));
        return reply;
    };
    let (start, length) = range.map_or((0, total), |(first, last)| (first, last - first + 1));
    let body = if method == Method::HEAD {
        Full::new(Bytes::new()).map_err(|never| match never {}).boxed()
    } else {
        let Some(running) = app.bandwidth.begin() else {
            metrics::counter!("updraft_downloads_refused_total").increment(1);
            return later(
                app,
                "Too many downloads are running (`download_connections_max`); try again later.\n",
            );
        };
        let pace = app.bandwidth.pace();
        match opened {
            Opened::File(file) => FileBody::new(file, start, length).within(running, pace).boxed(),
            Opened::Object(object) => ObjectBody::new(object, start, length, running, pace).boxed(),
        }
    };
    metrics::counter!("updraft_downloads_total").increment(1);
    let mut reply = Reply::new(body);
    reply.extensions_mut().insert(Known);
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    set(headers, header::ETAG, &etag);
    if let Some((first, last)) = range {
        set(headers, header::CONTENT_RANGE, &format!("bytes {first}-{last}/{total}"));
        *reply.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    reply
}

/// A file whose row is there, and whose bytes are not, or not now.
fn unreadable(app: &App, file: &UploadedFile, error: &std::io::Error) -> Reply {
    if is_away(error) {
        return later(app, "The store of the files does not answer; try again later.\n");
    }
    metrics::counter!("updraft_downloads_damaged_total").increment(1);
    tracing::error!(%error, blob = file.blob, key = file.object_key, "a package's file is missing or damaged");
    plain_reply(StatusCode::NOT_FOUND, "The file is gone.\n")
}

/// The server has too much to do. Devices that all came at once do not come back all at once.
fn later(app: &App, why: &str) -> Reply {
    let [drawn] = app.random.bytes::<1>("retry_after");
    let wait = RETRY_AFTER_SECONDS + u32::from(drawn) * RETRY_SPREAD_SECONDS / u32::from(u8::MAX);
    let mut reply = plain_reply(StatusCode::SERVICE_UNAVAILABLE, why);
    reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait));
    reply
}

fn set(headers: &mut HeaderMap, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// A range that lies wholly behind the end.
#[derive(Debug, PartialEq, Eq)]
struct Unsatisfiable;

/// First and last byte of the one range asked for; `None`: the whole file.
fn wanted_range(headers: &HeaderMap, etag: &str, total: u64) -> Result<Option<(u64, u64)>, Unsatisfiable> {
    let Some(range) = headers.get(header::RANGE).and_then(|value| value.to_str().ok()) else {
        return Ok(None);
    };
    // A part of another file than the one begun with would brick a device.
    if headers.get(header::IF_RANGE).is_some_and(|known| known.as_bytes() != etag.as_bytes()) {
        return Ok(None);
    }
    parse_range(range, total)
}

fn parse_range(range: &str, total: u64) -> Result<Option<(u64, u64)>, Unsatisfiable> {
    // Several ranges, other units and what cannot be read get the whole file, as RFC 9110 allows.
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|spec| spec.trim().split_once('-'))
    else {
        return Ok(None);
    };
    let number = |text: &str| text.parse::<u64>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    match (first, last) {
        ("", suffix) => match number(suffix) {
            None => Ok(None),
            Some(0) => Err(Unsatisfiable),
            Some(_) if total == 0 => Err(Unsatisfiable),
            Some(n) => Ok(Some((total.saturating_sub(n), total - 1))),
        },
        (first, last) => {
            let Some(first) = number(first) else { return Ok(None) };
            let last = if last.is_empty() { Some(u64::MAX) } else { number(last) };
            match last {
                Some(last) if last < first => Ok(None),
                Some(_) if first >= total => Err(Unsatisfiable),
                Some(last) => Ok(Some((first, last.min(total - 1)))),
                None => Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_devices_send_them() {
        let table = [
            ("bytes=0-", Ok(Some((0, 99)))),
            ("bytes=10-19", Ok(Some((10, 19)))),
            ("bytes=90-1000", Ok(Some((90, 99)))),
            ("bytes=99-", Ok(Some((99, 99)))),
            ("bytes=100-", Err(Unsatisfiable)),
            ("bytes=-10", Ok(Some((90, 99)))),
            ("bytes=-1000", Ok(Some((0, 99)))),
            ("bytes=-0", Err(Unsatisfiable)),
            ("bytes=5-2", Ok(None)),
            ("bytes=0-1,5-6", Ok(None)),
            ("bytes=a-b", Ok(None)),
            ("bytes=+1-2", Ok(None)),
            ("bytes=18446744073709551616-", Ok(None)),
            ("lines=1-2", Ok(None)),
        ];
        for (range, expected) in table {
            assert_eq!(parse_range(range, 100), expected, "{range}");
        }
        assert_eq!(parse_range("bytes=0-", 0), Err(Unsatisfiable));
    }

    #[test]
    fn another_files_part_is_never_sent() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_static("bytes=5-"));
        headers.insert(header::IF_RANGE, HeaderValue::from_static("\"old\""));
        assert_eq!(wanted_range(&headers, "\"new\"", 10), Ok(None));
        assert_eq!(wanted_range(&headers, "\"old\"", 10), Ok(Some((5, 9))));
    }
}
