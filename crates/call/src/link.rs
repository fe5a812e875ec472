//! The task of one link. It carries out commands without ever making the session wait.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::connection::{Connection, Events, LinkSettings};
use crate::description::{admit_description, is_admitted};
use crate::event::LinkError;
use crate::link_runtime::Repetitions;
use crate::session::{Input, LinkCommand, LinkEvent, LinkId};
use crate::wire_meter::WireMeter;

/// Commands that set the link up and wait.
const MAX_SETUP: usize = 64;
/// Feature and sound packets that wait. More are lost, as on a bad network.
const MAX_PACKETS: usize = 64;
/// Bytes of control messages that wait for room in the channel, beside those in the channel itself.
/// A peer that lets more wait does not read, and its link has failed.
const MAX_CONTROL_BYTES: usize = 128 * 1024;
/// Control messages that wait.
const MAX_CONTROL: usize = 1024;
/// Failures that wait to be reported. One is enough to end a link.
const MAX_FAILURES: usize = 4;
/// How long a link that is closed may take to deliver what was sent.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(600);
/// Interval at which delivery is checked meanwhile.
const FLUSH_INTERVAL: Duration = Duration::from_millis(10);
/// How long WebRTC may take to close.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(300);

/// Handle of a link. Dropping it closes the link: what was sent on the reliable channel is delivered, as
/// far as that is possible within [`FLUSH_TIMEOUT`].
pub(crate) struct LinkHandle {
    setup: mpsc::Sender<LinkCommand>,
    packets: mpsc::Sender<LinkCommand>,
    control: mpsc::Sender<ControlMessage>,
    control_room: Arc<Semaphore>,
    /// Tells the task that the handle was dropped.
    _open: oneshot::Sender<()>,
}

/// A control message, and the room that it takes in the queue.
type ControlMessage = (Vec<u8>, OwnedSemaphorePermit);

/// What the task receives from the handle.
struct Queues {
    setup: mpsc::Receiver<LinkCommand>,
    packets: mpsc::Receiver<LinkCommand>,
    control: mpsc::Receiver<ControlMessage>,
    open: oneshot::Receiver<()>,
}

impl LinkHandle {
    /// Starts a task that owns a new link. Its events go to `inputs`.
    pub(crate) fn start(
        id: LinkId,
        settings: LinkSettings,
        meter: Arc<WireMeter>,
        inputs: mpsc::Sender<Input>,
    ) -> (Self, JoinHandle<()>) {
        let (handle, queues) = Self::new();
        (handle, tokio::spawn(run(id, settings, meter, inputs, queues)))
    }

    fn new() -> (Self, Queues) {
        let (setup_in, setup) = mpsc::channel(MAX_SETUP);
        let (packets_in, packets) = mpsc::channel(MAX_PACKETS);
        let (control_in, control) = mpsc::channel(MAX_CONTROL);
        let (open_in, open) = oneshot::channel();
        let handle = Self {
            setup: setup_in,
            packets: packets_in,
            control: control_in,
            control_room: Arc::new(Semaphore::new(MAX_CONTROL_BYTES)),
            _open: open_in,
        };
        (handle, Queues { setup, packets, control, open })
    }

    /// Passes a command to the link, and never waits. [`LinkCommand::Close`] does nothing: drop the
    /// handle.
    ///
    /// # Errors
    /// If the queue is full: the link is of no use any more.
    pub(crate) fn command(&self, command: LinkCommand) -> Result<(), LinkError> {
        match command {
            LinkCommand::Close => Ok(()),
            LinkCommand::SendFeatures(_) | LinkCommand::SendSound(_) => {
                let _ = self.packets.try_send(command);
                Ok(())
            }
            LinkCommand::SendControl(message) => {
                let size = u32::try_from(message.len()).map_err(|_| LinkError::PeerDoesNotRead)?;
                let room = Arc::clone(&self.control_room).try_acquire_many_owned(size);
                let room = room.map_err(|_| LinkError::PeerDoesNotRead)?;
                unless_full(&self.control.try_send((message, room)))
            }
            // A peer that sends candidates faster than WebRTC takes them loses some.
            LinkCommand::AddCandidate(_) => {
                let _ = self.setup.try_send(command);
                Ok(())
            }
            LinkCommand::Offer | LinkCommand::Answer(_) | LinkCommand::Accept(_) => {
                unless_full(&self.setup.try_send(command))
            }
        }
    }
}

/// A link that has ended has said why already.
fn unless_full<T>(sent: &Result<(), TrySendError<T>>) -> Result<(), LinkError> {
    match sent {
        Err(TrySendError::Full(_)) => Err(LinkError::PeerDoesNotRead),
        Ok(()) | Err(TrySendError::Closed(_)) => Ok(()),
    }
}

