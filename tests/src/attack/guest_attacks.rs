//! Attacks by others with the link: guests who were not let in, and whoever plays an end of the call.

use std::time::Duration;

use anyhow::Context;
use tokio::time::{Instant, sleep};
use transport::Role;

use super::arena::{BACK, CONNECTED, LOST, State, words};
use super::network::time_until_back;
use super::peer::{Answering, control};
use super::{
    Arena, Attack, Conditions, HostilePeer, LossyCall, Meddling, Outcome, Process, Switchboard,
};

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        Attack {
            name: "admission",
            what: "a guest that was not let in: no face, media state, features or chat for it",
            before: "messages of kinds [5, 1], 76 packets in 6 s",
            run: |arena| Box::pin(admission(arena)),
        },
        Attack {
            name: "fingerprint",
            what: "an answer with another fingerprint: the host says why and waits for another guest",
            before: "not told in 20 s",
            run: |arena| Box::pin(fingerprint(arena)),
        },
        Attack {
            name: "uninvited",
            what: "guests with another certificate and another version: the next one gets in",
            before: "exit 1 after the first",
            run: |arena| Box::pin(uninvited(arena)),
        },
        Attack {
            name: "lost-peer",
            what: "a guest knocks while the peer is silent: the peer comes back, nobody else gets in",
            before: "the peer lost its link to the guest",
            run: |arena| Box::pin(lost_peer(arena)),
        },
        Attack {
            name: "another-guest",
            what: "another guest gets in while the peer is silent: the host says who came",
            before: "told that the peer is back",
            run: |arena| Box::pin(another_guest(arena)),
        },
        Attack {
            name: "forged-leave",
            what: "goodbyes in the name of both ends: the call goes on, and comes back after an outage",
            before: "[Ended, Ended]",
            run: |arena| Box::pin(forged_leave(arena)),
        },
        Attack {
            name: "false-host",
            what: "another host in the seat of the lost one says goodbye: the guest waits, both come back",
            before: "[Lost, Ended]",
            run: |arena| Box::pin(false_host(arena)),
        },
    ]
}

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// Says how a process ended.
fn ending(process: &mut Process) -> String {
    process.exit().map_or("running".to_owned(), |status| match status.code() {
        Some(code) => format!("exit {code}"),
        None => "killed".to_owned(),
    })
}

/// Answers as a guest with another certificate than its own would.
fn with_forged_fingerprint(answer: &str) -> String {
    const LINE: &str = "a=fingerprint:sha-256 ";
    let Some(at) = answer.find(LINE).map(|at| at + LINE.len()) else { return answer.to_owned() };
    let other = if answer[at..].starts_with('0') { '1' } else { '0' };
    format!("{}{other}{}", &answer[..at], &answer[at + 1..])
}

/// Greets the host over a new link, and does not wait for its answer.
async fn knock(switchboard: Switchboard, link: &str, name: &[u8]) -> anyhow::Result<HostilePeer> {
    let mut peer = HostilePeer::answer(switchboard, link, &Answering::default()).await?;
    peer.wait_open().await?;
    peer.send_hello(name, false).await?;
    Ok(peer)
}

async fn admission(arena: &Arena) -> anyhow::Result<Outcome> {
    let switchboard = Switchboard::open(Role::Host).await?;
    let showing = arena.showing(&arena.stream_path());
    let (mut host, link) = arena.host_asking(Some(switchboard.address()), false, &showing).await?;
    let mut peer = knock(switchboard, &link, b"mallory").await?;
    let messages = peer.listen(seconds(6)).await;
    let allowed = [control::HELLO, control::ADMISSION, control::BYE];
    let mut kinds: Vec<u8> =
        messages.iter().filter_map(|message| message.first().copied()).collect();
    kinds.retain(|kind| !allowed.contains(kind));
    // Keep-alives are packets too, two every second.
    let packets = peer.arrivals().packets();
    let has_hello = messages.iter().any(|message| message.first() == Some(&control::HELLO));
    let ending = ending(&mut host);
    let figure = format!("messages of kinds {kinds:?}, {packets} packets in 6 s, {ending}");
    let passed = has_hello && kinds.is_empty() && packets <= 15 && ending == "running";
    Ok(Outcome::new(passed, figure))
}

async fn fingerprint(arena: &Arena) -> anyhow::Result<Outcome> {
    let answering = Answering { answer: &with_forged_fingerprint, ..Answering::default() };
    let switchboard = Switchboard::open(Role::Host).await?;
    let (mut host, link) = arena.host(Some(switchboard.address()), &[]).await?;
    let _peer = HostilePeer::answer(switchboard, &link, &answering).await?;
    let told = host.wait_for("in between", seconds(20)).await;
    sleep(seconds(1)).await;
    let ending = ending(&mut host);
    let figure = match &told {
        Some(line) => format!("told after {:.1} s, {ending}", line.at.as_secs_f64()),
        None => format!("not told in 20 s, {ending}"),
    };
    Ok(Outcome::new(told.is_some() && ending == "running", figure))
}

