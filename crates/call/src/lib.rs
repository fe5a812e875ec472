//! A whole call without a window: sockets, threads and the clock around the pure rooms.
//!
//! ```text
//! Paced ─ PersonTracker ─ Encoder ─ Packetizer ┐            ┌ JitterBuffer ─ Decoder ─ Playout ─ feature_at
//!          (a thread of its own)           └─ features ─┘           (the session, one task)
//! ```
//!
//! [`Call::host`] gives an invite, [`Call::join`] takes one; [`Event`]s say what happens,
//! [`Command`]s what the user wants, [`Stats`] what it costs. Nothing waits for anything: units
//! that arrive before the peer's face model are kept and decoded when it is here.
//! [`rendezvous::serve`] is the service two peers can meet at, [`replay::replay`] a call over a
//! bad channel on a virtual clock.
//!
//! ```no_run
//! use std::time::{Duration, Instant};
//! use call::{Call, Event, Settings};
//!
//! let (call, invite) = Call::host(Settings { loopback: true, ..Settings::default() })?;
//! println!("{invite}");
//! while let Some(event) = call.next_event(Duration::from_secs(60)) {
//!     if let Event::ModelReady { .. } = event {
//!         println!("{:?}", call.feature_at(Instant::now()));
//!     }
//! }
//! # Ok::<(), call::StartError>(())
//! ```

mod call;
mod event;
mod face_coder;
mod link;
mod offline;
mod order;
mod receiving;
pub mod rendezvous;
pub mod replay;
mod sending;
mod session;
mod settings;
mod shared;
mod signaling;
mod sound;
mod stats;
mod tally;
mod wire;

pub use call::{Call, StartError};
pub use capture::SourceSpec;
pub use codec::Profile;
pub use event::{CallFailure, Command, End, Event, ModelRefusal};
pub use link::LinkError;
pub use offline::{DecodeStreamError, EncodeStreamError, decode_stream, encode_stream};
pub use rendezvous::ServeError;
pub use settings::{IceServer, Meeting, Settings};
pub use signaling::SignalingError;
pub use stats::Stats;
pub use transport::{Invite as InviteLink, InviteError, PlayoutSource};
