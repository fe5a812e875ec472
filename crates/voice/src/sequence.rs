use std::collections::VecDeque;

/// Sequence numbers remembered of packets that carried no sound.
const MAX_SILENT: usize = 64;

/// Counts the packets that are missing between two that carried sound.
#[derive(Default)]
pub(crate) struct Sequence {
    /// Number of the last packet whose sound was taken.
    last: Option<u16>,
    /// Numbers of the latest packets that carried no sound.
    silent: VecDeque<u16>,
}

impl Sequence {
    /// Notes a packet that carried no sound.
    pub(crate) fn note_silent(&mut self, number: u16) {
        if self.silent.contains(&number) {
            return;
        }
        if self.silent.len() == MAX_SILENT {
            self.silent.pop_front();
        }
        self.silent.push_back(number);
    }

    /// Returns how many packets between the last one and `number` have not arrived; 0 if they are
    /// out of order.
    pub(crate) fn missing_before(&self, number: u16) -> u16 {
        let Some(last) = self.last else { return 0 };
        let distance = number.wrapping_sub(last);
        if distance == 0 || distance > u16::MAX / 2 {
            return 0;
        }
        let is_between = |silent: &&u16| (1..distance).contains(&silent.wrapping_sub(last));
        distance - 1 - (self.silent.iter().filter(is_between).count() as u16).min(distance - 1)
    }

    /// Notes that the sound of a packet was taken, unless a later one was before.
    pub(crate) fn take(&mut self, number: u16) {
        let is_newer =
            self.last.is_none_or(|last| (1..=u16::MAX / 2).contains(&number.wrapping_sub(last)));
        if is_newer {
            self.last = Some(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_numbers_are_counted_over_the_wrap_and_without_silent_packets() {
        let mut sequence = Sequence::default();
        assert_eq!(sequence.missing_before(7), 0);
        sequence.take(u16::MAX - 1);
        assert_eq!(sequence.missing_before(u16::MAX), 0);
        assert_eq!(sequence.missing_before(3), 4);
        sequence.note_silent(0);
        sequence.note_silent(2);
        assert_eq!(sequence.missing_before(3), 2);
        assert_eq!(sequence.missing_before(u16::MAX - 5), 0);
        sequence.take(u16::MAX - 5);
        sequence.take(3);
        assert_eq!(sequence.missing_before(4), 0);
    }
}
