//! What every machine of a node is handed for one input: the time, the randomness and where outputs go.

use std::collections::VecDeque;

use model::{Mono, Now};
use rand_chacha::ChaCha20Rng;

use crate::event::Event;
use crate::output::Output;

pub(crate) struct Turn<'a> {
    pub(crate) now: Now,
    pub(crate) rng: &'a mut ChaCha20Rng,
    /// As long as what one input causes; the shell drains it after each.
    pub(crate) out: &'a mut VecDeque<Output>,
}

impl Turn<'_> {
    pub(crate) const fn mono(&self) -> Mono {
        self.now.mono
    }

    pub(crate) fn push(&mut self, output: Output) {
        self.out.push_back(output);
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.push(Output::Event(event));
    }
}
