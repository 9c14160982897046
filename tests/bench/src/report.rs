//! What was measured, for people and for later: a table, the same in Markdown, and every single row. Judges by the
//! bounds that the series bring along.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use model::Timestamp;

use crate::series::{Bound, Series, Unit};

/// Above this load others work on the machine too, and times are upper bounds.
const QUIET_LOAD: f64 = 1.5;

/// What every bench is told.
#[derive(Debug, Args)]
pub struct Run {
    /// A few small rounds that say only whether the bench itself works.
    #[arg(long, visible_alias = "quick")]
    pub check: bool,
    /// Folder that keeps every single measurement.
    #[arg(long)]
    results: PathBuf,
    /// Revision of the tree that was built.
    #[arg(long, default_value = "unknown")]
    revision: String,
}

impl Run {
    /// A new folder for what is measured, named after this moment.
    pub fn folder(&self) -> PathBuf {
        let folder = self.results.join(now().to_string().replace(':', "-"));
        fs::create_dir_all(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        folder
    }

    /// When, of what, and on which machine it is.
    pub fn head(&self) -> String {
        format!("{}, revision {}, {}", now(), self.revision, machine())
    }
}

/// A bench of figures that can be had alone; they are declared in the order in which all of them are measured.
#[derive(Debug, Args)]
pub struct Figures<F: ValueEnum + Clone + Send + Sync + 'static> {
    /// Which figures; all of them if none is named.
    #[arg(value_enum)]
    figures: Vec<F>,
    #[command(flatten)]
    pub run: Run,
}

impl<F: ValueEnum + Clone + Send + Sync + 'static> Figures<F> {
    /// What is to be measured.
    pub fn wanted(&self) -> Vec<F> {
        if self.figures.is_empty() { F::value_variants().to_vec() } else { self.figures.clone() }
    }

    /// Measures one figure after the other, shows and keeps. Whether every bound holds.
    pub fn report(&self, measure: impl Fn(&F) -> Vec<Series>) -> bool {
        let mut report = Report::new(&self.run);
        for figure in self.wanted() {
            let value = figure.to_possible_value().expect("no figure is skipped");
            report.measure(value.get_name(), || measure(&figure));
        }
        report.finish()
    }
}

/// One figure: its series, and how busy the machine was before it.
struct Part {
    name: String,
    load: f64,
    series: Vec<Series>,
}

impl Part {
    fn has_times(&self) -> bool {
        self.series.iter().any(|series| series.unit == Unit::Milliseconds)
    }
}

/// All that one run says.
struct Report {
    folder: PathBuf,
    head: String,
    judges: bool,
    parts: Vec<Part>,
}

impl Report {
    /// A report into a new folder. A check judges nothing.
    fn new(run: &Run) -> Self {
        let (folder, head) = (run.folder(), run.head());
        say(&format!("{head}\n"));
        Self { folder, head, judges: !run.check, parts: Vec::new() }
    }

    /// One figure, whose rows are kept at once.
    fn measure(&mut self, name: &str, measure: impl FnOnce() -> Vec<Series>) {
        let load = load();
        say(&format!("measuring {name} … (load {load:.2})\n"));
        let series = measure();
        let mut rows = String::from("what,round,value,unit\n");
        for series in &series {
            for (round, value) in series.values.iter().enumerate() {
                let _ = writeln!(rows, "\"{}\",{},{value:.6},{}", series.what, round + 1, series.unit);
            }
        }
        self.write(&format!("{name}.csv"), &rows);
        self.parts.push(Part { name: name.to_owned(), load, series });
    }

    /// Shows and keeps the table. Whether every bound holds.
    fn finish(self) -> bool {
        let table = self.table();
        self.write("summary.md", &format!("{}\n\n{table}", self.head));
        say(&format!("\n{table}\n"));
        for part in self.parts.iter().filter(|part| part.load > QUIET_LOAD && part.has_times()) {
            say(&format!(
                "{}: the machine was busy (load {:.2}); its times are upper bounds\n",
                part.name, part.load
            ));
        }
        say(&format!("rows: {}\n", self.folder.display()));
        let mut all = self.parts.iter().flat_map(|part| &part.series);
        !self.judges || all.all(|series| series.holds() != Some(false))
    }

