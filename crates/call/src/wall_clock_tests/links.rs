//! Links over real sockets on loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use numerics::SplitMix64;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use webrtc::data_channel::DataChannel;
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState,
    RTCPeerConnectionState, RTCSessionDescription, SettingEngineBuilder,
};

use super::PATIENCE;
use crate::certificate::generate_certificate;
use crate::connection::LinkSettings;
use crate::event::LinkError;
use crate::link::LinkHandle;
use crate::session::{Input, LinkCommand, LinkEvent, LinkId, SoundPacket};
use crate::settings::IceServer;
use crate::wire_meter::WireMeter;

/// One end of a link, without a session.
struct End {
    handle: LinkHandle,
    inputs: mpsc::Receiver<Input>,
    meter: Arc<WireMeter>,
    task: JoinHandle<()>,
}

impl End {
    fn start(settings: LinkSettings) -> Self {
        let (meter, (sender, inputs)) = (WireMeter::new(), mpsc::channel(64));
        let (handle, task) = LinkHandle::start(LinkId(1), settings, Arc::clone(&meter), sender);
        Self { handle, inputs, meter, task }
    }

    fn command(&self, command: LinkCommand) {
        self.handle.command(command).unwrap();
    }

    /// Returns the next event.
    async fn event(&mut self) -> LinkEvent {
        let input = tokio::time::timeout(PATIENCE, self.inputs.recv()).await;
        match input.expect("something happens").expect("the link lives") {
            Input::Link(_, event) => event,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until an event was picked, for each of `picks` once, in any order.
    async fn wait_for(&mut self, picks: &[&dyn Fn(&LinkEvent) -> bool]) {
        let mut missing = picks.to_vec();
        while !missing.is_empty() {
            let event = self.event().await;
            missing.retain(|pick| !pick(&event));
        }
    }

    async fn description(&mut self) -> String {
        loop {
            if let LinkEvent::Described(description) = self.event().await {
                return description;
            }
        }
    }

    /// Returns the error with which the link ends.
    async fn error(&mut self) -> LinkError {
        loop {
            if let LinkEvent::Error(error) = self.event().await {
                return error;
            }
        }
    }

    /// Closes the link and waits for the end of its task.
    async fn close(self) {
        drop(self.handle);
        tokio::time::timeout(PATIENCE, self.task).await.expect("it ends").unwrap();
    }
}

fn settings() -> LinkSettings {
    LinkSettings {
        ice_servers: Vec::new(),
        loopback: true,
        relay_only: false,
        gather_deadline: Duration::from_secs(5),
        audio: true,
        certificate: generate_certificate().unwrap(),
    }
}

fn on_runtime(test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(test);
}

/// Returns two ends whose descriptions were exchanged after `change` was made to both.
async fn exchange(change: impl Fn(String) -> String) -> [End; 2] {
    let [mut a, mut b] = [End::start(settings()), End::start(settings())];
    a.command(LinkCommand::Offer);
    b.command(LinkCommand::Answer(change(a.description().await)));
    a.command(LinkCommand::Accept(change(b.description().await)));
    [a, b]
}

fn is_open(event: &LinkEvent) -> bool {
    matches!(event, LinkEvent::Open)
}

async fn connected() -> [End; 2] {
    let mut ends = exchange(|description| description).await;
    for end in &mut ends {
        end.wait_for(&[&is_open]).await;
    }
    ends
}

#[test]
fn a_link_carries_packets_messages_and_sound_and_counts_them() {
    on_runtime(async {
        let [mut a, mut b] = connected().await;
        let before = a.meter.count();
        let large: Vec<u8> = (0..16_000_u32).map(|i| (i % 251) as u8).collect();
        let sound = SoundPacket {
            sequence: 9,
            timestamp: 7,
            is_pair: true,
            payload: Bytes::from_static(b"\0opus"),
        };
        a.command(LinkCommand::SendControl(large.clone()));
        b.command(LinkCommand::SendControl(b"from b".to_vec()));
        b.command(LinkCommand::SendFeatures(Bytes::from_static(b"packet")));
        b.command(LinkCommand::SendSound(sound.clone()));
        let is_control = |want: Vec<u8>| move |event: &LinkEvent| matches!(event, LinkEvent::Control(got) if got[..] == want);
        let is_packet =
            |event: &LinkEvent| matches!(event, LinkEvent::Features(got) if got[..] == *b"packet");
        let is_sound = |event: &LinkEvent| matches!(event, LinkEvent::Sound(got) if *got == sound);
        let is_small = is_control(b"from b".to_vec());
        a.wait_for(&[&is_small, &is_packet, &is_sound]).await;
        b.wait_for(&[&is_control(large)]).await;
        let sent = a.meter.count().bytes_out - before.bytes_out;
        assert!(sent >= 16_000 + 13 * 28, "only {sent} bytes counted");
        assert!(b.meter.count().bytes_in >= 16_000);
        a.close().await;
        b.close().await;
    });
}

#[test]
fn a_peer_that_does_not_read_fails_the_link_and_does_not_delay_its_end() {
    on_runtime(async {
        let [a, b] = connected().await;
        // Nobody takes what arrives at `b`, so its window closes and `a` cannot send any more.
        let mut n_sent = 0;
        let refusal = loop {
            assert!(n_sent < 10_000, "everything is taken");
            match a.handle.command(LinkCommand::SendControl(vec![0; 16 * 1024])) {
                Ok(()) => n_sent += 1,
                Err(error) => break error,
            }
            tokio::task::yield_now().await;
        };
        assert!(matches!(refusal, LinkError::PeerDoesNotRead), "{refusal}");
        a.close().await;
        b.close().await;
    });
}

#[test]
fn a_wrong_certificate_ends_the_link_with_an_error_of_its_own() {
    on_runtime(async {
        // As somebody in between would: another certificate than the one in the descriptions.
        let [mut a, _b] = exchange(|description| {
            let is_print = |line: &&str| line.starts_with("a=fingerprint:");
            let print = description.lines().find(is_print).unwrap().to_owned();
            let other = ["AB"; 32].join(":");
            description.replace(&print, &format!("a=fingerprint:sha-256 {other}"))
        })
        .await;
        let error = a.error().await;
        assert!(matches!(error, LinkError::WrongCertificate), "{error}");
        a.task.await.unwrap();
    });
}

#[test]
fn a_link_survives_a_wrong_answer_but_not_a_wrong_offer() {
    on_runtime(async {
        let [mut a, mut b] = [End::start(settings()), End::start(settings())];
        a.command(LinkCommand::Offer);
        b.command(LinkCommand::Answer(a.description().await));
        let answer = b.description().await;
        for wrong in [answer.replace("a=ice-pwd:", "a=ice-pwx:"), String::new()] {
            a.command(LinkCommand::Accept(wrong));
            a.error().await;
        }
        a.command(LinkCommand::Accept(answer));
        a.wait_for(&[&is_open]).await;
        let [mut a, mut b] = [End::start(settings()), End::start(settings())];
        a.command(LinkCommand::Offer);
        let video = a.description().await + "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n";
        b.command(LinkCommand::Answer(video));
        let error = b.error().await;
        assert!(matches!(error, LinkError::BadDescription), "{error}");
        b.task.await.unwrap();
    });
}

#[test]
fn with_relays_alone_no_address_of_this_end_is_described() {
    on_runtime(async {
        // A relay that never answers.
        let relay = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let url = format!("turn:{}", relay.local_addr().unwrap());
        let credential = "secret".to_owned();
        let relay_only = LinkSettings {
            ice_servers: vec![IceServer { url, username: "ada".to_owned(), credential }],
            relay_only: true,
            gather_deadline: Duration::from_millis(100),
            ..settings()
        };
        let mut ends = [End::start(settings()), End::start(relay_only)];
        for (end, expected) in ends.iter_mut().zip([true, false]) {
            end.command(LinkCommand::Offer);
            let description = end.description().await;
            assert_eq!(description.contains("127.0.0.1"), expected, "{description}");
            assert_eq!(description.contains("a=candidate"), expected, "{description}");
        }
    });
}

/// Forwards datagrams between the links behind two sockets, and loses some of them.
struct LossyPath {
    /// Each stands for the end of the other index.
    sockets: [UdpSocket; 2],
    loss: f32,
}

impl LossyPath {
    async fn new(loss: f32) -> Self {
        let socket = async || UdpSocket::bind("127.0.0.1:0").await.unwrap();
        Self { sockets: [socket().await, socket().await], loss }
    }

    /// Returns a description in which the path stands for the end of this index, and the address of that
    /// end.
    fn redirect(&self, description: &str, end: usize) -> (String, SocketAddr) {
        let start = description.find(" 127.0.0.1 ").unwrap() + " 127.0.0.1 ".len();
        let port = description[start..].split(' ').next().unwrap();
        let ours = self.sockets[1 - end].local_addr().unwrap().port();
        let redirected =
            description.replace(&format!(" 127.0.0.1 {port} "), &format!(" 127.0.0.1 {ours} "));
        (redirected, SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap())))
    }

