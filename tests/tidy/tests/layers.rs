//! The layer table of ARCHITECTURE: which crate may use which, and what each must never reach, with the reason.

use std::collections::BTreeMap;

use tidy::Complaints;
use tidy::circles;
use tidy::graph::{arrows, closure, workspace};

/// Every crate and its layer. An arrow points to a lower layer only.
const LAYERS: &[(&str, u8)] = &[
    ("model", 1),
    ("chacha", 1),
    ("stun", 1),
    ("datagrams", 2),
    ("ca", 2),
    ("backup", 2),
    ("engine", 3),
    ("control", 3),
    ("dns", 3),
    ("wireguard", 3),
    ("tunnel", 4),
    ("stack", 4),
    ("link", 4),
    ("store", 4),
    ("host", 4),
    ("shell", 4),
    ("netd", 5),
    ("apid", 5),
    ("agent", 5),
    ("ctl", 5),
    ("sim", 6),
    ("lab", 6),
    ("tidy", 6),
    ("fuzzed", 6),
    ("conformance", 6),
    ("bench", 7),
];

/// Arrows inside one layer, with their reason.
const BESIDE: &[(&str, &str, &str)] = &[
    ("host", "tunnel", "the hands of a node hold the userspace data plane"),
    (
        "host",
        "stack",
        "without privilege the data plane's packets go to a stack of our own instead of the kernel's",
    ),
    ("host", "link", "drive() is the one event loop of a node, and the loop reads the link"),
];

/// The only crates of ours that these may name.
const ONLY: &[(&str, &[&str], &str)] = &[
    ("model", &[], "it is the ground"),
    ("chacha", &[], "it seals bytes and knows nothing of packets; what is dangerous in it stays small"),
    ("stun", &[], "it is a protocol of everybody's; who asks whom is its users' business"),
    ("ca", &["model"], "it says what a certificate is; who may have one and where it lies is decided above"),
    ("backup", &["model"], "it says what a file is; whose it is and where it lies is decided above"),
    ("datagrams", &[], "it moves bytes of anybody; what is dangerous in it stays small"),
    ("wireguard", &["model", "chacha"], "it is the protocol of the paper, whatever mesh speaks it"),
    ("stack", &[], "it carries packets of anybody; meshes, keys and names are its owner's"),
    (
        "ctl",
        &["model", "link", "backup"],
        "it speaks only the API, and puts its passphrase around what comes",
    ),
    ("shell", &[], "it is what every daemon's main does alike; it knows nothing of meshes"),
    ("store", &["model", "ca", "control"], "it keeps facts; it neither acts nor talks"),
    ("sim", &["model", "engine", "control", "ca", "dns"], "it drives the cores alone, under virtual time"),
    ("conformance", &["model", "dns"], "it compares answers with those of other servers"),
    ("lab", &[], "it judges from outside"),
    ("tidy", &[], "it reads the tree, it does not link it"),
];

/// Crates that touch the world: sockets, files, clocks, threads.
const IO: &[&str] =
    &["tokio", "mio", "socket2", "nix", "rustix", "quinn", "hyper", "axum", "rustls", "sqlx", "sqlx-core"];
const NETLINK: &[&str] =
    &["rtnetlink", "netlink-sys", "netlink-proto", "netlink-packet-core", "netlink-packet-route"];
const DATABASE: &[&str] =
    &["sqlx", "sqlx-core", "sqlx-sqlite", "sqlx-postgres", "libsqlite3-sys", "store", "control"];
const RANDOMNESS: &[&str] = &["rand", "getrandom", "fastrand"];
const OTHER_TLS: &[&str] = &["aws-lc-rs", "aws-lc-sys", "openssl", "openssl-sys", "native-tls", "boring"];

/// What must not be reached, on whatever way.
struct Never {
    crates: &'static [&'static str],
    reach: &'static [&'static [&'static str]],
    because: &'static str,
}

