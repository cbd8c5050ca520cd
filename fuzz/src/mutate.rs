//! What is done to bytes: flips, cuts, repetitions, lies about lengths, words that mean something.

use crate::dice::Dice;

/// Longest input, but for the rare large ones.
const BYTES_MAX: usize = 16 * 1024;
/// A large input, once in so many.
const LARGE_EVERY: usize = 2_000;
/// What a large input is made of.
const LARGE_BYTES: usize = 700 * 1024;

/// Numbers at which programs go wrong, as text.
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "2",
    "10",
    "100",
    "127",
    "128",
    "255",
    "256",
    "1000",
    "32767",
    "32768",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "-2147483648",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551615",
    "99999999999999999999999",
    "1e308",
    "1e309",
    "-0",
    "00",
    "+1",
    "0x10",
    "1.5",
    "NaN",
    "true",
    "null",
    "",
];

/// Bytes at which programs go wrong.
const BYTES: &[u8] = &[
    0, 1, 9, 10, 13, 0x1f, b' ', b'"', b'%', b'&', b'\'', b'+', b',', b'-', b'.', b'/', b':', b';', b'<',
    b'=', b'?', b'[', b'\\', b'{', b'|', b'}', 0x7f, 0x80, 0xc0, 0xed, 0xef, 0xf4, 0xfe, 0xff,
];

/// Two-byte lengths that lie.
const LENGTHS: &[u16] = &[0, 1, 2, 127, 128, 255, 256, 1_023, 4_096, 0x7fff, 0x8000, 0xfffe, 0xffff];

/// Changes `input` in one to five ways. `other` is another entry of the corpus, for splices; `tokens` are
/// words that the input's language knows.
pub fn mutate(dice: &mut Dice, input: &[u8], other: &[u8], tokens: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=dice.below(5) {
        once(dice, &mut bytes, other, tokens);
    }
    bytes.truncate(BYTES_MAX);
    if dice.once_in(LARGE_EVERY) && !bytes.is_empty() {
        let (start, end) = range(dice, bytes.len());
        let piece = bytes[start..end.max(start + 1).min(bytes.len())].to_vec();
        let times = LARGE_BYTES / piece.len().max(1);
        let again = piece.repeat(times);
        bytes.splice(start..start, again);
    }
    bytes
}

fn once(dice: &mut Dice, bytes: &mut Vec<u8>, other: &[u8], tokens: &[Vec<u8>]) {
    let at = dice.below(bytes.len() + 1);
    let (start, end) = range(dice, bytes.len());
    let inside = at < bytes.len();
    match dice.below(14) {
        0 if inside => bytes[at] ^= 1 << dice.below(8),
        1 if inside => bytes[at] = *dice.pick(BYTES),
        2 => bytes.insert(at, *dice.pick(BYTES)),
        3 => bytes.insert(at, dice.roll() as u8),
        4 => drop(bytes.drain(start..end)),
        5 => {
            let piece = bytes[start..end].to_vec();
            bytes.splice(at..at, piece);
        }
        6 => {
            let piece = bytes[start..end].repeat(1 + dice.below(40));
            bytes.splice(end..end, piece);
        }
        7 => {
            let (from, to) = range(dice, other.len());
            bytes.splice(start..end, other[from..to].iter().copied());
        }
        8 if dice.once_in(3) => bytes.truncate(at),
        9 => length(dice, bytes),
        10 => number(dice, bytes, at),
        11 | 12 if !tokens.is_empty() => {
            let token = dice.pick(tokens).clone();
            let end = if dice.once_in(2) { at } else { (at + token.len()).min(bytes.len()) };
            bytes.splice(at..end, token);
        }
        _ => {
            let tail = bytes.split_off(at);
            bytes.splice(0..0, tail);
        }
    }
}

/// A piece of something of this length; short ones are likelier.
fn range(dice: &mut Dice, length: usize) -> (usize, usize) {
    let start = dice.below(length + 1);
    let most = if dice.once_in(3) { length - start } else { (length - start).min(16) };
    (start, start + dice.below(most + 1))
}

/// Overwrites two bytes as if they were a length, or one as MQTT's.
fn length(dice: &mut Dice, bytes: &mut [u8]) {
    if bytes.len() < 2 {
        return;
    }
    let at = dice.below(bytes.len() - 1);
    if dice.once_in(2) {
        let old = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let near = [old.wrapping_add(1), old.wrapping_sub(1), old.wrapping_mul(2)];
        let new = if dice.once_in(2) { *dice.pick(&near) } else { *dice.pick(LENGTHS) };
        bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
    } else {
        bytes[at] = bytes[at].wrapping_add([1, 0xff, 0x80, 0x7f][dice.below(4)]);
    }
}

/// Replaces the decimal number at or behind `at`, or inserts one.
fn number(dice: &mut Dice, bytes: &mut Vec<u8>, at: usize) {
    let digit = |byte: &u8| byte.is_ascii_digit();
    let start = bytes[at..].iter().position(digit).map_or(at, |found| at + found);
    let end = start + bytes[start..].iter().take_while(|byte| digit(byte)).count();
    bytes.splice(start..end, dice.pick(NUMBERS).bytes());
}

/// One of the interesting numbers, as text.
pub fn any_number(dice: &mut Dice) -> &'static str {
    dice.pick::<&str>(NUMBERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_mutates_the_same_way_and_stays_small() {
        let run = |seed| {
            let mut dice = Dice::new(seed);
            (0..500)
                .map(|_| mutate(&mut dice, b"a=1&b=22", b"spliced", &[b"token".to_vec()]))
                .collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        assert!(run(3).iter().all(|bytes| bytes.len() <= 2 * LARGE_BYTES));
        // Nothing to mutate is no reason to fail.
        assert!(mutate(&mut Dice::new(4), b"", b"", &[]).len() <= BYTES_MAX);
    }
}
