//! The WebRTC connection of one link: two data channels and a sound track.

use std::net::SocketAddrV6;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
use webrtc::data_channel::{DataChannel, DataChannelEvent};
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    CipherSuiteId, MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler,
    RTCCertificate, RTCConfigurationBuilder, RTCIceCandidateInit, RTCIceGatheringState,
    RTCIceServer, RTCIceTransportPolicy, RTCPeerConnectionIceEvent, RTCPeerConnectionState,
    RTCSessionDescription, SettingEngine, SettingEngineBuilder, SrtpProtectionProfile,
};

use crate::addresses::SocketAddresses;
use crate::description::{name_wildcard, publish_candidate, publish_description};
use crate::event::LinkError;
use crate::link_runtime::{LinkRuntime, Repetitions};
use crate::random::random;
use crate::session::{LinkEvent, SoundPacket};
use crate::settings::IceServer;
use crate::wire_meter::WireMeter;

/// SCTP stream ids. They are fixed, because a channel announced in band loses its reliability on
/// the answering side.
const FEATURES_ID: u16 = 0;
const CONTROL_ID: u16 = 1;
/// Channels that a peer may open besides. They are closed at once; more end the link.
const MAX_UNKNOWN_CHANNELS: usize = 4;
/// RTP payload type of Opus.
const OPUS_PAYLOAD: u8 = 111;
/// Packets that wait to be forwarded. More are lost, as on a bad network.
const MAX_PACKETS: usize = 256;
/// Control messages that wait to be forwarded. WebRTC keeps further ones, and stops the peer.
const MAX_MESSAGES: usize = 64;
/// Bytes of control messages that wait in the channel before `send_control` waits too.
const SEND_BUFFER: usize = 256 * 1024;

/// Interval of the STUN checks that look for a path.
const CHECK: Duration = Duration::from_millis(200);
/// Checks of a path that is silent: without limit that matters, because the session gives links up.
/// The guest of a manual call waits until a person has carried its answer over, and its checks keep
/// address translators open meanwhile, for 3.6 hours. WebRTC counts them in 16 bits and must not overflow.
const MAX_CHECKS: u16 = u16::MAX - 1;
/// Interval of the STUN checks that keep the path open: as rarely as consent allows (RFC 7675, section
/// 5.1). Each costs 464 bytes, both ways and answers counted.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// Silence after which ICE calls a path disconnected.
const DISCONNECTED: Duration = Duration::from_secs(12);
/// Silence after which ICE gives a path up: never. The session gives up links, but one that was in use
/// only after a minute, because its network may come back.
const FAILED: Duration = Duration::ZERO;

/// How to reach the peer.
#[derive(Clone, Debug)]
pub(crate) struct LinkSettings {
    pub(crate) ice_servers: Vec<IceServer>,
    /// Whether to stay on this machine.
    pub(crate) loopback: bool,
    /// Whether to use the relays of `ice_servers` alone, so that the peer does not learn our address.
    pub(crate) relay_only: bool,
    /// How long a description waits for candidates. Later ones are sent one by one.
    pub(crate) gather_deadline: Duration,
    /// Whether to offer, or accept, a sound track.
    pub(crate) audio: bool,
    /// The certificate of the call.
    pub(crate) certificate: RTCCertificate,
}

/// What arrives on a connection.
pub(crate) struct Events {
    /// Control messages, opening of channels, and candidates.
    pub(crate) messages: mpsc::Receiver<LinkEvent>,
    /// Feature and sound packets.
    pub(crate) packets: mpsc::Receiver<LinkEvent>,
}

/// A WebRTC connection.
pub(crate) struct Connection {
    peer: Arc<dyn PeerConnection>,
    features: Arc<dyn DataChannel>,
    control: Arc<dyn DataChannel>,
    sound: Option<(Arc<TrackLocalStaticRTP>, u32)>,
    gathered: watch::Receiver<bool>,
    gather_deadline: Duration,
    loopback: bool,
    link_local: Option<SocketAddrV6>,
    relay_only: bool,
}

