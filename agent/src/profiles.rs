//! All profiles of this device, and what a person may do with one: up, down, logout. Knows no socket.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use host::InterfaceName;
use host::drive::{Report, Restart};
use link::ServerAddress;
use model::token::OnboardingToken;
use model::wire::Remark;
use model::{Code, Label, Refusal, Standing};
use tokio::sync::Mutex;

use crate::config::Settings;
use crate::machine;
use crate::profile::{Profile, failed};
use crate::store::{Record, Store, StoreError};

/// Taking an interface away is a few system calls; the resolver's programs may take some seconds.
const DOWN_PATIENCE: Duration = Duration::from_secs(10);

/// A profile, or why it does not run.
#[derive(Clone)]
pub enum Entry {
    /// Its node runs.
    Running(Arc<Profile>),
    /// What is on disk is damaged, and left.
    Broken(String),
}

/// What `up` was asked for.
pub struct Wish {
    /// Where the server is.
    pub server: Option<ServerAddress>,
    /// Lets this device enrol.
    pub token: Option<OnboardingToken>,
    /// The name to ask for.
    pub hostname: Option<String>,
    /// Wait so long for the server's answer; joining goes on afterwards.
    pub patience: Duration,
}

/// All profiles of this device.
pub struct Profiles {
    settings: Arc<Settings>,
    store: Arc<Store>,
    entries: Mutex<BTreeMap<Label, Entry>>,
    restart: Restart,
}

impl Profiles {
    /// Starts every profile that is kept. One that is damaged is reported and does not hinder the others.
    pub fn start(settings: Arc<Settings>, store: Store, restart: Restart) -> Result<Self, StoreError> {
        let mut entries = BTreeMap::new();
        for name in store.names()? {
            match store.load(&name) {
                Ok(None) => {}
                Ok(Some(kept)) => {
                    let profile = Profile::start(kept, Arc::clone(&settings), restart.clone());
                    entries.insert(name, Entry::Running(Arc::new(profile)));
                }
                Err(error) => {
                    let reason = host::chain(&error);
                    tracing::error!(profile = %name, code = Code::StateDamaged.as_str(), reason, "a profile cannot be used");
                    entries.insert(name, Entry::Broken(reason));
                }
            }
        }
        Ok(Self { settings, store: Arc::new(store), entries: Mutex::new(entries), restart })
    }

    /// A profile, if there is one of this name.
    pub async fn entry(&self, name: &Label) -> Option<Entry> {
        self.entries.lock().await.get(name).cloned()
    }

    /// Every profile that runs, by its name.
    pub async fn all_running(&self) -> Vec<Arc<Profile>> {
        let entries = self.entries.lock().await;
        let running = entries.values().filter_map(|entry| match entry {
            Entry::Running(profile) => Some(Arc::clone(profile)),
            Entry::Broken(_) => None,
        });
        running.collect()
    }

    /// A profile that runs.
    pub async fn running(&self, name: &Label) -> Result<Arc<Profile>, Refusal> {
        match self.entry(name).await {
            Some(Entry::Running(profile)) => Ok(profile),
            Some(Entry::Broken(reason)) => Err(Refusal::new(Code::StateDamaged, reason)),
            None => Err(Refusal::new(Code::NotEnrolled, format!("profile {name} has joined no mesh"))),
        }
    }

    /// Joins, or takes part again. Returns when it is known whether the device is one, or patience ends.
    pub async fn up(&self, name: &Label, wish: Wish) -> Result<(), Refusal> {
        let profile = self.find_or_make(name, &wish).await?;
        let handle = profile.handle()?;
        let report = profile.report().await?;
        let gone = |gone| failed(&gone);
        let enrolled = is_enrolled(&report);
        if enrolled {
            stays(&report, wish.token.as_ref())?;
        }
        // Only now: whoever is refused has changed nothing.
        self.follow(name, &profile, wish.server).await?;
        if enrolled {
            return handle.up().await.map_err(gone);
        }
        match wish.token {
            Some(token) => {
                let hostname = wish.hostname.unwrap_or_else(machine::hostname);
                handle.up().await.map_err(gone)?;
                let os = Remark::new(&host::facts::operating_system());
                handle.join(token, Remark::new(&hostname), os).await.map_err(gone)?;
            }
            None if report.node.joining => handle.up().await.map_err(gone)?,
            None => return Err(not_enrolled(name, &report)),
        }
        let told = |r: &Report| r.join_refused.is_some() || is_enrolled(r) && !r.node.tenants.is_empty();
        match profile.wait(wish.patience, told).await?.join_refused.clone() {
            Some(refusal) => Err(refusal),
            None => Ok(()),
        }
    }

    /// Leaves the mesh, keeps the identity.
    pub async fn down(&self, name: &Label) -> Result<(), Refusal> {
        leave(&*self.running(name).await?).await
    }

    /// Forgets a profile with its keys; there being none is fine.
    pub async fn logout(&self, name: &Label) -> Result<(), Refusal> {
        let mut entries = self.entries.lock().await;
        if let Some(Entry::Running(profile)) = entries.get(name) {
            if let Err(refusal) = leave(profile).await {
                tracing::warn!(profile = %name, reason = refusal.detail, "the host may not be as it was");
            }
            profile.stop();
            profile.ended().await;
            profile.forget_sshd().await;
        }
        let (store, forgotten) = (Arc::clone(&self.store), name.clone());
        self.on_disk(move || store.forget(&forgotten)).await?;
        entries.remove(name);
        tracing::info!(profile = %name, "the identity is forgotten");
        Ok(())
    }

