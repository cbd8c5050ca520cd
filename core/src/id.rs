//! Identifiers: opaque texts on the wire, small integers inside.
//!
//! Each kind is a type of its own, so that two ids in one signature cannot be swapped.

use std::fmt;

/// Declares a row number: how the database and the engine name a thing.
macro_rules! row_numbers {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )+};
}

row_numbers! {
    /// An account: the owner of instances; its RAM users share its quotas.
    AccountNo,
    /// An instance: a world of its own within an account. Products, packages and batches belong to one.
    InstanceNo,
    /// A product: the family that a device belongs to.
    ProductNo,
    /// A device.
    DeviceNo,
    /// An uploaded file.
    FileNo,
    /// An update package.
    FirmwareNo,
    /// An update batch.
    JobNo,
    /// A device group.
    GroupNo,
    /// A registration of devices in bulk.
    ApplyNo,
}

/// A task: the `ordinal`-th device (from 1, without gaps) of batch `job`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TaskNo {
    /// The batch that the task belongs to.
    pub job: JobNo,
    /// Position in the batch, from 1 without gaps.
    pub ordinal: i64,
}

impl fmt::Display for TaskNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.job, self.ordinal)
    }
}

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const TASK_JOB_CHARS: usize = 12;
const TASK_ORDINAL_CHARS: usize = 8;
const TASK_TAIL: &str = "010100";
/// How many ordinals eight characters tell apart.
const SPACE: u128 = 62_u128.pow(TASK_ORDINAL_CHARS as u32);
/// Odd and not divisible by 31, so multiplication modulo 62^8 is a permutation.
const SPREAD: u128 = 104_728_591_340_057;
/// Undoes it.
const GATHER: u128 = 57_715_997_540_393;

/// `len` characters of `A-Za-z0-9` drawn from `random`, one byte a character.
///
/// Bytes are folded onto 62 characters; the small bias does not matter for identifiers, and secrets
/// are made of hexadecimal digits instead.
pub fn alphanumeric(random: &[u8]) -> String {
    random.iter().map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])).collect()
}

/// The wire id of a package, in the platform's shape: 20 random characters, `03`, `0100`.
pub fn firmware_id(random: &[u8; 20]) -> String {
    alphanumeric(random) + "030100"
}

/// The wire id of a batch, in the platform's shape: 20 random characters, `02`, `0200`.
pub fn job_id(random: &[u8; 20]) -> String {
    alphanumeric(random) + "020200"
}

/// The wire id of a device group, in the platform's shape: 16 random characters.
pub fn group_id(random: &[u8; 16]) -> String {
    alphanumeric(random)
}

/// A product key: `a1` and 9 random characters.
pub fn product_key(random: &[u8; 9]) -> String {
    "a1".to_owned() + &alphanumeric(random)
}

/// An IotInstanceId: `iot-` and 12 lower-case letters and digits.
pub fn instance_id(random: &[u8; 12]) -> String {
    format!("iot-{}", alphanumeric(random).to_ascii_lowercase())
}

/// The wire id of a task: derived from its batch and ordinal, so that a million tasks need not store
/// a million random texts. The first 12 characters are the batch id's, the next 8 hold the ordinal,
/// spread out by a multiplication that can be undone; then `01`, `0100`.
pub fn task_id(job_id: &str, ordinal: i64) -> String {
    // Of the product the last eight digits are kept: it is taken modulo 62^8.
    let mut rest = u128::from(ordinal.unsigned_abs()) * SPREAD;
    let mut digits = [b'0'; TASK_ORDINAL_CHARS];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[(rest % 62) as usize];
        rest /= 62;
    }
    let head: String = job_id.chars().take(TASK_JOB_CHARS).collect();
    let tail: String = digits.iter().map(|byte| char::from(*byte)).collect();
    format!("{head:0<TASK_JOB_CHARS$}{tail}{TASK_TAIL}")
}

/// What a task's wire id says: how the id of its batch begins, and its ordinal there. `None`: it is no task's.
pub fn task_id_parts(task_id: &str) -> Option<(&str, i64)> {
    let rest = task_id.strip_suffix(TASK_TAIL)?;
    if rest.len() != TASK_JOB_CHARS + TASK_ORDINAL_CHARS || !rest.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let (head, digits) = rest.split_at(TASK_JOB_CHARS);
    let mut value = 0_u128;
    for digit in digits.bytes() {
        value = value * 62 + ALPHABET.iter().position(|known| *known == digit)? as u128;
    }
    let ordinal = i64::try_from(value * GATHER % SPACE).ok()?;
    (ordinal > 0).then_some((head, ordinal))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn wire_ids_have_the_platforms_shape() {
        let id = firmware_id(&[7; 20]);
        assert_eq!(id.len(), 26);
        assert!(id.ends_with("030100"));
        assert_eq!(job_id(&[200; 20]).len(), 26);
        assert!(job_id(&[200; 20]).ends_with("020200"));
        assert_eq!(product_key(&[1; 9]), "a1111111111");
        assert_eq!(group_id(&[10; 16]), "A".repeat(16));
        assert_eq!(instance_id(&[36; 12]), "iot-aaaaaaaaaaaa");
        assert_eq!(instance_id(&[10; 12]), "iot-aaaaaaaaaaaa", "capitals are no part of it");
    }

    #[test]
    fn numbers_are_shown_as_they_are() {
        assert_eq!(TaskNo { job: JobNo(3), ordinal: 14 }.to_string(), "3/14");
    }

    #[test]
    fn the_id_of_a_task_never_changes() {
        // Back ends keep them.
        assert_eq!(task_id("ABCDEFGHIJKLMNOPQRST020200", 1), "ABCDEFGHIJKLTjnweNFR010100");
        assert_eq!(task_id("short", 62), "short0000000jnweNFR0010100");
    }

    #[test]
    fn task_ids_differ_within_a_batch_and_between_batches() {
        let first = job_id(&[1; 20]);
        let second = job_id(&[2; 20]);
        let mut seen = BTreeSet::new();
        for ordinal in 1..=20_000 {
            assert!(seen.insert(task_id(&first, ordinal)));
            assert!(seen.insert(task_id(&second, ordinal)));
        }
        assert!(seen.iter().all(|id| id.len() == 26));
    }

    #[test]
    fn a_task_id_tells_its_batch_and_ordinal() {
        let job = job_id(&[9; 20]);
        for ordinal in [1, 2, 61, 62, 1_000_000, 987_654_321] {
            let id = task_id(&job, ordinal);
            assert_eq!(task_id_parts(&id), Some((&job[..12], ordinal)), "{id}");
        }
        let zero = task_id(&job, 0);
        for not_one in
            ["", "x", "0123456789ab", &job, &zero, &format!("{}010101", &zero[..20]), "路路路路路路010100"]
        {
            assert_eq!(task_id_parts(not_one), None, "{not_one}");
        }
        // Of another length, and with what no id has, in either half.
        for rest in ["A".repeat(11), "A".repeat(19), "A".repeat(21), "-".repeat(20), "A".repeat(19) + "-"] {
            assert_eq!(task_id_parts(&(rest.clone() + "010100")), None, "{rest}");
        }
    }
}