impl Connection {
    /// Creates a connection that was neither offered nor answered, and its events. What ends the link
    /// goes to `failures`.
    pub(crate) async fn new(
        settings: &LinkSettings,
        meter: Arc<WireMeter>,
        repetitions: &Arc<Repetitions>,
        failures: mpsc::Sender<LinkEvent>,
    ) -> Result<(Self, Events), LinkError> {
        let (messages_in, messages) = mpsc::channel(MAX_MESSAGES);
        let (packets_in, packets) = mpsc::channel(MAX_PACKETS);
        let (gathered_tx, gathered) = watch::channel(false);
        let addresses = SocketAddresses::choose(settings.loopback);
        let handler = Handler {
            messages: messages_in.clone(),
            packets: packets_in.clone(),
            failures,
            gathered: gathered_tx,
            relay_only: settings.relay_only,
            link_local: addresses.link_local,
            n_unknown_channels: AtomicUsize::new(0),
            has_sound: AtomicBool::new(false),
        };
        let mut media = MediaEngine::default();
        let opus = RTCRtpCodecParameters { rtp_codec: opus(), payload_type: OPUS_PAYLOAD };
        media.register_codec(opus, RtpCodecKind::Audio)?;
        let connection = PeerConnectionBuilder::new()
            .with_media_engine(media)
            .with_configuration(
                RTCConfigurationBuilder::new()
                    .with_ice_servers(ice_servers(settings))
                    .with_ice_transport_policy(transport_policy(settings))
                    .with_certificates(vec![settings.certificate.clone()])
                    .build(),
            )
            .with_setting_engine(setting_engine(addresses.loopback))
            .with_handler(Arc::new(handler))
            .with_runtime(LinkRuntime::new(meter, Arc::clone(repetitions), addresses.link_local))
            .with_udp_addrs(addresses.bind)
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
        tokio::spawn(read_features(Arc::clone(&features), packets_in));
        tokio::spawn(read_control(Arc::clone(&control), messages_in, Arc::clone(repetitions)));
        let mut sound = None;
        if settings.audio {
            let ssrc = u32::from_le_bytes(random());
            let track = Arc::new(TrackLocalStaticRTP::new(sound_track(ssrc)));
            connection.add_track(Arc::clone(&track) as Arc<dyn TrackLocal>).await?;
            sound = Some((track, ssrc));
        }
        let created = Self {
            peer: Arc::new(connection),
            features,
            control,
            sound,
            gathered,
            gather_deadline: settings.gather_deadline,
            loopback: addresses.loopback,
            link_local: addresses.link_local,
            relay_only: settings.relay_only,
        };
        Ok((created, Events { messages, packets }))
    }

    /// Returns whether the sockets are on loopback alone.
    pub(crate) fn is_loopback(&self) -> bool {
        self.loopback
    }

    /// Makes an offer, with the candidates found before the deadline.
    pub(crate) async fn offer(&self) -> Result<String, LinkError> {
        let offer = self.peer.create_offer(None).await?;
        self.describe(offer).await
    }

    /// Answers an offer, with the candidates found before the deadline.
    pub(crate) async fn answer(&self, offer: String) -> Result<String, LinkError> {
        self.peer.set_remote_description(RTCSessionDescription::offer(offer)?).await?;
        let answer = self.peer.create_answer(None).await?;
        self.describe(answer).await
    }

    /// Accepts the answer to our offer.
    pub(crate) async fn accept(&self, answer: String) -> Result<(), LinkError> {
        let answer = RTCSessionDescription::answer(answer)?;
        Ok(self.peer.set_remote_description(answer).await?)
    }

    /// Adds a candidate of the peer.
    pub(crate) async fn add_candidate(&self, candidate: String) -> Result<(), LinkError> {
        let candidate = RTCIceCandidateInit {
            candidate,
            sdp_mline_index: Some(0),
            ..RTCIceCandidateInit::default()
        };
        Ok(self.peer.add_ice_candidate(candidate).await?)
    }

    /// Makes a description our own and returns it as SDP once candidates were gathered.
    async fn describe(&self, description: RTCSessionDescription) -> Result<String, LinkError> {
        let without_candidates = description.sdp.clone();
        self.peer.set_local_description(description).await?;
        let mut gathered = self.gathered.clone();
        let gathered = gathered.wait_for(|gathered| *gathered);
        let _ = tokio::time::timeout(self.gather_deadline, gathered).await;
        let full = self.peer.local_description().await;
        let sdp = full.map_or(without_candidates, |full| full.sdp);
        Ok(name_wildcard(publish_description(&sdp, self.relay_only), self.link_local))
    }

    /// Sends a packet, or drops it when the send buffer is full: late features are of no use.
    pub(crate) async fn send_features(&self, packet: &[u8]) {
        let _ = self.features.try_send(BytesMut::from(packet)).await;
    }

    /// Sends a control message reliably and in order. Waits while the send buffer is full.
    pub(crate) async fn send_control(&self, message: &[u8]) -> Result<(), LinkError> {
        Ok(self.control.send(BytesMut::from(message)).await?)
    }

    /// Sends a sound packet, if there is a sound track.
    pub(crate) async fn send_sound(&self, sound: SoundPacket) {
        let Some((track, ssrc)) = &self.sound else { return };
        let header = rtp::Header {
            version: 2,
            marker: sound.is_pair,
            payload_type: OPUS_PAYLOAD,
            sequence_number: sound.sequence,
            timestamp: sound.timestamp,
            ssrc: *ssrc,
            ..Default::default()
        };
        let packet = rtp::Packet { header, payload: sound.payload };
        // Without a connection, sound is lost, as on a bad network.
        let _ = track.write_rtp(packet).await;
    }

