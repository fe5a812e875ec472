//! What can be wrong with a recording or with the face trained on it, in words for the user.

use std::fmt;

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

/// Something about a recording, or about the face trained on it, that makes a worse face.
///
/// `Display` gives the sentence for the user, [`Warning::advice`] what to do about it. Counts of frames
/// are of the frames that were examined. Serialized, it is an object with `warning`
/// ([`Warning::name`]), the fields of the variant, `message` and `advice`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Warning {
    /// A second face is visible beside the first.
    TwoPeople {
        /// Frames with a second face.
        frames: usize,
        /// Frames that were searched for one.
        of: usize,
    },
    /// Nothing moves in the face: a photo, or a frozen picture.
    StillPicture,
    /// The picture is upside down.
    UpsideDown,
    /// A part of the head lies outside the square middle of the picture, which is all that is used.
    HeadCut {
        /// Frames in which it does.
        frames: usize,
        /// Frames with a face.
        of: usize,
    },
    /// The face is underexposed.
    TooDark {
        /// Brightness of the lit parts of the face, percent of white.
        percent: u32,
    },
    /// The face is overexposed.
    TooBright {
        /// Part of the face in which a color is saturated, percent.
        percent: u32,
    },
    /// The face is out of focus, or blurred by motion in most frames.
    Blurred,
    /// The face is too small to show detail.
    SmallFace {
        /// Height from chin to hairline, pixels of the source.
        height_px: u32,
    },
    /// The head turns too little to show its sides.
    LittleTurn {
        /// Range of the turn to left and right, degrees.
        degrees: u32,
    },
    /// The mouth hardly opens.
    MouthClosed,
    /// The clip is cut from shots with different backgrounds.
    Cuts {
        /// Cuts between two frames that were read one after the other.
        cuts: usize,
    },
    /// The background changes, or the camera moves.
    MovingBackground,
    /// A face is visible only for a short time.
    ShortClip {
        /// How long a face is visible, seconds.
        seconds: u32,
    },
    /// No face is visible in many frames.
    FaceMissing {
        /// Frames without a face.
        frames: usize,
        /// Frames that were tracked.
        of: usize,
    },
    /// The trained face is worse than such a training usually makes it.
    PoorResult {
        /// PSNR of the held-out frames, dB.
        psnr_db: f32,
        /// What a good recording gives at least after as many steps, dB.
        usual_db: f32,
    },
}

