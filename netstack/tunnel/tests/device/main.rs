//! Devices in network namespaces, driven by Debian's `wg` and judged by `ping`. Needs root, `wg`, `ping` and
//! `wireguard-go`; the interfaces are Warren's own, because the kernel under test may have no WireGuard.
//!
//! ```text
//!   namespace a                                   namespace b
//!   10.9.0.1, fd09::1  veth ───────────── veth   10.9.0.2, fd09::2
//!   10.77.0.1, fd77::1 tunnel ═══════════ tunnel 10.77.0.2, fd77::2
//! ```

mod lab;

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use lab::{Engine, Lab, Side, until};

#[test]
fn two_devices_reach_each_other_over_both_families() {
    let lab = Lab::pair(Engine::Warren, Engine::Warren);
    for outer in ["10.9.0.2", "[fd09::2]"] {
        lab.a.wg_set(&format!("peer {} endpoint {outer}:51820", lab.b.public));
        lab.a.assert_ping("10.77.0.2", 5);
        lab.a.assert_ping("fd77::2", 5);
    }
    let (a, b) = (lab.a.peer_of(&lab.b), lab.b.peer_of(&lab.a));
    assert!(a.handshake > 0 && b.handshake > 0, "both sides know of the handshake");
    assert!(a.received > 0 && a.received == b.sent, "{a:?} {b:?}");
    assert!(a.sent > 0 && a.sent == b.received, "{a:?} {b:?}");
    assert_eq!(b.endpoint, format!("[fd09::1]:{}", lab.a.port()));
}

#[test]
fn packets_of_every_length_come_through() {
    let lab = Lab::joined(Engine::Warren, Engine::Warren);
    for length in [0, 1, 8, 15, 16, 17, 1000, 1391, 1392] {
        lab.a.assert_ping_with(&["-c", "2", "-M", "do", "-s", &length.to_string(), "10.77.0.2"]);
    }
    // In fragments inside the tunnel, and outside of it over a path that is narrower than it was.
    lab.a.assert_ping_with(&["-c", "2", "-s", "4000", "10.77.0.2"]);
    lab.a.ip("link set veth mtu 1280");
    lab.b.ip("link set veth mtu 1280");
    lab.a.assert_ping_with(&["-c", "2", "-M", "do", "-s", "1392", "10.77.0.2"]);
}

#[test]
fn changing_a_peer_does_not_interrupt_its_session() {
    let lab = Lab::joined(Engine::Warren, Engine::Warren);
    let before = lab.a.peer_of(&lab.b).handshake;
    let ping = lab.a.start_ping("10.77.0.2", 60);
    let port = lab.b.port();
    for n in 0..10u32 {
        lab.a.wg_set(&format!(
            "peer {} allowed-ips 10.77.0.2/32,fd77::2/128,10.88.{n}.0/24 endpoint 10.9.0.2:{port} \
             persistent-keepalive {}",
            lab.b.public,
            n + 1
        ));
        lab.b.wg_set(&format!("peer {} persistent-keepalive {}", lab.a.public, n));
    }
    let preshared = lab.file("preshared", &lab::random_key());
    for (side, other) in [(&lab.a, &lab.b), (&lab.b, &lab.a)] {
        side.wg_set(&format!("peer {} preshared-key {preshared}", other.public));
    }
    // Peers come and go beside it, also from one network that the peer has now.
    let stranger = lab::random_public();
    for net in ["10.99.0.0/16", "10.88.9.0/24"] {
        lab.a.wg_set(&format!("peer {stranger} allowed-ips {net}"));
    }
    lab.a.wg_set(&format!("peer {stranger} remove"));
    ping.assert_no_loss();
    assert_eq!(lab.a.peer_of(&lab.b).handshake, before, "the session is the old one");
}

#[test]
fn a_preshared_key_serves_the_next_handshake_and_a_wrong_one_prevents_it() {
    let lab = Lab::joined(Engine::Warren, Engine::Warren);
    let preshared = lab.file("preshared", &lab::random_key());
    lab.a.wg_set(&format!("peer {} preshared-key {preshared}", lab.b.public));
    lab.a.assert_ping("10.77.0.2", 2);
    lab.b.restart();
    lab.b.configure(&lab.a, None);
    assert!(!lab.a.pings("10.77.0.2"), "only one side has the key");
    lab.b.wg_set(&format!(
        "peer {} preshared-key {preshared} endpoint 10.9.0.1:{}",
        lab.a.public,
        lab.a.port()
    ));
    lab.b.assert_ping("10.77.0.1", 3);
}

