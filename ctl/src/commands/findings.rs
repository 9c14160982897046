//! What a doctor found, on the terminal or as JSON.

use model::api::Page;
use model::api::local::Finding;

use crate::failure::Exit;
use crate::output::Output;

/// Shows all of it; degraded, unless all is well.
pub(super) fn show(findings: Vec<Finding>, output: &Output) -> Exit {
    let well = findings.iter().all(|finding| finding.ok);
    if output.json() {
        output.json_line(&Page::whole(findings));
    } else {
        for finding in &findings {
            let mark = match (finding.ok, finding.unchecked) {
                (_, true) => "--  ",
                (true, _) => "ok  ",
                (false, _) => "BAD ",
            };
            output.line(&format!("{mark} {}", finding.what));
            if !finding.why.is_empty() {
                output.line(&format!("     {}", finding.why));
            }
            if !finding.remedy.is_empty() {
                output.line(&format!("     → {}", finding.remedy));
            }
        }
    }
    if well { Exit::Done } else { Exit::Degraded }
}
