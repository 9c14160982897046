//! Whom sshd let in by certificates of the mesh, as its log says it.
//!
//! journalctl(1) and tail(1) follow the log, across rotations of its files; of the journal only what root's sshd wrote is read.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::str::FromStr;
use std::time::Duration;

use engine::SshInput;
use model::SshSerial;
use model::wire::Remark;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::resolver::tool;

const JOURNALCTL: &[&str] = &["/usr/bin/journalctl", "/bin/journalctl"];
const TAIL: &[&str] = &["/usr/bin/tail", "/bin/tail"];
/// There while journald runs.
const JOURNAL: &str = "/run/systemd/journal";
/// Where syslog writes it on Debian, and on Fedora and RHEL.
const FILES: [&str; 2] = ["/var/log/auth.log", "/var/log/secure"];
/// Ends what syslog puts before a line (RFC 3164, section 4.1.3).
const TAG_END: &str = "]: ";
/// Who says so: since OpenSSH 9.8 a program of its own.
const TAGS: [&str; 2] = ["sshd", "sshd-session"];
/// A line of syslog is shorter (RFC 5424, section 6.1); more of one is read as another.
const LINE_BYTES_MAX: u64 = 8 * 1024;
/// What follows the log is started again so late after it ended.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);

/// Where sshd's log is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SshLog {
    /// The journal, or a file that syslog writes, whichever is there.
    Auto,
    /// The journal.
    Journal,
    /// A file.
    File(PathBuf),
    /// It is not read.
    Off,
}

impl FromStr for SshLog {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "journal" => Ok(Self::Journal),
            "off" => Ok(Self::Off),
            path if path.starts_with('/') => Ok(Self::File(path.into())),
            other => Err(format!("{other:?} is not auto, journal, off or a path from the root on")),
        }
    }
}

impl SshLog {
    /// What follows it; `None` where there is nothing to follow.
    fn follower(&self) -> Option<Command> {
        match self {
            Self::Off => None,
            Self::Journal => tool::find(JOURNALCTL).map(journal),
            Self::File(path) => tail(path),
            Self::Auto if Path::new(JOURNAL).exists() && tool::find(JOURNALCTL).is_some() => {
                Self::Journal.follower()
            }
            Self::Auto => FILES.into_iter().map(Path::new).find(|path| path.exists()).and_then(tail),
        }
    }
}

/// From OpenSSH 9.8 on a session has a program of its own.
fn journal(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["--follow", "--lines=0", "--output=cat", "--quiet", "_UID=0", "_COMM=sshd"]);
    command.args(["+", "_UID=0", "_COMM=sshd-session"]);
    command
}

fn tail(path: &Path) -> Option<Command> {
    let mut command = Command::new(tool::find(TAIL)?);
    command.args(["--lines=0", "--follow=name", "--retry", "--quiet"]).arg(path);
    Some(command)
}

/// Says every login by a certificate, for as long as it is polled.
pub(super) async fn follow(log: SshLog, says: mpsc::Sender<SshInput>) {
    loop {
        let Some(mut command) = log.follower() else { return };
        command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        match command.spawn() {
            Ok(mut child) => {
                if let Some(out) = child.stdout.take() {
                    let mut out = BufReader::new(out);
                    let mut line = Vec::new();
                    // Anybody may write to a log what is no text, and lines without an end.
                    while (&mut out)
                        .take(LINE_BYTES_MAX)
                        .read_until(b'\n', &mut line)
                        .await
                        .is_ok_and(|n| n > 0)
                    {
                        if let Some(login) = login(String::from_utf8_lossy(&line).trim_end())
                            && says.send(login).await.is_err()
                        {
                            return;
                        }
                        line.clear();
                    }
                }
            }
            Err(error) => tracing::info!(%error, ?log, "sshd's log cannot be followed"),
        }
        sleep(RETRY_INTERVAL).await;
    }
}

