//! `warren-netd`, the privileged network daemon: keeps the hub's interface, firewall and names as its snapshots say.
//!
//! Has two capabilities and no more; knows no database, no certificate and no TCP listener but the one for names and,
//! if asked for, one on loopback for metrics.

mod config;
mod owned;

use std::process::ExitCode;

use anyhow::Context as _;
use engine::{Guard, NodeConfig, Role};
use host::capabilities;
use host::drive::{Commands, Handle, Moment, NamesSetup, Server, Setup, channel};
use host::files::StateDirectory;
use host::metrics::{Node, Nodes};
use host::resolver::ResolverConfig;
use host::{HostConfig, InterfaceName, keyfile};
use model::PrivateKey;
use model::wire::Remark;
use shell::process::Process;
use shell::service::{self, Watchdog, Wish, Wishes};
use tokio::net::TcpListener;

use crate::config::Settings;

/// Where settings are looked for first.
const CONFIG_FILE: &str = "/etc/warren/netd.toml";
/// Where `wg` looks for the socket of a userspace device.
const UAPI_DIRECTORY: &str = "/var/run/wireguard";

fn main() -> ExitCode {
    let settings: Settings = match service::begin(CONFIG_FILE) {
        Ok(settings) => settings,
        Err(exit) => return exit,
    };
    for path in [&shell::config::file_in_use(CONFIG_FILE), &settings.state_dir] {
        if let Err(error) = owned::check(path) {
            return service::refuse(&error.to_string());
        }
    }
    let missing = capabilities::missing();
    if !missing.is_empty() {
        let lines: Vec<String> = missing.iter().map(ToString::to_string).collect();
        return service::refuse(&lines.join("\nerror: "));
    }
    // Before the first thread: threads inherit what their maker has.
    if let Err(error) = capabilities::give_up_all_but_needed() {
        return service::refuse(&host::chain(&error));
    }
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let Some(apid) = shell::users::user(&settings.apid_user) else {
        let user = &settings.apid_user;
        return service::refuse(&format!(
            "there is no user {user}: make it, or say who runs warren-apid with --apid-user"
        ));
    };
    service::run(keep(settings, apid))
}

async fn keep(settings: Settings, apid: u32) -> anyhow::Result<()> {
    let wishes = Wishes::listen().context("signals cannot be caught")?;
    if let Err(error) = capabilities::raise_open_files() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let state = StateDirectory::open(&settings.state_dir)?;
    let key = PrivateKey::from_bytes(*keyfile::load_or_create(&state.file("wg.key"))?);
    tracing::info!(
        interface = %settings.interface,
        listen_port = settings.listen_port,
        key = %key.public(),
        socket = %settings.socket.display(),
        "keeping the hub"
    );
    let setup = setup(&settings, apid, key, &state)?;
    let (handle, commands) = channel();
    let metrics = shell::metrics::listen(&settings.metrics).await.context("metrics cannot be served")?;
    let scraped = metrics.map(|listener| tokio::spawn(scraped(listener, settings.interface, handle.clone())));
    let obeying = tokio::spawn(obey(wishes, handle));
    let ended = run(setup, commands).await;
    obeying.abort();
    if let Some(scraped) = scraped {
        scraped.abort();
    }
    ended?;
    tracing::info!("stopped; what the kernel keeps stays");
    Ok(())
}

async fn run(setup: Setup, commands: Commands) -> Result<(), host::drive::DriveError> {
    let mut watchdog = Watchdog::new();
    host::drive(setup, commands, |moment| match moment {
        Moment::Ready => service::ready("the host was read"),
        Moment::Alive => watchdog.alive(),
        Moment::Status(line) => service::status(&line),
        Moment::Stopping => service::stopping(),
    })
    .await
    .map(drop)
}

/// Shows figures to whoever scrapes them.
async fn scraped(listener: TcpListener, interface: InterfaceName, handle: Handle) {
    let process = Process::start("warren-netd", env!("CARGO_PKG_VERSION"));
    let figures = move || {
        let (interface, handle) = (interface.clone(), handle.clone());
        let process = process.clone();
        async move {
            let nodes = Node::look(&interface, &handle).await.into_iter().collect();
            shell::metrics::text(&process, Nodes(nodes))
        }
    };
    shell::metrics::serve(listener, figures).await;
}

/// Ends when the operator wants the node to end.
async fn obey(mut wishes: Wishes, handle: Handle) {
    while wishes.next().await == Wish::Reload {
        tracing::info!(
            "nothing can be reloaded: restart to change settings; kernel WireGuard loses no packet meanwhile"
        );
    }
    handle.stop();
}

/// For a backup: who keeps the file reads it there, and nobody on the way.
fn sealed_for(key: &PrivateKey, recipient: &str) -> Option<Vec<u8>> {
    let recipient: backup::Recipient = recipient.parse().ok()?;
    let file = keyfile::to_file(&key.expose());
    tracing::info!(%recipient, "the WireGuard key was sealed for a backup");
    Some(backup::seal_bytes(&recipient, file.as_bytes()))
}

fn setup(settings: &Settings, apid: u32, key: PrivateKey, state: &StateDirectory) -> anyhow::Result<Setup> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).context("the kernel has no random bytes")?;
    let guard = Guard { blocks: settings.mesh_blocks.clone(), suffixes: settings.zone_suffixes.clone() };
    Ok(Setup {
        node: NodeConfig {
            role: Role::Hub { listen_port: settings.listen_port, guard },
            wireguard: key.clone(),
            software: Remark::new(concat!("warren-netd ", env!("CARGO_PKG_VERSION"))),
        },
        host: HostConfig {
            interface: settings.interface.clone(),
            key,
            mode: settings.mode,
            forwards: true,
            resolver: ResolverConfig::off(),
            state: state.path().into(),
            uapi_directory: Some(UAPI_DIRECTORY.into()),
            stack: None,
            tuning: settings.tuning(),
        },
        ledger: state.file("ledger"),
        server: Some(Server::Unix { path: settings.socket.clone(), owner: Some(apid) }),
        names_port: settings.names.dns_port,
        // A hub is where its endpoint says.
        maps_ports: false,
        birthdays: false,
        sshd: host::sshd::SshdSetup::none(),
        next_key: None,
        seals: Some(sealed_for),
        names: NamesSetup {
            options: settings.names.options(),
            forward: settings.forward()?,
            sees: settings.dns_sees.clone(),
        },
        restart: None,
        seed,
    })
}
