//! Wakes the thread that waits for a sound device.

use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::Duration;

/// Longest wait. It bounds the delay of a second thread that uses the same device.
const MAX_WAIT: Duration = Duration::from_millis(10);

/// Lets the thread of a device wake ours without a lock.
#[derive(Clone, Default)]
pub(super) struct Waker(Arc<OnceLock<Thread>>);

impl Waker {
    /// Waits until [`Waker::wake`] is called, at most for `timeout` or 10 ms, and possibly less.
    pub(super) fn wait(&self, timeout: Duration) {
        self.0.get_or_init(thread::current);
        thread::park_timeout(timeout.min(MAX_WAIT));
    }

    /// Wakes the first thread that has waited.
    pub(super) fn wake(&self) {
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }
}
