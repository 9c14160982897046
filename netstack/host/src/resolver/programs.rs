//! Which programs run, and which have a file open, as `/proc` says (`proc(5)`). What it may not see, it leaves out: the
//! files of others are hidden from a process with fewer capabilities than they have.

use std::fs;

/// More processes are not looked through.
const PROCESSES_MAX: usize = 20_000;

/// Of these programs, those that run.
pub fn running(programs: &[&str]) -> Vec<String> {
    let mut found: Vec<String> = processes()
        .filter_map(|id| fs::read_to_string(format!("/proc/{id}/comm")).ok())
        .map(|name| name.trim_end().to_owned())
        .filter(|name| programs.contains(&name.as_str()))
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Programs that have a file open, by whatever name.
pub fn with_open(file: &std::path::Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(wanted) = fs::metadata(file).map(|m| (m.dev(), m.ino())) else { return Vec::new() };
    let has = |id: u32| {
        let open = fs::read_dir(format!("/proc/{id}/fd")).into_iter().flatten().flatten();
        open.filter_map(|fd| fs::metadata(fd.path()).ok()).any(|m| (m.dev(), m.ino()) == wanted)
    };
    let own = std::process::id();
    let mut found: Vec<String> = processes()
        .filter(|id| *id != own && has(*id))
        .filter_map(|id| fs::read_to_string(format!("/proc/{id}/comm")).ok())
        .map(|name| name.trim_end().to_owned())
        .collect();
    found.sort();
    found.dedup();
    found
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).take(PROCESSES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_runs() {
        let own = fs::read_to_string("/proc/self/comm").unwrap().trim_end().to_owned();
        assert_eq!(running(&[&own, "no-such-program"]), [own]);
    }

    #[test]
    fn who_has_a_file_open_is_others() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(with_open(file.path()), [] as [String; 0], "this process does not count");
        let mut other = std::process::Command::new("sleep");
        let mut child = other.arg("600").stdin(fs::File::open(file.path()).unwrap()).spawn().unwrap();
        let found = with_open(file.path());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found, ["sleep"]);
    }
}
