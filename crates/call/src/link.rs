//! One WebRTC connection: two data channels and a sound track between two peers, and the sockets
//! under them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
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
    RTCConfigurationBuilder, RTCIceCandidateInit, RTCIceGatheringState, RTCIceServer,
    RTCPeerConnectionIceEvent, RTCPeerConnectionState, RTCSessionDescription, SettingEngineBuilder,
};

use crate::session::random;
use crate::settings::IceServer;
use crate::sound::SoundPacket;
use crate::wire::{MeteredRuntime, WireMeter};

/// Stream ids, agreed on beforehand: a channel announced in band would lose its reliability on
/// the answering side.
const FEATURES_ID: u16 = 0;
const CONTROL_ID: u16 = 1;
/// RTP payload type of Opus.
const OPUS_PAYLOAD: u8 = 111;
/// Events that wait for the session. Feature packets beyond this are lost, as on a bad network.
const EVENTS: usize = 256;
/// Control bytes that wait in the channel before `send_control` waits too.
const SEND_BUFFER: usize = 256 * 1024;

/// A STUN check keeps the path open this often: each costs 464 bytes, both ways and answers
/// counted, so 2 s (the default) would be 0.9 kbit/s each way for nothing.
const KEEPALIVE: Duration = Duration::from_secs(3);
const DISCONNECTED: Duration = Duration::from_secs(8);
const FAILED: Duration = Duration::from_secs(30);

/// How to reach the other end.
#[derive(Clone, Debug)]
pub(crate) struct LinkSettings {
    pub(crate) ice_servers: Vec<IceServer>,
    /// Stay on this machine.
    pub(crate) loopback: bool,
    /// Candidates found later than this are sent one by one.
    pub(crate) gather_deadline: Duration,
    /// Offer (or answer) a sound track.
    pub(crate) audio: bool,
}

/// What happens on a link.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// Both channels can be written to once both have opened.
    FeaturesOpen,
    ControlOpen,
    Features(Bytes),
    Control(Bytes),
    /// A candidate that was found after the description was sent.
    Candidate(String),
    Sound(SoundPacket),
    Failed,
}

