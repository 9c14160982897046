//! What a person does with `warren` on a machine of her own, and what an operator looks at afterwards.
//!
//! ```text
//!   alpha (olga's) ── r-alpha ── inet ── server (apid on PostgreSQL)
//! ```

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::rc::Rc;
use std::time::SystemTime;

use data_encoding::BASE32_NOPAD;
use lab::{Mesh, Postgres, Process, SERVER_URL, SOON, World, sshd, until, wait_for};
use serde_json::Value;
use totp_rs::{Builder, Secret};

const PORT: u16 = 5432;
const PASSWORD: &str = "violet harbour seven lanterns";
/// `warren` found something that is not as it should be.
const DEGRADED: i32 = 7;
const REFUSED: i32 = 3;

/// The database ends last.
struct Served {
    mesh: Mesh,
    postgres: Postgres,
    url: String,
}

fn served() -> Served {
    let world = World::new(&["alpha"]);
    let postgres = world.shared_postgres(PORT);
    let url = postgres.shared_url();
    let mesh = Mesh::in_world(world, &["--database", &url]);
    mesh.server_is_ready(SOON);
    Served { mesh, postgres, url }
}

/// Makes a person who is logged in on alpha.
fn olga(mesh: &Mesh) {
    let file = mesh.file("server", "lib/password");
    fs::write(&file, PASSWORD).expect("written");
    let file = file.display().to_string();
    let create = ["warren", "user", "create", "olga", "--role", "operator", "--password-file", &file];
    mesh.on("server").ok(&create);
    sshd::log_in(mesh, "alpha", "olga", PASSWORD);
}

/// A command at a terminal of alpha's, where somebody types.
struct Terminal {
    program: Rc<Process>,
    keys: PathBuf,
    /// The file that says which terminal it is.
    tty: PathBuf,
}

impl Terminal {
    fn start(mesh: &Mesh, name: &str, command: &str) -> Self {
        let home = sshd::home(mesh, "alpha");
        let (keys, tty) = (home.join(format!("{name}.keys")), home.join(format!("{name}.tty")));
        let file = home.join(name);
        fs::write(&keys, "").expect("written");
        fs::write(&file, format!("tty >{}\n{command}\necho it ended with $?\n", tty.display()))
            .expect("written");
        // What is typed is read from a file that grows.
        let script = format!(
            "HOME={} exec socat \"SYSTEM:tail --pid=$$ -s 0.05 -f {}!!STDOUT\" 'EXEC:bash {},pty,setsid,ctty'",
            home.display(),
            keys.display(),
            file.display()
        );
        Self { program: mesh.plain(name, "alpha", &["bash", "-c", &script]), keys, tty }
    }

    /// Waits for a question whose answer is not shown, and answers it as soon as nothing is.
    fn answer_hidden(&self, question: &str, line: &str) {
        wait_for("a terminal that shows nothing", SOON, || {
            let tty = fs::read_to_string(&self.tty).unwrap_or_default();
            let shown = Command::new("stty").args(["-a", "-F", tty.trim()]).output();
            shown.is_ok_and(|shown| String::from_utf8_lossy(&shown.stdout).contains("-echo "))
        });
        self.answer(question, line);
    }

    /// Waits for a question and answers it.
    fn answer(&self, question: &str, line: &str) {
        wait_for(question, SOON, || self.program.output().contains(question));
        let mut keys = OpenOptions::new().append(true).open(&self.keys).expect("it is there");
        writeln!(keys, "{line}").expect("written");
    }

    /// What it printed until it ended by itself.
    fn ends(self) -> String {
        let ended = until(SOON, || self.program.ended());
        let printed = self.program.output();
        assert!(ended.is_some(), "it goes on:\n{printed}");
        let said = printed.trim_end().strip_suffix("it ended with 0");
        said.unwrap_or_else(|| panic!("it failed:\n{printed}")).to_owned()
    }
}

/// What an authenticator shows.
fn code(secret: &str) -> String {
    let secret: [u8; 20] =
        BASE32_NOPAD.decode(secret.as_bytes()).expect("base32").try_into().expect("20 bytes");
    let totp = Builder::new().with_secret(Secret::new_stack(secret)).build().expect("a secret");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    totp.generate(now.as_secs()).to_string()
}