async fn uninvited(arena: &Arena) -> anyhow::Result<Outcome> {
    let switchboard = Switchboard::open(Role::Host).await?;
    let (mut host, link) = arena.host(Some(switchboard.address()), &[]).await?;
    let answering = Answering { answer: &with_forged_fingerprint, ..Answering::default() };
    let mut first = HostilePeer::answer(switchboard, &link, &answering).await?;
    let told = host.wait_for("in between", seconds(10)).await.is_some();
    let switchboard = first.release().context("no switchboard")?;
    let mut second = HostilePeer::answer(switchboard, &link, &Answering::default()).await?;
    second.wait_open().await?;
    second.send(&[control::HELLO, 99, 0, 0, b'e', b'v', b'e']).await?;
    let told_version = host.wait_for("another version", seconds(5)).await.is_some();
    let switchboard = second.release().context("no switchboard")?;
    let third = HostilePeer::join(switchboard, &link, &Answering::default(), b"bob").await;
    let is_in = third.is_ok() && host.wait_for(CONNECTED, seconds(5)).await.is_some();
    let n_told = usize::from(told) + usize::from(told_version);
    let figure = format!(
        "told {n_told} of 2 reasons, the third {}, {}",
        if is_in { "got in" } else { "did not get in" },
        ending(&mut host)
    );
    Ok(Outcome::new(n_told == 2 && is_in, figure))
}

/// A peer that was let in and has fallen silent, and the switchboard.
async fn silent_peer(
    host: &mut Process,
    switchboard: Switchboard,
    link: &str,
) -> anyhow::Result<(HostilePeer, Switchboard)> {
    let mut peer = HostilePeer::join(switchboard, link, &Answering::default(), b"bob").await?;
    host.wait_for(LOST, seconds(10)).await.context("the peer is not lost")?;
    let switchboard = peer.release().context("no switchboard")?;
    Ok((peer, switchboard))
}

async fn lost_peer(arena: &Arena) -> anyhow::Result<Outcome> {
    let switchboard = Switchboard::open(Role::Host).await?;
    let (mut host, link) = arena.host_asking(Some(switchboard.address()), false, &[]).await?;
    host.write_line("y");
    let (peer, switchboard) = silent_peer(&mut host, switchboard, &link).await?;
    let mut guest = knock(switchboard, &link, b"mallory").await?;
    host.wait_for("mallory asks to join", seconds(10)).await.context("nobody is asked")?;
    // The peer is heard again over the link that it has had all the time.
    let until = Instant::now() + seconds(5);
    while host.count(BACK) == 0 && Instant::now() < until {
        let _ = peer.send(&[&[control::CHAT][..], b"still here"].concat()).await;
        sleep(Duration::from_millis(200)).await;
    }
    let is_back = host.count(BACK) == 1 && host.line_with("still here").is_some();
    let is_withdrawn = host.wait_for("does not ask any more", seconds(2)).await.is_some();
    // The user has answered too late.
    host.write_line("y");
    let messages = guest.listen(seconds(2)).await;
    let is_in = messages.iter().any(|message| message[..] == [control::ADMISSION, 1]);
    let figure = format!(
        "peer {}, question {}, guest {}, {}",
        if is_back { "back" } else { "not back" },
        if is_withdrawn { "withdrawn" } else { "open" },
        if is_in { "let in" } else { "not let in" },
        ending(&mut host)
    );
    Ok(Outcome::new(is_back && is_withdrawn && !is_in, figure))
}

async fn another_guest(arena: &Arena) -> anyhow::Result<Outcome> {
    let switchboard = Switchboard::open(Role::Host).await?;
    let (mut host, link) = arena.host_asking(Some(switchboard.address()), false, &[]).await?;
    host.write_line("y");
    let (_peer, switchboard) = silent_peer(&mut host, switchboard, &link).await?;
    let _guest = knock(switchboard, &link, b"mallory").await?;
    host.wait_for("mallory asks to join", seconds(10)).await.context("nobody is asked")?;
    host.write_line("y");
    let is_named = host.wait_for("connected to mallory", seconds(5)).await.is_some();
    let n_back = host.count(BACK);
    let figure = format!(
        "{}, {n_back} times \"back\"",
        if is_named { "told who came" } else { "not told who came" }
    );
    Ok(Outcome::new(is_named && n_back == 0, figure))
}

/// A call between two processes that the attacker has made possible.
async fn connected_call(arena: &Arena) -> anyhow::Result<LossyCall> {
    let options = words("--no-video");
    let conditions = Conditions::clean(Duration::from_millis(40));
    let mut call = arena.call(conditions, 5, &options, &options).await?;
    call.connected(seconds(20)).await.context("not connected")?;
    Ok(call)
}

/// Ends an outage and says how the call came back.
async fn end_outage(call: &mut LossyCall) -> Outcome {
    call.path.set(Conditions::clean(Duration::from_millis(40)));
    match time_until_back(call, seconds(25)).await {
        Some(time) => Outcome::new(true, format!("back after {:.1} s", time.as_secs_f64())),
        None => Outcome::new(false, format!("{:?}", call.states())),
    }
}

async fn forged_leave(arena: &Arena) -> anyhow::Result<Outcome> {
    let mut call = connected_call(arena).await?;
    call.path.meddle(Meddling::ForgesLeaves);
    sleep(seconds(3)).await;
    let states = call.states();
    if states != [State::Up; 2] {
        return Ok(Outcome::new(false, format!("{states:?}")));
    }
    call.path.set(Conditions { loss: 1.0, ..Conditions::clean(Duration::from_millis(40)) });
    call.guest.wait_for(LOST, seconds(10)).await.context("nobody is lost")?;
    sleep(seconds(3)).await;
    call.path.meddle(Meddling::No);
    Ok(end_outage(&mut call).await)
}

async fn false_host(arena: &Arena) -> anyhow::Result<Outcome> {
    let mut call = connected_call(arena).await?;
    call.path.meddle(Meddling::PlaysHost);
    call.path.set(Conditions { loss: 1.0, ..Conditions::clean(Duration::from_millis(40)) });
    call.guest.wait_for(LOST, seconds(10)).await.context("the host is not lost")?;
    sleep(seconds(4)).await;
    call.path.meddle(Meddling::No);
    Ok(end_outage(&mut call).await)
}
