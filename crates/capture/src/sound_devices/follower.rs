//! Keeps the wanted sound device open, whatever is plugged in and out.

#![expect(clippy::disallowed_methods, reason = "the thread that watches the devices starts here")]

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use super::change::{DeviceChange, LossReason, SoundDevice};
use super::orders::{Order, Orders};

/// Time between two looks at the list of devices.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Time after which a device that failed is tried again, unless the list changes before.
const RETRY_EVERY: Duration = Duration::from_secs(5);
/// News that nobody has read. There are few.
const MAX_NEWS: usize = 16;

/// Connected device.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Listed {
    /// What the system tells it by.
    pub(super) id: String,
    /// What people call it.
    pub(super) name: String,
}

/// Devices of one direction.
pub(super) trait DeviceHost {
    /// Keeps a device running until it is dropped, which may take long.
    type Stream: Send + 'static;
    /// Our end of a running device.
    type Line;
    /// Connects to the sound system again if it may have been started, or restarted.
    fn reconnect(&mut self);
    /// Returns whether the list has to be watched while a device is open.
    fn is_watched(&self) -> bool;
    /// Returns the connected devices.
    fn listed(&self) -> Vec<Listed>;
    /// Returns the default device.
    fn default_device(&self) -> Option<Listed>;
    /// Opens a device. `on_failure` may be called at any time later, from any thread.
    fn open(
        &mut self,
        device: &Listed,
        on_failure: OnFailure,
    ) -> Result<(Self::Stream, Self::Line), LossReason>;
}

/// Is told why a device does not work any more.
pub(super) type OnFailure = Arc<dyn Fn(LossReason) + Send + Sync>;

/// Which device to keep open.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Wanted {
    Default,
    /// The device of this name.
    Named(String),
}

/// Event, with our end of the device if one was opened.
pub(super) struct News<L> {
    pub(super) change: DeviceChange,
    pub(super) line: Option<L>,
}

/// Thread that keeps the wanted device open. Dropping this closes the device.
pub(super) struct Follower<L> {
    news: Receiver<News<L>>,
    orders: Orders,
}

impl<L: Send + 'static> Follower<L> {
    /// Starts the thread. `connect` is called in it.
    pub(super) fn start<H: DeviceHost<Line = L>>(
        device: SoundDevice,
        wanted: Wanted,
        connect: impl FnOnce() -> H + Send + 'static,
    ) -> io::Result<Self> {
        let (news_sender, news) = sync_channel(MAX_NEWS);
        let orders = Orders::default();
        let thread_orders = orders.clone();
        let run = move || {
            let mut following = Following::new(device, wanted, connect(), thread_orders.clone());
            let mut failed = None;
            loop {
                // Nobody reads only what is left when a call ends.
                let mut say = |news| drop(news_sender.try_send(news));
                following.look(Instant::now(), failed, &mut say);
                match thread_orders.wait(LOOK_EVERY) {
                    Order::Look(broken) => failed = broken,
                    Order::Stop => return,
                }
            }
        };
        std::thread::Builder::new().name(format!("feathercall-{device}")).spawn(run)?;
        Ok(Self { news, orders })
    }

    /// Returns the next event, if there is one.
    pub(super) fn take_news(&self) -> Option<News<L>> {
        self.news.try_recv().ok()
    }
}

impl<L> Drop for Follower<L> {
    fn drop(&mut self) {
        // The thread ends by itself: closing a device may take long.
        self.orders.stop();
    }
}

/// Device that is open.
struct Current<S> {
    listed: Listed,
    number: u32,
    opened: Instant,
    stream: S,
}

/// Device that is left alone for a while.
struct Failed {
    device: Listed,
    /// Devices there were. If they change, it is tried at once.
    listed: Vec<Listed>,
    until: Instant,
}

/// State of a follower, without its thread.
struct Following<H: DeviceHost> {
    device: SoundDevice,
    wanted: Wanted,
    host: H,
    orders: Orders,
    current: Option<Current<H::Stream>>,
    n_opened: u32,
    has_looked: bool,
    /// What was last said about a device that cannot be used.
    told: Option<DeviceChange>,
    failed: Option<Failed>,
}

