//! Worlds that must hold: a handful that once were interesting, and a range. More at night:
//! `cargo xtask sim --seeds A..B`.

use updraft_sim::{STEPS_DEFAULT, run};

fn holds(seeds: impl IntoIterator<Item = u64>) {
    for seed in seeds {
        if let Err(failure) = run(seed, STEPS_DEFAULT) {
            panic!("{failure}");
        }
    }
}

/// Each found what was broken on purpose. 2: devices pushed faster than the batch allows; 13: a push written
/// Found before: 2: devices pushed faster than the batch allows; 13: a push written after its task's cancellation;
/// 18: a push while a cancellation is under way; 70222: that the simulation itself looked at the first page only of
/// a batch with more than a hundred tasks. What is drawn has grown since, so that they are other worlds now.
#[test]
fn remembered_seeds_hold() {
    holds([2, 3, 13, 18, 21, 70_222]);
}

#[test]
fn a_range_of_seeds_holds() {
    holds(1_000..1_006);
}

#[test]
fn another_range_of_seeds_holds() {
    holds(2_000..2_006);
}

#[test]
fn a_seed_replays_to_the_last_line() {
    let once = run(7, 2_000).expect("seed 7 holds");
    let again = run(7, 2_000).expect("seed 7 holds");
    assert_eq!(once, again);
    let other = run(8, 2_000).expect("seed 8 holds");
    assert_ne!(once.hash, other.hash);
}
