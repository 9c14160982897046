//! A profile as a person sees it. Changes nothing.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use engine::status::{LinkState, PeerStatus, TenantStatus};
use host::drive::Report;
use host::wireguard::PeerState;
use ipnet::IpNet;
use model::api::SCHEMA_VERSION;
use model::api::local::{Peer, Status};
use model::{Code, Label, NodeId, PublicKey, Refusal, Standing, Timestamp, Zone};

use crate::lookup;
use crate::profile::{Profile, failed};
use crate::profiles::{Entry, Profiles, is_enrolled};

/// What a profile is now. One that does not exist is down; one that failed says why.
pub async fn status(profiles: &Profiles, name: &Label) -> Status {
    let nothing = Status {
        schema_version: SCHEMA_VERSION,
        version: env!("CARGO_PKG_VERSION").into(),
        profile: name.clone(),
        state: "down".into(),
        server: None,
        link: "not enrolled".into(),
        connected: false,
        device: None,
        fqdn: None,
        addresses: Vec::new(),
        interface: "none".into(),
        holds: None,
        settled: false,
        keepalive_seconds: None,
        drift_total: 0,
        problems: Vec::new(),
        peers: Vec::new(),
        names: Vec::new(),
    };
    match profiles.entry(name).await {
        None => nothing,
        Some(Entry::Broken(reason)) => {
            Status { link: "not started".into(), problems: vec![reason], ..nothing }
        }
        Some(Entry::Running(profile)) => match filled(&profile, nothing.clone()).await {
            Ok(status) => status,
            Err(refusal) => Status {
                server: Some(profile.server().to_string()),
                link: "not started".into(),
                interface: profile.interface().to_string(),
                problems: vec![refusal.to_string()],
                ..nothing
            },
        },
    }
}

async fn filled(profile: &Profile, nothing: Status) -> Result<Status, Refusal> {
    let report = profile.report().await?;
    let handle = profile.handle()?;
    let zones = handle.zones().await.map_err(|gone| failed(&gone))?;
    let (states, unread) = match handle.peers().await.map_err(|gone| failed(&gone))? {
        Ok(states) => (states, None),
        Err(reason) => (BTreeMap::new(), Some(format!("read the peers: {reason}"))),
    };
    let node = &report.node;
    let tenant = node.tenants.first();
    let fqdn = tenant.and_then(|t| t.zone.child(&t.name).ok());
    let active = active(&report);
    let unsteered = report.host.unsteered.as_ref().map(|why| {
        format!("the hub carries what is for other devices: {why} (what mends it: warren doctor paths)")
    });
    let problems = node.problems.iter().chain(&report.names.problems).cloned().chain(unread).chain(unsteered);
    Ok(Status {
        state: state(&report).into(),
        server: report.server.clone(),
        link: link(&report),
        connected: node.link == LinkState::Attached,
        device: node.device,
        addresses: tenant.and_then(|t| t.addresses).map(|a| a.both().to_vec()).unwrap_or_default(),
        interface: interface(profile, &report),
        holds: tenant.map(|t| t.held.version.to_string()),
        settled: node.settled,
        keepalive_seconds: node.keepalive_seconds,
        drift_total: node.drift_total,
        problems: problems.collect(),
        peers: active.map(|t| peers(t, &states)).unwrap_or_default(),
        names: active.and(zones.first()).map(|zone| lookup::names(zone, fqdn.as_ref())).unwrap_or_default(),
        fqdn,
        ..nothing
    })
}

/// `down`, `joining`, `pending`, `active`, `expired`, `closed` or `revoked`.
pub fn state(report: &Report) -> &'static str {
    let standing = report.node.tenants.first().map(|tenant| tenant.standing);
    match standing {
        Some(Standing::Revoked) => "revoked",
        _ if !report.node.up => "down",
        Some(standing) => standing.as_str(),
        None if report.node.joining || is_enrolled(report) => "joining",
        None => "down",
    }
}

/// Why a device takes no part now.
pub fn inactive(report: &Report) -> Refusal {
    let state = state(report);
    let code = match state {
        "pending" => Code::DevicePending,
        "revoked" => Code::DeviceRevoked,
        "expired" => Code::DeviceExpired,
        "closed" => Code::TenantClosed,
        "down" if is_enrolled(report) => Code::DeviceDown,
        _ => Code::NotEnrolled,
    };
    Refusal::new(code, format!("this device is {state}"))
}

fn link(report: &Report) -> String {
    // What the server said says more than how the link ended afterwards.
    let refused = report.node.last_refusal.as_ref();
    let refused = refused.map(|refusal| format!("refused, {refusal}: {}", refusal.hint()));
    let error = refused.as_deref().or(report.node.link_error.as_deref());
    match (report.node.link, &report.link) {
        (LinkState::Attached, Some(link)) => format!("connected by {}", link.carrier),
        (LinkState::Idle, _) => {
            report.join_refused.as_ref().map_or_else(|| "not enrolled".into(), ToString::to_string)
        }
        (LinkState::Waiting(after), _) => {
            format!(
                "not connected, tried again in {:.1} s: {}",
                after.as_secs_f32(),
                error.unwrap_or("no link yet")
            )
        }
        (LinkState::Dialing | LinkState::Greeting | LinkState::Attached, _) => match error {
            Some(error) => format!("connecting; before: {error}"),
            None => "connecting".into(),
        },
        (LinkState::Closing, _) => "closing".into(),
    }
}

