//! The table of keys as a page.

use super::KEYS;

/// All keys with their texts, as a configuration file in which every line is a default.
pub fn documentation() -> String {
    use std::fmt::Write as _;
    let mut out = String::from("# Every key of updraft, with its default. Flags: --data-dir and so on; ");
    out += "environment: UPDRAFT_DATA_DIR and so on.\n";
    for key in KEYS {
        out.push('\n');
        for line in key.doc.trim().lines() {
            let _ = writeln!(out, "# {}", line.trim());
        }
        let default = (key.default)();
        let bare = default.parse::<f64>().is_ok() || default == "true" || default == "false";
        let _ = if bare {
            writeln!(out, "# {} = {default}", key.name)
        } else {
            writeln!(out, "# {} = \"{default}\"", key.name)
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_documentation_is_a_configuration_file_of_defaults() {
        let text: String = documentation()
            .lines()
            .filter(|line| line.starts_with("# ") && line.contains(" = "))
            .map(|line| line[2..].to_owned() + "\n")
            .collect();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("all.toml");
        std::fs::write(&file, text).unwrap();
        Config::gather(Some(&file), |_| None, &[]).unwrap();
    }
}
