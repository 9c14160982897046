//! When names of no zone here are asked of others, and what the forwarder knows of machine and mesh. How it asks, it
//! knows itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use dns::Transport;
use dns::forward::{ForwardConfig, ForwardError, Forwarder, Mesh};
use dns::serve::Forward;
use engine::NamesUpdate;
use futures_util::future::BoxFuture;
use ipnet::IpNet;
use model::{Block, MeshAddresses, Name, TenantId};
use tokio::sync::Notify;

use crate::resolver::Owner;
use crate::resolver::machine::Places;

/// When names of no zone here are asked of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForwardMode {
    /// Never: they are refused.
    #[default]
    Off,
    /// When every name of this machine comes to us, as the plain resolver file is ours; and when servers are configured.
    Auto,
    /// Always.
    On,
}

/// Not a mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("forwarding is off, auto or on")]
pub struct BadForwardMode;

impl FromStr for ForwardMode {
    type Err = BadForwardMode;
    fn from_str(text: &str) -> Result<Self, BadForwardMode> {
        match text {
            "off" => Ok(Self::Off),
            "auto" => Ok(Self::Auto),
            "on" => Ok(Self::On),
            _ => Err(BadForwardMode),
        }
    }
}

impl fmt::Display for ForwardMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Off => "off",
            Self::Auto => "auto",
            Self::On => "on",
        })
    }
}

/// How a node forwards.
#[derive(Debug, Clone, Default)]
pub struct ForwardSetup {
    /// When.
    pub mode: ForwardMode,
    /// To whom.
    pub config: ForwardConfig,
    /// Whether for every device of the mesh, as a hub may, or for this machine's own programs only.
    pub for_mesh: bool,
    /// What zones may end in, besides those that the node has: nothing in them is asked of others.
    pub zones: Vec<Name>,
}

/// The forwarder of a node, closed where nothing is to be forwarded.
pub(crate) struct Forwarding {
    forwarder: Forwarder,
    is_open: AtomicBool,
    mode: ForwardMode,
    has_rules: bool,
    for_mesh: bool,
    zones: Vec<Name>,
    places: Places,
    here: RwLock<Here>,
    turned: Notify,
}

impl Forwarding {
    /// `None` if nothing is ever forwarded. Must be called within a tokio runtime.
    pub(crate) fn start(setup: ForwardSetup, resolv_conf: &Path) -> Result<Option<Self>, ForwardError> {
        let ForwardSetup { mode, config, for_mesh, zones } = setup;
        if mode == ForwardMode::Off {
            return Ok(None);
        }
        let has_rules = !config.upstreams.is_empty();
        let forwarder = Forwarder::start(config)?;
        let is_open = AtomicBool::new(mode == ForwardMode::On || has_rules);
        let places = Places::new(resolv_conf);
        let (here, turned) = (RwLock::default(), Notify::new());
        Ok(Some(Self { forwarder, is_open, mode, has_rules, for_mesh, zones, places, here, turned }))
    }

    /// Whether anything is forwarded now.
    pub fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }

    /// The forwarder itself: what it knows, holds and did.
    pub const fn forwarder(&self) -> &Forwarder {
        &self.forwarder
    }

    /// The machine's resolver has this owner now.
    pub(crate) fn set_owner(&self, owner: Owner) {
        let all_come_here = matches!(owner, Owner::File | Owner::Resolvconf);
        let is_open = self.mode == ForwardMode::On || self.has_rules || all_come_here;
        if self.is_open.swap(is_open, Ordering::Relaxed) != is_open {
            tracing::info!(forwarding = is_open, %owner, "names outside the mesh");
            self.turned.notify_one();
        }
    }

    /// Returns when it was opened or closed since the last time. Cancel-safe.
    pub(crate) async fn turned(&self) {
        self.turned.notified().await;
    }

    /// Networks of this machine's own guests, such as its containers, which ask as its programs do.
    pub(crate) fn set_guests(&self, networks: &BTreeSet<IpNet>) {
        self.here.write().unwrap_or_else(PoisonError::into_inner).guests = networks.iter().copied().collect();
    }

    pub(crate) fn set_tenants(&self, tenants: &Tenants) {
        let mesh = tenants.mesh(&self.zones);
        self.here.write().unwrap_or_else(PoisonError::into_inner).own.clone_from(&mesh.own);
        self.forwarder.set_mesh(mesh);
    }

    /// Looks at what the machine says of its network. Blocks for as long as reading two small files takes.
    pub(crate) fn look(&self) {
        self.forwarder.set_machine(self.places.read());
    }
}

