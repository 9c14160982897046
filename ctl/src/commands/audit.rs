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
    /// Lines of the file that do not read, from 1.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unreadable: Vec<usize>,
}

impl Kept {
    /// The one of the greatest number in a file, and of those the first: a signed end rather than an entry. A log that was put back
    /// to an older copy goes on from there with other ends, and with the same numbers in time. And the numbers of lines that
    /// do not read.
    fn of(text: &str) -> (Option<Self>, Vec<usize>) {
        let (mut end, mut entry, mut unreadable): (Option<Self>, Option<Self>, _) = (None, None, Vec::new());
        for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let (kept, found) = match serde_json::from_str(line) {
                Ok(Line { checkpoint: Some(signed), .. }) => (
                    &mut end,
                    Self { sequence: signed.sequence, hash: signed.hash, checkpoint: Some(signed) },
                ),
                Ok(Line { sequence: Some(sequence), hash: Some(hash), .. }) => {
                    (&mut entry, Self { sequence, hash, checkpoint: None })
                }
                Ok(_) => continue,
                Err(_) => {
                    unreadable.push(n + 1);
                    continue;
                }
            };
            if kept.as_ref().is_none_or(|kept| kept.sequence < found.sequence) {
                *kept = Some(found);
            }
        }
        (end.or(entry), unreadable)
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

fn kept(path: &Path) -> Result<(Kept, Vec<usize>), Failure> {
    let hint = "a file of --audit-file, or of warren audit export";
    let unusable =
        |error: &dyn std::fmt::Display| Failure::usage(format!("{}: {error}", path.display()), hint);
    let text = std::fs::read_to_string(path).map_err(|error| unusable(&error))?;
    let (kept, unreadable) = Kept::of(&text);
    let kept = kept.ok_or_else(|| unusable(&"it has neither a signed end nor an entry with a number"))?;
    Ok((kept, unreadable))
}

async fn verify(admin: &Admin, against: Option<&Path>, output: &Output) -> Result<Exit, Failure> {
    let kept = against.map(kept).transpose()?;
    let path = "/api/v1/audit/verification";
    let Some((kept, unreadable)) = kept else {
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
        output.object(&Compared { verdict, against: kept.sequence, signed, differs, unreadable });
    } else {
        let what = if signed { "signed end" } else { "entry" };
        let said = format!("{what} {}: {}", kept.sequence, differs.unwrap_or("the same"));
        let lines = unreadable.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        let passed = (!lines.is_empty()).then(|| ("passed over", format!("lines that do not read: {lines}")));
        show(&verdict, &[("compared", said)].into_iter().chain(passed).collect::<Vec<_>>(), output);
    }
    Ok(exit)
}

fn show(verdict: &AuditVerdict, more: &[(&str, String)], output: &Output) {
    let AuditVerdict { entries, forgotten, forgotten_to, newest, hash, .. } = verdict;
    let between = if *forgotten > 0 { format!(", {forgotten} forgotten") } else { String::new() };
    let facts = [
        ("entries", format!("{entries}, from {} to {newest}{between}", forgotten_to + 1)),
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
            forgotten: 0,
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
        let (kept, unreadable) = kept;
        let kept = kept.expect("an end");
        assert_eq!(unreadable, [0; 0]);
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
        let export = Kept::of(&entry.to_string()).0.expect("an entry");
        check(&export, verdict(&ours, 9, Some(other)), "");
        assert_eq!(Kept::of("\n"), (None, vec![]));
        assert_eq!(Kept::of("\nno JSON"), (None, vec![2]));
    }

    #[test]
    fn ends_of_an_older_copy_do_not_hide_those_of_before() {
        let secret = CheckpointSecret::from_seed([1; 32]);
        let (hash, other) = (Digest::from_bytes([5; 32]), Digest::from_bytes([6; 32]));
        let line = |sequence: u64, hash: Digest| {
            let end = AuditCheckpoint::sign(sequence, hash, Timestamp::from_unix_micros(1_000_000), &secret);
            format!("{}\n", serde_json::json!({"checkpoint": end}))
        };
        // The log was put back from 100 to 60; half a line was left of a full disk.
        let text = format!("{}{{\"seq\n{}", line(100, hash), line(60, other));
        let (kept, unreadable) = Kept::of(&text);
        let kept = kept.expect("an end");
        assert_eq!((kept.sequence, unreadable), (100, vec![2]));
        assert!(kept.differs(&verdict(&secret, 60, None)).is_some_and(|why| why.contains("missing")));
        // It has come to the same number since, by other entries.
        let (kept, _) = Kept::of(&format!("{text}{}", line(100, other)));
        let kept = kept.expect("an end");
        let differs = kept.differs(&verdict(&secret, 100, Some(other)));
        assert!(differs.is_some_and(|why| why.contains("another one")), "{differs:?}");
    }
}
