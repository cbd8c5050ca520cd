//! What names and versions may look like.
//!
//! Each function answers whether a text obeys the rule of its API page; the edge turns a `false` into
//! the page's error.

use crate::limits::FILE_NAME_CHARS_MAX;

/// Whether a character is Chinese (CJK unified ideographs and their extension A and compatibility
/// blocks).
fn is_chinese(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}')
}

/// Whether a character is Japanese kana.
fn is_kana(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30FF}' | '\u{31F0}'..='\u{31FF}' | '\u{FF66}'..='\u{FF9D}')
}

/// Length with a Chinese character counted as two (product names, nicknames).
fn double_width_len(text: &str) -> usize {
    text.chars().map(|c| if is_chinese(c) { 2 } else { 1 }).sum()
}

fn ascii_within(text: &str, max: usize, extra: &str) -> bool {
    (1..=max).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
}

/// ProductName: 4–30 (a Chinese character counts 2) of Chinese, letters, digits, `_`.
pub fn product_name(text: &str) -> bool {
    (4..=30).contains(&double_width_len(text))
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || is_chinese(c))
}

/// GroupName: 4–30 (a Chinese character counts 2) of Chinese, letters, digits, `_`.
pub fn group_name(text: &str) -> bool {
    product_name(text)
}

/// Nickname: 4–64 (a Chinese character counts 2) of Chinese, letters, digits, `_`.
pub fn nickname(text: &str) -> bool {
    (4..=64).contains(&double_width_len(text))
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || is_chinese(c))
}

/// DeviceName: 4–32 of `A-Za-z0-9-_@.:`.
pub fn device_name(text: &str) -> bool {
    text.len() >= 4 && ascii_within(text, 32, "-_@.:")
}

/// FirmwareName: 1–40 characters of Chinese, Japanese, letters, digits, `-_()`, the first one a
/// letter, digit, Chinese or Japanese.
pub fn firmware_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || is_chinese(c) || is_kana(c);
    (1..=40).contains(&text.chars().count())
        && text.chars().next().is_some_and(plain)
        && text.chars().all(|c| plain(c) || "-_()".contains(c))
}

/// The name of a file in a package: 1–32 characters. The pages set no alphabet; but devices make file names of it,
/// and some end a text at its first quote, so quotes, slashes, backslashes and control characters are out, and
/// `.` and `..` too.
pub fn file_name(text: &str) -> bool {
    (1..=FILE_NAME_CHARS_MAX).contains(&text.chars().count())
        && !text.chars().any(|c| c.is_control() || "\"/\\".contains(c))
        && !matches!(text, "." | "..")
}

/// A version: 1–64 of `A-Za-z0-9._-`. Devices' reports are held to the same rule.
pub fn version(text: &str) -> bool {
    ascii_within(text, 64, "._-")
}

/// ModuleName: 1–64 of `A-Za-z0-9._-`.
pub fn module_name(text: &str) -> bool {
    ascii_within(text, 64, "._-")
}

/// AliasName of a module: 1–64 characters. The pages set no alphabet; control characters are out.
pub fn module_alias(text: &str) -> bool {
    (1..=64).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

/// The name of a temporary key's session: 2–64 of `A-Za-z0-9.@_-`.
pub fn session_name(text: &str) -> bool {
    (2..=64).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || ".@_-".contains(c))
}

/// A batch tag's key: 1–30 of `A-Za-z0-9.`.
pub fn tag_key(text: &str) -> bool {
    ascii_within(text, 30, ".")
}

/// A tag's key that no tag may have: the platform keeps it for itself.
const TAG_KEY_RESERVED: &str = "abc";

/// A product tag's key: 1–30 of `A-Za-z0-9.`, and not `abc`.
pub fn product_tag_key(text: &str) -> bool {
    tag_key(text) && text != TAG_KEY_RESERVED
}

/// A product tag's value: 1–128 (a Chinese character counts 2) of Chinese, letters, digits, `_`, `-`.
pub fn product_tag_value(text: &str) -> bool {
    tag_value(text, "_-")
}

/// A device tag's key: 1–32 of `A-Za-z0-9.`, and not `abc`.
pub fn device_tag_key(text: &str) -> bool {
    ascii_within(text, 32, ".") && text != TAG_KEY_RESERVED
}

/// A device tag's value: 1–128 (a Chinese character counts 2) of Chinese, letters, digits, `_`, `-`, `.`, `:`.
pub fn device_tag_value(text: &str) -> bool {
    tag_value(text, "_-.:")
}

fn tag_value(text: &str, extra: &str) -> bool {
    (1..=128).contains(&double_width_len(text))
        && text.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c) || is_chinese(c))
}

