//! `warren audit`.

use std::path::Path;
use std::time::Duration;

use model::Digest;
use model::api::Page;
use model::api::audit::{AuditCheckpoint, AuditEntry, AuditVerdict};
use serde::{Deserialize, Serialize};

use crate::admin::Admin;
use crate::args::Audit as Command;
use crate::failure::{Exit, Failure};
use crate::output::{Output, Row};

/// How often new entries are asked for: the server chains them once a second.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Entries of a page; as many as the server gives.
const PAGE_MAX: u32 = 1000;

impl Row for AuditEntry {
    const HEADS: &'static [&'static str] = &["AT", "ACTOR", "ACTION", "TARGET", "OUTCOME", "DETAIL"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.at.to_string(),
            self.actor.clone(),
            self.action.clone(),
            self.target.clone(),
            self.code.clone().unwrap_or_else(|| self.outcome.clone()),
            self.detail.clone(),
        ]
    }

    fn id(&self) -> String {
        self.id.to_string()
    }
}

pub(super) async fn run(admin: &Admin, command: &Command, output: &Output) -> Result<Exit, Failure> {
    match command {
        Command::List { limit } => {
            let page: Page<AuditEntry> = admin.get(&asked(admin, &format!("limit={limit}"))).await?;
            output.list(page.items, "no entry");
        }
        Command::Tail { lines } => tail(admin, *lines, output).await?,
        Command::Verify { against } => return verify(admin, against.as_deref(), output).await,
        Command::Export { after } => {
            let mut after = *after;
            while let Some(last) = print_after(admin, after, &mut |entry| json_line(output, entry)).await? {
                after = last;
            }
        }
    }
    Ok(Exit::Done)
}

fn asked(admin: &Admin, query: &str) -> String {
    let path = admin.of_tenant("/api/v1/audit");
    let separator = if path.contains('?') { '&' } else { '?' };
    format!("{path}{separator}{query}")
}

/// Prints a page of entries after a number, and returns the number of its last.
async fn print_after(
    admin: &Admin,
    after: u64,
    print: &mut dyn FnMut(&AuditEntry),
) -> Result<Option<u64>, Failure> {
    let page: Page<AuditEntry> = admin.get(&asked(admin, &format!("after={after}&limit={PAGE_MAX}"))).await?;
    page.items.iter().for_each(print);
    Ok(page.items.last().and_then(|entry| entry.sequence))
}

fn json_line(output: &Output, entry: &AuditEntry) {
    // A form of text and numbers is always JSON.
    if let Ok(line) = serde_json::to_string(entry) {
        output.line(&line);
    }
}

async fn tail(admin: &Admin, lines: u32, output: &Output) -> Result<(), Failure> {
    let print = |entry: &AuditEntry| {
        if output.json() {
            json_line(output, entry);
        } else {
            output.line(entry.cells().join("  ").trim_end());
        }
    };
    let page: Page<AuditEntry> = admin.get(&asked(admin, &format!("limit={}", lines.max(1)))).await?;
    // The newest may have no number for a second; it comes again with one.
    let mut after = page.items.iter().find_map(|entry| entry.sequence).unwrap_or_default();
    let numbered = page.items.iter().filter(|entry| entry.sequence.is_some()).take(lines as usize);
    numbered.collect::<Vec<_>>().into_iter().rev().for_each(print);
    loop {
        match print_after(admin, after, &mut |entry| print(entry)).await? {
            Some(last) => after = last,
            None => tokio::time::sleep(LOOK_INTERVAL).await,
        }
    }
}

/// What somebody else has of the log.
#[derive(Debug, PartialEq, Eq)]
struct Kept {
    sequence: u64,
    hash: Digest,
    checkpoint: Option<AuditCheckpoint>,
}

/// A line of an export, or of what a sink was told.
#[derive(Deserialize)]
struct Line {
    sequence: Option<u64>,
    hash: Option<Digest>,
    checkpoint: Option<AuditCheckpoint>,
}

/// What came of comparing.
#[derive(Serialize)]
struct Compared {
    #[serde(flatten)]
    verdict: AuditVerdict,
    /// The number that was compared.
    against: u64,
    /// Whether a signature says so.
    signed: bool,
    /// Why it is not the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    differs: Option<&'static str>,
}

impl Kept {
    /// The newest of a file: a signed end rather than an entry.
    fn of(text: &str) -> Result<Option<Self>, serde_json::Error> {
        let (mut ends, mut entries) = (None, None);
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let line: Line = serde_json::from_str(line)?;
            match (line.checkpoint, line.sequence, line.hash) {
                (Some(end), _, _) => {
                    ends = Some(Self { sequence: end.sequence, hash: end.hash, checkpoint: Some(end) });
                }
                (None, Some(sequence), Some(hash)) => {
                    entries = Some(Self { sequence, hash, checkpoint: None });
                }
                (None, _, _) => {}
            }
        }
        Ok(ends.or(entries))
    }

    /// Why the server's log is not the one that this is of.
    fn differs(&self, verdict: &AuditVerdict) -> Option<&'static str> {
        let by_another =
            self.checkpoint.as_ref().is_some_and(|end| verdict.key.is_none_or(|key| !end.is_of(&key)));
        if by_another {
            Some("what the file has is not signed by this server")
        } else if self.sequence > verdict.newest {
            Some("the server's log ends before: its newest entries are missing")
        } else if verdict.there.is_none() {
            Some("the server has forgotten that one for its age: compare with a newer file")
        } else if verdict.there != Some(self.hash) {
            Some("the server's log is another one")
        } else {
            None
        }
    }
}

