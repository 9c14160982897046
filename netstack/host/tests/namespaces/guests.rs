//! Who is behind this machine and no further: networks of bridges for containers, told from a machine's way out.

use std::collections::BTreeSet;

use host::Host;
use ipnet::IpNet;

use crate::alone::{alone, run};
use crate::changes::{config, net};

#[test]
fn networks_of_containers_are_told_from_the_world() {
    if !alone("guests::networks_of_containers_are_told_from_the_world") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(directory.path());
    config.forwards = false;
    let mut host = Host::open(config).unwrap();
    let mut guests = || -> BTreeSet<IpNet> {
        host.observe().unwrap();
        host.report().guests
    };
    assert_eq!(guests(), BTreeSet::new());
    run("ip link add eth0 type veth peer name world && ip address add 192.0.2.2/24 dev eth0");
    run("ip link set eth0 up && ip link set world up && ip route add default via 192.0.2.1");
    assert_eq!(guests(), BTreeSet::new(), "a wire alone may be the way out");
    run("ip link add docker0 type bridge && ip link set docker0 up");
    run("ip address add 172.17.0.1/16 dev docker0 && ip -6 address add fd99::1/64 dev docker0 nodad");
    let both = BTreeSet::from([net("172.17.0.0/16"), net("fd99::/64")]);
    assert_eq!(guests(), both, "there is nobody behind it yet");
    run("ip netns add box && ip link add vethbox type veth peer name eth0 netns box");
    run("ip link set vethbox master docker0");
    assert_eq!(guests(), both);
    run("ip link add other type bridge && ip link set other up && ip address add 10.0.0.1/24 dev other");
    run("ip tuntap add tap0 mode tap && ip link set tap0 master other");
    assert_eq!(guests().len(), 3, "a virtual machine is a guest, too");
    run("ip link add link docker0 name shared type macvlan && ip link set shared master other");
    assert_eq!(guests(), both, "a port that is neither may lead anywhere");
    run("ip route replace default via 172.17.0.9 dev docker0");
    assert_eq!(guests(), BTreeSet::new(), "it is the way out");
}
