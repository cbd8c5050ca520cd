//! Stories of single rules, told by the server itself; `docs/rules.md` names them.
//! `UPDATE_GOLDEN=1 cargo test -p updraft-sim` writes their transcripts anew: read the difference.

mod told;

use told::{Told, compare, fails};
use updraft_core::time::{MINUTE_MS, SECOND_MS};
use updraft_fleet::Behaviour;
use updraft_sim::story::Story;

/// One test device of two fails: the package is decided with the last, and cannot be rolled out. Put back in line, the
/// device succeeds, and the package is decided anew.
#[test]
fn a_verification_fails_in_part_and_succeeds_with_another_try() {
    fn tell() -> Told {
        let mut story = Story::begin(true)?;
        story.device("lamp-1", fails("fails-flashing", 1))?;
        story.device("slow-2", Behaviour::Slow { download_ms: 30 * SECOND_MS })?;
        story.device("lamp-3", Behaviour::Good)?;
        story.pass(5 * SECOND_MS)?;
        let proof = story.verify(&["lamp-1", "slow-2"])?.expect("a batch");
        story.pass(20 * SECOND_MS)?;
        assert_eq!(story.verify(&["lamp-3"])?, None, "the other test device is not done yet");
        story.pass(MINUTE_MS)?;
        assert_eq!(story.batch(&[])?, None, "one of two is not enough");
        story.reupgrade(proof, &["lamp-1"])?;
        assert_eq!(story.batch(&[])?, None, "it is being verified again");
        story.pass(MINUTE_MS)?;
        story.batch(&[])?.expect("it is verified now");
        story.pass(MINUTE_MS)?;
        story.end()
    }
    compare("a_verification_fails_in_part", tell());
}

/// Of two devices that nobody pushes, the one that asks gets the package; the other, which only listens, never does.
#[test]
fn who_is_not_pushed_has_to_ask() {
    fn tell() -> Told {
        let mut story = Story::begin(false)?;
        story.device("asks-1", Behaviour::Puller { every_ms: 20 * SECOND_MS })?;
        story.device("listens-2", Behaviour::Good)?;
        story.pass(5 * SECOND_MS)?;
        let job = story.batch(&[("NeedPush", "false")])?.expect("a batch");
        story.pass(MINUTE_MS)?;
        story.power_off("listens-2", 10 * SECOND_MS);
        story.pass(MINUTE_MS)?;
        story.cancel(job, &["CancelQueuedTask"])?;
        story.pass(SECOND_MS)?;
        story.end()
    }
    compare("who_is_not_pushed_has_to_ask", tell());
}

/// A device is deleted in the middle of its download, then the package itself. Both tasks end at once, nobody is told
/// any more, and whoever finishes all the same does so on its own.
#[test]
fn deleted_under_way() {
    fn tell() -> Told {
        let mut story = Story::begin(false)?;
        for name in ["slow-1", "slow-2"] {
            story.device(name, Behaviour::Slow { download_ms: 30 * SECOND_MS })?;
        }
        story.device("barge-3", Behaviour::Good)?;
        story.pass(5 * SECOND_MS)?;
        story.send_away("barge-3", MINUTE_MS);
        story.pass(5 * SECOND_MS)?;
        story.batch(&[("RetryInterval", "0"), ("RetryCount", "2")])?;
        story.pass(10 * SECOND_MS)?;
        story.delete_device("slow-1")?;
        story.pass(10 * SECOND_MS)?;
        story.delete_package()?;
        story.pass(3 * MINUTE_MS)?;
        assert_eq!(story.batch(&[])?, None, "there is no such package");
        story.end()
    }
    compare("deleted_under_way", tell());
}

/// A standing rule follows the versions that devices report: one that comes back to the source version gets another
/// task, one that went elsewhere none. One that went elsewhere out of reach is told as it comes back, before it can say
/// so: what it reported last is what counts.
#[test]
fn a_rule_follows_versions() {
    fn tell() -> Told {
        let mut story = Story::begin(false)?;
        for name in ["back-1", "elsewhere-2", "left-3"] {
            story.device(name, Behaviour::Good)?;
        }
        story.pass(5 * SECOND_MS)?;
        story.send_away("left-3", 2 * MINUTE_MS);
        story.pass(5 * SECOND_MS)?;
        story.rule("1.0.0", &[])?;
        story.pass(MINUTE_MS)?;
        story.reflash("back-1", "1.0.0");
        story.reflash("elsewhere-2", "1.5.0");
        story.reflash("left-3", "1.5.0");
        story.pass(5 * MINUTE_MS)?;
        story.end()
    }
    compare("a_rule_follows_versions", tell());
}

/// Neither a time-out nor a cancellation is followed by another attempt, but a failure is.
#[test]
fn only_failures_are_repeated() {
    fn tell() -> Told {
        let mut story = Story::begin(false)?;
        story.device("slow-1", Behaviour::Slow { download_ms: 30 * MINUTE_MS })?;
        story.device("slow-2", Behaviour::Slow { download_ms: 30 * MINUTE_MS })?;
        story.device("fails-3", fails("fails-download", 1))?;
        story.pass(5 * SECOND_MS)?;
        let more = [("RetryInterval", "10"), ("RetryCount", "1"), ("TimeoutInMinutes", "15")];
        let job = story.batch(&more)?.expect("a batch");
        story.pass(MINUTE_MS)?;
        story.cancel_devices(job, &["slow-2"])?;
        story.pass(30 * MINUTE_MS)?;
        story.end()
    }
    compare("only_failures_are_repeated", tell());
}