    async fn run(&self, ends: [SocketAddr; 2]) {
        let mut random = SplitMix64::new(1);
        let mut buffers = [[0; 2048]; 2];
        let [a, b] = &mut buffers;
        loop {
            let (from, n) = tokio::select! {
                n = self.sockets[0].recv(a) => (0, n.unwrap_or(0)),
                n = self.sockets[1].recv(b) => (1, n.unwrap_or(0)),
            };
            if !random.chance(self.loss) {
                let bytes = if from == 0 { &a[..n] } else { &b[..n] };
                let _ = self.sockets[1 - from].send_to(bytes, ends[1 - from]).await;
            }
        }
    }
}

#[test]
fn a_link_is_set_up_when_half_of_all_datagrams_are_lost() {
    on_runtime(async {
        let path = LossyPath::new(0.5).await;
        let [mut a, mut b] = [End::start(settings()), End::start(settings())];
        a.command(LinkCommand::Offer);
        let (offer, a_address) = path.redirect(&a.description().await, 0);
        b.command(LinkCommand::Answer(offer));
        let (answer, b_address) = path.redirect(&b.description().await, 1);
        a.command(LinkCommand::Accept(answer));
        let both_open = async {
            a.wait_for(&[&is_open]).await;
            b.wait_for(&[&is_open]).await;
        };
        tokio::select! {
            () = both_open => {}
            () = path.run([a_address, b_address]) => unreachable!(),
        }
    });
}

