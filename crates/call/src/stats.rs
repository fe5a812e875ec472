use serde::{Serialize, Serializer};
use types::Rate;

/// A call in figures: totals since it began, and rates over its last full second.
///
/// Rates are in kbit/s (1000 bits). *Payload* is what the codec made; *wire* is every datagram on
/// the call's UDP sockets with its IP and UDP headers: ICE, DTLS, SCTP and acknowledgements.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Seconds since the call was set up here.
    pub t_s: f64,
    /// Both channels are open and the peer was heard of lately.
    pub connected: bool,
    /// Codec bytes sent, each unit counted once.
    pub payload_kbps_out: f64,
    /// Codec bytes received, each unit counted once.
    pub payload_kbps_in: f64,
    /// On the wire.
    pub wire_kbps_out: f64,
    /// On the wire.
    pub wire_kbps_in: f64,
    /// Codec bytes sent.
    pub payload_bytes_out: u64,
    /// Codec bytes received.
    pub payload_bytes_in: u64,
    /// On the wire.
    pub wire_bytes_out: u64,
    /// On the wire.
    pub wire_bytes_in: u64,
    /// On the wire.
    pub datagrams_out: u64,
    /// On the wire.
    pub datagrams_in: u64,
    /// Messages on the features channel.
    pub packets_out: u64,
    /// Messages on the features channel.
    pub packets_in: u64,
    /// Frames the source gave.
    pub frames_captured: u64,
    /// Of these, frames in which no face was found.
    pub frames_without_face: u64,
    /// Features coded.
    pub features_out: u64,
    /// Features decoded.
    pub features_in: u64,
    /// Features decoded in the last second.
    pub features_fps_in: f64,
    /// Features that never came.
    pub features_lost: u64,
    /// Share of the peer's packets lost lately, 0..=1.
    pub loss_in: f64,
    /// Share of our packets lost lately, as the peer says.
    pub loss_out: f64,
    /// Units that could not be decoded, for want of their reference or damaged.
    pub decode_errors: u64,
    /// Bytes that were no packet or no control message.
    pub bad_messages: u64,
    /// Units the codec sent that stand alone, because the peer asked.
    pub key_requests: u64,
    /// Round trip of the features channel, milliseconds; none before the first report.
    pub rtt_ms: Option<f64>,
    /// What the peer's features are held before they are shown, milliseconds.
    pub playout_delay_ms: f64,
    /// From the frame's arrival in the tracker to its unit, mean of the last second, milliseconds.
    pub track_encode_ms: f64,
    /// Share of the peer's face model that is here; none before it was offered.
    pub model_progress: Option<f64>,
    /// Bytes of the peer's face model.
    pub model_bytes_in: Option<u64>,
    /// Layers of the peer's face model that are drawn with,
    pub model_layers: usize,
    /// of so many; 0 before the first can be.
    pub model_layers_of: usize,
    /// Seconds from the connection to the peer's first picture being possible.
    pub model_ready_s: Option<f64>,
    /// Seconds from the connection to all layers of the peer's model.
    pub model_whole_s: Option<f64>,
    /// Pixels a side at which the peer's face is rendered here.
    pub resolution: u32,
    /// How finely and how often our features are coded.
    #[serde(serialize_with = "rate_name")]
    pub rate: Rate,
    /// Sound packets sent.
    pub sound_packets_out: u64,
    /// Sound packets received.
    pub sound_packets_in: u64,
    /// Audio samples decoded, at 48 kHz.
    pub sound_samples_in: u64,
    /// Opus bytes sent in the last second.
    pub sound_kbps_out: f64,
    /// Opus bytes received in the last second.
    pub sound_kbps_in: f64,
    /// Our sound is off.
    pub muted: bool,
    /// Our face is off.
    pub camera_off: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn rate_name<S: Serializer>(rate: &Rate, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(rate.name())
}
