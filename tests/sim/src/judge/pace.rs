//! How much a machine does: bounded work in each minute, and no instant in which it is woken again and again.

use std::time::Duration;

use model::Mono;

use super::Judge;

/// A machine is woken so often at one instant, with nothing new to say to it.
const WAKES_AT_ONCE_MAX: u32 = 8;
const WINDOW: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct Pace {
    woken_at: Mono,
    wakes: u32,
    window_since: Mono,
    outputs: usize,
}

impl Judge {
    /// A machine was woken because it asked to be.
    pub fn woken(&mut self, at: Mono, who: &str, why: &str) {
        let pace = pace_of(&mut self.paces, who);
        if pace.woken_at != at {
            (pace.woken_at, pace.wakes) = (at, 0);
        }
        pace.wakes += 1;
        let busy = pace.wakes > WAKES_AT_ONCE_MAX;
        self.expect(!busy, at, "no-busy-loops", || format!("{who} asks to be woken at once: {why}"));
    }

    /// A machine did so much; `bound` is how much it may do in a minute.
    pub fn worked(&mut self, at: Mono, who: &str, outputs: usize, bound: usize) {
        let pace = pace_of(&mut self.paces, who);
        if at.since(pace.window_since) > WINDOW {
            (pace.window_since, pace.outputs) = (at, 0);
        }
        pace.outputs += outputs;
        let total = pace.outputs;
        self.expect(total <= bound, at, "bounded-work", || format!("{who} did {total} things in a minute"));
    }
}

fn pace_of<'a>(paces: &'a mut std::collections::BTreeMap<String, Pace>, who: &str) -> &'a mut Pace {
    if !paces.contains_key(who) {
        paces.insert(who.to_owned(), Pace::default());
    }
    paces.get_mut(who).expect("inserted in the line above")
}
