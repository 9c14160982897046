//! systemd-resolved, per interface, over D-Bus (`org.freedesktop.resolve1(5)`): only the mesh's names and addresses go to
//! our servers. Looks at no file of its own making but to see whether it runs here.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use engine::ResolverSetting;
use nix::net::if_::if_nametoindex;
use zbus::{Connection, OwnedObjectPath};

use super::arpa;
use super::bus::{BusError, Service, converse};
use crate::interface::InterfaceName;

/// Its name on the bus.
pub(crate) const SERVICE: &str = "org.freedesktop.resolve1";
const PATH: &str = "/org/freedesktop/resolve1";
const MANAGER: &str = "org.freedesktop.resolve1.Manager";
const LINK: &str = "org.freedesktop.resolve1.Link";
/// It listens there, in its own network namespace.
const SOCKET: &str = "/run/systemd/resolve/io.systemd.Resolve";
/// Where it answers programs: all of what it does, and what its servers say as it is.
pub const STUBS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53)), IpAddr::V4(Ipv4Addr::new(127, 0, 0, 54))];
/// A link of `/etc/resolv.conf` into one of these leads to it.
pub(crate) const FOLDERS: [&str; 3] = ["/run/systemd/resolve", "/usr/lib/systemd", "/lib/systemd"];
/// [`STUBS`], as the table of sockets has it.
const STUB: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 53);
const PORT: u16 = 53;
/// `AF_INET` and `AF_INET6` (`socket(2)`).
const FAMILIES: [i32; 2] = [nix::libc::AF_INET, nix::libc::AF_INET6];

/// A server as D-Bus carries it: family, address, port (0: 53), name.
type WireServer = (i32, Vec<u8>, u16, String);
/// The same before systemd 246.
type WireServerOld = (i32, Vec<u8>);
/// A domain, and whether it only routes.
type WireDomain = (String, bool);

/// What it was told for one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkView {
    /// The interface.
    pub name: String,
    /// Servers that are asked over it.
    pub servers: Vec<SocketAddr>,
    /// Domains, and whether they only route or are searched, too.
    pub domains: Vec<(String, bool)>,
    /// Whether questions that no domain routes go to it.
    pub default_route: bool,
}

/// What it does on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// How `/etc/resolv.conf` is to it: `stub`, `uplink`, `static`, `foreign`, `missing`; empty before systemd 250.
    pub mode: String,
    /// `yes`, `no`, `udp` or `tcp`: whether it answers at 127.0.0.53; empty before systemd 245.
    pub stub: String,
    /// What is asked where no interface's domain is better.
    pub global: LinkView,
    /// Interfaces that have servers.
    pub links: Vec<LinkView>,
}

/// Who is asked, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked<'a> {
    /// Whose servers.
    pub link: &'a LinkView,
    /// The domain that leads there; `None`: no domain is better.
    pub domain: Option<&'a str>,
}

impl View {
    /// Who is asked for a name (`systemd-resolved.service(8)`, "Protocols and Routing"): whoever has the longest domain
    /// that it is in, all of them if several have it; where there is none, whoever is a default route.
    pub fn asked(&self, name: &str) -> Vec<Asked<'_>> {
        let all = || std::iter::once(&self.global).chain(&self.links).filter(|link| !link.servers.is_empty());
        let best = all().filter_map(|link| Some(longest(link, name)?.0)).max();
        match best {
            None => all().filter(|l| l.default_route).map(|link| Asked { link, domain: None }).collect(),
            Some(best) => all()
                .filter_map(|link| Some((link, longest(link, name)?)))
                .filter(|(_, (labels, _))| *labels == best)
                .map(|(link, (_, domain))| Asked { link, domain: Some(domain) })
                .collect(),
        }
    }
}

/// The domain of a link with the most labels that a name is in. The root (`~.`) has none.
fn longest<'a>(link: &'a LinkView, name: &str) -> Option<(usize, &'a str)> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let within = |domain: &str| {
        let domain = domain.trim_matches('.').to_ascii_lowercase();
        let rest = name.strip_suffix(&domain);
        let labels = domain.split('.').filter(|label| !label.is_empty()).count();
        rest.is_some_and(|rest| labels == 0 || rest.is_empty() || rest.ends_with('.')).then_some(labels)
    };
    link.domains
        .iter()
        .filter_map(|(domain, _)| Some((within(domain)?, domain.as_str())))
        .max_by_key(|best| best.0)
}