#[test]
fn a_network_moves_from_one_peer_to_another() {
    let lab = Lab::joined(Engine::Warren, Engine::Warren);
    let stranger = lab::random_public();
    lab.a.wg_set(&format!("peer {stranger} allowed-ips 10.77.0.2/32"));
    let allowed = lab.a.wg(&["show", &lab.a.interface, "allowed-ips"]);
    assert!(allowed.contains(&format!("{stranger}\t10.77.0.2/32")), "{allowed}");
    assert!(allowed.contains(&format!("{}\tfd77::2/128", lab.b.public)), "{allowed}");
    assert!(!lab.a.pings("10.77.0.2"), "it is another's now");
    assert!(!lab.b.pings("10.77.0.1"), "what comes from it is not the peer's");
    lab.a.assert_ping("fd77::2", 2);
    lab.a.wg_set(&format!("peer {} allowed-ips 10.77.0.2/32,fd77::2/128", lab.b.public));
    lab.a.assert_ping("10.77.0.2", 2);
}

#[test]
fn a_peer_that_moves_is_followed() {
    let lab = Lab::joined(Engine::Warren, Engine::Warren);
    lab.b.ip("addr add 10.9.0.77/24 dev veth");
    lab.b.ip("addr del 10.9.0.2/24 dev veth");
    lab.b.ip("addr replace 10.9.0.77/24 dev veth");
    lab.b.assert_ping("10.77.0.1", 3);
    assert_eq!(lab.a.peer_of(&lab.b).endpoint, format!("10.9.0.77:{}", lab.b.port()));
    lab.a.assert_ping("10.77.0.2", 3);
}

#[test]
fn the_port_changes_while_packets_flow() {
    let lab = Lab::joined(Engine::Warren, Engine::Warren);
    let taken = lab.a.run_in(&["ss", "-Hlun"]);
    assert!(taken.contains(&format!(":{}", lab.a.port())), "{taken}");
    let ping = lab.a.start_ping("10.77.0.2", 40);
    lab.a.wg_set("listen-port 40404");
    ping.assert_loss_at_most(2);
    assert_eq!(lab.a.port(), 40404);
    assert_eq!(lab.b.peer_of(&lab.a).endpoint, "10.9.0.1:40404");
    let _holder = lab.a.hold_port(40405);
    let refused = lab.a.wg_fails(&["set", &lab.a.interface, "listen-port", "40405"]);
    assert!(refused.contains("Address already in use"), "{refused}");
    lab.a.wg_set("fwmark 0x2a");
    assert_eq!(lab.a.wg(&["show", &lab.a.interface, "fwmark"]).trim(), "0x2a");
    lab.a.assert_ping("10.77.0.2", 3);
}

#[test]
fn another_private_key_ends_the_sessions_and_the_same_key_does_not() {
    let lab = Lab::joined(Engine::Warren, Engine::Warren);
    let before = lab.a.peer_of(&lab.b).handshake;
    let same = lab.file("same", &lab.a.private);
    let ping = lab.a.start_ping("10.77.0.2", 20);
    lab.a.wg_set(&format!("private-key {same}"));
    ping.assert_no_loss();
    assert_eq!(lab.a.peer_of(&lab.b).handshake, before);
    let other = lab.file("other", &lab::random_key());
    lab.a.wg_set(&format!("private-key {other}"));
    assert!(!lab.a.pings("10.77.0.2"), "nobody knows the new key");
    let public = lab.a.wg(&["show", &lab.a.interface, "public-key"]);
    // a has called in vain, and calls again only after five seconds; b calls at once.
    lab.b.wg_set(&format!(
        "peer {} allowed-ips 10.77.0.1/32,fd77::1/128 endpoint 10.9.0.1:{}",
        public.trim(),
        lab.a.port()
    ));
    lab.b.assert_ping("10.77.0.1", 3);
    lab.a.assert_ping("10.77.0.2", 3);
    // A device is no peer of itself.
    lab.a.wg_set(&format!("peer {} allowed-ips 10.1.0.0/16", public.trim()));
    assert!(!lab.a.wg(&["show", &lab.a.interface, "peers"]).contains(public.trim()));
}

