//! Tables and properties of the text protocol.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;
use crate::state::PeerState;

const KEY_A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const KEY_B: &str = "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB";
const ZERO: &str = "0000000000000000000000000000000000000000000000000000000000000000";

fn scope(name: &str) -> Option<u32> {
    (name == "eth0").then_some(7)
}

/// Reads the lines and the empty line after them.
fn read(text: &str) -> Result<Request, Refused> {
    let mut parser = Parser::new(scope);
    for line in text.lines().map(str::trim) {
        assert_eq!(parser.line(line), None, "{line} is not the end");
    }
    parser.line("").expect("the end")
}

fn set(lines: &[&str]) -> Result<Update, Refused> {
    match read(&format!("set=1\n{}", lines.join("\n")))? {
        Request::Set(update) => Ok(update),
        Request::Get => panic!("a change was asked for"),
    }
}

fn peer(byte: u8) -> PeerUpdate {
    PeerUpdate::new(PublicKey::from_bytes([byte; 32]))
}

fn public(key: &str) -> String {
    format!("public_key={key}")
}

#[test]
fn requests_are_told_apart() {
    assert_eq!(read("get=1"), Ok(Request::Get));
    assert_eq!(read("set=1"), Ok(Request::Set(Update::default())));
    for bad in ["", "get=2", "set=", "hello", "get=1\nlisten_port=1", "listen_port=1"] {
        assert_eq!(read(bad), Err(INVALID), "{bad}");
    }
}

#[test]
fn every_key_of_the_device_is_read() {
    let check = |line: &str, expect: Option<Update>| assert_eq!(set(&[line]).ok(), expect, "{line}");
    let update = Update::default;
    let key = PrivateKey::from_bytes([0xaa; 32]);
    check(&format!("private_key={KEY_A}"), Some(Update { private_key: Some(Some(key)), ..update() }));
    check(&format!("private_key={ZERO}"), Some(Update { private_key: Some(None), ..update() }));
    check("private_key=aa", None);
    check("private_key=", None);
    check("listen_port=51820", Some(Update { listen_port: Some(51820), ..update() }));
    check("listen_port=0", Some(Update { listen_port: Some(0), ..update() }));
    check("listen_port=65536", None);
    check("listen_port=-1", None);
    check("listen_port=+1", None);
    check("listen_port=", None);
    check("fwmark=51820", Some(Update { fwmark: Some(51820), ..update() }));
    check("fwmark=0xca6c", Some(Update { fwmark: Some(0xca6c), ..update() }));
    check("fwmark=", Some(Update { fwmark: Some(0), ..update() }));
    check("fwmark=4294967296", None);
    check("replace_peers=true", Some(Update { replace_peers: true, ..update() }));
    check("replace_peers=false", None);
    check("endpoint=192.0.2.1:1", None);
    check("no_such_key=1", None);
    check("no equals sign", None);
}

#[test]
fn every_key_of_a_peer_is_read() {
    let check = |line: &str, expect: Option<PeerUpdate>| {
        let read = set(&[&public(KEY_A), line]).ok();
        assert_eq!(read, expect.map(Update::peer), "{line}");
    };
    let same = || peer(0xaa);
    let endpoint = |text: &str| Some(PeerUpdate { endpoint: text.parse().ok(), ..same() });
    let preshared = PresharedKey::from_bytes([0xbb; 32]);
    check("remove=true", Some(PeerUpdate { remove: true, ..same() }));
    check("remove=false", None);
    check("update_only=true", Some(PeerUpdate { update_only: true, ..same() }));
    check(&format!("preshared_key={KEY_B}"), Some(PeerUpdate { preshared_key: Some(preshared), ..same() }));
    check(&format!("preshared_key={ZERO}"), Some(PeerUpdate { preshared_key: Some(None), ..same() }));
    check("preshared_key=zz", None);
    check("endpoint=192.0.2.1:51820", endpoint("192.0.2.1:51820"));
    check("endpoint=[2001:db8::1]:51820", endpoint("[2001:db8::1]:51820"));
    check("endpoint=[fe80::1%eth0]:51820", endpoint("[fe80::1%7]:51820"));
    check("endpoint=[fe80::1%3]:51820", endpoint("[fe80::1%3]:51820"));
    check("endpoint=[fe80::1%nope]:51820", None);
    check("endpoint=[fe80::1%]:51820", None);
    check("endpoint=192.0.2.1", None);
    check("endpoint=192.0.2.1:0", None);
    check("endpoint=vpn.example.org:51820", None);
    check("persistent_keepalive_interval=25", Some(PeerUpdate { keepalive_seconds: Some(25), ..same() }));
    check("persistent_keepalive_interval=65536", None);
    check("replace_allowed_ips=true", Some(PeerUpdate { replace_allowed_ips: true, ..same() }));
    let net = |text: &str| vec![text.parse().expect("a network")];
    check("allowed_ip=10.0.0.5/24", Some(PeerUpdate { allowed_ips: net("10.0.0.0/24"), ..same() }));
    check("allowed_ip=::/0", Some(PeerUpdate { allowed_ips: net("::/0"), ..same() }));
    check("allowed_ip=-10.0.0.0/24", Some(PeerUpdate { disallowed_ips: net("10.0.0.0/24"), ..same() }));
    check("allowed_ip=10.0.0.0/33", None);
    check("allowed_ip=10.0.0.0", None);
    check("protocol_version=1", Some(same()));
    check("protocol_version=2", None);
    check("listen_port=1", None);
    check("public_key=aa", None);
}

