//! What the process may do: everything but the two capabilities that a node needs is given up for good
//! (`capabilities(7)`, `prctl(2)`). Knows no user ids; the service manager chooses those.

use std::collections::BTreeSet;

use caps::{CapSet, Capability, CapsHashSet};

/// A capability that a node uses, and what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needed {
    /// `CAP_NET_ADMIN`: interfaces, addresses, routes, the firewall table.
    NetAdmin,
    /// `CAP_NET_BIND_SERVICE`: Magic DNS on port 53.
    NetBindService,
}

impl Needed {
    const ALL: [Self; 2] = [Self::NetAdmin, Self::NetBindService];

    const fn capability(self) -> Capability {
        match self {
            Self::NetAdmin => Capability::CAP_NET_ADMIN,
            Self::NetBindService => Capability::CAP_NET_BIND_SERVICE,
        }
    }

    /// The name as systemd and `setpriv` write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::NetBindService => "CAP_NET_BIND_SERVICE",
        }
    }

    const fn use_of(self) -> &'static str {
        match self {
            Self::NetAdmin => "to manage the interface, its routes and the firewall",
            Self::NetBindService => "to serve names on port 53",
        }
    }
}

/// A capability is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} is missing, which is needed {}: start as root, or give it to the service (systemd: AmbientCapabilities={})",
    .0.as_str(), .0.use_of(), .0.as_str()
)]
pub struct Missing(pub Needed);

/// Why capabilities could not be given up.
#[derive(Debug, thiserror::Error)]
pub enum DropError {
    /// `capset(2)` or `prctl(2)` refused.
    #[error("giving up capabilities ({step}): {cause}")]
    Refused {
        /// Which set.
        step: &'static str,
        /// The system's words.
        cause: String,
    },
}

/// What of the two is missing now, most important first.
pub fn missing() -> Vec<Missing> {
    let held = |needed: &Needed| caps::has_cap(None, CapSet::Effective, needed.capability()).unwrap_or(false);
    Needed::ALL.into_iter().filter(|needed| !held(needed)).map(Missing).collect()
}

/// Keeps what is held of the two, gives up everything else in every set, and sets no_new_privs, so that
/// nothing the process executes can gain any. The right to run before other programs stays as a limit, see
/// [`PRIORITY_LIMIT`]. Works on the calling thread and what it starts afterwards: call
/// it before the first thread. Returns what is kept.
pub fn give_up_all_but_needed() -> Result<BTreeSet<Needed>, DropError> {
    keep_priority();
    let refused = |step| move |e: caps::errors::CapsError| DropError::Refused { step, cause: e.to_string() };
    let permitted = caps::read(None, CapSet::Permitted).map_err(refused("reading"))?;
    let kept: BTreeSet<Needed> =
        Needed::ALL.into_iter().filter(|n| permitted.contains(&n.capability())).collect();
    let keep: CapsHashSet = kept.iter().map(|n| n.capability()).collect();
    if permitted.contains(&Capability::CAP_SETPCAP) {
        for capability in caps::read(None, CapSet::Bounding).map_err(refused("bounding"))? {
            if !keep.contains(&capability) {
                caps::drop(None, CapSet::Bounding, capability).map_err(refused("bounding"))?;
            }
        }
    }
    caps::clear(None, CapSet::Ambient).map_err(refused("ambient"))?;
    caps::set(None, CapSet::Effective, &keep).map_err(refused("effective"))?;
    caps::set(None, CapSet::Permitted, &keep).map_err(refused("permitted"))?;
    // Inheritable and ambient carry the two to the resolver's own tools (resolvectl, resolvconf) and no further.
    caps::set(None, CapSet::Inheritable, &keep).map_err(refused("inheritable"))?;
    for capability in &keep {
        caps::raise(None, CapSet::Ambient, *capability).map_err(refused("ambient"))?;
    }
    nix::sys::prctl::set_no_new_privs()
        .map_err(|e| DropError::Refused { step: "no_new_privs", cause: e.to_string() })?;
    Ok(kept)
}

/// `RLIMIT_NICE` that allows nice -10 (getrlimit(2): 20 less the nice value), which the engine's threads ask for.
pub const PRIORITY_LIMIT: u64 = 30;

/// Whoever may not set it was given its limit by the service manager, or carries packets like everything else.
fn keep_priority() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let set = getrlimit(Resource::RLIMIT_NICE).and_then(|(_, hard)| {
        let hard = hard.max(PRIORITY_LIMIT);
        setrlimit(Resource::RLIMIT_NICE, PRIORITY_LIMIT, hard)
    });
    if let Err(error) = set {
        tracing::debug!(%error, "packets will have no priority over programs");
    }
}

/// Raises the soft limit of open files to the hard one. A failure costs only scale; the caller warns.
pub fn raise_open_files() -> Result<u64, std::io::Error> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_capability_says_what_for_and_how_to_give_it() {
        let text = Missing(Needed::NetAdmin).to_string();
        for part in ["CAP_NET_ADMIN", "firewall", "AmbientCapabilities=CAP_NET_ADMIN"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
