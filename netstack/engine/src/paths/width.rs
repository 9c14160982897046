//! Whether a route carries packets of full size, by the longest probes: where fragments or long packets are dropped without a
//! word, short pings pass all the same. Sends nothing.
//!
//! ```text
//! unknown ── answered ──▶ proven ── asked again while in use ──▶ …
//!    └─── not answered, three times ───┴──▶ narrow ── answered, a minute later ──▶ proven
//! ```

use std::time::Duration;

use model::Mono;

use super::pace::Stretch;

/// One that carries packets is asked so often: for so long, and the patience of the misses, a path that began to drop long
/// packets is believed in.
const ASK_INTERVAL: Duration = Duration::from_secs(10);
/// One that dropped long packets is asked so often whether it still does.
const ASK_NARROW_INTERVAL: Duration = Duration::from_secs(60);
/// So many in a row without an answer say that long packets do not pass. A long packet may be two fragments, either of which may be
/// lost by chance.
const MISSES_MAX: u8 = 3;

/// What is known of one route.
#[derive(Debug, Default)]
pub(super) struct Width {
    asked: Option<(u64, Mono)>,
    asked_at: Option<Mono>,
    misses: u8,
    is_proven: bool,
}

impl Width {
    pub(super) const fn asked(&mut self, number: u64, now: Mono) {
        self.asked = Some((number, now));
        self.asked_at = Some(now);
    }

    pub(super) fn answered(&mut self, number: u64) {
        if self.asked.take_if(|(asked, _)| *asked == number).is_some() {
            (self.is_proven, self.misses) = (true, 0);
        }
    }

    /// Counts what was not answered in time.
    pub(super) fn expire(&mut self, patience: Duration, now: Mono) {
        if self.asked.take_if(|(_, at)| *at + patience <= now).is_some() {
            self.misses = self.misses.saturating_add(1);
        }
    }

    /// Whether packets of full size pass, as far as is known.
    pub(super) const fn is_enough(&self) -> bool {
        self.is_proven && self.misses < MISSES_MAX
    }

    /// Whether they are known not to.
    pub(super) const fn is_narrow(&self) -> bool {
        self.misses >= MISSES_MAX
    }

    /// When the next long probe is due. `None`: not before something else happens.
    pub(super) fn next(&self, in_use: bool, stretch: Stretch) -> Option<Mono> {
        let at = self.asked_at.unwrap_or_default();
        match self.asked {
            Some(_) => None,
            None if self.is_narrow() => Some(at + ASK_NARROW_INTERVAL),
            None if !self.is_proven || self.misses > 0 => Some(at),
            None => in_use.then(|| at + stretch.of(ASK_INTERVAL)),
        }
    }

    /// When a missing answer counts.
    pub(super) fn deadline(&self, patience: Duration) -> Option<Mono> {
        self.asked.map(|(_, at)| at + patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(250);

    fn at(millis: u64) -> Mono {
        Mono::from_micros(millis * 1000)
    }

    /// Asks when it is due, and is never answered; says when it gave up.
    fn starve(width: &mut Width, mut now: Mono) -> Mono {
        while !width.is_narrow() {
            now = width.next(true, Stretch::NONE).expect("nothing is under way").max(now);
            width.asked(now.as_micros(), now);
            now = width.deadline(PATIENCE).expect("it is asked");
            width.expire(PATIENCE, now);
        }
        now
    }

    #[test]
    fn only_an_answer_proves_and_three_silences_disprove() {
        let mut width = Width::default();
        assert!(!width.is_enough() && !width.is_narrow(), "nobody knows");
        width.asked(1, at(0));
        width.answered(2);
        assert!(!width.is_enough(), "another number");
        width.answered(1);
        assert!(width.is_enough());
        assert_eq!(
            (width.next(false, Stretch::NONE), width.next(true, Stretch::NONE)),
            (None, Some(at(10_000))),
            "asked while in use only"
        );
        assert_eq!(starve(&mut width, at(10_000)), at(10_750));
        assert!(!width.is_enough());
        assert_eq!(width.next(false, Stretch::NONE), Some(at(10_500) + ASK_NARROW_INTERVAL));
        width.asked(7, at(80_000));
        width.answered(7);
        assert!(width.is_enough(), "it is mended");
    }

    #[test]
    fn one_that_never_carried_a_long_packet_is_narrow_soon() {
        assert_eq!(starve(&mut Width::default(), at(0)), at(750));
    }
}
