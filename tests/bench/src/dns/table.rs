//! The medians of all servers beside each other, as Markdown.

use super::rows::{Figure, Rows};
use crate::report::{markdown, short};

const SERVERS: [&str; 5] = ["echo", "warren", "nsd", "knot", "unbound"];

pub(crate) fn text(rows: &Rows) -> String {
    let mut lines = vec![["median", "unit", "records", "mix"].map(str::to_owned).to_vec()];
    lines[0].extend(SERVERS.map(str::to_owned));
    for of in Figure::ALL.into_iter().flat_map(|figure| rows.places(figure)) {
        let (what, unit) = of.figure.words();
        let mut line = vec![what.into(), unit.into(), of.records.to_string(), of.mix.into()];
        line.extend(SERVERS.map(|server| rows.median(server, of).map(short).unwrap_or_default()));
        lines.push(line);
    }
    markdown(&lines)
}
