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

/// 2: many devices; 18: takes its time; 21: in pieces all the time; 108: a device that is never switched on.
#[test]
fn remembered_seeds_hold() {
    holds([2, 18, 21, 108]);
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
