//! A list of devices as a file: one name in each line, or several between commas.
//!
//! The file is read piece by piece; how it is cut changes nothing. A byte order mark, any ending of lines, blanks
//! around a name and empty fields are tolerated; everything else must be a device name.

use crate::text;
use std::fmt;

/// Longest device name, in bytes.
const NAME_BYTES_MAX: usize = 32;
/// Bytes that are kept of a field: more than a name has, so that a longer one can be told.
const FIELD_BYTES_MAX: usize = 48;
/// How many faults of a list are told one by one.
const FAULTS_TOLD: usize = 5;
const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];

/// A name of a list, and the line that it stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    // Filled up with zeros, which no name has, so that the order is that of the texts.
    name: [u8; NAME_BYTES_MAX],
    /// From 1.
    pub line: u32,
}

impl Listed {
    fn new(field: &[u8], line: u32) -> Option<Self> {
        let name = std::str::from_utf8(field).ok().filter(|name| text::device_name(name))?;
        let mut bytes = [0; NAME_BYTES_MAX];
        bytes.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        Some(Self { name: bytes, line })
    }

    /// The name.
    pub fn name(&self) -> &str {
        let length = self.name.iter().position(|byte| *byte == 0).unwrap_or(NAME_BYTES_MAX);
        // What was taken was text.
        std::str::from_utf8(&self.name[..length]).unwrap_or_default()
    }
}

/// Something in a list that cannot be, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Fault {
    line: u32,
    shown: String,
}

/// The faults of one kind in a list: how many, and the first of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Faults {
    first: Vec<Fault>,
    count: usize,
}

impl Faults {
    fn add(&mut self, line: u32, show: impl FnOnce() -> String) {
        self.count += 1;
        let full = self.first.len() >= FAULTS_TOLD;
        if full && self.first.last().is_some_and(|last| last.line <= line) {
            return;
        }
        self.first.push(Fault { line, shown: show() });
        self.first.sort();
        self.first.truncate(FAULTS_TOLD);
    }

    /// Notes a name of the list.
    pub fn note(&mut self, listed: &Listed) {
        self.add(listed.line, || listed.name().to_owned());
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl fmt::Display for Faults {
    /// `line 3: dev1, line 9: dev2`, and how many more.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in self.first.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}line {}: {}", fault.line, fault.shown)?;
        }
        match self.count - self.first.len() {
            0 => Ok(()),
            more => write!(f, ", and {more} more"),
        }
    }
}

/// Why a list cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListRefused {
    /// It has no name.
    Empty,
    /// It has more names than this.
    TooMany(usize),
    /// Something in it is no device name.
    Wrong(Faults),
    /// Names stand in it more than once.
    Doubled(Faults),
}

/// What is read of a field so far.
#[derive(Default)]
struct Field {
    bytes: Vec<u8>,
    /// Whether blanks came after the bytes: within a name they are wrong, behind it they do not count.
    gap: bool,
}

impl Field {
    fn push(&mut self, byte: u8) {
        if matches!(byte, b' ' | b'\t') {
            self.gap |= !self.bytes.is_empty();
            return;
        }
        if std::mem::take(&mut self.gap) {
            self.keep(b' ');
        }
        self.keep(byte);
    }

    fn keep(&mut self, byte: u8) {
        if self.bytes.len() < FIELD_BYTES_MAX {
            self.bytes.push(byte);
        }
    }
}

/// Reads a list.
pub struct ListReader {
    names_max: usize,
    names: Vec<Listed>,
    wrong: Faults,
    field: Field,
    line: u32,
    /// Bytes of a byte order mark seen at the start; `None` behind it.
    mark: Option<usize>,
}

impl ListReader {
    /// A reader that takes up to `names_max` names.
    pub fn new(names_max: usize) -> Self {
        Self {
            names_max,
            names: Vec::new(),
            wrong: Faults::default(),
            field: Field::default(),
            line: 1,
            mark: Some(0),
        }
    }