fn kept(path: &Path) -> Result<Kept, Failure> {
    let hint = "a file of --audit-file, or of warren audit export";
    let unusable =
        |error: &dyn std::fmt::Display| Failure::usage(format!("{}: {error}", path.display()), hint);
    let text = std::fs::read_to_string(path).map_err(|error| unusable(&error))?;
    let kept = Kept::of(&text).map_err(|error| unusable(&error))?;
    kept.ok_or_else(|| unusable(&"it has neither a signed end nor an entry with a number"))
}

async fn verify(admin: &Admin, against: Option<&Path>, output: &Output) -> Result<Exit, Failure> {
    let kept = against.map(kept).transpose()?;
    let path = "/api/v1/audit/verification";
    let Some(kept) = kept else {
        let verdict: AuditVerdict = admin.get(path).await?;
        if output.json() {
            output.object(&verdict);
        } else {
            show(&verdict, &[], output);
        }
        return Ok(if verdict.holds { Exit::Done } else { Exit::Degraded });
    };
    let verdict: AuditVerdict = admin.get(&format!("{path}?sequence={}", kept.sequence)).await?;
    let (differs, signed) = (kept.differs(&verdict), kept.checkpoint.is_some());
    let exit = if verdict.holds && differs.is_none() { Exit::Done } else { Exit::Degraded };
    if output.json() {
        output.object(&Compared { verdict, against: kept.sequence, signed, differs });
    } else {
        let what = if signed { "signed end" } else { "entry" };
        let said = format!("{what} {}: {}", kept.sequence, differs.unwrap_or("the same"));
        show(&verdict, &[("compared", said)], output);
    }
    Ok(exit)
}

fn show(verdict: &AuditVerdict, more: &[(&str, String)], output: &Output) {
    let AuditVerdict { entries, forgotten_to, newest, hash, .. } = verdict;
    let facts = [
        ("entries", format!("{entries}, from {} to {newest}", forgotten_to + 1)),
        ("digest", hash.to_string()),
        (
            "verdict",
            match (&verdict.broken_at, &verdict.why) {
                (Some(at), Some(why)) => format!("broken at {at}: {why}"),
                _ => "as it was written".into(),
            },
        ),
    ];
    output.facts(&[&facts[..], more].concat());
}

#[cfg(test)]
mod tests {
    use model::{CheckpointSecret, Timestamp};

    use super::*;

    fn verdict(secret: &CheckpointSecret, newest: u64, there: Option<Digest>) -> AuditVerdict {
        AuditVerdict {
            holds: true,
            entries: newest,
            forgotten_to: 0,
            newest,
            hash: Digest::from_bytes([9; 32]),
            there,
            key: Some(secret.public()),
            broken_at: None,
            why: None,
        }
    }

    #[test]
    fn a_log_is_compared_with_the_newest_end_of_a_file() {
        let (ours, theirs) = (CheckpointSecret::from_seed([1; 32]), CheckpointSecret::from_seed([2; 32]));
        let (hash, other) = (Digest::from_bytes([5; 32]), Digest::from_bytes([6; 32]));
        let at = Timestamp::from_unix_micros(1_000_000);
        let line = |end: &AuditCheckpoint| format!("{}\n", serde_json::json!({"checkpoint": end}));
        let entry = serde_json::json!({"sequence": 8, "hash": other, "action": "x"});
        let signed = AuditCheckpoint::sign(7, hash, at, &ours);
        let kept = Kept::of(&format!(
            "{}{}{entry}\n",
            line(&AuditCheckpoint::sign(3, other, at, &ours)),
            line(&signed)
        ));
        let kept = kept.expect("JSON").expect("an end");
        assert_eq!((kept.sequence, kept.checkpoint.as_ref()), (7, Some(&signed)));
        let check = |kept: &Kept, verdict: AuditVerdict, expect: &str| {
            let differs = kept.differs(&verdict).unwrap_or_default();
            assert!(
                differs.contains(expect) && differs.is_empty() == expect.is_empty(),
                "{differs}: {expect}"
            );
        };
        check(&kept, verdict(&ours, 9, Some(hash)), "");
        check(&kept, verdict(&ours, 9, Some(other)), "another one");
        check(&kept, verdict(&ours, 9, None), "forgotten");
        check(&kept, verdict(&ours, 6, None), "missing");
        check(&kept, verdict(&theirs, 9, Some(hash)), "not signed by this server");
        let forged = Kept { checkpoint: Some(AuditCheckpoint { hash: other, ..signed }), ..kept };
        check(&forged, verdict(&ours, 9, Some(hash)), "not signed");
        let export = Kept::of(&entry.to_string()).expect("JSON").expect("an entry");
        check(&export, verdict(&ours, 9, Some(other)), "");
        assert_eq!(Kept::of("\n").expect("nothing"), None);
        assert!(Kept::of("no JSON").is_err());
    }
}
