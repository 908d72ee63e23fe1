//! What a reader may rely on in every file: layering, length, headers, words that do not belong, a pure core.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The most lines of a source file; about 500 is what to aim for.
const FILE_LINES_MAX: usize = 600;

/// Which workspace crates a crate may depend on (not counting `examples` and `tests`).
const CRATES: [(&str, &[&str]); 6] = [
    ("orchestrator-core", &[]),
    ("orchestrator-sqlite", &["orchestrator-core"]),
    ("orchestrator-docker", &["orchestrator-core"]),
    ("orchestrator-process", &["orchestrator-core"]),
    ("orchestrator-http", &["orchestrator-core"]),
    (
        "orchd",
        &[
            "orchestrator-core",
            "orchestrator-sqlite",
            "orchestrator-docker",
            "orchestrator-process",
            "orchestrator-http",
        ],
    ),
];

/// Which modules of core a module may use; what is not listed may use everything.
const MODULES: [(&str, &[&str]); 12] = [
    ("hash", &[]),
    ("model", &["hash"]),
    ("store", &["model"]),
    ("runtime", &["model", "store"]),
    ("history", &["model", "store"]),
    ("mem", &["model", "store", "history"]),
    ("world", &["model", "store"]),
    ("scheduler", &["hash", "model", "world"]),
    ("controller", &["hash", "model", "mutants", "store", "world"]),
    ("api", &["hash", "model", "store", "world"]),
    ("manifest", &["model"]),
    ("node", &["controller", "hash", "model", "runtime", "scheduler", "store", "world"]),
];

/// Files that hold nothing but tests of the module they lie in.
const TEST_FILES: [&str; 3] = ["conformance.rs", "properties.rs", "tests.rs"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_owned()
}

/// Every Rust file that git would track, with its text.
fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut dirs = vec![root()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).expect("a readable directory") {
            let path = entry.expect("a readable entry").path();
            let name =
                path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("UTF-8 source");
                found.push((path, text));
            }
        }
    }
    found.sort();
    assert!(found.len() > 50, "the search for sources is broken: {} files", found.len());
    found
}

#[test]
fn every_file_says_what_lives_there() {
    let silent: Vec<_> = sources()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(path, _)| path)
        .collect();
    assert!(silent.is_empty(), "files without a `//!` header: {silent:#?}");
}

#[test]
fn no_file_is_too_long_to_read() {
    let long: Vec<_> = sources()
        .into_iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .collect();
    assert!(long.is_empty(), "files over {FILE_LINES_MAX} lines: {long:#?}");
}

#[test]
fn words_that_stand_for_unfinished_work_are_absent() {
    let words = [
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("FIX", "ME"),
        concat!("#[ign", "ore"),
    ];
    let mut found = Vec::new();
    for (path, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                found.push(format!("{}:{}: {line}", path.display(), number + 1));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn library_code_does_not_unwrap() {
    let mut found = Vec::new();
    for (path, text) in sources() {
        let shown = path.display().to_string();
        if !shown.contains("/src/") || shown.contains("/testkit/") || shown.contains("/tests/") {
            continue;
        }
        for (number, line) in
            text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).enumerate()
        {
            if line.contains(".unwrap()") && !line.trim_start().starts_with("//") {
                found.push(format!("{shown}:{}", number + 1));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn crates_depend_downward_only() {
    for (name, allowed) in CRATES {
        let manifest =
            std::fs::read_to_string(root().join(name).join("Cargo.toml")).expect("a manifest");
        let normal = manifest.split("[dev-dependencies]").next().unwrap_or_default();
        for (other, _) in CRATES {
            let named = normal.lines().any(|line| {
                line.strip_prefix(other).is_some_and(|rest| rest.starts_with([' ', '.', '=']))
            });
            assert!(!named || allowed.contains(&other), "{name} may not depend on {other}");
        }
    }
}

#[test]
fn modules_of_core_depend_downward_only() {
    let base = root().join("orchestrator-core/src");
    let rules: BTreeMap<_, _> = MODULES.into_iter().collect();
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let Ok(inner) = path.strip_prefix(&base) else { continue };
        let first = inner.iter().next().and_then(|part| part.to_str()).unwrap_or_default();
        let module = first.strip_suffix(".rs").unwrap_or(first);
        let Some(allowed) = rules.get(module) else { continue };
        if TEST_FILES.iter().any(|name| inner.ends_with(name)) {
            continue;
        }
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let code = code.split("#[cfg(all(test").next().unwrap_or_default();
        for (number, line) in
            code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
        {
            for used in line.split("crate::").skip(1) {
                let used: String =
                    used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if !used.is_empty() && used != module && !allowed.contains(&used.as_str()) {
                    wrong.push(format!("{}:{}: uses crate::{used}", inner.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn core_without_its_shell_has_no_tokio() {
    let cargo = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO"))
            .args(arguments)
            .current_dir(root())
            .output()
            .expect("cargo runs");
        assert!(
            output.status.success(),
            "cargo {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let tree = cargo(&[
        "tree",
        "--offline",
        "-p",
        "orchestrator-core",
        "--no-default-features",
        "-e",
        "normal",
    ]);
    assert!(tree.contains("serde_json"), "the tree is empty: {tree}");
    assert!(!tree.contains("tokio"), "{tree}");
    cargo(&[
        "check",
        "--offline",
        "-p",
        "orchestrator-core",
        "--no-default-features",
        "--target-dir",
        &format!("{}/tidy", env!("CARGO_TARGET_TMPDIR")),
    ]);
}
