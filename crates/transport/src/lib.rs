//! Transport between two peers: packets, reports, playout, signaling and control messages.
//!
//! Nothing here opens a socket or reads a clock. Bytes and the current time are arguments, bytes
//! and features are results, so a test of half a minute on a bad network takes milliseconds. An
//! access unit is opaque here. The formats are specified in docs/TRANSPORT.md.
//!
//! - [`Packetizer`] packs access units into packets and repeats earlier ones.
//! - [`JitterBuffer`] takes packets in any order, returns units in order and writes reports.
//! - [`SoundPayload`] is what an RTP packet carries: sound, a packet of units, or both.
//! - [`Playout`] holds decoded features until they are due and conceals losses.
//! - [`Invite`] is the link with the secret of a call; [`Seal`] protects [`Signal`]s with it, and
//!   [`PeerSeal`] those of peers who have been connected.
//! - [`RoomKey`] proves to a rendezvous service who may take a seat in a room.
//! - [`Control`] is a message of the reliable channel; [`ModelSender`] and [`ModelReceiver`]
//!   transfer the face model over it.
//!
//! ```
//! use std::time::{Duration, Instant};
//! use transport::{JitterBuffer, Packetizer, PacketizerSettings};
//! use types::{MediaTime, UnitNumber};
//!
//! let now = Instant::now();
//! let settings = PacketizerSettings { units_per_packet: 1, ..PacketizerSettings::default() };
//! let (mut packetizer, mut jitter_buffer) = (Packetizer::new(settings), JitterBuffer::new());
//! packetizer.push_unit(now, UnitNumber(0), MediaTime::ZERO, b"unit")?;
//! let packet = packetizer.poll_packet(now, None).expect("one unit fills a packet");
//! let arrival = now + Duration::from_millis(20);
//! jitter_buffer.handle_packet(arrival, &packet)?;
//! let unit = jitter_buffer.poll_unit(arrival).expect("the unit has arrived");
//! assert_eq!(&unit.bytes[..], b"unit");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod check_words;
mod concealment;
mod content_hash;
mod control;
mod invite;
mod invite_error;
mod invite_finder;
mod jitter_buffer;
mod loss_meter;
mod model_transfer;
mod packet;
mod packetizer;
mod pasted_text;
mod peer_seal;
mod playout;
mod resume_token;
mod room_key;
mod seal;
mod signal;
mod sound_payload;
mod wire;

pub use check_words::CheckWords;
pub use content_hash::{ContentHash, content_hash};
pub use control::{
    Admission, Bye, Control, ControlError, MAX_CHAT_BYTES, MAX_CHUNK_BYTES, MAX_CONTROL_BYTES,
    MAX_NAME_BYTES, VERSION,
};
pub use invite::{Invite, ManualAnswer, MeetingPoint, SECRET_BYTES, Secret};
pub use invite_error::InviteError;
pub use jitter_buffer::{JitterBuffer, JitterBufferStats, ReceivedUnit};
pub use model_transfer::{MAX_MODEL_BYTES, ModelReceiver, ModelSender, TransferError};
pub use packet::{MAX_PACKET_BYTES, MEDIA_TIME_PERIOD, PacketError, ReceiverReport};
pub use packetizer::{Packetizer, PacketizerSettings, UnitError};
pub use peer_seal::PeerSeal;
pub use playout::{Playout, PlayoutSource};
pub use resume_token::{RESUME_TOKEN_BYTES, ResumeToken};
pub use room_key::{
    CHALLENGE_BYTES, RoomKey, SEAT_PROOF_BYTES, SeatProofError, is_room, verify_seat_proof,
};
pub use seal::{MAX_SEALED_BYTES, OpenError, Role, SALT_BYTES, Seal};
pub use signal::{Refusal, Signal, SignalError};
pub use sound_payload::{SoundPayload, SoundPayloadError};
