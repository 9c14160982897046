//! The networks that this machine is in: its addresses but those of meshes, and which way it reaches the rest of the world. Told at
//! each change; knows no peer.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::pin;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use rtnetlink::{Handle, RouteMessageBuilder};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::interface::InterfaceName;
use crate::links::{self, MARK, Ours, read_address};
use crate::netlink::NetlinkError;
use crate::route_events::RouteEvents;

/// An address comes with a route and a few flags; this is longer than that takes, and no delay that anybody notices.
const SETTLE: Duration = Duration::from_millis(100);
/// A machine that never settles is looked at all the same.
const SETTLE_MAX: Duration = Duration::from_secs(1);
/// Addresses told: a hint has room for fewer.
const ADDRESSES_MAX: usize = 12;
/// Addresses of nobody (RFC 5737, RFC 3849) that lie behind the default routes.
const AWAY: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// Where the machine is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Network {
    /// Its addresses, those first that reach the world.
    pub(crate) addresses: Vec<IpAddr>,
    /// For IPv4 and IPv6: interface, router and own address of a packet to the world.
    pub(crate) exits: [Option<Exit>; 2],
    /// Those, too, that are not told any more and still carry what went over them before.
    passing: BTreeSet<IpAddr>,
}

impl Network {
    /// Whether what went out before goes out no more, or elsewhere: what others see of this machine is another. A network that
    /// comes or goes beside the way out, or an address that takes the place of one that stays for a while, changes nothing of it.
    pub(crate) fn is_elsewhere_than(&self, before: &Self) -> bool {
        AWAY.iter().zip(before.exits.iter().zip(&self.exits)).any(|(to, exits)| match exits {
            // What lies beside is all that there is then.
            (None, None) => self.has_lost_all(before, to.is_ipv4()),
            (Some(before), Some(now)) => {
                (before.interface, before.router) != (now.interface, now.router)
                    || before.own.is_some_and(|own| !self.has(own))
            }
            (None, Some(_)) | (Some(_), None) => true,
        })
    }

    /// Whether there were addresses of a family before, and none of them is left.
    fn has_lost_all(&self, before: &Self, v4: bool) -> bool {
        let mut of_family = before.addresses.iter().filter(|address| address.is_ipv4() == v4).peekable();
        of_family.peek().is_some() && !of_family.any(|address| self.has(*address))
    }

    fn has(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address) || self.passing.contains(&address)
    }
}

/// How a packet leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exit {
    interface: u32,
    pub(crate) router: Option<IpAddr>,
    pub(crate) own: Option<IpAddr>,
}

/// Subscribed: what changes from now on is not missed.
pub(crate) struct Watch {
    own: Ours,
    events: RouteEvents,
    handle: Handle,
}

impl Watch {
    /// Subscribes in the network namespace of this thread.
    pub(crate) fn open(own: InterfaceName) -> io::Result<Self> {
        let (events, handle) = RouteEvents::open()?;
        Ok(Self { own: Ours::new(own, false), events, handle })
    }

    /// Tells where the machine is until a socket fails or nobody listens.
    pub(crate) async fn tell(mut self, told: watch::Sender<Network>) -> io::Error {
        loop {
            match self.events.beside(look(&self.handle, self.own.name())).await {
                Err(error) => return error,
                Ok(Ok((network, index))) => {
                    self.own.are(index);
                    told.send_if_modified(|before| {
                        let differs = *before != network;
                        *before = network;
                        differs
                    });
                }
                // Changed while it was read, or a refusal that passes: the next event is a reason to look again.
                Ok(Err(error)) => tracing::debug!(%error, "where this machine is cannot be read"),
            }
            if let Err(error) = self.change().await {
                return error;
            }
            if told.is_closed() {
                return io::ErrorKind::BrokenPipe.into();
            }
        }
    }