/// Whether it runs, and in the network namespace of this thread: what it is told of an interface goes by the number,
/// which means another one elsewhere.
pub(crate) fn is_here() -> bool {
    let has = |file: &str, part: &str| {
        let table = fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
        table.lines().any(|line| line.contains(part))
    };
    let stub = format!(": {:08X}:{PORT:04X} ", u32::from_ne_bytes(STUB.octets()));
    has("unix", SOCKET) || has("udp", &stub)
}

/// Tells it of our servers and names; `port` is theirs.
pub(crate) fn set(interface: &InterfaceName, setting: &ResolverSetting, port: u16) -> Result<(), BusError> {
    // Without the interface there is nothing to tell; the next look sees that it is missing.
    let Some(index) = index(interface) else { return Ok(()) };
    converse(async |connection| Resolve1::find(&connection).await?.set(index, setting, port).await)
}

/// What it knows of our interface; `None` if that is not what we tell.
pub(crate) fn read(interface: &InterfaceName, port: u16) -> Result<Option<ResolverSetting>, BusError> {
    let Some(index) = index(interface) else { return Ok(None) };
    converse(async |connection| {
        let link = Resolve1::find(&connection).await?.link(index, interface.as_str()).await?;
        Ok(link.and_then(|link| setting_of(&link, port)))
    })
}

/// Has it forget our interface. Where it does not run, or the interface is gone, there is nothing to forget.
pub(crate) fn clear(interface: &InterfaceName) -> Result<(), BusError> {
    let Some(index) = index(interface).filter(|_| is_here()) else { return Ok(()) };
    converse(async |connection| match Resolve1::find(&connection).await {
        Ok(resolved) => resolved.revert(index).await,
        Err(error) if error.is("NameHasNoOwner") => Ok(()),
        Err(error) => Err(error),
    })
}

/// All that it was told, by whomever.
pub(crate) async fn view(connection: &Connection) -> Result<View, BusError> {
    Resolve1::find(connection).await?.view().await
}

fn index(interface: &InterfaceName) -> Option<i32> {
    i32::try_from(if_nametoindex(interface.as_str()).ok()?).ok()
}

struct Resolve1(Service);

impl Resolve1 {
    async fn find(connection: &Connection) -> Result<Self, BusError> {
        let found = Service::find(connection, SERVICE).await?;
        found.map(Self).ok_or_else(|| BusError::Refused {
            service: "systemd-resolved",
            method: "everything".into(),
            name: "org.freedesktop.DBus.Error.NameHasNoOwner".into(),
            said: "it does not run".into(),
        })
    }

    async fn tell(&self, method: &str, body: &(impl serde::Serialize + zbus::Type)) -> Result<(), BusError> {
        self.0.call(PATH, MANAGER, method, body).await
    }

    async fn set(&self, index: i32, setting: &ResolverSetting, port: u16) -> Result<(), BusError> {
        // First of all, or everything would be asked here for a moment.
        fine(self.tell("SetLinkDefaultRoute", &(index, false)).await, BusError::is_unknown)?;
        // Our zones have no signatures, and a tunnel needs no second encryption, whatever is asked of other servers.
        // Nobody answers multicast in the mesh.
        for method in ["SetLinkDNSSEC", "SetLinkDNSOverTLS", "SetLinkLLMNR", "SetLinkMulticastDNS"] {
            fine(self.tell(method, &(index, "no")).await, BusError::is_unknown)?;
        }
        self.tell("SetLinkDomains", &(index, domains(setting))).await?;
        let servers: Vec<WireServer> = setting
            .servers
            .iter()
            .map(|server| (FAMILIES[usize::from(server.is_ipv6())], bytes(*server), port, String::new()))
            .collect();
        match self.tell("SetLinkDNSEx", &(index, &servers)).await {
            Err(error) if error.is_unknown() && port == PORT => {
                let servers: Vec<WireServerOld> = servers.into_iter().map(|(f, a, ..)| (f, a)).collect();
                self.tell("SetLinkDNS", &(index, servers)).await
            }
            told => told,
        }
    }

