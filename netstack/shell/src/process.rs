//! What a program is and what it takes of its machine, as series for Prometheus. Looks when it is scraped.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::{TimeVal, TimeValLike as _};
use nix::unistd::{SysconfVar, sysconf};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// A program, from its start on.
#[derive(Debug, Clone)]
pub struct Process {
    program: &'static str,
    version: &'static str,
    started_at: f64,
}

impl Process {
    /// This process, which starts now.
    pub fn start(program: &'static str, version: &'static str) -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        // A clock before 1970 is shown as 1970.
        Self { program, version, started_at: since_1970.unwrap_or_default().as_secs_f64() }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let labels = [("program", self.program), ("version", self.version)];
        let mut family =
            encoder.encode_descriptor("build_info", "Which program this is", None, MetricType::Gauge)?;
        ConstGauge::new(1_i64).encode(family.encode_family(&labels)?)?;
        gauge(&mut encoder, "process_start_time_seconds", "Start, since 1970", self.started_at)?;
        if let Some(seconds) = cpu_seconds() {
            let help = "Time that processors worked for it";
            let counter =
                encoder.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
            ConstCounter::new(seconds).encode(counter)?;
        }
        if let Some(bytes) = resident_bytes() {
            gauge(&mut encoder, "process_resident_memory_bytes", "Memory in use", bytes)?;
        }
        if let Some(count) = open_files() {
            gauge(&mut encoder, "process_open_fds", "Files and sockets that are open", count)?;
        }
        if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
            #[expect(clippy::cast_precision_loss, reason = "2^52 files are never open")]
            gauge(&mut encoder, "process_max_fds", "Files and sockets that may be open", soft as f64)?;
        }
        Ok(())
    }
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, figure: f64) -> fmt::Result {
    ConstGauge::new(figure).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

fn cpu_seconds() -> Option<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    #[expect(clippy::cast_precision_loss, reason = "2^52 microseconds are 142 years")]
    let seconds = |time: TimeVal| time.num_microseconds() as f64 / 1e6;
    Some(seconds(usage.user_time()) + seconds(usage.system_time()))
}

/// The second figure of `statm`: pages in memory (proc_pid_statm(5)).
fn resident_bytes() -> Option<f64> {
    let pages: u32 = std::fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()?;
    let page = u32::try_from(sysconf(SysconfVar::PAGE_SIZE).ok()??).ok()?;
    Some(f64::from(pages) * f64::from(page))
}

fn open_files() -> Option<f64> {
    let count = std::fs::read_dir("/proc/self/fd").ok()?.count();
    Some(f64::from(u32::try_from(count).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_sees_itself() {
        let figure = |look: fn() -> Option<f64>| look().expect("this is Linux");
        assert!(figure(resident_bytes) > 65_536.0 && figure(open_files) >= 3.0);
        let before = figure(cpu_seconds);
        let mut sum = 0_u64;
        while figure(cpu_seconds) <= before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
    }
}
