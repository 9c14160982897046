//! The hub's names, asked as resolvers of every age and kind ask: the table of RFC 8906 (section 8) by dig, and other
//! people's tools: kdig and drill, or those that `WARREN_DNS_TOOLS` names.
//!
//! ```text
//!   alpha ── r-alpha ── inet ── server (apid, netd)      alpha asks 100.64.0.1, through the tunnel
//! ```

#![allow(clippy::print_stdout)] // Shown when a story fails, and by scripts/dns-conformance.

use std::collections::BTreeSet;

use lab::{HUB, Mesh, SOON, TENANT_ZONE};

const TOOLS: &str = "WARREN_DNS_TOOLS";
/// More than a datagram holds.
const TEXTS: usize = 24;

/// A mesh with one device and a name of every kind.
fn mesh() -> Mesh {
    let mesh = Mesh::new(&["alpha"]);
    mesh.enrol(["alpha"]);
    let add = |name: &str, kind: &str, value: &str| {
        mesh.on("server").ok(&["warren", "dns", "add", name, kind, value]);
    };
    add("*.apps", "A", "192.0.2.1");
    add("own.apps", "TXT", "a text of its own");
    add("www", "CNAME", "any.apps.home.internal");
    add("away", "CNAME", "www.example.org");
    add("_http._tcp", "SRV", "10 5 8080 alpha.home.internal");
    for number in 0..TEXTS {
        add("long", "TXT", &format!("{number} {}", "x".repeat(100)));
    }
    let long = format!("long.{TENANT_ZONE}");
    let all = ["dig", "+short", "+tcp", &format!("@{HUB}"), &long, "TXT"];
    mesh.on("alpha").wait("the hub has all names", SOON, &all, |done| done.out.lines().count() == TEXTS);
    mesh
}

/// What dig tells of an answer, on one line: status, flags, how many questions, answers and authorities, EDNS with its
/// flags and size, options; and whatever it complains about.
fn told(out: &str) -> String {
    let after = |line: &str, begin: &str| -> Option<String> {
        let rest = line.split_once(begin)?.1;
        Some(rest.split([',', ';']).next().unwrap_or_default().trim().to_owned())
    };
    let mut parts = Vec::new();
    for line in out.lines() {
        if line.starts_with(";; ->>HEADER<<-") {
            parts.extend(after(line, "status: "));
        } else if line.starts_with(";; flags: ") {
            parts.extend(after(line, "flags: "));
            parts.extend(after(line, "MBZ: ").map(|bits| format!("unknown {bits}")));
            let counts =
                ["QUERY: ", "ANSWER: ", "AUTHORITY: "].map(|name| after(line, name).unwrap_or_default());
            parts.push(counts.join("/"));
        } else if line.starts_with("; EDNS: ") {
            let edns = ["version: ", "flags:", "udp: "].map(|name| after(line, name).unwrap_or_default());
            parts.push(format!("edns {}", edns.join(" ").replace("  ", " ")));
            parts.extend(after(line, "MBZ: ").map(|bits| format!("unknown {bits}")));
        } else if line.contains("Transfer failed") || line.contains(";; communications error") {
            parts.push(line.trim_matches([';', ' ', '.']).to_owned());
        } else if line.starts_with("; ") && line.contains(": ") && line.contains(char::is_uppercase) {
            parts.push(line.trim_start_matches("; ").to_owned());
        } else if line.to_lowercase().contains("warning") && !line.contains("recursion requested") {
            parts.push(line.to_owned());
        }
    }
    parts.join(" ")
}

fn check(mesh: &Mesh, wrong: &mut Vec<String>, args: &str, expect: &str) {
    let server = format!("@{HUB}");
    let mut command = vec!["dig", &server, "+time=3", "+tries=1"];
    command.extend(args.split(' '));
    let said = told(&mesh.on("alpha").run(&command).out);
    println!("{said:<36} {args}");
    if said != expect {
        wrong.push(format!("dig {args}\n  said   {said}\n  expect {expect}"));
    }
}

