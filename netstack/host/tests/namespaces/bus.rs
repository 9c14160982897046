//! A system bus of one's own, with a systemd-resolved and a NetworkManager that only remember what they are told.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use futures_util::StreamExt as _;
use tokio::sync::oneshot;
use zbus::message::{Header, Type};
use zbus::{Connection, Message, MessageStream, ObjectPath, as_variant};

use crate::alone::run;

const CONFIGURATION: &str = "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" \
    \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\"><busconfig><type>system</type>\
    <listen>unix:path=/run/dbus/system_bus_socket</listen><policy context=\"default\"><allow send_destination=\"*\"/>\
    <allow eavesdrop=\"true\"/>\
    <allow own=\"*\"/><allow user=\"*\"/></policy></busconfig>";
const LINKS: &str = "/org/freedesktop/resolve1/link/_3";
const STUB: &str =
    "# This is a fake of systemd-resolved's.\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n";

/// `dbus-daemon`, until dropped.
pub struct Bus(Child);

impl Bus {
    /// Starts it in a `/run` of its own.
    pub fn start(directory: &Path) -> Self {
        run(
            "mount -t tmpfs tmpfs /run && mkdir -p /run/dbus /run/wireguard /run/netns /run/systemd/resolve/netif",
        );
        let configuration = directory.join("bus.conf");
        fs::write(&configuration, CONFIGURATION).unwrap();
        let mut command = Command::new("dbus-daemon");
        command
            .arg(format!("--config-file={}", configuration.display()))
            .args(["--nofork", "--print-address"]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("dbus-daemon is there");
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert!(ready.contains("system_bus_socket"), "{ready}");
        Self(child)
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What it was told for one interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told {
    pub servers: Vec<(i32, Vec<u8>, u16, String)>,
    pub domains: Vec<(String, bool)>,
    pub default_route: Option<bool>,
    /// By the last word of the method: `DNSSEC`, `LLMNR`, …
    pub modes: BTreeMap<String, String>,
}

/// A systemd-resolved, until it is stopped.
pub struct Resolved {
    told: Arc<Mutex<BTreeMap<i32, Told>>>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// How new it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// As today.
    New,
    /// systemd 239: no `DNSEx`, no `DefaultRoute`.
    Old,
}

impl Resolved {
    /// Starts it; it has forgotten everything.
    pub fn start(age: Age) -> Self {
        fs::write("/run/systemd/resolve/stub-resolv.conf", STUB).unwrap();
        let told = Arc::new(Mutex::new(BTreeMap::new()));
        let state = Arc::clone(&told);
        let (stop, thread) = serve("org.freedesktop.resolve1", move |message| answer(age, &state, message));
        Self { told, stop, thread }
    }

    /// What it was told of an interface.
    pub fn told(&self, interface: &str) -> Option<Told> {
        self.told.lock().unwrap().get(&index(interface)?).cloned()
    }

    /// Somebody else tells it something.
    pub fn meddle(&self, interface: &str, change: impl FnOnce(&mut Told)) {
        let index = index(interface).unwrap();
        change(self.told.lock().unwrap().entry(index).or_default());
        note(index);
    }

    /// Ends it, as `systemctl stop` does, with all that it was told.
    pub fn stop(self) {
        let _ = self.stop.send(());
        self.thread.join().unwrap();
        run("rm -f /run/systemd/resolve/netif/*");
    }
}

/// Makes a file the link that systemd-resolved wants it to be.
pub fn link_to_stub(file: &Path) {
    let _ = fs::remove_file(file);
    symlink("/run/systemd/resolve/stub-resolv.conf", file).unwrap();
}

/// A NetworkManager that writes the file itself, until the sender is dropped.
pub fn network_manager() -> oneshot::Sender<()> {
    let answer = |message: &Message| {
        let body = message.body();
        let Ok((_, property)) = body.deserialize::<(String, String)>() else { return Reply::Unknown };
        match property.as_str() {
            "Version" => Reply::Text("1.42.4".into()),
            "Mode" => Reply::Text("default".into()),
            "RcManager" => Reply::Text("symlink".into()),
            _ => Reply::Unknown,
        }
    };
    serve("org.freedesktop.NetworkManager", answer).0
}

enum Reply {
    Done,
    Path(String),
    Text(String),
    Servers(Vec<(i32, Vec<u8>, u16, String)>),
    OldServers(Vec<(i32, Vec<u8>)>),
    AllServers(Vec<(i32, i32, Vec<u8>)>),
    Domains(Vec<(String, bool)>),
    AllDomains(Vec<(i32, String, bool)>),
    Flag(bool),
    NoSuchLink,
    Unknown,
}

/// Has a name on the bus, on a thread of its own, and listens where systemd-resolved does. Returns when it has the name.
fn serve(
    name: &'static str,
    answer: impl Fn(&Message) -> Reply + Send + 'static,
) -> (oneshot::Sender<()>, JoinHandle<()>) {
    let (stop, mut stopped) = oneshot::channel();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let work = async move {
        let socket = "/run/systemd/resolve/io.systemd.Resolve";
        let _ = fs::remove_file(socket);
        let _listening = name.ends_with("resolve1").then(|| UnixListener::bind(socket).unwrap());
        let connection = zbus::connection::Builder::system().build().await.unwrap();
        let mut messages = MessageStream::from(&connection);
        connection.request_name(name).await.unwrap();
        ready.send(()).unwrap();
        loop {
            tokio::select! {
                // Also when whoever could stop it is gone.
                _ = &mut stopped => return,
                message = messages.next() => {
                    let Some(Ok(message)) = message else { return };
                    if message.message_type() == Type::MethodCall {
                        reply(&connection, &message.header(), answer(&message)).await;
                    }
                }
            }
        }
    };
    let thread = std::thread::spawn(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
    });
    is_ready.recv().unwrap();
    (stop, thread)
}

async fn reply(connection: &Connection, call: &Header<'_>, reply: Reply) {
    let error = |name: &'static str| connection.reply_error(call, name, &"no");
    let sent = match reply {
        Reply::Done => connection.reply(call, &()).await,
        Reply::Path(path) => connection.reply(call, &ObjectPath::try_from(path).unwrap()).await,
        Reply::Text(value) => connection.reply(call, &as_variant::Serialize(&value)).await,
        Reply::Servers(value) => connection.reply(call, &as_variant::Serialize(&value)).await,
        Reply::OldServers(value) => connection.reply(call, &as_variant::Serialize(&value)).await,
        Reply::AllServers(value) => connection.reply(call, &as_variant::Serialize(&value)).await,
        Reply::Domains(value) => connection.reply(call, &as_variant::Serialize(&value)).await,
        Reply::AllDomains(value) => connection.reply(call, &as_variant::Serialize(&value)).await,
        Reply::Flag(value) => connection.reply(call, &as_variant::Serialize(&value)).await,
        Reply::NoSuchLink => error("org.freedesktop.resolve1.NoSuchLink").await,
        Reply::Unknown => error("org.freedesktop.DBus.Error.UnknownMethod").await,
    };
    sent.unwrap();
}

fn answer(age: Age, told: &Mutex<BTreeMap<i32, Told>>, message: &Message) -> Reply {
    let header = message.header();
    let member = header.member().unwrap().to_string();
    let body = message.body();
    let mut told = told.lock().unwrap();
    if member == "Get" {
        let (_, property): (String, String) = body.deserialize().unwrap();
        let path = header.path().unwrap().to_string();
        return match path.strip_prefix(LINKS).map(|index| index.parse().unwrap()) {
            Some(index) => of_link(age, told.entry(index).or_default(), &property),
            None => of_all(&told, &property),
        };
    }
    let index = match member.as_str() {
        "GetLink" | "RevertLink" => body.deserialize::<i32>().unwrap(),
        _ => body.deserialize_ignore_signature::<i32>().unwrap(),
    };
    if interface(index).is_none() {
        return Reply::NoSuchLink;
    }
    if member == "GetLink" {
        return Reply::Path(format!("{LINKS}{index}"));
    }
    let link = told.entry(index).or_default();
    match member.as_str() {
        "SetLinkDNSEx" if age == Age::New => link.servers = body.deserialize::<(i32, _)>().unwrap().1,
        "SetLinkDNS" => {
            let (_, servers): (i32, Vec<(i32, Vec<u8>)>) = body.deserialize().unwrap();
            link.servers = servers.into_iter().map(|(f, address)| (f, address, 0, String::new())).collect();
        }
        "SetLinkDomains" => link.domains = body.deserialize::<(i32, _)>().unwrap().1,
        "SetLinkDefaultRoute" if age == Age::New => {
            link.default_route = Some(body.deserialize::<(i32, bool)>().unwrap().1);
        }
        "SetLinkDNSSEC" | "SetLinkDNSOverTLS" | "SetLinkLLMNR" | "SetLinkMulticastDNS" if age == Age::New => {
            let (_, mode): (i32, String) = body.deserialize().unwrap();
            link.modes.insert(member["SetLink".len()..].to_owned(), mode);
        }
        "RevertLink" => drop(told.remove(&index)),
        _ => return Reply::Unknown,
    }
    note(index);
    Reply::Done
}

fn of_link(age: Age, link: &Told, property: &str) -> Reply {
    match property {
        "DNSEx" if age == Age::New => Reply::Servers(link.servers.clone()),
        "DNS" => Reply::OldServers(link.servers.iter().map(|(f, a, ..)| (*f, a.clone())).collect()),
        "Domains" => Reply::Domains(link.domains.clone()),
        "DefaultRoute" if age == Age::New => {
            Reply::Flag(link.default_route.unwrap_or(link.domains.is_empty()))
        }
        _ => Reply::Unknown,
    }
}

fn of_all(told: &BTreeMap<i32, Told>, property: &str) -> Reply {
    match property {
        "ResolvConfMode" => Reply::Text("stub".into()),
        "DNSStubListener" => Reply::Text("yes".into()),
        "DNS" => Reply::AllServers(
            told.iter()
                .flat_map(|(i, link)| link.servers.iter().map(|(f, a, ..)| (*i, *f, a.clone())))
                .collect(),
        ),
        "Domains" => Reply::AllDomains(
            told.iter().flat_map(|(i, link)| link.domains.iter().map(|(d, r)| (*i, d.clone(), *r))).collect(),
        ),
        _ => Reply::Unknown,
    }
}

/// It keeps what it is told in a file for each interface.
fn note(index: i32) {
    let file = format!("/run/systemd/resolve/netif/{index}");
    let round = fs::read_to_string(&file).unwrap_or_default();
    fs::write(file, round + "x").unwrap();
}

fn interface(index: i32) -> Option<String> {
    let name = nix::net::if_::if_indextoname(u32::try_from(index).ok()?).ok()?;
    name.into_string().ok()
}

fn index(interface: &str) -> Option<i32> {
    i32::try_from(nix::net::if_::if_nametoindex(interface).ok()?).ok()
}
