//! Whether a SQLite file and its write-ahead log can be what SQLite left behind: read byte by byte, without SQLite.
//!
//! SQLite forgives much. It takes an empty file for a new database and deletes the log beside it; it applies a log
//! of another database; it ends reading a log at the first bad frame and forgets what comes after, however much of
//! that was committed. Each of these would lose acknowledged work without a word, so it is looked for before SQLite
//! opens the file. What a crash leaves (a log that ends in the middle of a commit) is no damage.

use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const HEADER_BYTES: usize = 100;
const LOG_HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
/// The log's first four bytes; the last bit says how its sums read words.
const LOG_MAGIC: u32 = 0x377f_0682;
const LOG_VERSION: u32 = 3_007_000;

/// What is wrong with the files of the database at `path`, in words; `None`: nothing that can be seen from here.
///
/// # Errors
/// When a file cannot be read.
pub(crate) fn damage(path: &Path) -> io::Result<Option<String>> {
    let before = stamps(path);
    let found = look(path)?;
    // Somebody wrote meanwhile, so the parts that were read are of different moments.
    Ok(if stamps(path) == before { found } else { None })
}

/// The write-ahead log beside a database.
pub(crate) fn log_of(path: &Path) -> PathBuf {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    PathBuf::from(log)
}

/// A text that is another one whenever the database at `path` or its log may have changed.
pub(crate) fn stamp(path: &Path) -> String {
    let shown = stamps(path).map(|stamp| match stamp {
        // An empty log is as good as none.
        None | Some((0, _)) => "-".to_owned(),
        Some((bytes, changed)) => {
            let since = changed.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            format!("{bytes} bytes of {} ns", since.as_nanos())
        }
    });
    shown.join(", ")
}

fn stamps(path: &Path) -> [Option<(u64, std::time::SystemTime)>; 2] {
    let stamp = |meta: Metadata| Some((meta.len(), meta.modified().ok()?));
    [path.to_owned(), log_of(path)].map(|path| std::fs::metadata(path).ok().and_then(stamp))
}

