//! The record of a person's consent to a face file, which stays in that person's own file.

use std::time::Duration;

use crate::file_error::FaceFileError;

/// Record that a person consented to a face file of themselves.
///
/// Section `CNST` of a face file, which is private: no peer receives it. 9 bytes: the time, u64
/// seconds since the Unix epoch (UTC), and the form, u8.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Consent {
    /// When it was given: time since the Unix epoch, whole seconds.
    pub given: Duration,
    /// How it was given.
    pub form: ConsentForm,
}

/// How a person consented.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConsentForm {
    /// The person answered a question on a terminal.
    Terminal = 0,
    /// Whoever ran the program stated it with an option of the command line.
    Option = 1,
    /// The person checked a box in the window.
    Window = 2,
}

impl Consent {
    /// Length of the section.
    pub(crate) const BYTES: usize = 9;

    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.given.as_secs().to_le_bytes());
        bytes[8] = self.form as u8;
        bytes
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, FaceFileError> {
        let error = FaceFileError::Unpack { part: "record of consent" };
        let (seconds, form) = bytes.split_first_chunk().ok_or(error)?;
        let form = match form {
            [0] => ConsentForm::Terminal,
            [1] => ConsentForm::Option,
            [2] => ConsentForm::Window,
            _ => return Err(error),
        };
        Ok(Self { given: Duration::from_secs(u64::from_le_bytes(*seconds)), form })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consent_survives_its_bytes() {
        for form in [ConsentForm::Terminal, ConsentForm::Option, ConsentForm::Window] {
            let consent = Consent { given: Duration::from_secs(1_764_547_201), form };
            assert_eq!(Consent::parse(&consent.to_bytes()), Ok(consent));
        }
        for wrong in [&[][..], &[0; 8], &[0; 10], &[3; 9]] {
            assert!(Consent::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