#[test]
fn files_of_wg_are_taken_and_given() {
    let lab = Lab::joined(Engine::Warren, Engine::Warren);
    // setconf ends the session. An initiation less than 20 ms after the one before is not answered, and repeated after
    // five seconds: two pings are 50 ms apart.
    lab.a.assert_ping("10.77.0.2", 2);
    let (interface, other) = (lab.a.interface.clone(), lab::random_public());
    let shown = lab.a.wg(&["showconf", &interface]);
    let path = lab.file("whole.conf", &shown);
    lab.a.wg(&["setconf", &interface, &path]);
    assert_eq!(lab.a.wg(&["showconf", &interface]), shown, "what was shown is set again");
    lab.a.assert_ping("10.77.0.2", 5);

    let more = lab.file("more.conf", &format!("[Peer]\nPublicKey = {other}\nAllowedIPs = 10.5.0.0/16\n"));
    let ping = lab.a.start_ping("10.77.0.2", 30);
    lab.a.wg(&["addconf", &interface, &more]);
    assert!(lab.a.wg(&["show", &interface, "peers"]).contains(&other));
    lab.a.wg(&["syncconf", &interface, &path]);
    assert!(!lab.a.wg(&["show", &interface, "peers"]).contains(&other));
    lab.a.wg(&["syncconf", &interface, &path]);
    ping.assert_no_loss();

    let empty = lab.file("empty.conf", "[Interface]\n");
    lab.a.wg(&["setconf", &interface, &empty]);
    assert_eq!(lab.a.wg(&["show", &interface, "peers"]), "");
    assert_eq!(lab.a.wg(&["show", &interface, "private-key"]).trim(), "(none)");
}

#[test]
fn ten_thousand_peers_are_set_shown_and_idle() {
    let lab = Lab::joined(Engine::Warren, Engine::Warren);
    let mut conf = lab.a.wg(&["showconf", &lab.a.interface]);
    for n in 0..10_000u32 {
        let address = std::net::Ipv4Addr::from(0x6440_0000 + n);
        let key = lab::numbered_public(n);
        writeln!(conf, "[Peer]\nPublicKey = {key}\nAllowedIPs = {address}/32, fd64::{n:x}/128")
            .expect("memory");
        writeln!(conf, "Endpoint = 192.0.2.1:51820\n").expect("memory");
    }
    let path = lab.file("many.conf", &conf);
    let started = Instant::now();
    lab.a.wg(&["setconf", &lab.a.interface, &path]);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let peers = lab.a.wg(&["show", &lab.a.interface, "peers"]);
    assert_eq!(peers.lines().count(), 10_001);
    lab.a.assert_ping("10.77.0.2", 3);
    lab.a.wg(&["syncconf", &lab.a.interface, &path]);
    assert_eq!(lab.a.wg(&["show", &lab.a.interface, "dump"]).lines().count(), 10_002);
    let resident = lab.a.resident_bytes();
    assert!(resident < 30 << 20, "{resident} bytes with ten thousand peers");
    let (ticks, watched) = (lab.a.cpu_ticks(), Instant::now());
    until("two seconds pass", Duration::from_secs(5), || watched.elapsed() > Duration::from_secs(2));
    assert!(lab.a.cpu_ticks() - ticks <= 2, "an idle device uses CPU");
}

#[test]
fn wireguard_go_is_understood() {
    for (a, b) in [(Engine::Warren, Engine::Go), (Engine::Go, Engine::Warren)] {
        let lab = Lab::pair(a, b);
        let preshared = lab.file("preshared", &lab::random_key());
        for (side, other) in [(&lab.a, &lab.b), (&lab.b, &lab.a)] {
            side.wg_set(&format!("peer {} preshared-key {preshared}", other.public));
        }
        lab.a.wg_set(&format!("peer {} endpoint [fd09::2]:{}", lab.b.public, lab.b.port()));
        lab.a.assert_ping("10.77.0.2", 10);
        lab.b.assert_ping("fd77::1", 10);
        for length in [0, 1, 16, 1000, 1392] {
            lab.b.assert_ping_with(&["-c", "2", "-s", &length.to_string(), "10.77.0.1"]);
        }
        assert!(lab.a.peer_of(&lab.b).handshake > 0 && lab.b.peer_of(&lab.a).handshake > 0);
    }
}

#[test]
fn a_keepalive_makes_the_session_without_a_packet() {
    let lab = Lab::pair(Engine::Warren, Engine::Warren);
    lab.b.wg_set(&format!("peer {} endpoint 10.9.0.1:{} persistent-keepalive 1", lab.a.public, lab.a.port()));
    until("a handshake", Duration::from_secs(5), || lab.a.peer_of(&lab.b).handshake > 0);
    let before = lab.a.peer_of(&lab.b).received;
    until("two more keepalives", Duration::from_secs(5), || lab.a.peer_of(&lab.b).received >= before + 64);
    lab.a.assert_ping("10.77.0.2", 3);
}

#[test]
fn a_device_that_lost_its_sessions_makes_them_anew_without_a_packet() {
    let lab = Lab::joined(Engine::Warren, Engine::Warren);
    let at = lab.b.peer_of(&lab.a).endpoint;
    lab.b.kill();
    lab.b.restart();
    lab.b.configure(&lab.a, None);
    lab.b.wg_set("listen-port 51820");
    lab.b.wg_set(&format!("peer {} endpoint {at}", lab.a.public));
    assert_eq!(lab.b.peer_of(&lab.a).handshake, 0, "a waits, and b has no packet to send");
    lab.b.begin_handshake(&lab.a.public);
    until("a handshake", Duration::from_secs(2), || lab.b.peer_of(&lab.a).handshake > 0);
    until("a's packets arrive again", Duration::from_secs(2), || lab.a.pings("10.77.0.2"));
}