impl<H: DeviceHost> Following<H> {
    fn new(device: SoundDevice, wanted: Wanted, host: H, orders: Orders) -> Self {
        Self {
            device,
            wanted,
            host,
            orders,
            current: None,
            n_opened: 0,
            has_looked: false,
            told: None,
            failed: None,
        }
    }

    /// Looks at the devices, of which the one with the number in `failed` has stopped working.
    fn look(
        &mut self,
        now: Instant,
        failed: Option<(u32, LossReason)>,
        say: &mut dyn FnMut(News<H::Line>),
    ) {
        let failed = failed.filter(|(number, _)| Some(*number) == self.current_number());
        if failed.is_none() && self.current.is_some() && !self.host.is_watched() {
            return;
        }
        if self.current.is_none() && std::mem::replace(&mut self.has_looked, true) {
            self.host.reconnect();
        }
        let listed = self.host.listed();
        let wanted = match &self.wanted {
            Wanted::Default => self.host.default_device(),
            Wanted::Named(name) => listed.iter().find(|l| l.name == *name).cloned(),
        };
        if let Some(current) = &self.current {
            let is_gone =
                !listed.contains(&current.listed) && wanted.as_ref() != Some(&current.listed);
            let reason = match failed {
                _ if is_gone => Some(LossReason::Unplugged),
                Some((_, LossReason::Missing)) => Some(LossReason::Unplugged),
                failed => failed.map(|(_, reason)| reason),
            };
            if let Some(reason) = reason {
                let name = current.listed.name.clone();
                // A device that opens and fails at once would do so again.
                let is_young = now.saturating_duration_since(current.opened) < RETRY_EVERY;
                if is_young && !is_gone {
                    let device = current.listed.clone();
                    let until = now + RETRY_EVERY;
                    self.failed = Some(Failed { device, listed: listed.clone(), until });
                }
                self.close();
                self.lose(Some(name), reason, say);
            }
        }
        let Some(wanted) = wanted else {
            // That it was unplugged has been said.
            if self.current.is_none() && self.told.is_none() {
                let name = match &self.wanted {
                    Wanted::Default => None,
                    Wanted::Named(name) => Some(name.clone()),
                };
                self.lose(name, LossReason::Missing, say);
            }
            return;
        };
        let is_open = self.current.as_ref().is_some_and(|current| current.listed == wanted);
        let waits = self
            .failed
            .as_ref()
            .is_some_and(|f| f.device == wanted && f.listed == listed && now < f.until);
        if !is_open && !waits {
            // A sound server plays two streams of one client on one device only.
            self.close();
            self.open(now, wanted, listed, say);
        }
    }

    fn current_number(&self) -> Option<u32> {
        self.current.as_ref().map(|current| current.number)
    }

    fn open(
        &mut self,
        now: Instant,
        wanted: Listed,
        listed: Vec<Listed>,
        say: &mut dyn FnMut(News<H::Line>),
    ) {
        self.n_opened += 1;
        let (number, orders) = (self.n_opened, self.orders.clone());
        let on_failure = Arc::new(move |reason| orders.fail(number, reason));
        match self.host.open(&wanted, on_failure) {
            Ok((stream, line)) => {
                (self.told, self.failed) = (None, None);
                let (device, name) = (self.device, wanted.name.clone());
                self.current = Some(Current { listed: wanted, number, opened: now, stream });
                say(News { change: DeviceChange::Opened { device, name }, line: Some(line) });
            }
            Err(reason) => {
                // Whoever has it may give it back at any time.
                let pause = if reason == LossReason::Busy { Duration::ZERO } else { RETRY_EVERY };
                let (device, until) = (wanted.clone(), now + pause);
                self.failed = Some(Failed { device, listed, until });
                let is_any = self.wanted == Wanted::Default && reason == LossReason::Missing;
                self.lose((!is_any).then_some(wanted.name), reason, say);
            }
        }
    }

