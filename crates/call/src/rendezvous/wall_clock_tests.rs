//! Clients and service over real sockets. Seats, limits and budgets are tested beside their code.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use transport::{CHALLENGE_BYTES, Role, RoomKey, Secret};

use super::embedded::EmbeddedRendezvous;
use super::limits::Limits;
use super::{Duration, RendezvousService, Service, listen};
use crate::session::{Input, SignalingEvent};
use crate::signaling_client::{RunningClient, SignalingClient};
use crate::signaling_error::SignalingError;
use crate::web_socket::MAX_MESSAGE_BYTES;

/// Longest wait for anything. A test that waits longer is broken.
const PATIENCE: Duration = Duration::from_mins(1);
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn key() -> RoomKey {
    Secret::new([7; 16]).room_key()
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens")
}

/// A public service on the test's own runtime.
fn serve() -> String {
    let (listener, address) = listen(LOOPBACK).unwrap();
    let service = Service::new(Limits::public(100), None, Box::new(|_| {}));
    tokio::spawn(async move { service.accept(&listener).await });
    address.to_string()
}

struct Client {
    running: RunningClient,
    inputs: mpsc::Receiver<Input>,
}

impl Client {
    async fn enter(host: &str, role: Role) -> Self {
        let client =
            soon(SignalingClient::enter(vec![host.to_owned()], key(), role)).await.unwrap();
        let (sender, inputs) = mpsc::channel(64);
        Self { running: client.start(sender), inputs }
    }

    async fn next(&mut self) -> SignalingEvent {
        match soon(self.inputs.recv()).await {
            Some(Input::Signaling(event)) => event,
            other => panic!("{other:?}"),
        }
    }

    async fn assert_hears(&mut self, bytes: &[u8]) {
        let event = self.next().await;
        assert!(matches!(&event, SignalingEvent::Sealed(got) if got[..] == *bytes), "{event:?}");
    }

