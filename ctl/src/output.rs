//! What people and scripts read: aligned tables, JSON objects, ids alone. Decides nothing.

use std::io::{IsTerminal as _, Write as _};

use model::api::{Page, Problem, SCHEMA_VERSION};
use serde::Serialize;

/// How to print.
#[derive(Clone, Copy)]
pub struct Output {
    json: bool,
    quiet: bool,
}

/// A list that can be printed as a table.
pub trait Row: Serialize {
    /// The heads of the columns.
    const HEADS: &'static [&'static str];

    /// The cells, one for each head.
    fn cells(&self) -> Vec<String>;

    /// What `-q` prints.
    fn id(&self) -> String;
}

#[derive(Serialize)]
struct Versioned<'a, T> {
    schema_version: u32,
    #[serde(flatten)]
    value: &'a T,
}

#[derive(Serialize)]
struct Failed<'a> {
    schema_version: u32,
    error: &'a Problem,
}

impl Output {
    /// Prints as JSON, or ids alone, or for people.
    pub const fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet }
    }

    /// Whether a script reads.
    pub const fn json(&self) -> bool {
        self.json
    }

    /// Whether only ids are wanted.
    pub const fn quiet(&self) -> bool {
        self.quiet
    }

    /// One line for people; nothing for scripts.
    pub fn say(&self, line: impl AsRef<str>) {
        if !self.json && !self.quiet {
            self.line(line.as_ref());
        }
    }

    /// One line for whoever reads.
    pub fn line(&self, line: &str) {
        // A closed pipe ends the output, not the command.
        let _ = writeln!(std::io::stdout().lock(), "{}", printable(line));
    }

    /// An object, with the version of its form.
    pub fn object<T: Serialize>(&self, value: &T) {
        self.json_line(&Versioned { schema_version: SCHEMA_VERSION, value });
    }

    /// A form that carries its version itself.
    pub fn json_line<T: Serialize>(&self, value: &T) {
        let text = serde_json::to_string_pretty(value).unwrap_or_else(|e| format!("{{\"error\":\"{e}\"}}"));
        let _ = writeln!(std::io::stdout().lock(), "{}", printable_json(&text));
    }

    /// A list as a table, as ids, or as JSON.
    pub fn list<T: Row>(&self, items: Vec<T>, empty: &str) {
        if self.json {
            self.json_line(&Page::whole(items));
        } else if self.quiet {
            items.iter().for_each(|item| self.line(&item.id()));
        } else if items.is_empty() {
            self.line(empty);
        } else {
            let rows: Vec<Vec<String>> = items.iter().map(Row::cells).collect();
            table(T::HEADS, &rows).iter().for_each(|line| self.line(line));
        }
    }

    /// Facts under each other, their values aligned.
    pub fn facts(&self, facts: &[(&str, String)]) {
        let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        for (name, value) in facts {
            self.line(format!("{name:width$}  {value}").trim_end());
        }
    }

    /// What is done, but leaves something to do. Scripts that read JSON find it in the object.
    pub fn warning(&self, line: &str) {
        if !self.json {
            // Nothing is left to do if standard error is gone.
            let _ = writeln!(std::io::stderr().lock(), "warren: warning: {}", printable(line));
        }
    }

    /// Why nothing happens for a while. Scripts wait without a word.
    pub fn waiting(&self, line: &str) {
        if !self.json && !self.quiet {
            // Nothing is left to do if standard error is gone.
            let _ = writeln!(std::io::stderr().lock(), "warren: {}", printable(line));
        }
    }

    /// A failure: what happened, then what helps.
    pub fn failure(&self, problem: &Problem) {
        let mut err = std::io::stderr().lock();
        let text = if self.json {
            serde_json::to_string_pretty(&Failed { schema_version: SCHEMA_VERSION, error: problem })
                .unwrap_or_else(|e| e.to_string())
        } else {
            let (on, off) = if std::io::stderr().is_terminal() { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
            let mut text = format!("{on}warren: {}{off}", printable(&problem.detail));
            if problem.detail.is_empty() {
                text = format!("{on}warren: refused{off}");
            }
            text.push_str(&format!(" ({})", problem.code));
            if !problem.request_id.is_empty() {
                text.push_str(&format!(" [request {}]", problem.request_id));
            }
            if !problem.hint.is_empty() {
                text.push_str(&format!("\n  → {}", printable(&problem.hint)));
            }
            text
        };
        // Nothing is left to do if standard error is gone.
        let _ = writeln!(err, "{text}");
    }
}

/// Names, texts and remarks come from other machines: nothing of theirs may steer the terminal or begin a line.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            // As zone files have bytes (RFC 1035, section 5.1).
            c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| out.push_str(&format!("\\{byte:03}")));
        } else {
            out.push(c);
        }
    }
    out
}

/// JSON escapes the controls below space by itself, and its lines end as ours do.
fn printable_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}

fn table(heads: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([heads[column].len()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&mut heads.iter().copied())];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align_and_end_without_blanks() {
        let rows = [vec!["alpha".into(), "1".into()], vec!["b".into(), "22".into()]];
        assert_eq!(table(&["NAME", "N"], &rows), ["NAME   N", "alpha  1", "b      22"]);
    }

    #[test]
    fn other_machines_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\u{9b}"), r"a\027[31mb\194\155");
        assert_eq!(printable_json("{\n\u{7f}}"), "{\n\\u007f}");
    }

    #[test]
    fn no_cell_forges_a_row() {
        let rows = [vec!["a\nbank.home.internal".into(), "1".into()], vec!["b".into(), "2".into()]];
        assert_eq!(
            table(&["NAME", "N"], &rows)[1..],
            [r"a\010bank.home.internal  1", "b                        2"]
        );
    }
}
