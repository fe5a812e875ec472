//! `cargo xtask fuzz`: builds the fuzz targets of `tests/fuzz/` and runs them one after another.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{cargo_command, run};

const PACKAGE: &str = "tests/fuzz";
const DEFAULT_SECONDS: u32 = 60;

/// What the command line asks for.
struct Options {
    /// Names of targets; all targets if empty.
    targets: Vec<String>,
    /// Run time of each target.
    seconds: u32,
}

/// Result of one target's run.
struct Outcome {
    executions: u64,
    /// Edges of the control-flow graph that some input reached.
    coverage: u64,
    /// Inputs that made the target panic, hang or exhaust memory.
    findings: Vec<PathBuf>,
}

/// Runs the targets named in `args`, or all of them, and prints a line for each.
pub(crate) fn fuzz(args: &[String]) -> Result<(), String> {
    let options = parse(args)?;
    let known = known_targets()?;
    if let Some(unknown) = options.targets.iter().find(|target| !known.contains(target)) {
        return Err(format!("no fuzz target `{unknown}`; there are: {}", known.join(", ")));
    }
    install_cargo_fuzz()?;
    let folder = target_folder()?.join("fuzz");
    build(&folder, &options)?;
    let targets = if options.targets.is_empty() { &known } else { &options.targets };
    println!("{:26}{:>14}{:>10}{:>10}", "target", "executions", "coverage", "findings");
    let mut all_findings = Vec::new();
    for target in targets {
        let Outcome { executions, coverage, findings } = run_target(&folder, target, &options)?;
        println!("{target:26}{executions:14}{coverage:10}{:10}", findings.len());
        all_findings.extend(findings);
    }
    if all_findings.is_empty() {
        return Ok(());
    }
    let paths: Vec<String> = all_findings.iter().map(|path| path.display().to_string()).collect();
    Err(format!(
        "fuzzing found {} bad inputs (logs are in {}):\n  {}",
        paths.len(),
        logs(&folder).display(),
        paths.join("\n  ")
    ))
}

fn parse(args: &[String]) -> Result<Options, String> {
    let mut options = Options { targets: Vec::new(), seconds: DEFAULT_SECONDS };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seconds" => {
                let value = args.next().ok_or("--seconds needs a number")?;
                options.seconds =
                    value.parse().map_err(|_| format!("`{value}` is not a number of seconds"))?;
            }
            flag if flag.starts_with('-') => return Err(format!("unknown option `{flag}`")),
            target => options.targets.push(target.to_owned()),
        }
    }
    Ok(options)
}

/// Names of the programs in the fuzz package, sorted.
fn known_targets() -> Result<Vec<String>, String> {
    let folder = Path::new(PACKAGE).join("fuzz_targets");
    let entries = fs::read_dir(&folder).map_err(|error| {
        format!("{error}: {} (run this in the repository root)", folder.display())
    })?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}

fn install_cargo_fuzz() -> Result<(), String> {
    let version = cargo_command().args(["fuzz", "--version"]).output();
    if version.is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    run(cargo_command().args(["install", "cargo-fuzz", "--locked"]))
}

fn build(folder: &Path, options: &Options) -> Result<(), String> {
    let mut command = cargo_command();
    // Sanitizers are unstable flags of the compiler; this makes a stable one accept them.
    command.env("RUSTC_BOOTSTRAP", "1");
    command.args(["fuzz", "build", "--fuzz-dir", PACKAGE, "--target-dir"]).arg(folder);
    if let [target] = &options.targets[..] {
        command.arg(target);
    }
    run(&mut command)
}

fn run_target(folder: &Path, target: &str, options: &Options) -> Result<Outcome, String> {
    let found = folder.join("corpus").join(target);
    let artifacts = Path::new(PACKAGE).join("artifacts").join(target);
    for new in [&found, &artifacts, &logs(folder)] {
        fs::create_dir_all(new).map_err(|error| format!("{error}: {}", new.display()))?;
    }
    let log = logs(folder).join(format!("{target}.log"));
    let stderr = File::create(&log).map_err(|error| format!("{error}: {}", log.display()))?;
    let before = files(&artifacts);
    let mut prefix = OsString::from(&artifacts);
    prefix.push("/");
    let mut artifact_prefix = OsString::from("-artifact_prefix=");
    artifact_prefix.push(prefix);
    let status = Command::new(folder.join(host_triple()?).join("release").join(target))
        .arg(artifact_prefix)
        .arg(format!("-max_total_time={}", options.seconds))
        .args(["-print_final_stats=1", "-timeout=20", "-rss_limit_mb=4096"])
        // New inputs go to the first folder; the checked-in corpus is only read.
        .arg(&found)
        .arg(Path::new(PACKAGE).join("corpus").join(target))
        // Keeps the clip reader from asking the ffmpeg program about hostile input.
        .env("PATH", "")
        .stderr(stderr)
        .status()
        .map_err(|error| format!("cannot run the fuzz target {target}: {error}"))?;
    let text = String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
    let findings: Vec<PathBuf> =
        files(&artifacts).into_iter().filter(|path| !before.contains(path)).collect();
    if !status.success() && findings.is_empty() {
        return Err(format!("the fuzz target {target} failed ({status}); see {}", log.display()));
    }
    let executions = number_after(&text, "stat::number_of_executed_units:");
    Ok(Outcome { executions, coverage: number_after(&text, " cov:"), findings })
}

/// The number behind the last occurrence of `label` in a log of libFuzzer; 0 if there is none.
fn number_after(log: &str, label: &str) -> u64 {
    let tail = log.rsplit_once(label).map_or("", |(_, tail)| tail);
    tail.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

fn logs(folder: &Path) -> PathBuf {
    folder.join("logs")
}

/// The build folder as an absolute path, because cargo-fuzz runs cargo in another folder.
pub(crate) fn target_folder() -> Result<PathBuf, String> {
    let folder = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    std::path::absolute(folder).map_err(|error| format!("the build folder has no path: {error}"))
}

fn host_triple() -> Result<String, String> {
    let output = Command::new("rustc").arg("-vV").output();
    let text = output.map_err(|error| format!("cannot run rustc: {error}"))?.stdout;
    let text = String::from_utf8_lossy(&text).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc does not name its host".to_owned())
}
