//! Checks of the tree that no compiler makes: `cargo xtask tidy`, and as a test.

use anyhow::Context as _;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Lines of a source file at most, its tests apart.
const FILE_LINES_MAX: usize = 500;

/// The workspace's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_owned)
}

/// Everything that is untidy, a line each; empty if nothing is.
pub fn tidy(root: &Path) -> anyhow::Result<String> {
    let mut found = String::new();
    let mut sources = Vec::new();
    for package in ["core", "store", "server", "fleet", "sim", "fuzz", "xtask"] {
        collect(&root.join(package), &mut sources)?;
    }
    for path in &sources {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let name = path.strip_prefix(root).unwrap_or(path).display().to_string();
        source(&name, &text, &mut found);
    }
    map(root, &mut found)?;
    operations(root, &mut found)?;
    rules(root, &mut found)?;
    Ok(found)
}

fn collect(dir: &Path, sources: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            collect(&path, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push(path);
        }
    }
    Ok(())
}

fn source(name: &str, text: &str, found: &mut String) {
    if !text.starts_with("//!") {
        let _ = writeln!(found, "{name}: does not begin with `//!`, saying what it owns");
    }
    let own = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = own.lines().count();
    if lines > FILE_LINES_MAX && !name.contains("/tests/") {
        let _ = writeln!(
            found,
            "{name}: {lines} lines; does it still hold one thing? ({FILE_LINES_MAX} at most)"
        );
    }
    // Put together here, so that this file does not find itself.
    let door = [concat!("task::", "step("), concat!("tasks_", "apply("), concat!(" match step", "(")];
    let may = ["server/src/engine/advance.rs", "store/src/task.rs", "core/src/task.rs"];
    for call in door {
        if text.contains(call) && !may.contains(&name) && !name.contains("/tests/") {
            let _ = writeln!(found, "{name}: `{call}` belongs to server/src/engine/advance.rs alone");
        }
    }
    let imports_step = text.lines().any(|line| {
        line.starts_with("use updraft_core::task::")
            && line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == "step")
    });
    if imports_step && name != "server/src/engine/advance.rs" && !name.contains("/tests/") {
        let _ = writeln!(found, "{name}: imports `step`, which server/src/engine/advance.rs alone may call");
    }
    for word in [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")] {
        if text.contains(word) {
            let _ = writeln!(found, "{name}: `{word}`: do it, or open an issue");
        }
    }
    if text.contains(concat!("#[", "ignore")) {
        let _ = writeln!(found, "{name}: an ignored test tests nothing");
    }
}

/// Every path that ARCHITECTURE.md names exists.
fn map(root: &Path, found: &mut String) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(root.join("ARCHITECTURE.md"))?;
    for word in text.split('`').skip(1).step_by(2) {
        let is_path =
            word.contains('/') && word.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
        if is_path && !root.join(word).exists() {
            let _ = writeln!(found, "ARCHITECTURE.md: there is no {word}");
        }
    }
    Ok(())
}

/// Every rule of docs/rules.md names tests, and they exist.
fn rules(root: &Path, found: &mut String) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(root.join("docs/rules.md"))?;
    let numbered =
        |line: &&str| line.starts_with("| ") && line.as_bytes().get(2).is_some_and(u8::is_ascii_uppercase);
    for line in text.lines().filter(numbered) {
        let number = line.split('|').nth(1).unwrap_or_default().trim();
        let tests = || line.split('`').skip(1).step_by(2).filter_map(|word| word.split_once(".rs::"));
        if tests().next().is_none() {
            let _ = writeln!(found, "docs/rules.md: rule {number} names no test");
        }
        for (file, test) in tests() {
            let text = std::fs::read_to_string(root.join(file).with_extension("rs")).unwrap_or_default();
            if !has_test(&text, test) {
                let _ = writeln!(found, "docs/rules.md: rule {number}: there is no test {test} in {file}.rs");
            }
        }
    }
    Ok(())
}

/// Whether a source has a function of this name with a test's attribute right above it.
fn has_test(text: &str, name: &str) -> bool {
    let mut above = "";
    text.lines().any(|line| {
        let line = line.trim_start();
        let declares = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        let is_it =
            declares.and_then(|rest| rest.strip_prefix(name)).is_some_and(|rest| rest.starts_with('('));
        let found = is_it && matches!(above, "#[test]" | "#[tokio::test]");
        above = line;
        found
    })
}

/// Every operation of the table is one file, named as on the wire.
fn operations(root: &Path, found: &mut String) -> anyhow::Result<()> {
    let table = std::fs::read_to_string(root.join("server/src/api/mod.rs"))?;
    for line in table.lines().filter(|line| line.trim_end().ends_with("::OPERATION,")) {
        let path = line.trim().trim_start_matches('&').trim_end_matches("::OPERATION,").replace("::", "/");
        let file = root.join("server/src/api").join(&path).with_extension("rs");
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let stem = file.file_stem().map(|stem| stem.to_string_lossy().replace('_', "")).unwrap_or_default();
        let wire = text
            .split("name: \"")
            .nth(1)
            .and_then(|rest| rest.split('"').next())
            .unwrap_or_default()
            .to_lowercase();
        if wire != stem {
            let _ = writeln!(found, "server/src/api/{path}.rs: serves `{wire}`, but is named otherwise");
        }
    }
    Ok(())
}