/// The tenant, if the node takes part in it now.
pub fn active(report: &Report) -> Option<&TenantStatus> {
    report.node.tenants.first().filter(|tenant| report.node.up && tenant.standing == Standing::Active)
}

fn interface(profile: &Profile, report: &Report) -> String {
    if profile.stack().is_some() {
        return format!("none ({})", report.host.backend);
    }
    let name = profile.interface();
    // Which engine it will be is known when it is made.
    match active(report) {
        None => name.to_string(),
        Some(_) => format!("{name} ({})", report.host.engine()),
    }
}

fn peers(tenant: &TenantStatus, states: &BTreeMap<PublicKey, PeerState>) -> Vec<Peer> {
    let peer = |peer: &PeerStatus| {
        let state = states.get(&peer.key).cloned().unwrap_or_default();
        Peer {
            name: peer.name.clone(),
            key: peer.key,
            path: way(peer, state.endpoint),
            path_seconds: peer.path.as_ref().map(|path| path.age.as_secs()),
            round_trip_micros: peer.path.as_ref().and_then(|path| path.round_trip).map(micros),
            why_not_direct: why_not_direct(peer),
            handshake_at: state.last_handshake.map(timestamp),
            received_bytes: state.received_bytes,
            sent_bytes: state.sent_bytes,
        }
    };
    tenant.peers.iter().map(peer).collect()
}

/// How packets reach an address of the mesh.
pub async fn path(profile: &Profile, zone: &Zone, address: IpAddr) -> Result<String, Refusal> {
    let report = profile.report().await?;
    let Some(tenant) = report.node.tenants.first() else { return Ok("no path".into()) };
    if tenant.addresses.is_some_and(|own| own.both().contains(&address)) {
        return Ok("this device".into());
    }
    let networks = tenant.peers.iter().map(|peer| (peer, peer.allowed.as_slice()));
    let Some(peer) = nearest(networks, address) else { return Ok("no path".into()) };
    if peer.node == NodeId::Hub && !zone.block.hub().both().contains(&address) {
        return Ok("via hub".into());
    }
    let states = profile.handle()?.peers().await.map_err(|gone| failed(&gone))?.unwrap_or_default();
    let way = way(peer, states.get(&peer.key).and_then(|state| state.endpoint));
    Ok(match why_not_direct(peer) {
        Some(why) => format!("{way} ({why})"),
        None => way,
    })
}

/// To whom WireGuard sends what is for an address: to whoever has the smallest network with it. The hub has the mesh's.
fn nearest<'a, P>(networks: impl Iterator<Item = (P, &'a [IpNet])>, address: IpAddr) -> Option<P> {
    let longest = |networks: &[IpNet]| {
        networks.iter().filter(|network| network.contains(&address)).map(IpNet::prefix_len).max()
    };
    let have = networks.filter_map(|(peer, networks)| Some((longest(networks)?, peer)));
    have.max_by_key(|(prefix, _)| *prefix).map(|(_, peer)| peer)
}

/// How packets reach a peer: as its path says, or where the interface sends them if it has a fixed place.
fn way(peer: &PeerStatus, endpoint: Option<SocketAddr>) -> String {
    match (&peer.path, endpoint) {
        (Some(path), _) => path.way.to_string(),
        (None, Some(endpoint)) => format!("direct {endpoint}"),
        (None, None) if matches!(peer.node, NodeId::Device(_)) => "idle".into(),
        (None, None) => "no endpoint".into(),
    }
}

fn why_not_direct(peer: &PeerStatus) -> Option<String> {
    let why = peer.path.as_ref().and_then(|path| path.why_not_direct);
    why.map(|why| why.to_string())
}

/// Whole microseconds.
pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn timestamp(at: SystemTime) -> Timestamp {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_go_to_whoever_has_the_smallest_network_whatever_the_order() {
        let networks = |texts: &[&str]| -> Vec<IpNet> {
            texts.iter().map(|text| text.parse().expect("a network")).collect()
        };
        let hub = networks(&["100.64.0.0/16", "fd00::/48"]);
        let router = networks(&["10.0.0.0/8", "100.64.0.2/32", "fd00::2/128"]);
        let other = networks(&["10.1.0.0/16", "100.64.0.3/32"]);
        let check = |address: &str, expect| {
            let address = address.parse().expect("an address");
            let mut peers = [("hub", hub.as_slice()), ("router", &router), ("other", &other)];
            for _ in 0..peers.len() {
                peers.rotate_left(1);
                assert_eq!(nearest(peers.iter().copied(), address), expect, "{address}");
            }
        };
        check("100.64.0.3", Some("other"));
        check("100.64.0.4", Some("hub"));
        check("fd00::2", Some("router"));
        check("10.1.2.3", Some("other"));
        check("10.2.0.1", Some("router"));
        check("192.0.2.1", None);
    }
}
