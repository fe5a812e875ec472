//! A peer of our own on WebRTC that says whatever an attack wants to be said.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use transport::Role;
use webrtc::data_channel::{DataChannel, DataChannelEvent, RTCDataChannelInit};
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState,
    RTCSessionDescription, SettingEngineBuilder,
};

use super::arena::secret;
use super::envelope::{Envelope, Signal, kind};
use super::lossy_path::PeerPath;
use super::switchboard::{Protocol, SeatSender, Switchboard};

/// Messages that wait to be read by the attack; more are counted and dropped.
const MAX_MESSAGES: usize = 4096;
/// How long the victim may take to be connected.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);

/// Kinds of control messages, as in docs/TRANSPORT.md, section 3.1.
pub(super) mod control {
    /// Version and name.
    pub(in crate::attack) const HELLO: u8 = 0;
    /// Offers a face model.
    pub(in crate::attack) const OFFER: u8 = 1;
    /// Requests a face model.
    pub(in crate::attack) const REQUEST: u8 = 2;
    /// Part of a face model.
    pub(in crate::attack) const CHUNK: u8 = 3;
    /// A chat message.
    pub(in crate::attack) const CHAT: u8 = 6;
    /// The end of the call.
    pub(in crate::attack) const BYE: u8 = 8;
    /// Whether the guest is let in.
    pub(in crate::attack) const ADMISSION: u8 = 9;
}

/// Messages of the victim that arrived so far.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// Number of control messages.
    control: AtomicU64,
    /// Their bytes.
    control_bytes: AtomicU64,
    /// Number of packets with features or reports.
    packets: AtomicU64,
}

impl Arrivals {
    /// Returns the number of control messages.
    pub fn control(&self) -> u64 {
        self.control.load(Ordering::Relaxed)
    }

    /// Returns the bytes of all control messages.
    pub fn control_bytes(&self) -> u64 {
        self.control_bytes.load(Ordering::Relaxed)
    }

    /// Returns the number of packets of the channel `features`.
    pub fn packets(&self) -> u64 {
        self.packets.load(Ordering::Relaxed)
    }
}

/// A guest in the hands of an attacker, in a call with a host under attack.
pub struct HostilePeer {
    connection: Arc<dyn PeerConnection>,
    /// Channel 0.
    pub features: Arc<dyn DataChannel>,
    /// Channel 1.
    pub control: Arc<dyn DataChannel>,
    /// Control messages of the victim.
    inbox: mpsc::Receiver<Bytes>,
    arrivals: Arc<Arrivals>,
    open: watch::Receiver<[bool; 2]>,
    protocol: Protocol,
    /// Where the host is reached; none once it was released.
    switchboard: Option<Switchboard>,
    host: SeatSender,
    envelope: Envelope,
    attempt: u8,
    answer: String,
    path: Option<PeerPath>,
}

/// How the attacker answers the offer of the victim.
pub struct Answering<'a> {
    /// Changes the answer before it is sent.
    pub answer: &'a (dyn Fn(&str) -> String + Sync),
    /// Messages, such as damaged answers, that are sent before the answer.
    pub before: &'a (dyn Fn(&str) -> Vec<String> + Sync),
    /// Whether datagrams pass through a network that the attacker controls.
    pub is_controlled: bool,
}

impl Default for Answering<'_> {
    fn default() -> Self {
        Self { answer: &str::to_owned, before: &|_| Vec::new(), is_controlled: false }
    }
}