async fn run(
    id: LinkId,
    settings: LinkSettings,
    meter: Arc<WireMeter>,
    inputs: mpsc::Sender<Input>,
    queues: Queues,
) {
    let report = async |event| {
        // A session that has ended does not listen any more.
        let _ = inputs.send(Input::Link(id, event)).await;
    };
    let (failed, mut failures) = mpsc::channel(MAX_FAILURES);
    let repetitions = Repetitions::new(failed.clone());
    let created = Connection::new(&settings, meter, &repetitions, failed).await;
    let (connection, events) = match created {
        Ok((connection, events)) => (Arc::new(connection), events),
        Err(error) => return report(LinkEvent::Error(error)).await,
    };
    let Queues { mut setup, packets, control, open } = queues;
    let mut control = tokio::spawn(send_control(Arc::clone(&connection), control));
    let helpers = [
        tokio::spawn(forward(id, events, inputs.clone())),
        tokio::spawn(send_packets(Arc::clone(&connection), packets)),
        tokio::spawn(repetitions.run()),
    ];
    let end = async {
        tokio::select! {
            biased;
            _ = open => None,
            failure = failures.recv() => failure,
        }
    };
    let carry_out = async {
        while let Some(command) = setup.recv().await {
            let is_answer = matches!(command, LinkCommand::Accept(_));
            match carry_out(&connection, command).await {
                Ok(Some(description)) => report(LinkEvent::Described(description)).await,
                Ok(None) => {}
                // The right answer may still come.
                Err(error) if is_answer => report(LinkEvent::Error(error)).await,
                Err(error) => return Some(LinkEvent::Error(error)),
            }
        }
        None
    };
    let failure = tokio::select! {
        biased;
        failure = end => failure,
        failure = carry_out => failure,
    };
    let is_broken = failure.is_some();
    if let Some(failure) = failure {
        report(failure).await;
    }
    if !is_broken {
        let _ = tokio::time::timeout(FLUSH_TIMEOUT, async {
            let _ = (&mut control).await;
            while connection.outstanding_bytes().await > 0 {
                tokio::time::sleep(FLUSH_INTERVAL).await;
            }
        })
        .await;
    }
    control.abort();
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, connection.close()).await;
    helpers.iter().for_each(JoinHandle::abort);
}

/// Carries out a command that sets the link up. Returns our description if the command asks for it.
async fn carry_out(
    connection: &Connection,
    command: LinkCommand,
) -> Result<Option<String>, LinkError> {
    let admit = |sdp: &str| {
        admit_description(sdp, connection.is_loopback()).ok_or(LinkError::BadDescription)
    };
    match command {
        LinkCommand::Offer => connection.offer().await.map(Some),
        LinkCommand::Answer(offer) => connection.answer(admit(&offer)?).await.map(Some),
        LinkCommand::Accept(answer) => connection.accept(admit(&answer)?).await.map(|()| None),
        LinkCommand::AddCandidate(candidate) => {
            if is_admitted(&candidate, connection.is_loopback()) {
                // A candidate of an unknown kind is no reason to end a call.
                let _ = connection.add_candidate(candidate).await;
            }
            Ok(None)
        }
        LinkCommand::SendFeatures(_)
        | LinkCommand::SendControl(_)
        | LinkCommand::SendSound(_)
        | LinkCommand::Close => Ok(None),
    }
}

async fn send_control(connection: Arc<Connection>, mut messages: mpsc::Receiver<ControlMessage>) {
    while let Some((message, room)) = messages.recv().await {
        // If it cannot be sent, the link is broken and the session will notice.
        let _ = connection.send_control(&message).await;
        drop(room);
    }
}

async fn send_packets(connection: Arc<Connection>, mut packets: mpsc::Receiver<LinkCommand>) {
    while let Some(command) = packets.recv().await {
        match command {
            LinkCommand::SendFeatures(packet) => connection.send_features(&packet).await,
            LinkCommand::SendSound(packet) => connection.send_sound(packet).await,
            _ => {}
        }
    }
}

async fn forward(id: LinkId, events: Events, inputs: mpsc::Sender<Input>) {
    let Events { mut messages, mut packets } = events;
    loop {
        let event = tokio::select! {
            Some(event) = messages.recv() => event,
            Some(event) = packets.recv() => event,
            else => return,
        };
        if inputs.send(Input::Link(id, event)).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::session::SoundPacket;

    #[test]
    fn control_messages_that_nobody_takes_fail_the_link_and_packets_are_dropped() {
        let (handle, _queues) = LinkHandle::new();
        let payload = Bytes::from_static(b"\0opus");
        let sound = SoundPacket { sequence: 1, timestamp: 2, is_pair: false, payload };
        for _ in 0..10 * MAX_PACKETS {
            handle.command(LinkCommand::SendFeatures(Bytes::from_static(&[0; 1000]))).unwrap();
            handle.command(LinkCommand::SendSound(sound.clone())).unwrap();
        }
        let chunk = || LinkCommand::SendControl(vec![0; 16 * 1024]);
        let accepted = (0..100).take_while(|_| handle.command(chunk()).is_ok()).count();
        assert_eq!(accepted, MAX_CONTROL_BYTES / (16 * 1024));
        assert!(matches!(handle.command(chunk()), Err(LinkError::PeerDoesNotRead)));
    }

    #[test]
    fn small_control_messages_are_bounded_in_number() {
        let (handle, _queues) = LinkHandle::new();
        let accepted = (0..10 * MAX_CONTROL)
            .take_while(|_| handle.command(LinkCommand::SendControl(Vec::new())).is_ok());
        assert_eq!(accepted.count(), MAX_CONTROL);
    }

    #[test]
    fn commands_to_a_link_that_has_ended_are_no_error() {
        let (handle, queues) = LinkHandle::new();
        drop(queues);
        handle.command(LinkCommand::Offer).unwrap();
        handle.command(LinkCommand::SendControl(vec![1])).unwrap();
    }
}