#[test]
fn fields_of_one_peer_do_not_leak_into_the_next() {
    let full = [
        &public(KEY_A),
        "remove=true",
        "update_only=true",
        "endpoint=192.0.2.1:1",
        "persistent_keepalive_interval=25",
        &format!("preshared_key={KEY_B}"),
        "replace_allowed_ips=true",
        "allowed_ip=10.0.0.1/32",
        &public(KEY_B),
    ];
    let update = set(&full).expect("is read");
    assert_eq!(update.peers.len(), 2);
    assert_eq!(update.peers[1], peer(0xbb));
}

#[test]
fn a_request_with_a_fault_is_read_to_its_end_and_refused_for_the_first_fault() {
    let lines = [&*public(KEY_A), "protocol_version=2", "nonsense", "allowed_ip=10.0.0.0/8"];
    assert_eq!(set(&lines), Err(Refused(libc::EPROTONOSUPPORT)));
    let mut parser = Parser::new(scope);
    assert_eq!(parser.line("set=1"), None);
    parser.unreadable(1000);
    assert_eq!((parser.line("listen_port=1"), parser.line("")), (None, Some(Err(INVALID))));
}

#[test]
fn a_request_that_does_not_end_is_noticed() {
    let mut parser = Parser::new(scope);
    assert!(!parser.is_too_long());
    parser.unreadable(REQUEST_BYTES_MAX + 1);
    assert!(parser.is_too_long());
}

#[test]
fn a_state_is_printed_as_wg_reads_it() {
    let state = DeviceState {
        name: "wg0".into(),
        private_key: Some(PrivateKey::from_bytes([0xaa; 32])),
        listen_port: 51820,
        fwmark: 7,
        peers: vec![PeerState {
            key: PublicKey::from_bytes([0xbb; 32]),
            preshared_key: None,
            endpoint: "[fe80::1%3]:9".parse().ok(),
            last_handshake: Some(SystemTime::UNIX_EPOCH + Duration::new(5, 6)),
            received_bytes: 1,
            sent_bytes: 2,
            keepalive_seconds: 25,
            allowed_ips: BTreeSet::from(["10.0.0.0/8".parse().expect("a network")]),
        }],
    };
    let mut text = String::new();
    print_state(&state, &mut text).expect("writing to memory");
    let expect = format!(
        "private_key={KEY_A}\nlisten_port=51820\nfwmark=7\npublic_key={}\npreshared_key={ZERO}\n\
         protocol_version=1\nendpoint=[fe80::1%3]:9\nlast_handshake_time_sec=5\nlast_handshake_time_nsec=6\n\
         rx_bytes=1\ntx_bytes=2\npersistent_keepalive_interval=25\nallowed_ip=10.0.0.0/8\n",
        KEY_B.to_lowercase()
    );
    assert_eq!(text, expect);
}

fn networks() -> impl Strategy<Value = Vec<IpNet>> {
    let v4 = (any::<[u8; 4]>(), 0u8..=32).prop_map(|(a, l)| IpNet::new(a.into(), l).expect("a length"));
    let v6 = (any::<[u8; 16]>(), 0u8..=128).prop_map(|(a, l)| IpNet::new(a.into(), l).expect("a length"));
    prop::collection::vec(prop_oneof![v4, v6].prop_map(|net| net.trunc()), 0..4)
}

fn endpoints() -> impl Strategy<Value = SocketAddr> {
    let v4 = (any::<[u8; 4]>(), 1u16..).prop_map(|(a, port)| SocketAddr::from((a, port)));
    let v6 = (any::<[u8; 16]>(), 1u16.., any::<u32>())
        .prop_map(|(a, port, scope)| SocketAddrV6::new(a.into(), port, 0, scope).into());
    prop_oneof![v4, v6]
}

prop_compose! {
    fn peers()(
        key in any::<[u8; 32]>(),
        (remove, update_only, replace_allowed_ips) in any::<(bool, bool, bool)>(),
        preshared in prop::option::of(any::<[u8; 32]>()),
        endpoint in prop::option::of(endpoints()),
        keepalive_seconds in any::<Option<u16>>(),
        (allowed_ips, disallowed_ips) in (networks(), networks()),
    ) -> PeerUpdate {
        let preshared_key = preshared.map(PresharedKey::from_bytes);
        PeerUpdate {
            key: PublicKey::from_bytes(key),
            remove, update_only, preshared_key, endpoint, keepalive_seconds,
            replace_allowed_ips, allowed_ips, disallowed_ips,
        }
    }
}

prop_compose! {
    fn updates()(
        private_key in prop::option::of(prop::option::of(any::<[u8; 32]>())),
        (listen_port, fwmark, replace_peers) in any::<(Option<u16>, Option<u32>, bool)>(),
        peers in prop::collection::vec(peers(), 0..4),
    ) -> Update {
        let private_key = private_key.map(|key| key.map(PrivateKey::from_bytes));
        Update { private_key, listen_port, fwmark, replace_peers, peers }
    }
}

proptest! {
    #[test]
    fn what_is_printed_is_read_again(update in updates()) {
        let mut text = String::new();
        print_update(&update, &mut text).expect("writing to memory");
        prop_assert!(text.ends_with("\n\n") || text == "set=1\n\n");
        prop_assert_eq!(read(text.strip_suffix("\n").expect("an empty line")), Ok(Request::Set(update)));
    }

    #[test]
    fn no_text_brings_the_parser_down(lines in prop::collection::vec(".{0,80}", 0..10), keyed in any::<bool>()) {
        let mut parser = Parser::new(scope);
        for line in lines.iter().filter(|line| !line.is_empty()) {
            let line = if keyed { format!("endpoint={line}") } else { line.clone() };
            prop_assert_eq!(parser.line(&line), None);
        }
        prop_assert!(parser.line("").is_some());
    }
}
