//! Stories that people talk about, told by the server itself and compared with committed transcripts.
//! `UPDATE_GOLDEN=1 cargo test -p updraft-sim` writes them anew: read the difference.

mod told;

use told::{Told, compare, fails};
use updraft_core::time::{HOUR_MS, MINUTE_MS, SECOND_MS};
use updraft_fleet::Behaviour;
use updraft_sim::story::Story;

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

/// A batch waits for its hour; a device that comes on line before is told at that hour, not before. At the finish
/// time who has not begun is called off, and who has begun finishes.
#[test]
fn planned_for_the_night() {
    fn tell() -> Told {
        let mut story = Story::begin(false)?;
        story.device("lamp-1", Behaviour::Good)?;
        story.device("slow-2", Behaviour::Slow { download_ms: 75 * MINUTE_MS })?;
        story.device("barge-3", Behaviour::Good)?;
        story.pass(5 * SECOND_MS)?;
        story.send_away("barge-3", 5 * HOUR_MS);
        story.pass(5 * SECOND_MS)?;
        let (start, finish) = (story.in_ms(6 * MINUTE_MS), story.in_ms(70 * MINUTE_MS));
        story.batch(&[("ScheduleTime", &start), ("ScheduleFinishTime", &finish)])?;
        story.pass(4 * MINUTE_MS)?;
        story.power_off("lamp-1", 10 * SECOND_MS);
        story.pass(2 * HOUR_MS)?;
        story.end()
    }
    compare("planned_for_the_night", tell());
}

/// Nobody is told before the users agreed; one of them never does.
#[test]
fn users_are_asked_first() {
    fn tell() -> Told {
        let mut story = Story::begin(false)?;
        for name in ["oven-1", "oven-2"] {
            story.device(name, Behaviour::Puller { every_ms: 40 * SECOND_MS })?;
        }
        story.pass(5 * SECOND_MS)?;
        let job = story.batch(&[("NeedConfirm", "true")])?.expect("a batch");
        story.pass(MINUTE_MS)?;
        story.confirm(job, &["oven-1"])?;
        story.pass(2 * MINUTE_MS)?;
        story.cancel(job, &["CancelQueuedTask"])?;
        story.pass(SECOND_MS)?;
        story.end()
    }
    compare("users_are_asked_first", tell());
}

/// Failed attempts are repeated after ten minutes. One device forgets with its power that it failed, fails again,
/// and succeeds the last time; others fail as often as they may.
#[test]
fn failures_are_repeated() {
    fn tell() -> Told {
        let mut story = Story::begin(false)?;
        story.device("twice-1", fails("fails-flashing", 1))?;
        story.device("ever-2", fails("fails-flashing", u32::MAX))?;
        story.device("lost-3", Behaviour::WrongVersion { version: "0.0.1-rescue".to_owned() })?;
        story.pass(5 * SECOND_MS)?;
        story.batch(&[("RetryInterval", "10"), ("RetryCount", "2")])?;
        story.pass(3 * MINUTE_MS)?;
        story.power_off("twice-1", MINUTE_MS);
        story.pass(40 * MINUTE_MS)?;
        story.end()
    }
    compare("failures_are_repeated", tell());
}

/// A share first; what failed there is put back in line, and the batch that had ended runs again.
#[test]
fn a_share_and_another_try() {
    fn tell() -> Told {
        let mut story = Story::begin(false)?;
        let names: Vec<String> = (1..=9).map(|number| format!("lamp-{number}")).collect();
        for name in &names {
            story.device(name, fails("fails-download", 1))?;
        }
        story.pass(5 * SECOND_MS)?;
        let job = story.gray("33.334", &[("SrcVersion.1", "1.0.0")])?.expect("a batch");
        story.pass(MINUTE_MS)?;
        story.reupgrade(job, &names.iter().map(String::as_str).collect::<Vec<_>>())?;
        story.pass(MINUTE_MS)?;
        story.end()
    }
    compare("a_share_and_another_try", tell());
}