impl HostilePeer {
    /// Meets the host behind `switchboard`, whose link is known, and answers its offer. The
    /// channels need not be open yet.
    ///
    /// # Errors
    /// If the host makes no offer.
    pub async fn answer(
        mut switchboard: Switchboard,
        link: &str,
        answering: &Answering<'_>,
    ) -> anyhow::Result<Self> {
        let mut envelope = Envelope::new(secret(link)?, Role::Guest);
        let (offer, protocol) = offer_of_host(&mut switchboard, &mut envelope).await?;
        let (path, description) = if answering.is_controlled {
            let (path, description) = PeerPath::open(&offer.text()).await.context("no path")?;
            (Some(path), description)
        } else {
            (None, offer.text())
        };
        let (gathered, mut is_gathered) = watch::channel(false);
        let connection = connection(gathered).await?;
        let features = RTCDataChannelInit {
            ordered: false,
            max_retransmits: Some(0),
            negotiated: Some(0),
            ..Default::default()
        };
        let reliable = RTCDataChannelInit { negotiated: Some(1), ..Default::default() };
        let features = connection.create_data_channel("features", Some(features)).await?;
        let control = connection.create_data_channel("control", Some(reliable)).await?;
        let (open_sender, open) = watch::channel([false; 2]);
        let (inbox_sender, inbox) = mpsc::channel(MAX_MESSAGES);
        let arrivals = Arc::new(Arrivals::default());
        for (i, channel) in [&features, &control].into_iter().enumerate() {
            tokio::spawn(read_channel(
                i,
                Arc::clone(channel),
                open_sender.clone(),
                inbox_sender.clone(),
                Arc::clone(&arrivals),
            ));
        }
        let description = RTCSessionDescription::offer(description)?;
        connection.set_remote_description(description).await?;
        let answer = connection.create_answer(None).await?;
        connection.set_local_description(answer).await?;
        let _ =
            tokio::time::timeout(Duration::from_secs(3), is_gathered.wait_for(|done| *done)).await;
        let answer = connection.local_description().await.context("no answer was made")?.sdp;
        let answer = path.as_ref().and_then(|path| path.answer(&answer)).unwrap_or(answer);
        let mut peer = Self {
            connection,
            features,
            control,
            inbox,
            arrivals,
            open,
            protocol,
            host: switchboard.sender(Role::Host),
            switchboard: Some(switchboard),
            envelope,
            attempt: offer.attempt,
            answer: answer.clone(),
            path,
        };
        for bad in (answering.before)(&answer) {
            peer.send_answer(&bad);
        }
        peer.send_answer(&(answering.answer)(&answer));
        Ok(peer)
    }

