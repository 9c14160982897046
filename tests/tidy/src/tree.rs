//! The files of the tree. Knows neither Rust nor what is wanted of them.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that hold no source: build output, caches, recorded fuzz inputs.
const NO_SOURCE: &[&str] = &["target", ".git", ".cache", "node_modules", "corpus", "found", "artifacts"];

/// One text file.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// From the root of the tree, with forward slashes.
    pub path: String,
    /// The whole text.
    pub text: String,
}

impl SourceFile {
    /// Whether it is Rust.
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether the file holds tests or measurements only: a `tests` or `benches` folder of a crate, or a file that is
    /// included under `#[cfg(test)]` by its name.
    pub fn is_test(&self) -> bool {
        let in_folder = |folder: &str| self.path.contains(&format!("/{folder}/"));
        let by_name = self.path.ends_with("/tests.rs") || self.path.contains("/src/tests/");
        (in_folder("tests") && !self.path.contains("/src/")) || in_folder("benches") || by_name
    }

    /// Line number (from 1) and text of each line.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

/// The root of the tree.
///
/// # Panics
/// If this crate has left `tests/tidy`.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("this crate lives two folders below the root").to_owned()
}

/// Every text file of the tree, sorted by path.
pub fn files() -> Vec<SourceFile> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if path.is_symlink() || NO_SOURCE.iter().any(|skip| name == *skip) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if let (Ok(text), Ok(below)) = (fs::read_to_string(&path), path.strip_prefix(&root)) {
                found.push(SourceFile { path: below.to_string_lossy().into_owned(), text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Every Rust file of the tree, sorted by path.
pub fn rust_files() -> Vec<SourceFile> {
    files().into_iter().filter(SourceFile::is_rust).collect()
}
