//! What travels between two peers, and when: packets, reports, playout, invites, sealed signaling
//! and control messages.
//!
//! Nothing here opens a socket or reads a clock: bytes and `now` are handed in, bytes and features
//! come out, so thirty seconds of a bad network are tested in milliseconds. To this room an access
//! unit is opaque bytes with a number and a media time. The formats are specified in
//! `docs/TRANSPORT.md`.
//!
//! - [`Sender`] packs units into packets, each with a short history of earlier units;
//! - [`Receiver`] takes packets in any order and gives units in order, once each;
//! - [`Playout`] turns decoded features into the feature to show *now*;
//! - [`Invite`] is the link that carries a call's secret, [`Seal`] what the secret protects;
//! - [`Control`] is what goes over the reliable channel, [`ModelSender`] and [`ModelReceiver`] the
//!   face model's way across.
//!
//! ```
//! use std::time::{Duration, Instant};
//! use transport::{Receiver, Sender, SenderSettings};
//! use types::{MediaTime, UnitNumber};
//!
//! let now = Instant::now();
//! let settings = SenderSettings { units_per_packet: 1, ..SenderSettings::default() };
//! let (mut sender, mut receiver) = (Sender::new(settings), Receiver::new());
//! sender.push_unit(now, UnitNumber(0), MediaTime::ZERO, b"unit")?;
//! let packet = sender.poll_packet(now, &mut receiver).expect("one unit makes a packet");
//! receiver.handle_packet(now + Duration::from_millis(20), &packet)?;
//! let unit = receiver.poll_unit(now + Duration::from_millis(20)).expect("it arrived");
//! assert_eq!(&unit.bytes[..], b"unit");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod concealment;
mod control;
mod invite;
mod model_transfer;
mod packet;
mod playout;
mod receiver;
mod seal;
mod sender;
mod wire;

pub use control::{
    Bye, Control, ControlError, MAX_CHAT_BYTES, MAX_CHUNK_BYTES, MAX_CONTROL_BYTES, MAX_NAME_BYTES,
    VERSION,
};
pub use invite::{Answer, Invite, InviteError, Place, SECRET_BYTES, Secret, is_room};
pub use model_transfer::{
    ContentHash, MAX_MODEL_BYTES, ModelReceiver, ModelSender, TransferError, content_hash,
};
pub use packet::{MAX_PACKET_BYTES, PacketError, Report};
pub use playout::{Playout, Shown};
pub use receiver::{Receiver, ReceiverStats, Unit};
pub use seal::{MAX_SEALED_BYTES, OpenError, Role, SALT_BYTES, Seal, Signal, SignalError};
pub use sender::{Sender, SenderSettings, UnitError};
