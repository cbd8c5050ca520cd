//! The tree is tidy.

#[test]
fn the_tree_is_tidy() {
    let found = xtask::tidy(&xtask::root()).unwrap();
    assert!(found.is_empty(), "\n{found}");
}