    /// Ends every node and leaves the host as it should be without them.
    pub async fn stop(&self) {
        let entries = std::mem::take(&mut *self.entries.lock().await);
        let running: Vec<Arc<Profile>> = entries
            .into_values()
            .filter_map(|entry| match entry {
                Entry::Running(profile) => Some(profile),
                Entry::Broken(_) => None,
            })
            .collect();
        for profile in &running {
            profile.stop();
        }
        for profile in &running {
            profile.ended().await;
        }
    }

    async fn find_or_make(&self, name: &Label, wish: &Wish) -> Result<Arc<Profile>, Refusal> {
        let mut entries = self.entries.lock().await;
        match entries.get(name) {
            Some(Entry::Broken(reason)) => Err(Refusal::new(Code::StateDamaged, reason)),
            Some(Entry::Running(profile)) => Ok(Arc::clone(profile)),
            None => {
                let (Some(server), Some(_)) = (wish.server.clone(), &wish.token) else {
                    return Err(Refusal::new(
                        Code::NotEnrolled,
                        format!("profile {name} has joined no mesh"),
                    ));
                };
                let profile = Arc::new(self.make(name, server, &entries).await?);
                entries.insert(name.clone(), Entry::Running(Arc::clone(&profile)));
                Ok(profile)
            }
        }
    }

    async fn make(
        &self,
        name: &Label,
        server: ServerAddress,
        entries: &BTreeMap<Label, Entry>,
    ) -> Result<Profile, Refusal> {
        let taken: Vec<InterfaceName> = entries
            .values()
            .filter_map(|entry| match entry {
                Entry::Running(profile) => Some(profile.interface().clone()),
                Entry::Broken(_) => None,
            })
            .collect();
        let interface = free_interface(&self.settings.interface, &taken)
            .ok_or_else(|| Refusal::new(Code::HostFailed, "no interface name is free: see --interface"))?;
        let record = Record { server, interface };
        let (store, made) = (Arc::clone(&self.store), name.clone());
        let kept = self.on_disk(move || store.create(&made, record)).await?;
        Ok(Profile::start(kept, Arc::clone(&self.settings), self.restart.clone()))
    }

    /// Uses the server that was asked for, from now on.
    async fn follow(
        &self,
        name: &Label,
        profile: &Profile,
        server: Option<ServerAddress>,
    ) -> Result<(), Refusal> {
        // Nobody logs out meanwhile.
        let _entries = self.entries.lock().await;
        let Some(server) = server.filter(|server| *server != profile.server()) else { return Ok(()) };
        let record = Record { server: server.clone(), interface: profile.interface().clone() };
        let (store, name) = (Arc::clone(&self.store), name.clone());
        self.on_disk(move || store.save(&name, &record)).await?;
        profile.set_server(server).await
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let done = tokio::task::spawn_blocking(work).await.map_err(|error| failed(&error))?;
        done.map_err(|error| Refusal::new(Code::StateDamaged, host::chain(&error)))
    }
}

/// Whether the server has made this machine a device.
pub fn is_enrolled(report: &Report) -> bool {
    report.node.device.is_some()
}

/// A device that is one already needs no token; one of another mesh, or a revoked one, must be forgotten first.
fn stays(report: &Report, token: Option<&OnboardingToken>) -> Result<(), Refusal> {
    let Some(tenant) = report.node.tenants.first() else { return Ok(()) };
    let fqdn = format!("{}.{}", tenant.name, tenant.zone);
    if tenant.standing == Standing::Revoked {
        return Err(Refusal::new(Code::DeviceRevoked, format!("{fqdn} was revoked")));
    }
    match token {
        Some(token) if token.anchor != tenant.anchor.fingerprint() => Err(Refusal::new(
            Code::AlreadyEnrolled,
            format!("this device is {fqdn}, and the token is of another mesh"),
        )),
        _ => Ok(()),
    }
}

fn not_enrolled(name: &Label, report: &Report) -> Refusal {
    match &report.join_refused {
        Some(refusal) => refusal.clone(),
        None => Refusal::new(Code::NotEnrolled, format!("profile {name} has joined no mesh")),
    }
}

async fn leave(profile: &Profile) -> Result<(), Refusal> {
    profile.handle()?.down().await.map_err(|gone| failed(&gone))?;
    let report = profile.wait(DOWN_PATIENCE, |report| report.node.settled).await?;
    if report.node.settled {
        return Ok(());
    }
    let reasons: Vec<String> =
        report.node.failing.iter().map(|failing| format!("{}: {}", failing.change, failing.reason)).collect();
    Err(Refusal::new(Code::HostFailed, format!("not all is taken away yet: {}", reasons.join("; "))))
}

/// The first name from `wanted` on, counting its number up, that no profile has.
fn free_interface(wanted: &InterfaceName, taken: &[InterfaceName]) -> Option<InterfaceName> {
    let stem = wanted.as_str().trim_end_matches(|c: char| c.is_ascii_digit());
    let first: u32 = wanted.as_str()[stem.len()..].parse().unwrap_or(0);
    let further = (first..).take(taken.len() + 1).filter_map(|n| format!("{stem}{n}").parse().ok());
    std::iter::once(wanted.clone()).chain(further).find(|name| !taken.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_counted_on() {
        let name = |text: &str| text.parse::<InterfaceName>().expect("a name");
        let check = |wanted: &str, taken: &[&str], expect: &str| {
            let taken: Vec<InterfaceName> = taken.iter().map(|t| name(t)).collect();
            assert_eq!(free_interface(&name(wanted), &taken), Some(name(expect)));
        };
        check("wg0", &[], "wg0");
        check("wg0", &["wg0"], "wg1");
        check("wg0", &["wg0", "wg2", "wg1"], "wg3");
        check("wg7", &["wg7"], "wg8");
        check("mesh", &["mesh"], "mesh0");
        check("mesh", &["wg0"], "mesh");
    }
}