impl Warning {
    /// Returns the stable name, as `--json` reports it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::TwoPeople { .. } => "two_people",
            Self::StillPicture => "still_picture",
            Self::UpsideDown => "upside_down",
            Self::HeadCut { .. } => "head_cut",
            Self::TooDark { .. } => "too_dark",
            Self::TooBright { .. } => "too_bright",
            Self::Blurred => "blurred",
            Self::SmallFace { .. } => "small_face",
            Self::LittleTurn { .. } => "little_turn",
            Self::MouthClosed => "mouth_closed",
            Self::Cuts { .. } => "cuts",
            Self::MovingBackground => "moving_background",
            Self::ShortClip { .. } => "short_clip",
            Self::FaceMissing { .. } => "face_missing",
            Self::PoorResult { .. } => "poor_result",
        }
    }

    /// Returns what the user can do about it, as a sentence.
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::TwoPeople { .. } => "Record one person alone, without posters or screens behind.",
            Self::StillPicture => "A photo is not enough: record a minute of video.",
            Self::UpsideDown => "Turn the clip by 180 degrees first.",
            Self::HeadCut { .. } => {
                "Keep the whole head, with some space around it, in the middle of the picture."
            }
            Self::TooDark { .. } => "Put more light on the face, from the front.",
            Self::TooBright { .. } => "Use softer light, or a shorter exposure.",
            Self::Blurred => "Wipe the lens, let it focus on the face, use more light.",
            Self::SmallFace { .. } => "Come closer, or record at a higher resolution.",
            Self::LittleTurn { .. } => "Turn the head slowly to both sides, up and down.",
            Self::MouthClosed => "Speak and smile during the recording.",
            Self::Cuts { .. } => "Use one continuous shot.",
            Self::MovingBackground => "Put the camera on something firm, in front of a wall.",
            Self::ShortClip { .. } => "Record for a minute.",
            Self::FaceMissing { .. } => "Face the camera during the whole recording.",
            Self::PoorResult { .. } => {
                "Record again in even light, all expressions and turns throughout, or give more time."
            }
        }
    }

    /// Returns the fields of the variant.
    fn fields(&self) -> Value {
        match *self {
            Self::TwoPeople { frames, of }
            | Self::HeadCut { frames, of }
            | Self::FaceMissing { frames, of } => json!({ "frames": frames, "of": of }),
            Self::TooDark { percent } | Self::TooBright { percent } => {
                json!({ "percent": percent })
            }
            Self::SmallFace { height_px } => json!({ "height_px": height_px }),
            Self::LittleTurn { degrees } => json!({ "degrees": degrees }),
            Self::Cuts { cuts } => json!({ "cuts": cuts }),
            Self::ShortClip { seconds } => json!({ "seconds": seconds }),
            Self::PoorResult { psnr_db, usual_db } => {
                json!({ "psnr_db": psnr_db, "usual_db": usual_db })
            }
            Self::StillPicture
            | Self::UpsideDown
            | Self::Blurred
            | Self::MouthClosed
            | Self::MovingBackground => json!({}),
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TwoPeople { frames, of } => {
                write!(f, "a second face is visible in {frames} of {of} frames")
            }
            Self::StillPicture => f.write_str("this is a still picture: nothing moves in the face"),
            Self::UpsideDown => f.write_str("the picture is upside down"),
            Self::HeadCut { frames, of } => write!(
                f,
                "a part of the head lies outside the middle square in {frames} of {of} frames"
            ),
            Self::TooDark { percent } => {
                write!(f, "the face is too dark: its lit parts reach {percent} % of white")
            }
            Self::TooBright { percent } => {
                write!(f, "the face is too bright: {percent} % of it is burnt out")
            }
            Self::Blurred => f.write_str("the face is blurred"),
            Self::SmallFace { height_px } => {
                write!(f, "the face is too small: {height_px} pixels from chin to hairline")
            }
            Self::LittleTurn { degrees } => {
                write!(f, "the head hardly turns: {degrees} degrees from left to right")
            }
            Self::MouthClosed => f.write_str("the mouth hardly opens"),
            Self::Cuts { cuts } => {
                let s = if cuts == 1 { "" } else { "s" };
                write!(f, "the clip has {cuts} cut{s} between different shots")
            }
            Self::MovingBackground => {
                f.write_str("the background changes: the camera moves, or something behind")
            }
            Self::ShortClip { seconds } => write!(f, "a face is visible for only {seconds} s"),
            Self::FaceMissing { frames, of } => {
                write!(f, "no face is visible in {frames} of {of} frames")
            }
            Self::PoorResult { psnr_db, usual_db } => write!(
                f,
                "the face turned out badly: {psnr_db:.1} dB on frames it was not trained on, where a \
                 good recording gives {usual_db:.0} dB or more"
            ),
        }
    }
}

impl Serialize for Warning {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(None)?;
        object.serialize_entry("warning", self.name())?;
        for (name, value) in self.fields().as_object().into_iter().flatten() {
            object.serialize_entry(name, value)?;
        }
        object.serialize_entry("message", &self.to_string())?;
        object.serialize_entry("advice", self.advice())?;
        object.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_a_json_object_with_its_name_numbers_and_words() {
        let warning = Warning::TwoPeople { frames: 12, of: 16 };
        let object = serde_json::to_value(warning).unwrap();
        assert_eq!(object["warning"], "two_people");
        assert_eq!((&object["frames"], &object["of"]), (&json!(12), &json!(16)));
        assert_eq!(object["message"], "a second face is visible in 12 of 16 frames");
        assert_eq!(object["advice"], warning.advice());
        let still = serde_json::to_value(Warning::StillPicture).unwrap();
        assert_eq!(still.as_object().unwrap().len(), 3, "{still}");
    }
}
