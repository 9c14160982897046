//! `warren-apid`, the unprivileged API process: owns the database, enrols devices, takes heartbeats, serves people.
//!
//! Has no capability and no netlink; what must happen in a kernel happens because a node holds a newer snapshot.

mod accounts;
mod anchors;
mod audit;
mod certificate;
mod clock;
mod config;
mod desk;
mod first_start;
mod http;
mod listen;
mod local;
mod metrics;
mod people;
mod proxies;
mod report;
mod seal;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use control::{Control, ControlConfig};
use model::wire::Remark;
use shell::service::{self, Wish, Wishes};
use store::Store;
use tokio::net::TcpListener;

use crate::anchors::Anchors;
use crate::clock::Clock;
use crate::config::Settings;
use crate::desk::Desk;
use crate::http::{App, Readiness};
use crate::metrics::Metrics;

/// Where settings are looked for first.
const CONFIG_FILE: &str = "/etc/warren/apid.toml";

fn main() -> ExitCode {
    let (settings, printed) = match shell::config::read::<Settings>(CONFIG_FILE) {
        Ok(read) => read,
        Err(error) => return error.report(),
    };
    if settings.print_config {
        return service::print(&printed);
    }
    if let Err(error) = shell::log::start(&settings.log) {
        return service::refuse(&error.to_string());
    }
    if nix::unistd::Uid::effective().is_root() && !settings.allow_root {
        return service::refuse(
            "warren-apid needs no privilege: run it as its own user, or add --allow-root",
        );
    }
    service::run(serve(settings))
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let clock = Clock::start();
    let mut wishes = Wishes::listen().context("signals cannot be caught")?;
    let public = settings.public()?;
    let metrics = Metrics::new();
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^52")]
    metrics.started.set(clock::wall().unix_micros() as f64 / 1e6);
    let readiness = Readiness::default();

    let probes = bind(settings.metrics_listen).await?;
    tokio::spawn(listen::probes(probes, http::probes(readiness.clone(), metrics.clone())));

    let certificate = first_start::certificate(&settings, &public).await?;
    let sealer = first_start::sealer(&settings)?;
    let store = Store::open(&settings.database_url()).await.context("the database cannot be used")?;
    let setup = first_start::administrator(&store, &settings).await?;

    let mut seed = [0; 32];
    getrandom::fill(&mut seed).context("the kernel has no random bytes")?;
    let control = Control::new(control_config(&settings, &public, &store), seed);
    let desk = Desk::start(control, store.clone(), Anchors::new(sealer), clock, metrics.clone());
    first_start::tenant(&desk, &settings).await?;
    readiness.set(store.clone(), desk.clone());

    let fingerprint = certificate.fingerprint();
    let app = App {
        desk: desk.clone(),
        store: store.clone(),
        metrics: metrics.clone(),
        clock,
        public: Arc::new(public.clone()),
        fingerprint,
        proxies: proxies::Proxies::new(settings.trusted_proxy.clone()),
        readiness,
    };
    let router = http::router(app);
    let https = bind(settings.listen).await?;
    let quic = link::quic::Listener::bind(settings.listen, &certificate, link::quic::Limits::default())?;
    let users = local::LocalUsers::new(&settings.hub_user, &settings.admin_group);
    let unix = link::unix::listen(&settings.socket, SOCKET_MODE)
        .await
        .with_context(|| format!("cannot listen on {}", settings.socket.display()))?;
    tokio::spawn(listen::quic(quic, desk.clone()));
    tokio::spawn(listen::unix(unix, users, desk.clone(), router.clone()));
    let https = tokio::spawn(async move { listen::https(https, &certificate, router).await });

    tracing::info!(url = %public, listen = %settings.listen, socket = %settings.socket.display(), %fingerprint, "serving");
    if let Some(secret) = setup {
        tracing::info!(url = %format!("{public}/setup?secret={secret}"), "no administrator yet: open the URL, it works once");
    }
    service::ready("serving");
    while wishes.next().await == Wish::Reload {
        tracing::info!(
            "nothing can be reloaded: restart to change settings; agents keep their tunnels meanwhile"
        );
    }
    service::stopping();
    https.abort();
    desk.stop().await;
    store.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// Everybody on the machine may knock; the kernel says who it is.
const SOCKET_MODE: u32 = 0o666;

async fn bind(address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on tcp {address}"))
}

fn control_config(settings: &Settings, public: &link::ServerAddress, store: &Store) -> ControlConfig {
    ControlConfig {
        software: Remark::new(concat!("warren-apid ", env!("CARGO_PKG_VERSION"))),
        zone_suffix: settings.zone_suffix.clone(),
        hub_endpoint_host: public.host.clone(),
        hub_endpoint: settings.hub_endpoint.clone(),
        shared: store.engine() == store::Engine::Postgres,
    }
}
