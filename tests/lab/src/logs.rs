//! What a program logged, and whether anybody said that it would. Knows JSON lines as `--log-format json` writes them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Lines of a log that a failing story shows.
const TAIL_LINES: usize = 25;

/// The log of one process.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    pub(crate) program: String,
    pub(crate) path: PathBuf,
}

/// A line that a story expects.
#[derive(Debug, Clone)]
pub(crate) struct Announced {
    pub(crate) program: String,
    pub(crate) part: String,
}

impl Log {
    pub(crate) fn text(&self) -> String {
        read(&self.path)
    }

    /// Whether one of our daemons wrote it, rather than a `ping` of the story.
    pub(crate) fn is_ours(&self) -> bool {
        ["apid-", "netd-", "agent-"].iter().any(|ours| self.program.starts_with(ours))
    }

    /// The last lines, for people.
    pub(crate) fn tail(&self) -> String {
        let text = self.text();
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
        format!("--- {} ({} lines)\n{}\n", self.program, lines.len(), tail.join("\n"))
    }

    /// Lines that worry and were not announced. What is no JSON is a panic or a message from before logging began:
    /// nobody can announce that.
    pub(crate) fn worries(&self, announced: &[Announced]) -> Vec<String> {
        let expected = |line: &str| {
            announced.iter().any(|a| self.program.starts_with(&a.program) && line.contains(&a.part))
        };
        let text = self.text();
        let lines = text.lines().filter(|line| match kind(line) {
            Kind::Calm => false,
            Kind::Worry => !expected(line),
            Kind::Foreign => true,
        });
        lines.map(|line| format!("{}: {line}", self.program)).collect()
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// What a line is.
enum Kind {
    Calm,
    /// Level WARN or ERROR.
    Worry,
    /// Not from our logging.
    Foreign,
}

fn kind(line: &str) -> Kind {
    match serde_json::from_str::<Value>(line) {
        Ok(value) if matches!(value["level"].as_str(), Some("WARN" | "ERROR")) => Kind::Worry,
        Ok(_) => Kind::Calm,
        Err(_) if line.trim().is_empty() => Kind::Calm,
        Err(_) => Kind::Foreign,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worries_are_what_nobody_announced() {
        let path = std::env::temp_dir().join(format!("warren-lab-logs-{}", std::process::id()));
        let lines = [
            r#"{"level":"INFO","message":"fine"}"#,
            r#"{"level":"WARN","message":"hub gone"}"#,
            "thread 'main' panicked",
        ];
        fs::write(&path, lines.join("\n")).expect("the temporary folder can be written");
        let log = Log { program: "apid".into(), path: path.clone() };
        assert_eq!(log.worries(&[]).len(), 2);
        let announced = |part: &str| Announced { program: "apid".into(), part: part.into() };
        let panicked = ["apid: thread 'main' panicked"];
        assert_eq!(log.worries(&[announced("hub gone")]), panicked);
        assert_eq!(
            log.worries(&[announced("hub gone"), announced("panicked")]),
            panicked,
            "no panic is announced"
        );
        assert!(log.tail().contains("fine"));
        fs::remove_file(path).expect("it was written above");
    }
}
