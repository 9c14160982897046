//! `warren backup`: makes one over the API, and has `warren-apid` verify and restore it offline.

use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal as _, Read as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use backup::{Key, Recipient};
use model::api::Problem;
use model::api::backup::{BackupContent, BackupReport, HUB_KEY_HEADER, NewBackup};
use serde::Serialize;

use super::confirm;
use crate::admin::Admin;
use crate::args::{Args, Backup, Opened, Part};
use crate::failure::{Exit, Failure};
use crate::output::Output;

/// In place of a file with it.
const PASSPHRASE: &str = "WARREN_BACKUP_PASSPHRASE";
/// The program that reads databases.
const APID: &str = "warren-apid";
/// A passphrase is all that keeps whoever finds the file from being the server.
const PASSPHRASE_LENGTH_MIN: usize = 16;

/// Runs the command.
pub async fn run(args: &Args, command: &Backup, output: &Output) -> Result<Exit, Failure> {
    match command {
        Backup::Create { to, recipient, passphrase_file, only } => {
            let seal = Seal::of(recipient.clone(), passphrase_file.as_deref())?;
            create(&Admin::new(args)?, to, &seal, *only, output).await
        }
        Backup::Verify { file, opened } => {
            let mut apid = apid("verify", file, opened)?;
            offline(&mut apid, output)
        }
        Backup::Restore { file, opened, state_dir, netd_state_dir, database, force, yes } => {
            if *force {
                confirm("Restore over the server of this machine? What is there is moved aside.", *yes)?;
            }
            let mut apid = apid("restore", file, opened)?;
            let flags = [("--state-dir", state_dir), ("--netd-state-dir", netd_state_dir)];
            for (flag, value) in flags.into_iter().filter_map(|(flag, value)| Some((flag, value.as_ref()?))) {
                apid.arg(flag).arg(value);
            }
            // Not on the command line, where everybody would read a password in it.
            apid.envs(database.iter().map(|url| ("WARREN_DATABASE_URL", url)));
            apid.args(force.then_some("--force"));
            offline(&mut apid, output)
        }
        Backup::Key { file } => make_key(file, output),
    }
}

/// For whom a file is sealed.
enum Seal {
    Recipient(Recipient),
    Passphrase(String),
}

impl Seal {
    /// What opens it again, as flags of `warren backup verify`: a passphrase is asked for.
    const fn opened_with(&self) -> &'static str {
        match self {
            Self::Recipient(_) => "--key FILE ",
            Self::Passphrase(_) => "",
        }
    }

    fn of(recipient: Option<Recipient>, passphrase_file: Option<&Path>) -> Result<Self, Failure> {
        if let Some(recipient) = recipient {
            return Ok(Self::Recipient(recipient));
        }
        let passphrase = match told(passphrase_file)? {
            Some(passphrase) => passphrase,
            None => asked_twice()?,
        };
        if passphrase.chars().count() < PASSPHRASE_LENGTH_MIN {
            return Err(Failure::usage(
                format!("the passphrase is shorter than {PASSPHRASE_LENGTH_MIN} characters"),
                "use several words, or --recipient with the key of `warren backup key`",
            ));
        }
        Ok(Self::Passphrase(passphrase))
    }
}

/// What a file or the environment says.
fn told(file: Option<&Path>) -> Result<Option<String>, Failure> {
    let text = match file {
        Some(path) => Some(fs::read_to_string(path).map_err(|e| unusable(path, &e))?),
        None => std::env::var(PASSPHRASE).ok(),
    };
    Ok(text.map(|text| text.trim_end_matches(['\r', '\n']).to_owned()))
}

fn asked(question: &str) -> Result<String, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::usage(
            "neither a key nor a passphrase was given",
            format!("--passphrase-file FILE, {PASSPHRASE}, or a key: `warren backup key --help`"),
        ));
    }
    rpassword::prompt_password(question).map_err(|e| Failure::usage(e.to_string(), "--passphrase-file FILE"))
}

fn asked_twice() -> Result<String, Failure> {
    let first = asked("Passphrase of the backup: ")?;
    if asked("Again: ")? == first {
        Ok(first)
    } else {
        Err(Failure::usage("the passphrases differ", "type the same one twice"))
    }
}

