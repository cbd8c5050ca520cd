//! `cargo xtask tidy`, `describe`, `sim` and `fuzz`: chores of the tree.

#[expect(clippy::print_stdout, reason = "what it finds is its output")]
fn main() -> anyhow::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("tidy") => {
            let found = xtask::tidy(&xtask::root())?;
            anyhow::ensure!(found.is_empty(), "the tree is not tidy:\n{found}");
            println!("tidy");
            Ok(())
        }
        Some("sim") => run("updraft-sim", "the simulation failed"),
        Some("fuzz") => run("updraft-fuzz", "the fuzzing failed"),
        Some("describe") => describe(),
        _ => anyhow::bail!(
            "usage: cargo xtask tidy\n       cargo xtask describe\n       cargo xtask sim SEED [--transcript] [--without LIST] | --seeds A..B [--jobs N] [--json FILE]\n       \
             cargo xtask fuzz [TARGET] [--seconds N] [--seed S] | TARGET --replay HEX"
        ),
    }
}

/// Renews `docs/api/`: the OpenAPI document and the pages of the operations.
fn describe() -> anyhow::Result<()> {
    let mut test = std::process::Command::new(env!("CARGO"));
    test.args([
        "test",
        "--quiet",
        "--package",
        "updraft-server",
        "--test",
        "api",
        "--",
        "the_description_is_fresh",
    ]);
    anyhow::ensure!(test.env("UPDATE_GOLDEN", "1").status()?.success(), "the description could not be made");
    Ok(())
}

/// Runs a package's program with our further arguments.
fn run(package: &str, failed: &'static str) -> anyhow::Result<()> {
    let mut program = std::process::Command::new(env!("CARGO"));
    program.args(["run", "--quiet", "--package", package, "--"]).args(std::env::args().skip(2));
    anyhow::ensure!(program.status()?.success(), failed);
    Ok(())
}
