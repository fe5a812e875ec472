//! Load study of the rendezvous service: memory of each socket, joins per second, and honest pairs
//! beside hostile clients. The service runs in a process of its own, from the given binary.
//!
//! `cargo run --release -p tests --bin rendezvous-load -- target/release/feathercall [1]`
//!
//! The last argument is the version of the protocol that the binary speaks, 2 by default. Clients
//! come from many addresses of 127.0.0.0/8, which Linux takes without configuration; about 11,000
//! descriptors are needed in each of the two processes.
#![expect(clippy::disallowed_methods, reason = "a load study takes real time")]

mod client;
mod hostile;
mod service;

use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use futures_util::future::join_all;
use transport::{Role, RoomKey, Secret};

use client::{Client, Meeting};
use service::ServiceProcess;

/// Sockets of the memory study.
const N_SOCKETS: u32 = 10_000;
/// Joins per second, and for how many seconds.
const JOINS_PER_SECOND: u32 = 1000;
const JOIN_SECONDS: u32 = 10;
/// Honest pairs, and hostile clients beside them.
const N_PAIRS: u32 = 100;
const N_HOSTILE: u32 = 1000;
/// Messages each way between the two of a pair, and the interval between them.
const N_MESSAGES: u32 = 30;
const MESSAGE_INTERVAL: Duration = Duration::from_millis(500);
/// Size of a message: about that of a sealed offer.
const MESSAGE_BYTES: usize = 3000;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let binary = args.next().context("name the binary: target/release/feathercall")?;
    let version = args.next().map_or(Ok(2), |text| text.parse())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("| measure | value |\n| --- | --- |");
    let start = |n_addresses| {
        let service = ServiceProcess::start(&binary)?;
        let meeting = Meeting { service: service.address, version, n_addresses };
        anyhow::Ok((service, meeting))
    };
    let (service, meeting) = start(200)?;
    runtime.block_on(study_memory(&service, meeting))?;
    drop(service);
    let (service, meeting) = start(1000)?;
    runtime.block_on(study_joins(&service, meeting))?;
    drop(service);
    for n_hostile in [0, N_HOSTILE] {
        let (service, meeting) = start(50)?;
        runtime.block_on(study_pairs(&service, meeting, n_hostile))?;
    }
    Ok(())
}

/// Returns the key of the room of this number.
fn key(number: u32) -> RoomKey {
    let mut secret = [0; 16];
    secret[..4].copy_from_slice(&number.to_le_bytes());
    Secret::new(secret).room_key()
}

fn role(number: u32) -> Role {
    if number.is_multiple_of(2) { Role::Host } else { Role::Guest }
}

fn report(measure: &str, value: impl std::fmt::Display) {
    println!("| {measure} | {value} |");
}

/// Fills rooms with pairs, sends a message through each seat, and lets all leave.
async fn study_memory(service: &ServiceProcess, meeting: Meeting) -> anyhow::Result<()> {
    let before = service.resident_bytes()?;
    let mut clients = Vec::new();
    for number in 0..N_SOCKETS {
        clients.push(Client::join(meeting, number, &key(number / 2), role(number)).await?);
    }
    let per_socket =
        |now: u64| format!("{:.1} kB", (now as f64 - before as f64) / f64::from(N_SOCKETS) / 1e3);
    report("resident memory of the service at its start", format!("{:.1} MB", before as f64 / 1e6));
    report("memory of each of 10,000 silent sockets", per_socket(service.resident_bytes()?));
    let message = Bytes::from(vec![7; MESSAGE_BYTES]);
    for client in &mut clients {
        client.send(message.clone()).await?;
    }
    for client in &mut clients {
        client.receive().await.context("a message is lost")?;
    }
    report("the same after each has sent and received 3 kB", per_socket(service.resident_bytes()?));
    drop(clients);
    for seconds in [1, 10] {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let kept = service.resident_bytes()?.saturating_sub(before);
        report(&format!("memory kept {seconds} s later"), format!("{:.1} MB", kept as f64 / 1e6));
    }
    Ok(())
}

