//! What both ends of a WebSocket to a rendezvous service agree on.

use bytes::Bytes;
use futures_util::{Sink, SinkExt};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{self, Message};

/// Largest message: an offer of 32 KiB, sealed. Larger ones are refused.
pub(crate) const MAX_MESSAGE_BYTES: usize = 34 * 1024;
/// Largest frame of a message that is accepted. A larger message comes in fragments (RFC 6455,
/// section 5.4), because a socket keeps a buffer as large as its largest frame.
const MAX_FRAME_BYTES: usize = 8 * 1024;
/// Largest frame of a message that is sent.
const SENT_FRAME_BYTES: usize = 4 * 1024;

/// Close code: the seat was taken by somebody with a newer proof. Codes from 4000 on belong to the
/// application (RFC 6455, section 7.4.2).
pub(crate) const REPLACED: u16 = 4004;

/// Returns limits and buffer sizes. The buffers are small, because a service has many sockets and
/// few messages.
pub(crate) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_FRAME_BYTES))
        .read_buffer_size(1024)
        .write_buffer_size(0)
        .max_write_buffer_size(4 * SENT_FRAME_BYTES)
}

/// Sends a binary message, in fragments if it is large.
pub(crate) async fn send_message<S>(
    socket: &mut S,
    message: Bytes,
) -> Result<(), tungstenite::Error>
where
    S: Sink<Message, Error = tungstenite::Error> + Unpin,
{
    for fragment in fragments(message) {
        socket.send(Message::Frame(fragment)).await?;
    }
    Ok(())
}

/// Cuts a message into frames.
fn fragments(mut message: Bytes) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut data = Data::Binary;
    loop {
        let payload = message.split_to(message.len().min(SENT_FRAME_BYTES));
        let is_last = message.is_empty();
        frames.push(Frame::message(payload, OpCode::Data(data), is_last));
        if is_last {
            return frames;
        }
        data = Data::Continue;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_message_is_cut_into_small_frames() {
        for (n_bytes, sizes) in [
            (0, vec![0]),
            (10, vec![10]),
            (4096, vec![4096]),
            (4097, vec![4096, 1]),
            (MAX_MESSAGE_BYTES, [vec![4096; 8], vec![2048]].concat()),
        ] {
            let frames = fragments(Bytes::from(vec![7; n_bytes]));
            let got: Vec<usize> = frames.iter().map(|frame| frame.payload().len()).collect();
            assert_eq!(got, sizes);
            for (i, frame) in frames.iter().enumerate() {
                let header = frame.header();
                let want = if i == 0 { Data::Binary } else { Data::Continue };
                assert_eq!(header.opcode, OpCode::Data(want));
                assert_eq!(header.is_final, i + 1 == frames.len());
            }
        }
    }
}