    /// Waits until something changed that may concern us, and until it is over.
    async fn change(&mut self) -> io::Result<()> {
        let mut until: Option<(Instant, Instant)> = None;
        loop {
            let settled = async {
                match until {
                    Some((quiet, latest)) => sleep_until(quiet.min(latest)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                event = self.events.next() => {
                    if self.concerns(event?) {
                        let now = Instant::now();
                        let latest = until.map_or(now + SETTLE_MAX, |(_, latest)| latest);
                        until = Some((now + SETTLE, latest));
                    }
                }
                () = settled => return Ok(()),
            }
        }
    }

    fn concerns(&mut self, event: NetlinkMessage<RouteNetlinkMessage>) -> bool {
        match event.payload {
            NetlinkPayload::InnerMessage(event) => !self.own.are_told_of(&event, false) && !is_detail(&event),
            // Events were lost.
            NetlinkPayload::Overrun(_) => true,
            _ => false,
        }
    }
}

/// A route to somewhere in particular: routers have many, and addresses come with their own.
fn is_detail(event: &RouteNetlinkMessage) -> bool {
    match event {
        RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => {
            route.header.destination_prefix_length != 0
        }
        _ => false,
    }
}

/// Where the machine is now, and the index of our own interface.
async fn look(handle: &Handle, own: &InterfaceName) -> Result<(Network, Option<u32>), NetlinkError> {
    let own = links::find(handle, own).await?.map(|link| link.index);
    // A mesh within a mesh is nobody's way: two of them would carry each other.
    let mut meshes: BTreeSet<u32> = own.into_iter().collect();
    let mut answers = pin!(handle.link().get().execute());
    while let Some(message) = answers.try_next().await? {
        let link = links::read_link(&message);
        if link.alias.as_deref() == Some(links::ALIAS) {
            meshes.insert(link.index);
        }
    }
    let mut exits = [const { None }; 2];
    for (exit, to) in exits.iter_mut().zip(AWAY) {
        *exit = leave(handle, to).await.filter(|exit| !meshes.contains(&exit.interface));
    }
    let (mut found, mut passing) = (Vec::new(), BTreeSet::new());
    let mut answers = pin!(handle.address().get().execute());
    while let Some(message) = answers.try_next().await? {
        if meshes.contains(&message.header.index) {
            continue;
        }
        let is_way_out = exits.iter().flatten().any(|exit| exit.interface == message.header.index);
        match usable(&message) {
            Some(address) => found.push((!is_way_out, address)),
            None if is_way_out => passing.extend(read_address(&message).map(|net| net.addr())),
            None => {}
        }
    }
    found.sort_unstable();
    found.dedup();
    let addresses = found.into_iter().map(|(_, address)| address).take(ADDRESSES_MAX).collect();
    Ok((Network { addresses, exits, passing }, own))
}

/// How a packet leaves; `None` if it cannot.
async fn leave(handle: &Handle, to: IpAddr) -> Option<Exit> {
    let prefix = if to.is_ipv4() { 32 } else { 128 };
    let mut message = RouteMessageBuilder::<IpAddr>::new().destination_prefix(to, prefix).ok()?.build();
    // As the underlay's packets do, whatever the mesh carries.
    message.attributes.push(RouteAttribute::Mark(MARK));
    let route: RouteMessage = pin!(handle.route().get(message).execute()).try_next().await.ok()??;
    let mut exit = Exit { interface: 0, router: None, own: None };
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => exit.interface = *index,
            RouteAttribute::Gateway(address) => exit.router = links::to_ip(address),
            RouteAttribute::PrefSource(address) => exit.own = links::to_ip(address),
            _ => {}
        }
    }
    Some(exit)
}

