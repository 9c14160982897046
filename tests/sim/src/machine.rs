//! One machine with a node: its keys, clock, disk and host, and the node itself while its program runs.

use std::collections::BTreeMap;

use dns::Names;
use engine::{Guard, Ledger, LedgerError, NamesUpdate, Node, NodeConfig, Role};
use model::id::CommandId;
use model::token::OnboardingToken;
use model::wire::Remark;
use model::{
    Abilities, DeviceId, IdentitySecret, Mono, NodeId, Nonce, Now, PrivateKey, Standing, TenantId, Version,
    Zone,
};

use crate::clock::Clock;
use crate::dice::Dice;
use crate::disk::Disk;
use crate::host::Host;
use crate::sshd::Sshd;
use control::LinkId;
use std::time::Duration;

/// The UDP port of every hub.
pub const HUB_PORT: u16 = 51_820;

/// Nobody here chooses names that are slow to find.
const NAMES_SEED: [u8; 32] = [7; 32];

/// When a machine asked to be woken. Wake-ups with an older stamp are not for it any more.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timer {
    /// Counts what was asked.
    pub stamp: u64,
    /// When.
    pub at: Option<Mono>,
}

/// What became of a machine's wish to be a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// It has none, or it was refused: a person has to give it a token.
    None,
    /// It was given a token.
    Pending,
    /// It is a device.
    Joined(DeviceId),
}

/// How a program started.
pub struct Started {
    /// What of its disk was damaged, and went on without.
    pub damage: Option<String>,
    /// What it had promised to hold and does not.
    pub lost: Vec<TenantId>,
}

/// One machine.
pub struct Machine {
    /// For people.
    pub name: String,
    /// Whether it is the hub.
    pub is_hub: bool,
    /// Which of the run's tenants it wants to join.
    pub tenant: usize,
    /// Who it is.
    pub identity: IdentitySecret,
    /// Its WireGuard key.
    pub wireguard: PrivateKey,
    /// The one that is to follow, as its disk has it.
    pub next: Option<PrivateKey>,
    /// Its clocks.
    pub clock: Clock,
    /// Its disk.
    pub disk: Disk,
    /// What its program says that it knows: one in four was built before devices were each other's peers.
    pub abilities: Abilities,
    /// Its kernel.
    pub host: Host,
    /// Its sshd; one in five has none that its agent can keep.
    pub sshd: Sshd,
    /// Somebody copied it, keys and all.
    pub copied: bool,
    /// While its program runs.
    pub node: Option<Node>,
    /// Counts the starts of its program: what was asked in a former life is not answered.
    pub life: u64,
    /// When it is woken.
    pub timer: Timer,
    /// When its host has done all that was asked.
    pub busy_until: Mono,
    /// Its link.
    pub link: Option<LinkId>,
    /// Counts dials; while `dialing`, the last is under way.
    pub dials: u64,
    /// A dial is under way.
    pub dialing: bool,
    /// What it accepted.
    pub accepted: BTreeMap<TenantId, (Version, Standing)>,
    /// What it told a server to hold.
    pub announced: BTreeMap<TenantId, Version>,
    /// The names that it serves.
    pub zones: BTreeMap<TenantId, Zone>,
    /// They answer.
    pub names: Names,
    /// They keep what a change of some names takes away.
    pub names_lag: bool,
    /// Its wish to be a device.
    pub wish: Wish,
    /// Since faults stopped it heard that its tenant has no address for it.
    pub told_full: bool,
    /// Somebody threw it away.
    pub gone: bool,
    /// The device command for which its program began anew, if that is why.
    pub began_for: Option<CommandId>,
    /// It crashes after so many things more.
    pub crash_after: Option<u32>,
    /// Bytes that it sent and got.
    pub bytes: u64,
    /// Changes that it asked for.
    pub changes: u64,
}

impl Machine {
    /// A machine whose program has not run yet.
    pub fn new(name: String, is_hub: bool, tenant: usize, skew: bool, dice: &mut Dice) -> Self {
        let skew = if skew { i64::try_from(dice.below(2001)).unwrap_or_default() - 1000 } else { 0 };
        Self {
            name,
            is_hub,
            tenant,
            identity: IdentitySecret::from_seed(dice.bytes()),
            wireguard: PrivateKey::from_bytes(dice.bytes()),
            next: None,
            clock: Clock::new(skew),
            disk: Disk::default(),
            abilities: if dice.chance(250) { Abilities::NONE } else { Abilities::KNOWN },
            host: Host::default(),
            sshd: Sshd::new(!is_hub && dice.chance(800), dice.bytes()),
            copied: false,
            node: None,
            life: 0,
            timer: Timer::default(),
            busy_until: Mono::default(),
            link: None,
            dials: 0,
            dialing: false,
            accepted: BTreeMap::new(),
            announced: BTreeMap::new(),
            zones: BTreeMap::new(),
            names: Names::new(NAMES_SEED),
            names_lag: false,
            wish: Wish::None,
            told_full: false,
            gone: false,
            began_for: None,
            crash_after: None,
            bytes: 0,
            changes: 0,
        }
    }

