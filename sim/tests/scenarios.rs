//! Stories that people talk about, told by the server itself and compared with committed transcripts.
//! `UPDATE_GOLDEN=1 cargo test -p updraft-sim` writes them anew: read the difference.

use std::path::Path;
use updraft_core::time::{HOUR_MS, MINUTE_MS, SECOND_MS};
use updraft_fleet::Behaviour;
use updraft_sim::Violation;
use updraft_sim::story::Story;

type Told = Result<String, Violation>;

fn compare(name: &str, told: Told) {
    let told = told.unwrap_or_else(|violation| panic!("{name}: {violation}"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stories").join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
        std::fs::write(&path, &told).expect("the transcript can be written");
        return;
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = told.lines().zip(golden.lines()).position(|(told, golden)| told != golden);
    assert!(
        told == golden,
        "{name} differs from {} at line {}; UPDATE_GOLDEN=1 writes it anew. Told now:\n{told}",
        path.display(),
        differs.unwrap_or_else(|| told.lines().count().min(golden.lines().count())) + 1
    );
}

/// A package proves itself on one device, then the others get it.
#[test]
fn canary_then_batch() {
    fn tell() -> Told {
        let mut story = Story::begin(true)?;
        for name in ["lamp-1", "lamp-2", "lamp-3"] {
            story.device(name, Behaviour::Good)?;
        }
        story.pass(5 * SECOND_MS)?;
        assert_eq!(story.batch(&[])?, None, "an unverified package must be refused");
        story.verify(&["lamp-1"])?;
        story.pass(MINUTE_MS)?;
        story.batch(&[("MaximumPerMinute", "10")])?;
        story.pass(2 * MINUTE_MS)?;
        story.end()
    }
    compare("canary_then_batch", tell());
}

/// Who already downloads when the operator cancels finishes on its own, and its task stays cancelled.
#[test]
fn cancel_while_downloading() {
    fn tell() -> Told {
        let mut story = Story::begin(false)?;
        story.device("slow-1", Behaviour::Slow { download_ms: 40 * SECOND_MS })?;
        story.device("lamp-2", Behaviour::Silent)?;
        story.pass(5 * SECOND_MS)?;
        let job = story.batch(&[("MaximumPerMinute", "10")])?.expect("a batch");
        story.pass(15 * SECOND_MS)?;
        story.cancel(job, &["CancelInProgressTask"])?;
        story.pass(2 * MINUTE_MS)?;
        story.cancel(job, &["CancelNotifiedTask"])?;
        story.pass(SECOND_MS)?;
        story.end()
    }
    compare("cancel_while_downloading", tell());
}

/// A device comes back with a version that nobody ordered: its task fails.
#[test]
fn wrong_version() {
    fn tell() -> Told {
        let mut story = Story::begin(false)?;
        story.device("lamp-1", Behaviour::WrongVersion { version: "0.0.1-rescue".to_owned() })?;
        story.device("lamp-2", Behaviour::RevertsToOld)?;
        story.pass(5 * SECOND_MS)?;
        story.batch(&[])?;
        story.pass(MINUTE_MS)?;
        story.end()
    }
    compare("wrong_version", tell());
}

/// One device is away before the batch begins, another one loses its power in the middle of a download; both
/// come back after a week, when the old address is long expired.
#[test]
fn away_for_a_week() {
    const WEEK_MS: i64 = 7 * 24 * HOUR_MS;
    fn tell() -> Told {
        let mut story = Story::begin(false)?;
        story.device("lamp-1", Behaviour::Good)?;
        story.device("barge-2", Behaviour::Good)?;
        story.device("raft-3", Behaviour::Slow { download_ms: MINUTE_MS })?;
        story.pass(5 * SECOND_MS)?;
        story.send_away("barge-2", WEEK_MS);
        story.pass(5 * SECOND_MS)?;
        story.batch(&[])?;
        story.pass(30 * SECOND_MS)?;
        story.power_off("raft-3", WEEK_MS);
        story.pass(WEEK_MS + 5 * MINUTE_MS)?;
        story.end()
    }
    compare("away_for_a_week", tell());
}

/// A download that takes longer than the batch allows.
#[test]
fn timeout() {
    fn tell() -> Told {
        let mut story = Story::begin(false)?;
        story.device("slow-1", Behaviour::Slow { download_ms: 5 * MINUTE_MS })?;
        story.pass(5 * SECOND_MS)?;
        story.batch(&[("TimeoutInMinutes", "2")])?;
        story.pass(7 * MINUTE_MS)?;
        story.end()
    }
    compare("timeout", tell());
}

/// The server dies after it decided to push and before it did: the device gets its push when it is back.
#[test]
fn death_between_commit_and_push() {
    fn tell() -> Told {
        let mut story = Story::begin(false)?;
        story.device("lamp-1", Behaviour::Good)?;
        story.pass(5 * SECOND_MS)?;
        story.die_before_effects();
        story.batch(&[])?;
        story.pass(MINUTE_MS)?;
        story.end()
    }
    compare("death_between_commit_and_push", tell());
}
