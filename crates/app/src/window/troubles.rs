//! What is wrong beside a call, as its screen shows it.

use capture::{DeviceChange, SoundDevice};
use types::ErrorLine;

/// What is wrong now. What is over is forgotten.
#[derive(Default)]
pub(super) struct Troubles {
    microphone: Option<String>,
    speaker: Option<String>,
    no_sound: Option<String>,
    /// What last went wrong otherwise.
    other: Option<String>,
}

impl Troubles {
    /// Takes note of what has happened to a sound device. That one is opened, or that a file was played
    /// to its end, is no trouble.
    pub(super) fn note_device(&mut self, change: &DeviceChange) {
        let trouble = || Some(ErrorLine::new(&change.to_string()).to_string());
        match change {
            DeviceChange::Opened { device, .. } => *self.of(*device) = None,
            DeviceChange::Lost { device, .. } => *self.of(*device) = trouble(),
            DeviceChange::CutShort { .. } => self.microphone = trouble(),
            DeviceChange::NotWritten { .. } | DeviceChange::NotCompleted { .. } => {
                self.speaker = trouble();
            }
            _ => {}
        }
    }

    /// Takes note of why there is no sound.
    pub(super) fn note_no_sound(&mut self, why: &str) {
        self.no_sound = Some(ErrorLine::new(&format!("No sound: {why}")).to_string());
    }

    /// Takes note of something else.
    pub(super) fn note(&mut self, trouble: &str) {
        self.other = Some(ErrorLine::new(trouble).to_string());
    }

    /// Returns all that is wrong, a line each.
    pub(super) fn lines(&self) -> impl Iterator<Item = &String> {
        [&self.no_sound, &self.microphone, &self.speaker, &self.other].into_iter().flatten()
    }

    fn of(&mut self, device: SoundDevice) -> &mut Option<String> {
        match device {
            SoundDevice::Microphone => &mut self.microphone,
            SoundDevice::Speaker => &mut self.speaker,
        }
    }
}

#[cfg(test)]
mod tests {
    use capture::LossReason;

    use super::*;

    fn opened(device: SoundDevice) -> DeviceChange {
        DeviceChange::Opened { device, name: "Headset".to_owned() }
    }

    fn unplugged(device: SoundDevice) -> DeviceChange {
        let (name, reason) = (Some("Headset".to_owned()), LossReason::Unplugged);
        DeviceChange::Lost { device, name, reason }
    }

    fn lines(troubles: &Troubles) -> Vec<&str> {
        troubles.lines().map(String::as_str).collect()
    }

    #[test]
    fn a_device_that_is_open_is_no_trouble_and_hides_none() {
        let mut troubles = Troubles::default();
        troubles.note_device(&opened(SoundDevice::Speaker));
        assert_eq!(lines(&troubles), [""; 0]);
        troubles.note_no_sound("the sound codec does not start");
        troubles.note_device(&opened(SoundDevice::Microphone));
        troubles.note_device(&DeviceChange::Ended { path: "voice.wav".into() });
        assert_eq!(lines(&troubles), ["No sound: the sound codec does not start"]);
    }

    #[test]
    fn a_lost_device_is_trouble_until_it_is_open_again() {
        let mut troubles = Troubles::default();
        troubles.note_device(&unplugged(SoundDevice::Microphone));
        troubles.note_device(&unplugged(SoundDevice::Speaker));
        troubles.note("the disk is full");
        troubles.note_device(&opened(SoundDevice::Microphone));
        let speaker = "the speaker \"Headset\" was unplugged";
        assert_eq!(lines(&troubles), [speaker, "the disk is full"]);
        troubles.note_device(&opened(SoundDevice::Speaker));
        assert_eq!(lines(&troubles), ["the disk is full"]);
    }

    #[test]
    fn a_speaker_file_that_is_not_completed_is_trouble() {
        let mut troubles = Troubles::default();
        troubles.note_device(&DeviceChange::NotCompleted { why: "the disk is full".to_owned() });
        assert_eq!(lines(&troubles), ["the speaker file cannot be completed: the disk is full"]);
    }
}
