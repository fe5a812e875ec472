//! One WebRTC connection to the peer: two data channels and a sound track.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rtc::data_channel::RTCDataChannelInit;
use rtc::ice::mdns::MulticastDnsMode;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::media_engine::MIME_TYPE_OPUS;
use rtc::rtp;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters,
    RtpCodecKind,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use webrtc::data_channel::{DataChannel, DataChannelEvent};
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    CipherSuiteId, MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler,
    RTCConfigurationBuilder, RTCIceCandidateInit, RTCIceGatheringState, RTCIceServer,
    RTCPeerConnectionIceEvent, RTCPeerConnectionState, RTCSessionDescription, SettingEngine,
    SettingEngineBuilder,
};

use crate::event::LinkError;
use crate::random::random;
use crate::session::{Input, LinkCommand, LinkEvent, LinkId};
use crate::settings::IceServer;
use crate::sound::SoundPacket;
use crate::wire_meter::{MeteredRuntime, WireMeter};

/// SCTP stream ids. They are fixed, because a channel announced in band loses its reliability on
/// the answering side.
const FEATURES_ID: u16 = 0;
const CONTROL_ID: u16 = 1;
/// RTP payload type of Opus.
const OPUS_PAYLOAD: u8 = 111;
/// Events that wait to be forwarded. More feature and sound packets are lost, as on a bad network.
const MAX_EVENTS: usize = 256;
/// Commands that wait for a link.
const MAX_COMMANDS: usize = 512;
/// Bytes of control messages that wait in the channel before `send_control` waits too.
const SEND_BUFFER: usize = 256 * 1024;
/// How long a link that is closed may take to deliver what was sent.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(600);
/// Interval at which delivery is checked meanwhile.
const FLUSH_INTERVAL: Duration = Duration::from_millis(10);

/// Interval of the STUN checks that keep the path open. Each costs 464 bytes, both ways and
/// answers counted, so the default of 2 s would cost 0.9 kbit/s each way for nothing.
const KEEPALIVE: Duration = Duration::from_secs(3);
/// Silence after which ICE calls a path disconnected.
const DISCONNECTED: Duration = Duration::from_secs(8);
/// Silence after which ICE gives a path up.
const FAILED: Duration = Duration::from_secs(30);

/// How to reach the peer.
#[derive(Clone, Debug)]
pub(crate) struct LinkSettings {
    pub(crate) ice_servers: Vec<IceServer>,
    /// Whether to stay on this machine.
    pub(crate) loopback: bool,
    /// How long a description waits for candidates. Later ones are sent one by one.
    pub(crate) gather_deadline: Duration,
    /// Whether to offer, or accept, a sound track.
    pub(crate) audio: bool,
}

/// Starts a task that owns a new link and carries out commands, in order, until the link is
/// closed. Events go to `inputs`.
pub(crate) fn spawn(
    id: LinkId,
    settings: LinkSettings,
    meter: Arc<WireMeter>,
    inputs: mpsc::Sender<Input>,
) -> (mpsc::Sender<LinkCommand>, JoinHandle<()>) {
    let (sender, commands) = mpsc::channel(MAX_COMMANDS);
    (sender, tokio::spawn(run(id, settings, meter, inputs, commands)))
}

