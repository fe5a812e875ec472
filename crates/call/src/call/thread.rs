use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::event::{CallFailure, End};
use crate::shared::{Shared, lock};
use crate::sound::raise_priority;

/// How long the runtime may take to stop after a call.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(200);

/// Starts the thread of a call. A panic in it ends the call like any other failure, so that whoever
/// waits for its events does not wait for ever.
pub(super) fn spawn(
    runtime: Runtime,
    shared: Arc<Shared>,
    work: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let run = move || {
        raise_priority();
        // Nothing but the published state outlives a panic, and each part of it is whole.
        let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(work)));
        if ended.is_err() {
            *lock(&shared.end) = Some(End::Failed(CallFailure::Crashed));
        }
        runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    };
    #[expect(clippy::disallowed_methods, reason = "the thread of a call starts here")]
    std::thread::Builder::new().name("feathercall-call".to_owned()).spawn(run)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::sync_channel;

    use tokio::sync::mpsc;

    use super::*;
    use crate::call::{Call, MAX_EVENTS, runtime};
    use crate::driver::MAX_INPUTS;
    use crate::event::Event;
    use crate::settings::LocalMedia;

    /// The panic of the thread used to leave an application that waits for the end waiting for ever.
    #[test]
    fn a_panic_in_the_thread_of_a_call_ends_it_with_one_event() {
        let (inputs, receiver) = mpsc::channel(MAX_INPUTS);
        let (events, event_receiver) = sync_channel(MAX_EVENTS);
        let shared = Arc::new(Shared::new(LocalMedia::default()));
        let work = async move {
            let _ends = (receiver, events);
            panic!("a mistake");
        };
        let thread = Some(spawn(runtime().unwrap(), Arc::clone(&shared), work).unwrap());
        let call = Call { inputs, events: Mutex::new(event_receiver), shared, thread };
        let mut ends = Vec::new();
        while !call.thread.as_ref().is_none_or(JoinHandle::is_finished) || ends.is_empty() {
            ends.extend(call.next_event(Duration::from_millis(10)));
        }
        assert!(matches!(ends[..], [Event::Ended(End::Failed(CallFailure::Crashed))]), "{ends:?}");
        assert!(call.next_event(Duration::ZERO).is_none());
    }
}
