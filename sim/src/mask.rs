//! What is left out of a world: single happenings, by kind and number. So a long story can be told shorter.
//!
//! Each happening has dice of its own, so that those that are left show the same when others are left out.

use crate::chance::Chance;
use crate::world::{Event, World};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

/// What may be left out, in the order in which it is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// A rate of small faults; see `faults`.
    Rate,
    /// Something that breaks.
    Fault,
    /// A change of a device's life.
    Life,
    /// Something that the keeper of packages does.
    Keep,
    /// A change of the operator's mind.
    Regret,
    /// Something that the operator does.
    Act,
    /// A device.
    Device,
}

impl Kind {
    const ALL: [Self; 7] =
        [Self::Rate, Self::Fault, Self::Life, Self::Keep, Self::Regret, Self::Act, Self::Device];

    fn letter(self) -> char {
        match self {
            Self::Rate => 'n',
            Self::Fault => 'f',
            Self::Life => 'l',
            Self::Keep => 'k',
            Self::Regret => 'r',
            Self::Act => 'a',
            Self::Device => 'd',
        }
    }

    fn of(event: &Event) -> Option<Self> {
        match event {
            Event::Act => Some(Self::Act),
            Event::Life => Some(Self::Life),
            Event::Keep => Some(Self::Keep),
            Event::Regret(_) => Some(Self::Regret),
            Event::Break(_) => Some(Self::Fault),
            _ => None,
        }
    }
}

/// One thing that may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Happening {
    pub(crate) kind: Kind,
    pub(crate) number: u32,
}

/// What is left out. Its text is `a7-90,d3`: by letter and number, as an argument of `cargo xtask sim --without`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mask(BTreeSet<Happening>);

impl Mask {
    /// Whether nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same, and these left out, too.
    pub(crate) fn and(&self, more: &[Happening]) -> Self {
        Self(self.0.iter().chain(more).copied().collect())
    }
}

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = Vec::new();
        for kind in Kind::ALL {
            let numbers: Vec<u32> = self.0.iter().filter(|of| of.kind == kind).map(|of| of.number).collect();
            for run in numbers.chunk_by(|one, next| one + 1 == *next) {
                let (letter, first, last) = (kind.letter(), run[0], run[run.len() - 1]);
                let upto = if first == last { String::new() } else { format!("-{last}") };
                parts.push(format!("{letter}{first}{upto}"));
            }
        }
        f.write_str(&parts.join(","))
    }
}

/// A text that names nothing which could be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoMask;

impl FromStr for Mask {
    type Err = NoMask;

    fn from_str(text: &str) -> Result<Self, NoMask> {
        let mut all = BTreeSet::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let letter = part.chars().next().ok_or(NoMask)?;
            let kind = Kind::ALL.into_iter().find(|kind| kind.letter() == letter).ok_or(NoMask)?;
            let (first, last) = part[1..].split_once('-').unwrap_or((&part[1..], &part[1..]));
            let (first, last): (u32, u32) =
                (first.parse().map_err(|_| NoMask)?, last.parse().map_err(|_| NoMask)?);
            all.extend((first..=last).map(|number| Happening { kind, number }));
        }
        Ok(Self(all))
    }
}

/// Which happenings a world had so far, and which it does without.
#[derive(Debug, Default)]
pub(crate) struct Happenings {
    pub(crate) without: Mask,
    seed: u64,
    numbers: BTreeMap<Kind, u32>,
    had: BTreeSet<Happening>,
    /// Whether the one that is due is left out.
    left_out: bool,
}

impl Happenings {
    pub(crate) fn new(seed: u64, without: Mask) -> Self {
        Self { without, seed, ..Self::default() }
    }

    /// What happened, in the order in which it is to be tried without.
    pub(crate) fn had(&self) -> Vec<Happening> {
        self.had.iter().copied().collect()
    }

    /// The next one of a kind comes: its number, and whether it is left out.
    fn next(&mut self, kind: Kind) -> (u32, bool) {
        let number = self.numbers.entry(kind).or_default();
        *number += 1;
        let number = *number;
        (number, !self.comes(Happening { kind, number }))
    }

    /// Whether this one is not left out.
    fn comes(&mut self, happening: Happening) -> bool {
        let comes = !self.without.0.contains(&happening);
        if comes {
            self.had.insert(happening);
        }
        comes
    }
}

impl World {
    /// Whether the happening that is due is left out: it may plan what comes after it, and no more.
    pub(crate) fn is_left_out(&self) -> bool {
        self.happenings.left_out
    }

    /// The next one of a kind comes, with dice of its own; answers whether it is left out.
    pub(crate) fn next_is_left_out(&mut self, kind: Kind) -> bool {
        let (number, left_out) = self.happenings.next(kind);
        self.throw(&kind.letter().to_string(), u64::from(number));
        left_out
    }

    /// Each rate of small faults is a happening, too.
    pub(crate) fn spare_rates(&mut self) {
        let mut number = 1;
        while let Some(rate) = self.rates.rate(number) {
            if *rate > 0 && !self.happenings.comes(Happening { kind: Kind::Rate, number }) {
                *rate = 0;
            }
            number += 1;
        }
    }

    /// Gives an event dice of its own, from what it is, when it is, and whom it is about: what is left out elsewhere
    /// changes nothing here.
    pub(crate) fn begin_event(&mut self, event: &Event) {
        self.happenings.left_out = false;
        // In the quiet end nobody does anything any more.
        if let Some(kind) = Kind::of(event).filter(|kind| self.plan.is_some() || *kind == Kind::Regret) {
            self.happenings.left_out = self.next_is_left_out(kind);
            return;
        }
        let (what, node) = match event {
            Event::Tick(node, _) => ("tick", Some(*node)),
            Event::Piece(node, ..) => ("piece", Some(*node)),
            Event::Up(conn, _) => ("up", self.node_of(*conn)),
            Event::Down(conn, _) => ("down", self.node_of(*conn)),
            Event::ClientGone(conn) => ("client gone", self.node_of(*conn)),
            Event::ServerGone(conn) => ("server gone", self.node_of(*conn)),
            Event::Ingest => ("ingest", None),
            Event::Write => ("write", None),
            Event::Round(_) => ("round", None),
            _ => ("else", None),
        };
        let who = node.map_or(0, |node| Chance::key(&self.nodes[node].name));
        self.throw(what, who ^ self.now.0.unsigned_abs());
    }

    fn node_of(&self, conn: crate::net::ConnNo) -> Option<usize> {
        self.conns.get(&conn).map(|conn| conn.node)
    }

    /// Gives what follows dice of its own.
    pub(crate) fn throw(&mut self, what: &str, which: u64) {
        let mut dice = Chance::new(self.happenings.seed.wrapping_add(which.wrapping_mul(0x9e37_79b9)), what);
        for chance in [
            &mut self.net,
            &mut self.downloads,
            &mut self.operator,
            &mut self.keeper,
            &mut self.faults,
            &mut self.lives,
            &mut self.grouper,
            &mut self.disk,
            &mut self.hands,
            &mut self.oddities,
            &mut self.gating,
            &mut self.ending,
        ] {
            *chance = dice.child();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_read_as_it_is_written() {
        for text in ["", "f1", "n2,f1-3,f5,a7-90,d3"] {
            assert_eq!(text.parse::<Mask>().unwrap().to_string(), text);
        }
        assert_eq!("a1,a2,a3".parse::<Mask>().unwrap().to_string(), "a1-3");
        for text in ["x1", "a", "a1-", "a-1", "1", "äx"] {
            assert_eq!(text.parse::<Mask>(), Err(NoMask), "{text}");
        }
    }
}
