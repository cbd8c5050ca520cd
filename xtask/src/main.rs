//! `cargo xtask tidy`

#[expect(clippy::print_stdout, reason = "what it finds is its output")]
fn main() -> anyhow::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("tidy") => {
            let found = xtask::tidy(&xtask::root())?;
            anyhow::ensure!(found.is_empty(), "the tree is not tidy:\n{found}");
            println!("tidy");
            Ok(())
        }
        _ => anyhow::bail!("usage: cargo xtask tidy"),
    }
}
