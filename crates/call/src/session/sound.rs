//! The sound of a call, and the feature packets that travel in its packets.

use std::time::{Duration, Instant};

use bytes::Bytes;
use transport::SoundPayload;
use voice::{EncodedVoice, VoicePacket};

use super::Session;
use super::io::{LinkCommand, LinkId, Output, SoundPacket, VoiceCommand};

/// How much later than the last sound packet and its duration the next one may come before features
/// stop waiting for it.
const VOICE_PATIENCE: Duration = Duration::from_millis(20);

/// How many packets a link begins with, at least, before their numbers wrap.
const UNWRAPPED: u16 = 512;
/// How long after that sound which has waited for more may still be sent.
const MAX_HELD_AGE: Duration = Duration::from_secs(1);
/// Largest deviation of the times of two Opus packets that share a packet, in samples at 48 kHz (1 ms).
const MAX_PAIR_DEVIATION: u32 = 48;

/// State of the sound that this end sends.
#[derive(Debug)]
pub(super) struct OutgoingSound {
    /// Whether this end has a sound track.
    has_track: bool,
    /// Number of the person who hears us.
    listener: u32,
    /// Sequence number of the next packet.
    sequence: u16,
    /// Link of the last packet.
    link: Option<LinkId>,
    /// RTP timestamp of the last packet with sound.
    timestamp: u32,
    /// Sound that waits for more, to share a packet with it.
    held: Option<EncodedVoice>,
    /// When sound was last handed over.
    last_voice: Option<Instant>,
    /// Loss of our sound that the peer reported last, 0..=1.
    pub(super) loss: f32,
}

impl OutgoingSound {
    pub(super) fn new(has_track: bool) -> Self {
        Self {
            has_track,
            listener: 1,
            sequence: 0,
            link: None,
            timestamp: 0,
            held: None,
            last_voice: None,
            loss: 0.0,
        }
    }

    pub(super) fn has_track(&self) -> bool {
        self.has_track
    }

    /// Forgets who has heard us, and returns the number of whoever is next.
    pub(super) fn forget_listener(&mut self) -> u32 {
        self.listener += 1;
        (self.loss, self.last_voice, self.held) = (0.0, None, None);
        self.listener
    }

    /// Begins to send over another link. SRTP of the receiver counts how often the numbers have wrapped
    /// since the first packet that arrives, so they do not wrap soon.
    fn begin_link(&mut self, link: Option<LinkId>) {
        self.link = link;
        if self.sequence > u16::MAX - UNWRAPPED {
            self.sequence = 0;
        }
    }
}

impl Session {
    /// Sends sound to the peer that was let in, if it has a sound track, together with the feature packet
    /// that is due. What was meant for a peer before it is dropped. At rates that want it, sound waits for more sound, so that
    /// two Opus packets share a packet.
    pub(super) fn handle_voice(&mut self, now: Instant, voice: EncodedVoice, listener: u32) {
        if listener != self.sound.listener
            || !self.media.sends_sound()
            || !self.has_sound_both_ways()
            || !self.is_admitted()
        {
            self.sound.held = None;
            return;
        }
        self.sound.last_voice = Some(now);
        let held = self.sound.held.take();
        let earlier = match held {
            Some(held) if follows(&held, &voice) => held,
            held => {
                if let Some(held) = held {
                    self.send_voice(now, Bytes::new(), held);
                }
                if self.media.rate.parameters().opus_per_packet > 1 {
                    self.sound.held = Some(voice);
                } else {
                    self.send_voice(now, Bytes::new(), voice);
                }
                return;
            }
        };
        self.send_voice(now, earlier.opus, EncodedVoice { time: earlier.time, ..voice });
    }

    /// Sends sound that has waited in vain for more. In a pause of speech there is none.
    pub(super) fn send_held_voice(&mut self, now: Instant) {
        let Some(until) = self.sound_deadline().filter(|until| *until <= now) else { return };
        // What was said to one peer must not reach the next one.
        if let Some(held) = self.sound.held.take_if(|_| now < until + MAX_HELD_AGE) {
            self.send_voice(now, Bytes::new(), held);
        }
        self.sound.held = None;
    }

    /// Sends one Opus packet or a pair; the time of `voice` is that of the first one.
    fn send_voice(&mut self, now: Instant, earlier: Bytes, voice: EncodedVoice) {
        self.sound.timestamp = voice.timestamp();
        let packet = if self.sends_features_in_sound() { self.poll_packet(now) } else { None };
        let features = Bytes::from(packet.unwrap_or_default());
        let mut payload = SoundPayload { features, earlier, opus: voice.opus };
        if !payload.features.is_empty() && !payload.fits() {
            // Together they are too long for one packet.
            let features = std::mem::take(&mut payload.features);
            self.send_features(now, features);
        }
        if self.send_payload(now, &payload) {
            self.statistics.sound_packets_out += 1;
            let n_bytes = payload.earlier.len() + payload.opus.len();
            self.statistics.sound_bytes_out += n_bytes as u64;
        }
    }