    /// Waits until messages of `from` arrive here: a client may have proved its seat without the
    /// service having noticed.
    async fn assert_reached_by(&mut self, from: &Self, bytes: &[u8]) {
        let event = soon(async {
            loop {
                from.running.send(bytes.to_vec());
                let waiting = tokio::time::timeout(Duration::from_millis(50), self.inputs.recv());
                if let Ok(event) = waiting.await {
                    return event;
                }
            }
        });
        match event.await {
            Some(Input::Signaling(SignalingEvent::Sealed(got))) => assert_eq!(got, bytes),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_guest_takes_its_seat_from_the_connection_that_died() {
    let host = serve();
    let mut caller = Client::enter(&host, Role::Host).await;
    // This connection stays open, as that of a computer that fell asleep.
    let mut asleep = Client::enter(&host, Role::Guest).await;
    caller.assert_reached_by(&asleep, b"before").await;
    let mut awake = Client::enter(&host, Role::Guest).await;
    assert!(matches!(asleep.next().await, SignalingEvent::Replaced));
    awake.assert_reached_by(&caller, b"offer").await;
    // The one that was replaced comes back only when it is asked to.
    asleep.running.reconnect();
    assert!(matches!(awake.next().await, SignalingEvent::Replaced));
    asleep.assert_reached_by(&caller, b"again").await;
}

#[tokio::test]
async fn the_largest_message_passes() {
    let host = serve();
    let mut caller = Client::enter(&host, Role::Host).await;
    let mut guest = Client::enter(&host, Role::Guest).await;
    guest.assert_reached_by(&caller, b"first").await;
    let large: Vec<u8> = (0..MAX_MESSAGE_BYTES).map(|i| (i % 251) as u8).collect();
    guest.running.send(large.clone());
    caller.assert_hears(&large).await;
}

/// Connects to the room of [`key`] and answers the challenge with the proof that `prove` makes.
/// Returns the code with which the service closes.
async fn close_code(host: &str, prove: impl Fn(&[u8; CHALLENGE_BYTES]) -> Vec<u8>) -> Option<u16> {
    let url = format!("ws://{host}/v2/{}", key().room());
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    loop {
        match soon(socket.next()).await {
            Some(Ok(Message::Binary(challenge))) => {
                let proof = prove(challenge[..].try_into().unwrap());
                socket.send(Message::Binary(Bytes::from(proof))).await.unwrap();
            }
            Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code.into()),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return None,
        }
    }
}

#[tokio::test]
async fn whoever_knows_only_the_name_of_the_room_gets_no_seat() {
    let host = serve();
    let caller = Client::enter(&host, Role::Host).await;
    let mut guest = Client::enter(&host, Role::Guest).await;
    guest.assert_reached_by(&caller, b"first").await;
    let stranger = Secret::new([8; 16]).room_key();
    let recorded = key().prove_seat(Role::Guest, &[0; CHALLENGE_BYTES]).to_vec();
    assert_eq!(close_code(&host, |_| recorded.clone()).await, Some(4006), "replayed");
    let foreign = |challenge: &_| stranger.prove_seat(Role::Guest, challenge).to_vec();
    assert_eq!(close_code(&host, foreign).await, Some(4006));
    assert_eq!(close_code(&host, |_| b"junk".to_vec()).await, Some(4006));
    caller.running.send(b"still here".to_vec());
    guest.assert_hears(b"still here").await;
}

/// A member of a room of its own, without a client of ours.
async fn member(host: &str) -> WebSocketStream<MaybeTlsStream<TcpStream>> {
    let url = format!("ws://{host}/v2/{}", key().room());
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let Some(Ok(Message::Binary(challenge))) = soon(socket.next()).await else { panic!() };
    let proof = key().prove_seat(Role::Host, challenge[..].try_into().unwrap());
    socket.send(Message::Binary(proof.to_vec().into())).await.unwrap();
    socket
}

#[tokio::test]
async fn floods_end_with_a_close_code() {
    let host = serve();
    let ping = Message::Ping(Bytes::new());
    let text = Message::Text("text".into());
    let part = || Frame::message(Bytes::new(), OpCode::Data(Data::Continue), false);
    let begin = Frame::message(Bytes::new(), OpCode::Data(Data::Binary), false);
    for (first, flood) in [
        (None, ping.clone()),
        (None, text),
        (None, Message::Binary(Bytes::from_static(b"message"))),
        // Frames that never become a message.
        (Some(Message::Frame(begin)), Message::Frame(part())),
    ] {
        let mut socket = member(&host).await;
        if let Some(first) = first {
            socket.send(first).await.unwrap();
        }
        let (mut sending, mut receiving) = socket.split();
        let flooding = async { while sending.send(flood.clone()).await.is_ok() {} };
        let closing = async {
            while let Some(Ok(message)) = receiving.next().await {
                if let Message::Close(frame) = message {
                    return frame.map(|frame| u16::from(frame.code));
                }
            }
            None
        };
        let ((), code) = soon(async { tokio::join!(flooding, closing) }).await;
        // A client that sends on after the close may lose the code with its connection.
        assert!(matches!(code, Some(4002) | None), "{code:?}");
    }
}

#[tokio::test]
async fn whoever_does_not_begin_in_time_is_closed() {
    let host = serve();
    let silent = TcpStream::connect(&host).await.unwrap();
    let mut slow = TcpStream::connect(&host).await.unwrap();
    slow.write_all(b"GET /v2/0123456789abcdef HTTP/1.1\r\nX: ").await.unwrap();
    let mut without_proof = TcpStream::connect(&host).await.unwrap();
    let request = format!(
        "GET /v2/{} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        key().room()
    );
    without_proof.write_all(request.as_bytes()).await.unwrap();
    for mut stream in [silent, slow, without_proof] {
        let mut rest = Vec::new();
        soon(stream.read_to_end(&mut rest)).await.unwrap();
    }
}

/// Sends a request and returns the whole answer.
async fn answer_to(host: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(host).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn an_old_client_is_told_to_update_and_counters_are_shown() {
    let host = serve();
    let url = format!("ws://{host}/v1/0123456789abcdef");
    match tokio_tungstenite::connect_async(url).await {
        Err(tungstenite::Error::Http(response)) => assert_eq!(response.status(), 426),
        other => panic!("{other:?}"),
    }
    let _caller = Client::enter(&host, Role::Host).await;
    let metrics = soon(async {
        loop {
            let metrics = answer_to(&host, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
            if metrics.contains("feathercall_joins_total 1\n") {
                return metrics;
            }
        }
    });
    let metrics = metrics.await;
    assert!(metrics.contains("{reason=\"other_version\"} 1\n"), "{metrics}");
    assert!(!metrics.contains(&key().room()), "no room is named");
}

#[tokio::test]
async fn an_address_with_too_many_sockets_is_told_so() {
    let host = serve();
    let mut sockets = Vec::new();
    for _ in 0..64 {
        sockets.push(TcpStream::connect(&host).await.unwrap());
    }
    let refused = soon(SignalingClient::enter(vec![host], key(), Role::Host)).await;
    assert!(matches!(refused, Err(SignalingError::Busy(_) | SignalingError::Broken { .. })));
}

#[tokio::test]
async fn an_embedded_service_closes_and_opens_again_on_its_port() {
    let service = EmbeddedRendezvous::start(Some(LOOPBACK), key().room()).unwrap();
    let host = service.address().to_string();
    let mut caller = Client::enter(&host, Role::Host).await;
    let guest = Client::enter(&host, Role::Guest).await;
    caller.assert_reached_by(&guest, b"before").await;
    let other = Secret::new([8; 16]).room_key();
    let refused = soon(SignalingClient::enter(vec![host.clone()], other, Role::Host)).await;
    assert!(matches!(refused, Err(SignalingError::AnotherCall(_))), "it serves one room");

    service.set_open(false);
    soon(async { while TcpStream::connect(&host).await.is_ok() {} }).await;
    caller.assert_reached_by(&guest, b"members stay").await;
    service.set_open(true);
    guest.running.reconnect();
    caller.assert_reached_by(&guest, b"after").await;
    drop(service);
    soon(async { while TcpStream::connect(&host).await.is_ok() {} }).await;
}

#[tokio::test]
async fn a_guest_finds_the_address_that_works_and_takes_one_seat() {
    let service = EmbeddedRendezvous::start(None, key().room()).unwrap();
    let port = service.address().port();
    let mut caller = Client::enter(&format!("127.0.0.1:{port}"), Role::Host).await;
    // One address refuses, one never answers, and one has another service.
    let silent = std::net::TcpListener::bind(LOOPBACK).unwrap();
    let other = EmbeddedRendezvous::start(Some(LOOPBACK), "another-room".into()).unwrap();
    let mut hosts = vec!["127.0.0.1:1".to_owned()];
    hosts.extend([silent.local_addr().unwrap(), other.address()].map(|a| a.to_string()));
    let refused = soon(SignalingClient::enter(hosts[..1].to_vec(), key(), Role::Guest)).await;
    assert!(matches!(refused, Err(SignalingError::NotListening(_))));
    hosts.extend([format!("127.0.0.1:{port}"), format!("localhost:{port}")]);
    let client = soon(SignalingClient::enter(hosts, key(), Role::Guest)).await.unwrap();
    let (sender, inputs) = mpsc::channel(64);
    let mut guest = Client { running: client.start(sender), inputs };
    caller.assert_reached_by(&guest, b"knock").await;
    guest.assert_reached_by(&caller, b"still in its seat").await;
    drop(silent);
}

#[tokio::test]
async fn a_service_without_an_address_is_reached_by_both_families() {
    let service = EmbeddedRendezvous::start(None, key().room()).unwrap();
    let port = service.address().port();
    TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    if service.address().is_ipv6() {
        TcpStream::connect(("::1", port)).await.unwrap();
    }
    let taken = EmbeddedRendezvous::start(Some(service.address()), key().room());
    let message = taken.err().expect("the port is taken").to_string();
    assert!(message.ends_with("another program uses this port; choose another one"), "{message}");
}

#[test]
fn a_service_that_stops_says_goodbye() {
    let service = RendezvousService::start(LOOPBACK, |_| {}).unwrap();
    let host = service.address().to_string();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut socket = runtime.block_on(async {
        let socket = member(&host).await;
        while !answer_to(&host, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .contains("joins_total 1\n")
        {}
        socket
    });
    let stopping = std::thread::spawn(|| service.stop());
    let farewell = runtime.block_on(soon(socket.next()));
    let Some(Ok(Message::Close(Some(frame)))) = farewell else { panic!("{farewell:?}") };
    assert_eq!(u16::from(frame.code), 1001);
    drop(socket);
    stopping.join().unwrap();
    assert!(std::net::TcpStream::connect(&host).is_err());
}
