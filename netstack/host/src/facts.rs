//! What this machine is like, as its kernel says it (proc(5)). Of what cannot be read nothing is said.

use std::fs;
use std::time::Duration;

use model::wire::{Facts, Remark};

/// What the machine is like is looked at this often: whoever asks for a report sees a minute at most.
pub(crate) const INTERVAL: Duration = Duration::from_secs(60);

/// The machine as it is now.
pub(crate) fn look() -> Facts {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let memory = read("/proc/meminfo");
    Facts {
        os: Remark::new(&operating_system()),
        kernel: Remark::new(read("/proc/sys/kernel/osrelease").trim()),
        uptime_seconds: uptime_seconds(&read("/proc/uptime")).unwrap_or_default(),
        load_hundredths: load_hundredths(&read("/proc/loadavg")).unwrap_or_default(),
        memory_bytes: memory_bytes(&memory, "MemTotal").unwrap_or_default(),
        memory_available_bytes: memory_bytes(&memory, "MemAvailable").unwrap_or_default(),
    }
}

fn uptime_seconds(text: &str) -> Option<u64> {
    text.split('.').next()?.parse().ok()
}

/// Of `0.42 0.40 0.35 …` the first, as a whole number.
fn load_hundredths(text: &str) -> Option<u32> {
    let (whole, part) = text.split(' ').next()?.split_once('.')?;
    let (whole, part): (u32, u32) = (whole.parse().ok()?, part.parse().ok()?);
    whole.checked_mul(100)?.checked_add(part)
}

/// Of lines such as `MemTotal:  8000000 kB`.
fn memory_bytes(text: &str, what: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':'))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The operating system for people, such as `Debian GNU/Linux 12 (bookworm), x86_64` (os-release(5)).
pub fn operating_system() -> String {
    let text =
        ["/etc/os-release", "/usr/lib/os-release"].iter().find_map(|path| fs::read_to_string(path).ok());
    let name = text.as_deref().and_then(pretty_name).unwrap_or("Linux");
    format!("{name}, {}", std::env::consts::ARCH)
}

fn pretty_name(text: &str) -> Option<&str> {
    let value = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    let value = value.trim().trim_matches(|c| c == '"' || c == '\'');
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pretty_name_is_found() {
        let check = |text: &str, expect: Option<&str>| assert_eq!(pretty_name(text), expect, "{text}");
        check(
            "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n",
            Some("Debian GNU/Linux 12 (bookworm)"),
        );
        check("PRETTY_NAME=Alpine", Some("Alpine"));
        check("PRETTY_NAME=\"\"", None);
        check("", None);
    }

    #[test]
    fn the_kernels_figures_are_read_or_left_out() {
        assert_eq!(uptime_seconds("72012.33 143000.12\n"), Some(72_012));
        assert_eq!(load_hundredths("12.05 0.40 0.35 2/300 1234\n"), Some(1_205));
        let memory = "MemTotal:        8000000 kB\nMemFree: 1 kB\nMemAvailable:    2000 kB\n";
        assert_eq!(memory_bytes(memory, "MemTotal"), Some(8_192_000_000));
        assert_eq!(memory_bytes(memory, "MemAvailable"), Some(2_048_000));
        for odd in ["", "x", "-1.5", "4294967295.99"] {
            assert_eq!(load_hundredths(odd), None, "{odd}");
            assert_eq!(memory_bytes(odd, "MemTotal"), None, "{odd}");
        }
        let here = look();
        assert!(here.uptime_seconds > 0 && here.memory_bytes > here.memory_available_bytes, "{here:?}");
    }
}
