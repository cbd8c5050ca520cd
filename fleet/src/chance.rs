//! Numbers that look random and are a function of a seed.

/// The `index`-th number of the sequence that belongs to `seed` (SplitMix64).
pub(crate) fn draw(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number from 0 to 99 that belongs to a device's seed and to `event`, and to nothing else that the device draws.
pub fn draw_percent(seed: u64, event: u64) -> u64 {
    draw_below(seed ^ 0x5707_3a11_0c07_a5ed, event, 100)
}

/// A span with this mean, as between events that know nothing of each other; at most ten times the mean.
pub(crate) fn draw_span(seed: u64, index: u64, mean: i64) -> i64 {
    // 53 bits, so that the share is exact and below 1.
    let share = (draw(seed, index) >> 11) as f64 / (1_u64 << 53) as f64;
    let spans = -(1.0 - share).ln();
    (mean as f64 * spans.min(10.0)) as i64
}

/// A number from 0 to `below - 1`; 0 if `below` is 0.
pub(crate) fn draw_below(seed: u64, index: u64, below: u64) -> u64 {
    draw(seed, index).checked_rem(below).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_their_mean_and_are_bounded() {
        let spans: Vec<i64> = (0..20_000).map(|index| draw_span(7, index, 1_000)).collect();
        let mean = spans.iter().sum::<i64>() / spans.len() as i64;
        assert!((950..1_050).contains(&mean), "{mean}");
        assert!(spans.iter().all(|span| (0..=10_000).contains(span)));
        let short = spans.iter().filter(|span| **span < 100).count();
        assert!((1_700..2_100).contains(&short), "about a tenth is below a tenth of the mean: {short}");
    }
}
