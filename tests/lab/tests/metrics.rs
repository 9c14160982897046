//! What Prometheus scrapes of all three programs is what `docs/metrics.md` says, series by series and label by label.
//!
//! ```text
//!   alpha ── r-alpha ─┐
//!   beta  ── r-beta  ─┴─ inet ── server (apid, netd)
//! ```

use std::collections::{BTreeMap, BTreeSet};

use lab::{Mesh, SERVER_URL, SOON};

/// Where netd and agents show their figures.
const NODE_METRICS: &str = "127.0.0.1:8081";

/// Kind and labels of each series; no labels of a family that has no series now.
type Series = BTreeMap<String, (String, Option<BTreeSet<String>>)>;

/// What the table says of programs: those of a server, or those that keep an interface.
fn told(of: &[&str]) -> Series {
    let table =
        include_str!("../../../docs/metrics.md").lines().filter(|line| line.starts_with("| `warren_"));
    let rows = table.map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let meant = rows.filter(|cells| of.contains(&cells[4]));
    meant
        .map(|cells| {
            let labels = cells[3].split(", ").filter(|label| !label.is_empty()).map(str::to_owned);
            (cells[1].trim_matches('`').to_owned(), (cells[2].to_owned(), Some(labels.collect())))
        })
        .collect()
}

/// What a scrape shows.
fn shown(text: &str) -> Series {
    let mut series = Series::new();
    let mut family = (String::new(), String::new());
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let suffix = if kind == "counter" { "_total" } else { "" };
            family = (format!("{name}{suffix}"), kind.to_owned());
            series.insert(family.0.clone(), (family.1.clone(), None));
        } else if !line.starts_with('#') {
            let labels = line.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}'));
            let names = labels.map_or("", |(labels, _)| labels).split(',').filter_map(|l| l.split_once('='));
            let known = &mut series.get_mut(&family.0).expect("a family comes before its series").1;
            known
                .get_or_insert_default()
                .extend(names.map(|(name, _)| name.to_owned()).filter(|name| name != "le"));
        }
    }
    series
}

fn compare(what: &str, text: &str, of: &[&str]) {
    let (told, shown) = (told(of), shown(text));
    for (name, (kind, labels)) in &shown {
        let (told_kind, told_labels) =
            told.get(name).unwrap_or_else(|| panic!("{what} shows {name}: unlisted"));
        assert_eq!(told_kind, kind, "{what}: {name}; docs/metrics.md says the left of it");
        if labels.is_some() {
            assert_eq!(told_labels, labels, "{what}: {name}; docs/metrics.md says the left of it");
        }
    }
    let missing: Vec<&String> = told.keys().filter(|name| !shown.contains_key(*name)).collect();
    assert!(missing.is_empty(), "{what} does not show {missing:?}:\n{text}");
}

#[test]
fn a_scrape_of_each_program_is_what_the_table_says() {
    let mesh = Mesh::new(&["alpha", "beta"]);
    mesh.netd.kill();
    mesh.daemon("server", "netd", &["--metrics-listen", NODE_METRICS]);
    mesh.server_is_ready(SOON);
    mesh.daemon("alpha", "agent", &["--metrics-listen", NODE_METRICS]);
    mesh.on("alpha")
        .wait("the agent answers", SOON, &["warren", "status", "--check", "live"], |d| d.code == 0);
    mesh.join("alpha", &mesh.token(&[]));
    mesh.enrol(["beta"]);
    mesh.on("alpha").reaches("beta", SOON);
    // A link that is refused.
    mesh.announce("agent-beta", "join refused");
    let token = mesh.on("server").json(&["warren", "token", "create"]);
    let field = |name: &str| token[name].as_str().expect("a text");
    mesh.on("server").ok(&["warren", "token", "revoke", field("id")]);
    mesh.on("beta").ok(&["warren", "logout", "--yes"]);
    let late = ["warren", "up", "--server", SERVER_URL, "--token", field("secret")];
    assert!(!mesh.on("beta").succeeds(&late), "a revoked token enrols nobody");

    let scrape = |node: &str, at: &str| mesh.on(node).ok(&["curl", "-sf", &format!("http://{at}/metrics")]);
    compare("warren-apid", &scrape("server", "127.0.0.1:8080"), &["all", "apid"]);
    compare("warren-netd", &scrape("server", NODE_METRICS), &["all", "node"]);
    compare("warren-agent", &scrape("alpha", NODE_METRICS), &["all", "node"]);
}