    /// Takes the next piece; refuses as soon as there are too many names.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), ListRefused> {
        for byte in piece {
            match self.mark {
                Some(seen) if BYTE_ORDER_MARK.get(seen) == Some(byte) => {
                    self.mark = (seen + 1 < BYTE_ORDER_MARK.len()).then_some(seen + 1);
                    continue;
                }
                Some(seen) => {
                    self.mark = None;
                    for byte in BYTE_ORDER_MARK.iter().take(seen) {
                        self.field.push(*byte);
                    }
                }
                None => {}
            }
            match byte {
                b',' | b'\r' => self.end_field()?,
                b'\n' => {
                    self.end_field()?;
                    self.line = self.line.saturating_add(1);
                }
                byte => self.field.push(*byte),
            }
        }
        Ok(())
    }

    fn end_field(&mut self) -> Result<(), ListRefused> {
        self.field.gap = false;
        if self.field.bytes.is_empty() {
            return Ok(());
        }
        match Listed::new(&self.field.bytes, self.line) {
            Some(_) if self.names.len() >= self.names_max => {
                return Err(ListRefused::TooMany(self.names_max));
            }
            Some(listed) => self.names.push(listed),
            None => {
                let bytes = &self.field.bytes;
                self.wrong.add(self.line, || format!("{:?}", String::from_utf8_lossy(bytes)));
            }
        }
        self.field.bytes.clear();
        Ok(())
    }

    /// All names, in the order of their bytes, each once.
    pub fn finish(mut self) -> Result<Vec<Listed>, ListRefused> {
        // A file that ends within its byte order mark.
        if let Some(seen) = self.mark.take() {
            for byte in BYTE_ORDER_MARK.iter().take(seen) {
                self.field.push(*byte);
            }
        }
        self.end_field()?;
        if !self.wrong.is_empty() {
            return Err(ListRefused::Wrong(self.wrong));
        }
        if self.names.is_empty() {
            return Err(ListRefused::Empty);
        }
        self.names.sort_unstable();
        let mut doubled = Faults::default();
        for pair in self.names.windows(2) {
            if let [first, second] = pair
                && first.name == second.name
            {
                doubled.note(second);
            }
        }
        if doubled.is_empty() { Ok(self.names) } else { Err(ListRefused::Doubled(doubled)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_in(pieces: &[&[u8]], max: usize) -> Result<Vec<Listed>, ListRefused> {
        let mut reader = ListReader::new(max);
        for piece in pieces {
            reader.feed(piece)?;
        }
        reader.finish()
    }

    fn names(file: &str) -> Result<Vec<String>, ListRefused> {
        read_in(&[file.as_bytes()], 5)
            .map(|list| list.iter().map(|listed| listed.name().to_owned()).collect())
    }

    fn told(file: &str) -> String {
        match names(file) {
            Err(ListRefused::Wrong(faults) | ListRefused::Doubled(faults)) => faults.to_string(),
            other => panic!("{file:?}: {other:?}"),
        }
    }

    #[test]
    fn names_stand_in_lines_or_between_commas() {
        let longest = "n".repeat(32);
        for (file, expected) in [
            ("dev1\ndev2\n", vec!["dev1", "dev2"]),
            ("dev2\r\ndev1", vec!["dev1", "dev2"]),
            ("dev2\rdev1\r", vec!["dev1", "dev2"]),
            ("\u{feff}dev1,dev2,,\n\n , dev3\t,\n", vec!["dev1", "dev2", "dev3"]),
            ("  dev1  \n\tdev@.:-_\t\r\n", vec!["dev1", "dev@.:-_"]),
            ("dev1", vec!["dev1"]),
            // In the order of bytes, a shorter name first.
            ("dev10\ndev1\nDEV1", vec!["DEV1", "dev1", "dev10"]),
            (&longest, vec![&longest]),
        ] {
            assert_eq!(names(file).unwrap(), expected, "{file:?}");
        }
    }

    #[test]
    fn what_is_no_name_is_told_with_its_line() {
        assert_eq!(told("dev1\n\ndev 2,a\n"), r#"line 3: "a", line 3: "dev 2""#);
        assert_eq!(told("\"dev1\"\n"), r#"line 1: "\"dev1\"""#);
        assert_eq!(told(&"n".repeat(33)), format!("line 1: \"{}\"", "n".repeat(33)));
        assert_eq!(told(&"n".repeat(1_000)), format!("line 1: \"{}\"", "n".repeat(FIELD_BYTES_MAX)));
        assert_eq!(told("dev1\n\u{feff}dev2"), "line 2: \"\\u{feff}dev2\"");
        assert_eq!(told("设备一号\n"), "line 1: \"设备一号\"");
        let many = "x\n".repeat(1_000);
        assert!(told(&many).ends_with("line 5: \"x\", and 995 more"), "{}", told(&many));
        let half = read_in(&[b"dev1\n", b"dev\xff2"], 5).unwrap_err();
        assert!(matches!(&half, ListRefused::Wrong(faults) if faults.to_string().starts_with("line 2: ")));
        // Two thirds of a byte order mark are no mark.
        assert!(matches!(read_in(&[b"\xef\xbb"], 5), Err(ListRefused::Wrong(_))));
    }

    #[test]
    fn a_name_stands_once_and_the_later_line_is_told() {
        assert_eq!(told("dev2\ndev1\ndev2\ndev1\ndev2"), "line 3: dev2, line 4: dev1, line 5: dev2");
        assert_eq!(names("dev1,dev1\n").map(|_| ()).map_err(|_| ()), Err(()));
    }

    #[test]
    fn of_many_faults_those_of_the_first_lines_are_told() {
        // Doubled names are found in their own order, which is not that of the lines.
        let names = ["dev1", "dev2", "dev3", "dev4", "dev5", "dev6", "dev7"];
        let file: Vec<&str> = names.into_iter().chain(names.into_iter().rev()).collect();
        let refused = read_in(&[file.join("\n").as_bytes()], 20).unwrap_err();
        let ListRefused::Doubled(faults) = refused else { panic!("{refused:?}") };
        let told = "line 8: dev7, line 9: dev6, line 10: dev5, line 11: dev4, line 12: dev3, and 2 more";
        assert_eq!(faults.to_string(), told);
    }

    #[test]
    fn a_list_has_some_names_and_not_too_many() {
        for empty in ["", "\u{feff}", "\n\r\n , ,\t\n"] {
            assert_eq!(names(empty), Err(ListRefused::Empty), "{empty:?}");
        }
        assert!(names("dev1\ndev2\ndev3\ndev4\ndev5\n").is_ok());
        assert_eq!(names("dev1\ndev2\ndev3\ndev4\ndev5\ndev6"), Err(ListRefused::TooMany(5)));
    }

    proptest! {
        #[test]
        fn how_a_file_is_cut_changes_nothing(
            file in prop::collection::vec(prop::sample::select(b"de1, \t\r\n\xef\xbb\xbf\x00".to_vec()), 0..80),
            cuts in prop::collection::vec(0_usize..80, 0..8),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(file.len())).collect();
            cuts.extend([0, file.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &file[pair[0]..pair[1]]).collect();
            prop_assert_eq!(read_in(&pieces, 9), read_in(&[&file], 9));
        }

        #[test]
        fn every_name_written_is_read(
            names in prop::collection::btree_set("[A-Za-z0-9_@.:-]{4,32}", 1..20),
            ends in prop::collection::vec(prop::sample::select(vec![",", "\n", "\r\n", " ,\t", "\n\n"]), 20),
        ) {
            let parts = names.iter().zip(&ends).flat_map(|(name, end)| [name.as_str(), end]);
            let file: String = parts.collect();
            let read = read_in(&[file.as_bytes()], 100).unwrap();
            let read: Vec<&str> = read.iter().map(Listed::name).collect();
            prop_assert_eq!(read, names.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }
}
