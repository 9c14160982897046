//! The medians of all contenders beside each other, as Markdown.

use std::fmt::Write as _;

use super::rows::{Row, Rows};
use super::rules::short;

/// Lines of equally many cells; the first is the head.
#[derive(Debug)]
pub(crate) struct Table(Vec<Vec<String>>);

impl Table {
    /// One line for each row that somebody has a value of.
    pub(crate) fn new(rows: &Rows, contenders: &[&str]) -> Self {
        let head = ["median", "unit"].iter().chain(contenders).map(|&cell| cell.to_owned()).collect();
        let mut lines: Vec<Vec<String>> = vec![head];
        for row in Row::ALL {
            let medians: Vec<Option<f64>> = contenders.iter().map(|name| rows.median(name, row)).collect();
            if medians.iter().any(Option::is_some) {
                let (what, unit) = row.words();
                let cells = medians.iter().map(|median| median.map(short).unwrap_or_default());
                lines.push([what.to_owned(), unit.to_owned()].into_iter().chain(cells).collect());
            }
        }
        Self(lines)
    }

    pub(crate) fn text(&self) -> String {
        let Self(lines) = self;
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
}
