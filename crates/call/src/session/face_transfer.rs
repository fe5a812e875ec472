//! Exchange of face files over the reliable channel.

use std::time::{Duration, Instant};

use face::FaceFile;
use transport::{ContentHash, ModelReceiver, ModelSender, TransferError};

use super::Session;
use super::io::Output;
use super::peer_face::{FaceReadJob, PeerFace, ReadFace, Replacement};
use crate::event::{Event, ModelRefusal, QuestionId};

/// Offers of face files that arrive faster are ignored.
const OFFER_INTERVAL: Duration = Duration::from_secs(1);
/// Offers of face files that are answered on one link.
const MAX_OFFERS: u32 = 8;

impl Session {
    /// Offers our face file, once per link.
    pub(super) fn offer_model(&mut self, now: Instant) {
        if let Some(model) = self.model_sender.as_mut().filter(|model| !model.is_offered()) {
            let offer = model.offer();
            self.send_control(now, &offer);
        }
    }

    /// Returns whether an offer may be answered. A peer needs one per link; more are allowed, but
    /// not fast, and not for ever, because each may cost a request and the reading of a face.
    fn accepts_offer(&mut self, now: Instant) -> bool {
        let Some(link) = &mut self.links.current else { return false };
        let is_early = link
            .offer_answered
            .is_some_and(|at| now.saturating_duration_since(at) < OFFER_INTERVAL);
        if is_early || link.n_offers == MAX_OFFERS {
            return false;
        }
        link.offer_answered = Some(now);
        link.n_offers += 1;
        true
    }

    pub(super) fn handle_model_offer(&mut self, now: Instant, n_bytes: u32, hash: ContentHash) {
        if !self.accepts_offer(now) {
            self.statistics.bad_messages += 1;
            return;
        }
        let is_other = self.peer_face.hash != Some(hash);
        if is_other && self.peer_face.profile.is_some() {
            self.ask_about_face(now, n_bytes, hash);
            return;
        }
        if is_other {
            self.peer_face = PeerFace { hash: Some(hash), ..PeerFace::default() };
        }
        self.request_model(now, n_bytes, hash);
    }

    /// Asks the user about another face than the one that is shown: it may not become another
    /// person's without a word. While the question is open, the peer cannot offer a third one: the
    /// answer would be about another face than the question.
    fn ask_about_face(&mut self, now: Instant, n_bytes: u32, hash: ContentHash) {
        if self.peer_face.replacement.is_some() {
            self.statistics.bad_messages += 1;
            return;
        }
        let question = self.next_question();
        self.peer_face.replacement = Some(Replacement { question, n_bytes, hash });
        self.emit(Event::PeerFaceReplaced { question });
        if self.admission.auto_admit {
            self.handle_face_decision(now, question, true);
        }
    }

    /// Carries out what the user has decided about another face that the peer offers, if that
    /// question is still open.
    pub(super) fn handle_face_decision(
        &mut self,
        now: Instant,
        question: QuestionId,
        accepts: bool,
    ) {
        let asked = self.peer_face.replacement.take_if(|asked| asked.question == question);
        let Some(Replacement { n_bytes, hash, .. }) = asked else { return };
        if accepts {
            self.receiver.clear_profile();
            self.peer_face = PeerFace { hash: Some(hash), ..PeerFace::default() };
            self.request_model(now, n_bytes, hash);
        }
    }

    fn request_model(&mut self, now: Instant, n_bytes: u32, hash: ContentHash) {
        match ModelReceiver::new(n_bytes, hash, self.peer_face.transfer.take()) {
            Ok((receiver, request)) => {
                self.statistics.model_bytes_in = Some(u64::from(n_bytes));
                self.peer_face.transfer = Some(receiver);
                self.send_control(now, &request);
                self.handle_model_progress();
            }
            Err(refusal) => self.refuse_model(refusal.into()),
        }
    }

    pub(super) fn handle_model_request(&mut self, hash: ContentHash, from: u32) {
        if let Some(model) = self.model_sender.as_mut().filter(|_| self.media.shows_face) {
            model.handle_request(hash, from);
        }
    }

    pub(super) fn handle_model_chunk(&mut self, now: Instant, offset: u32, bytes: &[u8]) {
        let Some(receiver) = &mut self.peer_face.transfer else { return };
        match receiver.handle_chunk(offset, bytes) {
            Ok(reply) => {
                if let Some(reply) = reply {
                    self.send_control(now, &reply);
                }
                self.handle_model_progress();
            }
            Err(TransferError::UnexpectedOffset { .. }) => {}
            Err(refusal) => {
                self.peer_face.transfer = None;
                self.refuse_model(refusal.into());
            }
        }
    }

    /// Sends the chunks that the peer has room for.
    pub(super) fn send_chunks(&mut self, now: Instant) {
        // A face that was hidden in the middle of its transfer goes no further.
        if !self.media.shows_face {
            return;
        }
        while let Some(chunk) = self.model_sender.as_mut().and_then(ModelSender::poll_chunk) {
            self.send_control(now, &chunk);
        }
    }

    /// Reports progress and starts reading the layers that are complete. One job runs at a time;
    /// layers that complete meanwhile, also those of another face, are read when it has finished.
    fn handle_model_progress(&mut self) {
        let Some(transfer) = &self.peer_face.transfer else { return };
        let progress = transfer.progress();
        let arrived = FaceFile::progress(transfer.received());
        let percent = (progress * 100.0) as u32;
        self.statistics.model_progress = Some(f64::from(progress));
        if self.peer_face.percent.is_none_or(|before| percent > before) {
            self.peer_face.percent = Some(percent);
            self.emit(Event::ModelProgress(progress));
        }
        let face = &mut self.peer_face;
        match arrived {
            Ok(Some(arrived))
                if arrived.layers > face.layers_read
                    && !self.is_reading_face
                    && !face.is_refused =>
            {
                let (Some(transfer), Some(hash)) = (&face.transfer, face.hash) else { return };
                let job = FaceReadJob {
                    hash,
                    bytes: transfer.received()[..arrived.usable_bytes].to_vec(),
                    layers: arrived.layers,
                    total_layers: arrived.total_layers,
                };
                face.layers_read = arrived.layers;
                self.is_reading_face = true;
                self.outputs.push_back(Output::ReadFace(job));
            }
            Ok(_) => {}
            Err(refusal) => self.refuse_model(refusal.into()),
        }
    }

    pub(super) fn handle_face_read(&mut self, now: Instant, read: ReadFace) {
        self.is_reading_face = false;
        if self.peer_face.hash != Some(read.hash) {
            self.handle_model_progress();
            return;
        }
        let ReadFace { layers, total_layers, face, .. } = read;
        match face {
            Ok((profile, model)) => {
                self.outputs.push_back(Output::PeerFace(model));
                if self.peer_face.profile.is_none() {
                    self.peer_face.profile = Some(profile.clone());
                    self.receiver.set_profile(profile);
                }
                self.statistics.record_model_layers(now, layers, total_layers);
                self.emit(Event::ModelReady { layers, of: total_layers });
                self.handle_model_progress();
            }
            Err(refusal) => self.refuse_model(refusal),
        }
    }

    /// Reports the first reason for which the peer's face file cannot be shown.
    fn refuse_model(&mut self, refusal: ModelRefusal) {
        if !std::mem::replace(&mut self.peer_face.is_refused, true) {
            self.emit(Event::ModelRefused(refusal));
        }
    }
}