const NEVER: &[Never] = &[
    Never { crates: &["model"], reach: &[IO, NETLINK, RANDOMNESS], because: "it is the ground" },
    Never {
        crates: &["chacha", "stun"],
        reach: &[IO, NETLINK],
        because: "it computes on the bytes that it is given",
    },
    Never {
        crates: &["engine", "control", "ca"],
        reach: &[IO, NETLINK, RANDOMNESS],
        because: "the same code runs in the simulator: time, randomness and the world are arguments",
    },
    // ring brings `getrandom` for itself; that wireguard does not ask it is its clippy.toml's business.
    Never {
        crates: &["wireguard"],
        reach: &[IO, NETLINK],
        because: "time and randomness are arguments, sockets belong to the tunnel",
    },
    // hickory-proto brings `rand` for its own client; that dns does not use it is its clippy.toml's business.
    Never {
        crates: &["dns"],
        reach: &[IO, NETLINK],
        because: "the same code runs in the simulator; sockets belong to its feature `serve`",
    },
    Never {
        crates: &["engine"],
        reach: &[&["control", "store"]],
        because: "the server decides, the node does",
    },
    Never {
        crates: &["control"],
        reach: &[&["engine", "host", "tunnel"]],
        because: "the server decides, the node does",
    },
    Never { crates: &["netd", "agent", "host"], reach: &[DATABASE], because: "root code links no database" },
    Never {
        crates: &["apid"],
        reach: &[NETLINK, &["host", "tunnel", "boringtun", "engine"]],
        because: "the process with secrets has no hands",
    },
    Never {
        crates: &["store"],
        reach: &[NETLINK, &["host", "tunnel", "link", "engine"]],
        because: "it keeps facts; it has no hands",
    },
    Never {
        crates: &["ctl"],
        reach: &[NETLINK, DATABASE, &["host", "tunnel", "engine"]],
        because: "it speaks only the API",
    },
    Never {
        crates: &["sim"],
        reach: &[IO, NETLINK],
        because: "one seed is one run: no thread, socket or clock may join in",
    },
    Never {
        crates: &["netd", "apid", "agent", "ctl"],
        reach: &[OTHER_TLS],
        because: "one TLS and crypto provider: ring, because boringtun brings it",
    },
];

#[test]
fn every_crate_has_a_layer() {
    let workspace = workspace();
    let mut complaints = Complaints::new();
    for package in &workspace.packages {
        if !LAYERS.iter().any(|(name, _)| package.name == *name) {
            complaints
                .add(&package.name, "give it a layer in tests/tidy/tests/layers.rs and in ARCHITECTURE.md");
        }
    }
    for (name, _) in LAYERS {
        if !workspace.packages.iter().any(|package| package.name == *name) {
            complaints.add(name, "no such crate: take it out of tests/tidy/tests/layers.rs");
        }
    }
    complaints.settle();
}

#[test]
fn arrows_point_down() {
    let layer: BTreeMap<&str, u8> = LAYERS.iter().copied().collect();
    let mut complaints = Complaints::new();
    for (from, below) in arrows(&workspace()) {
        for to in below {
            let down = layer.get(from.as_str()) > layer.get(to.as_str());
            if !down && !BESIDE.iter().any(|(a, b, _)| (*a, *b) == (from.as_str(), to.as_str())) {
                complaints.add(
                    format_args!("{from} uses {to}"),
                    "arrows point down: move what both need into a lower crate, or pass it as an argument",
                );
            }
        }
    }
    complaints.settle();
}

#[test]
fn some_crates_know_only_a_few() {
    let arrows = arrows(&workspace());
    let mut complaints = Complaints::new();
    for (name, allowed, reason) in ONLY {
        for other in
            arrows.get(*name).into_iter().flatten().filter(|other| !allowed.contains(&other.as_str()))
        {
            complaints.add(format_args!("{name} uses {other}"), format_args!("it must not: {reason}"));
        }
    }
    complaints.settle();
}

#[test]
fn what_must_not_be_reached_is_not_reached() {
    let mut complaints = Complaints::new();
    for Never { crates, reach, because } in NEVER {
        for name in *crates {
            let reached = closure(name);
            for other in reach.iter().copied().flatten().filter(|other| reached.contains(**other)) {
                complaints.add(
                    format_args!("{name} reaches {other}"),
                    format_args!(
                        "it must not: {because}; see `cargo tree --package {name} --invert {other}`"
                    ),
                );
            }
        }
    }
    complaints.settle();
}

#[test]
fn crates_do_not_name_each_other_in_a_circle() {
    let mut complaints = Complaints::new();
    for circle in circles::circles(&arrows(&workspace())) {
        complaints.add(circle.join(" → "), "a circle of crates: one of the arrows is wrong");
    }
    complaints.settle();
}
