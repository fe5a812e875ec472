//! Ties the media time of received units to their arrival.

use std::time::{Duration, Instant};

use types::MediaTime;

/// How much faster than ours the peer's clock may run. Real clocks differ by less than a thousandth.
const MAX_DRIFT: f64 = 0.05;
/// How far media time may be ahead of arrival: the first unit may have been held up on its way.
const MAX_AHEAD: Duration = Duration::from_secs(2);
/// Time after which units that are too far ahead are taken for those of a new media clock.
const MAX_REFUSED: Duration = Duration::from_secs(1);

/// Media clock of the peer, as this side believes it.
///
/// Since the first unit of a call, at most 1.05 times as much media time passes as real time, plus
/// two seconds: otherwise a peer could make a short call into a long recording. Less may pass. Over
/// a new link the peer's clock may have started again; it is then shifted so that media time goes
/// on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MediaClock {
    /// Arrival and media time of the first unit, and of the unit with the latest media time.
    first: Option<Moment>,
    newest: Option<Moment>,
    /// Added to the media time of each unit, microseconds.
    shift: i64,
    /// Whether the next unit is the first of a link.
    is_new_link: bool,
    /// Since when all units were too far ahead.
    refused_since: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Moment {
    arrived: Instant,
    /// Media time, microseconds.
    media: u64,
}

impl Moment {
    /// Returns the media time, microseconds, at which the peer's clock is at `now` if it runs
    /// `drift` faster.
    fn at(&self, now: Instant, drift: f64) -> u64 {
        let passed = now.saturating_duration_since(self.arrived).as_secs_f64() * (1.0 + drift);
        self.media.saturating_add((passed * 1e6) as u64)
    }
}

impl MediaClock {
    /// Returns the clock for a new link of the same call.
    pub(crate) fn on_new_link(self) -> Self {
        Self { is_new_link: true, refused_since: None, ..self }
    }

    /// Returns what is added to the peer's media time, microseconds.
    pub(crate) fn shift(&self) -> i64 {
        self.shift
    }

    /// Returns the media time of a unit on the timeline of the call; `None` if it is too far ahead,
    /// and the unit has to be dropped.
    pub(crate) fn place(&mut self, arrived: Instant, time: MediaTime) -> Option<MediaTime> {
        let sent = time.as_micros();
        let (Some(first), Some(newest)) = (self.first, self.newest) else {
            let moment = Moment { arrived, media: sent };
            (self.first, self.newest, self.is_new_link) = (Some(moment), Some(moment), false);
            return Some(time);
        };
        let ahead = MAX_AHEAD.as_micros() as u64;
        let limit = first.at(arrived, MAX_DRIFT).saturating_add(ahead);
        let expected = newest.at(arrived, 0.0).min(limit);
        let starts_again = match self.refused_since {
            Some(since) => arrived.saturating_duration_since(since) >= MAX_REFUSED,
            None => std::mem::take(&mut self.is_new_link),
        };
        let mut media = sent.saturating_add_signed(self.shift);
        let is_near = (newest.media..=expected.saturating_add(ahead).min(limit)).contains(&media);
        if starts_again && !is_near {
            self.shift = expected.wrapping_sub(sent).cast_signed();
            media = expected;
        }
        if media > limit {
            self.refused_since.get_or_insert(arrived);
            return None;
        }
        self.refused_since = None;
        if media > newest.media {
            self.newest = Some(Moment { arrived, media });
        }
        Some(MediaTime::from_micros(media))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> MediaTime {
        MediaTime::from_micros(1000 * ms)
    }

    /// Places units of (arrival, media time), both in milliseconds. Returns the media times on the
    /// timeline, in milliseconds.
    fn place(
        clock: &mut MediaClock,
        units: impl IntoIterator<Item = (u64, u64)>,
    ) -> Vec<Option<u64>> {
        let start = start();
        let placed = units.into_iter().map(|(arrived, time)| {
            let placed = clock.place(start + Duration::from_millis(arrived), ms(time))?;
            Some(placed.as_micros() / 1000)
        });
        placed.collect()
    }

    fn start() -> Instant {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        #[expect(clippy::disallowed_methods, reason = "virtual time has to begin somewhere")]
        *START.get_or_init(Instant::now)
    }

    #[test]
    fn media_time_behind_arrival_is_kept_as_it_is() {
        let mut clock = MediaClock::default();
        // A steady start, a stall with a burst behind it, a pause, a clip that stands still.
        let units =
            [(0, 500), (40, 540), (3000, 580), (3000, 3500), (60_000, 60_500), (90_000, 60_540)];
        let want: Vec<_> = units.iter().map(|(_, time)| Some(*time)).collect();
        assert_eq!(place(&mut clock, units), want);
    }

    #[test]
    fn a_peer_cannot_make_more_than_twelve_seconds_out_of_nine() {
        for step in [45, 100, 1000, 9000] {
            let mut clock = MediaClock::default();
            let placed = place(&mut clock, (0..225).map(|unit| (40 * unit, step * unit)));
            let last = placed.into_iter().flatten().max().unwrap();
            assert!(last <= 11_500, "{last} ms with steps of {step} ms");
        }
    }

    #[test]
    fn links_one_after_another_gain_nothing() {
        let mut clock = MediaClock::default();
        let mut last = 0;
        for unit in 0..225 {
            clock = clock.on_new_link();
            let placed =
                place(&mut clock, [(40 * unit, 9000 * unit), (40 * unit + 20, 9000 * unit + 1900)]);
            last = placed.into_iter().flatten().fold(last, u64::max);
        }
        assert!(last <= 11_500, "{last} ms");
    }

    #[test]
    fn units_go_on_after_a_first_one_that_was_held_up() {
        let mut clock = MediaClock::default();
        // The first unit arrives four seconds late, together with those behind it.
        let units = (0..400).map(|unit| ((40 * unit).max(4000), 40 * unit));
        let placed = place(&mut clock, units);
        assert!(placed[..50].iter().all(Option::is_some));
        let n_refused = placed.iter().filter(|placed| placed.is_none()).count();
        assert!((50..=80).contains(&n_refused), "{n_refused} refused");
        assert!(placed[140..].iter().all(Option::is_some));
        assert!(placed.iter().flatten().is_sorted());
    }

    #[test]
    fn a_peer_that_starts_again_goes_on_where_it_was() {
        for restarted_at in [0, 500, 1_000_000] {
            let mut clock = MediaClock::default();
            place(&mut clock, [(0, 70_000), (40, 70_040)]);
            clock = clock.on_new_link();
            let placed = place(&mut clock, [(9040, restarted_at), (9080, restarted_at + 40)]);
            assert_eq!(placed, [Some(79_040), Some(79_080)], "{restarted_at}");
        }
        // A link that was replaced, but not the peer.
        let mut clock = MediaClock::default();
        place(&mut clock, [(0, 70_000), (40, 70_040)]);
        clock = clock.on_new_link();
        assert_eq!(
            place(&mut clock, [(9040, 78_900), (9080, 78_940)]),
            [Some(78_900), Some(78_940)]
        );
    }
}
