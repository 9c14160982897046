//! Words: heads of files, names that say nothing, notes to self, traces of one machine or person.

use tidy::Complaints;
use tidy::rust::{self, Parsed};
use tidy::tree::{SourceFile, files, rust_files};

/// Parts of names that say nothing (VOCABULARY).
const EMPTY_WORDS: &[&str] = &["Manager", "Handler", "Util", "Utils", "Helper", "Helpers", "Common", "Misc"];

/// Where a test may let time pass, with the reason.
const WAITING: &[(&str, &str)] = &[
    ("tests/lab/src/wait.rs", "polls a condition until its deadline; the stories wait through it"),
    ("tests/lab/src/wg/pace.rs", "holds a sending rate"),
    ("netstack/host/tests/namespaces/alone.rs", "polls a condition until its deadline"),
    (
        "netstack/host/tests/namespaces/drive.rs",
        "polls until a deadline, and shows that a settled node rests",
    ),
    ("netstack/tunnel/tests/device/lab.rs", "polls a condition until its deadline"),
    ("agent/tests/wg.rs", "polls a condition until its deadline"),
    ("dns/tests/forward/wait.rs", "polls a condition until its deadline"),
];

/// Where `unsafe` may stand.
const UNSAFE: &[&str] = &["netstack/tunnel/", "netstack/host/", "netstack/chacha/", "netstack/datagrams/"];

/// Domains that belong to nobody: an address there is no person's.
const NOBODYS_DOMAINS: &[&str] = &[
    ".internal",
    ".test",
    ".example",
    ".invalid",
    ".service",
    "example.com",
    "example.org",
    WIREGUARD,
    OPENSSH,
];

/// The protocol's own identifier has its author's address in it (WireGuard paper, section 5.4).
const WIREGUARD: &str = "zx2c4.com";
/// Names of key types and extensions that OpenSSH added to the protocol end in it (RFC 4251, section 6).
const OPENSSH: &str = "openssh.com";

fn own_words(file: &SourceFile) -> bool {
    file.path != "Cargo.lock" && file.path != "tests/tidy/tests/words.rs"
}

#[test]
fn files_begin_with_what_they_are() {
    let mut complaints = Complaints::new();
    for file in rust_files() {
        let head = file.text.lines().next().unwrap_or_default();
        if !head.starts_with("//! ") || head.len() < 12 {
            complaints
                .add(&file.path, "begin it with `//! What it is`, then what it deliberately does not know");
        }
    }
    complaints.settle();
}

#[test]
fn no_logic_in_mod_rs() {
    let mut complaints = Complaints::new();
    for file in rust_files().iter().filter(|file| file.path.ends_with("/mod.rs")) {
        complaints.add(&file.path, "use foo.rs beside foo/ instead of foo/mod.rs");
    }
    complaints.settle();
}

#[test]
fn names_say_something() {
    let mut complaints = Complaints::new();
    for file in rust_files() {
        let parsed = Parsed::new(&file);
        for item in parsed.definitions() {
            let said = camel_words(&item.name);
            if let Some(empty) =
                EMPTY_WORDS.iter().find(|word| said.iter().any(|s| s.eq_ignore_ascii_case(word)))
            {
                complaints.add(
                    format_args!("{}:{} {}", file.path, item.line, item.name),
                    format_args!("`{empty}` says nothing: name it after what it is or does"),
                );
            }
        }
        for function in parsed.functions().iter().filter(|f| f.name.starts_with("get_")) {
            complaints.add(
                format_args!("{}:{} {}", file.path, function.line, function.name),
                "no `get_`: name it after what it gives",
            );
        }
    }
    complaints.settle();
}

/// `WireGuardPeer` and `wire_guard_peer` as their words.
fn camel_words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for c in name.chars() {
        if c == '_' || c.is_uppercase() {
            words.push(String::new());
        }
        if c != '_' {
            words.last_mut().expect("one is always there").push(c);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn nothing_is_left_for_later() {
    let mut complaints = Complaints::new();
    for file in files().iter().filter(|file| own_words(file)) {
        for (number, line) in file.lines() {
            if ["TODO", "FIXME", "XXX"].iter().any(|word| has_word(line, word)) {
                complaints.add(format_args!("{}:{number}", file.path), "do it, or leave it out");
            }
        }
    }
    complaints.settle();
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !part(line[..at].chars().next_back()) && !part(line[at + word.len()..].chars().next())
    })
}

