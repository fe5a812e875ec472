//! Long measurements over the lossy network: how calls are set up and come back, and whether a call
//! of a quarter of an hour keeps its size. Each prints a table in Markdown.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::{Instant, sleep};

use super::arena::{State, words};
use super::network::time_until_back;
use super::{Arena, Conditions, Outcome, Resources, sound_file};

/// Calls that run at the same time. They wait most of the time.
const CALLS_AT_ONCE: usize = 8;
/// Time in which the datagrams of a new call are counted.
const COUNTED: Duration = Duration::from_secs(30);
/// Longest time to wait for a call to be connected.
pub(super) const SETUP_LIMIT: Duration = Duration::from_mins(1);
/// Longest time to wait after an outage: a lost call ends after 60 s.
const BACK_LIMIT: Duration = Duration::from_secs(75);
/// Shares of datagrams lost.
const LOSSES: [f32; 4] = [0.0, 0.1, 0.3, 0.5];
/// Round-trip times in milliseconds.
const ROUND_TRIPS_MS: [u64; 5] = [40, 150, 300, 600, 900];
/// Lengths of outages in seconds.
const OUTAGES_S: [u64; 5] = [2, 5, 9, 15, 30];

/// Result of setting up one call.
#[derive(Clone, Copy, Debug)]
struct Setup {
    loss: f32,
    round_trip_ms: u64,
    connected: Option<Duration>,
    datagrams: u64,
}

