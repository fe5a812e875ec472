//! `attack`: runs attacks on a build of the program and prints one table. `cargo xtask attack`
//! builds the program first.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use tests::attack::{Arena, Attack, Outcome, attacks, sound, studies};

const USAGE: &str = "usage: attack --binary PATH [--full] [--calls N] [--minutes N] [NAME...]

  NAME          attacks to run (all of the table unless named), or a study:
                study-setup, study-outages, overload, lip-sync, soak
  --full        run the studies too
  --calls N     calls of a study at each combination of conditions (10 and 2 unless given)
  --minutes N   length of the soak (15)
  --list        print the names";

struct Options {
    binary: PathBuf,
    names: Vec<String>,
    is_full: bool,
    calls: Option<u64>,
    minutes: u64,
}

const STUDIES: [&str; 5] = ["study-setup", "study-outages", "overload", "lip-sync", "soak"];

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        let names = attacks().into_iter().map(|attack| (attack.name, attack.what));
        names.for_each(|(name, what)| println!("{name:18}{what}"));
        println!("{}", STUDIES.join("\n"));
        return Ok(ExitCode::SUCCESS);
    }
    let options = match parse(&arguments) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("attack: {error}\n{USAGE}");
            return Ok(ExitCode::from(2));
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let passed = runtime.block_on(run(&options))?;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn parse(arguments: &[String]) -> anyhow::Result<Options> {
    let (mut binary, mut names, mut is_full) = (None, Vec::new(), false);
    let (mut calls, mut minutes) = (None, 15);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--binary" => binary = Some(PathBuf::from(value()?)),
            "--full" => is_full = true,
            "--calls" => calls = Some(value()?.parse()?),
            "--minutes" => minutes = value()?.parse()?,
            flag if flag.starts_with('-') => bail!("unknown option `{flag}`"),
            name => names.push(name.to_owned()),
        }
    }
    let known: Vec<&str> = attacks().iter().map(|attack| attack.name).chain(STUDIES).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("no attack `{unknown}`; there are: {}", known.join(", "));
    }
    Ok(Options { binary: binary.context("--binary is missing")?, names, is_full, calls, minutes })
}

async fn run(options: &Options) -> anyhow::Result<bool> {
    let arena = Arena::new(&options.binary)?;
    let is_chosen = |name: &str| options.names.iter().any(|chosen| chosen == name);
    let mut passed = true;
    let chosen: Vec<Attack> = attacks()
        .into_iter()
        .filter(|attack| options.names.is_empty() || is_chosen(attack.name))
        .collect();
    if !chosen.is_empty() {
        println!("| attack | criterion | before | now | verdict |");
        println!("| --- | --- | --- | --- | --- |");
    }
    for attack in &chosen {
        let outcome = attack.run(&arena).await;
        passed &= outcome.passed;
        println!(
            "| {} | {} | {} | {} | {} |",
            attack.name,
            attack.what,
            attack.before,
            outcome.figure,
            verdict(&outcome)
        );
    }
    for name in STUDIES.into_iter().filter(|name| options.is_full || is_chosen(name)) {
        println!("\n{name}\n");
        let outcome = match name {
            "study-setup" => studies::setup(&arena, options.calls.unwrap_or(10)).await?,
            "study-outages" => studies::outages(&arena, options.calls.unwrap_or(2)).await?,
            "overload" => sound::overload(&arena).await?,
            "lip-sync" => sound::lip_sync(&arena).await?,
            _ => studies::soak(&arena, options.minutes).await?,
        };
        passed &= outcome.passed;
        println!("\n{name}: {}: {}", outcome.figure, verdict(&outcome));
    }
    Ok(passed)
}

fn verdict(outcome: &Outcome) -> &'static str {
    if outcome.passed { "held" } else { "FAILED" }
}