/// Joins and leaves at a steady rate.
async fn study_joins(service: &ServiceProcess, meeting: Meeting) -> anyhow::Result<()> {
    let (begin, cpu) = (Instant::now(), service.cpu_seconds()?);
    let interval = Duration::from_secs(1) / JOINS_PER_SECOND;
    let joins = (0..JOINS_PER_SECOND * JOIN_SECONDS).map(|number| async move {
        tokio::time::sleep_until((begin + interval * number).into()).await;
        let begin = Instant::now();
        let mut client = Client::join(meeting, number, &key(number), Role::Host).await.ok()?;
        // The service answers after the join.
        client.check().await?;
        Some(begin.elapsed())
    });
    let times: Vec<Duration> = join_all(joins).await.into_iter().flatten().collect();
    let seconds = begin.elapsed().as_secs_f64();
    report("joins per second", format!("{:.0}", times.len() as f64 / seconds));
    report("time of a join, median and 99th percentile", percentiles(times));
    let busy = (service.cpu_seconds()? - cpu) / seconds;
    report("processor time of the service", format!("{:.0} % of a core", busy * 100.0));
    Ok(())
}

/// Lets honest pairs exchange messages beside hostile clients.
async fn study_pairs(
    service: &ServiceProcess,
    meeting: Meeting,
    n_hostile: u32,
) -> anyhow::Result<()> {
    let hostile = hostile::start(meeting, n_hostile, N_PAIRS);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let cpu = service.cpu_seconds()?;
    let begin = Instant::now();
    let pairs = join_all((0..N_PAIRS).map(|number| exchange(meeting, number))).await;
    let whole = pairs.iter().filter(|times| times.len() == 2 * N_MESSAGES as usize).count();
    let busy = (service.cpu_seconds()? - cpu) / begin.elapsed().as_secs_f64();
    let among = format!("beside {n_hostile} hostile clients");
    report(&format!("of {N_PAIRS} pairs {among}, unharmed"), whole);
    let times = pairs.into_iter().flatten().collect();
    report(&format!("time of a message {among}, median and 99th percentile"), percentiles(times));
    report(
        &format!("processor time of the service {among}"),
        format!("{:.0} % of a core", busy * 100.0),
    );
    report(
        &format!("resident memory {among}"),
        format!("{:.1} MB", service.resident_bytes()? as f64 / 1e6),
    );
    for attempt in hostile {
        attempt.abort();
    }
    Ok(())
}

/// Sends messages both ways between the two of a pair. Returns how long each was on its way.
async fn exchange(meeting: Meeting, number: u32) -> Vec<Duration> {
    let mut times = Vec::new();
    let room = key(number);
    // As in a call: the host waits, and the guest comes a little later.
    let Ok(mut host) = Client::join(meeting, number, &room, Role::Host).await else { return times };
    tokio::time::sleep(Duration::from_secs(3)).await;
    let guest = Client::join(meeting, number + N_PAIRS, &room, Role::Guest).await;
    let Ok(mut guest) = guest else { return times };
    for sequence in 0..N_MESSAGES {
        let mut message = vec![0; MESSAGE_BYTES];
        message[..4].copy_from_slice(&sequence.to_le_bytes());
        let message = Bytes::from(message);
        // One message each way: from the guest, then to the guest.
        for _ in 0..2 {
            let begin = Instant::now();
            if let Some(received) = guest.send_and_hear(&mut host, message.clone()).await
                && received == message
            {
                times.push(begin.elapsed());
            }
            std::mem::swap(&mut guest, &mut host);
        }
        tokio::time::sleep(MESSAGE_INTERVAL).await;
    }
    times
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: f64| {
        let index = (times.len().saturating_sub(1) as f64 * share) as usize;
        times
            .get(index)
            .map_or("none".to_owned(), |time| format!("{:.1} ms", time.as_secs_f64() * 1e3))
    };
    format!("{}, {}", at(0.5), at(0.99))
}
