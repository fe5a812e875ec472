//! What people hear: gaps on a busy machine, delay from mouth to ear, sound beside the face.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use types::Rate;

use super::arena::words;
use super::studies::{SETUP_LIMIT, number};
use super::{Arena, Conditions, LossyCall, Outcome, Process, sound_file};

/// Longest pause of sound that a busy machine may cause.
const MAX_PAUSE_MS: usize = 60;
/// Skew that people do not notice, milliseconds: sound early and late.
const MAX_EARLY_MS: f64 = 40.0;
const MAX_LATE_MS: f64 = 60.0;
/// Pitches of the voices of host and guest.
const PITCHES: [f32; 2] = [110.0, 190.0];

/// Files of one end of a call.
struct End {
    microphone: PathBuf,
    speaker: PathBuf,
    stats: PathBuf,
}

impl End {
    /// Writes the file that one end says.
    fn new(arena: &Arena, name: &str, voice: &[f32]) -> anyhow::Result<Self> {
        let path = |what: &str| arena.path(&format!("{name}-{what}"));
        let end =
            Self { microphone: path("said.wav"), speaker: path("heard.wav"), stats: path("stats") };
        sound_file::write(&end.microphone, voice)?;
        Ok(end)
    }

    fn options(&self, others: &str) -> Vec<OsString> {
        let mut options = words(others);
        let files = [
            ("--microphone", &self.microphone),
            ("--speaker", &self.speaker),
            ("--stats", &self.stats),
        ];
        for (option, path) in files {
            options.extend([option.into(), path.into()]);
        }
        options
    }
}

/// Lets a call end by itself, so that its files are complete.
async fn finish(mut call: LossyCall) -> anyhow::Result<()> {
    call.guest.wait_exit(Duration::from_mins(2)).await.context("the guest does not end")?;
    call.host.wait_exit(Duration::from_secs(30)).await.context("the host does not end")?;
    Ok(())
}

/// Runs a call of two tracking processes beside four busy loops for a minute.
///
/// # Errors
/// If the program does not start.
pub async fn overload(arena: &Arena) -> anyhow::Result<Outcome> {
    let voices = PITCHES.map(|pitch| sound_file::voice(pitch, 70));
    let ends =
        [End::new(arena, "busy-host", &voices[0])?, End::new(arena, "busy-guest", &voices[1])?];
    let options = "--source actor --duration 60s";
    let mut call = arena
        .call(
            Conditions::clean(Duration::from_millis(20)),
            10,
            &ends[0].options(options),
            &ends[1].options(options),
        )
        .await?;
    let mut busy = Vec::new();
    for _ in 0..4 {
        let loops = ["-c", "while :; do :; done"];
        busy.push(Process::start(Path::new("/bin/sh"), Path::new("/tmp"), loops, false)?);
    }
    if call.connected(SETUP_LIMIT).await.is_none() {
        return Ok(Outcome { passed: false, figure: "not connected".to_owned() });
    }
    finish(call).await?;
    drop(busy);
    let rows = std::fs::read_to_string(&ends[1].stats)?;
    let features: Vec<u64> = rows.lines().filter_map(|row| number(row, "features_in")).collect();
    let still = features.windows(2).filter(|pair| pair[0] == pair[1]).count();
    let per_second = match (features.get(10), features.last()) {
        (Some(first), Some(last)) => (last - first) as f64 / (features.len() - 11).max(1) as f64,
        _ => 0.0,
    };
    let mut pauses = Vec::new();
    for end in &ends {
        pauses.extend(sound_file::pauses_ms(&sound_file::read(&end.speaker)?));
    }
    let longest = pauses.iter().max().copied().unwrap_or(0);
    let n_long = pauses.iter().filter(|ms| **ms > MAX_PAUSE_MS).count();
    let figure = format!(
        "longest pause of sound {longest} ms, {n_long} over {MAX_PAUSE_MS} ms; {per_second:.1} features \
         received a second, {still} of {} seconds without one",
        features.len()
    );
    Ok(Outcome { passed: n_long == 0 && per_second >= 6.0 && still <= 3, figure })
}

