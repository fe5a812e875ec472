//! The peer's face file as it arrives: readable from its first layer on.

use std::sync::Arc;

use codec::Profile;
use face::{FaceFile, FaceModel};
use transport::{ContentHash, ModelReceiver};

use crate::event::{ModelRefusal, QuestionId};

/// Progress of the peer's face file.
#[derive(Debug, Default)]
pub(super) struct PeerFace {
    /// Hash of the file.
    pub(super) hash: Option<ContentHash>,
    /// Receives the file; none before an offer and after a refusal.
    pub(super) transfer: Option<ModelReceiver>,
    /// Percentage of the last [`ModelProgress`](crate::Event::ModelProgress) event.
    pub(super) percent: Option<u32>,
    /// Layers that were read or are being read.
    pub(super) layers_read: usize,
    pub(super) is_refused: bool,
    /// Codec profile, known from the first layer on; it is the same in all layers.
    pub(super) profile: Option<Profile>,
    /// Another file that the peer offers while this one is shown.
    pub(super) replacement: Option<Replacement>,
}

/// A face file that the user is asked about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Replacement {
    pub(super) question: QuestionId,
    /// Size in bytes.
    pub(super) n_bytes: u32,
    pub(super) hash: ContentHash,
}

/// Reading of the layers that have arrived. It takes a good part of a second, so it runs on
/// another thread.
#[derive(Debug)]
pub(crate) struct FaceReadJob {
    pub(super) hash: ContentHash,
    /// The file up to the end of its last whole layer.
    pub(super) bytes: Vec<u8>,
    pub(super) layers: usize,
    pub(super) total_layers: usize,
}

/// Result of a [`FaceReadJob`].
#[derive(Debug)]
pub(crate) struct ReadFace {
    pub(super) hash: ContentHash,
    pub(super) layers: usize,
    pub(super) total_layers: usize,
    pub(super) face: Result<(Profile, Arc<FaceModel>), ModelRefusal>,
}

impl FaceReadJob {
    /// Reads the layers.
    pub(crate) fn run(self) -> ReadFace {
        let face = FaceFile::parse(&self.bytes)
            .map_err(ModelRefusal::from)
            .and_then(|file| Ok((Profile::parse(&file.codec_profile)?, Arc::new(file.model))));
        ReadFace { face, ..self.broken_off() }
    }

    /// Returns the result of a job that has panicked.
    pub(crate) fn broken_off(&self) -> ReadFace {
        let &Self { hash, layers, total_layers, .. } = self;
        ReadFace { hash, layers, total_layers, face: Err(ModelRefusal::Crashed) }
    }
}