/// Who is of this machine.
#[derive(Debug, Default)]
struct Here {
    /// This node's own addresses.
    own: Vec<IpAddr>,
    guests: Vec<IpNet>,
}

impl Here {
    fn has(&self, asker: IpAddr) -> bool {
        self.own.contains(&asker) || self.guests.iter().any(|net| net.contains(&asker))
    }
}

impl Forward for Forwarding {
    fn serves(&self, asker: IpAddr) -> bool {
        let is_here = || self.here.read().unwrap_or_else(PoisonError::into_inner).has(asker);
        self.is_open() && (self.for_mesh || asker.is_loopback() || is_here())
    }

    fn cached(&self, buffer: &mut [u8], length: usize) -> Option<usize> {
        self.forwarder.cached(buffer, length)
    }

    fn forward(&self, query: Vec<u8>, transport: Transport) -> BoxFuture<'_, Option<Vec<u8>>> {
        self.forwarder.forward(query, transport)
    }
}

/// What the node holds of its tenants that forwarding has to do with.
#[derive(Debug, Default)]
pub(crate) struct Tenants {
    by_id: BTreeMap<TenantId, (Name, Block, MeshAddresses)>,
}

impl Tenants {
    /// Takes in an update. Says whether anything of it matters here.
    pub(crate) fn take(&mut self, update: &NamesUpdate) -> bool {
        match update {
            NamesUpdate::Whole { tenant, zone, listen, .. } => {
                let now = (zone.origin.clone(), zone.block, *listen);
                self.by_id.insert(*tenant, now.clone()) != Some(now)
            }
            NamesUpdate::Patch { tenant, patch, .. } => {
                let (Some(held), Some((origin, block))) = (self.by_id.get_mut(tenant), &patch.head) else {
                    return false;
                };
                (held.0, held.1) = (origin.clone(), *block);
                true
            }
            NamesUpdate::Gone { tenant } => self.by_id.remove(tenant).is_some(),
        }
    }

    fn mesh(&self, zones: &[Name]) -> Mesh {
        let held = || self.by_id.values();
        Mesh {
            zones: zones.iter().chain(held().map(|(origin, ..)| origin)).cloned().collect(),
            blocks: held().flat_map(|(_, block, _)| [block.v4().into(), block.v6().into()]).collect(),
            own: held().flat_map(|(.., listen)| listen.both()).collect::<Vec<IpAddr>>(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_written_as_they_are_read() {
        for mode in [ForwardMode::Off, ForwardMode::Auto, ForwardMode::On] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        assert!("sometimes".parse::<ForwardMode>().is_err());
    }

    #[tokio::test]
    async fn it_is_open_where_every_name_comes_here() {
        let forwarding = |mode: &str, rules: &[&str]| {
            let upstreams = rules.iter().map(|rule| rule.parse().unwrap()).collect();
            let config = ForwardConfig { upstreams, ..ForwardConfig::default() };
            let setup = ForwardSetup { mode: mode.parse().unwrap(), config, ..ForwardSetup::default() };
            Forwarding::start(setup, Path::new("/nowhere")).unwrap()
        };
        assert!(forwarding("off", &[]).is_none());
        let open = |forwarding: &Forwarding, owner: Owner| {
            forwarding.set_owner(owner);
            forwarding.is_open()
        };
        let auto = forwarding("auto", &[]).unwrap();
        assert!(!auto.is_open());
        assert!(open(&auto, Owner::File) && open(&auto, Owner::Resolvconf));
        assert!(!open(&auto, Owner::Resolved) && !open(&auto, Owner::Off));
        assert!(open(&forwarding("auto", &["corp.example=10.0.0.53"]).unwrap(), Owner::Resolved));
        assert!(open(&forwarding("on", &[]).unwrap(), Owner::Resolved));
        assert!(!auto.serves("127.0.0.1".parse().unwrap()), "it is closed");
        auto.set_owner(Owner::File);
        auto.here.write().unwrap().own = vec!["100.64.0.2".parse().unwrap()];
        auto.set_guests(&BTreeSet::from(["172.17.0.0/16".parse().unwrap()]));
        let serves = |asker: &str| auto.serves(asker.parse().unwrap());
        assert!(serves("127.0.0.1") && serves("100.64.0.2") && !serves("100.64.0.3"));
        assert!(serves("172.17.0.9") && !serves("172.18.0.9"), "its containers, too");
    }
}
