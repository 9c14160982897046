//! Round trips of single UDP packets through a tunnel: with nothing else to do, and beside a TCP stream.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lab::wg::{Pace, Pair};

use super::Scale;
use super::rows::{Row, Rows};
use super::traffic::{Iperf, Server};
use crate::usage::milliseconds;

/// A packet of 64 bytes with its headers.
const PAYLOAD_BYTES: usize = 36;
const IDLE_PER_SECOND: f64 = 500.0;
const LOADED_PER_SECOND: f64 = 200.0;
/// A packet without an answer is a lost one, not a slow one.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often the other side looks whether it shall end.
const TICK: Duration = Duration::from_millis(100);

pub(crate) fn measure(pair: &Pair, scale: &Scale, rows: &mut Rows) {
    let trips = Trips::through(pair);
    let idle = trips.time(pair, scale.trips, IDLE_PER_SECOND);
    rows.put(Row::IdleTrip50, 1e3 * percentile(&idle, 50));
    rows.put(Row::IdleTrip99, 1e3 * percentile(&idle, 99));
    let _server = Server::start(&pair.b);
    let transfer = Iperf::start(pair, 1, scale.transfer + 1, false);
    // The first moments of a stream are another thing.
    let _ = trips.time(pair, 100, IDLE_PER_SECOND);
    let seconds = u32::try_from(scale.transfer).expect("few");
    let loaded = trips.time(pair, seconds * 150, LOADED_PER_SECOND);
    transfer.finish();
    rows.put(Row::LoadedTrip50, percentile(&loaded, 50));
    rows.put(Row::LoadedTrip99, percentile(&loaded, 99));
}

/// The value that so many of a hundred do not exceed.
fn percentile(trips: &[f64], percent: usize) -> f64 {
    let mut sorted = trips.to_vec();
    sorted.sort_by(f64::total_cmp);
    assert!(!sorted.is_empty(), "no packet came back");
    sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1]
}

/// A socket on each side; the far one sends back what it gets.
struct Trips {
    near: UdpSocket,
    ends: Arc<AtomicBool>,
    echo: Option<JoinHandle<()>>,
}

impl Trips {
    fn through(pair: &Pair) -> Self {
        let (near, far) = (pair.a.inner(), pair.b.inner());
        let far = pair.b.within(move || UdpSocket::bind((far, 0)).expect("the address is there"));
        let target = far.local_addr().expect("is bound");
        let near = pair.a.within(move || UdpSocket::bind((near, 0)).expect("the address is there"));
        near.connect(target).expect("a route");
        near.set_read_timeout(Some(PATIENCE)).expect("above zero");
        far.set_read_timeout(Some(TICK)).expect("above zero");
        let ends = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ends);
        let echo = pair.b.spawn(move || {
            let mut packet = [0; 256];
            while !told.load(Ordering::Relaxed) {
                if let Ok((length, from)) = far.recv_from(&mut packet) {
                    let _ = far.send_to(&packet[..length], from);
                }
            }
        });
        Self { near, ends, echo: Some(echo) }
    }

    /// Milliseconds of each trip that came to its end.
    fn time(&self, pair: &Pair, count: u32, per_second: f64) -> Vec<f64> {
        let socket = self.near.try_clone().expect("a socket");
        pair.a.within(move || {
            let (mut pace, mut trips) = (Pace::new(per_second), Vec::new());
            for number in 0..count {
                pace.due(1);
                let mut packet = [0; PAYLOAD_BYTES];
                packet[..4].copy_from_slice(&number.to_le_bytes());
                let sent = Instant::now();
                if socket.send(&packet).is_err() {
                    continue;
                }
                let mut answer = [0; 256];
                while let Ok(length) = socket.recv(&mut answer) {
                    if answer[..length] == packet {
                        trips.push(milliseconds(sent.elapsed()));
                        break;
                    }
                }
            }
            trips
        })
    }
}

impl Drop for Trips {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(echo) = self.echo.take() {
            let _ = echo.join();
        }
    }
}