/// A peer that was not written by us.
struct Stranger {
    gathered: mpsc::Sender<()>,
    connected: mpsc::Sender<()>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Stranger {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            let _ = self.gathered.try_send(());
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        if state == RTCPeerConnectionState::Connected {
            let _ = self.connected.try_send(());
        }
    }
}

#[test]
fn a_peer_that_opens_channels_nobody_asked_for_loses_the_link() {
    on_runtime(async {
        let mut victim = End::start(LinkSettings { audio: false, ..settings() });
        victim.command(LinkCommand::Offer);
        let ((gathered, mut is_gathered), (connected, mut is_connected)) =
            (mpsc::channel(1), mpsc::channel(1));
        let stranger = PeerConnectionBuilder::new()
            .with_setting_engine(
                SettingEngineBuilder::new().with_include_loopback_candidate(true).build(),
            )
            .with_handler(Arc::new(Stranger { gathered, connected }))
            .with_udp_addrs(vec!["127.0.0.1:0"])
            .build()
            .await
            .unwrap();
        let offer = RTCSessionDescription::offer(victim.description().await).unwrap();
        stranger.set_remote_description(offer).await.unwrap();
        let answer = stranger.create_answer(None).await.unwrap();
        stranger.set_local_description(answer).await.unwrap();
        is_gathered.recv().await.unwrap();
        let answer = stranger.local_description().await.unwrap().sdp;
        victim.command(LinkCommand::Accept(answer));
        is_connected.recv().await.unwrap();
        // Opened one after another until the victim is gone.
        let flood = async {
            let mut channels: Vec<Arc<dyn DataChannel>> = Vec::new();
            for i in 0..2000 {
                let Ok(channel) = stranger.create_data_channel(&format!("c{i}"), None).await else {
                    break;
                };
                let _ = channel.try_send(BytesMut::from(&[0; 1000][..])).await;
                channels.push(channel);
                tokio::task::yield_now().await;
            }
            std::future::pending::<()>().await;
        };
        let error = tokio::select! {
            error = victim.error() => error,
            () = flood => unreachable!(),
        };
        assert!(matches!(error, LinkError::UnknownChannels), "{error}");
        victim.task.await.unwrap();
        let _ = stranger.close().await;
    });
}