/// An address that packets may come to: neither of this machine or link alone, nor one that is not ours yet or soon is not.
fn usable(message: &AddressMessage) -> Option<IpAddr> {
    let passing = AddressFlags::Tentative | AddressFlags::Dadfailed | AddressFlags::Deprecated;
    let is_passing = message.attributes.iter().any(|attribute| match attribute {
        AddressAttribute::Flags(flags) => flags.intersects(passing),
        _ => false,
    });
    let is_tentative = message.header.flags.contains(AddressHeaderFlags::Tentative);
    let address = read_address(message)?.addr();
    let is_local = match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unicast_link_local(),
    };
    (!is_passing && !is_tentative && !is_local).then_some(address)
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::thread;

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// In the network namespace of this thread.
    fn ip(arguments: &str) {
        let status = Command::new("ip").args(arguments.split_whitespace()).status().expect("ip(8) is there");
        assert!(status.success(), "ip {arguments}");
    }

    async fn is_told(networks: &mut watch::Receiver<Network>, what: &str, expect: impl Fn(&Network) -> bool) {
        let told = tokio::time::timeout(PATIENCE, networks.wait_for(&expect)).await.is_ok();
        assert!(told, "{what}: {:?}", networks.borrow());
    }

    async fn story() {
        let (told, mut networks) = watch::channel(Network::default());
        let watch = Watch::open("wg7".parse().expect("a name")).expect("netlink");
        tokio::spawn(watch.tell(told));
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");

        ip("link add wan type veth peer name far");
        ip("link add wg7 type veth peer name near");
        for link in ["lo", "wan", "far", "wg7", "near"] {
            ip(&format!("link set {link} up"));
        }
        ip("address add 100.64.0.2/16 dev wg7");
        ip("address add 10.0.0.1/8 dev near");
        ip("link add wg8 type veth peer name near8");
        ip("link set wg8 alias warren up");
        ip("address add 100.65.0.2/16 dev wg8");
        ip("address add 198.51.100.2/24 dev wan");
        ip("route add default via 198.51.100.1 dev wan");
        let both = [address("198.51.100.2"), address("10.0.0.1")];
        is_told(&mut networks, "two addresses, the way out first", |network| network.addresses == both).await;
        let router = |network: &Network| network.exits[0].as_ref().and_then(|exit| exit.router);
        is_told(&mut networks, "a router", |network| router(network) == Some(address("198.51.100.1"))).await;

        networks.borrow_and_update();
        ip("route add 203.0.113.0/24 dev near");
        ip("address add 100.64.0.3/16 dev wg7");
        ip("route replace default via 198.51.100.3 dev wan");
        is_told(&mut networks, "another router", |network| router(network) == Some(address("198.51.100.3")))
            .await;
        assert_eq!(networks.borrow().addresses, both, "ours is not told");

        ip("address del 198.51.100.2/24 dev wan");
        is_told(&mut networks, "no way out", |network| {
            network.addresses == both[1..] && network.exits == [None, None]
        })
        .await;
        ip("address add 2001:db8:1::2/64 dev wan nodad");
        ip("route add default via 2001:db8:1::1 dev wan");
        let v6 = [address("2001:db8:1::2"), both[1]];
        is_told(&mut networks, "IPv6", |network| network.addresses == v6 && network.exits[1].is_some()).await;
    }

    #[test]
    fn only_another_way_out_is_another_network() {
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let exit = |interface, router: &str, own: &str| {
            Some(Exit { interface, router: Some(address(router)), own: Some(address(own)) })
        };
        let addresses = ["192.168.1.2", "2001:db8:1::2"].map(address);
        let exits = [exit(2, "192.168.1.1", "192.168.1.2"), exit(2, "fe80::1", "2001:db8:1::2")];
        let before = Network { addresses: addresses.to_vec(), exits, passing: BTreeSet::new() };
        let check = |what: &str, expect, change: &dyn Fn(&mut Network)| {
            let mut now = before.clone();
            change(&mut now);
            assert_eq!(now.is_elsewhere_than(&before), expect, "{what}");
        };
        check("nothing", false, &|_| {});
        check("a bridge of containers", false, &|now| now.addresses.push(address("172.17.0.1")));
        check("another privacy address", false, &|now| {
            now.addresses[1] = address("2001:db8:1::3");
            now.exits[1] = exit(2, "fe80::1", "2001:db8:1::3");
            now.passing.insert(address("2001:db8:1::2"));
        });
        check("another prefix", true, &|now| {
            now.addresses[1] = address("2001:db8:2::2");
            now.exits[1] = exit(2, "fe80::1", "2001:db8:2::2");
        });
        check("another address", true, &|now| {
            now.addresses[0] = address("192.168.1.3");
            now.exits[0] = exit(2, "192.168.1.1", "192.168.1.3");
        });
        check("another router", true, &|now| now.exits[0] = exit(2, "192.168.1.9", "192.168.1.2"));
        check("another interface", true, &|now| now.exits[0] = exit(3, "192.168.1.1", "192.168.1.2"));
        check("no way out", true, &|now| now.exits[0] = None);
    }

    #[test]
    fn without_a_way_out_another_network_is_one_where_no_address_is_left() {
        let network = |addresses: &[&str]| Network {
            addresses: addresses.iter().map(|text| text.parse().expect("an address")).collect(),
            exits: [None, None],
            passing: BTreeSet::new(),
        };
        let before = network(&["192.168.1.2", "172.17.0.1", "fd00::2"]);
        let check = |addresses: &[&str], expect| {
            assert_eq!(network(addresses).is_elsewhere_than(&before), expect, "{addresses:?}");
        };
        check(&["192.168.1.2", "172.17.0.1", "fd00::2", "10.0.0.1"], false);
        check(&["192.168.1.2", "fd00::2"], false);
        check(&["10.0.0.1", "fd00::2"], true);
        check(&["192.168.1.2", "fd01::2"], true);
        check(&[], true);
        let nowhere = network(&[]);
        assert!(!network(&["192.168.1.2"]).is_elsewhere_than(&nowhere), "a network came, and none went");
    }

    #[test]
    fn it_is_told_where_the_machine_is() {
        let run = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("root may");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(story());
        };
        thread::spawn(run).join().expect("it is told");
    }
}
