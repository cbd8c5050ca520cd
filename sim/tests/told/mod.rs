//! What a story tells, compared with its committed transcript.

use std::path::Path;
use updraft_fleet::Behaviour;
use updraft_sim::Violation;

pub type Told = Result<String, Violation>;

/// Compares what was told with the transcript of this name; `UPDATE_GOLDEN=1` writes it anew.
pub fn compare(name: &str, told: Told) {
    let told = told.unwrap_or_else(|violation| panic!("{name}: {violation}"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stories").join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
        std::fs::write(&path, &told).expect("the transcript can be written");
        return;
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = told.lines().zip(golden.lines()).position(|(told, golden)| told != golden);
    assert!(
        told == golden,
        "{name} differs from {} at line {}; UPDATE_GOLDEN=1 writes it anew. Told now:\n{told}",
        path.display(),
        differs.unwrap_or_else(|| told.lines().count().min(golden.lines().count())) + 1
    );
}

/// A device that reports a failure so often before it succeeds.
pub fn fails(name: &str, times: u32) -> Behaviour {
    match Behaviour::from_name(name) {
        Some(Behaviour::Fails { step, desc, .. }) => Behaviour::Fails { step, desc, times },
        _ => panic!("there is no behaviour {name}"),
    }
}
