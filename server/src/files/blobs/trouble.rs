//! An object store that does not do its work: told once in the log, however many downloads meet it.

use parking_lot::Mutex;
use std::error::Error as _;
use std::fmt::Write as _;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The store does not answer, or refuses.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Away(String);

/// Whether the store is to blame, and not the blob.
pub fn is_away(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Away>())
}

/// What the codes of S3 mean for who runs the server.
const ADVICE: [(&str, &str); 8] = [
    ("NoSuchBucket", "there is no such bucket (`blobs_url`, `s3_endpoint`, `s3_region`)"),
    ("InvalidAccessKeyId", "the store does not know the key `s3_access_key_id`"),
    ("SignatureDoesNotMatch", "`s3_secret_access_key` is not the secret of `s3_access_key_id`"),
    (
        "RequestTimeTooSkewed",
        "the clocks of this machine and of the store differ too much: set this one by NTP",
    ),
    ("ExpiredToken", "the temporary credentials of this machine have expired"),
    ("AuthorizationHeaderMalformed", "the bucket is in another region than `s3_region` says"),
    (
        "PermanentRedirect",
        "the bucket is in another region than `s3_region` says, or has another `s3_endpoint`",
    ),
    ("AccessDenied", "the key may not do this: give it the permissions that docs/operating.md lists"),
];

/// For how long what the store did is what it would do now.
const RECENT: Duration = Duration::from_secs(1);

/// Whether the store worked when it was last asked.
#[derive(Debug, Default)]
pub struct Trouble {
    away: AtomicBool,
    /// When it last failed, and how.
    last: Mutex<Option<(Instant, String)>>,
}

impl Trouble {
    /// Notes that the store did what it was asked.
    pub fn over(&self) {
        // Read first: this is on the path of each download.
        if self.away.load(Ordering::Relaxed) && self.away.swap(false, Ordering::Relaxed) {
            metrics::gauge!("updraft_object_store_working").set(1.0);
            tracing::info!("the object store works again");
        }
    }

    /// How the store failed a moment ago, if it did. Many may wait for the same chunk: when it could not be fetched, each
    /// of them in turn would try for as long as the first.
    pub fn recent(&self) -> Option<io::Error> {
        if !self.away.load(Ordering::Relaxed) {
            return None;
        }
        let last = self.last.lock();
        let (_, words) = last.as_ref().filter(|(at, _)| at.elapsed() < RECENT)?;
        Some(io::Error::other(Away(words.clone())))
    }

    /// What an error of the store means; notes and tells that it does not work, if that is so.
    pub fn of(&self, error: &object_store::Error) -> io::Error {
        let words = words(error);
        let missing =
            matches!(error, object_store::Error::NotFound { .. }) && !words.contains("NoSuchBucket");
        if missing {
            self.over();
            return io::Error::new(io::ErrorKind::NotFound, "the object store has no such object");
        }
        let words = explained(&words);
        *self.last.lock() = Some((Instant::now(), words.clone()));
        if !self.away.swap(true, Ordering::Relaxed) {
            metrics::gauge!("updraft_object_store_working").set(0.0);
            tracing::error!(
                error = words,
                "the object store does not work: uploads and downloads are refused until it does"
            );
        }
        io::Error::other(Away(words))
    }
}

/// An error and what caused it, in one line.
fn words(error: &object_store::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !words.contains(&text) {
            let _ = write!(words, ": {text}");
        }
        cause = inner.source();
    }
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn explained(words: &str) -> String {
    let advice = ADVICE.iter().find(|(code, _)| words.contains(code)).map(|(_, advice)| *advice);
    // An answer to HEAD has no code.
    let advice = advice.or_else(|| words.contains("403 Forbidden").then_some(ADVICE[7].1));
    advice.map_or_else(|| words.to_owned(), |advice| format!("{advice} ({words})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: text.into() }
    }

    #[test]
    fn an_error_says_what_to_do_and_whether_the_blob_or_the_store_is_to_blame() {
        let trouble = Trouble::default();
        for (code, advice) in ADVICE {
            let away = trouble.of(&error(&format!("403:\n <Code>{code}</Code>")));
            assert!(is_away(&away));
            let words = away.to_string();
            assert!(words.starts_with(advice) && !words.contains('\n'), "{words}");
        }
        let not_found =
            |text: &str| object_store::Error::NotFound { path: "p".to_owned(), source: text.into() };
        let missing = trouble.of(&not_found("<Code>NoSuchKey</Code>"));
        assert!(!is_away(&missing) && missing.kind() == io::ErrorKind::NotFound);
        assert!(!trouble.away.load(Ordering::Relaxed), "a store that says so works");
        assert!(is_away(&trouble.of(&not_found("<Code>NoSuchBucket</Code>"))));
        assert!(
            trouble.recent().is_some_and(|error| is_away(&error)),
            "who waited is not made to wait again"
        );
        trouble.over();
        assert!(trouble.recent().is_none());
        assert!(!is_away(&io::Error::other("the disk")));
    }
}
