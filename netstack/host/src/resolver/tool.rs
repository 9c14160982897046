//! Runs a program of the resolver's owner: absolute path, empty environment, bounded time and output.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Command;
use tokio::runtime;
use tokio::time::timeout;

/// These programs answer in milliseconds; one that hangs must not hold the node.
const TOOL_TIME_MAX: Duration = Duration::from_secs(5);
/// More is no answer to what we ask.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// How the files are called in `/proc`.
const FILE_NAME: &CStr = c"warren";

/// Why a program did not do it.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It could not be started or read.
    #[error("running {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
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

/// Runs a program to its end and returns what it printed. Input and output are files in memory, not pipes: a program
/// may start a daemon that keeps what it inherits, and the end of a pipe would never come.
pub(crate) fn run(path: &Path, arguments: &[&str], input: &str) -> Result<String, ToolError> {
    let io = |source| ToolError::Io { path: path.into(), source };
    let files = [file(input.as_bytes()), file(b""), file(b"")];
    let [stdin, out, err] = files.map(|file| file.map_err(io));
    let (stdin, out, err) = (stdin?, out?, err?);
    let mut command = Command::new(path);
    command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
    command.stdin(Stdio::from(stdin)).process_group(0);
    command.stdout(out.try_clone().map_err(io)?).stderr(err.try_clone().map_err(io)?);
    let ended = end_of(&mut command).map_err(io)?;
    let status = ended.ok_or_else(|| ToolError::Hung { path: path.into() })?;
    let (out, err) = (text(&out).map_err(io)?, text(&err).map_err(io)?);
    if status.success() {
        return Ok(out);
    }
    let said = err.lines().next().map_or_else(|| status.to_string(), |line| line.trim().to_owned());
    Err(ToolError::Failed { path: path.into(), said })
}

/// `None`: it hung, and was killed with all that it started.
fn end_of(command: &mut Command) -> io::Result<Option<ExitStatus>> {
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut child = command.spawn()?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        match timeout(TOOL_TIME_MAX, child.wait()).await {
            Ok(status) => status.map(Some),
            Err(_) => {
                // It may have ended just now.
                let _ = group.map(|group| killpg(group, Signal::SIGKILL));
                child.wait().await?;
                Ok(None)
            }
        }
    })
}

/// A file in memory (`memfd_create(2)`), read from its begin.
fn file(content: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create(FILE_NAME, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file)
}

/// What was printed. Whatever still has the file writes no more into our memory.
fn text(file: &File) -> io::Result<String> {
    fcntl(file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK))?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(OUTPUT_BYTES_MAX).min(OUTPUT_BYTES_MAX);
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The first of these that is there.
pub(crate) fn find(candidates: &[&'static str]) -> Option<&'static Path> {
    candidates.iter().copied().map(|text: &'static str| Path::new(text)).find(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use nix::sys::signal::kill;

    use super::*;

    #[test]
    fn output_errors_and_input_pass() {
        assert_eq!(run(Path::new("/bin/cat"), &[], "text").unwrap(), "text");
        let failed = run(Path::new("/bin/ls"), &["/nowhere"], "").unwrap_err().to_string();
        assert!(failed.contains("/bin/ls failed") && failed.contains("/nowhere"), "{failed}");
        assert!(matches!(run(Path::new("/nowhere"), &[], ""), Err(ToolError::Io { .. })));
    }

    #[test]
    fn a_program_that_starts_a_daemon_has_ended_when_it_ends() {
        let began = Instant::now();
        // The daemon has all three of its files.
        let said = run(Path::new("/bin/sh"), &["-c", "sleep 600 & echo $!; echo said >&2"], "").unwrap();
        assert!(began.elapsed() < TOOL_TIME_MAX, "{:?}", began.elapsed());
        let daemon = Pid::from_raw(said.trim().parse().unwrap());
        kill(daemon, Signal::SIGKILL).expect("it goes on");
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_what_it_started() {
        let marker = tempfile::NamedTempFile::new().unwrap();
        let script = format!("sleep 600 & echo $! > {}; sleep 600", marker.path().display());
        let result = run(Path::new("/bin/sh"), &["-c", &script], "");
        assert!(matches!(result, Err(ToolError::Hung { .. })), "{result:?}");
        let id: i32 = std::fs::read_to_string(marker.path()).unwrap().trim().parse().unwrap();
        let lives = || {
            let state = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            !state.is_empty() && !state.contains(") Z ")
        };
        let began = Instant::now();
        while lives() {
            assert!(began.elapsed() < TOOL_TIME_MAX, "it was told to die");
            std::thread::yield_now();
        }
    }

    #[test]
    fn much_output_is_cut() {
        let said = run(Path::new("/bin/sh"), &["-c", "yes | head -c 200000"], "").unwrap();
        assert_eq!(said.len(), OUTPUT_BYTES_MAX);
    }
}