#[test]
fn handshakes_with_many_are_begun_one_after_the_other() {
    const PEERS: u32 = 100;
    let lab = Lab::pair(Engine::Warren, Engine::Warren);
    let socket = lab.a.hold_port(0);
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let port = socket.local_addr().expect("bound").port();
    for n in 0..PEERS {
        let key = lab::numbered_public(n);
        lab.b.wg_set(&format!("peer {key} endpoint 10.9.0.1:{port}"));
    }
    let started = Instant::now();
    (0..PEERS).for_each(|n| lab.b.begin_handshake(&lab::numbered_public(n)));
    let mut message = [0; 256];
    for _ in 0..PEERS {
        assert_eq!(socket.recv(&mut message).expect("an initiation"), 148);
    }
    assert!(started.elapsed() >= Duration::from_millis(3) * (PEERS - 1), "all at once");
}

#[test]
fn nothing_is_left_behind_and_what_another_left_is_replaced() {
    let lab = Lab::joined(Engine::Warren, Engine::Warren);
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).expect("is there").permissions().mode() & 0o777;
    assert_eq!(mode(&lab.a.socket()), 0o600);
    lab.a.kill();
    assert!(lab.a.socket().exists(), "a killed process leaves its socket");
    lab.a.restart();
    lab.a.configure(&lab.b, Some("10.9.0.2"));
    lab.a.assert_ping("10.77.0.2", 3);
    lab.a.ip(&format!("link del {}", lab.a.interface));
    until("the socket is gone", Duration::from_secs(5), || !lab.a.socket().exists());
    lab.a.stop();
    lab.b.stop();
    assert!(!lab.b.socket().exists());
    assert!(!lab.b.run_in(&["ip", "-o", "link"]).contains(&lab.b.interface));
}

#[test]
fn clients_that_say_nothing_do_not_shut_others_out() {
    let lab = Lab::joined(Engine::Warren, Engine::Warren);
    let connect = || UnixStream::connect(lab.a.socket()).expect("connects");
    let silent: Vec<UnixStream> = (0..8).map(|_| connect()).collect();
    assert!(lab.a.wg(&["show", &lab.a.interface, "peers"]).contains(&lab.b.public));
    drop(silent);
    let ask = |request: &str| {
        let mut client = connect();
        client.set_read_timeout(Some(Duration::from_secs(15))).expect("a timeout");
        client.write_all(request.as_bytes()).expect("is taken");
        let mut answer = [0; 64];
        let length = client.read(&mut answer).expect("is answered");
        String::from_utf8_lossy(&answer[..length]).into_owned()
    };
    assert_eq!(ask("set=1\n\n"), "errno=0\n\n");
    assert_eq!(ask("set=1\nlisten_port=x\n\n"), "errno=-22\n\n");
    assert_eq!(ask(&format!("set=1\nfwmark={}\n\n", "1".repeat(5000))), "errno=-22\n\n");
    assert_eq!(ask("nonsense\n\n"), "errno=-22\n\n");
    let endless = std::iter::repeat_n("allowed_ip=10.0.0.0/8\n", 2_000_000).collect::<String>();
    let mut client = connect();
    client.write_all(b"set=1\n").expect("is taken");
    assert!(client.write_all(endless.as_bytes()).is_err(), "a request without end is cut");
}

#[test]
fn a_flood_of_handshakes_is_answered_with_cookies_and_a_peer_gets_through() {
    let lab = Lab::pair(Engine::Warren, Engine::Warren);
    let flood = lab::Flood::new(&lab.a);
    let flooding = std::thread::spawn(move || flood.until_cookies(Duration::from_secs(20)));
    lab.b.wg_set(&format!("peer {} endpoint 10.9.0.1:{}", lab.a.public, lab.a.port()));
    flooding.join().expect("no panic");
    until("a handshake", Duration::from_secs(20), || lab.b.pings("10.77.0.1"));
}

#[test]
fn what_waits_for_the_handshake_is_sent_by_who_answers_it_too() {
    let lab = Lab::pair(Engine::Warren, Engine::Warren);
    // Only b knows where the other is; a's packet waits until b's handshake comes.
    let side: &Side = &lab.b;
    side.wg_set(&format!("peer {} endpoint 10.9.0.1:{}", lab.a.public, lab.a.port()));
    lab.b.assert_ping("10.77.0.1", 1);
    lab.a.assert_ping("10.77.0.2", 1);
}
