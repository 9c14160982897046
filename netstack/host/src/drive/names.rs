//! Magic DNS of the node, on a task of its own: zones as they come, sockets on the node's own mesh addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use dns::Names;
use dns::serve::{Counters, Options, Server};
use engine::NamesUpdate;
use ipnet::IpNet;
use model::{Digest, MeshAddresses, TenantId};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::chain::chain;
use crate::drive::report::NamesReport;

/// Updates that wait at most; a whole zone may be large.
const UPDATES_MAX: usize = 8;
/// An address that could not be opened is tried again: whoever has the port may leave.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// The task, from the loop's side.
pub(crate) struct NamesTask {
    names: Arc<Names>,
    updates: mpsc::Sender<NamesUpdate>,
    reports: watch::Receiver<NamesReport>,
    counters: Arc<Counters>,
    task: JoinHandle<()>,
}

impl NamesTask {
    /// Without a port, names are held but answered nowhere. The seed is the node's.
    pub(crate) fn start(port: Option<u16>, options: Options, seed: &[u8; 32]) -> Self {
        let (updates, taken) = mpsc::channel(UPDATES_MAX);
        let (published, reports) = watch::channel(NamesReport::default());
        let names = Arc::new(Names::new(*Digest::of("warren names seed 1", &[seed]).as_bytes()));
        let server = Server::with(Arc::clone(&names), port.unwrap_or_default(), options);
        let counters = server.counters();
        let task = Serving {
            names: Arc::clone(&names),
            server,
            answers: port.is_some(),
            listen: BTreeMap::new(),
            problems: BTreeMap::new(),
            failed: Vec::new(),
        };
        Self { names, updates, reports, counters, task: tokio::spawn(task.run(taken, published)) }
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
    answers: bool,
    listen: BTreeMap<TenantId, MeshAddresses>,
    /// What is wrong with a tenant's names.
    problems: BTreeMap<TenantId, String>,
    /// Addresses that could not be opened.
    failed: Vec<String>,
}

impl Serving {
    async fn run(mut self, mut updates: mpsc::Receiver<NamesUpdate>, reports: watch::Sender<NamesReport>) {
        loop {
            let retry = !self.failed.is_empty();
            tokio::select! {
                update = updates.recv() => match update {
                    Some(update) => self.take(update),
                    None => break,
                },
                () = tokio::time::sleep(RETRY_INTERVAL), if retry => {}
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

    fn take(&mut self, update: NamesUpdate) {
        let (tenant, result) = match update {
            NamesUpdate::Whole { tenant, generation, zone, listen } => {
                self.listen.insert(tenant, listen);
                (tenant, self.names.whole(tenant, generation, &zone))
            }
            NamesUpdate::Patch { tenant, generation, patch } => {
                (tenant, self.names.patch(tenant, generation, &patch))
            }
            NamesUpdate::Gone { tenant } => {
                self.listen.remove(&tenant);
                self.names.gone(tenant);
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
