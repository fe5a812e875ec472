//! Attacks by the network: loss, long round trips, outages, meaningless datagrams.

use std::time::Duration;

use tokio::time::sleep;

use super::arena::{BACK, FACE, LOST, State, words};
use super::{Arena, Attack, Conditions, LossyCall, Outcome};

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        Attack {
            name: "hello-storm",
            what: "two faces, 0.9 s round trip, 10 % loss: both arrive, then at most 60 datagrams a second",
            before: "not connected in 30 s",
            run: |arena| Box::pin(hello_storm(arena)),
        },
        Attack {
            name: "setup",
            what: "6 calls at 30 % loss, 100 ms: all connected within 30 s",
            before: "5 of 6 connected, the last after 23.2 s",
            run: |arena| Box::pin(setup(arena)),
        },
        Attack {
            name: "rejoin",
            what: "9 s outage at 0.9 s round trip: both back within 15 s",
            before: "both lost for ever (watched for 75 s)",
            run: |arena| Box::pin(rejoin(arena)),
        },
        Attack {
            name: "junk-is-no-life",
            what: "datagrams of a peer replaced by junk: both say within 10 s that it is lost",
            before: "0 of 2 noticed",
            run: |arena| Box::pin(junk_is_no_life(arena)),
        },
    ]
}

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

async fn hello_storm(arena: &Arena) -> anyhow::Result<Outcome> {
    let showing = arena.showing(&arena.still_path());
    let conditions = Conditions { loss: 0.1, ..Conditions::clean(millis(900)) };
    let mut call = arena.call(conditions, 1, &showing, &showing).await?;
    if call.connected(seconds(30)).await.is_none() {
        return Ok(Outcome::new(false, "not connected in 30 s"));
    }
    // The network was bad only while the call was set up.
    call.path.set(Conditions::clean(millis(900)));
    let faces = [
        call.guest.wait_for(FACE, seconds(45)).await.is_some(),
        call.host.wait_for(FACE, seconds(5)).await.is_some(),
    ];
    let before = call.path.traffic().datagrams();
    sleep(seconds(5)).await;
    let per_second = (call.path.traffic().datagrams() - before) / 5;
    let n_faces = faces.into_iter().filter(|has_arrived| *has_arrived).count();
    let figure = format!("{n_faces} of 2 faces, then {per_second} datagrams/s");
    Ok(Outcome::new(n_faces == 2 && per_second <= 60, figure))
}

async fn setup(arena: &Arena) -> anyhow::Result<Outcome> {
    let conditions = Conditions { loss: 0.3, ..Conditions::clean(millis(100)) };
    let (mut calls, mut connected) = (Vec::new(), Vec::new());
    for seed in 0..6 {
        let options = words("--no-video");
        calls.push(arena.call(conditions, seed, &options, &options).await?);
    }
    for call in &mut calls {
        let left = seconds(30).saturating_sub(call.guest.age()).max(millis(100));
        connected.extend(call.connected(left).await);
    }
    connected.sort();
    let worst = connected.last().map_or(0.0, Duration::as_secs_f64);
    let figure = format!("{} of 6 connected, the last after {worst:.1} s", connected.len());
    Ok(Outcome::new(connected.len() == 6, figure))
}

async fn rejoin(arena: &Arena) -> anyhow::Result<Outcome> {
    let options = words("--no-video");
    let mut call = arena.call(Conditions::clean(millis(900)), 3, &options, &options).await?;
    if call.connected(seconds(30)).await.is_none() {
        return Ok(Outcome::new(false, "not connected"));
    }
    sleep(seconds(2)).await;
    call.path.set_outage(true);
    sleep(seconds(9)).await;
    call.path.set_outage(false);
    let back = time_until_back(&mut call, seconds(40)).await;
    Ok(match back {
        Some(time) => {
            let figure = format!("back after {:.1} s", time.as_secs_f64());
            Outcome::new(time <= seconds(15), figure)
        }
        None => Outcome::new(false, format!("after 40 s: {:?}", call.states())),
    })
}

/// Waits until both ends are up again after an outage that has just ended, and stay so for a
/// moment. Returns the time from its end; `None` if that takes longer than `limit`.
pub(super) async fn time_until_back(call: &mut LossyCall, limit: Duration) -> Option<Duration> {
    let begin = tokio::time::Instant::now();
    let mut up_since = None;
    while begin.elapsed() < limit {
        if call.states() == [State::Up; 2] {
            let since = *up_since.get_or_insert_with(|| begin.elapsed());
            if begin.elapsed() >= since + seconds(3) {
                return Some(since);
            }
        } else {
            up_since = None;
        }
        sleep(millis(50)).await;
    }
    None
}

async fn junk_is_no_life(arena: &Arena) -> anyhow::Result<Outcome> {
    let options = words("--no-video");
    let mut call = arena.call(Conditions::clean(millis(40)), 4, &options, &options).await?;
    if call.connected(seconds(20)).await.is_none() {
        return Ok(Outcome::new(false, "not connected"));
    }
    call.path.set_junk(true);
    call.path.set_outage(true);
    let lost = [
        call.host.wait_for(LOST, seconds(10)).await.is_some(),
        call.guest.wait_for(LOST, seconds(1)).await.is_some(),
    ];
    let n_lost = lost.into_iter().filter(|is_lost| *is_lost).count();
    let n_back = call.host.count(BACK) + call.guest.count(BACK);
    let figure = format!("{n_lost} of 2 noticed, {n_back} times \"back\"");
    Ok(Outcome::new(n_lost == 2 && n_back == 0, figure))
}
