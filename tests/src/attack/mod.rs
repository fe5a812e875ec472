//! Attacks on the real program over loopback: a hostile peer, a lossy network, an abuser of the
//! rendezvous service and a rough hand on processes.
//!
//! Every attack runs the program as its users do, takes at most about 20 s and says in one figure
//! what the program did. The messages are written byte by byte from docs/TRANSPORT.md, so a fault
//! that the program's own code shares with its parser is still found.
//!
//! - [`Arena`] has the program, faces and folders, and starts calls.
//! - [`LossyPath`] is a network between two processes that loses, delays and repeats datagrams.
//! - [`HostilePeer`] is a guest on WebRTC that says whatever it is told to.
//! - [`Switchboard`] is the rendezvous service of both.
//! - [`attacks`] lists the attacks; [`studies`] has the long measurements.

mod arena;
mod bomb;
mod envelope;
mod guest_attacks;
mod lossy_path;
mod manners;
mod meeting;
mod network;
mod peer;
mod peer_attacks;
mod process;
pub mod sound;
mod sound_file;
pub mod studies;
mod switchboard;

use std::pin::Pin;

pub use arena::{Arena, LossyCall, State};
pub use lossy_path::{Conditions, LossyPath, Meddling, Traffic};
pub use peer::{Arrivals, HostilePeer};
pub use process::{Line, Process, Resources};
pub use switchboard::{Protocol, Switchboard};

/// What an attack found.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Measured figure, in a few words.
    pub figure: String,
    /// Whether the program met the criterion.
    pub passed: bool,
}

impl Outcome {
    fn new(passed: bool, figure: impl Into<String>) -> Self {
        Self { figure: figure.into(), passed }
    }
}

type Running<'a> = Pin<Box<dyn Future<Output = anyhow::Result<Outcome>> + 'a>>;

/// An attack on the program.
pub struct Attack {
    /// Name on the command line.
    pub name: &'static str,
    /// What is done, and the criterion.
    pub what: &'static str,
    /// Figure of the build of 2026-12-01, before the faults were mended.
    pub before: &'static str,
    run: for<'a> fn(&'a Arena) -> Running<'a>,
}

impl Attack {
    /// Runs the attack. An attack that cannot be carried out has failed.
    pub async fn run(&self, arena: &Arena) -> Outcome {
        match (self.run)(arena).await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::new(false, format!("{error:#}")),
        }
    }
}

/// Runs one attack on `binary` and returns what it found.
///
/// # Panics
/// If there is no attack of this name or the program does not start.
pub fn run_one(binary: &std::path::Path, name: &str) -> Outcome {
    let attack = attacks().into_iter().find(|attack| attack.name == name);
    let attack = attack.unwrap_or_else(|| panic!("there is no attack `{name}`"));
    let arena = Arena::new(binary).expect("the program starts");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime starts").block_on(attack.run(&arena))
}

/// Returns all attacks, in the order in which they are run.
pub fn attacks() -> Vec<Attack> {
    let mut all = network::attacks();
    all.extend(peer_attacks::attacks());
    all.extend(guest_attacks::attacks());
    all.extend(meeting::attacks());
    all.extend(manners::attacks());
    all
}
