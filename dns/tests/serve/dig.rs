//! What dig (Debian package bind9-dnsutils), which nobody here wrote, makes of our answers.

use std::net::SocketAddr;

use dns::Rcode;
use tokio::process::Command;

use crate::start;

/// The output of dig, which has nothing to warn of.
async fn dig(server: SocketAddr, arguments: &str) -> String {
    let mut command = Command::new("dig");
    command.args(["-r", "+tries=1", "+time=5", "+nocookie"]);
    command.arg(format!("@{}", server.ip())).args(["-p", &server.port().to_string()]);
    let output =
        command.args(arguments.split(' ')).output().await.expect("dig is installed (bind9-dnsutils)");
    // Recursion is wished for and not available: as it should be.
    let text = String::from_utf8(output.stdout).expect("dig writes text");
    let text = text.replace(";; WARNING: recursion requested but not available", "");
    assert!(output.status.success(), "dig {arguments}: {text}");
    assert!(!text.contains("WARNING") && !text.contains("malformed"), "dig {arguments}: {text}");
    text.replace('\t', " ")
}

/// dig's output has every one of these, and none of those that begin with `!`.
async fn check(server: SocketAddr, arguments: &str, expect: &[&str]) {
    let output = dig(server, arguments).await;
    let squeezed = output.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    for part in expect {
        let (wanted, part) = part.strip_prefix('!').map_or((true, *part), |part| (false, part));
        assert_eq!(squeezed.contains(part), wanted, "dig {arguments}: {part:?} in\n{output}");
    }
}

const NEGATIVE: &str = "10 IN SOA hub.home.internal. hostmaster.home.internal. 7 3600 600 86400 10";

#[tokio::test]
async fn dig_gets_what_it_asks_for() {
    let (_names, server, at) = start().await;
    let a = "laptop.home.internal. 30 IN A 100.64.0.2";
    let found = ["status: NOERROR", "flags: qr aa rd;", "ANSWER: 1,", "udp: 1232", a];
    check(at, "+norec laptop.home.internal", &["status: NOERROR", "flags: qr aa;", a]).await;
    check(at, "+rec laptop.home.internal", &found).await;
    check(at, "+rec +tcp laptop.home.internal", &found).await;
    check(at, "laptop.home.internal AAAA", &["laptop.home.internal. 30 IN AAAA fd12:3456:789a::2"]).await;
    check(at, "LAPTOP.home.Internal", &["LAPTOP.home.Internal. 30 IN A 100.64.0.2"]).await;
    check(at, "missing.home.internal", &["status: NXDOMAIN", "ANSWER: 0, AUTHORITY: 1", NEGATIVE]).await;
    check(at, "v4only.home.internal AAAA", &["status: NOERROR", "ANSWER: 0, AUTHORITY: 1", NEGATIVE]).await;
    let chain = ["ANSWER: 3,", "IN CNAME www.home.internal.", "IN CNAME laptop.home.internal.", a];
    check(at, "alias.home.internal", &chain).await;
    check(at, "laptop.home.internal ANY", &["ANSWER: 1,", "HINFO \"RFC8482\" \"\""]).await;
    check(at, "-x 100.64.0.2", &["2.0.64.100.in-addr.arpa. 30 IN PTR laptop.home.internal."]).await;
    check(at, "-x fd12:3456:789a::2", &["30 IN PTR laptop.home.internal."]).await;
    check(at, "-x 100.64.0.200", &["status: NXDOMAIN", "64.100.in-addr.arpa. 10 IN SOA"]).await;
    check(at, "-x 192.0.2.1", &["status: REFUSED"]).await;
    check(at, "example.org", &["status: REFUSED", "!ra;"]).await;
    check(at, "version.bind CH TXT", &["status: REFUSED"]).await;
    check(at, "home.internal NS", &["30 IN NS hub.home.internal."]).await;
    assert_eq!(server.counters().answered(Rcode::NxDomain), 2);
    assert_eq!(server.counters().answered(Rcode::Refused), 3);
    server.close().await;
}

/// The checks of RFC 8906, section 8.
#[tokio::test]
async fn dig_finds_no_fault_with_edns() {
    let (_names, server, at) = start().await;
    let soa = "ANSWER: 1,";
    check(at, "+norec +noedns home.internal SOA", &["status: NOERROR", soa, "!OPT PSEUDOSECTION"]).await;
    check(
        at,
        "+norec +edns=0 home.internal SOA",
        &["status: NOERROR", soa, "EDNS: version: 0, flags:; udp: 1232"],
    )
    .await;
    let badvers = ["status: BADVERS", "EDNS: version: 0", "ANSWER: 0,"];
    check(at, "+norec +edns=1 +noednsneg home.internal SOA", &badvers).await;
    check(at, "+norec +edns=100 +noednsneg +ednsopt=100 home.internal SOA", &badvers).await;
    check(at, "+norec +edns=1 home.internal SOA", &["status: NOERROR", soa]).await;
    check(at, "+norec +ednsopt=100:00ff home.internal SOA", &["status: NOERROR", soa, "!OPT=100"]).await;
    check(at, "+norec +ednsflags=0x80 home.internal SOA", &["status: NOERROR", soa, "flags:; udp"]).await;
    check(at, "+norec +dnssec home.internal SOA", &["status: NOERROR", soa, "flags: do; udp: 1232"]).await;
    check(at, "+norec +cookie home.internal SOA", &["status: NOERROR", soa]).await;
    check(at, "+norec +subnet=192.0.2.0/24 home.internal SOA", &["status: NOERROR", soa]).await;
    check(at, "+norec +opcode=15 +header-only", &["status: NOTIMP", "opcode: RESERVED15"]).await;
    check(at, "+norec +header-only", &["status: FORMERR"]).await;
    check(at, "+norec TYPE666 home.internal", &["status: NOERROR", "AUTHORITY: 1"]).await;
    check(at, "+norec +zflag home.internal SOA", &["status: NOERROR", soa, "!MBZ"]).await;
    check(at, "+norec +adflag +cdflag home.internal SOA", &["status: NOERROR", "! ad"]).await;
    check(at, "+ignore +bufsize=512 big.home.internal TXT", &["flags: qr aa tc", "ANSWER: 0,"]).await;
    check(at, "+ignore +bufsize=4096 big.home.internal TXT", &["flags: qr aa tc", "ANSWER: 0,"]).await;
    check(at, "+bufsize=512 big.home.internal TXT", &["flags: qr aa rd;", "ANSWER: 30,", "(TCP)"]).await;
    check(at, "+tcp +keepopen laptop.home.internal www.home.internal", &["100.64.0.2", "IN CNAME"]).await;
    assert_eq!(server.counters().dropped(), 0);
    server.close().await;
}