    async fn revert(&self, index: i32) -> Result<(), BusError> {
        fine(self.tell("RevertLink", &(index,)).await, is_gone)
    }

    /// `None`: it knows no such interface.
    async fn link(&self, index: i32, name: &str) -> Result<Option<LinkView>, BusError> {
        let path: OwnedObjectPath = match self.0.call(PATH, MANAGER, "GetLink", &(index,)).await {
            Err(error) if is_gone(&error) => return Ok(None),
            found => found?,
        };
        let servers = match self.0.property::<Vec<WireServer>>(path.as_str(), LINK, "DNSEx").await {
            Err(error) if error.is_unknown() => {
                let old: Vec<WireServerOld> = self.0.property(path.as_str(), LINK, "DNS").await?;
                old.into_iter().filter_map(|(_, address)| socket(&address, 0)).collect()
            }
            servers => servers?.into_iter().filter_map(|(_, a, port, _)| socket(&a, port)).collect(),
        };
        let domains: Vec<WireDomain> = self.0.property(path.as_str(), LINK, "Domains").await?;
        let default_route = match self.0.property(path.as_str(), LINK, "DefaultRoute").await {
            // What a link without domains was before there was a word for it.
            Err(error) if error.is_unknown() => domains.is_empty(),
            default_route => default_route?,
        };
        Ok(Some(LinkView { name: name.into(), servers, domains, default_route }))
    }

    async fn view(&self) -> Result<View, BusError> {
        let text = async |property| match self.0.property::<String>(PATH, MANAGER, property).await {
            Err(error) if error.is_unknown() => Ok(String::new()),
            text => text,
        };
        let (mode, stub) = (text("ResolvConfMode").await?, text("DNSStubListener").await?);
        // Of all interfaces; 0 is no interface.
        let servers: Vec<(i32, i32, Vec<u8>)> = self.0.property(PATH, MANAGER, "DNS").await?;
        let domains: Vec<(i32, String, bool)> = self.0.property(PATH, MANAGER, "Domains").await?;
        let global = LinkView {
            name: String::new(),
            servers: servers.iter().filter(|s| s.0 == 0).filter_map(|s| socket(&s.2, 0)).collect(),
            domains: domains.into_iter().filter(|d| d.0 == 0).map(|(_, name, only)| (name, only)).collect(),
            default_route: true,
        };
        let mut indices: Vec<i32> = servers.iter().map(|s| s.0).filter(|index| *index != 0).collect();
        indices.sort_unstable();
        indices.dedup();
        let mut links = Vec::new();
        for index in indices {
            let name = u32::try_from(index).ok().and_then(|index| nix::net::if_::if_indextoname(index).ok());
            let name =
                name.and_then(|name| name.into_string().ok()).unwrap_or_else(|| format!("link {index}"));
            links.extend(self.link(index, &name).await?);
        }
        Ok(View { mode, stub, global, links })
    }
}

/// The zone and what is searched besides, for search and routing, then the reverse zones, for routing only.
fn domains(setting: &ResolverSetting) -> Vec<WireDomain> {
    let reverse = setting.reverse.iter().flat_map(|net| arpa::zones(*net)).map(|zone| (zone, true));
    let searched = std::iter::once(&setting.domain).chain(&setting.search);
    searched.map(|zone| (zone.to_string(), false)).chain(reverse).collect()
}

/// The inverse, if everything is as we tell it.
fn setting_of(link: &LinkView, port: u16) -> Option<ResolverSetting> {
    let ours =
        !link.default_route && !link.servers.is_empty() && link.servers.iter().all(|s| s.port() == port);
    let (searched, routed): (Vec<_>, Vec<_>) = link.domains.iter().partition(|(_, only_routes)| !only_routes);
    let mut searched = searched.into_iter().map(|(zone, _)| zone.parse());
    let domain = searched.next()?.ok()?;
    let reverse = arpa::nets(routed.iter().map(|(zone, _)| zone.as_str()));
    ours.then_some(ResolverSetting {
        servers: link.servers.iter().map(SocketAddr::ip).collect(),
        domain,
        search: searched.collect::<Result<_, _>>().ok()?,
        reverse,
    })
}

fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}

