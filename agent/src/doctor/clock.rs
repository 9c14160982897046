//! Whether this machine's clock has gone back: certificates and signatures of servers are not valid yet then.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::api::local::Finding;

/// Older than this software: 2026-11-01. A machine without a battery begins at 1970 or 2000.
const EARLIEST: Duration = Duration::from_secs(1_793_491_200);
/// A clock that is set by a few minutes breaks nothing.
const BEARABLE: Duration = Duration::from_secs(600);

/// A finding if the clock is behind what this device wrote.
pub(super) fn behind(ledger: &Path) -> Option<Finding> {
    let written = std::fs::metadata(ledger).and_then(|found| found.modified()).ok();
    is_behind(SystemTime::now(), written).then(|| {
        Finding::bad(
            "clock",
            "the clock of this machine is behind: encrypted and signed names (DoT, DoH, DNSSEC) fail, and so may the link",
            "timedatectl set-ntp true; or set it by hand: timedatectl set-time",
        )
    })
}

fn is_behind(now: SystemTime, written: Option<SystemTime>) -> bool {
    let earliest = UNIX_EPOCH + EARLIEST;
    let newest = written.map_or(earliest, |written| earliest.max(written));
    newest.duration_since(now).is_ok_and(|behind| behind > BEARABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_before_the_software_or_its_files_is_behind() {
        let hours = |hours: u64| UNIX_EPOCH + EARLIEST + Duration::from_secs(hours * 3600);
        assert!(is_behind(UNIX_EPOCH, None));
        assert!(!is_behind(hours(1), None));
        assert!(is_behind(hours(1), Some(hours(5))));
        assert!(!is_behind(hours(5), Some(hours(5) + Duration::from_secs(60))));
        assert!(!is_behind(hours(9), Some(hours(5))));
    }
}
