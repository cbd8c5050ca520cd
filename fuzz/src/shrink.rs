//! Makes a failing input small: cuts pieces out as long as it still fails.

/// The smallest input found that still `fails`, with at most `tries` attempts.
pub fn shrink(input: &[u8], mut tries: usize, mut fails: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
    let mut best = input.to_vec();
    let mut piece = best.len().div_ceil(2);
    while piece > 0 && tries > 0 {
        let mut at = 0;
        let mut shorter = false;
        while at < best.len() && tries > 0 {
            let mut without = best.clone();
            without.drain(at..(at + piece).min(best.len()));
            tries -= 1;
            if fails(&without) {
                best = without;
                shorter = true;
            } else {
                at += piece;
            }
        }
        if !shorter || piece > best.len() {
            piece = if piece == 1 { 0 } else { piece.div_ceil(2) };
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_cut_down_to_its_reason() {
        let input = b"a long text with a bad !! in it, and more behind it".to_vec();
        let small = shrink(&input, 1_000, |bytes| bytes.windows(2).any(|two| two == b"!!"));
        assert_eq!(small, b"!!");
        assert_eq!(shrink(&input, 0, |_| true), input, "no attempts, no change");
    }
}