/// A newer batch takes over whom it may: a device that has begun keeps its task, and the newer batch's fails.
#[test]
fn a_newer_batch_takes_over() {
    fn tell() -> Told {
        let mut story = Story::begin(false)?;
        story.device("slow-1", Behaviour::Slow { download_ms: 90 * SECOND_MS })?;
        story.device("barge-2", Behaviour::Good)?;
        story.device("lamp-3", Behaviour::Silent)?;
        story.pass(5 * SECOND_MS)?;
        story.send_away("barge-2", 2 * MINUTE_MS);
        story.pass(5 * SECOND_MS)?;
        story.batch(&[("MaximumPerMinute", "10")])?;
        story.pass(30 * SECOND_MS)?;
        story.batch(&[("OverwriteMode", "2")])?;
        story.pass(5 * MINUTE_MS)?;
        story.end()
    }
    compare("a_newer_batch_takes_over", tell());
}

/// A standing rule takes in whoever comes to fit; after its end who was told goes on, and nobody else is told.
#[test]
fn a_rule_takes_in_whoever_comes() {
    fn tell() -> Told {
        let mut story = Story::begin(false)?;
        story.device("lamp-1", Behaviour::Good)?;
        story.device("reverts-2", Behaviour::RevertsToOld)?;
        story.pass(5 * SECOND_MS)?;
        let rule = story.rule("1.0.0", &[])?.expect("a batch");
        story.pass(MINUTE_MS)?;
        story.device("late-3", Behaviour::Slow { download_ms: 30 * SECOND_MS })?;
        story.pass(10 * SECOND_MS)?;
        story.end_rule(rule)?;
        story.device("too-late-4", Behaviour::Good)?;
        story.pass(2 * MINUTE_MS)?;
        story.end()
    }
    compare("a_rule_takes_in_whoever_comes", tell());
}

/// A batch that is too slow is made faster, and one that is too fast slower: the slots are given anew.
#[test]
fn another_rate_holds_at_once() {
    fn tell() -> Told {
        let mut story = Story::begin(false)?;
        for number in 1..=8 {
            story.device(&format!("lamp-{number}"), Behaviour::Good)?;
        }
        story.pass(5 * SECOND_MS)?;
        let job = story.batch(&[("MaximumPerMinute", "10")])?.expect("a batch");
        story.pass(10 * SECOND_MS)?;
        story.change_rate(job, "60")?;
        story.pass(3 * SECOND_MS)?;
        story.change_rate(job, "10")?;
        story.pass(MINUTE_MS)?;
        story.end()
    }
    compare("another_rate_holds_at_once", tell());
}

/// Batches that say so go on beside one another, a module each; the device is told of one at a time.
#[test]
fn modules_side_by_side() {
    fn tell() -> Told {
        let mut story = Story::begin(false)?;
        story.part()?;
        story
            .device_with("lamp-1", |config| config.versions.push(("radio".to_owned(), "5.0.0".to_owned())))?;
        story.pass(5 * SECOND_MS)?;
        story.batch(&[])?;
        story.part_batch(&[("MultiModuleMode", "true")])?;
        story.part_batch(&[])?;
        story.pass(5 * MINUTE_MS)?;
        story.end()
    }
    compare("modules_side_by_side", tell());
}

/// A batch for a group has the devices that are in it now.
#[test]
fn a_group_as_it_stands() {
    fn tell() -> Told {
        let mut story = Story::begin(false)?;
        for name in ["north-1", "north-2", "south-3"] {
            story.device(name, Behaviour::Good)?;
        }
        story.pass(5 * SECOND_MS)?;
        let north = story.group(&["north-1", "north-2"])?;
        story.group_batch(north)?;
        story.regroup(north, &["south-3"], true)?;
        story.regroup(north, &["north-2"], false)?;
        story.pass(3 * MINUTE_MS)?;
        story.end()
    }
    compare("a_group_as_it_stands", tell());
}

