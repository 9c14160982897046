//! Magic DNS of the node, on a task of its own: zones as they come, sockets on the node's own mesh addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dns::Names;
use dns::forward::ForwardError;
use dns::serve::{Counters, Forward, Options, Server};
use engine::NamesUpdate;
use ipnet::IpNet;
use model::{Digest, MeshAddresses, TenantId};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval};

use crate::chain::chain;
use crate::drive::forward::{ForwardSetup, Forwarding, Tenants};
use crate::drive::lookup::Lookup;
use crate::drive::report::NamesReport;
use crate::drive::sees::Sights;
use crate::hands::{Hands, Task};
use crate::resolver::Owner;

/// Updates that wait at most; a whole zone may be large.
const UPDATES_MAX: usize = 8;
/// An address that could not be opened is tried again: whoever has the port may leave.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// While names are forwarded: how soon another network's resolvers are asked. Reading two small files costs nothing.
const LOOK_INTERVAL: Duration = Duration::from_secs(3);

pub use crate::drive::sees::Sees;

/// How Magic DNS answers on a node, and whom.
#[derive(Debug, Clone, Default)]
pub struct NamesSetup {
    /// How it answers.
    pub options: Options,
    /// Whether and how names of no zone are asked of others.
    pub forward: ForwardSetup,
    /// Whose names the devices of other tenants see here.
    pub sees: Vec<Sees>,
}

/// The task, from the loop's side.
pub(crate) struct NamesTask {
    names: Arc<Names>,
    updates: mpsc::Sender<NamesUpdate>,
    reports: watch::Receiver<NamesReport>,
    /// The same, seen by whoever tells the machine's resolver.
    served: watch::Receiver<NamesReport>,
    counters: Arc<Counters>,
    forwarding: Option<Arc<Forwarding>>,
    task: JoinHandle<()>,
}

impl NamesTask {
    /// Without a port, names are held but answered nowhere. The seed is the node's.
    ///
    /// # Errors
    /// The forwarder's settings do not fit each other.
    pub(crate) fn start(
        port: Option<u16>,
        setup: NamesSetup,
        resolv_conf: &Path,
        seed: &[u8; 32],
    ) -> Result<Self, ForwardError> {
        let NamesSetup { options, forward, sees } = setup;
        let forwarding = match port {
            Some(_) => Forwarding::start(forward, resolv_conf)?.map(Arc::new),
            None => None,
        };
        let (updates, taken) = mpsc::channel(UPDATES_MAX);
        let (published, reports) = watch::channel(NamesReport::default());
        let names = Arc::new(Names::new(*Digest::of("warren names seed 1", &[seed]).as_bytes()));
        let server = Server::with(Arc::clone(&names), port.unwrap_or_default(), options);
        let counters = server.counters();
        if let Some(forwarding) = &forwarding {
            server.forward(Arc::clone(forwarding) as Arc<dyn Forward>);
        }
        let task = Serving {
            names: Arc::clone(&names),
            server,
            forwarding: forwarding.clone(),
            tenants: Tenants::default(),
            sights: Sights::new(sees),
            answers: port.is_some(),
            listen: BTreeMap::new(),
            problems: BTreeMap::new(),
            failed: Vec::new(),
        };
        let (served, task) = (reports.clone(), tokio::spawn(task.run(taken, published)));
        Ok(Self { names, updates, reports, served, counters, forwarding, task })
    }

    pub(crate) fn is_full(&self) -> bool {
        self.updates.capacity() == 0
    }

    /// Hands over an update. Call only while there is room.
    pub(crate) fn give(&self, update: NamesUpdate) {
        if self.updates.try_send(update).is_err() {
            tracing::error!(code = "names-died", "the task that serves names has ended");
        }
    }

    /// Whose containers and virtual machines see the names that this machine sees.
    pub(crate) fn guests(&self, networks: &BTreeSet<IpNet>) {
        self.names.guests(networks.iter().copied());
        if let Some(forwarding) = &self.forwarding {
            forwarding.set_guests(networks);
        }
    }

    /// Returns when the report has changed, or there is room again. Cancel-safe.
    pub(crate) async fn stirred(&mut self) {
        let full = self.is_full();
        let alive = tokio::select! {
            changed = self.reports.changed() => changed.is_ok(),
            room = self.updates.reserve(), if full => room.is_ok(),
        };
        if !alive {
            // The task died, which was logged when an update came; the rest of the node goes on.
            std::future::pending::<()>().await;
        }
    }

    pub(crate) fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    pub(crate) fn lookup(&self) -> Lookup {
        Lookup::new(Arc::clone(&self.names), self.forwarding.clone())
    }