#[test]
fn a_person_with_a_second_factor_is_asked_for_it_at_the_terminal() {
    let Served { mesh, .. } = &served();
    olga(mesh);
    let mfa = Terminal::start(mesh, "mfa", "warren user mfa on");
    let typed = "or type it in: ";
    wait_for("a secret", SOON, || mfa.program.output().contains("the six digits"));
    let printed = mfa.program.output();
    assert!(printed.contains('█'), "a code to be scanned:\n{printed}");
    let secret = printed.split_once(typed).and_then(|(_, rest)| rest.split_whitespace().next());
    mfa.answer("the six digits", &code(secret.expect("it is printed")));
    let printed = mfa.ends();
    let recovery = printed.trim_end().lines().next_back().map(str::trim).expect("codes for paper").to_owned();

    let print = sshd::fingerprint(mesh);
    let login = format!("warren login {SERVER_URL} --user olga --fingerprint {print}");
    let terminal = Terminal::start(mesh, "login", &login);
    terminal.answer_hidden("password: ", PASSWORD);
    terminal.answer("or a recovery code: ", &recovery);
    let printed = terminal.ends();
    assert!(printed.contains("as olga until"), "{printed}");
    assert!(!printed.contains(PASSWORD), "nobody looks over her shoulder:\n{printed}");
    sshd::person(mesh, "alpha", &["warren", "device", "list"]).ok();

    // Where nobody can be asked, and with a code that was used.
    let file = sshd::home(mesh, "alpha").join("password").display().to_string();
    let again = [&login.split(' ').collect::<Vec<_>>()[..], &["--password-file", &file]].concat();
    let refused = sshd::person(mesh, "alpha", &again);
    assert!(refused.code == REFUSED && refused.err.contains("second-factor-needed"), "{}", refused.tell());
    let refused = sshd::person(mesh, "alpha", &[&again[..], &["--code", &recovery]].concat());
    assert!(refused.code == REFUSED && refused.err.contains("second-factor"), "{}", refused.tell());
}

#[test]
fn an_api_token_does_what_it_may_and_the_audit_log_shows_it_as_it_comes() {
    let Served { mesh, postgres, .. } = &served();
    olga(mesh);
    mesh.announce("apid", "the audit log is not as it was written");
    let tail = mesh.plain("tail", "server", &["warren", "audit", "tail", "--json"]);
    let token =
        sshd::person(mesh, "alpha", &["warren", "api-token", "create", "ci", "--role", "viewer", "-q"]);
    let token = format!("WARREN_API_TOKEN={}", token.ok().trim());
    let server = format!("WARREN_SERVER={SERVER_URL}");
    let with_token =
        |args: &[&str]| mesh.on("alpha").run(&[&["env", &token, &server, "warren"], args].concat());
    with_token(&["dns", "list"]).ok();
    let refused = with_token(&["dns", "add", "x", "A", "192.0.2.1"]);
    assert!(refused.code == REFUSED && refused.err.contains("forbidden"), "{}", refused.tell());
    let tells = |action: &str| tail.output().lines().any(|line| line.contains(&format!("\"{action}\"")));
    wait_for("it is told", SOON, || tells("api-token.create"));

    let server = mesh.on("server");
    let exported = server.ok(&["warren", "audit", "export"]);
    let entries: Vec<Value> =
        exported.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect();
    assert!(entries.iter().any(|entry| entry["action"] == "user.login"), "{exported}");
    assert_eq!(server.run(&["warren", "audit", "verify"]).code, 0);
    postgres.sql("UPDATE audit SET detail = 'nothing' WHERE action = 'user.create'");
    let verified = server.run(&["warren", "audit", "verify"]);
    assert_eq!(verified.code, DEGRADED, "{}", verified.tell());
}

#[test]
fn a_bundle_for_support_is_a_file_that_is_written_once() {
    let Served { mesh, .. } = &served();
    let bundle = mesh.file("server", "bundle.tar").display().to_string();
    let make = ["warren", "server", "support-bundle", "-o", &bundle];
    mesh.on("server").ok(&make);
    let files = mesh.on("server").ok(&["tar", "-tf", &bundle]);
    for part in ["settings", "metrics", "audit", "log"] {
        assert!(files.contains(part), "no {part}:\n{files}");
    }
    let again = mesh.on("server").run(&make);
    assert!(again.code != 0 && again.err.contains("bundle.tar"), "{}", again.tell());
}

#[test]
fn a_server_whose_migrations_wait_says_so_and_a_rehearsal_changes_nothing() {
    let Served { mesh, postgres, url } = &served();
    // Whoever locks is thrown out.
    mesh.announce("apid", "postgres::notice");
    let rehearse = ["warren-apid", "--database", url, "--allow-root", "migrate", "--check"];
    let rehearsed = mesh.on("server").run(&rehearse);
    assert!(rehearsed.code == 0 && rehearsed.err.contains("nothing of them stayed"), "{}", rehearsed.tell());
    assert_eq!(mesh.on("server").run(&["curl", "-sf", "http://127.0.0.1:8080/readyz"]).code, 0);

    mesh.apid.stop();
    let lock = "BEGIN; LOCK TABLE migrations IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(600)";
    let _holder = mesh.plain("lock", "server", &["psql", url, "-qc", lock]);
    let held = "FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND database IS NOT NULL";
    wait_for("the lock is held", SOON, || postgres.sql(&format!("SELECT count(*) {held}")) == "1");
    let _apid = mesh.daemon("server", "apid", &["--database", url]);
    let asks = ["curl", "-s", "-w", " %{http_code}", "http://127.0.0.1:8080/readyz"];
    let pending = |done: &lab::Done| done.out.contains("migrations: pending") && done.out.ends_with(" 503");
    mesh.on("server").wait("it says what it waits for", SOON, &asks, pending);
    postgres.sql(&format!("SELECT pg_terminate_backend(pid) {held}"));
    mesh.on("server").wait("it is ready", SOON, &asks, |done| done.out.ends_with(" 200"));
}
