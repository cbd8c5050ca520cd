//! What a device does with an update, and how behaviours are dealt out to a fleet.

use std::fmt;
use std::str::FromStr;

use updraft_core::task::FailedStep;
use updraft_core::time::{MINUTE_MS, SECOND_MS};

use crate::chance::draw_below;

/// What a device does with an update. Durations are in milliseconds of the device's time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Behaviour {
    /// Everything works.
    #[default]
    Good,
    /// Reports a failure.
    Fails {
        /// What fails.
        step: FailedStep,
        /// What the device says about it.
        desc: String,
        /// How many updates fail before one works.
        times: u32,
    },
    /// Works, but the download takes this long.
    Slow {
        /// Duration of the download.
        download_ms: i64,
    },
    /// Works, but connects late for the first time.
    Late {
        /// Time until the first connection.
        delay_ms: i64,
    },
    /// Reports neither the old nor the new version after the reboot.
    WrongVersion {
        /// What it reports.
        version: String,
    },
    /// Boots into the old image after the first update; the next one works.
    RevertsToOld,
    /// Boots into the old image after each update.
    StaysOld,
    /// Gets the push and never answers.
    Silent,
    /// Never uses a push, but asks for packages.
    Puller {
        /// Time between two questions.
        every_ms: i64,
    },
    /// Loses its connection and the download once in each update, and comes back.
    Flaky,
    /// Loses its power in the middle of its first flashing: it knows of no update then, and runs what it boots.
    LosesPower {
        /// Whether the new image was whole already.
        new_image: bool,
    },
    /// Runs the first new version for this long, then its old one again.
    RollsBack {
        /// Time until it boots the old image.
        after_ms: i64,
    },
    /// Forgets with every other connection which update it is at, though not how far it was, and tells no version;
    /// it asks each time.
    Forgetful,
}

impl Behaviour {
    /// The names that [`Mix`] reads, with usual parameters.
    pub const NAMES: [&'static str; 16] = [
        "good",
        "fails-upgrade",
        "fails-download",
        "fails-verification",
        "fails-flashing",
        "slow",
        "late",
        "wrong-version",
        "reverts",
        "stays-old",
        "silent",
        "puller",
        "flaky",
        "loses-power",
        "rolls-back",
        "forgetful",
    ];

    /// The behaviour of this name, with usual parameters.
    pub fn from_name(name: &str) -> Option<Self> {
        let fails = |step, desc: &str| Self::Fails { step, desc: desc.to_owned(), times: u32::MAX };
        Some(match name {
            "good" => Self::Good,
            "fails-upgrade" => fails(FailedStep::Upgrade, "battery too low"),
            "fails-download" => fails(FailedStep::Download, "network unreachable"),
            "fails-verification" => fails(FailedStep::Verification, "digest mismatch"),
            "fails-flashing" => fails(FailedStep::Flashing, "bad block"),
            "slow" => Self::Slow { download_ms: 30 * SECOND_MS },
            "late" => Self::Late { delay_ms: 30 * SECOND_MS },
            "wrong-version" => Self::WrongVersion { version: "0.0.1-rescue".to_owned() },
            "reverts" => Self::RevertsToOld,
            "stays-old" => Self::StaysOld,
            "silent" => Self::Silent,
            "puller" => Self::Puller { every_ms: MINUTE_MS },
            "flaky" => Self::Flaky,
            "loses-power" => Self::LosesPower { new_image: false },
            "rolls-back" => Self::RollsBack { after_ms: 30 * MINUTE_MS },
            "forgetful" => Self::Forgetful,
            _ => return None,
        })
    }

    /// Whether a device of this behaviour ends on the new version by itself.
    pub fn succeeds(&self) -> bool {
        !matches!(
            self,
            Self::Fails { .. }
                | Self::WrongVersion { .. }
                | Self::StaysOld
                | Self::Silent
                | Self::RollsBack { .. }
        )
    }

    /// Whether an update of a device of this behaviour comes to an end; `timed`: with a time limit, which begins with
    /// the first report (`TimeoutInMinutes`).
    pub fn ends(&self, timed: bool) -> bool {
        match self {
            Self::Silent => false,
            Self::StaysOld => timed,
            _ => true,
        }
    }
}

