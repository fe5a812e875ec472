use types::UnitNumber;

use crate::prediction::UnitState;

/// Units that are remembered: more than the oldest reference and its motion reference need.
const CAPACITY: usize = 64;

/// The states of the most recent units.
#[derive(Clone, Debug)]
pub(crate) struct StateHistory {
    /// The state of unit `n`, if it is remembered, is at `n % CAPACITY`.
    slots: Vec<Option<RememberedState>>,
    newest: Option<UnitNumber>,
}

#[derive(Clone, Debug)]
struct RememberedState {
    number: UnitNumber,
    state: UnitState,
}

impl StateHistory {
    pub(crate) fn new() -> Self {
        Self { slots: vec![None; CAPACITY], newest: None }
    }

    pub(crate) fn state(&self, number: UnitNumber) -> Option<&UnitState> {
        let entry = self.slots[slot_of(number)].as_ref()?;
        (entry.number == number).then_some(&entry.state)
    }

    /// Remembers the state of a unit.
    ///
    /// A unit older than all that fit is dropped, unless it `restarts` the stream, as a key unit
    /// does.
    pub(crate) fn insert(&mut self, number: UnitNumber, state: UnitState, restarts: bool) {
        let lead = self.newest.map_or(1, |newest| number.since(newest));
        if lead <= -(CAPACITY as i64) {
            if !restarts {
                return;
            }
            self.slots.fill(None);
            self.newest = None;
        }
        if lead > 0 || self.newest.is_none() {
            self.newest = Some(number);
            let oldest = number.offset(1 - CAPACITY as i64);
            for slot in &mut self.slots {
                slot.take_if(|entry| entry.number.since(oldest) < 0);
            }
        }
        self.slots[slot_of(number)] = Some(RememberedState { number, state });
    }
}

fn slot_of(number: UnitNumber) -> usize {
    (number.0 % CAPACITY as u64) as usize
}

#[cfg(test)]
mod tests {
    use types::Rate;

    use super::*;

    fn insert(history: &mut StateHistory, number: u64, restarts: bool) {
        history.insert(UnitNumber(number), UnitState::rest(Rate::Normal), restarts);
    }

    fn has(history: &StateHistory, number: u64) -> bool {
        history.state(UnitNumber(number)).is_some()
    }

    #[test]
    fn only_the_last_64_units_are_remembered() {
        let mut history = StateHistory::new();
        for number in 0..1000 {
            insert(&mut history, number, false);
        }
        assert!(has(&history, 999 - 63));
        assert!(!has(&history, 999 - 64));
        insert(&mut history, 900, false);
        assert!(!has(&history, 900), "too old");
        assert!(has(&history, 964));
    }

    #[test]
    fn units_before_a_gap_are_forgotten() {
        let mut history = StateHistory::new();
        insert(&mut history, 10, true);
        insert(&mut history, 100, false);
        assert!(!has(&history, 10));
    }

    #[test]
    fn an_old_key_unit_starts_over() {
        let mut history = StateHistory::new();
        insert(&mut history, 3000, true);
        insert(&mut history, 1500, false);
        assert!(has(&history, 3000) && !has(&history, 1500));
        insert(&mut history, 1500, true);
        assert!(has(&history, 1500) && !has(&history, 3000));
    }
}
