#![expect(clippy::disallowed_methods, reason = "edge: reads the configuration's files")]
//! The edge of this room: configuration files on disk, wildcards, the machine's name.
//!
//! Only plain files up to 32 MiB are read, so that a device or a pipe named by mistake can't hang the server.

use std::io;
use std::path::{Component, Path, PathBuf};

use super::tree::Files;

/// The real files.
#[derive(Debug, Clone, Copy)]
pub struct Disk;

const MOST: u64 = 32 << 20;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let metadata = std::fs::metadata(path)?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is not a plain file"));
        }
        if metadata.len() > MOST {
            return Err(io::Error::other("it is larger than 32 MiB"));
        }
        std::fs::read(path)
    }

    fn expand(&self, pattern: &Path) -> Vec<PathBuf> {
        let mut found = vec![PathBuf::new()];
        for part in pattern.components() {
            let text = part.as_os_str().to_string_lossy();
            let wild = matches!(part, Component::Normal(_)) && text.contains(['*', '?']);
            found = found
                .into_iter()
                .flat_map(|dir| if wild { names_in(&dir, &text) } else { vec![dir.join(part)] })
                .collect();
        }
        found.retain(|p| p.is_file());
        found.sort();
        found
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn host_name(&self) -> Option<String> {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
        Some(name.trim().to_owned()).filter(|n| !n.is_empty())
    }
}

/// The entries of `dir` that the pattern means; hidden ones only when it begins with a dot.
fn names_in(dir: &Path, pattern: &str) -> Vec<PathBuf> {
    let place = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let Ok(entries) = std::fs::read_dir(place) else { return Vec::new() };
    entries
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .filter(|n| n.starts_with('.') == pattern.starts_with('.') && matches(pattern.as_bytes(), n.as_bytes()))
        .map(|n| dir.join(n))
        .collect()
}

/// Whether `name` fits `pattern`, where `*` is any text and `?` any one byte. Runs in the product of their lengths.
pub(super) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_mean_what_shells_mean_by_them() {
        let fits = |p: &str, n: &str| matches(p.as_bytes(), n.as_bytes());
        assert!(fits("*.conf", "a.conf") && fits("*", "x") && fits("a?c*", "abcdef") && fits("*a*b", "xaybab"));
        assert!(!fits("*.conf", "a.conf.bak") && !fits("a?c", "ac"));
    }

    #[test]
    fn files_are_found_in_order_and_hidden_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.conf", "a.conf", ".hidden.conf", "c.txt"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        let found = Disk.expand(&dir.path().join("*.conf"));
        let names: Vec<_> = found.iter().map(|p| p.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["a.conf", "b.conf"]);
        assert!(Disk.read(dir.path()).is_err(), "a folder is no file");
    }
}
