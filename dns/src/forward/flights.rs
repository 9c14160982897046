//! Questions under way: who asks what is being asked already waits for the same answer. Asks nobody itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::kept::Kept;
use super::limits::FLIGHTS_MAX;
use super::question::{Asked, Key};
use super::upstream::Ids;

/// What came of a question.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) kept: Kept,
    /// No server could be had.
    pub(super) is_failure: bool,
}

/// All that are under way.
#[derive(Debug, Default)]
pub(super) struct Flights {
    open: Mutex<BTreeMap<Box<[u8]>, Arc<Flight>>>,
}

#[derive(Debug)]
struct Flight {
    outcome: watch::Sender<Option<Arc<Outcome>>>,
    ids: Ids,
}

/// Where somebody waits.
pub(super) struct Seat(watch::Receiver<Option<Arc<Outcome>>>);

/// What to do about a question.
pub(super) enum Boarded {
    /// Ask, and land; others may have taken seats meanwhile.
    First(Box<Pilot>, Seat),
    /// It is being asked.
    Later(Seat),
    /// It was answered a moment ago.
    Known,
    /// It is our own, come back to us.
    Looped,
    /// Too many are under way.
    Full,
}

impl Flights {
    /// Takes a seat; `asked` is somebody's query, and nobody's if it is our own wish. `is_known` is asked whether the
    /// answer has come since it was looked for: it is kept before its flight ends, so that no question falls between.
    pub(super) fn board(
        self: &Arc<Self>,
        key: &Key,
        asked: Option<&Asked>,
        is_known: impl FnOnce() -> bool,
    ) -> Boarded {
        let mut open = self.lock();
        if let Some(flight) = open.get(key.as_bytes()) {
            if asked.is_some_and(|asked| asked.is_like_ours() && flight.ids.contains(asked.id)) {
                return Boarded::Looped;
            }
            return Boarded::Later(Seat(flight.outcome.subscribe()));
        }
        if is_known() {
            return Boarded::Known;
        }
        if open.len() >= FLIGHTS_MAX {
            return Boarded::Full;
        }
        let (outcome, seat) = watch::channel(None);
        let flight = Arc::new(Flight { outcome, ids: Ids::default() });
        open.insert(key.as_bytes().into(), Arc::clone(&flight));
        let pilot = Pilot { flights: Arc::clone(self), flight, key: *key };
        Boarded::First(Box::new(pilot), Seat(seat))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Box<[u8]>, Arc<Flight>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Waits for the end. `None` if there is none: the task that asked died.
    pub(super) async fn wait(mut self) -> Option<Arc<Outcome>> {
        self.0.wait_for(Option::is_some).await.ok()?.clone()
    }
}

/// The duty to ask. Dropped, the flight is over, with or without an outcome.
pub(super) struct Pilot {
    flights: Arc<Flights>,
    flight: Arc<Flight>,
    key: Key,
}

impl Pilot {
    pub(super) const fn key(&self) -> &Key {
        &self.key
    }

    pub(super) fn ids(&self) -> &Ids {
        &self.flight.ids
    }

    /// Tells everybody. Keep the answer first, so that nobody who comes now finds neither flight nor answer.
    pub(super) fn land(self, outcome: Outcome) {
        self.flight.outcome.send_replace(Some(Arc::new(outcome)));
    }
}

impl Drop for Pilot {
    fn drop(&mut self) {
        self.flights.lock().remove(self.key.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> Key {
        Key::of(&[1, number, 0], 1)
    }

    fn outcome() -> Outcome {
        Outcome { kept: Kept::failure(b"k", 22, 1), is_failure: true }
    }

    #[tokio::test]
    async fn equal_questions_share_one_flight() {
        let flights = Arc::new(Flights::default());
        let Boarded::First(pilot, first) = flights.board(&key(1), None, || false) else {
            panic!("the first")
        };
        let Boarded::Later(second) = flights.board(&key(1), None, || false) else { panic!("the second") };
        assert!(matches!(flights.board(&key(2), None, || false), Boarded::First(..)));
        pilot.land(outcome());
        assert!(first.wait().await.is_some_and(|outcome| outcome.is_failure));
        assert!(second.wait().await.is_some());
        assert!(matches!(flights.board(&key(1), None, || true), Boarded::Known), "unless it is known by now");
        assert!(
            matches!(flights.board(&key(1), None, || false), Boarded::First(..)),
            "the next one flies anew"
        );
    }

    #[tokio::test]
    async fn a_pilot_that_dies_leaves_nobody_waiting() {
        let flights = Arc::new(Flights::default());
        let Boarded::First(pilot, seat) = flights.board(&key(1), None, || false) else { panic!("the first") };
        drop(pilot);
        assert!(seat.wait().await.is_none());
        assert!(flights.lock().is_empty());
    }

    #[test]
    fn there_is_room_for_so_many() {
        let flights = Arc::new(Flights::default());
        let board = |number: usize| {
            let number = u16::try_from(number).expect("a few hundred").to_be_bytes();
            flights.board(&Key::of(&[2, number[0], number[1], 0], 1), None, || false)
        };
        let pilots: Vec<Boarded> = (0..FLIGHTS_MAX).map(board).collect();
        assert!(pilots.iter().all(|boarded| matches!(boarded, Boarded::First(..))));
        assert!(matches!(board(FLIGHTS_MAX), Boarded::Full));
        assert!(matches!(board(0), Boarded::Later(_)), "who joins takes no room");
        drop(pilots);
        assert!(matches!(board(FLIGHTS_MAX), Boarded::First(..)));
    }
}
