//! Events of the engine as log lines: a constant message, a stable code, values as fields. Decides no level that
//! the engine does not.

use std::fmt;

use engine::Event;

macro_rules! line {
    ($event:expr, $code:literal $(, $($field:tt)*)?) => {
        if $event.is_warning() {
            tracing::warn!(code = $code, $($($field)*,)? "{}", $event.message());
        } else {
            tracing::info!(code = $code, $($($field)*,)? "{}", $event.message());
        }
    };
}

/// Logs an event. The codes are what alerts and the runbook name.
pub(crate) fn record(event: &Event) {
    match event {
        Event::Joined { device, standing } => line!(event, "joined", %device, standing = standing.as_str()),
        Event::JoinRefused(refusal) => {
            line!(event, "join-refused", refusal = %refusal.code, said = %refusal.detail);
        }
        Event::Attached => line!(event, "attached"),
        Event::Detached { reason } => line!(event, "detached", reason),
        Event::Unreachable { reason, .. } => line!(event, "server-unreachable", reason),
        Event::ServerRefused(refusal) => {
            line!(event, "server-refused", refusal = %refusal.code, said = %refusal.detail);
        }
        Event::ServerUntrusted { reason } => line!(event, "server-untrusted", reason),
        Event::AnchorChanged { tenant } => line!(event, "anchor-changed", %tenant),
        Event::TenantsTooMany { refused } => line!(event, "tenants-too-many", %refused),
        Event::Accepted { tenant, version, standing } => line!(
            event,
            "snapshot-accepted",
            %tenant,
            generation = %version,
            standing = standing.as_str()
        ),
        Event::Rejected { tenant, rejection } => {
            line!(event, "snapshot-rejected", %tenant, reason = %Chain(rejection));
        }
        Event::PeerTwice { key, kept, refused } => line!(event, "peer-twice", %key, %kept, %refused),
        Event::Drift { seat, changes, first } => line!(event, "drift", changes, %first, interface = %seat),
        Event::ChangeFailed { change, reason, retry_after } => {
            // In tenths: nobody waits for less.
            let retry_after_seconds = format_args!("{:.1}", retry_after.as_secs_f32());
            line!(event, "change-failed", %change, reason, %retry_after_seconds);
        }
        Event::ObserveFailed { reason } => line!(event, "observe-failed", reason),
        Event::PersistFailed { reason } => line!(event, "persist-failed", reason),
        Event::Leads { term } => line!(event, "hub-leads", term),
        Event::StandsBy { term } => line!(event, "hub-stands-by", term),
        Event::RestartAsked { command } => line!(event, "restart-asked", %command),
        Event::RekeyAsked { command } => line!(event, "rekey-asked", %command),
        Event::Rekeyed { .. } => line!(event, "rekeyed"),
        Event::Settled => line!(event, "settled"),
    }
}

struct Chain<'a>(&'a dyn std::error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::chain::chain(self.0))
    }
}
