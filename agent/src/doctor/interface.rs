//! Whether there is an interface. Without one nothing else of the mesh can be looked at, and nothing else is to blame.

use engine::Subject;
use engine::status::FailingChange;
use host::wireguard;
use model::api::local::Finding;

use crate::config::Mode;

use super::LOG;

/// What depends on it.
const GROUNDLESS: [(&str, &str); 4] = [
    ("told", "what the machine's resolver was told"),
    ("server", "whether the agent answers"),
    ("hub", "whether the hub answers"),
    ("found", "whether the machine's resolver finds names"),
];

/// Why there is none, and what is not known because of it; `None` if there is one.
pub(super) fn missing(failing: &[FailingChange], mode: Mode) -> Option<Vec<Finding>> {
    let carries = |subject| matches!(subject, Subject::Interface | Subject::Device | Subject::Up);
    let cause = failing.iter().find(|failing| carries(failing.change.subject()))?;
    let remedy = match mode {
        Mode::Interface(wireguard::Mode::Kernel) if cause.change.subject() == Subject::Interface => {
            "modprobe wireguard; or start warren-agent with --mode auto, which does without"
        }
        _ => LOG,
    };
    let mut findings = vec![Finding::bad("interface", format!("{}: {}", cause.change, cause.reason), remedy)];
    findings.extend(GROUNDLESS.map(|(about, what)| Finding::unchecked(about, what)));
    Some(findings)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use engine::Change;

    use super::*;

    #[test]
    fn one_cause_is_bad_and_the_rest_is_not_known() {
        let failing = |change: Change, reason: &str| FailingChange {
            change,
            reason: reason.into(),
            attempts: 1,
            retry_after: Duration::ZERO,
        };
        let kernel = Mode::Interface(wireguard::Mode::Kernel);
        let cause = failing(Change::CreateInterface, "the kernel has no WireGuard");
        let findings = missing(&[failing(Change::ClearResolver, "no"), cause], kernel).expect("a cause");
        assert_eq!(findings.iter().filter(|finding| !finding.ok).count(), 1);
        assert!(findings[0].what.contains("no WireGuard") && findings[0].remedy.contains("--mode auto"));
        assert!(
            findings[1..].iter().all(|finding| finding.unchecked && finding.what.starts_with("not checked"))
        );
        assert_eq!(missing(&[failing(Change::ClearResolver, "no")], kernel), None);
        let taken = failing(Change::SetDevice { listen_port: Some(51820) }, "udp port 51820 is taken");
        assert_eq!(missing(&[taken], kernel).map(|findings| findings[0].remedy.clone()), Some(LOG.into()));
    }
}