/// Sets up calls at every combination of loss and round-trip time, `calls` of them at each.
///
/// # Errors
/// If the program does not start.
pub async fn setup(arena: &Arena, calls: u64) -> anyhow::Result<Outcome> {
    let mut plan = Vec::new();
    for loss in LOSSES {
        for round_trip_ms in ROUND_TRIPS_MS {
            plan.extend((0..calls).map(|seed| (loss, round_trip_ms, seed)));
        }
    }
    let results: Vec<anyhow::Result<Setup>> = futures_util::stream::iter(plan)
        .map(|(loss, round_trip_ms, seed)| set_up(arena, loss, round_trip_ms, seed))
        .buffer_unordered(CALLS_AT_ONCE)
        .collect()
        .await;
    let results = results.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let clean: Vec<u64> = results
        .iter()
        .filter(|setup| setup.loss == 0.0 && setup.round_trip_ms == ROUND_TRIPS_MS[0])
        .map(|setup| setup.datagrams)
        .collect();
    let clean = percentile(&clean, 0.5).unwrap_or(1).max(1);
    println!("| loss | round trip | connected | median | p95 | datagrams in 30 s, median | most |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let (mut n_connected, mut worst_ratio) = (0, 0.0_f64);
    for loss in LOSSES {
        for round_trip_ms in ROUND_TRIPS_MS {
            let these: Vec<&Setup> = results
                .iter()
                .filter(|setup| setup.loss == loss && setup.round_trip_ms == round_trip_ms)
                .collect();
            let times: Vec<Duration> = these.iter().filter_map(|setup| setup.connected).collect();
            let datagrams: Vec<u64> = these.iter().map(|setup| setup.datagrams).collect();
            n_connected += times.len();
            let most = datagrams.iter().max().copied().unwrap_or(0);
            worst_ratio = worst_ratio.max(most as f64 / clean as f64);
            println!(
                "| {:.0} % | {round_trip_ms} ms | {} of {} | {} | {} | {} | {most} |",
                loss * 100.0,
                times.len(),
                these.len(),
                shown(percentile(&times, 0.5)),
                shown(percentile(&times, 0.95)),
                percentile(&datagrams, 0.5).unwrap_or(0),
            );
        }
    }
    let figure = format!(
        "{n_connected} of {} connected, at most {worst_ratio:.1} times the datagrams of a clean call",
        results.len()
    );
    // At half the datagrams lost, one call in a hundred may need more than a minute.
    let is_set_up = n_connected * 100 >= results.len() * 99;
    Ok(Outcome { passed: is_set_up && worst_ratio <= 3.0, figure })
}

async fn set_up(arena: &Arena, loss: f32, round_trip_ms: u64, seed: u64) -> anyhow::Result<Setup> {
    let conditions = Conditions { loss, ..Conditions::clean(Duration::from_millis(round_trip_ms)) };
    let seed = seed * 1000 + round_trip_ms + (loss * 10.0) as u64;
    let showing = arena.showing(&arena.still_path());
    let mut call = arena.call(conditions, seed, &showing, &showing).await?;
    let begin = Instant::now();
    let mut counted = None;
    let mut connected = None;
    while begin.elapsed() < COUNTED || (connected.is_none() && begin.elapsed() < SETUP_LIMIT) {
        if connected.is_none() {
            connected = call.connected(Duration::ZERO).await;
        }
        if begin.elapsed() >= COUNTED {
            counted.get_or_insert_with(|| call.path.traffic().datagrams());
        }
        if call.states().contains(&State::Ended) {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    let datagrams = counted.unwrap_or_else(|| call.path.traffic().datagrams());
    Ok(Setup { loss, round_trip_ms, connected, datagrams })
}

/// Result of one outage.
#[derive(Clone, Copy, Debug)]
struct Outage {
    seconds: u64,
    round_trip_ms: u64,
    /// Time from the end of the outage until both ends were up.
    back: Option<Duration>,
    states: [State; 2],
}

/// Interrupts calls for 2 to 30 s at several round-trip times, `calls` at each combination.
///
/// # Errors
/// If the program does not start.
pub async fn outages(arena: &Arena, calls: u64) -> anyhow::Result<Outcome> {
    let mut plan = Vec::new();
    for seconds in OUTAGES_S {
        for round_trip_ms in ROUND_TRIPS_MS {
            plan.extend((0..calls).map(|seed| (seconds, round_trip_ms, seed)));
        }
    }
    let results: Vec<anyhow::Result<Outage>> = futures_util::stream::iter(plan)
        .map(|(seconds, round_trip_ms, seed)| interrupt(arena, seconds, round_trip_ms, seed))
        .buffer_unordered(CALLS_AT_ONCE)
        .collect()
        .await;
    let results = results.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    println!("| outage | calls | back | median | slowest | ended | neither up nor ended |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let (mut n_back, mut n_undecided) = (0, 0);
    for seconds in OUTAGES_S {
        let these: Vec<&Outage> = results.iter().filter(|r| r.seconds == seconds).collect();
        let times: Vec<Duration> = these.iter().filter_map(|outage| outage.back).collect();
        let is_ended = |outage: &&&Outage| outage.states == [State::Ended; 2];
        let ended = these.iter().filter(is_ended).count();
        let undecided = these.len() - times.len() - ended;
        n_back += times.len();
        n_undecided += undecided;
        println!(
            "| {seconds} s | {} | {} | {} | {} | {ended} | {undecided} |",
            these.len(),
            times.len(),
            shown(percentile(&times, 0.5)),
            shown(percentile(&times, 1.0)),
        );
    }
    for outage in results.iter().filter(|outage| outage.back.is_none()) {
        println!(
            "not back: {} s at {} ms: {:?}",
            outage.seconds, outage.round_trip_ms, outage.states
        );
    }
    let figure =
        format!("{n_back} of {} came back, {n_undecided} neither up nor ended", results.len());
    Ok(Outcome { passed: n_undecided == 0 && n_back == results.len(), figure })
}

async fn interrupt(
    arena: &Arena,
    seconds: u64,
    round_trip_ms: u64,
    seed: u64,
) -> anyhow::Result<Outage> {
    let conditions = Conditions::clean(Duration::from_millis(round_trip_ms));
    let options = words("--no-video");
    let mut call = arena.call(conditions, seed * 100 + seconds, &options, &options).await?;
    let connected = call.connected(SETUP_LIMIT).await;
    let mut outage = Outage { seconds, round_trip_ms, back: None, states: call.states() };
    if connected.is_none() {
        return Ok(outage);
    }
    sleep(Duration::from_secs(3)).await;
    call.path.set_outage(true);
    sleep(Duration::from_secs(seconds)).await;
    call.path.set_outage(false);
    outage.back = time_until_back(&mut call, BACK_LIMIT).await;
    outage.states = call.states();
    Ok(outage)
}

/// Holds a call for some minutes and samples what both processes hold.
///
/// # Errors
/// If the program does not start.
pub async fn soak(arena: &Arena, minutes: u64) -> anyhow::Result<Outcome> {
    let stream = arena.long_stream(minutes + 1)?;
    let mut options = words("--speaker none --microphone");
    let voice = arena.path("soak.wav");
    sound_file::write(&voice, &sound_file::voice(120.0, 60 * (minutes as usize + 1)))?;
    options.push(voice.into());
    options.extend(arena.showing(&stream));
    let conditions = Conditions {
        loss: 0.02,
        jitter: Duration::from_millis(15),
        duplicates: 0.01,
        ..Conditions::clean(Duration::from_millis(60))
    };
    let mut call = arena.call(conditions, 9, &options, &options).await?;
    if call.connected(SETUP_LIMIT).await.is_none() {
        return Ok(Outcome { passed: false, figure: "not connected".to_owned() });
    }
    println!("| minute | host: MB, threads, descriptors | guest |");
    println!("| --- | --- | --- |");
    let mut samples: Vec<[Resources; 2]> = Vec::new();
    for minute in 1..=minutes {
        sleep(Duration::from_mins(1)).await;
        let sample = [call.host.resources(), call.guest.resources()];
        println!("| {minute} | {} | {} |", held(&sample[0]), held(&sample[1]));
        samples.push(sample);
    }
    let alive = call.states() == [State::Up; 2];
    // The first minute has the start in it.
    let (first, last) = (samples[samples.len().min(2) - 1], samples[samples.len() - 1]);
    let grown = (0..2)
        .map(|end| last[end].resident_kib.saturating_sub(first[end].resident_kib) / 1024)
        .max()
        .unwrap_or(0);
    let is_flat = (0..2).all(|end| {
        last[end].threads <= first[end].threads && last[end].descriptors <= first[end].descriptors
    });
    let figure = format!(
        "{minutes} minutes: {grown} MB more, threads and descriptors {}, {}",
        if is_flat { "flat" } else { "grown" },
        if alive { "up" } else { "not up" },
    );
    Ok(Outcome { passed: alive && is_flat && grown <= 5, figure })
}

fn held(resources: &Resources) -> String {
    format!(
        "{:.1}, {}, {}",
        resources.resident_kib as f64 / 1024.0,
        resources.threads,
        resources.descriptors
    )
}

/// Returns an integer of a line of JSON.
pub(super) fn number(row: &str, name: &str) -> Option<u64> {
    let rest = row.split_once(&format!("\"{name}\":"))?.1;
    let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// Returns the smallest value that is at least as large as this share of all values.
fn percentile<T: Copy + Ord>(values: &[T], share: f64) -> Option<T> {
    let mut sorted = values.to_vec();
    sorted.sort();
    let at = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied()
}

fn shown(time: Option<Duration>) -> String {
    time.map_or("-".to_owned(), |time| format!("{:.1} s", time.as_secs_f64()))
}
