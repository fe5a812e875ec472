use serde::{Serialize, Serializer};
use types::Rate;

/// Figures about a call: totals since it was set up, and rates over its last full second.
///
/// Rates are in kbit/s (1000 bits). *Payload* is the output of the codec, each unit counted once;
/// *wire* is every datagram on the call's UDP sockets, with its IP and UDP headers: ICE, DTLS,
/// SCTP and acknowledgements included. *Out* is sent by this end, *in* received.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Seconds since the call was set up here.
    pub t_s: f64,
    /// Whether the peer is connected and sent something in the last five seconds.
    pub connected: bool,
    /// Payload sent, kbit/s.
    pub payload_kbps_out: f64,
    /// Payload received, kbit/s.
    pub payload_kbps_in: f64,
    /// Sent on the wire, kbit/s.
    pub wire_kbps_out: f64,
    /// Received on the wire, kbit/s.
    pub wire_kbps_in: f64,
    /// Payload bytes sent.
    pub payload_bytes_out: u64,
    /// Payload bytes received.
    pub payload_bytes_in: u64,
    /// Bytes sent on the wire.
    pub wire_bytes_out: u64,
    /// Bytes received on the wire.
    pub wire_bytes_in: u64,
    /// Datagrams sent on the wire.
    pub datagrams_out: u64,
    /// Datagrams received on the wire.
    pub datagrams_in: u64,
    /// Feature packets sent, over the data channel or with sound.
    pub packets_out: u64,
    /// Feature packets received.
    pub packets_in: u64,
    /// Frames of the source that were processed.
    pub frames_captured: u64,
    /// Frames of these in which no face was found.
    pub frames_without_face: u64,
    /// Processed frames in which a face was found. Not all of them become units or intermediate
    /// features: some are only followed, depending on the rate and the load.
    pub features_out: u64,
    /// Units decoded. Intermediate features are not counted.
    pub features_in: u64,
    /// Units decoded per second. Intermediate features are not counted.
    pub features_fps_in: f64,
    /// Units of the peer that did not arrive in time.
    pub features_lost: u64,
    /// Share of the peer's recent packets that were lost, 0..=1.
    pub loss_in: f64,
    /// Share of our recent packets that were lost, as the peer reports it, 0..=1.
    pub loss_out: f64,
    /// Units that could not be decoded: damaged, or their reference is missing.
    pub decode_errors: u64,
    /// Messages that were not a valid packet, sound packet or control message.
    pub bad_messages: u64,
    /// Reports of the peer that requested a key unit.
    pub key_requests: u64,
    /// Round-trip time of the features channel, milliseconds; none before the first report.
    pub rtt_ms: Option<f64>,
    /// Playout delay, milliseconds: how long features are held before they are shown.
    pub playout_delay_ms: f64,
    /// Mean time to track and encode a frame, milliseconds.
    pub track_encode_ms: f64,
    /// Share of the peer's face file that has arrived, 0..=1; none before it was offered.
    pub model_progress: Option<f64>,
    /// Size of the peer's face file, bytes; none before it was offered.
    pub model_bytes_in: Option<u64>,
    /// Layers of the peer's face file that are rendered.
    pub model_layers: usize,
    /// Total number of layers of the peer's face file; 0 until the first one can be used.
    pub model_layers_of: usize,
    /// Seconds from the connection until the first layer of the peer's face could be rendered.
    pub model_ready_s: Option<f64>,
    /// Seconds from the connection until all layers of the peer's face file could be rendered.
    pub model_whole_s: Option<f64>,
    /// How finely and how often our features are coded.
    #[serde(serialize_with = "by_name")]
    pub rate: Rate,
    /// Sound packets sent; those with features alone are not counted.
    pub sound_packets_out: u64,
    /// Sound packets received; those with features alone are not counted.
    pub sound_packets_in: u64,
    /// Share of the peer's recent sound packets that were lost, 0..=1.
    pub sound_loss_in: f64,
    /// Share of our recent sound packets that were lost, as the peer reports it, 0..=1.
    pub sound_loss_out: f64,
    /// Audio samples played that were decoded from their packets, at 48 kHz.
    pub sound_samples_in: u64,
    /// Audio samples played that were recovered from later packets.
    pub sound_samples_recovered: u64,
    /// Audio samples played that were invented in place of lost ones.
    pub sound_samples_concealed: u64,
    /// Time from the capture of our sound until it is encoded, without the wait for a full packet,
    /// milliseconds.
    pub microphone_delay_ms: f64,
    /// Blocks of 10 ms of our sound that were lost because this machine was too busy to take them.
    pub microphone_gaps: u64,
    /// How long the peer's sound is held beyond the shortest time in the network, milliseconds. The wait
    /// for a full packet at the peer is part of it.
    pub sound_delay_ms: f64,
    /// Time from there until the speaker plays it, milliseconds.
    pub speaker_delay_ms: f64,
    /// How many times the speaker had nothing to play.
    pub speaker_gaps: u64,
    /// How much later the peer's sound is heard than its face is shown, milliseconds: median of the last
    /// minute of voice; negative if sound is early. None without a voice and a face.
    pub lip_sync_ms: Option<f64>,
    /// The same, 5th percentile.
    pub lip_sync_p5_ms: Option<f64>,
    /// The same, 95th percentile.
    pub lip_sync_p95_ms: Option<f64>,
    /// Opus data sent, kbit/s.
    pub sound_kbps_out: f64,
    /// Opus data received, kbit/s.
    pub sound_kbps_in: f64,
    /// Whether our sound is off.
    pub muted: bool,
    /// Whether our face is not sent.
    pub camera_off: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn by_name<S: Serializer>(rate: &Rate, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(rate.name())
}
