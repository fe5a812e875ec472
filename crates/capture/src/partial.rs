//! What becomes of a clip that cannot be read to its end.

use std::sync::OnceLock;

use types::SquareFrame;

use crate::errors::ReadError;

/// Who is told why a clip ends early, if that is accepted.
static ACCEPTED: OnceLock<fn(&ReadError)> = OnceLock::new();

/// Accepts clips that cannot be read to their end, for the rest of the process: they end after the last
/// frame that can be read. The first time, `warn` is told why.
///
/// By default such a clip is an error ([`ReadError::Incomplete`]), because work with a part of it, such
/// as an enrollment, may be useless.
pub fn accept_partial_clips(warn: fn(&ReadError)) {
    let _ = ACCEPTED.set(warn);
}

/// Counter of the frames of one clip.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    n_frames: u64,
    ended: bool,
}

impl Progress {
    /// Returns whether the clip has ended early.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Forgets that the clip has ended, because it is read from another place.
    pub(crate) fn go_elsewhere(&mut self) {
        self.ended = false;
    }

    /// Counts a frame, or says how many frames there are before an error.
    pub(crate) fn count(
        &mut self,
        read: Result<Option<SquareFrame>, ReadError>,
    ) -> Result<Option<SquareFrame>, ReadError> {
        match read {
            Err(error) if self.n_frames > 0 => {
                let error = ReadError::Incomplete { n_frames: self.n_frames, source: error.into() };
                self.end(error, ACCEPTED.get().copied())
            }
            Ok(Some(frame)) => {
                self.n_frames += 1;
                Ok(Some(frame))
            }
            other => other,
        }
    }

    fn end(
        &mut self,
        error: ReadError,
        accepted: Option<fn(&ReadError)>,
    ) -> Result<Option<SquareFrame>, ReadError> {
        static TOLD: OnceLock<()> = OnceLock::new();
        let Some(warn) = accepted else { return Err(error) };
        self.ended = true;
        if TOLD.set(()).is_ok() {
            warn(&error);
        }
        Ok(None)
    }
}
