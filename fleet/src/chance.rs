//! Numbers that look random and are a function of a seed.

/// The `index`-th number of the sequence that belongs to `seed` (SplitMix64).
pub(crate) fn draw(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number from 0 to `below - 1`; 0 if `below` is 0.
pub(crate) fn draw_below(seed: u64, index: u64, below: u64) -> u64 {
    draw(seed, index).checked_rem(below).unwrap_or(0)
}
