//! What alerts, dashboard and documents say of series, against the one table of all series in `docs/metrics.md`; that
//! the table is what programs show, the lab sees.

use std::collections::{BTreeMap, BTreeSet};

use tidy::Complaints;
use tidy::tree::{SourceFile, files};

/// Labels that Prometheus adds, and the one of every histogram.
const ADDED: &[&str] = &["instance", "job", "le"];
/// What a histogram is scraped as.
const OF_HISTOGRAMS: &[&str] = &["_bucket", "_sum", "_count"];
/// Labels of each series of the table.
type Table = BTreeMap<String, BTreeSet<String>>;

fn file<'a>(files: &'a [SourceFile], path: &str) -> &'a str {
    &files.iter().find(|file| file.path == path).unwrap_or_else(|| panic!("{path} is gone")).text
}

fn table(text: &str) -> Table {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `warren_"));
    let read = |row: &str| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let name = format!("warren_{}", cells[0].trim_end_matches('`'));
        let labels = cells[2].split(',').map(|label| label.trim().to_owned());
        (name, labels.filter(|label| !label.is_empty()).collect())
    };
    rows.map(read).collect()
}

/// Each series that a text names, with the labels that it selects by.
fn named(text: &str) -> Vec<(String, Vec<String>)> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (at, _) in text.match_indices("warren_") {
        if text[..at].ends_with(word) {
            continue;
        }
        let name: String = text[at..].chars().take_while(|c| word(*c)).collect();
        // What several series begin with.
        if name.ends_with('_') {
            continue;
        }
        let selectors = text[at + name.len()..].strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let labels = selectors.map_or("", |(labels, _)| labels).split(',');
        let label = |selector: &str| selector.trim().chars().take_while(|c| word(*c)).collect::<String>();
        found.push((name, labels.map(label).filter(|label| !label.is_empty()).collect()));
    }
    found
}

#[test]
fn alerts_dashboard_and_documents_name_series_that_there_are() {
    let files = files();
    let table = table(file(&files, "docs/metrics.md"));
    assert!(table.len() > 50, "the table of docs/metrics.md is not read");
    let mut complaints = Complaints::new();
    let told = |path: &str| {
        let document = path.ends_with(".md") && !path.starts_with("tests/");
        document || path.starts_with("docs/monitoring/")
    };
    for text in files.iter().filter(|file| told(&file.path) && file.path != "CHANGELOG.md") {
        for (name, labels) in named(&text.text) {
            let family = OF_HISTOGRAMS.iter().find_map(|end| name.strip_suffix(end));
            let Some(known) = table.get(&name).or_else(|| table.get(family?)) else {
                complaints.add(&text.path, format_args!("{name} is no series of docs/metrics.md"));
                continue;
            };
            for label in labels.iter().filter(|label| !known.contains(*label) && !ADDED.contains(&&***label))
            {
                complaints.add(&text.path, format_args!("{name} has no label {label}"));
            }
        }
    }
    complaints.settle();
}

#[test]
fn each_alert_leads_to_a_heading_of_the_runbook_and_a_command() {
    let files = files();
    let runbook = file(&files, "RUNBOOK.md");
    let rules = file(&files, "docs/monitoring/warren.rules.yml");
    let mut complaints = Complaints::new();
    for alert in rules.split("- alert: ").skip(1) {
        let name = alert.lines().next().unwrap_or_default();
        let told = |key: &str| alert.lines().find_map(|line| line.trim().strip_prefix(key));
        match told("runbook: ") {
            Some(heading) if runbook.lines().any(|line| line == format!("## {heading}")) => {}
            other => complaints.add(name, format_args!("{other:?} is no heading of RUNBOOK.md")),
        }
        if told("command: ").is_none_or(str::is_empty) {
            complaints.add(name, "says no command");
        }
        if !runbook.contains(&format!("`{name}`")) {
            complaints.add(name, "is not in RUNBOOK.md");
        }
    }
    complaints.settle();
}
