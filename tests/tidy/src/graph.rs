//! Which crate uses which, as cargo resolves it. Knows no rule.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

use crate::tree;

/// The workspace as `cargo metadata` tells it.
///
/// # Panics
/// If cargo fails.
pub fn workspace() -> Metadata {
    MetadataCommand::new()
        .manifest_path(tree::root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata runs in the tree")
}

/// Each crate of ours with the crates of ours that it builds upon; what only its tests use is left out.
pub fn arrows(workspace: &Metadata) -> BTreeMap<String, BTreeSet<String>> {
    let ours: BTreeSet<&str> = workspace.packages.iter().map(|package| package.name.as_str()).collect();
    let below = |package: &cargo_metadata::Package| {
        let uses = package.dependencies.iter().filter(|d| d.kind != DependencyKind::Development);
        uses.map(|d| d.name.clone()).filter(|name| ours.contains(name.as_str())).collect()
    };
    workspace.packages.iter().map(|package| (package.name.to_string(), below(package))).collect()
}

/// Every crate that ends up in the build of this one, with the features that it asks for by itself: optional
/// parts are left out, tests too.
///
/// # Panics
/// If cargo fails.
pub fn closure(package: &str) -> BTreeSet<String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(tree::root())
        .args(["tree", "--quiet", "--package", package, "--no-default-features"])
        .args(["--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .output()
        .expect("cargo can be started");
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}