    /// A copy of its disk in another machine.
    pub fn clone_disk(&self, tenant: usize, dice: &mut Dice) -> Self {
        let mut copy = Self::new(format!("copy of {}", self.name), false, tenant, true, dice);
        (copy.identity, copy.wireguard) = (self.identity.clone(), self.wireguard.clone());
        copy.abilities = self.abilities;
        (copy.sshd.there, copy.copied) = (false, true);
        copy.next.clone_from(&self.next);
        copy.disk = self.disk.copy();
        copy
    }

    /// Its private keys.
    pub fn secrets(&self) -> [[u8; 32]; 2] {
        [*self.identity.expose_seed(), *self.wireguard.expose()]
    }

    /// New keys, as on a machine that was set up anew.
    pub fn renew(&mut self, dice: &mut Dice) {
        self.identity = IdentitySecret::from_seed(dice.bytes());
        self.wireguard = PrivateKey::from_bytes(dice.bytes());
        self.next = None;
        self.wish = Wish::None;
        self.sshd = Sshd::new(self.sshd.there, dice.bytes());
        self.forget();
    }

    /// Loses its disk, and with it what it ever promised.
    pub fn forget(&mut self) {
        self.disk.wipe();
        self.announced.clear();
    }

    /// Its program starts. Says what of its disk was damaged, if anything, and what it lost that it had promised.
    ///
    /// # Errors
    /// Why its ledger cannot be trusted: then the program ends at once and leaves it as it is.
    pub fn start(&mut self, at: Mono, guard: &Guard, dice: &mut Dice) -> Result<Started, String> {
        self.life += 1;
        self.clock.restart(at);
        let (ledger, damage) = match self.disk.file().map(|file| Ledger::load(&file.bytes)) {
            None => (Ledger::new(), None),
            Some(Ok(ledger)) => (ledger, None),
            Some(Err(LedgerError::Snapshot { reason, rest })) => (*rest, Some(reason)),
            Some(Err(error)) => return Err(error.to_string()),
        };
        if damage.is_some() {
            self.announced.clear();
        }
        let standing = |snapshot: &model::Snapshot| snapshot.own.standing;
        self.accepted = ledger.holdings().map(|(t, held, s)| (t, (held.version, standing(s)))).collect();
        let holds = |tenant: &TenantId, version: &Version| {
            self.accepted.get(tenant).is_some_and(|(held, _)| held >= version)
        };
        let lost = self.announced.iter().filter(|(t, v)| !holds(t, v)).map(|(t, _)| *t).collect();
        if let Some(device) = ledger.device() {
            self.wish = Wish::Joined(device);
        }
        let role = if self.is_hub {
            Role::Hub { listen_port: HUB_PORT, guard: guard.clone() }
        } else {
            Role::Device {
                search: Vec::new(),
                identity: self.identity.clone(),
                instance: Nonce::from_bytes(dice.bytes()),
                listen_port: None,
            }
        };
        let software = Remark::new("simulated 1");
        let config = NodeConfig { role, wireguard: self.wireguard.clone(), software };
        let node = Node::new(config, ledger, dice.bytes());
        if node.status().device.is_none() {
            self.wish = if node.status().joining { Wish::Pending } else { Wish::None };
        }
        self.node = Some(node);
        Ok(Started { damage, lost })
    }

    /// Its program ends, at once.
    pub fn stop(&mut self) {
        self.node = None;
        self.sshd.program_ends();
        self.timer = Timer { stamp: self.timer.stamp + 1, at: None };
        (self.link, self.dialing, self.crash_after) = (None, false, None);
        self.zones.clear();
        self.names = Names::new(NAMES_SEED);
    }

    /// What it reads on its clocks.
    pub fn now(&self, at: Mono, jumped: Duration) -> Now {
        self.clock.now(at, jumped)
    }

    /// Which node of a tenant it is, once that is known.
    pub const fn node_id(&self) -> Option<NodeId> {
        match self.wish {
            _ if self.is_hub => Some(NodeId::Hub),
            Wish::Joined(device) => Some(NodeId::Device(device)),
            Wish::None | Wish::Pending => None,
        }
    }

    /// Serves other names. Says what is wrong with what it was told.
    pub fn serve(&mut self, update: NamesUpdate) -> Result<(), String> {
        match update {
            NamesUpdate::Whole { tenant, generation, zone, .. } => {
                self.names.whole(tenant, generation, &zone).map_err(|e| e.to_string())?;
                self.zones.insert(tenant, zone);
            }
            NamesUpdate::Patch { tenant, generation, mut patch } => {
                let zone = self.zones.get_mut(&tenant);
                let zone = zone.ok_or_else(|| format!("a patch of {tenant}, which is not served"))?;
                patch.clone().apply(zone);
                if self.names_lag {
                    patch.gone.clear();
                }
                self.names.patch(tenant, generation, &patch).map_err(|e| e.to_string())?;
            }
            NamesUpdate::Gone { tenant } => {
                self.names.gone(tenant);
                self.zones.remove(&tenant);
            }
        }
        Ok(())
    }
}

/// A token as a person gives it to a machine.
pub fn copied(token: &OnboardingToken) -> OnboardingToken {
    token.expose().parse().expect("a token's own text is a token")
}
