//! `cargo xtask tidy` and `cargo xtask sim`: chores of the tree.

#[expect(clippy::print_stdout, reason = "what it finds is its output")]
fn main() -> anyhow::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("tidy") => {
            let found = xtask::tidy(&xtask::root())?;
            anyhow::ensure!(found.is_empty(), "the tree is not tidy:\n{found}");
            println!("tidy");
            Ok(())
        }
        Some("sim") => {
            let mut sim = std::process::Command::new(env!("CARGO"));
            sim.args(["run", "--quiet", "--package", "updraft-sim", "--"]).args(std::env::args().skip(2));
            anyhow::ensure!(sim.status()?.success(), "the simulation failed");
            Ok(())
        }
        _ => anyhow::bail!(
            "usage: cargo xtask tidy\n       cargo xtask sim SEED | --seeds A..B [--steps N] [--transcript]"
        ),
    }
}