/// The server's clock is set back by three hours while a batch waits for its slots: it goes on at its rate.
#[test]
fn the_clock_is_set_back() {
    fn tell() -> Told {
        let mut story = Story::begin(false)?;
        for number in 1..=6 {
            story.device(&format!("lamp-{number}"), Behaviour::Good)?;
        }
        story.pass(5 * SECOND_MS)?;
        story.batch(&[("MaximumPerMinute", "10")])?;
        story.pass(8 * SECOND_MS)?;
        story.set_clock(-3 * HOUR_MS);
        story.pass(2 * MINUTE_MS)?;
        story.end()
    }
    compare("the_clock_is_set_back", tell());
}

/// The server's disk fails while a batch runs: operators and devices are refused, nothing is half done, and who left
/// meanwhile is found off line.
#[test]
fn the_disk_fails() {
    fn tell() -> Told {
        let mut story = Story::begin(false)?;
        story.device("lamp-1", Behaviour::Good)?;
        story.device("slow-2", Behaviour::Slow { download_ms: 40 * SECOND_MS })?;
        story.device("barge-3", Behaviour::Silent)?;
        story.pass(5 * SECOND_MS)?;
        story.refuse_commit();
        assert_eq!(story.batch(&[])?, None, "the batch must be refused");
        story.batch(&[])?;
        story.pass(3 * SECOND_MS)?;
        story.break_disk(20 * SECOND_MS);
        story.send_away("barge-3", HOUR_MS);
        story.pass(3 * MINUTE_MS)?;
        story.end()
    }
    compare("the_disk_fails", tell());
}

/// Two devices lose their power while they write: one boots the old image and is told again, the other the new one,
/// whose version ends its task. A third runs the new version for twenty minutes, then its old one again: its task has
/// succeeded and stays so, and a standing rule takes it in once more.
#[test]
fn flashing_goes_wrong() {
    fn tell() -> Told {
        let mut story = Story::begin(false)?;
        story.device("old-1", Behaviour::LosesPower { new_image: false })?;
        story.device("new-2", Behaviour::LosesPower { new_image: true })?;
        story.device("back-3", Behaviour::RollsBack { after_ms: 20 * MINUTE_MS })?;
        story.pass(5 * SECOND_MS)?;
        story.rule("1.0.0", &[])?;
        story.pass(HOUR_MS)?;
        story.end()
    }
    compare("flashing_goes_wrong", tell());
}

/// Two devices have one identity and take each other's connection away. The server knows one device, whose version is
/// what was told last.
#[test]
fn two_with_one_identity() {
    fn tell() -> Told {
        let mut story = Story::begin(false)?;
        story.device("lamp-1", Behaviour::Slow { download_ms: 100 * SECOND_MS })?;
        story.twin("lamp-1", Behaviour::Good);
        story.pass(5 * SECOND_MS)?;
        story.batch(&[])?;
        story.pass(15 * MINUTE_MS)?;
        story.end()
    }
    compare("two_with_one_identity", tell());
}

/// Devices behind a gateway are updated through its connection. One is taken from behind it in the middle, and comes
/// back; then the gateway's connection breaks, and all of them with it.
#[test]
fn behind_a_gateway() {
    fn tell() -> Told {
        let mut story = Story::begin(false)?;
        story.device("lamp-1", Behaviour::Good)?;
        story.device("slow-2", Behaviour::Slow { download_ms: 40 * SECOND_MS })?;
        story.device("slow-3", Behaviour::Slow { download_ms: 40 * SECOND_MS })?;
        story.gateway("hub-1", &["slow-2", "slow-3"])?;
        story.pass(20 * SECOND_MS)?;
        story.batch(&[])?;
        story.pass(15 * SECOND_MS)?;
        story.take_from_gateway("slow-2")?;
        story.pass(15 * SECOND_MS)?;
        story.cut("hub-1");
        story.pass(2 * MINUTE_MS)?;
        story.end()
    }
    compare("behind_a_gateway", tell());
}