    /// Returns whether the host makes an offer of another attempt.
    pub async fn is_offered_again(&mut self) -> bool {
        let until = Instant::now() + CONNECT_LIMIT;
        let Some(switchboard) = &mut self.switchboard else { return false };
        while Instant::now() < until {
            match offer_of_host(switchboard, &mut self.envelope).await {
                Ok((offer, _)) if offer.attempt != self.attempt => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
        false
    }

    /// Meets the host behind `switchboard` and gets as far as a guest gets: channels open, greeted
    /// as `name` and, from version 2 on, let in.
    ///
    /// # Errors
    /// If the host does not do its part in time.
    pub async fn join(
        switchboard: Switchboard,
        link: &str,
        answering: &Answering<'_>,
        name: &[u8],
    ) -> anyhow::Result<Self> {
        let mut peer = Self::answer(switchboard, link, answering).await?;
        peer.wait_open().await?;
        peer.send_hello(name, false).await?;
        peer.wait_for(control::HELLO, CONNECT_LIMIT).await.context("the victim says no hello")?;
        peer.send_hello(name, true).await?;
        if peer.protocol == Protocol::V3 {
            let admission = peer.wait_for(control::ADMISSION, CONNECT_LIMIT).await;
            let mut admission = admission.context("the victim says nothing about admission")?;
            while admission.get(1) == Some(&0) {
                admission = peer
                    .wait_for(control::ADMISSION, CONNECT_LIMIT)
                    .await
                    .context("the victim does not let the guest in")?;
            }
        }
        Ok(peer)
    }

    /// Waits until both channels are open.
    ///
    /// # Errors
    /// If they are not open in time.
    pub async fn wait_open(&mut self) -> anyhow::Result<()> {
        let opening = self.open.wait_for(|open| open[0] && open[1]);
        if tokio::time::timeout(CONNECT_LIMIT, opening).await.is_err() {
            bail!("the channels do not open");
        }
        Ok(())
    }

    /// Sends an answer to the current attempt.
    pub fn send_answer(&mut self, sdp: &str) {
        self.send_signal(kind::ANSWER, sdp.as_bytes().to_vec());
    }

    /// Sends a candidate for the current attempt.
    pub fn send_candidate(&mut self, candidate: &str) {
        self.send_signal(kind::CANDIDATE, candidate.as_bytes().to_vec());
    }

    fn send_signal(&mut self, kind: u8, body: Vec<u8>) {
        let signal = Signal { kind, attempt: self.attempt, body };
        let sealed = self.envelope.seal(&signal, self.protocol);
        self.host.send(sealed);
    }

    /// Lets another guest meet the host. The connection of this one stays.
    pub fn release(&mut self) -> Option<Switchboard> {
        self.switchboard.take()
    }

    /// Returns the answer that belongs to the connection.
    pub fn own_answer(&self) -> &str {
        &self.answer
    }

    /// Sends a hello; `heard` says, from version 2 on, that the victim's has arrived.
    ///
    /// # Errors
    /// If the channel is closed.
    pub async fn send_hello(&self, name: &[u8], heard: bool) -> anyhow::Result<()> {
        let mut bytes = vec![control::HELLO];
        bytes.extend(self.protocol.version().to_le_bytes());
        if self.protocol == Protocol::V3 {
            bytes.push(u8::from(heard));
        }
        bytes.extend(name);
        self.send(&bytes).await
    }

    /// Sends a control message.
    ///
    /// # Errors
    /// If the channel is closed.
    pub async fn send(&self, message: &[u8]) -> anyhow::Result<()> {
        Ok(self.control.send(BytesMut::from(message)).await?)
    }

    /// Returns the next control message of this kind; others are skipped.
    pub async fn wait_for(&mut self, kind: u8, limit: Duration) -> Option<Bytes> {
        let until = Instant::now() + limit;
        loop {
            let message = tokio::time::timeout_at(until, self.inbox.recv()).await.ok()??;
            if message.first() == Some(&kind) {
                return Some(message);
            }
        }
    }

    /// Returns all control messages that arrive within `time`.
    pub async fn listen(&mut self, time: Duration) -> Vec<Bytes> {
        let until = Instant::now() + time;
        let mut messages = Vec::new();
        while let Ok(Some(message)) = tokio::time::timeout_at(until, self.inbox.recv()).await {
            messages.push(message);
        }
        messages
    }

    /// Offers `face` and serves it as an honest peer does, until it is complete.
    ///
    /// # Errors
    /// If the victim does not fetch it.
    pub async fn show_face(&mut self, face: &[u8]) -> anyhow::Result<()> {
        self.offer_face(face).await?;
        let mut sent = 0;
        loop {
            let request = self.wait_for(control::REQUEST, Duration::from_secs(10)).await;
            let request = request.context("the victim does not request the face")?;
            let from = offset(&request).context("a request without an offset")?;
            if from >= face.len() {
                return Ok(());
            }
            sent = sent.max(from);
            let end = (from + 32 * 1024).min(face.len());
            while sent < end {
                let chunk = &face[sent..(sent + 8192).min(end)];
                let offset = (sent as u32).to_le_bytes();
                self.send(&[&[control::CHUNK][..], &offset, chunk].concat()).await?;
                sent += chunk.len();
            }
        }
    }

    /// Offers `face`.
    ///
    /// # Errors
    /// If the channel is closed.
    pub async fn offer_face(&self, face: &[u8]) -> anyhow::Result<()> {
        let size = (face.len() as u32).to_le_bytes();
        let hash = transport::content_hash(face).0;
        self.send(&[&[control::OFFER][..], &size, &hash].concat()).await
    }

    /// Requests the face of an offer from an offset in bytes on.
    ///
    /// # Errors
    /// If the channel is closed.
    pub async fn request(&self, offer: &[u8], from: u32) -> anyhow::Result<()> {
        let hash = offer.get(5..37).context("an offer without a hash")?;
        self.send(&[&[control::REQUEST][..], &from.to_le_bytes(), hash].concat()).await
    }

    /// Opens another data channel, which nobody asked for.
    ///
    /// # Errors
    /// If the connection is closed.
    pub async fn open_channel(&self, label: &str) -> anyhow::Result<Arc<dyn DataChannel>> {
        Ok(self.connection.create_data_channel(label, None).await?)
    }

    /// From now on nothing that the victim sends arrives here, and what is sent arrives there. Needs
    /// a controlled path.
    pub fn become_deaf(&self) {
        if let Some(path) = &self.path {
            path.make_guest_deaf();
        }
    }

    /// Returns the version that the victim speaks.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Returns what arrived.
    pub fn arrivals(&self) -> &Arrivals {
        &self.arrivals
    }
}

/// Returns the offset in a request or a chunk.
fn offset(message: &[u8]) -> Option<usize> {
    let field: [u8; 4] = message.get(1..5)?.try_into().ok()?;
    Some(u32::from_le_bytes(field) as usize)
}

/// Announces a guest until the host makes an offer.
pub(super) async fn offer_of_host(
    switchboard: &mut Switchboard,
    envelope: &mut Envelope,
) -> anyhow::Result<(Signal, Protocol)> {
    let until = Instant::now() + CONNECT_LIMIT;
    let host = switchboard.sender(Role::Host);
    while Instant::now() < until {
        let protocol = switchboard.protocol();
        host.send(envelope.announce(protocol));
        let next = tokio::time::timeout(Duration::from_secs(1), switchboard.next());
        if let Ok(Some((_, sealed))) = next.await
            && let Some((signal, _)) = envelope.open(&sealed, protocol)
            && signal.kind == kind::OFFER
        {
            return Ok((signal, protocol));
        }
    }
    bail!("the victim makes no offer")
}

/// Tells when the candidates are complete.
struct Handler(watch::Sender<bool>);

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.0.send_replace(true);
        }
    }
}