    /// The machine's resolver has this owner now.
    pub(crate) fn set_owner(&self, owner: Owner) {
        if let Some(forwarding) = &self.forwarding {
            forwarding.set_owner(owner);
        }
    }

    /// Says where names are answered, if that is otherwise than it was: nowhere else the machine may ask for them.
    pub(crate) fn tell(&mut self, hands: &mut Hands) {
        if hands.has_room() && self.served.has_changed().is_ok_and(|changed| changed) {
            let report = self.served.borrow_and_update();
            hands.give(Task::Serve(report.listening.iter().map(SocketAddr::ip).collect()));
        }
    }

    pub(crate) fn report(&self) -> NamesReport {
        self.reports.borrow().clone()
    }

    /// Stops answering; the addresses are free when this returns.
    pub(crate) async fn end(&mut self) {
        let (closed, _) = mpsc::channel(1);
        self.updates = closed;
        let _ = (&mut self.task).await;
    }
}

struct Serving {
    names: Arc<Names>,
    server: Server,
    forwarding: Option<Arc<Forwarding>>,
    tenants: Tenants,
    sights: Sights,
    answers: bool,
    listen: BTreeMap<TenantId, MeshAddresses>,
    /// What is wrong with a tenant's names.
    problems: BTreeMap<TenantId, String>,
    /// Addresses that could not be opened.
    failed: Vec<String>,
}

impl Serving {
    async fn run(mut self, mut updates: mpsc::Receiver<NamesUpdate>, reports: watch::Sender<NamesReport>) {
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut retry = interval(RETRY_INTERVAL);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let looks = self.forwarding.as_ref().is_some_and(|forwarding| forwarding.is_open());
            let failed = !self.failed.is_empty();
            tokio::select! {
                update = updates.recv() => match update {
                    Some(update) => self.take(update),
                    None => break,
                },
                () = turned(self.forwarding.as_deref()) => {
                    look.reset_immediately();
                    continue;
                }
                _ = look.tick(), if looks => {
                    self.look().await;
                    continue;
                }
                _ = retry.tick(), if failed => {}
                () = self.server.ended() => {}
            }
            self.listen().await;
            reports.send_if_modified(|shown| {
                let now = self.report();
                let differs = *shown != now;
                *shown = now;
                differs
            });
        }
        self.server.close().await;
    }

    /// Looks at what the machine says of its network.
    async fn look(&self) {
        if let Some(forwarding) = self.forwarding.clone() {
            let _ = spawn_blocking(move || forwarding.look()).await;
        }
    }

    fn take(&mut self, update: NamesUpdate) {
        if self.tenants.take(&update)
            && let Some(forwarding) = &self.forwarding
        {
            forwarding.set_tenants(&self.tenants);
        }
        let (tenant, result) = match update {
            NamesUpdate::Whole { tenant, generation, zone, listen } => {
                self.listen.insert(tenant, listen);
                let taken = self.names.whole(tenant, generation, &zone);
                self.sights.come(tenant, &zone, &self.names);
                (tenant, taken)
            }
            NamesUpdate::Patch { tenant, generation, patch } => {
                (tenant, self.names.patch(tenant, generation, &patch))
            }
            NamesUpdate::Gone { tenant } => {
                self.listen.remove(&tenant);
                self.names.gone(tenant);
                self.sights.go(tenant, &self.names);
                (tenant, Ok(()))
            }
        };
        match result {
            Ok(()) => drop(self.problems.remove(&tenant)),
            Err(error) => {
                tracing::warn!(code = "names-refused", %tenant, error = chain(&error), "names were not taken");
                self.problems.insert(tenant, chain(&error));
            }
        }
    }

    async fn listen(&mut self) {
        if !self.answers {
            return;
        }
        let addresses: Vec<IpAddr> = self.listen.values().flat_map(MeshAddresses::both).collect();
        let errors = self.server.listen(&addresses).await;
        let failed: Vec<String> = errors.iter().map(|error| chain(error)).collect();
        for text in failed.iter().filter(|text| !self.failed.contains(text)) {
            tracing::warn!(code = "names-unserved", reason = text, "an address does not answer names");
        }
        self.failed = failed;
    }

    fn report(&self) -> NamesReport {
        NamesReport {
            listening: self.server.listening().collect(),
            problems: self.problems.values().chain(&self.failed).cloned().collect(),
            tenants: self.listen.len(),
        }
    }
}

/// When forwarding begins or ends; never, if there is none.
async fn turned(forwarding: Option<&Forwarding>) {
    match forwarding {
        Some(forwarding) => forwarding.turned().await,
        None => std::future::pending().await,
    }
}
