//! `warren-agent`, on each device: keeps interface, routes and names as its snapshots say, with or without the server.
//!
//! Knows what a person may wish of a device; how a mesh works, the node inside knows.

mod anew;
mod config;
mod doctor;
mod echo;
mod lookup;
mod machine;
mod netcheck;
mod ping;
mod profile;
mod profiles;
mod proxy;
mod query;
mod reach;
mod requests;
mod restore;
mod returns;
mod socket;
mod ssh;
mod store;
mod stream;
mod told;
mod view;
mod wg;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use host::capabilities::{self, Missing, Needed};
use host::metrics::{Node, Nodes};
use shell::process::Process;
use shell::service::{self, Wish, Wishes};
use tokio::net::TcpListener;

use crate::config::{Mode, Settings};
use crate::profiles::Profiles;
use crate::store::Store;

/// Where settings are looked for first.
const CONFIG_FILE: &str = "/etc/warren/agent.toml";
/// Ports below need a capability (capabilities(7)).
const PORT_UNPRIVILEGED: u16 = 1024;

fn main() -> ExitCode {
    if let Some(arguments) = wg::called(std::env::args_os()) {
        return wg::run(&arguments);
    }
    let settings: Settings = match service::begin(CONFIG_FILE) {
        Ok(settings) => settings,
        Err(exit) => return exit,
    };
    if settings.restore_resolver {
        return restore::run(&settings);
    }
    if settings.restore_sshd {
        return match host::sshd::remove(&settings.sshd_config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => service::refuse(&error),
        };
    }
    let needed = |missing: &Missing| {
        settings.mode != Mode::Netstack
            && (missing.0 == Needed::NetAdmin || settings.names.dns_port < PORT_UNPRIVILEGED)
    };
    let missing: Vec<String> =
        capabilities::missing().iter().filter(|m| needed(m)).map(ToString::to_string).collect();
    if !missing.is_empty() {
        return service::refuse(&missing.join("\nerror: "));
    }
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    service::run(serve(settings))
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let mut wishes = Wishes::listen().context("signals cannot be caught")?;
    if let Err(error) = capabilities::raise_open_files() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let path = settings.socket.clone();
    let group = shell::users::group(&settings.group);
    let store = Store::open(&settings.state_dir)?;
    let proxy = match settings.proxy()? {
        Some(address) => Some(proxy::Listener::bind(address, settings.proxy_outside).await?),
        None => None,
    };
    // Each profile reads them again; here they are refused in time.
    settings.names.forward()?;
    let metrics = shell::metrics::listen(&settings.metrics).await.context("metrics cannot be served")?;
    let (restart, mut wished) = anew::restart();
    let profiles = Arc::new(Profiles::start(Arc::new(settings), store, restart)?);
    let scraped = metrics.map(|listener| tokio::spawn(scraped(listener, Arc::clone(&profiles))));
    let proxying = proxy.map(|proxy| tokio::spawn(proxy.serve(Arc::clone(&profiles))));
    let listener =
        socket::listen(&path, group).await.with_context(|| format!("cannot listen on {}", path.display()))?;
    let serving = tokio::spawn(socket::serve(listener, group, Arc::clone(&profiles)));
    tracing::info!(socket = %path.display(), "serving");
    service::ready("serving");
    let anew = loop {
        tokio::select! {
            wish = wishes.next() => match wish {
                Wish::Stop => break None,
                Wish::Reload => tracing::info!(
                    "nothing can be reloaded: restart to change settings; kernel WireGuard loses no packet meanwhile"
                ),
            },
            command = anew::wished(&mut wished) => break Some(command),
        }
    };
    // Who begins anew does not stop, as the service manager sees it.
    if anew.is_none() {
        service::stopping();
    }
    serving.abort();
    for task in [proxying, scraped].into_iter().flatten() {
        task.abort();
    }
    // The socket is ours; a leftover one would be replaced by the next start.
    let _ = std::fs::remove_file(&path);
    profiles.stop().await;
    if let Some(command) = anew {
        tracing::info!(%command, "begins anew, as its server asked");
        return Err(anew::begin(command)).context("the program cannot be started anew");
    }
    tracing::info!("stopped");
    Ok(())
}

/// Shows figures of every profile to whoever scrapes them.
async fn scraped(listener: TcpListener, profiles: Arc<Profiles>) {
    let process = Process::start("warren-agent", env!("CARGO_PKG_VERSION"));
    let figures = move || {
        let (process, profiles) = (process.clone(), Arc::clone(&profiles));
        async move {
            let mut nodes = Vec::new();
            for profile in profiles.all_running().await {
                // One that failed has no figures now.
                if let Ok(handle) = profile.handle()
                    && let Ok(node) = Node::look(profile.interface(), &handle).await
                {
                    nodes.push(node);
                }
            }
            shell::metrics::text(&process, Nodes(nodes))
        }
    };
    shell::metrics::serve(listener, figures).await;
}
