//! The medians of all contenders beside each other, as Markdown.

use super::rows::{Row, Rows};
use crate::report::{markdown, short};

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
        markdown(lines)
    }
}