async fn run(
    id: LinkId,
    settings: LinkSettings,
    meter: Arc<WireMeter>,
    inputs: mpsc::Sender<Input>,
    mut commands: mpsc::Receiver<LinkCommand>,
) {
    let report = async |event| {
        // A session that has ended does not listen any more.
        let _ = inputs.send(Input::Link(id, event)).await;
    };
    let (mut link, events) = match Link::new(&settings, meter).await {
        Ok(link) => link,
        Err(error) => return report(LinkEvent::Error(error)).await,
    };
    tokio::spawn(forward(id, events, inputs.clone()));
    while let Some(command) = commands.recv().await {
        let description = match command {
            LinkCommand::Offer => link.offer().await.map(Some),
            LinkCommand::Answer(offer) => link.answer(offer).await.map(Some),
            LinkCommand::Accept(answer) => link.accept(answer).await.map(|()| None),
            LinkCommand::AddCandidate(candidate) => {
                // A candidate of an unknown kind is no reason to end a call.
                let _ = link.add_candidate(candidate).await;
                Ok(None)
            }
            LinkCommand::SendFeatures(packet) => {
                link.send_features(&packet).await;
                Ok(None)
            }
            LinkCommand::SendControl(message) => {
                // If it cannot be sent, the link is broken and the session will notice.
                let _ = link.send_control(&message).await;
                Ok(None)
            }
            LinkCommand::SendSound(packet) => {
                link.send_sound(&packet).await;
                Ok(None)
            }
            LinkCommand::Close => break,
        };
        match description {
            Ok(Some(description)) => report(LinkEvent::Described(description)).await,
            Ok(None) => {}
            Err(error) => report(LinkEvent::Error(error)).await,
        }
    }
    link.close().await;
}

async fn forward(id: LinkId, mut events: mpsc::Receiver<LinkEvent>, inputs: mpsc::Sender<Input>) {
    while let Some(event) = events.recv().await {
        if inputs.send(Input::Link(id, event)).await.is_err() {
            return;
        }
    }
}

/// A WebRTC connection.
struct Link {
    connection: Arc<dyn PeerConnection>,
    features: Arc<dyn DataChannel>,
    control: Arc<dyn DataChannel>,
    sound: Option<(Arc<TrackLocalStaticRTP>, u32)>,
    gathered: watch::Receiver<bool>,
    gather_deadline: Duration,
}

impl Link {
    /// Creates a link that was neither offered nor answered, and its events.
    async fn new(
        settings: &LinkSettings,
        meter: Arc<WireMeter>,
    ) -> Result<(Self, mpsc::Receiver<LinkEvent>), LinkError> {
        let (events, receiver) = mpsc::channel(MAX_EVENTS);
        let (gathered_tx, gathered) = watch::channel(false);
        let handler = Handler { events: events.clone(), gathered: gathered_tx };
        let mut media = MediaEngine::default();
        let opus = RTCRtpCodecParameters { rtp_codec: opus(), payload_type: OPUS_PAYLOAD };
        media.register_codec(opus, RtpCodecKind::Audio)?;
        let connection = PeerConnectionBuilder::new()
            .with_media_engine(media)
            .with_configuration(
                RTCConfigurationBuilder::new().with_ice_servers(ice_servers(settings)).build(),
            )
            .with_setting_engine(setting_engine())
            .with_handler(Arc::new(handler))
            .with_runtime(MeteredRuntime::new(meter))
            .with_udp_addrs(socket_addresses(settings.loopback))
            .with_data_channel_send_buffer_limit(SEND_BUFFER)
            .build()
            .await?;
        let features = RTCDataChannelInit {
            ordered: false,
            max_retransmits: Some(0),
            negotiated: Some(FEATURES_ID),
            ..Default::default()
        };
        let control = RTCDataChannelInit { negotiated: Some(CONTROL_ID), ..Default::default() };
        let features = connection.create_data_channel("features", Some(features)).await?;
        let control = connection.create_data_channel("control", Some(control)).await?;
        tokio::spawn(read_features(Arc::clone(&features), events.clone()));
        tokio::spawn(read_control(Arc::clone(&control), events));
        let mut sound = None;
        if settings.audio {
            let ssrc = u32::from_le_bytes(random());
            let track = Arc::new(TrackLocalStaticRTP::new(sound_track(ssrc)));
            connection.add_track(Arc::clone(&track) as Arc<dyn TrackLocal>).await?;
            sound = Some((track, ssrc));
        }
        let link = Self {
            connection: Arc::new(connection),
            features,
            control,
            sound,
            gathered,
            gather_deadline: settings.gather_deadline,
        };
        Ok((link, receiver))
    }