/// Measures delay from mouth to ear and lip sync at every rate, for a minute each on a network without
/// delay and on a bad one.
///
/// # Errors
/// If the program does not start.
pub async fn lip_sync(arena: &Arena) -> anyhow::Result<Outcome> {
    let bad = Conditions {
        loss: 0.1,
        jitter: Duration::from_millis(60),
        ..Conditions::clean(Duration::from_millis(40))
    };
    println!(
        "| rate | network | mouth to ear | sound held, face held | sound after face: 5 %, median, 95 % |"
    );
    println!("| --- | --- | --- | --- | --- |");
    let (mut n_kept, mut n) = (0, 0);
    for (network, conditions) in [("quiet", Conditions::clean(Duration::ZERO)), ("bad", bad)] {
        for rate in Rate::ALL {
            let skew = one_lip_sync(arena, rate, network, conditions).await?;
            n += 1;
            n_kept += usize::from(
                skew.is_some_and(|(p5, p95)| p5 >= -MAX_EARLY_MS && p95 <= MAX_LATE_MS),
            );
        }
    }
    let figure = format!("{n_kept} of {n} within -{MAX_EARLY_MS:.0}..={MAX_LATE_MS:.0} ms");
    Ok(Outcome { passed: n_kept == n, figure })
}

/// Returns the 5th and 95th percentile of the skew of one call.
async fn one_lip_sync(
    arena: &Arena,
    rate: Rate,
    network: &str,
    conditions: Conditions,
) -> anyhow::Result<Option<(f64, f64)>> {
    let voices = PITCHES.map(|pitch| sound_file::voice(pitch, 70));
    let name = |end: &str| format!("{rate}-{network}-{end}");
    let ends =
        [End::new(arena, &name("host"), &voices[0])?, End::new(arena, &name("guest"), &voices[1])?];
    let stream = arena.long_stream(2)?;
    let options = |end: &End| {
        let mut options = end.options(&format!("--rate {rate} --duration 65s"));
        options.extend(arena.showing(&stream));
        options
    };
    let mut call = arena.call(conditions, 1, &options(&ends[0]), &options(&ends[1])).await?;
    if call.connected(SETUP_LIMIT).await.is_none() {
        return Ok(None);
    }
    finish(call).await?;
    let mut delays = Vec::new();
    for (said, end) in [(0, &ends[1]), (1, &ends[0])] {
        delays.extend(sound_file::delay_ms(&voices[said], &sound_file::read(&end.speaker)?));
    }
    // Each end starts its files a moment apart from the other; the mean over both directions does not
    // know that.
    let mouth_to_ear = delays.iter().sum::<f64>() / delays.len().max(1) as f64;
    let rows = std::fs::read_to_string(&ends[1].stats)?;
    let last = rows.lines().last().unwrap_or_default();
    let figure = |name: &str| decimal(last, name);
    let skew = [figure("lip_sync_p5_ms"), figure("lip_sync_ms"), figure("lip_sync_p95_ms")];
    let shown = skew.map(|ms| ms.map_or("-".to_owned(), |ms| format!("{ms:.0}"))).join(", ");
    println!(
        "| {rate} | {network} | {mouth_to_ear:.0} ms | {:.0}, {:.0} ms | {shown} ms |",
        figure("sound_delay_ms").unwrap_or_default(),
        figure("playout_delay_ms").unwrap_or_default(),
    );
    Ok(skew[0].zip(skew[2]))
}

/// Returns a number of a line of JSON.
fn decimal(row: &str, name: &str) -> Option<f64> {
    let rest = row.split_once(&format!("\"{name}\":"))?.1;
    rest.split([',', '}']).next()?.trim().parse().ok()
}