/// A free text of at most `max` characters, each counted as one.
pub fn at_most(text: &str, max: usize) -> bool {
    text.chars().count() <= max
}

/// The longest prefix of at most `max` characters.
pub fn clip(text: &str, max: usize) -> &str {
    text.char_indices().nth(max).map_or(text, |(at, _)| &text[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_safe_on_devices() {
        for good in ["a", "a.bin", "固件 (2).tar.gz", "..a", &"路".repeat(32)] {
            assert!(file_name(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a\\b", "a\"b", "a\n", "\u{7f}", &"a".repeat(33)] {
            assert!(!file_name(bad), "{bad}");
        }
    }

    #[test]
    fn product_names_count_chinese_twice() {
        assert!(product_name("路灯"));
        assert!(!product_name("路"));
        assert!(!product_name("abc"));
        assert!(product_name(&"路".repeat(15)));
        assert!(!product_name(&"路".repeat(16)));
        assert!(!product_name("with-dash"));
        assert!(product_name("lamp_1") && group_name("lamp_1") && nickname("lamp_1"));
        assert!(!group_name("abc") && !nickname("with-dash") && !nickname("abc"));
        assert!(nickname(&"路".repeat(32)) && !nickname(&"路".repeat(33)));
    }

    #[test]
    fn chinese_and_kana_are_these() {
        for c in ['㐀', '䶿', '一', '鿿', '豈', '\u{faff}'] {
            assert!(is_chinese(c) && !is_kana(c), "{c}");
        }
        for c in ['\u{3040}', 'ァ', '\u{30ff}', 'ㇰ', 'ｦ', '\u{ff9d}'] {
            assert!(is_kana(c) && !is_chinese(c), "{c}");
        }
        for c in ['a', 'é', '한', '\u{4dc0}', '\u{ff9e}', '\u{fb00}'] {
            assert!(!is_chinese(c) && !is_kana(c), "{c}");
        }
    }

    #[test]
    fn device_names_have_bounds_and_an_alphabet() {
        assert!(device_name("a:b@"));
        assert!(!device_name("abc"));
        assert!(!device_name(&"x".repeat(33)));
        assert!(!device_name("dév1"));
        assert!(!device_name("a/b1"));
    }

    #[test]
    fn firmware_names_start_with_a_letter_or_digit() {
        assert!(firmware_name("v1_(beta)-ファーム"));
        assert!(firmware_name("1") && firmware_name("路") && firmware_name("フ"));
        assert!(!firmware_name("v1 beta") && !firmware_name("v1."));
        assert!(!firmware_name("_v1"));
        assert!(!firmware_name(""));
        assert!(!firmware_name(&"v".repeat(41)));
    }

    #[test]
    fn versions_and_tags() {
        assert!(version("1.0.0-rc_1"));
        assert!(!version("1.0 0"));
        assert!(!version(&"1".repeat(65)));
        assert!(module_name("MCU.1_a-b") && !module_name("m c") && !module_name(&"m".repeat(65)));
        assert!(module_alias(&"路".repeat(64)) && !module_alias(&"路".repeat(65)) && !module_alias("a\n"));
        assert!(session_name("ci@x.y_-1") && !session_name("a") && !session_name("a b"));
        assert!(session_name(&"s".repeat(64)) && !session_name(&"s".repeat(65)));
        assert!(tag_key("a.1") && !tag_key("a_1") && !tag_key(""));
    }

    #[test]
    fn tags_of_products_and_devices() {
        assert!(product_tag_key(&"k".repeat(30)) && device_tag_key(&"k".repeat(32)));
        assert!(!product_tag_key(&"k".repeat(31)) && !device_tag_key(&"k".repeat(33)));
        assert!(!product_tag_key("abc") && !device_tag_key("abc") && device_tag_key("ab.c"));
        assert!(!device_tag_key("") && !device_tag_key("a_b"));
        for good in ["a", "路灯_1-x", &"路".repeat(64), &"v".repeat(128)] {
            assert!(product_tag_value(good) && device_tag_value(good), "{good}");
        }
        for bad in ["", "a b", "é", &"路".repeat(65), &"v".repeat(129)] {
            assert!(!product_tag_value(bad) && !device_tag_value(bad), "{bad}");
        }
        assert!(device_tag_value("1.2:3") && !product_tag_value("1.2") && !product_tag_value("1:2"));
    }

    #[test]
    fn clip_keeps_whole_characters() {
        assert_eq!(clip("路灯x", 2), "路灯");
        assert_eq!(clip("ab", 5), "ab");
        assert!(at_most("路灯", 2) && !at_most("路灯x", 2));
    }
}