fn socket(bytes: &[u8], port: u16) -> Option<SocketAddr> {
    let address = match bytes.len() {
        4 => IpAddr::V4(<[u8; 4]>::try_from(bytes).ok()?.into()),
        _ => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
    };
    Some(SocketAddr::new(address, if port == 0 { PORT } else { port }))
}

/// What is set on an interface goes with it.
fn is_gone(error: &BusError) -> bool {
    error.is("NoSuchLink") || error.is("UnknownObject")
}

fn fine(result: Result<(), BusError>, already: impl FnOnce(&BusError) -> bool) -> Result<(), BusError> {
    match result {
        Err(error) if already(&error) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_says_is_what_was_set() {
        let setting = ResolverSetting {
            servers: vec!["100.64.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
            domain: "home.internal".parse().unwrap(),
            search: vec!["internal".parse().unwrap()],
            reverse: vec!["100.64.0.0/16".parse().unwrap(), "fd00::/48".parse().unwrap()],
        };
        let servers = setting.servers.iter().map(|server| socket(&bytes(*server), 0).unwrap()).collect();
        let link = LinkView { name: "wg0".into(), servers, domains: domains(&setting), default_route: false };
        assert_eq!(setting_of(&link, PORT), Some(setting));
        assert_eq!(setting_of(&link, 5353), None, "another port");
        assert_eq!(setting_of(&LinkView { default_route: true, ..link.clone() }, PORT), None);
        assert_eq!(setting_of(&LinkView { servers: Vec::new(), ..link.clone() }, PORT), None);
        let more = [link.domains.clone(), vec![("else.test".into(), false)]].concat();
        let told = setting_of(&LinkView { domains: more, ..link }, PORT);
        assert_eq!(told.map(|told| told.search.len()), Some(2), "somebody added one");
    }

    #[test]
    fn questions_go_to_the_longest_domain_else_to_default_routes() {
        let link = |name: &str, domains: &[&str], default_route| LinkView {
            name: name.into(),
            servers: vec!["192.0.2.1:53".parse().unwrap()],
            domains: domains.iter().map(|domain| ((*domain).to_owned(), true)).collect(),
            default_route,
        };
        let view = View {
            mode: "stub".into(),
            stub: "yes".into(),
            global: LinkView { servers: Vec::new(), ..link("", &[], true) },
            links: vec![
                link("eth0", &["lan"], true),
                link("wg0", &["home.internal", "64.100.in-addr.arpa"], false),
                link("tun0", &["internal"], false),
                link("tun1", &["Home.Internal."], false),
                LinkView { servers: Vec::new(), ..link("none", &["example.org"], true) },
            ],
        };
        let check = |view: &View, name: &str, expect: &[(&str, Option<&str>)]| {
            let asked = view.asked(name);
            let asked: Vec<_> = asked.iter().map(|asked| (asked.link.name.as_str(), asked.domain)).collect();
            assert_eq!(asked, expect, "{name}");
        };
        check(
            &view,
            "beta.home.internal",
            &[("wg0", Some("home.internal")), ("tun1", Some("Home.Internal."))],
        );
        check(&view, "HOME.INTERNAL.", &[("wg0", Some("home.internal")), ("tun1", Some("Home.Internal."))]);
        check(&view, "athome.internal", &[("tun0", Some("internal"))]);
        check(&view, "2.0.64.100.in-addr.arpa", &[("wg0", Some("64.100.in-addr.arpa"))]);
        check(&view, "example.org", &[("eth0", None)]);
        let all = link("vpn", &["."], true);
        let greedy = View { links: [view.links.clone(), vec![all]].concat(), ..view };
        check(&greedy, "example.org", &[("vpn", Some("."))]);
        check(&greedy, "x.lan", &[("eth0", Some("lan"))]);
    }

    #[test]
    fn addresses_and_ports_are_read_as_they_are_written() {
        assert_eq!(socket(&[192, 0, 2, 1], 0), Some("192.0.2.1:53".parse().unwrap()));
        assert_eq!(socket(&bytes("fd00::2".parse().unwrap()), 5353), Some("[fd00::2]:5353".parse().unwrap()));
        assert_eq!(socket(&[1, 2, 3], 0), None);
    }
}
