//! All complaints of one guard, shown together. Knows nothing of what is guarded.

use std::fmt::Display;

/// Collects complaints; a test ends with [`Complaints::settle`].
#[derive(Debug, Default)]
pub struct Complaints(Vec<String>);

impl Complaints {
    /// None so far.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// One more: where, and what to do about it.
    pub fn add(&mut self, place: impl Display, advice: impl Display) {
        self.0.push(format!("{place}: {advice}"));
    }

    /// What was complained about, sorted.
    pub fn into_lines(mut self) -> Vec<String> {
        self.0.sort();
        self.0
    }

    /// Ends the test.
    ///
    /// # Panics
    /// With the whole list if there is one.
    pub fn settle(self) {
        let lines = self.into_lines();
        assert!(lines.is_empty(), "\n\n  {}\n", lines.join("\n  "));
    }
}