/// `Accepted publickey for LOGIN from ADDRESS port N ssh2: TYPE HASH ID NAME (serial N) CA TYPE HASH`, as sshd logs it since 7.2.
fn login(line: &str) -> Option<SshInput> {
    let (before, accepted) = line.split_once("Accepted publickey for ")?;
    // Nothing but what syslog puts before it, and sshd's own tag at its end: other lines have in them what a stranger chose.
    if !before.is_empty() {
        if before.find(TAG_END) != before.len().checked_sub(TAG_END.len()) {
            return None;
        }
        let (tag, _) = before.rsplit(' ').nth(1)?.split_once('[')?;
        TAGS.contains(&tag).then_some(())?;
    }
    let (login, rest) = accepted.split_once(" from ")?;
    let (from, rest) = rest.split_once(" port ")?;
    let (_, rest) = rest.split_once(" ID ")?;
    let (id, rest) = rest.rsplit_once(" (serial ")?;
    let (serial, rest) = rest.split_once(')')?;
    let serial = serial.parse().ok().and_then(SshSerial::from_number)?;
    let is_ours = id.starts_with("u:") || id.starts_with("s:");
    (is_ours && rest.starts_with(" CA ")).then(|| SshInput::Login {
        serial,
        id: Remark::new(id),
        login: Remark::new(login),
        from: Remark::new(from),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "Accepted publickey for root from 100.64.0.2 port 51234 ssh2: ED25519-CERT SHA256:abc ID \
                        u:admin@home (serial 140737488355329) CA ED25519 SHA256:def";

    #[test]
    fn a_login_by_a_certificate_of_the_mesh_is_read() {
        let expect = SshInput::Login {
            serial: SshSerial::from_number(140_737_488_355_329).unwrap(),
            id: Remark::new("u:admin@home"),
            login: Remark::new("root"),
            from: Remark::new("100.64.0.2"),
        };
        assert_eq!(login(LINE), Some(expect.clone()));
        assert_eq!(login(&format!("Nov 22 17:00:01 beta sshd[12]: {LINE}")), Some(expect));
    }

    #[test]
    fn every_other_line_is_passed_over() {
        for line in [
            &format!("Nov 22 17:00:01 beta logger[12]: {LINE}"),
            &format!("Nov 22 17:00:01 beta my sshd: {LINE}"),
            "Accepted publickey for root from 100.64.0.2 port 51234 ssh2: ED25519 SHA256:abc",
            "Accepted password for root from 100.64.0.2 port 51234 ssh2",
            "Failed publickey for root from 100.64.0.2 port 1 ssh2: ED25519-CERT SHA256:a ID u:x (serial 1) CA ED25519 b",
            &format!("Invalid user {LINE} from 203.0.113.9"),
            &format!("Nov 22 17:00:01 beta sshd[12]: Invalid user {LINE} from 203.0.113.9"),
            &format!("Nov 22 17:00:01 beta sshd[12]: Invalid user sshd[12]: {LINE} from 203.0.113.9"),
            &LINE.replace("serial 140737488355329", "serial 0"),
            &LINE.replace("u:admin@home", "somebody"),
            &LINE.replace(" CA ", " "),
            "",
        ] {
            assert_eq!(login(line), None, "{line}");
        }
    }

    #[test]
    fn a_log_is_named_or_found() {
        assert_eq!("/var/log/x".parse(), Ok(SshLog::File("/var/log/x".into())));
        assert_eq!("auto".parse(), Ok(SshLog::Auto));
        assert!("auth.log".parse::<SshLog>().is_err());
    }

    /// Writes a login until it is said: tail may not look yet.
    async fn heard(path: &Path, said: &mut mpsc::Receiver<SshInput>, n: u64) {
        let line = LINE.replace("140737488355329", &n.to_string());
        loop {
            let mut file = std::fs::File::options().append(true).create(true).open(path).unwrap();
            std::io::Write::write_all(&mut file, &[b"\xff\xfe\n", line.as_bytes(), b"\n"].concat()).unwrap();
            let next = tokio::time::timeout(Duration::from_millis(200), said.recv()).await;
            if let Ok(Some(SshInput::Login { serial, .. })) = next
                && serial.number() == n
            {
                return;
            }
        }
    }

    #[tokio::test]
    async fn what_is_written_to_a_file_is_said_also_after_it_was_rotated() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("auth.log");
        std::fs::write(&path, format!("{LINE}\n")).unwrap();
        let (says, mut said) = mpsc::channel(8);
        let following = tokio::spawn(follow(SshLog::File(path.clone()), says));
        heard(&path, &mut said, 7).await;
        std::fs::rename(&path, place.path().join("auth.log.1")).unwrap();
        heard(&path, &mut said, 8).await;
        following.abort();
    }
}
