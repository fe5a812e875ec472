//! What all attacks need: the program, a face and a stream for it, folders, and calls between two
//! processes.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use codec::{Encoder, Profile, Stream};
use face::FaceFile;
use transport::{Invite, Secret};

use super::lossy_path::{Conditions, LossyPath};
use super::process::Process;
use super::switchboard::Protocol;

/// How long a process may take to print its link, on a busy machine.
pub(super) const START_LIMIT: Duration = Duration::from_secs(30);
/// Line that a process prints when the peers are connected.
pub(super) const CONNECTED: &str = "connected";
/// Line that a process prints when the peer is lost.
pub(super) const LOST: &str = "connection lost";
/// Line that a process prints when a lost peer is back.
pub(super) const BACK: &str = "the peer is back";
/// Line that a process prints when it has all of the peer's face.
pub(super) const FACE: &str = "received the peer's face";

/// The program under attack and its surroundings.
pub struct Arena {
    binary: PathBuf,
    folder: tempfile::TempDir,
    face: FaceFile,
    profile: Profile,
    help: String,
}

impl Arena {
    /// Prepares attacks on `binary`.
    ///
    /// # Errors
    /// If the program does not start or a file cannot be written.
    pub fn new(binary: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let help = std::process::Command::new(binary)
            .args(["call", "--help"])
            .output()
            .with_context(|| format!("cannot run {}", binary.display()))?;
        let help = String::from_utf8_lossy(&help.stdout).into_owned();
        let bytes = std::fs::read(Self::face_path())?;
        let face = FaceFile::parse(&bytes)?;
        let profile = Profile::parse(&face.codec_profile)?;
        let arena = Self { binary: binary.to_owned(), folder, face, profile, help };
        let features = crate::actor::features();
        std::fs::write(arena.stream_path(), arena.stream(&features).to_bytes())?;
        std::fs::write(arena.still_path(), arena.stream(&features[..1]).to_bytes())?;
        Ok(arena)
    }

    /// Encodes features for the face of the actor.
    fn stream(&self, features: &[types::Feature]) -> Stream {
        let mut encoder = Encoder::new(self.profile.clone());
        let last = features.len() - 1;
        let units = features.iter().enumerate().filter_map(|(i, feature)| {
            let unit = encoder.push(feature, i == last)?;
            encoder.acknowledge(unit.number);
            Some((unit.time, unit.unit))
        });
        let hash = self.face.content_hash();
        Stream { face: std::array::from_fn(|i| hash[i]), units: units.collect() }
    }

    /// Returns the program under attack.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Returns the face of the actor, with its private part.
    pub fn face(&self) -> &FaceFile {
        &self.face
    }

