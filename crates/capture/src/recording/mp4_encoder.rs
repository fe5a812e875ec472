//! H.264 encoding of frames into an MP4 file.

use std::io;

use openh264::OpenH264API;
use openh264::encoder::{
    BitRate, Complexity, Encoder, EncoderConfig, FrameRate, IntraFramePeriod, Profile, QpRange,
    RateControlMode, VuiConfig,
};
use openh264::formats::YUVSlices;
use types::Frame;

use crate::errors::WriteError;
use crate::files::PartFile;
use crate::picture::ColorMatrix;
use crate::picture::{Chroma, PlaneBuffers};
use crate::recording::mp4_writer::Mp4Writer;
use crate::recording::sound_encoder::SoundEncoder;

/// Quantization parameter, the finest the encoder accepts: 50 dB in luma, so that measurements on a
/// recording hold for the recorded pictures.
const QUANTIZER: u8 = 12;
/// Bit rate limit, far above what the quantizer needs, so that the quantizer alone decides.
const BIT_RATE: BitRate = BitRate::from_bps(100_000_000);
/// Largest longer and shorter side the encoder accepts, pixels.
const MAX_ENCODED: (u32, u32) = (3840, 2160);
/// Smallest side, pixels: one macroblock. Smaller pictures are padded.
const MIN_ENCODED: usize = 16;

/// H.264 encoder that writes an MP4 file.
pub(crate) struct Mp4Encoder {
    encoder: Encoder,
    sound: Option<SoundEncoder>,
    writer: Mp4Writer,
}

impl Mp4Encoder {
    /// Starts a file for frames of `width` by `height` pixels, and perhaps sound.
    pub(crate) fn new(
        file: PartFile,
        (width, height): (u32, u32),
        fps: u32,
        with_sound: bool,
    ) -> Result<Self, WriteError> {
        if width.max(height) > MAX_ENCODED.0 || width.min(height) > MAX_ENCODED.1 {
            return Err(WriteError::TooLarge { width, height });
        }
        let encoder = new_encoder(fps)?;
        let [width, height] = [width, height].map(|side| coded(side) as u16);
        let mut writer = Mp4Writer::new(file, width, height, fps);
        let sound = with_sound.then(SoundEncoder::new).flatten();
        if let Some(sound) = &sound {
            writer.add_sound(sound.delay());
        }
        Ok(Self { encoder, sound, writer })
    }

    /// Encodes and writes a frame. Odd or too small sides are padded by repeating the last row and
    /// column.
    pub(crate) fn push(&mut self, frame: &Frame) -> Result<io::Result<()>, WriteError> {
        let (width, height) = (frame.width() as usize, frame.height() as usize);
        let (coded_width, coded_height) = (coded(frame.width()), coded(frame.height()));
        let padded: Vec<u8>;
        let rgb = if (coded_width, coded_height) == (width, height) {
            frame.rgb()
        } else {
            padded = (0..coded_height)
                .flat_map(|y| {
                    let row = &frame.rgb()[y.min(height - 1) * width * 3..][..width * 3];
                    (0..coded_width)
                        .flat_map(move |x| row[x.min(width - 1) * 3..][..3].iter().copied())
                })
                .collect();
            &padded
        };
        let size = (coded_width, coded_height);
        // The tags of the file say so.
        let planes = PlaneBuffers::from_rgb(rgb, size, Chroma::HalfLeft, ColorMatrix::Bt601);
        let half = coded_width / 2;
        let source =
            YUVSlices::new((&planes.y, &planes.u, &planes.v), size, (coded_width, half, half));
        let stream =
            self.encoder.encode(&source).map_err(|source| WriteError::Encoder { source })?;
        let layers = (0..stream.num_layers()).filter_map(|i| stream.layer(i)).collect::<Vec<_>>();
        let nals = layers.iter().flat_map(|layer| {
            (0..layer.nal_count()).filter_map(|i| layer.nal_unit(i)).map(without_start_code)
        });
        Ok(self.writer.push(nals))
    }

    /// Encodes and writes 20 ms of sound.
    ///
    /// # Errors
    /// See [`Mp4Writer::push_sound`].
    pub(crate) fn push_sound(&mut self, block: &[f32]) -> io::Result<()> {
        match &mut self.sound {
            Some(sound) => self.writer.push_sound(&sound.encode(block)),
            None => Ok(()),
        }
    }

    /// Returns whether no picture has reached the file.
    pub(crate) fn is_empty(&self) -> bool {
        self.writer.is_empty()
    }

    /// Removes the file.
    pub(crate) fn discard(self) {
        self.writer.discard();
    }

    /// Writes the last pictures and the index, and commits the file; see [`Mp4Writer::finish`].
    pub(crate) fn finish(self) -> Result<io::Result<()>, WriteError> {
        self.writer.finish()
    }
}

fn new_encoder(fps: u32) -> Result<Encoder, WriteError> {
    let config = EncoderConfig::new()
        // The only mode that neither skips frames nor prints a warning about it.
        .rate_control_mode(RateControlMode::Bufferbased)
        .qp(QpRange::new(QUANTIZER, QUANTIZER))
        .bitrate(BIT_RATE)
        .max_frame_rate(FrameRate::from_hz(fps as f32))
        .skip_frames(false)
        // The quantizer is fixed, so more effort would only reduce the size.
        .complexity(Complexity::Low)
        .scene_change_detect(false)
        .adaptive_quantization(false)
        .background_detection(false)
        .intra_frame_period(IntraFramePeriod::from_num_frames(fps * 2))
        .profile(Profile::High)
        .vui(VuiConfig::bt601());
    Encoder::with_api_config(OpenH264API::from_source(), config)
        .map_err(|source| WriteError::Encoder { source })
}

/// Returns the side as encoded, pixels: even, and at least a macroblock.
fn coded(side: u32) -> usize {
    (side as usize).next_multiple_of(2).max(MIN_ENCODED)
}

fn without_start_code(nal: &[u8]) -> &[u8] {
    let n_zeros = nal.iter().take_while(|b| **b == 0).count();
    nal.get(n_zeros + 1..).unwrap_or_default()
}
