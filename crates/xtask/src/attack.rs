//! `cargo xtask attack`: builds the program and attacks it.

use crate::fuzz::target_folder;
use crate::{cargo, cargo_command, run};

/// Builds the program and the attacks, and runs those named in `args`, or all of them.
pub(crate) fn attack(args: &[String]) -> Result<(), String> {
    let binary = target_folder()?.join("release").join("feathercall");
    cargo(["build", "--release", "--package", "app", "--bin", "feathercall"])?;
    let mut command = cargo_command();
    command.args(["run", "--release", "--package", "tests", "--bin", "attack", "--"]);
    // An option among `args` may name another build.
    if !args.iter().any(|arg| arg == "--binary") {
        command.arg("--binary").arg(binary);
    }
    run(command.args(args))
}
