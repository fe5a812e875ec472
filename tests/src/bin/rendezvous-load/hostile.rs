//! Clients that try to use the service up.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use transport::Role;

use crate::client::{Client, Meeting, connect, source_address};
use crate::key;

/// Addresses from which they come.
const N_ADDRESSES: u32 = 20;
/// Pause before a client that was thrown out comes again.
const PAUSE: Duration = Duration::from_millis(200);
/// Numbers of the rooms of floods, which are no rooms of honest pairs.
const OWN_ROOMS: u32 = 1_000_000;

/// Starts as many hostile clients, a fifth of each kind. They know the names of the rooms of
/// `n_pairs` honest pairs, and come again whenever they are thrown out.
pub(crate) fn start(meeting: Meeting, n: u32, n_pairs: u32) -> Vec<JoinHandle<()>> {
    let attempt = move |number| async move {
        loop {
            let from = source_address(2, number % N_ADDRESSES);
            if let Ok(stream) = connect(meeting.service, from).await {
                let _ = attack(stream, meeting, number, n_pairs).await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    (0..n).map(|number| tokio::spawn(attempt(number))).collect()
}

async fn attack(mut stream: TcpStream, meeting: Meeting, number: u32, n_pairs: u32) -> Option<()> {
    let room = key(number / 5 % n_pairs);
    match number % 5 {
        // A request that never ends, a byte at a time.
        0 => loop {
            stream.write_all(b"G").await.ok()?;
            tokio::time::sleep(Duration::from_millis(500)).await;
        },
        // Nothing at all.
        1 => stream.read_u8().await.ok().map(|_| ()),
        // A flood of pings from a seat in a room of its own.
        2 => {
            let own = key(OWN_ROOMS + number);
            let mut client =
                Client::join_over(stream, meeting, &own, Some(Role::Guest)).await.ok()?;
            client.flood().await
        }
        // A seat in the room of an honest pair, with a wrong proof.
        3 => {
            let mut client = Client::join_over(stream, meeting, &room, None).await.ok()?;
            while client.receive().await.is_some() {}
            Some(())
        }
        // Junk.
        _ => loop {
            stream.write_all(&[0x7f; 1000]).await.ok()?;
        },
    }
}
