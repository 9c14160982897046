//! TCP through a tunnel, by iperf3: speed, what the engines' processes use for it, and the memory they end with.

use std::process::{Child, Stdio};
use std::time::Duration;

use lab::wait_for;
use lab::wg::{Pair, Side};

use super::Scale;
use super::rows::{Row, Rows};
use crate::usage::{memory, process_cpu};

const PORT: &str = "5201";
/// A transfer that has not ended so long after its time has failed.
const PATIENCE_SECONDS: u64 = 20;
const GIB: f64 = (1u64 << 30) as f64;

/// A server of iperf3, which ends with it.
#[derive(Debug)]
pub(crate) struct Server(Child);

impl Server {
    pub(crate) fn start(side: &Side) -> Self {
        let address = side.inner().to_string();
        let mut command = side.command(&["iperf3", "-s", "-B", &address, "-p", PORT]);
        let server = Self(command.stdout(Stdio::null()).spawn().expect("iperf3 starts"));
        let listens = || side.run(&["ss", "-Hltn"]).contains(&format!(":{PORT} "));
        wait_for("iperf3 listens", Duration::from_secs(5), listens);
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A transfer on its way.
#[derive(Debug)]
pub(crate) struct Iperf(Child);

/// What a transfer came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moved {
    pub(crate) gigabits: f64,
    pub(crate) bytes: f64,
}

impl Iperf {
    /// So many streams from a to b, or the other way.
    pub(crate) fn start(pair: &Pair, streams: u32, seconds: u64, reverse: bool) -> Self {
        // An engine that a flood brought down leaves iperf3 waiting for ever.
        let patience = (seconds + PATIENCE_SECONDS).to_string();
        let (to, streams, seconds) = (pair.b.inner().to_string(), streams.to_string(), seconds.to_string());
        // What the kernel has chosen as its own control may not be to be had in a namespace.
        let mut words = vec!["timeout", "--signal=KILL", &patience, "iperf3", "-c", &to, "-p", PORT, "-J"];
        words.extend(["-C", "cubic", "-t", &seconds, "-P", &streams]);
        if reverse {
            words.push("-R");
        }
        let mut command = pair.a.command(&words);
        Self(command.stdout(Stdio::piped()).spawn().expect("iperf3 starts"))
    }

    pub(crate) fn finish(self) -> Moved {
        let output = self.0.wait_with_output().expect("iperf3 ends");
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("iperf3 speaks JSON");
        let received = &said["end"]["sum_received"];
        let number = |field: &str| received[field].as_f64().unwrap_or_else(|| panic!("iperf3: {said}"));
        Moved { gigabits: number("bits_per_second") / 1e9, bytes: number("bytes") }
    }
}

fn cpu(pair: &Pair) -> Option<Duration> {
    let ids = pair.a.process_id().zip(pair.b.process_id());
    ids.map(|(a, b)| process_cpu(a) + process_cpu(b))
}

/// The larger of both ends.
fn resident(pair: &Pair) -> Option<f64> {
    let ids = pair.a.process_id().zip(pair.b.process_id());
    ids.map(|(a, b)| memory(a).resident.max(memory(b).resident))
}

pub(crate) fn measure(pair: &Pair, scale: &Scale, rows: &mut Rows) {
    if let Some(resident) = resident(pair) {
        rows.put(Row::MemoryIdle, resident);
    }
    let _server = Server::start(&pair.b);
    let ways = [
        (Row::Tcp1, 1, false),
        (Row::Tcp1Reverse, 1, true),
        (Row::Tcp4, 4, false),
        (Row::Tcp4Reverse, 4, true),
    ];
    for (row, streams, reverse) in ways {
        let before = cpu(pair);
        let moved = Iperf::start(pair, streams, scale.transfer, reverse).finish();
        rows.put(row, moved.gigabits);
        if let Some((before, after)) = before.zip(cpu(pair)).filter(|_| row == Row::Tcp1) {
            rows.put(Row::CpuPerGib, (after - before).as_secs_f64() / (moved.bytes / GIB));
        }
    }
    if let Some(resident) = resident(pair) {
        rows.put(Row::MemoryAfterTraffic, resident);
    }
}
