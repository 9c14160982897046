//! Certificates that are taken back because a device or a person is gone, as an edit names them. Finds none.

use std::collections::BTreeMap;

use control::Withdrawn;
use model::{CertificateId, Timestamp};
use store::CertificateRow;

/// Certificates, and whether whoever each names is gone, by what they are called; and when the last of them ends. `None` of
/// none.
pub fn withdrawn<'a>(
    rows: impl Iterator<Item = (&'a CertificateRow, bool)>,
) -> Option<(BTreeMap<CertificateId, Withdrawn>, Timestamp)> {
    let mut of = BTreeMap::<CertificateId, Withdrawn>::new();
    let mut until = None;
    for (row, holder_gone) in rows {
        let withdrawn = of.entry(row.id.clone()).or_default();
        withdrawn.serials.insert(row.serial);
        withdrawn.holder_gone |= holder_gone;
        until = until.max(Some(row.valid_until));
    }
    until.map(|until| (of, until))
}
