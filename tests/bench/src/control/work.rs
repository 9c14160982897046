//! What the server says that it did, read from its metrics.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use lab::wait_for;

use crate::server::METRICS;

/// Nothing more is to be sent when nothing was for so long.
const QUIET: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(60);

/// Work of publishing so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Work {
    /// Plans of nodes that were looked at.
    pub planned: f64,
    /// Entries of plans that were another afterwards.
    pub touched: f64,
    /// Stamps that were signed.
    pub signed: f64,
    /// Snapshots that were sent, whole or patched.
    pub sent: f64,
}

impl Work {
    /// As the server counts now.
    pub fn now() -> Self {
        let text = scrape();
        let sum = |name: &str| {
            let series = text.lines().filter(|line| line.starts_with(name));
            let values: Vec<f64> = series.filter_map(|line| line.rsplit_once(' ')?.1.parse().ok()).collect();
            assert!(!values.is_empty(), "no {name} in\n{text}");
            values.into_iter().sum()
        };
        Self {
            planned: sum("warren_snapshot_plans_total"),
            touched: sum("warren_snapshot_entries_total"),
            signed: sum("warren_snapshot_signatures_total"),
            sent: sum("warren_snapshots_sent_total"),
        }
    }

    /// Waits until everybody has what there is to send.
    pub fn settled() {
        let mut before = Self::now().sent;
        let mut since = Instant::now();
        wait_for("nothing is sent any more", PATIENCE, || {
            let now = Self::now().sent;
            if now > before {
                (before, since) = (now, Instant::now());
            }
            since.elapsed() > QUIET
        });
    }
}

fn scrape() -> String {
    let mut stream = TcpStream::connect(SocketAddr::from(METRICS)).expect("metrics are served");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n").expect("it reads");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("metrics are text");
    text
}
