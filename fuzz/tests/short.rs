//! A few seconds of each target in every test run; hours of them by `cargo xtask fuzz`.

use parking_lot::Mutex;
use std::time::Duration;
use updraft_fuzz::run::{Options, Report, run};
use updraft_fuzz::target;

/// Panics and memory are counted for the whole process, so targets take turns.
static TURN: Mutex<()> = Mutex::new(());
const TIME: Duration = Duration::from_secs(7);

fn holds(name: &str, classes: usize) -> Report {
    let _turn = TURN.lock();
    let mut target = target::open(name).unwrap().expect("the target exists");
    let report = run(target.as_mut(), Options { time: TIME, seed: 1 }, |_| {});
    if let Some(failure) = &report.failure {
        panic!(
            "{name}: {failure}\n  again: cargo xtask fuzz {name} --replay {}",
            hex::encode(&failure.input)
        );
    }
    // A target that reaches nothing would hold for ever.
    assert!(report.classes.len() >= classes, "{name} reached only {:?}", report.classes);
    report
}

#[test]
fn mqtt_frames() {
    holds("mqtt", 10);
}

#[test]
fn uplink_payloads() {
    holds("uplink", 8);
}

#[test]
fn raw_http() {
    holds("http", 8);
}

#[test]
fn signed_calls() {
    holds("api", 60);
}

#[test]
fn uploads() {
    holds("upload", 6);
}
