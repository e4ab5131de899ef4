//! The house keeps its plan: modules import only what their row allows, pure files touch no socket, file or clock,
//! files stay readable, each says what it is, and no story is left out of the tests.

#![expect(clippy::disallowed_methods, reason = "edge: a test reads the source files")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Which rooms a room may import, besides itself. `event` is open to all. The order is the order of the flow; no room
/// may be imported by one that it imports.
const TABLE: &[(&str, &[&str])] = &[
    (
        "cli",
        &[
            "node",
            "manage",
            "sim",
            "history",
            "intake",
            "delivery",
            "accounting",
            "report",
            "queue",
            "classify",
            "suppress",
            "store",
            "config",
            "smtp",
            "net",
            "disk",
        ],
    ),
    (
        "node",
        &[
            "manage",
            "history",
            "intake",
            "delivery",
            "accounting",
            "report",
            "queue",
            "classify",
            "suppress",
            "store",
            "config",
            "smtp",
            "net",
            "disk",
        ],
    ),
    (
        "manage",
        &["history", "intake", "delivery", "accounting", "report", "queue", "classify", "suppress", "store", "config"],
    ),
    ("history", &["classify", "suppress", "disk", "config"]),
    ("intake", &["queue", "suppress", "store", "net", "disk", "smtp", "config"]),
    ("queue", &["store", "suppress", "config"]),
    ("delivery", &["queue", "suppress", "store", "net", "disk", "smtp", "classify", "config"]),
    ("report", &["queue", "classify", "store", "config"]),
    ("accounting", &["classify", "suppress", "store", "net", "disk", "config"]),
    ("classify", &["config"]),
    ("suppress", &["store", "config"]),
    ("store", &["disk"]),
    ("config", &[]),
    ("smtp", &[]),
    ("net", &[]),
    ("disk", &[]),
    ("event", &[]),
    ("sim", &["smtp", "net", "disk"]),
];

fn source_files() -> Vec<PathBuf> {
    fn walk(dir: &Path, out: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, out);
            } else if path.extension().is_some_and(|e| e == "rs") {
                out.push(path);
            }
        }
    }
    let mut files = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    files.sort();
    assert!(files.len() > 10, "the source files were not found");
    files
}

fn name(path: &Path) -> String {
    path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().display().to_string()
}

/// The room a file lives in; `None` for lib.rs and main.rs.
fn room(path: &Path) -> Option<String> {
    let rest = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let first = rest.components().next()?.as_os_str().to_str()?.to_owned();
    (!first.ends_with(".rs")).then_some(first)
}

/// The part of a file that goes into the program: no comments, nothing below `#[cfg(test)]`; nothing at all of a file
/// of tests.
fn program_text(path: &Path) -> String {
    let is_tests = path.file_stem().is_some_and(|s| s == "tests" || s.to_string_lossy().ends_with("_tests"))
        || path.parent().is_some_and(|p| p.ends_with("tests"));
    if is_tests {
        return String::new();
    }
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .take_while(|l| l.trim() != "#[cfg(test)]")
        .map(|l| l.split("//").next().unwrap_or(""))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Rooms named as `crate::room` or inside `use crate::{...}`.
fn imports(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let inside = match rest.strip_prefix('{') {
            // Only the first level of the braces names rooms.
            Some(group) => {
                let mut depth = 1;
                let mut first_level = String::new();
                for c in group.chars() {
                    match c {
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        _ if depth == 1 => first_level.push(c),
                        _ => {}
                    }
                    if depth == 0 {
                        break;
                    }
                }
                first_level
            }
            None => rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("").to_owned(),
        };
        for part in inside.split(',') {
            let word: String = part.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if !word.is_empty() {
                found.insert(word);
            }
        }
    }
    found
}

#[test]
fn the_import_table_holds() {
    let table: BTreeMap<_, _> = TABLE.iter().copied().collect();
    let mut wrong = Vec::new();
    for path in source_files() {
        let Some(room) = room(&path) else { continue };
        let allowed = table.get(room.as_str()).unwrap_or_else(|| panic!("{}: no such room in the plan", name(&path)));
        for import in imports(&program_text(&path)) {
            let known = table.contains_key(import.as_str());
            if known && import != room && import != "event" && !allowed.contains(&import.as_str()) {
                wrong.push(format!("{}: {room} may not import {import}", name(&path)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_has_no_cycle() {
    // The plan is written in an order in which nobody imports upwards, but for `sim` (imported by `cli` alone) and
    // `queue`/`report`, which stand by the flow. So look for real cycles instead.
    let table: BTreeMap<_, _> = TABLE.iter().copied().collect();
    fn reaches(table: &BTreeMap<&str, &[&str]>, from: &str, to: &str, depth: usize) -> bool {
        depth < TABLE.len() && table[from].iter().any(|n| *n == to || reaches(table, n, to, depth + 1))
    }
    for (room, _) in TABLE {
        assert!(!reaches(&table, room, room, 0), "{room} is in an import cycle");
    }
}

#[test]
fn pure_files_use_no_socket_file_or_clock() {
    let mut wrong = Vec::new();
    for path in source_files() {
        let text = program_text(&path);
        let edge = text.contains("reason = \"edge:");
        if edge {
            continue;
        }
        for word in ["tokio::fs", "tokio::net", "tokio::time", "SystemTime", "Instant::now", "std::fs::", "std::env::"]
        {
            if text.contains(word) {
                wrong.push(format!("{}: {word} in a file that does not declare itself an edge", name(&path)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_opens_by_saying_what_it_is_and_none_is_a_lumber_room() {
    let mut wrong = Vec::new();
    for path in source_files() {
        let text = std::fs::read_to_string(&path).unwrap();
        let first = text.lines().find(|l| !l.starts_with("#![")).unwrap_or("");
        if !first.starts_with("//!") {
            wrong.push(format!("{}: opens without //!", name(&path)));
        }
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        if ["utils", "util", "common", "helpers", "helper", "misc", "manager"].contains(&stem.as_str()) {
            wrong.push(format!("{}: what is in it?", name(&path)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_story_is_told() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let told = std::fs::read_to_string(tests.join("stories.rs")).unwrap();
    let mut left_out = Vec::new();
    for entry in std::fs::read_dir(&tests).unwrap() {
        let file = entry.unwrap().file_name().to_string_lossy().into_owned();
        let Some(story) = file.strip_suffix(".rs").filter(|s| !["stories", "house"].contains(s)) else { continue };
        if !told.lines().any(|line| line == format!("mod {story};")) {
            left_out.push(format!("tests/{file}: nobody runs it; tests/stories.rs names the others"));
        }
    }
    assert!(left_out.is_empty(), "{}", left_out.join("\n"));
}

#[test]
fn the_finder_of_imports_sees_what_it_should() {
    let text = "use crate::store::{Store, Ledger};\nuse crate::{event::Time, queue, config::{self, Config}};\nfn f() { crate::net::x() }";
    assert_eq!(imports(text).into_iter().collect::<Vec<_>>(), ["config", "event", "net", "queue", "store"]);
}
