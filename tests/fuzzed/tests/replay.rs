//! The recorded inputs under `fuzz/corpus`, through the same properties as when they were found.

use std::fs;
use std::path::Path;

use fuzzed::TARGETS;

#[test]
fn recorded_inputs_break_no_property() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    for (target, check) in TARGETS {
        let folder = corpora.join(target);
        let files = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let mut replayed = 0;
        for file in files {
            let path = file.expect("the folder can be read").path();
            let bytes = fs::read(&path).expect("the file can be read");
            if std::panic::catch_unwind(|| check(&bytes)).is_err() {
                panic!("{} breaks a property of {target}; what it says is above", path.display());
            }
            replayed += 1;
        }
        assert!(replayed >= 5, "{}: only {replayed} inputs", folder.display());
    }
}

#[test]
fn every_target_can_be_fuzzed() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/Cargo.toml");
    let manifest = fs::read_to_string(manifest).expect("fuzz/ is in the tree");
    for (target, _) in TARGETS {
        assert!(manifest.contains(&format!("name = \"{target}\"")), "{target} is missing in fuzz/Cargo.toml");
    }
}
