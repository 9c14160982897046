//! What a node shows of itself: to status, to metrics, to the service manager. Volatile, and never compared.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use engine::Status;
use engine::status::LinkState;
use link::Carrier;
use model::{Refusal, Standing};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::host::HostReport;
use crate::sshd::SshdReport;

pub use crate::paths::report::{PathCounters, PathsReport, RelayReport};

/// Reports come at most so often, however much happens.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);
/// Making reports costs at most one fiftieth of the time: with 10 000 peers they come less often.
const REPORT_SHARE: u32 = 50;

/// A node as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What the engine says.
    pub node: Status,
    /// What is used on the host.
    pub host: HostReport,
    /// The server, as configured.
    pub server: Option<String>,
    /// The link, while there is one.
    pub link: Option<LinkReport>,
    /// Magic DNS.
    pub names: NamesReport,
    /// This machine's sshd.
    pub sshd: SshdReport,
    /// What paths are found by; nothing for a hub.
    pub paths: PathsReport,
    /// Why the last wish to join was refused for good, until the next.
    pub join_refused: Option<Refusal>,
    /// What was done since the start.
    pub counters: Counters,
}

/// A link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkReport {
    /// What carries it.
    pub carrier: Carrier,
    /// The server's address; `None` on a unix socket.
    pub remote: Option<SocketAddr>,
}

/// Magic DNS on this node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NamesReport {
    /// Where it answers.
    pub listening: Vec<SocketAddr>,
    /// What is wrong, one line each.
    pub problems: Vec<String>,
    /// Tenants whose names it answers.
    pub tenants: usize,
}

/// What was done since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Changes made to the host.
    pub changes_total: u64,
    /// Changes that could not be made.
    pub changes_failed_total: u64,
    /// Looks at the whole host.
    pub observations_total: u64,
    /// Attempts to reach the server.
    pub dials_total: u64,
}

impl Report {
    /// One line for people.
    pub fn line(&self) -> String {
        let standing = match self.node.tenants.as_slice() {
            [] if self.node.joining => "joining".to_owned(),
            [] => "not enrolled".to_owned(),
            [one] => match one.standing {
                Standing::Active => format!("{}.{}", one.name, one.zone),
                other => other.as_str().to_owned(),
            },
            many => format!("{} tenants", many.len()),
        };
        let link = match self.node.link {
            LinkState::Idle => "no link wanted",
            LinkState::Waiting(_) | LinkState::Dialing => "no link",
            LinkState::Greeting => "greeting the server",
            LinkState::Attached => "attached",
            LinkState::Closing => "closing the link",
        };
        let settled = if self.node.settled { "settled" } else { "working" };
        let problems = self.node.problems.len() + self.names.problems.len();
        let problems = if problems == 0 { String::new() } else { format!(", {problems} problems") };
        format!("{standing}: {link}, {settled}{problems}")
    }
}

/// When to make the next report, and where it goes.
pub(crate) struct Publisher {
    reports: watch::Sender<Option<Arc<Report>>>,
    touched: bool,
    next_at: Instant,
}

impl Publisher {
    pub(crate) fn new(reports: watch::Sender<Option<Arc<Report>>>) -> Self {
        Self { reports, touched: true, next_at: Instant::now() }
    }

    /// Something may look otherwise now.
    pub(crate) const fn touch(&mut self) {
        self.touched = true;
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        self.touched.then_some(self.next_at)
    }

    pub(crate) fn is_due(&self) -> bool {
        self.touched && Instant::now() >= self.next_at
    }

    pub(crate) fn publish(&mut self, report: Report, cost: Duration) {
        self.touched = false;
        self.next_at = Instant::now() + REPORT_INTERVAL.max(cost * REPORT_SHARE);
        self.reports.send_if_modified(|shown| {
            let differs = shown.as_deref() != Some(&report);
            if differs {
                *shown = Some(Arc::new(report));
            }
            differs
        });
    }
}
