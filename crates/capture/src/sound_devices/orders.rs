//! What the thread that follows a device is told from outside.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::change::LossReason;

/// Orders for the thread. None of them waits in a queue, which might be full.
#[derive(Clone, Default)]
pub(super) struct Orders(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    is_stopped: bool,
    failed: Option<(u32, LossReason)>,
}

/// What to do next.
pub(super) enum Order {
    /// Look at the devices, of which the one with this number does not work any more.
    Look(Option<(u32, LossReason)>),
    Stop,
}

impl Orders {
    /// Ends the thread.
    pub(super) fn stop(&self) {
        self.tell(|state| state.is_stopped = true);
    }

    /// Says that the device of this number does not work any more.
    pub(super) fn fail(&self, number: u32, reason: LossReason) {
        self.tell(|state| {
            // A device that was closed may still complain, after the one that is open now.
            if state.failed.as_ref().is_none_or(|(newest, _)| *newest < number) {
                state.failed = Some((number, reason));
            }
        });
    }

    fn tell(&self, change: impl FnOnce(&mut State)) {
        let (state, told) = &*self.0;
        change(&mut state.lock().unwrap_or_else(PoisonError::into_inner));
        told.notify_one();
    }

    /// Waits for the next order, at most for `timeout`: the devices are looked at then without one.
    pub(super) fn wait(&self, timeout: Duration) -> Order {
        let (state, told) = &*self.0;
        let state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_idle = |state: &mut State| !state.is_stopped && state.failed.is_none();
        let waited = told.wait_timeout_while(state, timeout, is_idle);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.is_stopped { Order::Stop } else { Order::Look(state.failed.take()) }
    }
}
