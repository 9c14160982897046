//! One server process: the machine that decides, its clock, and how it is about to end. Knows no store and no link.

use std::time::Duration;

use control::{Control, ControlConfig};
use model::wire::Remark;
use model::{EndpointHost, Mono, Now};

use crate::clock::Clock;
use crate::dice::Dice;
use crate::machine::Timer;

/// One server.
pub struct Replica {
    /// For people.
    pub name: String,
    /// While its process runs.
    pub control: Option<Control>,
    /// Counts the starts of its process.
    pub life: u64,
    /// Its clocks.
    pub clock: Clock,
    /// When it is woken.
    pub timer: Timer,
    /// It crashes after so many things more.
    pub crash_after: Option<u32>,
    /// It was told to drain, and ends when it has.
    pub draining: bool,
}

impl Replica {
    /// A server that has not run yet.
    pub fn new(name: String, skew: bool, dice: &mut Dice) -> Self {
        let skew = if skew { i64::try_from(dice.below(2001)).unwrap_or_default() - 1000 } else { 0 };
        Self {
            name,
            control: None,
            life: 0,
            clock: Clock::new(skew),
            timer: Timer::default(),
            crash_after: None,
            draining: false,
        }
    }

    /// Its process starts; it still has to read the store.
    pub fn start(&mut self, at: Mono, shared: bool, dice: &mut Dice) {
        self.life += 1;
        self.draining = false;
        self.clock.restart(at);
        let config = ControlConfig {
            software: Remark::new("simulated 1"),
            zone_suffix: "internal".parse().expect("a name"),
            hub_endpoint_host: EndpointHost::Name("vpn.example.org".parse().expect("a name")),
            hub_endpoint: None,
            relays: Vec::new(),
            stun: Vec::new(),
            shared,
            passes_hints: shared,
            leased: false,
        };
        self.control = Some(Control::new(config, dice.bytes()));
    }

    /// Its process ends, at once.
    pub fn stop(&mut self) {
        self.control = None;
        self.timer = Timer { stamp: self.timer.stamp + 1, at: None };
        self.crash_after = None;
    }

    /// What it reads on its clocks.
    pub fn now(&self, at: Mono, jumped: Duration) -> Now {
        self.clock.now(at, jumped)
    }
}
