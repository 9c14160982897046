//! Where things are: the tree, and the programs under test.

use std::path::{Path, PathBuf};

/// The root of the tree.
pub(crate) fn tree() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("this crate lives two folders below the root")
}

/// Where the programs under test are: `WARREN_BIN_DIR`, or beside this test.
pub(crate) fn programs() -> PathBuf {
    let folder = folder();
    for program in ["warren-apid", "warren-netd", "warren-agent", "warren"] {
        let path = folder.join(program);
        assert!(path.exists(), "{} is missing: `cargo build --workspace` first", path.display());
    }
    folder
}

/// The folder of the programs, whether they are there or not.
pub(crate) fn folder() -> PathBuf {
    let beside = || {
        let test = std::env::current_exe().expect("a test knows where it is");
        test.ancestors().nth(2).expect("tests lie in target/PROFILE/deps").to_owned()
    };
    std::env::var_os("WARREN_BIN_DIR").map_or_else(beside, PathBuf::from)
}
