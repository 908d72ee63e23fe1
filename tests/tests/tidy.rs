//! What a reader may rely on in every file: layering, length, headers, words that do not belong, a pure core.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The most lines of a source file; about 500 is what to aim for.
const FILE_LINES_MAX: usize = 600;

/// Which workspace crates a crate may depend on (not counting `examples` and `tests`).
const CRATES: [(&str, &[&str]); 8] = [
    ("orchestrator-core", &[]),
    ("orchestrator-sqlite", &["orchestrator-core"]),
    ("orchestrator-etcd", &["orchestrator-core"]),
    ("orchestrator-docker", &["orchestrator-core"]),
    ("orchestrator-process", &["orchestrator-core"]),
    ("orchestrator-http", &["orchestrator-core"]),
    ("orchestrator-seal", &["orchestrator-core"]),
    (
        "orchd",
        &[
            "orchestrator-core",
            "orchestrator-sqlite",
            "orchestrator-etcd",
            "orchestrator-docker",
            "orchestrator-process",
            "orchestrator-http",
            "orchestrator-seal",
        ],
    ),
];

/// Which modules of core a module may use. The shell (`driver`) and what serves tests (`testkit`) may use everything.
const MODULES: [(&str, &[&str]); 19] = [
    ("hash", &[]),
    ("model", &["hash"]),
    ("store", &["model"]),
    ("runtime", &["model", "store"]),
    ("dump", &["model", "store"]),
    ("history", &["model", "store"]),
    ("mem", &["model", "mutants", "store", "history"]),
    ("world", &["mutants", "model", "store"]),
    ("scheduler", &["hash", "model", "world"]),
    ("controller", &["hash", "model", "mutants", "store", "world"]),
    ("schema", &[]),
    ("ownership", &["model", "schema"]),
    ("api", &["hash", "model", "ownership", "schema", "store", "world"]),
    ("manifest", &["model"]),
    ("node", &["hash", "model", "runtime", "store", "world"]),
    ("election", &["model", "store", "world"]),
    ("soundness", &["model", "scheduler", "store", "world"]),
    ("engine", &["api", "controller", "hash", "model", "mutants", "scheduler", "store", "world"]),
    ("mutants", &[]),
];
/// The modules of core that may use everything.
const UPPER_MODULES: [&str; 3] = ["driver", "lib", "testkit"];

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
    for (name, _) in CRATES {
        for (path, code) in product_code(&root().join(name).join("src")) {
            if path.iter().any(|part| part == "testkit") {
                continue;
            }
            let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
            found.extend(
                lines
                    .filter(|line| line.contains(".unwrap()"))
                    .map(|line| format!("{}: {line}", path.display())),
            );
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
    for (path, code) in product_code(&base) {
        let inner = path.strip_prefix(&base).expect("it lies there");
        let first = inner.iter().next().and_then(|part| part.to_str()).unwrap_or_default();
        let module = first.strip_suffix(".rs").unwrap_or(first);
        if UPPER_MODULES.contains(&module) {
            continue;
        }
        let Some(allowed) = rules.get(module) else {
            wrong.push(format!("{}: {module} has no place in MODULES", inner.display()));
            continue;
        };
        for used in crate_paths(&code) {
            if used != module && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{}: uses crate::{used}", inner.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_search_for_crate_paths_sees_each_form() {
    let code =
        "use crate::a::b;\nuse crate::{c, d::{e, f},\n  g};\nlet x = crate::h(); // crate::no\n";
    assert_eq!(crate_paths(code), ["a", "c", "d", "g", "h"]);
    let code =
        "fn a() {}\n#[cfg(test)]\nmod tests {\n    use crate::x;\n}\nfn b() { crate::y() }\n";
    assert_eq!(crate_paths(&without_tests(code)), ["y"]);
}

/// The first segment of every path below `crate::`.
fn crate_paths(code: &str) -> Vec<String> {
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    let code = lines.collect::<Vec<_>>().join("\n");
    let word = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let mut found = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let Some(group) = rest.strip_prefix('{') else {
            found.push(word(rest));
            continue;
        };
        let mut depth = 0;
        let outer: String = group
            .chars()
            .take_while(|c| {
                depth += i32::from(*c == '{') - i32::from(*c == '}');
                depth >= 0
            })
            .scan(0, |inside, c| {
                *inside += i32::from(c == '{') - i32::from(c == '}');
                Some(if *inside > 0 { ' ' } else { c })
            })
            .collect();
        found.extend(outer.split(',').map(word).filter(|name| !name.is_empty()));
    }
    found
}

/// Every file below `base` that is not itself a module of tests, without the tests in it.
fn product_code(base: &Path) -> Vec<(PathBuf, String)> {
    let sources: Vec<_> =
        sources().into_iter().filter(|(path, _)| path.starts_with(base)).collect();
    let mut tests = Vec::new();
    for (path, text) in &sources {
        let lines: Vec<_> = text.lines().collect();
        for pair in lines.windows(2).filter(|pair| is_test_gate(pair[0])) {
            if let Some(name) = pair[1].strip_prefix("mod ").and_then(|it| it.strip_suffix(';')) {
                let dir = if path.ends_with("mod.rs") || path.ends_with("lib.rs") {
                    path.parent().expect("a file lies somewhere").to_owned()
                } else {
                    path.with_extension("")
                };
                tests.push(dir.join(name));
            }
        }
    }
    let is_test = |path: &Path| {
        tests.iter().any(|test| path.starts_with(test) || path == test.with_extension("rs"))
    };
    sources
        .into_iter()
        .filter(|(path, _)| !is_test(path))
        .map(|(path, text)| (path, without_tests(&text)))
        .collect()
}

fn is_test_gate(line: &str) -> bool {
    line.starts_with("#[cfg(test)]") || line.starts_with("#[cfg(all(test")
}

/// The text without its items that only tests see.
fn without_tests(text: &str) -> String {
    let mut kept = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if !is_test_gate(line) {
            kept.push(line);
            continue;
        }
        // rustfmt ends such an item with a line that is its closing brace or, for a short one, its semicolon.
        let _ = lines.find(|line| {
            matches!(line.chars().next(), Some('}'))
                || line.ends_with(';') && !line.starts_with(' ')
        });
    }
    kept.join("\n")
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