#[test]
fn dig_asks() {
    let mesh = mesh();
    let mut wrong = Vec::new();
    for (args, expect) in RFC_8906.iter().chain(OURS) {
        check(&mesh, &mut wrong, args, expect);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// RFC 8906, section 8, in its order, and its twins over TCP.
const RFC_8906: &[(&str, &str)] = &[
    // 8.1.1: is it there at all, and authoritative.
    ("+noedns +noad +norec home.internal SOA", "NOERROR qr aa 1/1/0"),
    // 8.1.2: a type that nobody knows is no data.
    ("+noedns +noad +norec home.internal TYPE1000", "NOERROR qr aa 1/0/1"),
    // 8.1.3: bits of the header: CD, AD, the reserved one, RD.
    ("+noedns +noad +norec +cdflag home.internal SOA", "NOERROR qr aa cd 1/1/0"),
    ("+noedns +norec +adflag home.internal SOA", "NOERROR qr aa 1/1/0"),
    ("+noedns +noad +norec +zflag home.internal SOA", "NOERROR qr aa 1/1/0"),
    ("+noedns +noad +rec home.internal SOA", "NOERROR qr aa rd 1/1/0"),
    // 8.1.4: opcodes that nobody knows.
    ("+noedns +noad +opcode=15 +norec +header-only home.internal SOA", "NOTIMP qr 0/0/0"),
    ("+noedns +noad +opcode=3 +norec home.internal SOA", "NOTIMP qr 1/0/0"),
    // 8.1.5: TCP.
    ("+noedns +noad +norec +tcp home.internal SOA", "NOERROR qr aa 1/1/0"),
    // 8.2.1: EDNS.
    ("+nocookie +edns=0 +noad +norec home.internal SOA", "NOERROR qr aa 1/1/0 edns 0 1232"),
    // 8.2.2: a version that nobody knows.
    ("+nocookie +edns=1 +noednsneg +noad +norec home.internal SOA", "BADVERS qr 1/0/0 edns 0 1232"),
    // 8.2.3: an option that nobody knows.
    ("+nocookie +edns=0 +noad +norec +ednsopt=100 home.internal SOA", "NOERROR qr aa 1/1/0 edns 0 1232"),
    // 8.2.4: flags that nobody knows.
    ("+nocookie +edns=0 +noad +norec +ednsflags=0x40 home.internal SOA", "NOERROR qr aa 1/1/0 edns 0 1232"),
    // 8.2.5: version and flags.
    (
        "+nocookie +edns=1 +noednsneg +noad +norec +ednsflags=0x40 home.internal SOA",
        "BADVERS qr 1/0/0 edns 0 1232",
    ),
    // 8.2.6: version and option.
    (
        "+nocookie +edns=1 +noednsneg +noad +norec +ednsopt=100 home.internal SOA",
        "BADVERS qr 1/0/0 edns 0 1232",
    ),
    // 8.2.7: an answer that does not fit.
    (
        "+nocookie +norec +noad +dnssec +bufsize=512 +ignore long.home.internal TXT",
        "NOERROR qr aa tc 1/0/0 edns 0 do 1232",
    ),
    // 8.2.8: DO is given back.
    ("+nocookie +edns=0 +noad +norec +dnssec home.internal SOA", "NOERROR qr aa 1/1/0 edns 0 do 1232"),
    // 8.2.9: DO and a version that nobody knows.
    (
        "+nocookie +edns=1 +noednsneg +noad +norec +dnssec home.internal SOA",
        "BADVERS qr 1/0/0 edns 0 do 1232",
    ),
    // 8.2.10: all options of the time at once.
    (
        "+edns=0 +noad +norec +nsid +subnet=0.0.0.0/0 +expire +cookie home.internal SOA",
        "NOERROR qr aa 1/1/0 edns 0 1232",
    ),
    // The same over TCP, where EDNS means as much.
    ("+tcp +nocookie +edns=0 +noad +norec home.internal SOA", "NOERROR qr aa 1/1/0 edns 0 1232"),
    ("+tcp +nocookie +edns=1 +noednsneg +noad +norec home.internal SOA", "BADVERS qr 1/0/0 edns 0 1232"),
    ("+tcp +nocookie +edns=0 +noad +norec +ednsopt=100 home.internal SOA", "NOERROR qr aa 1/1/0 edns 0 1232"),
    (
        "+tcp +nocookie +edns=0 +noad +norec +ednsflags=0x80 home.internal SOA",
        "NOERROR qr aa 1/1/0 edns 0 1232",
    ),
    ("+tcp +noedns +noad +norec home.internal TYPE1000", "NOERROR qr aa 1/0/1"),
    ("+tcp +noedns +noad +opcode=15 +norec +header-only home.internal SOA", "NOTIMP qr 0/0/0"),
];

/// What names are there, what is not, and what is nobody's business here.
const OURS: &[(&str, &str)] = &[
    ("+norec +nocookie alpha.home.internal A", "NOERROR qr aa 1/1/0 edns 0 1232"),
    ("+norec +nocookie AlPhA.HoMe.InTeRnAl AAAA", "NOERROR qr aa 1/1/0 edns 0 1232"),
    ("+norec +nocookie alpha.home.internal MX", "NOERROR qr aa 1/0/1 edns 0 1232"),
    ("+norec +nocookie missing.home.internal A", "NXDOMAIN qr aa 1/0/1 edns 0 1232"),
    ("+norec +nocookie apps.home.internal A", "NOERROR qr aa 1/0/1 edns 0 1232"),
    ("+norec +nocookie any.apps.home.internal A", "NOERROR qr aa 1/1/0 edns 0 1232"),
    ("+norec +nocookie any.apps.home.internal TXT", "NOERROR qr aa 1/0/1 edns 0 1232"),
    ("+norec +nocookie any.own.apps.home.internal A", "NXDOMAIN qr aa 1/0/1 edns 0 1232"),
    ("+norec +nocookie www.home.internal A", "NOERROR qr aa 1/2/0 edns 0 1232"),
    ("+norec +nocookie away.home.internal A", "NOERROR qr aa 1/1/0 edns 0 1232"),
    ("+norec +nocookie _http._tcp.home.internal SRV", "NOERROR qr aa 1/1/0 edns 0 1232"),
    ("+norec +nocookie home.internal NS", "NOERROR qr aa 1/1/0 edns 0 1232"),
    ("+norec +nocookie alpha.home.internal ANY", "NOERROR qr aa 1/1/0 edns 0 1232"),
    (
        "+norec +nocookie +notcp +ignore +bufsize=1232 long.home.internal TXT",
        "NOERROR qr aa tc 1/0/0 edns 0 1232",
    ),
    ("+norec +nocookie +noedns +ignore long.home.internal TXT", "NOERROR qr aa tc 1/0/0"),
    ("+norec +nocookie +bufsize=1232 long.home.internal TXT", "NOERROR qr aa 1/24/0 edns 0 1232"),
    ("+norec +nocookie -x 100.64.0.1", "NOERROR qr aa 1/1/0 edns 0 1232"),
    ("+norec +nocookie -x 100.64.9.9", "NXDOMAIN qr aa 1/0/1 edns 0 1232"),
    ("+norec +nocookie www.example.org A", "REFUSED qr 1/0/0 edns 0 1232"),
    ("+norec +nocookie . NS", "REFUSED qr 1/0/0 edns 0 1232"),
    ("+norec +nocookie home.internal AXFR", "Transfer failed"),
    ("+norec +nocookie version.bind CH TXT", "REFUSED qr 1/0/0 edns 0 1232"),
];

/// The tools beside dig.
fn tools() -> BTreeSet<String> {
    let named = std::env::var(TOOLS).unwrap_or_else(|_| "kdig drill".into());
    named.split_whitespace().map(str::to_owned).collect()
}

/// One record a line, however a tool lays it out.
fn records(out: &str) -> BTreeSet<String> {
    let lines = out.lines().filter(|line| !line.starts_with(';') && !line.trim().is_empty());
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn other_tools_read_what_dig_reads() {
    let tools = tools();
    let mesh = mesh();
    let server = format!("@{HUB}");
    let mut compared = 0;
    for question in [
        ["alpha.home.internal", "A"],
        ["alpha.home.internal", "AAAA"],
        ["alpha.home.internal", "MX"],
        ["missing.home.internal", "A"],
        ["any.apps.home.internal", "A"],
        ["www.home.internal", "A"],
        ["_http._tcp.home.internal", "SRV"],
        ["long.home.internal", "TXT"],
        ["home.internal", "SOA"],
        ["home.internal", "NS"],
        ["1.0.64.100.in-addr.arpa", "PTR"],
        ["9.9.64.100.in-addr.arpa", "PTR"],
    ] {
        let ask = |tool: &[&str]| records(&mesh.on("alpha").ok(&[tool, &question].concat()));
        let dig = ask(&["dig", &server, "+noall", "+answer", "+authority", "+norec"]);
        assert!(!dig.is_empty(), "{question:?}");
        let kdig = ["kdig", &server, "+noall", "+answer", "+authority", "+norec"];
        let ways: [(&str, Vec<&str>); 5] = [
            ("kdig", kdig.to_vec()),
            ("kdig", [&kdig[..], &["+tcp", "+keepopen"]].concat()),
            ("kdig", [&kdig[..], &["+edns", "+nsid", "+padding=128", "+dnssec", "+bufsize=4096"]].concat()),
            ("drill", vec!["drill", "-a", &server]),
            ("drill", vec!["drill", "-t", "-D", &server]),
        ];
        for (tool, way) in ways.iter().filter(|(tool, _)| tools.contains(*tool)) {
            assert_eq!(ask(way), dig, "{tool} as {way:?} about {question:?}");
            compared += 1;
        }
    }
    println!("{compared} answers are read alike by {tools:?}");
    assert!(compared > 0, "{TOOLS} names kdig, drill or both");
}