    fn table(&self) -> String {
        let head = ["figure", "measured", "n", "median", "p99", "max", "bound", "holds"];
        let mut lines = vec![head.map(str::to_owned).to_vec()];
        for part in &self.parts {
            lines.extend(part.series.iter().map(|series| self.line(&part.name, series)));
        }
        markdown(&lines)
    }

    fn line(&self, figure: &str, series: &Series) -> Vec<String> {
        let unit = series.unit;
        let verdict = match series.holds() {
            None => "",
            Some(_) if !self.judges => "not judged",
            Some(true) => "yes",
            Some(false) => "NO",
        };
        vec![
            figure.into(),
            series.what.clone(),
            series.values.len().to_string(),
            number(series.percentile(50), unit),
            number(series.percentile(99), unit),
            number(series.percentile(100), unit),
            series.bound.map(|bound| bound_text(bound, unit)).unwrap_or_default(),
            verdict.into(),
        ]
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder.join(name);
        fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}

/// Lines of equally many cells as a table in Markdown; the first is its head.
pub fn markdown(lines: &[Vec<String>]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(&widths) {
            let _ = write!(text, "| {cell:width$} ");
        }
        text.push_str("|\n");
        if number == 0 {
            widths.iter().for_each(|width| text.push_str(&format!("|{}", "-".repeat(width + 2))));
            text.push_str("|\n");
        }
    }
    text
}

/// Three digits, as nobody reads more.
pub fn short(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v if v >= 1.0 => format!("{v:.2}"),
        v => format!("{v:.3}"),
    }
}

fn bound_text(bound: Bound, unit: Unit) -> String {
    match bound {
        Bound::P99Below(limit) => format!("p99 < {limit} {unit}"),
        Bound::AllBelow(limit) => format!("max < {limit} {unit}"),
        Bound::AllAtLeast(limit) => format!("min ≥ {limit} {unit}"),
        Bound::AllAre(exactly) => format!("always {exactly}"),
    }
}

fn number(value: f64, unit: Unit) -> String {
    let text = if unit == Unit::Count { format!("{value:.0}") } else { short(value) };
    format!("{text} {unit}").trim_end().to_owned()
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// The processors and the kernel.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let models = cpuinfo.lines().filter_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = models.map(|(_, name)| name.trim()).next().unwrap_or("unknown processor");
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{processors} × {model}, Linux {}", read("/proc/sys/kernel/osrelease").trim())
}

/// Processes that ran or wanted to, over the last minute (proc_loadavg(5)).
pub fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}

/// Tells whoever watches.
pub fn say(text: &str) {
    // Nobody is left to tell if standard output is closed; the files are written all the same.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_kept_row_by_row_and_judged() {
        let results = tempfile::tempdir().expect("a directory");
        let run = |limit: f64, check: bool| {
            let run = Run { check, results: results.path().into(), revision: "abc".into() };
            let mut report = Report::new(&run);
            let mut series = Series::new("thing", Unit::Milliseconds).must(Bound::P99Below(limit));
            series.push(0.5);
            series.push(20.0);
            report.measure("part", || vec![series]);
            let folder = report.folder.clone();
            (report.finish(), fs::read_to_string(folder.join("summary.md")).expect("written"))
        };
        let (holds, text) = run(21.0, false);
        assert!(holds && text.contains("| 0.500 ms | 20.0 ms | 20.0 ms | p99 < 21 ms | yes "), "{text}");
        let (holds, text) = run(20.0, false);
        assert!(!holds && text.contains("| NO "), "{text}");
        assert!(run(20.0, true).0, "a check judges nothing");
    }
}
