//! `warren audit`.

use std::time::Duration;

use model::api::Page;
use model::api::audit::{AuditEntry, AuditVerdict};

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
        Command::Verify => return verify(admin, output).await,
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

async fn verify(admin: &Admin, output: &Output) -> Result<Exit, Failure> {
    let verdict: AuditVerdict = admin.get("/api/v1/audit/verification").await?;
    if output.json() {
        output.object(&verdict);
    } else {
        let AuditVerdict { entries, forgotten_to, newest, hash, .. } = &verdict;
        output.facts(&[
            ("entries", format!("{entries}, from {} to {newest}", forgotten_to + 1)),
            ("digest", hash.to_string()),
            (
                "verdict",
                match (&verdict.broken_at, &verdict.why) {
                    (Some(at), Some(why)) => format!("broken at {at}: {why}"),
                    _ => "as it was written".into(),
                },
            ),
        ]);
    }
    Ok(if verdict.holds { Exit::Done } else { Exit::Degraded })
}