    /// Returns the path of that face.
    pub fn face_path() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/demo.face")
    }

    /// Returns the path of a stream of half a minute of the actor: a source that costs no tracking.
    pub fn stream_path(&self) -> PathBuf {
        self.folder.path().join("actor.fcs")
    }

    /// Returns the path of a stream of one unit: a source that has ended at once.
    pub fn still_path(&self) -> PathBuf {
        self.folder.path().join("still.fcs")
    }

    /// Writes a stream of some minutes, the actor to and fro, and returns its path.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn long_stream(&self, minutes: u64) -> anyhow::Result<PathBuf> {
        let once = crate::actor::features();
        let there_and_back = once.iter().chain(once.iter().rev()).cycle();
        let features: Vec<types::Feature> = there_and_back
            .zip(0..minutes * 60 * 25)
            .map(|(feature, i)| types::Feature {
                time: types::MediaTime::of_frame(i, 25),
                ..*feature
            })
            .collect();
        let path = self.path("long.fcs");
        std::fs::write(&path, self.stream(&features).to_bytes())?;
        Ok(path)
    }

    /// Returns a path for a new file.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns whether the program has an option.
    pub fn has_option(&self, option: &str) -> bool {
        self.help.contains(option)
    }

    /// Returns whether hosts are asked before a guest is let in.
    pub fn has_admission(&self) -> bool {
        self.has_option("--auto-admit")
    }

    /// Returns the version of the protocol that the program speaks.
    pub fn protocol(&self) -> Protocol {
        if self.has_option("--relay-only") { Protocol::V3 } else { Protocol::V1 }
    }

    /// Starts the program.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(&self, arguments: &[OsString]) -> anyhow::Result<Process> {
        self.start_with_input(arguments, false)
    }

    fn start_with_input(&self, arguments: &[OsString], has_input: bool) -> anyhow::Result<Process> {
        Process::start(&self.binary, self.folder.path(), arguments, has_input)
            .with_context(|| format!("cannot run {}", self.binary.display()))
    }

    /// Starts a host without a window and returns it with its link.
    ///
    /// # Errors
    /// If it prints no link.
    pub async fn host(
        &self,
        rendezvous: Option<SocketAddr>,
        options: &[OsString],
    ) -> anyhow::Result<(Process, String)> {
        self.host_asking(rendezvous, self.has_admission(), options).await
    }

    /// Starts a host that lets guests in by itself, or asks, and is answered
    /// with [`Process::write_line`].
    ///
    /// # Errors
    /// If it prints no link.
    pub async fn host_asking(
        &self,
        rendezvous: Option<SocketAddr>,
        auto_admit: bool,
        options: &[OsString],
    ) -> anyhow::Result<(Process, String)> {
        let mut arguments = words("call --headless");
        arguments.extend(sound_options(options));
        if let Some(address) = rendezvous {
            arguments.extend(words(&format!("--rendezvous {address}")));
        }
        if auto_admit {
            arguments.extend(words("--auto-admit"));
        }
        arguments.extend_from_slice(options);
        let mut host = self.start_with_input(&arguments, !auto_admit)?;
        let line = host.wait_for("feathercall://", START_LIMIT).await.with_context(|| {
            format!("the host prints no link: {}", String::from_utf8_lossy(&host.raw()))
        })?;
        let link = line.text.split_whitespace().find(|word| word.starts_with("feathercall://"));
        Ok((host, link.unwrap_or_default().to_owned()))
    }

    /// Starts a guest without a window.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn guest(&self, link: &str, options: &[OsString]) -> anyhow::Result<Process> {
        let mut arguments = words("join");
        arguments.push(link.into());
        arguments.extend(words("--headless"));
        arguments.extend(sound_options(options));
        arguments.extend_from_slice(options);
        self.start(&arguments)
    }

    /// Returns options with which a process shows the face of the actor without tracking anything.
    pub fn showing(&self, stream: &Path) -> Vec<OsString> {
        let [face, source] = ["--face", "--source"].map(OsString::from);
        vec![face, Self::face_path().into(), source, stream.into()]
    }

    /// Starts a call between two processes over a network of ours.
    ///
    /// # Errors
    /// If one of them does not start.
    pub async fn call(
        &self,
        conditions: Conditions,
        seed: u64,
        host_options: &[OsString],
        guest_options: &[OsString],
    ) -> anyhow::Result<LossyCall> {
        let path = LossyPath::open(conditions, seed).await?;
        let (host, link) = self.host(Some(path.address()), host_options).await?;
        path.set_secret(secret(&link)?);
        let guest = self.guest(&link, guest_options)?;
        Ok(LossyCall { path, host, guest, link })
    }
}

/// Returns what switches sound off, unless a process is told what to say.
fn sound_options(options: &[OsString]) -> Vec<OsString> {
    let has_sound = options.iter().any(|option| option == "--microphone");
    if has_sound { Vec::new() } else { words("--no-audio") }
}

/// A call between two processes over a network of ours.
pub struct LossyCall {
    /// The network.
    pub path: LossyPath,
    /// The process that made the invite.
    pub host: Process,
    /// The process that was invited.
    pub guest: Process,
    /// The invite.
    pub link: String,
}

impl LossyCall {
    /// Waits until both ends are connected; returns the time from the start of the guest.
    pub async fn connected(&mut self, limit: Duration) -> Option<Duration> {
        let guest = self.guest.wait_for(CONNECTED, limit).await?;
        let left = limit.saturating_sub(guest.at).max(Duration::from_secs(2));
        let host = self.host.wait_for(CONNECTED, left).await?;
        // The clocks of the lines begin with each process.
        let apart = self.host.age().saturating_sub(self.guest.age());
        Some(guest.at.max(host.at.saturating_sub(apart)))
    }

    /// Says for each end whether it is connected, lost or ended.
    pub fn states(&mut self) -> [State; 2] {
        [state(&mut self.host), state(&mut self.guest)]
    }
}

/// State of one end as its user sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// It was never connected.
    Connecting,
    /// It is connected.
    Up,
    /// It waits for its peer.
    Lost,
    /// The process has ended.
    Ended,
}

fn state(process: &mut Process) -> State {
    if process.exit().is_some() {
        return State::Ended;
    }
    let lines = process.lines();
    let newest = lines.iter().rev().find_map(|line| {
        if line.text.starts_with(LOST) {
            Some(State::Lost)
        } else if line.text.starts_with(BACK) || line.text.starts_with(CONNECTED) {
            Some(State::Up)
        } else {
            None
        }
    });
    newest.unwrap_or(State::Connecting)
}

/// Splits options at spaces.
pub(super) fn words(text: &str) -> Vec<OsString> {
    text.split_whitespace().map(OsString::from).collect()
}

/// Returns the secret of a link.
///
/// # Errors
/// If it is not a link.
pub(super) fn secret(link: &str) -> anyhow::Result<Secret> {
    Ok(link.parse::<Invite>()?.secret)
}
