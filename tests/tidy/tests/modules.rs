//! Modules of one crate do not import each other in a circle: one of two is always readable without the other.
//!
//! Looks at top-level modules: a file `src/a.rs` and all below `src/a/` are module `a`. An arrow is a `crate::b` or
//! `super::b` in code that is no test; a name that the crate's root passes on counts as the module it comes from.

use std::collections::{BTreeMap, BTreeSet};

use tidy::Complaints;
use tidy::circles::{Arrows, circles};
use tidy::rust::Parsed;
use tidy::tree::{SourceFile, rust_files};

/// The `src` folder that the file belongs to, its top-level module, and how deep it lies below the crate's root.
fn place(path: &str) -> Option<(&str, &str, usize)> {
    let at = path.rfind("/src/")?;
    let inside = &path[at + "/src/".len()..];
    let module = inside.split('/').next()?.trim_end_matches(".rs");
    (!inside.starts_with("bin/")).then_some((&path[..at], module, inside.matches('/').count() + 1))
}

fn is_root(module: &str) -> bool {
    matches!(module, "lib" | "main")
}

/// The first segment after the crate's root, if the path leads there.
fn target(path: &[String], depth: usize) -> Option<&str> {
    let supers = path.iter().take_while(|part| *part == "super").count();
    let at_root = path[0] == "crate" || supers == depth;
    let first = if path[0] == "crate" { 1 } else { supers };
    at_root.then(|| path.get(first).map(String::as_str)).flatten()
}

fn module_arrows(files: &[&SourceFile]) -> Arrows {
    let places = || files.iter().filter_map(|file| place(&file.path).map(|place| (place, *file)));
    let modules: BTreeSet<&str> =
        places().map(|((_, module, _), _)| module).filter(|m| !is_root(m)).collect();
    let passed_on: BTreeMap<String, String> = places()
        .filter(|((_, module, _), _)| is_root(module))
        .flat_map(|(_, file)| Parsed::new(file).passed_on())
        .collect();
    let mut arrows = Arrows::new();
    for ((_, module, depth), file) in places().filter(|((_, module, _), _)| !is_root(module)) {
        for path in Parsed::new(file).inner_paths() {
            let Some(name) = target(&path, depth) else { continue };
            let other =
                if modules.contains(name) { Some(name) } else { passed_on.get(name).map(String::as_str) };
            if let Some(other) = other.filter(|other| *other != module && modules.contains(other)) {
                arrows.entry(module.into()).or_default().insert(other.into());
            }
        }
    }
    arrows
}

#[test]
fn modules_do_not_import_each_other_in_a_circle() {
    let files = rust_files();
    let mut crates: BTreeMap<&str, Vec<&SourceFile>> = BTreeMap::new();
    for file in files.iter().filter(|file| !file.is_test()) {
        if let Some((name, ..)) = place(&file.path) {
            crates.entry(name).or_default().push(file);
        }
    }
    let mut complaints = Complaints::new();
    for (name, files) in crates {
        for circle in circles(&module_arrows(&files)) {
            complaints.add(
                format_args!("{name}: {}", circle.join(" → ")),
                "modules import each other: move what both need into a module of its own",
            );
        }
    }
    complaints.settle();
}

#[test]
fn a_circle_would_be_found() {
    let file = |path: &str, text: &str| SourceFile { path: format!("x/src/{path}"), text: text.into() };
    let check = |files: &[SourceFile], expect: &[&str]| {
        let found = circles(&module_arrows(&files.iter().collect::<Vec<_>>()));
        assert_eq!(found.iter().map(|circle| circle.join(" ")).collect::<Vec<_>>(), expect);
    };
    let root = file("lib.rs", "pub mod a; pub mod b; pub use b::Thing;");
    check(&[root.clone(), file("a.rs", "use crate::b::X;"), file("b.rs", "")], &[]);
    check(&[root.clone(), file("a.rs", "use crate::Thing;"), file("b.rs", "use super::a::Y;")], &["a b a"]);
    check(
        &[root, file("a/c.rs", "fn f() { super::super::b::g() }"), file("b/d.rs", "use crate::a;")],
        &["a b a"],
    );
}
