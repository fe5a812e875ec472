//! A whole call without a window: the session of two peers, and the sockets, threads and clock
//! around it.
//!
//! ```text
//! face_sender ──> Session ──> link ═════ network ═════ link ──> Session ──> playout
//!  (a thread)       └──────────── driver (one task) ────────────┘           (the window asks)
//! ```
//!
//! [`Call::host`] returns an invite link and [`Call::join`] follows one. [`Event`]s report what
//! happens, [`Command`]s instruct the call, [`Stats`] are figures about it. Features that arrive
//! before the peer's face are kept and decoded once its first layer has arrived.
//!
//! Inside, `session` is a state machine without I/O, and `driver.rs` connects it to the world.
//! [`simulate`] runs two sessions over a bad network on a virtual clock. [`RendezvousService`]
//! is the service at which peers meet. [`encode_stream`] and [`StreamDecoder`] work on files.
//!
//! ```no_run
//! use std::time::{Duration, Instant};
//! use call::{Call, Event, Settings};
//!
//! let settings = Settings { loopback: true, auto_admit: true, ..Settings::default() };
//! let (call, invite) = Call::host(settings)?;
//! println!("{invite}");
//! while let Some(event) = call.next_event(Duration::from_secs(60)) {
//!     if let Event::ModelReady { .. } = event {
//!         println!("{:?}", call.feature_at(Instant::now()));
//!     }
//! }
//! # Ok::<(), call::StartError>(())
//! ```

mod addresses;
mod call;
mod call_clock;
mod certificate;
mod connection;
mod description;
mod driver;
mod event;
mod face_encoder;
mod face_sender;
mod happy_eyeballs;
mod link;
mod link_runtime;
mod lip_sync;
mod load_estimator;
mod offline;
mod pasted;
mod random;
mod rendezvous;
mod rendezvous_address;
mod session;
mod settings;
mod setup_repeater;
mod shared;
mod signaling_client;
mod signaling_error;
mod simulated_path;
mod simulation;
mod sound;
mod stats;
#[cfg(test)]
mod wall_clock_tests;
mod web_socket;
mod wire_meter;

pub use call::{Call, StartError, is_stream};
pub use event::{CallFailure, Command, End, Event, LinkError, ModelRefusal, QuestionId};
pub use offline::{DecodeStreamError, EncodeStreamError, StreamDecoder, encode_stream};
pub use pasted::{check_answer, check_invite};
pub use rendezvous::{RendezvousService, ServeError};
pub use rendezvous_address::{RendezvousAddress, RendezvousAddressError};
pub use settings::{IceServer, LocalMedia, Meeting, Settings, SoundLevels, SoundSource};
pub use signaling_error::SignalingError;
pub use simulated_path::{Loss, Path, PathStats, SimulatedPath};
pub use simulation::{SimulationReport, simulate};
pub use stats::Stats;
pub use transport::InviteError;
pub use voice::{Level, VoiceProcessing};
