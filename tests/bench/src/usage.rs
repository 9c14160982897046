//! What a process or this thread has used of the machine, as the kernel counts it.

use std::fs;
use std::time::Duration;

use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// Processor time of this thread so far.
pub fn thread_cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("Linux counts the time of threads").into()
}

/// Processor time of all threads of a process so far, those that ended too.
///
/// # Panics
/// If there is no such process.
pub fn process_cpu(id: u32) -> Duration {
    let clock = clock_getcpuclockid(Pid::from_raw(i32::try_from(id).expect("process ids are small")));
    clock.and_then(clock_gettime).unwrap_or_else(|e| panic!("processor time of process {id}: {e}")).into()
}

/// Memory of a process in binary megabytes.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Resident, with pages shared with others (VmRSS in proc_pid_status(5)).
    pub resident: f64,
    /// Resident, shared pages divided among those that share them (Pss in proc_pid_smaps(5)).
    pub proportional: f64,
    /// Resident and private: what the process itself wrote (RssAnon in proc_pid_status(5)).
    pub anonymous: f64,
}

/// Memory of a process now.
///
/// # Panics
/// If there is no such process.
pub fn memory(id: u32) -> Memory {
    let status = read(id, "status");
    Memory {
        resident: megabytes(&status, "VmRSS:"),
        proportional: megabytes(&read(id, "smaps_rollup"), "Pss:"),
        anonymous: megabytes(&status, "RssAnon:"),
    }
}

fn read(id: u32, file: &str) -> String {
    let path = format!("/proc/{id}/{file}");
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn megabytes(text: &str, field: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|rest| rest.split_whitespace().next()).and_then(|n| n.parse::<f64>().ok());
    number.unwrap_or_else(|| panic!("no {field} in {text}")) / 1024.0
}

/// Bytes that the loopback interface of this thread's network namespace has carried.
///
/// # Panics
/// If it has none.
pub fn loopback_bytes() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/net/dev").expect("Linux lists its interfaces");
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix("lo:"));
    let received = line.and_then(|rest| rest.split_whitespace().next()).and_then(|n| n.parse().ok());
    received.unwrap_or_else(|| panic!("no loopback interface in {text}"))
}

/// A duration in milliseconds.
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