    /// Makes an offer, with the candidates found before the deadline.
    async fn offer(&mut self) -> Result<String, LinkError> {
        let offer = self.connection.create_offer(None).await?;
        self.describe(offer).await
    }

    /// Answers an offer, with the candidates found before the deadline.
    async fn answer(&mut self, offer: String) -> Result<String, LinkError> {
        self.connection.set_remote_description(RTCSessionDescription::offer(offer)?).await?;
        let answer = self.connection.create_answer(None).await?;
        self.describe(answer).await
    }

    /// Accepts the answer to our offer.
    async fn accept(&self, answer: String) -> Result<(), LinkError> {
        let answer = RTCSessionDescription::answer(answer)?;
        Ok(self.connection.set_remote_description(answer).await?)
    }

    /// Adds a candidate of the peer.
    async fn add_candidate(&self, candidate: String) -> Result<(), LinkError> {
        let candidate = RTCIceCandidateInit {
            candidate,
            sdp_mline_index: Some(0),
            ..RTCIceCandidateInit::default()
        };
        Ok(self.connection.add_ice_candidate(candidate).await?)
    }

    /// Makes a description our own and returns it as SDP once candidates were gathered.
    async fn describe(&mut self, description: RTCSessionDescription) -> Result<String, LinkError> {
        let without_candidates = description.sdp.clone();
        self.connection.set_local_description(description).await?;
        let _ = tokio::time::timeout(
            self.gather_deadline,
            self.gathered.wait_for(|gathered| *gathered),
        )
        .await;
        Ok(self.connection.local_description().await.map_or(without_candidates, |full| full.sdp))
    }

    /// Sends a packet, or drops it when the send buffer is full: late features are of no use.
    async fn send_features(&self, packet: &[u8]) {
        let _ = self.features.try_send(BytesMut::from(packet)).await;
    }

    /// Sends a control message reliably and in order. Waits while the send buffer is full.
    async fn send_control(&self, message: &[u8]) -> Result<(), LinkError> {
        Ok(self.control.send(BytesMut::from(message)).await?)
    }

    /// Sends a sound packet, if there is a sound track.
    async fn send_sound(&self, sound: &SoundPacket) {
        let Some((track, ssrc)) = &self.sound else { return };
        let header = rtp::Header {
            version: 2,
            payload_type: OPUS_PAYLOAD,
            sequence_number: sound.sequence,
            timestamp: sound.timestamp,
            ssrc: *ssrc,
            ..Default::default()
        };
        let packet = rtp::Packet { header, payload: sound.opus.clone() };
        // Without a connection, sound is lost, as on a bad network.
        let _ = track.write_rtp(packet).await;
    }

    /// Waits until the peer has confirmed all control messages, but not long, and closes.
    async fn close(&self) {
        let _ = tokio::time::timeout(FLUSH_TIMEOUT, async {
            while self.control.outstanding_bytes().await.unwrap_or(0) > 0 {
                tokio::time::sleep(FLUSH_INTERVAL).await;
            }
        })
        .await;
        let _ = self.connection.close().await;
    }
}

fn ice_servers(settings: &LinkSettings) -> Vec<RTCIceServer> {
    settings
        .ice_servers
        .iter()
        .map(|server| RTCIceServer {
            urls: vec![server.url.clone()],
            username: server.username.clone(),
            credential: server.credential.clone(),
        })
        .collect()
}

fn setting_engine() -> SettingEngine {
    SettingEngineBuilder::new()
        .with_include_loopback_candidate(true)
        .with_multicast_dns_mode(MulticastDnsMode::Disabled)
        .with_ice_timeouts(Some(DISCONNECTED), Some(FAILED), Some(KEEPALIVE))
        // 29 bytes of DTLS per record instead of 37: ChaCha20 needs no explicit nonce.
        .with_dtls_cipher_suites(vec![
            CipherSuiteId::Tls_Ecdhe_Ecdsa_With_ChaCha20_Poly1305_Sha256,
            CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256,
        ])
        .build()
}

