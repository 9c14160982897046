//! Every crate takes the workspace's lints; every core bans the world by its own `clippy.toml`.

use std::fs;

use tidy::Complaints;
use tidy::graph::workspace;
use tidy::tree::root;

/// Cores, as folders, with what each must ban.
const CORES: &[&str] = &["netstack/model", "netstack/engine", "netstack/wireguard", "daemon/control", "dns"];
const BANNED: &[&str] = &[
    "std::time::Instant::now",
    "std::time::SystemTime::now",
    "std::env::var",
    "std::collections::HashMap",
    "std::collections::HashSet",
];

#[test]
fn crates_take_the_lints_of_the_workspace() {
    let mut complaints = Complaints::new();
    for package in workspace().packages {
        let manifest = fs::read_to_string(&package.manifest_path).expect("cargo named the manifest");
        if !manifest.contains("[lints]\nworkspace = true") {
            complaints.add(&package.manifest_path, "add `[lints]` with `workspace = true`");
        }
    }
    complaints.settle();
}

#[test]
fn cores_ban_clocks_environment_and_hash_order() {
    let mut complaints = Complaints::new();
    for core in CORES {
        let path = format!("{core}/clippy.toml");
        let text = fs::read_to_string(root().join(&path)).unwrap_or_default();
        for banned in BANNED.iter().filter(|banned| !text.contains(&format!("\"{banned}\""))) {
            complaints.add(
                &path,
                format_args!("ban {banned} (disallowed-methods or disallowed-types, with a reason)"),
            );
        }
    }
    complaints.settle();
}
