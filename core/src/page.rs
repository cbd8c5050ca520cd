//! Pages: numbered from 1, of at most so many rows.

/// A page that a caller asked for; made only by [`Page::new`], so its values are in range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    number: i64,
    size: i64,
}

impl Page {
    /// Page `number` (from 1) of `size` (1 to `size_max`) rows; `None` if either is out of range.
    pub fn new(number: i64, size: i64, size_max: i64) -> Option<Self> {
        (number >= 1 && (1..=size_max).contains(&size) && number.checked_mul(size).is_some())
            .then_some(Self { number, size })
    }

    /// The page's number, from 1.
    pub fn number(self) -> i64 {
        self.number
    }

    /// Rows per page.
    pub fn size(self) -> i64 {
        self.size
    }

    /// How many rows lie before this page.
    pub fn skip(self) -> i64 {
        (self.number - 1) * self.size
    }

    /// Pages that `total` rows fill; none for no rows.
    pub fn count(self, total: i64) -> i64 {
        total.max(0).div_euclid(self.size) + i64::from(total.max(0) % self.size != 0)
    }

    /// The ordinals (from 1, both included) of this page of `total` gapless rows, oldest first.
    pub fn oldest_first(self, total: i64) -> (i64, i64) {
        (self.skip() + 1, (self.skip().saturating_add(self.size)).min(total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn out_of_range_pages_do_not_exist() {
        assert!(Page::new(0, 10, 200).is_none());
        assert!(Page::new(-1, 10, 200).is_none());
        assert!(Page::new(1, 0, 200).is_none());
        assert!(Page::new(1, 201, 200).is_none());
        assert!(Page::new(i64::MAX, 200, 200).is_none());
        let page = Page::new(3, 200, 200).unwrap();
        assert_eq!((page.number(), page.size(), page.skip()), (3, 200, 400));
    }

    #[test]
    fn nothing_has_no_pages() {
        assert_eq!(Page::new(1, 10, 200).unwrap().count(0), 0);
    }

    proptest! {
        #[test]
        fn pages_cover_each_row_once(total in 0_i64..500, size in 1_i64..60) {
            let mut forward = Vec::new();
            for number in 1..=Page::new(1, size, 60).unwrap().count(total) {
                let page = Page::new(number, size, 60).unwrap();
                let (low, high) = page.oldest_first(total);
                forward.extend(low..=high);
            }
            let all: Vec<i64> = (1..=total).collect();
            prop_assert_eq!(&forward, &all);
        }
    }
}
