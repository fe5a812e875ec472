use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use capture::SourceSpec;
use face::Sizes;

/// What to enroll from, where to, and how long.
#[derive(Clone, Debug)]
pub struct EnrollOptions {
    /// Where the frames come from.
    pub source: SourceSpec,
    /// The face file to write. `<out>.part` holds the state while it is being made.
    pub out: PathBuf,
    /// Side of the square picture that is learned, 64..=512 pixels.
    pub side: u32,
    /// How large a face it becomes.
    pub preset: Preset,
    /// When to stop.
    pub budget: Budget,
    /// Frames kept back to measure on.
    pub holdout: Holdout,
    /// Go on from `<out>.part` if it is there and fits.
    pub resume: bool,
    /// Start of every random number: the same seed and steps give the same face.
    pub seed: u64,
    /// How much of a camera or of the actor is recorded; clips are read whole.
    pub record: Duration,
    /// Parts left out, to see what they are worth.
    pub without: Vec<Part>,
}

impl EnrollOptions {
    /// The usual enrollment: 256 pixels, ten minutes, the last 15 % kept back.
    pub fn new(source: SourceSpec, out: PathBuf) -> Self {
        Self {
            source,
            out,
            side: 256,
            preset: Preset::default(),
            budget: Budget::default(),
            holdout: Holdout::default(),
            resume: false,
            seed: 1,
            record: Duration::from_mins(1),
            without: Vec::new(),
        }
    }

    /// Where the state is kept while the face is being made.
    pub fn part_path(&self) -> PathBuf {
        let mut name = self.out.as_os_str().to_owned();
        name.push(".part");
        name.into()
    }
}

/// How large a face becomes: what a peer downloads, and how fine it can be.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Preset {
    /// The shipped sizes.
    #[default]
    Default,
    /// About half the bytes, for thin lines.
    Small,
}

impl Preset {
    /// The sizes of a face learned from pictures of `side` pixels.
    pub(crate) fn sizes(self, side: u32) -> Sizes {
        match self {
            Self::Default => Sizes::for_side(side),
            Self::Small => Sizes::small_for_side(side),
        }
    }
}

/// `text` names no preset.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("say default or small, not {text:?}")]
pub struct PresetError {
    text: String,
}

impl FromStr for Preset {
    type Err = PresetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "default" => Ok(Self::Default),
            "small" => Ok(Self::Small),
            _ => Err(PresetError { text: text.to_owned() }),
        }
    }
}

/// When an enrollment stops.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Budget {
    /// After this much time on the clock, everything included: tracking, training, evaluation.
    Time(Duration),
    /// After so many training steps; deterministic.
    Steps(u32),
}

impl Default for Budget {
    fn default() -> Self {
        Self::Time(Duration::from_mins(10))
    }
}

/// A part of the construction that a study may leave out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// The code is then the newest frame's 24 most visible expression components as they are: no
    /// attention, nothing learned.
    Embedding,
    /// Head and torso then share nothing but the code: the consistency code stays zero.
    ConsistencyCode,
}

/// `text` names no [`Part`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("what can be left out is embedding or consistency-code, not {text:?}")]
pub struct PartError {
    text: String,
}

impl FromStr for Part {
    type Err = PartError;

    fn from_str(text: &str) -> Result<Self, PartError> {
        match text {
            "embedding" => Ok(Self::Embedding),
            "consistency-code" => Ok(Self::ConsistencyCode),
            _ => Err(PartError { text: text.to_owned() }),
        }
    }
}

/// Which frames are never trained on, but measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Holdout {
    /// This share of the frames, at the end: what a later call is like.
    Last(f32),
    /// Every so manieth frame: what lies between the frames learned from.
    Every(u32),
}

impl Default for Holdout {
    fn default() -> Self {
        Self::Last(0.15)
    }
}

/// `text` does not say which frames to keep back.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("say a share like 0.15 (of 0 to 0.5) or every:7 (2 or more), not {text:?}")]
pub struct HoldoutError {
    text: String,
}

impl FromStr for Holdout {
    type Err = HoldoutError;

    /// A share such as `0.15`, or `every:7`.
    fn from_str(text: &str) -> Result<Self, HoldoutError> {
        let parsed = match text.strip_prefix("every:") {
            Some(n) => n.parse().ok().filter(|n| *n >= 2).map(Self::Every),
            None => text.parse().ok().filter(|s| (0.0..=0.5).contains(s)).map(Self::Last),
        };
        parsed.ok_or_else(|| HoldoutError { text: text.to_owned() })
    }
}

impl Holdout {
    /// For each of `n` frames whether it is kept back.
    pub(crate) fn mask(self, n: usize) -> Vec<bool> {
        (0..n)
            .map(|i| match self {
                Self::Last(share) => i as f32 >= (n as f32 * (1.0 - share)).round(),
                Self::Every(every) => (i + 1).is_multiple_of(every as usize),
            })
            .collect()
    }
}

/// What an enrollment gave.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Report {
    /// Mean over the frames kept back of their PSNR, RGB, whole picture, through the codec's
    /// quantizer and the packed face. NaN if none was kept back.
    pub psnr_db: f64,
    /// Mean SSIM of the same pictures.
    pub ssim: f64,
    /// What packing the face cost: PSNR of frames drawn from the numbers as they were learned, less
    /// that drawn from the file, dB. None with fewer than 8 frames kept back, or without time left
    /// to measure it.
    pub packing_loss_db: Option<f64>,
    /// Frames learned from.
    pub n_train: usize,
    /// Frames kept back and measured.
    pub n_heldout: usize,
    /// Training steps.
    pub steps: u32,
    /// Time on the clock, all included.
    pub seconds: f64,
    /// What a peer downloads.
    pub bytes: usize,
}

/// How far an enrollment is.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// What is being done: `tracking`, `fitting`, `learning`, `measuring`, `writing`.
    pub stage: &'static str,
    /// Share of the whole that is done, 0..=1.
    pub fraction: f32,
    /// Frames or steps a second in this stage.
    pub rate: f32,
    /// Time left of the whole, if known.
    pub left: Option<Duration>,
    /// PSNR of the pixels learned from lately, dB.
    pub psnr_db: Option<f32>,
    /// The above in words.
    pub detail: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_face_has_fewer_numbers_at_every_side() {
        assert_eq!("small".parse(), Ok(Preset::Small));
        assert_eq!("default".parse(), Ok(Preset::Default));
        assert!("tiny".parse::<Preset>().is_err());
        for side in [64, 128, 256, 512] {
            let [default, small] = [Preset::Default, Preset::Small].map(|preset| {
                let model = face::FaceModel::untrained(preset.sizes(side), 1);
                model.params().len()
            });
            assert!(small * 2 < default + default / 10, "{small} of {default} at {side}");
        }
    }

    #[test]
    fn a_holdout_is_a_share_or_every_so_manieth_frame() {
        assert_eq!("0.15".parse(), Ok(Holdout::Last(0.15)));
        assert_eq!("every:7".parse(), Ok(Holdout::Every(7)));
        for wrong in ["every:1", "0.9", "-0.1", "some", "every:"] {
            assert!(wrong.parse::<Holdout>().is_err(), "{wrong}");
        }
        assert_eq!(Holdout::Last(0.25).mask(4), [false, false, false, true]);
        assert_eq!(Holdout::Every(2).mask(4), [false, true, false, true]);
    }
}