/// Shares of behaviours in a fleet; what is left over is [`Behaviour::Good`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mix {
    shares: Vec<(Behaviour, u8)>,
}

/// Why a text is not a [`Mix`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadMix(String);

impl fmt::Display for BadMix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadMix {}

impl Mix {
    /// The mix of these shares in percent, together at most 100.
    pub fn new(shares: Vec<(Behaviour, u8)>) -> Result<Self, BadMix> {
        let sum: u32 = shares.iter().map(|(_, percent)| u32::from(*percent)).sum();
        if sum > 100 {
            return Err(BadMix(format!("the shares add up to {sum} percent")));
        }
        Ok(Self { shares })
    }

    /// One behaviour for each of `n` devices: exact shares, in an order that depends on the seed alone.
    pub fn assign(&self, seed: u64, n: usize) -> Vec<Behaviour> {
        let mut all = Vec::with_capacity(n);
        for (behaviour, percent) in &self.shares {
            // Rounded to the nearest device, so that 10 % of 4 devices is none and of 5 is one.
            let count = (n * usize::from(*percent) + 50) / 100;
            all.extend(std::iter::repeat_n(behaviour.clone(), count.min(n - all.len())));
        }
        all.resize(n, Behaviour::Good);
        for last in (1..n).rev() {
            all.swap(last, draw_below(seed, last as u64, last as u64 + 1) as usize);
        }
        all
    }
}

impl FromStr for Mix {
    type Err = BadMix;

    /// Reads `slow=5,flaky=2`: names of [`Behaviour::NAMES`] with percentages.
    fn from_str(text: &str) -> Result<Self, BadMix> {
        let mut shares = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, percent) =
                part.split_once('=').ok_or_else(|| BadMix(format!("`{part}` is not `name=percent`")))?;
            let behaviour = Behaviour::from_name(name.trim()).ok_or_else(|| {
                BadMix(format!("no behaviour `{name}`; there are {}", Behaviour::NAMES.join(", ")))
            })?;
            let percent = percent.trim().trim_end_matches('%');
            let percent = percent
                .parse()
                .map_err(|_| BadMix(format!("`{percent}` is not a percentage from 0 to 100")))?;
            shares.push((behaviour, percent));
        }
        Self::new(shares)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_behaviour() {
        for name in Behaviour::NAMES {
            assert!(Behaviour::from_name(name).is_some(), "{name}");
        }
        assert_eq!(Behaviour::from_name("nonsense"), None);
    }

    #[test]
    fn a_time_limit_ends_what_a_report_has_begun() {
        let ends = |behaviour: Behaviour| [false, true].map(|timed| behaviour.ends(timed));
        assert_eq!(ends(Behaviour::Silent), [false, false]);
        assert_eq!(ends(Behaviour::StaysOld), [false, true]);
        assert_eq!(ends(Behaviour::Good), [true, true]);
    }

    #[test]
    fn shares_are_exact_and_repeatable() {
        let mix: Mix = "slow=10, flaky=5%,silent=1".parse().unwrap();
        let dealt = mix.assign(7, 200);
        let count = |wanted: &Behaviour| dealt.iter().filter(|b| *b == wanted).count();
        assert_eq!(count(&Behaviour::from_name("slow").unwrap()), 20);
        assert_eq!(count(&Behaviour::Flaky), 10);
        assert_eq!(count(&Behaviour::Silent), 2);
        assert_eq!(count(&Behaviour::Good), 168);
        assert_eq!(dealt, mix.assign(7, 200));
        assert_ne!(dealt, mix.assign(8, 200));
    }

    #[test]
    fn small_and_full_fleets_fit() {
        let mix: Mix = "slow=50,flaky=50".parse().unwrap();
        assert_eq!(mix.assign(1, 0), []);
        assert_eq!(mix.assign(1, 1).len(), 1);
        assert_eq!(mix.assign(1, 3).len(), 3);
    }

    #[test]
    fn bad_mixes_say_why() {
        let why = |text: &str| text.parse::<Mix>().unwrap_err().to_string();
        assert!(why("slow").contains("name=percent"));
        assert!(why("slo=3").contains("fails-download"));
        assert!(why("slow=300").contains("percentage"));
        assert!(why("slow=60,flaky=60").contains("120"));
        assert_eq!("".parse::<Mix>().unwrap(), Mix::default());
    }
}
