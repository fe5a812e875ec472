/// Packets without sound that are remembered while one before them is missing.
const MAX_SILENT: usize = 64;

/// Counts the packets that are missing between two that carried sound.
#[derive(Default)]
pub(crate) struct Sequence {
    /// Number of the last packet whose sound was taken, or of one without sound after it: up to
    /// there, everything is counted.
    last: Option<u16>,
    /// Packets up to `last` that are missing since sound was last taken.
    missing: u16,
    /// Numbers of packets without sound after `last`, in order; before any sound, as they came.
    silent: Vec<u16>,
}

impl Sequence {
    /// Notes a packet that carried no sound.
    pub(crate) fn note_silent(&mut self, number: u16) {
        let Some(last) = self.last else {
            self.silent.drain(..(self.silent.len() + 1).saturating_sub(MAX_SILENT));
            self.silent.push(number);
            return;
        };
        if !is_after(number, last) {
            return;
        }
        let distance = |number: &u16| number.wrapping_sub(last);
        if let Err(place) = self.silent.binary_search_by_key(&distance(&number), distance) {
            self.silent.insert(place, number);
        }
        self.settle();
    }

    /// Returns how many packets between the last one and `number` have not arrived; 0 if they are
    /// out of order.
    pub(crate) fn missing_before(&self, number: u16) -> u16 {
        let Some(last) = self.last.filter(|last| is_after(number, *last)) else { return 0 };
        let distance = number.wrapping_sub(last);
        let n_silent = self.silent.iter().filter(|n| n.wrapping_sub(last) < distance).count();
        self.missing.saturating_add(distance - 1 - n_silent as u16)
    }

    /// Notes that the sound of a packet was taken, unless a later one was before.
    pub(crate) fn take(&mut self, number: u16) {
        if self.last.is_none_or(|last| is_after(number, last)) {
            self.last = Some(number);
            self.missing = 0;
            self.silent.retain(|silent| is_after(*silent, number));
            self.silent.sort_unstable_by_key(|silent| silent.wrapping_sub(number));
            self.silent.dedup();
            self.settle();
        } else {
            self.missing = self.missing.saturating_sub(1);
        }
    }

    /// Moves `last` over packets without sound: those that follow it, and those that are too many
    /// to wait for what is missing before them.
    fn settle(&mut self) {
        let mut n_settled = 0;
        for (i, number) in self.silent.iter().enumerate() {
            let n_missing = self.last.map_or(0, |last| number.wrapping_sub(last) - 1);
            if n_missing > 0 && self.silent.len() - i <= MAX_SILENT {
                break;
            }
            self.missing = self.missing.saturating_add(n_missing);
            self.last = Some(*number);
            n_settled = i + 1;
        }
        self.silent.drain(..n_settled);
    }
}

/// Returns whether `number` follows `last` by less than half the range of sequence numbers.
fn is_after(number: u16, last: u16) -> bool {
    (1..=u16::MAX / 2).contains(&number.wrapping_sub(last))
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

    #[test]
    fn packets_without_sound_are_no_loss_however_many_they_are() {
        let mut sequence = Sequence::default();
        sequence.take(0);
        // Packets 100 and 100 + 65536 are lost.
        let mut number = 0_u16;
        for n in 1..=70_000 {
            number = number.wrapping_add(1);
            if n % 65_536 != 100 {
                sequence.note_silent(number);
            }
        }
        assert_eq!(sequence.missing_before(number.wrapping_add(1)), 2);
        sequence.take(number.wrapping_add(1));
        assert_eq!(sequence.missing_before(number.wrapping_add(3)), 1);
    }

    #[test]
    fn sound_that_comes_after_many_packets_without_any_is_not_missing() {
        let mut sequence = Sequence::default();
        sequence.take(0);
        for number in 2..=200 {
            sequence.note_silent(number);
        }
        assert_eq!(sequence.missing_before(201), 1);
        sequence.take(1);
        assert_eq!(sequence.missing_before(201), 0);
    }
}