/// Turns what the connection reports into events.
struct Handler {
    events: mpsc::Sender<LinkEvent>,
    gathered: watch::Sender<bool>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        // Candidates found before the deadline are in the description too, which is harmless.
        if let Ok(candidate) = event.candidate.to_json()
            && !candidate.candidate.is_empty()
        {
            let _ = self.events.try_send(LinkEvent::Candidate(candidate.candidate));
        }
    }

    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.gathered.send_replace(true);
        }
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        tokio::spawn(read_sound(track, self.events.clone()));
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        if state == RTCPeerConnectionState::Failed {
            let _ = self.events.try_send(LinkEvent::Failed);
        }
    }
}

/// Returns the description of Opus that RFC 7587 demands. The sound is mono nevertheless.
fn opus() -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: MIME_TYPE_OPUS.to_owned(),
        clock_rate: 48_000,
        channels: 2,
        sdp_fmtp_line: "minptime=20;useinbandfec=1;usedtx=1".to_owned(),
        rtcp_feedback: Vec::new(),
    }
}

fn sound_track(ssrc: u32) -> MediaStreamTrack {
    let coding = RTCRtpCodingParameters { ssrc: Some(ssrc), ..Default::default() };
    let encoding = RTCRtpEncodingParameters {
        rtp_coding_parameters: coding,
        codec: opus(),
        ..Default::default()
    };
    let [stream, track, label] = ["call", "sound", "sound"].map(str::to_owned);
    MediaStreamTrack::new(stream, track, label, RtpCodecKind::Audio, vec![encoding])
}

async fn read_sound(track: Arc<dyn TrackRemote>, events: mpsc::Sender<LinkEvent>) {
    while let Some(event) = track.poll().await {
        match event {
            TrackRemoteEvent::OnRtpPacket(packet) => {
                let _ = events.try_send(LinkEvent::Sound(SoundPacket {
                    sequence: packet.header.sequence_number,
                    timestamp: packet.header.timestamp,
                    opus: packet.payload,
                }));
            }
            TrackRemoteEvent::OnEnded => return,
            _ => {}
        }
    }
}

async fn read_features(channel: Arc<dyn DataChannel>, events: mpsc::Sender<LinkEvent>) {
    while let Some(event) = channel.poll().await {
        match event {
            DataChannelEvent::OnMessage(message) => {
                let _ = events.try_send(LinkEvent::Features(message.data.freeze()));
            }
            DataChannelEvent::OnClose => return,
            _ => {}
        }
    }
}

async fn read_control(channel: Arc<dyn DataChannel>, events: mpsc::Sender<LinkEvent>) {
    while let Some(event) = channel.poll().await {
        let event = match event {
            DataChannelEvent::OnOpen => LinkEvent::Open,
            DataChannelEvent::OnMessage(message) => LinkEvent::Control(message.data.freeze()),
            DataChannelEvent::OnClose => return,
            _ => continue,
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
}

/// Returns the addresses to bind to. A wildcard covers every interface but loopback.
fn socket_addresses(loopback: bool) -> Vec<String> {
    let mut addresses = vec!["127.0.0.1:0".to_owned()];
    if !loopback {
        if local_address(false).is_some() {
            addresses.insert(0, "0.0.0.0:0".to_owned());
        }
        if local_address(true).is_some() {
            addresses.push("[::]:0".to_owned());
        }
    }
    addresses
}

/// Returns the address by which this machine would reach other networks. Nothing is sent.
pub(crate) fn local_address(v6: bool) -> Option<IpAddr> {
    let (any, remote): (IpAddr, IpAddr) = if v6 {
        (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into())
    } else {
        (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into())
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(SocketAddr::new(remote, 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified() && !address.is_loopback()).then_some(address)
}
