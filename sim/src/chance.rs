//! Chance: every draw of the world, from one seed, with a child per purpose.

/// A generator (SplitMix64). Children of one seed do not disturb one another, so that one more draw in one
/// place does not change what another place draws.
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    /// The child of a seed for a purpose.
    pub(crate) fn new(seed: u64, purpose: &str) -> Self {
        let mut chance = Self(seed ^ Self::key(purpose));
        chance.next();
        chance
    }

    /// A number for a name: FNV-1a keeps names apart.
    pub(crate) fn key(name: &str) -> u64 {
        name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }

    /// A generator of its own, from the next number.
    pub(crate) fn child(&mut self) -> Self {
        Self(self.next())
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `below - 1`; 0 if `below` is 0.
    pub(crate) fn below(&mut self, below: usize) -> usize {
        self.next().checked_rem(below as u64).unwrap_or(0) as usize
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn range(&mut self, low: i64, high: i64) -> i64 {
        low + self.below((high - low + 1).max(1) as usize) as i64
    }

    /// True in `percent` of all draws.
    pub(crate) fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of these; they must not be empty.
    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    /// Different numbers from 0 to `below - 1`, at most `count`, in order.
    pub(crate) fn some(&mut self, count: usize, below: usize) -> Vec<usize> {
        let mut left: Vec<usize> = (0..below).collect();
        while left.len() > count {
            let at = self.below(left.len());
            left.remove(at);
        }
        left
    }

    /// 32 bytes, to seed other generators.
    pub(crate) fn bytes(&mut self) -> [u8; 32] {
        let mut out = [0; 32];
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes());
        }
        out
    }
}