/// A backup that was made.
#[derive(Serialize)]
struct Created {
    file: String,
    bytes: u64,
    sealed_for: String,
    has_hub_key: bool,
}

async fn create(
    admin: &Admin,
    to: &Path,
    seal: &Seal,
    only: Option<Part>,
    output: &Output,
) -> Result<Exit, Failure> {
    let half = beside(to);
    let made = async {
        let open = File::options().write(true).create(true).truncate(true).mode(0o600).open(&half);
        let file = BufWriter::new(open.map_err(|e| unusable(&half, &e))?);
        let content = only.map_or(BackupContent::Everything, |Part::SshCa| BackupContent::SshCa);
        let created = fetch(admin, seal, content, file, to).await?;
        fs::rename(&half, to).map_err(|e| unusable(to, &e))?;
        let directory = to.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        File::open(directory).and_then(|dir| dir.sync_all()).map_err(|e| unusable(directory, &e))?;
        Ok((created, content))
    };
    let (created, content) = match made.await {
        Ok(made) => made,
        Err(failure) => {
            // It may not be there.
            let _ = fs::remove_file(&half);
            return Err(failure);
        }
    };
    let complete = created.has_hub_key || content == BackupContent::SshCa;
    if output.json() {
        output.object(&created);
    } else {
        output.line(&created.file);
        output.say(format!(
            "Look whether it holds: warren backup verify {}{}",
            seal.opened_with(),
            created.file
        ));
    }
    if complete {
        return Ok(Exit::Done);
    }
    output.warning(
        "the hub's WireGuard key is not in it: warren-netd is not attached (systemctl status warren-netd)",
    );
    Ok(Exit::Degraded)
}

async fn fetch(
    admin: &Admin,
    seal: &Seal,
    content: BackupContent,
    file: BufWriter<File>,
    to: &Path,
) -> Result<Created, Failure> {
    // The server never learns the passphrase: it seals for a key made for this file, and that is sealed by it here.
    let key = Key::generate();
    let (recipient, mut out, sealed_for) = match seal {
        Seal::Recipient(recipient) => (recipient.clone(), Out::Plain(file), recipient.to_string()),
        Seal::Passphrase(passphrase) => {
            let locked = backup::lock(passphrase, &key, file).map_err(|e| unusable(to, &e))?;
            (key.recipient(), Out::Locked(Box::new(locked)), "passphrase".into())
        }
    };
    let wish = NewBackup { recipient: recipient.to_string(), content };
    let mut bytes = 0;
    let answer = admin.download("/api/v1/backup", &wish, |piece| {
        bytes += piece.len() as u64;
        out.write_all(piece)
    });
    let head = answer.await?;
    let has_hub_key = head.headers().get(HUB_KEY_HEADER).is_some_and(|value| value == "sealed");
    out.settle().map_err(|e| unusable(to, &e))?;
    Ok(Created { file: to.display().to_string(), bytes, sealed_for, has_hub_key })
}

/// The file on its way.
enum Out {
    Plain(BufWriter<File>),
    Locked(Box<backup::Sealing<BufWriter<File>>>),
}

impl Out {
    fn write_all(&mut self, piece: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(file) => file.write_all(piece),
            Self::Locked(locked) => locked.write_all(piece),
        }
    }

    /// Writes the end, to the disk.
    fn settle(self) -> io::Result<()> {
        let file = match self {
            Self::Plain(file) => file,
            Self::Locked(locked) => locked.finish()?,
        };
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".half");
    name.into()
}

fn unusable(path: &Path, error: &io::Error) -> Failure {
    Failure::usage(format!("{}: {error}", path.display()), "check the path, its permissions and the disk")
}

fn make_key(path: &Path, output: &Output) -> Result<Exit, Failure> {
    #[derive(Serialize)]
    struct Made {
        file: String,
        recipient: String,
    }
    let key = Key::generate();
    let open = File::options().write(true).create_new(true).mode(0o600).open(path);
    let written = open.and_then(|mut file| {
        file.write_all(key.to_file().as_bytes())?;
        file.sync_all()
    });
    written.map_err(|e| unusable(path, &e))?;
    let made = Made { file: path.display().to_string(), recipient: key.recipient().to_string() };
    if output.json() {
        output.object(&made);
    } else {
        output.line(&made.recipient);
    }
    Ok(Exit::Done)
}