fn look(path: &Path) -> io::Result<Option<String>> {
    let shown = path.display();
    let log_bytes = std::fs::metadata(log_of(path)).map_or(0, |meta| meta.len());
    let bytes = match std::fs::metadata(path) {
        Ok(meta) => meta.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    if bytes == 0 {
        return Ok(
            (log_bytes > 0).then(|| format!("{shown} is empty or missing, and its write-ahead log is not"))
        );
    }
    let mut header = [0; HEADER_BYTES];
    if File::open(path)?.read_exact(&mut header).is_err() {
        return Ok(Some(format!("{shown} is cut off: it has {bytes} bytes")));
    }
    if header[..MAGIC.len()] != *MAGIC {
        return Ok(Some(format!("{shown} is no SQLite database")));
    }
    let page = match be16(&header[16..]) {
        1 => 65_536,
        size if size >= 512 && size.is_power_of_two() => u64::from(size),
        size => return Ok(Some(format!("{shown} has a damaged header: pages of {size} bytes"))),
    };
    let log = match Log::read(&log_of(path), page)? {
        Ok(log) => log,
        Err(words) => return Ok(Some(words)),
    };
    // The header's own count is out of date if something wrote without it; the log's word goes before both.
    let counted = be32(&header[24..]) == be32(&header[92..]);
    let there = bytes / page;
    let pages = match (log.pages, counted) {
        (Some(pages), _) => u64::from(pages),
        (None, true) => u64::from(be32(&header[28..])),
        (None, false) => there,
    };
    let missing = (there + 1..=pages).any(|page| !log.holds.contains(&page));
    Ok(missing.then(|| format!("{shown} is cut off: {there} of {pages} pages are there")))
}

/// What a write-ahead log would do to its database.
#[derive(Debug, Default, PartialEq, Eq)]
struct Log {
    /// The pages that its commits hold.
    holds: BTreeSet<u64>,
    /// How many pages the database has after the last commit, if there is one.
    pages: Option<u32>,
}

impl Log {
    /// Reads a log; inside `Err`: what is wrong with it.
    fn read(path: &Path, page: u64) -> io::Result<Result<Self, String>> {
        let shown = path.display();
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ok(Self::default())),
            Err(error) => return Err(error),
        };
        let mut file = BufReader::with_capacity(1 << 20, file);
        let mut header = [0; LOG_HEADER_BYTES];
        // A crash may leave less than a header, or one whose bytes never came to the disk: nothing was committed.
        if !fill(&mut file, &mut header)? || header == [0; LOG_HEADER_BYTES] {
            return Ok(Ok(Self::default()));
        }
        let magic = be32(&header);
        let mut sum = Sum { big_endian: magic & 1 == 1, words: (0, 0) };
        sum.add(&header[..24]);
        if magic & !1 != LOG_MAGIC || be32(&header[4..]) != LOG_VERSION || !sum.is(&header[24..]) {
            return Ok(Err(format!("the header of the write-ahead log {shown} is damaged")));
        }
        if u64::from(be32(&header[8..])) != page {
            return Ok(Err(format!("the write-ahead log {shown} is of another database")));
        }
        Self::frames(&mut file, page, &header[16..24], sum)
            .map(|log| log.ok_or_else(|| format!("the write-ahead log {shown} is damaged in its middle")))
    }

    /// Reads the frames; `None`: one is bad, and behind it another commit was built upon. Commits are synced one by
    /// one, so a crash spoils nothing but the last; what a commit that failed left behind is built upon by nobody.
    fn frames(file: &mut impl Read, page: u64, salt: &[u8], mut sum: Sum) -> io::Result<Option<Self>> {
        let (mut log, mut open) = (Self::default(), Vec::new());
        let mut frame = vec![0; FRAME_HEADER_BYTES + usize::try_from(page).unwrap_or_default()];
        let (mut sound, mut commit_before) = (true, false);
        // What an earlier round of the log left has another salt.
        while fill(file, &mut frame)? && frame[8..16] == *salt {
            sum.add(&frame[..8]);
            sum.add(&frame[FRAME_HEADER_BYTES..]);
            let follows = sum.is(&frame[16..24]);
            if follows && !sound && commit_before {
                return Ok(None);
            }
            sound &= follows;
            sum.words = (be32(&frame[16..]), be32(&frame[20..]));
            let committed = be32(&frame[4..]);
            commit_before = committed != 0;
            if sound {
                open.push(u64::from(be32(&frame)));
                if commit_before {
                    log.holds.extend(open.drain(..));
                    log.pages = Some(committed);
                }
            }
        }
        Ok(Some(log))
    }
}

/// The running sum over a log.
#[derive(Clone, Copy)]
struct Sum {
    big_endian: bool,
    words: (u32, u32),
}

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        let (mut first, mut second) = self.words;
        for pair in bytes.chunks_exact(8) {
            first = first.wrapping_add(self.word(pair)).wrapping_add(second);
            second = second.wrapping_add(self.word(&pair[4..])).wrapping_add(first);
        }
        self.words = (first, second);
    }

    fn word(&self, bytes: &[u8]) -> u32 {
        if self.big_endian { be32(bytes) } else { be32(bytes).swap_bytes() }
    }

    /// Whether these eight bytes tell this sum.
    fn is(&self, told: &[u8]) -> bool {
        self.words == (be32(told), be32(&told[4..]))
    }
}

/// Fills the buffer; `false`: there was less.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn be16(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

