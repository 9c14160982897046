//! What happened in a run: a digest over all of it, and a story for who wants to read one. Judges nothing.

use std::fmt::Write as _;

use model::Mono;
use model::key::{Digest, Hasher};

/// How much of a run is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Nothing.
    Silent,
    /// Edits, faults, and what nodes and servers say of them.
    Story,
    /// Every event.
    All,
}

/// Digest and story of one run.
pub struct Trace {
    hasher: Hasher,
    verbosity: Verbosity,
    story: String,
    events: u64,
}

impl Trace {
    /// Nothing happened yet.
    pub fn new(verbosity: Verbosity) -> Self {
        Self { hasher: Hasher::new("warren simulation 1"), verbosity, story: String::new(), events: 0 }
    }

    /// One event: what it is, of whom, and its contents.
    pub fn event(&mut self, at: Mono, what: &str, who: u64, bytes: &[u8]) {
        self.events += 1;
        self.hasher.update(&at.as_micros().to_be_bytes());
        self.hasher.update(what.as_bytes());
        self.hasher.update(&who.to_be_bytes());
        self.hasher.update(&(bytes.len() as u64).to_be_bytes());
        self.hasher.update(bytes);
    }

    /// A line of the story.
    pub fn tell(&mut self, at: Mono, line: impl FnOnce() -> String) {
        if self.verbosity >= Verbosity::Story {
            self.write(at, &line());
        }
    }

    /// A line for who wants all.
    pub fn detail(&mut self, at: Mono, line: impl FnOnce() -> String) {
        if self.verbosity >= Verbosity::All {
            self.write(at, &line());
        }
    }

    fn write(&mut self, at: Mono, line: &str) {
        writeln!(self.story, "{} {line}", clock(at)).expect("writing to memory cannot fail");
    }

    /// What was told since the last call.
    pub fn take_story(&mut self) -> String {
        std::mem::take(&mut self.story)
    }

    /// How many events there were.
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// The digest of all events.
    pub fn finish(self) -> Digest {
        self.hasher.finish()
    }
}

/// Virtual time as people read it: hours, minutes, seconds since the run began.
pub fn clock(at: Mono) -> String {
    let micros = at.as_micros();
    let seconds = micros / 1_000_000;
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{hours}:{minutes:02}:{rest:02}.{:06}", micros % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_reads_like_one() {
        assert_eq!(clock(Mono::from_micros(3_723_000_045)), "1:02:03.000045");
    }
}
