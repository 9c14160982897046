//! How long the audit log remembers, as it is set.

use std::time::Duration;

use clap::Args;
use control::AuditClass;
use model::Timestamp;
use store::AuditRetention;

/// How far the audit log goes back. A class of which more days are said than of all is kept as long as all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct Retention {
    /// Days that the audit log goes back.
    #[arg(long, env = "WARREN_AUDIT_RETENTION_DAYS", default_value_t = 365, value_parser = days())]
    pub audit_retention_days: u32,
    /// Days that people's logins and logouts stay in it, if fewer.
    #[arg(long, env = "WARREN_AUDIT_RETENTION_LOGINS_DAYS", value_parser = days())]
    pub audit_retention_logins_days: Option<u32>,
    /// Days that signed certificates stay in it, if fewer.
    #[arg(long, env = "WARREN_AUDIT_RETENTION_CERTIFICATES_DAYS", value_parser = days())]
    pub audit_retention_certificates_days: Option<u32>,
    /// Days that refusals stay in it, if fewer, failed logins among them.
    #[arg(long, env = "WARREN_AUDIT_RETENTION_REFUSALS_DAYS", value_parser = days())]
    pub audit_retention_refusals_days: Option<u32>,
}

fn days() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=36_500)
}

impl Retention {
    /// From when on entries stay.
    pub fn from(&self, now: Timestamp) -> AuditRetention {
        let ago = |days: u32| now - Duration::from_secs(u64::from(days) * 24 * 3600);
        let classes = [
            (AuditClass::Login, self.audit_retention_logins_days),
            (AuditClass::Certificate, self.audit_retention_certificates_days),
            (AuditClass::Refusal, self.audit_retention_refusals_days),
        ];
        let classes = classes.into_iter().filter_map(|(class, days)| Some((class, ago(days?)))).collect();
        AuditRetention { all: ago(self.audit_retention_days), classes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_its_days() {
        let day = |days: i64| Timestamp::from_unix_micros(days * 24 * 3600 * 1_000_000);
        let retention = Retention {
            audit_retention_days: 365,
            audit_retention_logins_days: Some(30),
            audit_retention_certificates_days: None,
            audit_retention_refusals_days: Some(7),
        };
        let kept = retention.from(day(400));
        assert_eq!(kept.all, day(35));
        let classes = [(AuditClass::Login, day(370)), (AuditClass::Refusal, day(393))];
        assert_eq!(kept.classes, classes.into());
    }
}
