//! What a seed stands for: how many of what, for how long, and how much goes wrong. Makes nothing happen.

use std::time::Duration;

use crate::dice::Dice;
use crate::store::Betrayal;

/// A part of the model that is broken on purpose: a run with one must fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// The store does not keep its promises.
    Store(Betrayal),
    /// The hub's host loses peers and says that it has them.
    HostDropsPeers,
    /// The hub's firewall lacks a tenant, and its host says that it does not.
    FirewallLacksTenant,
    /// Names that a snapshot no longer has are answered on and on.
    NamesLag,
    /// Disks say that they synced, and did not.
    DisksLie,
    /// A private key is in a frame.
    LeaksKey,
    /// Programs that began anew for a device command do not know that they did.
    RestartsForget,
    /// Rotations go on whoever is missing.
    GatesOpen,
    /// Devices say that their sshd goes by what they were told, which it does much later.
    HostsBoast,
    /// It takes long until sshd goes by what was told.
    SshdLags,
    /// The hub's host changes all the time, long after the faults.
    HumanNeverRests,
}

/// What a run consists of.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Of all chance.
    pub seed: u64,
    /// Machines that want to be devices.
    pub devices: usize,
    /// Tenants that are created at the beginning.
    pub tenants: usize,
    /// Servers on one store.
    pub replicas: usize,
    /// How long things go wrong.
    pub chaos: Duration,
    /// Between two faults, on average.
    pub fault_interval: Duration,
    /// Between two edits of administrators, on average.
    pub edit_interval: Duration,
    /// One tenant has a block of six addresses.
    pub small_block: bool,
    /// The database is restored from an older copy once.
    pub restore: bool,
    /// Clocks are wrong.
    pub skew: bool,
    /// Somebody hostile is on the network.
    pub attacks: bool,
    /// What is broken on purpose.
    pub sabotage: Option<Sabotage>,
}

impl Scenario {
    /// The scenario of a seed: most are small, one in five has dozens of devices, one in forty hundreds.
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed, "scenario");
        let devices = match seed % 40 {
            39 => 100 + dice.below(120),
            n if n % 5 == 4 => 25 + dice.below(30),
            _ => 3 + dice.below(18),
        };
        let faults = [1, 2, 5, 15][dice.below(4)];
        Self {
            seed,
            devices,
            tenants: 1 + dice.below(3),
            replicas: 1 + dice.below(2),
            chaos: dice.millis(120_000, 600_000),
            fault_interval: Duration::from_secs(faults),
            edit_interval: dice.millis(1_000, 15_000),
            small_block: dice.chance(200),
            restore: dice.chance(300),
            skew: dice.chance(700),
            attacks: dice.chance(500),
            sabotage: None,
        }
    }

    /// The same with a part broken on purpose.
    #[must_use]
    pub fn with(mut self, sabotage: Sabotage) -> Self {
        self.sabotage = Some(sabotage);
        self
    }

    /// One line for people.
    pub fn describe(&self) -> String {
        let Self { seed, devices, tenants, replicas, chaos, .. } = self;
        let mut text = format!(
            "seed {seed}: {devices} machines, {tenants} tenants, {replicas} servers, faults for {} s",
            chaos.as_secs()
        );
        let also = [
            (self.small_block, "a small block"),
            (self.restore, "a restore"),
            (self.skew, "wrong clocks"),
            (self.attacks, "attacks"),
        ];
        for (_, what) in also.into_iter().filter(|(is, _)| *is) {
            text.push_str(", ");
            text.push_str(what);
        }
        text
    }
}
