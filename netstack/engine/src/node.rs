//! A node: what a shell drives, five methods and a status. Decides nothing itself.

use std::collections::VecDeque;

use model::time::Deadline;
use model::{Mono, Now, SshTrust, Version, Zone};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};

use crate::config::NodeConfig;
use crate::input::Input;
use crate::ledger::Ledger;
use crate::machines::Machines;
use crate::output::Output;
use crate::status::Status;
use crate::turn::Turn;

/// What a hub or a device does: keeps a link, accepts snapshots, keeps the host as they say.
///
/// After each [`Self::handle`] and [`Self::handle_timeout`], drain [`Self::poll_output`]; then call
/// [`Self::handle_timeout`] when [`Self::poll_timeout`] says. A call too early or too many does nothing.
#[derive(Debug)]
pub struct Node {
    machines: Machines,
    rng: ChaCha20Rng,
    /// What the last input caused; the shell drains it.
    outputs: VecDeque<Output>,
    /// `None` until the first call that says what time it is.
    told: Option<Now>,
}

impl Node {
    /// A node with the ledger as loaded. What that holds is kept at once, before any link. Nothing is asked of the
    /// shell before the first [`Self::handle_timeout`], which is due at once. `seed` is 32 random bytes.
    pub fn new(config: NodeConfig, ledger: Ledger, seed: [u8; 32]) -> Self {
        let mut rng = ChaCha20Rng::from_seed(seed);
        let mut seed_of_paths = [0; 32];
        rng.fill_bytes(&mut seed_of_paths);
        Self {
            machines: Machines::new(config, ledger, seed_of_paths),
            rng,
            outputs: VecDeque::new(),
            told: None,
        }
    }

    /// Takes what the shell says.
    pub fn handle(&mut self, input: Input, now: Now) {
        self.turn(now, |machines, turn| machines.take(input, turn));
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        self.turn(now, |_, _| {});
    }

    /// The next thing to do. Call until it is `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Self::handle_timeout`] is due next. Ask again after each call of another method.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        match self.told {
            Some(_) => self.machines.deadline(),
            None => Some(Deadline { at: Mono::default(), why: "start" }),
        }
    }

    /// What the node says of itself, as of the last call that said what time it is. Costs a copy of all peers: for
    /// people, not for loops.
    pub fn status(&self) -> Status {
        self.machines.status(self.told.map(|now| now.mono).unwrap_or_default())
    }

    /// The zones of what is held, one for each tenant.
    pub fn zones(&self) -> impl Iterator<Item = &Zone> {
        self.machines.zones()
    }

    /// What is held of SSH, and at which version; `None` when the server says nothing of it. A device has one tenant.
    pub fn ssh_trust(&self) -> Option<(Version, &SshTrust)> {
        self.machines.ssh_trust()
    }

    fn turn(&mut self, now: Now, take: impl FnOnce(&mut Machines, &mut Turn<'_>)) {
        let is_first = self.told.replace(now).is_none();
        let mut turn = Turn { now, rng: &mut self.rng, out: &mut self.outputs };
        if is_first {
            self.machines.start(&mut turn);
        }
        take(&mut self.machines, &mut turn);
        self.machines.advance(&mut turn);
    }
}
