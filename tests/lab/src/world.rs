//! The namespaces of one story and the processes in them: made by `scripts/lib/topology`, gone when it goes out of scope.

use std::cell::RefCell;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::rc::Rc;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::logs::{Announced, Log};
use crate::node::Node;
use crate::places::{programs, tree};
use crate::postgres::Postgres;
use crate::process::Process;
use crate::small_disk::SmallDisk;

static WORLDS: AtomicU32 = AtomicU32::new(1);
static SWEPT: Once = Once::new();

/// A server and devices behind routers; see `scripts/lib/topology` for the map.
#[derive(Debug)]
pub struct World {
    prefix: String,
    directory: PathBuf,
    processes: RefCell<Vec<Rc<Process>>>,
    postgres: RefCell<Option<Postgres>>,
    announced: RefCell<Vec<Announced>>,
}

impl World {
    /// A world with these devices, each behind a router of its own; `a@x` puts device `a` behind router `r-x`. `+b` is one
    /// more server.
    ///
    /// # Panics
    /// If this is not root: namespaces are root's.
    pub fn new(devices: &[&str]) -> Self {
        let user = Command::new("id").arg("-u").output().expect("id is on every machine").stdout;
        assert!(
            user.starts_with(b"0\n"),
            "the lab makes network namespaces: run it as root, or leave it out with `--exclude lab`"
        );
        SWEPT.call_once(|| drop(topology(&["sweep"])));
        let number = WORLDS.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("w{}n{number}", std::process::id());
        let programs = programs();
        let mut args = vec!["up", &prefix, programs.to_str().expect("a target directory is text")];
        args.extend(devices);
        let directory = PathBuf::from(topology(&args).trim());
        std::fs::create_dir(directory.join("logs")).expect("the topology has made the folder");
        Self {
            prefix,
            directory,
            processes: RefCell::default(),
            postgres: RefCell::default(),
            announced: RefCell::default(),
        }
    }

    /// The names of its namespaces begin with this and a hyphen.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A machine: `server`, or a device by its name.
    pub fn on(&self, name: &str) -> Node {
        let launcher = vec![self.directory.join(name).to_string_lossy().into_owned()];
        Node::new(name, launcher)
    }

    /// A namespace that is no node: a router (`r-alpha`), or `inet`.
    pub fn beside(&self, name: &str) -> Node {
        let launcher = ["ip", "netns", "exec", &format!("{}-{name}", self.prefix)].map(str::to_owned);
        Node::new(name, launcher.into())
    }

    /// A file or folder that belongs to a node: `run`, `lib`, `resolv.conf`.
    pub fn file(&self, node: &str, path: &str) -> PathBuf {
        self.directory.join("nodes").join(node).join(path)
    }

    /// Gives a server a disk of its own for what it keeps, of so many MiB. Before its programs start.
    pub fn small_disk(&self, server: &str, mebibytes: u32) -> SmallDisk {
        topology(&["small", &self.prefix, server, &format!("{mebibytes}m")]);
        SmallDisk(self.file(server, "lib/filling"))
    }

    /// Every machine finds a name at this address too.
    pub fn know(&self, name: &str, address: &str) {
        let hosts = std::fs::OpenOptions::new().append(true).open(self.directory.join("hosts"));
        let told = hosts.and_then(|mut file| writeln!(file, "{address} {name}"));
        told.expect("the world's folder can be written");
    }

    /// Starts one of our daemons (`apid` and `netd` on `server`, `agent` elsewhere).
    pub fn daemon(&self, node: &str, program: &str, flags: &[&str]) -> Rc<Process> {
        let mut command = Command::new(tree().join("scripts/lib/daemon"));
        command.arg(&self.directory).args([node, program, "--log-format", "json"]).args(flags);
        self.start(&format!("{program}-{node}"), command)
    }

    /// Starts some other program on a node.
    pub fn plain(&self, name: &str, node: &str, args: &[&str]) -> Rc<Process> {
        self.start(name, self.on(node).command(args))
    }

    /// Starts some program on a router, or another namespace that is no node.
    pub fn plain_beside(&self, name: &str, router: &str, args: &[&str]) -> Rc<Process> {
        self.start(name, self.beside(router).command(args))
    }

    /// Starts a PostgreSQL of the world's own and gives its URL as the server sees it.
    pub fn postgres(&self) -> String {
        *self.postgres.borrow_mut() = Some(Postgres::start(self.beside("server")));
        Postgres::url()
    }

    /// Starts a PostgreSQL that every server of the world reaches.
    pub fn shared_postgres(&self, port: u16) -> Postgres {
        Postgres::shared(self.beside("inet"), port)
    }

    /// The same on a disk of so many MiB.
    pub fn small_postgres(&self, port: u16, mebibytes: u32) -> Postgres {
        Postgres::small(self.beside("inet"), port, mebibytes)
    }

    fn start(&self, name: &str, command: Command) -> Rc<Process> {
        let number = self.processes.borrow().len();
        let path = self.directory.join(format!("logs/{number:02}-{name}"));
        let process = Rc::new(Process::start(command, Log { program: name.into(), path }));
        self.processes.borrow_mut().push(Rc::clone(&process));
        process
    }

    /// Says that a line of level WARN or ERROR is to be expected of a program (`agent-alpha`, or `agent` for all).
    ///
    /// # Panics
    /// If the part is empty, which every line contains.
    pub fn announce(&self, program: &str, part_of_line: &str) {
        assert!(!part_of_line.is_empty(), "say which line {program} will write");
        self.announced.borrow_mut().push(Announced { program: program.into(), part: part_of_line.into() });
    }

    fn worries(&self) -> Vec<String> {
        let announced = self.announced.borrow();
        let processes = self.processes.borrow();
        let ours = processes.iter().filter(|process| process.log().is_ours());
        ours.flat_map(|process| process.log().worries(&announced)).collect()
    }

    fn show_logs(&self) {
        let mut err = std::io::stderr().lock();
        for process in self.processes.borrow().iter() {
            // Nobody is left to tell if standard error is closed.
            let _ = write!(err, "{}", process.log().tail());
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A story that has failed already has its own worry to tell.
        let failed = std::thread::panicking();
        let worries = if failed { Vec::new() } else { self.worries() };
        if failed || !worries.is_empty() {
            self.show_logs();
        }
        for process in self.processes.borrow().iter() {
            process.kill();
        }
        // PostgreSQL removes its own folder if it may end by itself.
        self.postgres.take();
        run(&["down", &self.prefix]);
        assert!(worries.is_empty(), "logged, and not announced by the story:\n{}", worries.join("\n"));
    }
}

fn topology(args: &[&str]) -> String {
    let output = run(args);
    assert!(output.status.success(), "topology {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn run(args: &[&str]) -> std::process::Output {
    let script = tree().join("scripts/lib/topology");
    Command::new(&script).args(args).output().unwrap_or_else(|e| panic!("{}: {e}", script.display()))
}