    /// Sends a feature packet by itself: in a packet of sound if the peer takes it there, because that
    /// has fewer headers and no acknowledgement, else over the data channel.
    pub(super) fn send_features(&mut self, now: Instant, packet: Bytes) {
        let payload = SoundPayload { features: packet, ..SoundPayload::default() };
        if !(self.sends_features_in_sound() && self.send_payload(now, &payload)) {
            self.send_on_link(now, LinkCommand::SendFeatures(payload.features));
        }
    }

    /// Sends a payload over the sound track. Returns whether it fits into a packet.
    fn send_payload(&mut self, now: Instant, payload: &SoundPayload) -> bool {
        let is_pair = payload.is_pair();
        let Ok(payload) = payload.to_bytes() else { return false };
        let link = self.links.current.as_ref().map(|link| link.id);
        if self.sound.link != link {
            self.sound.begin_link(link);
        }
        let OutgoingSound { sequence, timestamp, .. } = self.sound;
        self.sound.sequence = sequence.wrapping_add(1);
        let packet = SoundPacket { sequence, timestamp, is_pair, payload };
        self.send_on_link(now, LinkCommand::SendSound(packet));
        true
    }

    /// Returns whether feature packets travel in sound packets: at rates that want it, if both ends have
    /// a sound track.
    fn sends_features_in_sound(&self) -> bool {
        self.media.rate.parameters().features_in_sound && self.has_sound_both_ways()
    }

    /// Returns whether both ends have a sound track. A peer without one receives nothing of ours.
    fn has_sound_both_ways(&self) -> bool {
        self.sound.has_track && self.links.current.as_ref().is_some_and(|link| link.has_sound)
    }

    /// Returns until when feature packets wait for the next sound packet; `None` in a pause of speech,
    /// or if they travel by themselves.
    pub(super) fn voice_expected_until(&self) -> Option<Instant> {
        self.sound_deadline().filter(|_| self.sends_features_in_sound())
    }

    /// Returns when the sound after the last one is late; `None` before any.
    pub(super) fn sound_deadline(&self) -> Option<Instant> {
        let frame = self.media.rate.parameters().opus_frame;
        self.sound.last_voice.map(|last| last + frame + VOICE_PATIENCE)
    }

    /// Takes a packet of the peer's sound apart. A payload that violates the format is counted and
    /// dropped.
    pub(super) fn handle_sound(&mut self, now: Instant, packet: SoundPacket) {
        let SoundPacket { sequence, mut timestamp, is_pair, payload } = packet;
        self.receiver.jitter_buffer.count_sound(sequence);
        let Ok(SoundPayload { features, earlier, opus }) = SoundPayload::parse(&payload, is_pair)
        else {
            self.statistics.bad_messages += 1;
            return;
        };
        if !features.is_empty() {
            self.handle_packet(now, &features);
        }
        if !opus.is_empty() {
            self.statistics.sound_packets_in += 1;
            self.statistics.sound_bytes_in += (earlier.len() + opus.len()) as u64;
        }
        let mut play = |timestamp, opus| {
            let packet = VoicePacket { sequence, timestamp, opus };
            self.outputs.push_back(Output::PlaySound { arrived: now, packet });
        };
        if is_pair {
            play(timestamp, earlier);
            timestamp = timestamp.wrapping_add(SoundPayload::PAIR_OFFSET);
        }
        // One without sound still tells the receiver of the voice that nothing was lost.
        play(timestamp, opus);
    }

    /// Tells the encoder of our voice how much of it is lost, if that has changed.
    pub(super) fn handle_sound_loss(&mut self, loss: f32) {
        if loss.to_bits() != self.sound.loss.to_bits() {
            self.sound.loss = loss;
            self.outputs.push_back(Output::Voice(VoiceCommand::ExpectLoss(loss)));
        }
    }
}

/// Returns whether two Opus packets may share a packet: one begins where the other ends.
fn follows(first: &EncodedVoice, second: &EncodedVoice) -> bool {
    let offset = second.timestamp().wrapping_sub(first.timestamp());
    offset.abs_diff(SoundPayload::PAIR_OFFSET) <= MAX_PAIR_DEVIATION
        && first.opus.len() <= SoundPayload::MAX_PART
        && !first.opus.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_link_do_not_wrap_soon() {
        let mut sound = OutgoingSound::new(true);
        for (number, want) in [(0, 0), (40_000, 40_000), (65_000, 65_000), (65_100, 0), (65_535, 0)]
        {
            sound.sequence = number;
            sound.begin_link(Some(LinkId(1)));
            assert_eq!(sound.sequence, want);
        }
    }
}