    /// Returns how many bytes of control messages the peer has not confirmed.
    pub(crate) async fn outstanding_bytes(&self) -> usize {
        self.control.outstanding_bytes().await.unwrap_or(0)
    }

    pub(crate) async fn close(&self) {
        let _ = self.peer.close().await;
    }
}

fn transport_policy(settings: &LinkSettings) -> RTCIceTransportPolicy {
    if settings.relay_only { RTCIceTransportPolicy::Relay } else { RTCIceTransportPolicy::All }
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

fn setting_engine(loopback: bool) -> SettingEngine {
    SettingEngineBuilder::new()
        .with_include_loopback_candidate(loopback)
        .with_multicast_dns_mode(MulticastDnsMode::Disabled)
        .with_ice_timeouts(Some(DISCONNECTED), Some(FAILED), Some(KEEPALIVE))
        .with_ice_connection_attempts(Some(CHECK), Some(MAX_CHECKS))
        // 29 bytes of DTLS per record instead of 37: ChaCha20 needs no explicit nonce.
        .with_dtls_cipher_suites(vec![
            CipherSuiteId::Tls_Ecdhe_Ecdsa_With_ChaCha20_Poly1305_Sha256,
            CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256,
        ])
        // 10 bytes of tag per packet instead of the 16 of AES-GCM.
        .with_srtp_protection_profiles(vec![SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80])
        .build()
}

/// Turns what the connection reports into events.
struct Handler {
    messages: mpsc::Sender<LinkEvent>,
    packets: mpsc::Sender<LinkEvent>,
    failures: mpsc::Sender<LinkEvent>,
    gathered: watch::Sender<bool>,
    relay_only: bool,
    link_local: Option<SocketAddrV6>,
    n_unknown_channels: AtomicUsize,
    has_sound: AtomicBool,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        // Candidates found before the deadline are in the description too, which is harmless.
        if let Ok(candidate) = event.candidate.to_json()
            && !candidate.candidate.is_empty()
            && let Some(candidate) = publish_candidate(&candidate.candidate, self.relay_only)
        {
            let candidate = name_wildcard(candidate, self.link_local);
            let _ = self.messages.try_send(LinkEvent::Candidate(candidate));
        }
    }

    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.gathered.send_replace(true);
        }
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        // A call has one track. Further ones are not read.
        if !self.has_sound.swap(true, Ordering::Relaxed) {
            tokio::spawn(read_sound(track, self.packets.clone()));
        }
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        // The channels of a call are negotiated, so this one does not belong to it.
        let _ = channel.close().await;
        if self.n_unknown_channels.fetch_add(1, Ordering::Relaxed) >= MAX_UNKNOWN_CHANNELS {
            let _ = self.failures.try_send(LinkEvent::Error(LinkError::UnknownChannels));
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        if state == RTCPeerConnectionState::Failed {
            let _ = self.failures.try_send(LinkEvent::Failed);
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

async fn read_sound(track: Arc<dyn TrackRemote>, packets: mpsc::Sender<LinkEvent>) {
    while let Some(event) = track.poll().await {
        match event {
            TrackRemoteEvent::OnRtpPacket(packet) => {
                let _ = packets.try_send(LinkEvent::Sound(SoundPacket {
                    sequence: packet.header.sequence_number,
                    timestamp: packet.header.timestamp,
                    is_pair: packet.header.marker,
                    payload: packet.payload,
                }));
            }
            TrackRemoteEvent::OnEnded => return,
            _ => {}
        }
    }
}

async fn read_features(channel: Arc<dyn DataChannel>, packets: mpsc::Sender<LinkEvent>) {
    while let Some(event) = channel.poll().await {
        match event {
            DataChannelEvent::OnMessage(message) => {
                let _ = packets.try_send(LinkEvent::Features(message.data.freeze()));
            }
            DataChannelEvent::OnClose => return,
            _ => {}
        }
    }
}

async fn read_control(
    channel: Arc<dyn DataChannel>,
    messages: mpsc::Sender<LinkEvent>,
    repetitions: Arc<Repetitions>,
) {
    while let Some(event) = channel.poll().await {
        let event = match event {
            DataChannelEvent::OnOpen => {
                repetitions.handle_open();
                LinkEvent::Open
            }
            DataChannelEvent::OnMessage(message) => LinkEvent::Control(message.data.freeze()),
            DataChannelEvent::OnClose => return,
            _ => continue,
        };
        if messages.send(event).await.is_err() {
            return;
        }
    }
}