    /// Closes the device, on a thread of its own: some drivers do not return once it is unplugged.
    fn close(&mut self) {
        if let Some(current) = self.current.take() {
            let name = format!("feathercall-close-{}", self.device);
            // Without a thread it is closed here: `spawn` drops what it was given.
            let _ = std::thread::Builder::new().name(name).spawn(move || drop(current.stream));
        }
    }

    /// Says that a device cannot be used, once.
    fn lose(
        &mut self,
        name: Option<String>,
        reason: LossReason,
        say: &mut dyn FnMut(News<H::Line>),
    ) {
        let change = DeviceChange::Lost { device: self.device, name, reason };
        if self.told.as_ref() != Some(&change) {
            self.told = Some(change.clone());
            say(News { change, line: None });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::test_clips::moment;

    /// Devices that a test plugs in and out.
    #[derive(Default)]
    struct FakeHost {
        listed: Vec<Listed>,
        default: Option<usize>,
        /// Why no device opens.
        fault: Option<LossReason>,
        n_tries: usize,
    }

    impl DeviceHost for FakeHost {
        type Stream = ();
        type Line = String;
        fn reconnect(&mut self) {}
        fn is_watched(&self) -> bool {
            true
        }
        fn listed(&self) -> Vec<Listed> {
            self.listed.clone()
        }
        fn default_device(&self) -> Option<Listed> {
            self.default.map(|idx| self.listed[idx].clone())
        }
        fn open(&mut self, device: &Listed, _: OnFailure) -> Result<((), String), LossReason> {
            self.n_tries += 1;
            self.fault.clone().map_or(Ok(((), device.id.clone())), Err)
        }
    }

    fn listed(names: &[&str]) -> Vec<Listed> {
        let listed = |name: &&str| Listed { id: format!("id of {name}"), name: (*name).to_owned() };
        names.iter().map(listed).collect()
    }

    struct World {
        following: Following<FakeHost>,
        now: Instant,
    }

    impl World {
        fn new(wanted: Wanted, names: &[&str]) -> Self {
            let host = FakeHost {
                listed: listed(names),
                default: (!names.is_empty()).then_some(0),
                ..FakeHost::default()
            };
            let orders = Orders::default();
            let following = Following::new(SoundDevice::Microphone, wanted, host, orders);
            Self { following, now: moment() }
        }

        /// Looks again after half a second and returns what is said.
        fn look(&mut self) -> Vec<String> {
            self.look_after(None)
        }

        fn look_after(&mut self, failed: Option<(u32, LossReason)>) -> Vec<String> {
            self.now += LOOK_EVERY;
            let mut said = Vec::new();
            self.following.look(self.now, failed, &mut |news| said.push(news.change.to_string()));
            said
        }
    }

    #[test]
    fn a_change_of_the_default_device_is_followed_at_once() {
        let mut world = World::new(Wanted::Default, &["desk", "headset"]);
        assert_eq!(world.look(), ["the microphone is \"desk\""]);
        assert_eq!(world.look(), [""; 0]);
        world.following.host.default = Some(1);
        assert_eq!(world.look(), ["the microphone is \"headset\""]);
        world.following.host.listed = listed(&["desk"]);
        world.following.host.default = Some(0);
        let news = world.look();
        assert_eq!(
            news,
            ["the microphone \"headset\" was unplugged", "the microphone is \"desk\""]
        );
    }

    #[test]
    fn without_any_device_it_is_said_once_and_the_first_one_is_taken() {
        let mut world = World::new(Wanted::Default, &[]);
        assert_eq!(world.look(), ["no microphone found: plug one in"]);
        assert_eq!(world.look(), [""; 0]);
        world.following.host.listed = listed(&["headset"]);
        world.following.host.default = Some(0);
        assert_eq!(world.look(), ["the microphone is \"headset\""]);
    }

    #[test]
    fn a_named_device_is_waited_for_and_no_other_taken() {
        let mut world = World::new(Wanted::Named("headset".into()), &["desk", "headset"]);
        assert_eq!(world.look(), ["the microphone is \"headset\""]);
        world.following.host.listed = listed(&["desk"]);
        assert_eq!(world.look(), ["the microphone \"headset\" was unplugged"]);
        assert_eq!(world.look(), [""; 0]);
        world.following.host.listed = listed(&["desk", "headset"]);
        assert_eq!(world.look(), ["the microphone is \"headset\""]);
    }

    #[test]
    fn a_busy_device_is_tried_until_it_is_free() {
        let mut world = World::new(Wanted::Default, &["desk"]);
        world.following.host.fault = Some(LossReason::Busy);
        assert_eq!(world.look(), ["the microphone \"desk\" is used by another program"]);
        assert_eq!(world.look(), [""; 0]);
        assert_eq!(world.following.host.n_tries, 2);
        world.following.host.fault = None;
        assert_eq!(world.look(), ["the microphone is \"desk\""]);
    }

    #[test]
    fn a_broken_device_is_tried_every_five_seconds_or_when_the_list_changes() {
        let mut world = World::new(Wanted::Default, &["desk"]);
        world.following.host.fault = Some(LossReason::Failed("no clock".into()));
        assert_eq!(world.look(), ["the microphone \"desk\" does not work: no clock"]);
        for _ in 0..9 {
            assert_eq!(world.look(), [""; 0]);
        }
        assert_eq!(world.following.host.n_tries, 1);
        world.look();
        assert_eq!(world.following.host.n_tries, 2);
        world.following.host.listed = listed(&["desk", "headset"]);
        world.look();
        assert_eq!(world.following.host.n_tries, 3);
    }

    #[test]
    fn a_device_that_stops_working_is_opened_again() {
        let mut world = World::new(Wanted::Default, &["desk"]);
        world.look();
        let failed = (1, LossReason::Failed("timeout".into()));
        world.now += 2 * RETRY_EVERY;
        let news = world.look_after(Some(failed.clone()));
        let want = ["the microphone \"desk\" does not work: timeout", "the microphone is \"desk\""];
        assert_eq!(news, want);
        // What a device says after it was closed is old.
        assert_eq!(world.look_after(Some(failed)), [""; 0]);
    }

    #[test]
    fn a_device_that_fails_soon_after_it_opens_is_left_alone_for_five_seconds() {
        let mut world = World::new(Wanted::Default, &["desk"]);
        world.look();
        let failed = (1, LossReason::Failed("I/O error".into()));
        assert_eq!(
            world.look_after(Some(failed)),
            ["the microphone \"desk\" does not work: I/O error"]
        );
        for _ in 0..9 {
            assert_eq!(world.look(), [""; 0]);
        }
        assert_eq!(world.look(), ["the microphone is \"desk\""]);
        assert_eq!(world.following.host.n_tries, 2);
    }

    /// Device that fails many times while it opens, which it does when the test says so.
    struct NoisyHost {
        opening: mpsc::Sender<()>,
        may_open: Receiver<()>,
        /// Is disconnected when the thread has ended.
        _alive: mpsc::Sender<()>,
    }

    impl DeviceHost for NoisyHost {
        type Stream = ();
        type Line = ();
        fn reconnect(&mut self) {}
        fn is_watched(&self) -> bool {
            false
        }
        fn listed(&self) -> Vec<Listed> {
            listed(&["desk"])
        }
        fn default_device(&self) -> Option<Listed> {
            self.listed().pop()
        }
        fn open(&mut self, _: &Listed, on_failure: OnFailure) -> Result<((), ()), LossReason> {
            for _ in 0..100 {
                on_failure(LossReason::Failed("I/O error".into()));
            }
            let _ = self.opening.send(());
            let _ = self.may_open.recv();
            Ok(((), ()))
        }
    }

    #[test]
    fn a_device_that_fails_many_times_is_closed_nevertheless() {
        let (opening, opens) = mpsc::channel();
        let (open, may_open) = mpsc::channel();
        let (alive, ends) = mpsc::channel();
        let host = NoisyHost { opening, may_open, _alive: alive };
        let follower =
            Follower::start(SoundDevice::Microphone, Wanted::Default, move || host).unwrap();
        opens.recv().unwrap();
        drop(follower);
        drop(open);
        let ended = ends.recv_timeout(Duration::from_mins(1));
        assert_eq!(ended, Err(mpsc::RecvTimeoutError::Disconnected));
    }
}