/// Why a link could not be made or go on.
#[derive(Debug, thiserror::Error)]
#[error("WebRTC: {0}")]
pub struct LinkError(#[from] webrtc::error::Error);

pub(crate) struct Link {
    connection: Arc<dyn PeerConnection>,
    features: Arc<dyn DataChannel>,
    control: Arc<dyn DataChannel>,
    sound: Option<(Arc<TrackLocalStaticRTP>, u32)>,
    gathered: watch::Receiver<bool>,
    gather_deadline: Duration,
}

impl Link {
    /// A link that has not been offered or answered yet, and its events.
    pub(crate) async fn new(
        settings: &LinkSettings,
        meter: Arc<WireMeter>,
    ) -> Result<(Self, mpsc::Receiver<LinkEvent>), LinkError> {
        let (events, receiver) = mpsc::channel(EVENTS);
        let (gathered_tx, gathered) = watch::channel(false);
        let handler = Handler { events: events.clone(), gathered: gathered_tx };
        let ice_servers = settings
            .ice_servers
            .iter()
            .map(|server| RTCIceServer {
                urls: vec![server.url.clone()],
                username: server.username.clone(),
                credential: server.credential.clone(),
            })
            .collect();
        let engine = SettingEngineBuilder::new()
            .with_include_loopback_candidate(true)
            .with_multicast_dns_mode(MulticastDnsMode::Disabled)
            .with_ice_timeouts(Some(DISCONNECTED), Some(FAILED), Some(KEEPALIVE))
            // 29 bytes of DTLS a record instead of 37: no explicit nonce.
            .with_dtls_cipher_suites(vec![
                CipherSuiteId::Tls_Ecdhe_Ecdsa_With_ChaCha20_Poly1305_Sha256,
                CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256,
            ])
            .build();
        let mut media = MediaEngine::default();
        let opus = RTCRtpCodecParameters { rtp_codec: opus(), payload_type: OPUS_PAYLOAD };
        media.register_codec(opus, RtpCodecKind::Audio)?;
        let connection = PeerConnectionBuilder::new()
            .with_media_engine(media)
            .with_configuration(
                RTCConfigurationBuilder::new().with_ice_servers(ice_servers).build(),
            )
            .with_setting_engine(engine)
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

    /// An offer, with the candidates found before the deadline.
    pub(crate) async fn offer(&mut self) -> Result<String, LinkError> {
        let offer = self.connection.create_offer(None).await?;
        self.describe(offer).await
    }

    /// The answer to an offer.
    pub(crate) async fn answer(&mut self, offer: String) -> Result<String, LinkError> {
        self.connection.set_remote_description(RTCSessionDescription::offer(offer)?).await?;
        let answer = self.connection.create_answer(None).await?;
        self.describe(answer).await
    }

    /// Takes the answer to our offer.
    pub(crate) async fn accept(&self, answer: String) -> Result<(), LinkError> {
        let answer = RTCSessionDescription::answer(answer)?;
        Ok(self.connection.set_remote_description(answer).await?)
    }

    /// Takes a candidate of the peer.
    pub(crate) async fn add_candidate(&self, candidate: String) -> Result<(), LinkError> {
        let candidate = RTCIceCandidateInit {
            candidate,
            sdp_mline_index: Some(0),
            ..RTCIceCandidateInit::default()
        };
        Ok(self.connection.add_ice_candidate(candidate).await?)
    }

    async fn describe(&mut self, description: RTCSessionDescription) -> Result<String, LinkError> {
        let bare = description.sdp.clone();
        self.connection.set_local_description(description).await?;
        let _ = tokio::time::timeout(
            self.gather_deadline,
            self.gathered.wait_for(|gathered| *gathered),
        )
        .await;
        Ok(self.connection.local_description().await.map_or(bare, |full| full.sdp))
    }

    /// Sends a packet, or drops it when the way out is full: a late face is of no use.
    pub(crate) async fn send_features(&self, packet: &[u8]) -> bool {
        self.features.try_send(BytesMut::from(packet)).await.is_ok()
    }

    /// Sends a control message, in order and surely; waits while too much is under way.
    pub(crate) async fn send_control(&self, message: &[u8]) -> Result<(), LinkError> {
        Ok(self.control.send(BytesMut::from(message)).await?)
    }

    /// Sends a packet of sound, if both ends want any.
    pub(crate) async fn send_sound(&self, sound: &SoundPacket) -> bool {
        let Some((track, ssrc)) = &self.sound else { return false };
        let header = rtp::Header {
            version: 2,
            payload_type: OPUS_PAYLOAD,
            sequence_number: sound.sequence,
            timestamp: sound.timestamp,
            ssrc: *ssrc,
            ..Default::default()
        };
        track.write_rtp(rtp::Packet { header, payload: sound.opus.clone() }).await.is_ok()
    }

    /// Bytes of control messages the peer has not confirmed yet.
    pub(crate) async fn control_under_way(&self) -> usize {
        self.control.outstanding_bytes().await.unwrap_or(0)
    }

    /// Ends the link; what was not sent is lost.
    pub(crate) async fn close(&self) {
        let _ = self.connection.close().await;
    }
}

struct Handler {
    events: mpsc::Sender<LinkEvent>,
    gathered: watch::Sender<bool>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        // Until the deadline, candidates travel in the description; sending one twice is harmless.
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

/// Opus as RFC 7587 wants it announced; it is mono all the same.
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
        let _ = match event {
            DataChannelEvent::OnOpen => {
                if events.send(LinkEvent::FeaturesOpen).await.is_err() {
                    return;
                }
                continue;
            }
            DataChannelEvent::OnMessage(message) => {
                events.try_send(LinkEvent::Features(message.data.freeze()))
            }
            DataChannelEvent::OnClose => return,
            _ => continue,
        };
    }
}

async fn read_control(channel: Arc<dyn DataChannel>, events: mpsc::Sender<LinkEvent>) {
    while let Some(event) = channel.poll().await {
        let event = match event {
            DataChannelEvent::OnOpen => LinkEvent::ControlOpen,
            DataChannelEvent::OnMessage(message) => LinkEvent::Control(message.data.freeze()),
            DataChannelEvent::OnClose => return,
            _ => continue,
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
}

/// Where to bind: a wildcard stands for every interface but loopback, which is named.
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

/// The address by which this machine would reach the world; nothing is sent to find out.
pub(crate) fn local_address(v6: bool) -> Option<IpAddr> {
    let (any, far): (IpAddr, IpAddr) = if v6 {
        (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into())
    } else {
        (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into())
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(SocketAddr::new(far, 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified() && !address.is_loopback()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn next(events: &mut mpsc::Receiver<LinkEvent>) -> LinkEvent {
        tokio::time::timeout(Duration::from_secs(30), events.recv())
            .await
            .expect("something happens within half a minute")
            .expect("the link lives")
    }

    async fn open(events: &mut mpsc::Receiver<LinkEvent>) {
        let mut missing = 2;
        while missing > 0 {
            if matches!(next(events).await, LinkEvent::FeaturesOpen | LinkEvent::ControlOpen) {
                missing -= 1;
            }
        }
    }

    #[test]
    fn two_links_on_one_machine_carry_packets_and_messages_and_count_them() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let settings = LinkSettings {
                ice_servers: Vec::new(),
                loopback: true,
                gather_deadline: Duration::from_secs(5),
                audio: true,
            };
            let (meter_a, meter_b) = (WireMeter::new(), WireMeter::new());
            let (mut a, mut events_a) = Link::new(&settings, Arc::clone(&meter_a)).await.unwrap();
            let (mut b, mut events_b) = Link::new(&settings, Arc::clone(&meter_b)).await.unwrap();
            let answer = b.answer(a.offer().await.unwrap()).await.unwrap();
            a.accept(answer).await.unwrap();
            open(&mut events_a).await;
            open(&mut events_b).await;

            let before = meter_a.count();
            let big: Vec<u8> = (0..16_000_u32).map(|i| (i % 251) as u8).collect();
            a.send_control(&big).await.unwrap();
            b.send_control(b"from b").await.unwrap();
            assert!(b.send_features(b"packet").await);
            let sound =
                SoundPacket { sequence: 9, timestamp: 7, opus: Bytes::from_static(b"opus") };
            assert!(b.send_sound(&sound).await);
            let (mut got_control, mut got_features, mut got_sound) = (false, false, false);
            while !(got_control && got_features && got_sound) {
                match next(&mut events_a).await {
                    LinkEvent::Control(message) => {
                        assert_eq!(message, &b"from b"[..]);
                        got_control = true;
                    }
                    LinkEvent::Features(packet) => {
                        assert_eq!(packet, &b"packet"[..]);
                        got_features = true;
                    }
                    LinkEvent::Sound(heard) => {
                        assert_eq!(heard, sound);
                        got_sound = true;
                    }
                    _ => {}
                }
            }
            loop {
                if let LinkEvent::Control(message) = next(&mut events_b).await {
                    assert_eq!(message, &big[..]);
                    break;
                }
            }
            let sent = meter_a.count().bytes_out - before.bytes_out;
            assert!(sent >= 16_000 + 13 * 28, "only {sent} bytes counted");
            assert!(meter_b.count().bytes_in >= 16_000 && meter_b.last_in().is_some());
            a.close().await;
            b.close().await;
        });
    }
}