/// The program beside this one, or the one that the shell finds.
fn apid(task: &str, file: &Path, opened: &Opened) -> Result<Command, Failure> {
    let beside =
        std::env::current_exe().ok().map(|own| own.with_file_name(APID)).filter(|path| path.exists());
    let mut apid = Command::new(beside.unwrap_or_else(|| APID.into()));
    apid.arg(task).arg(file).args(["--log-level", "warn"]);
    if let Some(path) = &opened.ca_passphrase_file {
        apid.arg("--ca-passphrase-file").arg(path);
    }
    if let Some(path) = &opened.key {
        apid.arg("--backup-key").arg(path);
        return Ok(apid);
    }
    let passphrase = match told(opened.passphrase_file.as_deref())? {
        Some(passphrase) => passphrase,
        None if !is_locked(file)? => {
            return Err(Failure::usage("it was made for a key", "open it with --key FILE"));
        }
        None => asked("Passphrase of the backup: ")?,
    };
    apid.env(PASSPHRASE, passphrase);
    Ok(apid)
}

/// Whether a passphrase opens it, as its first lines say (<https://age-encryption.org/v1>). A file that says neither is
/// left to who reads it.
fn is_locked(file: &Path) -> Result<bool, Failure> {
    let mut head = Vec::new();
    let read = File::open(file).and_then(|file| file.take(64).read_to_end(&mut head));
    read.map_err(|e| unusable(file, &e))?;
    Ok(!head.windows(9).any(|part| part == b"-> X25519"))
}

/// Runs it, and shows what it found.
fn offline(apid: &mut Command, output: &Output) -> Result<Exit, Failure> {
    let run = apid.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let run = run.map_err(|error| {
        Failure::new(
            Exit::Unreachable,
            "no-server-program",
            format!("{APID} cannot be run: {error}"),
            "a backup is verified and restored where the server's programs are: scripts/install server",
        )
    })?;
    if let Ok(report) = serde_json::from_slice::<BackupReport>(&run.stdout) {
        show(&report, output);
        return Ok(if report.well { Exit::Done } else { Exit::Degraded });
    }
    match serde_json::from_slice::<Problem>(&run.stdout) {
        Ok(problem) => Err(Failure::of_offline(problem)),
        Err(_) => Err(Failure::bug(format!("{APID} ended with {}", run.status))),
    }
}

fn show(report: &BackupReport, output: &Output) {
    if output.json() {
        return output.json_line(report);
    }
    let rows = |table: &str| report.rows.get(table).copied().unwrap_or_default();
    let mut facts = vec![
        ("made", format!("{} by {}", report.made_at, report.made_by)),
        ("server", report.server.clone()),
        ("database", format!("{}, schema {}, epoch {}", report.database, report.schema, report.epoch)),
        ("rows", format!("{} in {} tables", report.rows.values().sum::<u64>(), report.rows.len())),
        ("devices", rows("devices").to_string()),
        ("ssh keys", format!("{} open and sign", report.ssh_keys_opened)),
    ];
    if report.content == BackupContent::SshCa {
        facts.push(("content", "keys of SSH authorities and anchors alone".into()));
    } else {
        facts.push(("audit log", format!("{} entries, chained", report.audit_entries)));
        let key = report.hub_key.map_or_else(|| "not in it".into(), |key| key.to_string());
        facts.push(("hub key", key));
    }
    for anchor in &report.anchors {
        let opens = if anchor.opens { "opens" } else { "DOES NOT OPEN" };
        facts.push(("anchor", format!("{} {} ({opens})", anchor.tenant, anchor.fingerprint)));
    }
    facts.extend(report.restored_epoch.map(|epoch| ("restored", format!("epoch {epoch}"))));
    if report.content == BackupContent::SshCa && report.put_back > 0 {
        facts.push(("put back", format!("{} keys", report.put_back)));
    }
    facts.extend(report.moved_aside.iter().map(|path| ("before", path.clone())));
    facts.push(("took", format!("{}.{:03} s", report.took_millis / 1000, report.took_millis % 1000)));
    facts.extend(report.problems.iter().map(|problem| ("PROBLEM", problem.clone())));
    facts.extend(report.left_to_do.iter().map(|line| ("next", line.clone())));
    output.facts(&facts);
}
