//! Runs a program of the resolver's owner: absolute path, empty environment, bounded time and output.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// These programs answer in milliseconds; one that hangs must not hold the node.
const TOOL_TIME_MAX: Duration = Duration::from_secs(5);
/// More is no answer to what we ask.
const OUTPUT_BYTES_MAX: u64 = 64 * 1024;

/// Why a program did not do it.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It could not be started or read.
    #[error("running {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It failed.
    #[error("{} failed: {said}", path.display())]
    Failed {
        /// Which.
        path: PathBuf,
        /// Its first line on stderr, or its exit status.
        said: String,
    },
    /// It hung and was killed.
    #[error("{} did not end within {} s", path.display(), TOOL_TIME_MAX.as_secs())]
    Hung {
        /// Which.
        path: PathBuf,
    },
}

/// Runs a program to its end and returns what it printed.
pub(crate) fn run(path: &Path, arguments: &[&str], input: &str) -> Result<String, ToolError> {
    let io = |source| ToolError::Io { path: path.into(), source };
    let mut command = Command::new(path);
    command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(io)?;
    let (mut stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (done, finished) = mpsc::channel();
    let input = input.to_owned();
    // Ends when the program does, or is killed below.
    std::thread::spawn(move || {
        if let Some(stdin) = &mut stdin {
            let _ = stdin.write_all(input.as_bytes());
        }
        drop(stdin);
        let (mut out, mut err) = (String::new(), String::new());
        let read = stdout
            .map_or(Ok(0), |o| o.take(OUTPUT_BYTES_MAX).read_to_string(&mut out))
            .and_then(|_| stderr.map_or(Ok(0), |e| e.take(OUTPUT_BYTES_MAX).read_to_string(&mut err)));
        let _ = done.send(read.map(|_| (out, err)));
    });
    let Ok(read) = finished.recv_timeout(TOOL_TIME_MAX) else {
        let _ = child.kill();
        let _ = child.wait();
        return Err(ToolError::Hung { path: path.into() });
    };
    let status = child.wait().map_err(io)?;
    let (out, err) = read.map_err(io)?;
    if status.success() {
        return Ok(out);
    }
    let said = err.lines().next().map_or_else(|| status.to_string(), |line| line.trim().to_owned());
    Err(ToolError::Failed { path: path.into(), said })
}

/// The first of these that is there.
pub(crate) fn find(candidates: &[&'static str]) -> Option<&'static Path> {
    candidates.iter().copied().map(|text: &'static str| Path::new(text)).find(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_errors_and_input_pass() {
        assert_eq!(run(Path::new("/bin/cat"), &[], "text").unwrap(), "text");
        let failed = run(Path::new("/bin/ls"), &["/nowhere"], "").unwrap_err().to_string();
        assert!(failed.contains("/bin/ls failed") && failed.contains("/nowhere"), "{failed}");
        assert!(matches!(run(Path::new("/nowhere"), &[], ""), Err(ToolError::Io { .. })));
    }
}