#[test]
fn no_trace_of_one_machine_or_person() {
    let mut complaints = Complaints::new();
    for file in files().iter().filter(|file| own_words(file)) {
        for (number, line) in file.lines() {
            let place = format!("{}:{number}", file.path);
            if ["/work/", "/home/", "/Users/", "/root/"].iter().any(|path| line.contains(path)) {
                complaints
                    .add(&place, "a path of one machine: take it from the environment or from the tree");
            }
            if let Some(address) = mail_address(line) {
                complaints
                    .add(&place, format_args!("{address}: somebody's address; use one under example.com"));
            }
        }
    }
    complaints.settle();
}

/// The first mail address of the line that could be somebody's.
fn mail_address(line: &str) -> Option<&str> {
    let in_address = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+');
    line.match_indices('@').find_map(|(at, _)| {
        let start = line[..at].rfind(|c| !in_address(c)).map_or(0, |before| before + 1);
        let end = line[at + 1..].find(|c| !in_address(c)).map_or(line.len(), |after| at + 1 + after);
        let domain = line[at + 1..end].trim_end_matches('.');
        let top = domain.rsplit_once('.').map(|(_, top)| top).unwrap_or_default();
        let mail = start < at && top.len() > 1 && top.chars().all(|c| c.is_ascii_lowercase());
        (mail && !NOBODYS_DOMAINS.iter().any(|nobody| domain.ends_with(nobody))).then(|| &line[start..end])
    })
}

#[test]
fn addresses_of_people_are_told_from_other_things() {
    assert_eq!(mail_address("by jo@corp.io."), Some("jo@corp.io."));
    for fine in ["alice@home.internal", "x@1.2.3.4", "@axe-core/playwright", "u:bob@tenant", "wg@a.service"] {
        assert_eq!(mail_address(fine), None, "{fine}");
    }
}

#[test]
fn tests_are_not_switched_off() {
    let mut complaints = Complaints::new();
    for file in rust_files().iter().filter(|file| own_words(file)) {
        for (number, line) in file.lines().filter(|(_, line)| line.trim_start().starts_with("#[ignore")) {
            complaints.add(format_args!("{}:{number} {line}", file.path), "mend it or remove it");
        }
    }
    complaints.settle();
}

#[test]
fn tests_wait_for_conditions() {
    let mut complaints = Complaints::new();
    let tests = |file: &SourceFile| file.is_test() || file.path.starts_with("tests/");
    let may_wait = |file: &SourceFile| WAITING.iter().any(|(path, _)| file.path == *path);
    for file in rust_files().iter().filter(|file| tests(file) && !may_wait(file)) {
        for (line, _) in rust::calls(file, "sleep") {
            complaints.add(format_args!("{}:{line}", file.path), "wait for the condition, with a deadline");
        }
    }
    complaints.settle();
}

#[test]
fn pauses_have_a_name() {
    let mut complaints = Complaints::new();
    for file in rust_files().iter().filter(|file| !file.is_test()) {
        let parsed = Parsed::new(file);
        for (line, pause) in rust::calls(file, "sleep") {
            if pause.contains("Duration :: from") && !parsed.is_test(line) {
                complaints.add(
                    format_args!("{}:{line}", file.path),
                    "make the pause a constant with its reason, or wait for the condition",
                );
            }
        }
    }
    complaints.settle();
}

#[test]
fn unsafe_code_stays_in_its_two_places() {
    let mut complaints = Complaints::new();
    for file in rust_files().iter().filter(|file| !UNSAFE.iter().any(|place| file.path.starts_with(place))) {
        for line in rust::words(file, "unsafe") {
            complaints.add(
                format_args!("{}:{line}", file.path),
                format_args!("`unsafe` belongs into {}; use a safe wrapper", UNSAFE.join(" or ")),
            );
        }
    }
    complaints.settle();
}
