//! Giving up capabilities, in a process of its own, and what is left to do then.

use engine::Change;
use host::Host;
use host::capabilities::{Needed, give_up_all_but_needed, missing, raise_open_files};

use crate::alone::{alone, run, succeeds};
use crate::changes::config;

#[test]
fn after_giving_up_the_rest_a_hub_still_works_and_nothing_comes_back() {
    if !alone("capabilities::after_giving_up_the_rest_a_hub_still_works_and_nothing_comes_back") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    assert_eq!(missing(), []);
    let may_raise_limits = succeeds("prlimit --nice=30:30 --pid $$");
    assert_eq!(give_up_all_but_needed().unwrap(), [Needed::NetAdmin, Needed::NetBindService].into());
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    // CAP_NET_BIND_SERVICE is 10, CAP_NET_ADMIN 12 (linux/capability.h).
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(status.contains(&format!("{set}:\t0000000000001400\n")), "{set} in {status}");
    }
    assert!(status.contains("NoNewPrivs:\t1\n"));
    // Root of a container may not raise limits: then nothing is allowed.
    assert_eq!(succeeds("renice --priority -10 $$"), may_raise_limits);
    assert!(!succeeds("renice --priority -11 $$"));
    let mut host = Host::open(config).unwrap();
    for change in [
        Change::CreateInterface,
        Change::SetDevice { listen_port: None },
        Change::AddAddress("100.64.0.1/32".parse().unwrap()),
        Change::SetUp,
        Change::AddRoute("100.64.0.0/16".parse().unwrap()),
        Change::SetFirewall(engine::Firewall::default()),
        Change::SetForwarding(true),
    ] {
        host.apply(&change).unwrap_or_else(|e| panic!("{change}: {}", host::chain(&e)));
    }
    assert!(host.observe().unwrap().forwarding);
    std::net::UdpSocket::bind("100.64.0.1:53").unwrap();
    assert!(!succeeds("mount -t tmpfs tmpfs /mnt"), "CAP_SYS_ADMIN is gone for children too");
    assert!(run("ip link show wg0").contains("wg0"));
}

#[test]
fn the_limit_of_open_files_rises_to_the_hard_one() {
    if !alone("capabilities::the_limit_of_open_files_rises_to_the_hard_one") {
        return;
    }
    let hard = raise_open_files().unwrap();
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(line.split_whitespace().filter(|word| *word == hard.to_string()).count(), 2, "{line}");
}
