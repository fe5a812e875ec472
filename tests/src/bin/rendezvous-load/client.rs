use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use transport::{Role, RoomKey};

/// Longest wait for the service. A client that waits longer was harmed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where clients meet, and from how many addresses they come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meeting {
    pub(crate) service: SocketAddr,
    /// Version of the protocol.
    pub(crate) version: u8,
    pub(crate) n_addresses: u32,
}

/// Where client number `number` comes from: 127.NETWORK.0.0 plus its number.
pub(crate) fn source_address(network: u8, number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from_be_bytes([127, network, 0, 0]) + 1 + number)
}

/// Opens a connection from an address.
pub(crate) async fn connect(service: SocketAddr, from: Ipv4Addr) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from.into(), 0))?;
    let stream = tokio::time::timeout(PATIENCE, socket.connect(service)).await??;
    // As a client of a call does.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A client in a seat.
pub(crate) struct Client(WebSocketStream<TcpStream>);

impl Client {
    /// Takes a seat from one of the meeting's addresses.
    pub(crate) async fn join(
        meeting: Meeting,
        number: u32,
        room: &RoomKey,
        role: Role,
    ) -> anyhow::Result<Self> {
        let stream =
            connect(meeting.service, source_address(1, number % meeting.n_addresses)).await?;
        Self::join_over(stream, meeting, room, Some(role)).await
    }

    /// Takes a seat over a connection; without a role, with a wrong proof.
    pub(crate) async fn join_over(
        stream: TcpStream,
        meeting: Meeting,
        room: &RoomKey,
        role: Option<Role>,
    ) -> anyhow::Result<Self> {
        let joining = async {
            let url = format!("ws://{}/v{}/{}", meeting.service, meeting.version, room.room());
            // Small buffers here too: ten thousand clients are one process.
            let config = WebSocketConfig::default().read_buffer_size(1024).write_buffer_size(0);
            let (mut socket, _) = client_async_with_config(url, stream, Some(config)).await?;
            if meeting.version > 1 {
                let Some(Ok(Message::Binary(challenge))) = socket.next().await else {
                    bail!("no challenge")
                };
                let mut proof =
                    room.prove_seat(role.unwrap_or(Role::Guest), challenge[..].try_into()?);
                if role.is_none() {
                    proof[50] ^= 1;
                }
                socket.send(Message::Binary(proof.to_vec().into())).await?;
            }
            Ok(Self(socket))
        };
        tokio::time::timeout(PATIENCE, joining).await.context("the service does not answer")?
    }

    pub(crate) async fn send(&mut self, message: Bytes) -> anyhow::Result<()> {
        Ok(self.0.send(Message::Binary(message)).await?)
    }

    /// Sends pings without a pause, until the service has enough.
    pub(crate) async fn flood(&mut self) -> Option<()> {
        loop {
            self.0.send(Message::Ping(Bytes::from_static(&[7; 100]))).await.ok()?;
        }
    }

    /// Returns the next message, or `None` if none comes in time.
    pub(crate) async fn receive(&mut self) -> Option<Bytes> {
        let receiving = async {
            loop {
                match self.0.next().await? {
                    Ok(Message::Binary(message)) => return Some(message),
                    Ok(Message::Close(_)) | Err(_) => return None,
                    Ok(_) => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, receiving).await.ok().flatten()
    }

    /// Sends a message and returns what another client hears.
    pub(crate) async fn send_and_hear(
        &mut self,
        other: &mut Self,
        message: Bytes,
    ) -> Option<Bytes> {
        self.send(message).await.ok()?;
        other.receive().await
    }

    /// Waits until the service has answered a ping.
    pub(crate) async fn check(&mut self) -> Option<()> {
        self.0.send(Message::Ping(Bytes::new())).await.ok()?;
        let answering = async {
            loop {
                match self.0.next().await? {
                    Ok(Message::Pong(_)) => return Some(()),
                    Ok(Message::Close(_)) | Err(_) => return None,
                    Ok(_) => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, answering).await.ok().flatten()
    }
}