fn be32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Lane, Location, Store};
    use std::fs;
    use updraft_core::time::Timestamp;

    /// A database as a killed server leaves it: the file and its log, some commits in each.
    fn killed(log_commits: usize) -> tempfile::TempDir {
        let (dir, left) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = dir.path().join("updraft.db");
        drop(Store::open(&Location::Sqlite(path.clone())).unwrap());
        let store = Store::open(&Location::Sqlite(path.clone())).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for number in 0..log_commits {
            let ensure = move |tx: &mut crate::Tx<'_>| tx.account_ensure(&format!("a{number}"), Timestamp(1));
            runtime.block_on(store.write(Lane::Interactive, ensure)).unwrap();
        }
        fs::copy(&path, left.path().join("updraft.db")).unwrap();
        if log_commits > 0 {
            fs::copy(log_of(&path), left.path().join("updraft.db-wal")).unwrap();
        }
        left
    }

    fn found(dir: &tempfile::TempDir) -> Option<String> {
        damage(&dir.path().join("updraft.db")).unwrap()
    }

    #[test]
    fn what_a_kill_leaves_is_sound_wherever_the_log_ends() {
        let dir = killed(5);
        assert_eq!(found(&dir), None);
        let log = dir.path().join("updraft.db-wal");
        let whole = fs::read(&log).unwrap();
        for end in (0..whole.len()).step_by(997) {
            fs::write(&log, &whole[..end]).unwrap();
            assert_eq!(found(&dir), None, "cut at {end}");
        }
        // What a commit that failed left behind the last one follows upon nothing that is there.
        let frame = FRAME_HEADER_BYTES + 4096;
        let mut left = whole.clone();
        left.extend_from_slice(&whole[whole.len() - frame..]);
        fs::write(&log, &left).unwrap();
        assert_eq!(found(&dir), None);
        // The last commit half written: its first frame never came to the disk.
        let mut torn = whole.clone();
        torn[whole.len() - frame + 50..].fill(0);
        fs::write(&log, &torn).unwrap();
        assert_eq!(found(&dir), None);
        assert_eq!(found(&killed(0)), None);
    }

    #[test]
    fn a_start_after_a_kill_waits_for_no_copy_of_the_log() {
        let dir = killed(5);
        let path = dir.path().join("updraft.db");
        let (file, log) = (fs::read(&path).unwrap(), fs::read(log_of(&path)).unwrap());
        let store = Store::open(&Location::Sqlite(path.clone())).unwrap();
        assert!(fs::read(&path).unwrap() == file, "the file has changed");
        assert!(fs::read(log_of(&path)).unwrap() == log, "the log has changed");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let found = runtime.block_on(store.read(|tx| tx.account_find("a4"))).unwrap();
        assert!(found.is_some(), "what the log alone has is there");
        store.close();
        assert!(!log_of(&path).exists(), "a clean stop leaves no log");
    }

    #[test]
    fn a_log_damaged_before_its_last_commit_is_found() {
        let dir = killed(5);
        let log = dir.path().join("updraft.db-wal");
        let whole = fs::read(&log).unwrap();
        for at in [LOG_HEADER_BYTES + 30, LOG_HEADER_BYTES + FRAME_HEADER_BYTES + 4095] {
            let mut bad = whole.clone();
            bad[at] ^= 1;
            fs::write(&log, &bad).unwrap();
            assert!(found(&dir).is_some_and(|words| words.ends_with("damaged in its middle")), "{at}");
        }
        for at in [0, 9, 17, 25] {
            let mut bad = whole.clone();
            bad[at] ^= 1;
            fs::write(&log, &bad).unwrap();
            assert!(found(&dir).is_some(), "{at}");
        }
    }

    #[test]
    fn a_file_that_is_cut_off_or_none_of_sqlites_is_found() {
        for commits in [0, 3] {
            let dir = killed(commits);
            let path = dir.path().join("updraft.db");
            let whole = fs::read(&path).unwrap();
            for end in [1, 99, 100, 4095, 4096, 5000, whole.len() / 2, whole.len() - 1] {
                fs::write(&path, &whole[..end]).unwrap();
                assert!(found(&dir).is_some(), "{end} bytes, {commits} commits in the log");
            }
            fs::write(&path, b"").unwrap();
            assert_eq!(found(&dir).is_some(), commits > 0, "an empty file without a log is a new one");
            fs::remove_file(&path).unwrap();
            assert_eq!(found(&dir).is_some(), commits > 0);
            fs::write(&path, vec![b'x'; 8192]).unwrap();
            assert!(found(&dir).is_some_and(|words| words.ends_with("is no SQLite database")));
            let mut bad = whole.clone();
            bad[16] = 0x55;
            fs::write(&path, &bad).unwrap();
            assert!(found(&dir).is_some_and(|words| words.contains("damaged header")));
        }
    }
}
