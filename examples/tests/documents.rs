//! What documents show and name is there: the embedding program, files, numbers of invariants and the tests that show them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const DOCUMENTS: [&str; 13] = [
    "CONTRIBUTING.md",
    "README.md",
    "docs/ARCHITECTURE.md",
    "docs/GLOSSARY.md",
    "docs/INVARIANTS.md",
    "docs/guides/access.md",
    "docs/guides/custom-kinds.md",
    "docs/guides/embedding.md",
    "docs/guides/getting-started.md",
    "docs/guides/kubectl.md",
    "docs/guides/testing-a-controller.md",
    "docs/guides/writing-a-scheduler.md",
    "fuzz/README.md",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("examples/ lies in the workspace")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every Rust source of the workspace, one after the other.
fn sources() -> String {
    let mut all = String::new();
    let mut dirs = vec![root().to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).expect("a readable directory") {
            let path = entry.expect("a readable entry").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                all.push_str(&std::fs::read_to_string(&path).expect("UTF-8 source"));
            }
        }
    }
    all
}

/// The texts between single backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Whether a word is the number of an invariant, such as `S13` or `RT4`.
fn is_number(word: &str) -> bool {
    let digits = word.trim_start_matches(|c: char| c.is_ascii_uppercase());
    let letters = &word[..word.len() - digits.len()];
    !digits.is_empty()
        && digits.len() <= 2
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && ["CO", "F", "L", "RT", "S", "SC", "ST"].contains(&letters)
}

#[test]
fn readme_and_guide_show_the_embed_example_as_it_is() {
    let example = read("examples/embed.rs");
    let (_header, program) = example.split_once("\n\n").expect("a header and a program");
    let fenced = format!("```rust\n{program}```");
    for document in ["README.md", "docs/guides/embedding.md"] {
        assert!(
            read(document).contains(&fenced),
            "{document} lacks examples/embed.rs as it is now"
        );
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    for document in DOCUMENTS {
        let dir: PathBuf = root().join(document).parent().expect("a directory").to_owned();
        let text = read(document);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") {
                assert!(dir.join(target).exists(), "{document} links to {target}");
            }
        }
    }
}

#[test]
fn the_guide_on_testing_shows_its_tests_as_they_are() {
    let source = read("tests/tests/testing_a_controller.rs");
    let (_header, program) = source.split_once("\n\n").expect("a header and a program");
    let guide = read("docs/guides/testing-a-controller.md");
    assert!(guide.contains(&format!("```rust\n{program}```")), "the guide is out of date");
    let (_, excerpt) = guide.split_once("```rust,ignore\n").expect("an excerpt");
    let (excerpt, _) = excerpt.split_once("```").expect("its end");
    let plain = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join("\n");
    let tests = plain(&read("orchestrator-http/tests/http/testkit.rs"));
    assert!(tests.contains(&plain(excerpt)), "the guide is out of date");
}

#[test]
fn the_guide_shows_the_custom_scheduler_as_it_is() {
    let example = read("examples/custom_scheduler.rs");
    let begin = example.find("impl Scheduler for Cheapest").expect("an implementation");
    let end = begin + example[begin..].find("\n}\n").expect("its end");
    let guide = read("docs/guides/writing-a-scheduler.md");
    assert!(guide.contains(&example[begin..end]), "the guide is out of date");
}

#[test]
fn tests_that_invariants_name_exist() {
    let (sources, invariants) = (sources(), read("docs/INVARIANTS.md"));
    let named: BTreeSet<&str> = quoted(&invariants)
        .filter(|word| word.contains('_') && !word.contains(['/', ':', '-']))
        .collect();
    assert!(named.len() > 20, "{named:?}");
    for test in named {
        let form = match test.strip_suffix('!') {
            Some(suite) => format!("macro_rules! {suite} "),
            None => format!("fn {test}("),
        };
        assert!(sources.contains(&form), "docs/INVARIANTS.md names {test}");
    }
}

#[test]
fn numbers_that_the_code_uses_are_listed() {
    let invariants = read("docs/INVARIANTS.md");
    let words = |text: &str| -> BTreeSet<String> {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        words.filter(|word| is_number(word)).map(str::to_owned).collect()
    };
    let listed = words(&invariants);
    let clause = |word: &str| word.len() > 2 && word[..2].bytes().all(|b| b.is_ascii_uppercase());
    // Clauses are written out at their traits.
    let used = words(&sources()).into_iter().filter(|word| !clause(word));
    let missing: Vec<String> = used.filter(|word| !listed.contains(word)).collect();
    assert!(missing.is_empty(), "docs/INVARIANTS.md lacks {missing:?}");
}
