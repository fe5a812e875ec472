//! The peer's face as it comes in: drawn from its first layer on, finer with every other.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use codec::Profile;
use face::{FaceFile, FaceModel};

use super::{Input, Session};
use crate::event::{Event, ModelRefusal};

/// How far the peer's face is.
#[derive(Debug, Default)]
pub(super) struct PeerFace {
    /// Percent that the last [`Event::ModelProgress`] told.
    percent: u32,
    /// Layers that were read or are being read.
    begun: usize,
    is_reading: bool,
    is_refused: bool,
    /// The codec's profile, once the first layer is here; the others bring the same.
    pub(super) profile: Option<Profile>,
}

/// What the bytes up to some layer came to.
#[derive(Debug)]
pub(crate) struct ReadFace {
    layers: usize,
    of: usize,
    face: Result<(Profile, Arc<FaceModel>), ModelRefusal>,
}

impl ReadFace {
    fn new(bytes: &[u8], layers: usize, of: usize) -> Self {
        let file = FaceFile::parse(bytes).map_err(ModelRefusal::from);
        let face =
            file.and_then(|file| Ok((Profile::parse(&file.codec_profile)?, Arc::new(file.model))));
        Self { layers, of, face }
    }
}

impl Session {
    /// Says how far the peer's model is, and has its layers read as they become whole.
    ///
    /// Reading takes a good part of a second, so it is done beside the session; layers that come
    /// meanwhile wait for it.
    pub(super) fn model_moved(&mut self, now: Instant) {
        let Some(receiver) = &self.model_in else { return };
        let progress = receiver.progress();
        let percent = (progress * 100.0) as u32;
        self.tally.model_progress = Some(f64::from(progress));
        let arrived = FaceFile::arrived(receiver.received());
        let is_more = |face: &PeerFace, layers: usize| {
            layers > face.begun && !face.is_reading && !face.is_refused
        };
        let due = match &arrived {
            Ok(Some(arrived)) if is_more(&self.peer_face, arrived.layers) => Some(*arrived),
            _ => None,
        };
        let bytes = due.map(|arrived| receiver.received()[..arrived.bytes].to_vec());
        if percent > self.peer_face.percent || percent == 0 {
            self.peer_face.percent = percent;
            self.tell(Event::ModelProgress(progress));
        }
        if let Err(refusal) = arrived {
            let layers = self.peer_face.begun;
            self.take_face(now, ReadFace { layers, of: layers, face: Err(refusal.into()) });
        }
        if let (Some(arrived), Some(bytes)) = (due, bytes) {
            self.peer_face.begun = arrived.layers;
            self.peer_face.is_reading = true;
            let inputs = self.parts.inputs.clone();
            tokio::task::spawn_blocking(move || {
                let read = ReadFace::new(&bytes, arrived.layers, arrived.of);
                // A session that is over reads no more.
                let _ = inputs.blocking_send(Input::PeerFace(Box::new(read)));
            });
        }
    }

    /// Shows what was read, and looks whether more has come.
    pub(super) fn take_face(&mut self, now: Instant, read: ReadFace) {
        self.peer_face.is_reading = false;
        let ReadFace { layers, of, face } = read;
        match face {
            Ok((profile, model)) => {
                *self.parts.shared.model.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(model);
                if self.peer_face.profile.is_none() {
                    self.peer_face.profile = Some(profile.clone());
                    self.receiving.model_ready(profile);
                }
                self.tally.model_layers(now, layers, of);
                self.tell(Event::ModelReady { layers, of });
                self.model_moved(now);
            }
            Err(refusal) => {
                if !std::mem::replace(&mut self.peer_face.is_refused, true) {
                    self.tell(Event::ModelRefused(refusal));
                }
            }
        }
    }
}