async fn connection(gathered: watch::Sender<bool>) -> anyhow::Result<Arc<dyn PeerConnection>> {
    let connection = PeerConnectionBuilder::new()
        .with_setting_engine(
            SettingEngineBuilder::new().with_include_loopback_candidate(true).build(),
        )
        .with_handler(Arc::new(Handler(gathered)))
        .with_udp_addrs(vec!["127.0.0.1:0".to_owned(), "0.0.0.0:0".to_owned()])
        .build()
        .await?;
    Ok(Arc::new(connection))
}

async fn read_channel(
    index: usize,
    channel: Arc<dyn DataChannel>,
    open: watch::Sender<[bool; 2]>,
    inbox: mpsc::Sender<Bytes>,
    arrivals: Arc<Arrivals>,
) {
    while let Some(event) = channel.poll().await {
        match event {
            DataChannelEvent::OnOpen => open.send_modify(|open| open[index] = true),
            DataChannelEvent::OnMessage(message) if index == 1 => {
                arrivals.control.fetch_add(1, Ordering::Relaxed);
                arrivals.control_bytes.fetch_add(message.data.len() as u64, Ordering::Relaxed);
                let _ = inbox.try_send(message.data.freeze());
            }
            DataChannelEvent::OnMessage(_) => {
                arrivals.packets.fetch_add(1, Ordering::Relaxed);
            }
            DataChannelEvent::OnClose => return,
            _ => {}
        }
    }
}

/// Returns the candidates of a victim's offer that are on loopback, and all.
pub(super) fn addresses(offer: &str) -> (Vec<SocketAddr>, Vec<SocketAddr>) {
    let all: Vec<SocketAddr> =
        super::envelope::candidates(offer).filter_map(super::envelope::udp_address).collect();
    (all.iter().filter(|address| address.ip().is_loopback()).copied().collect(), all)
}
