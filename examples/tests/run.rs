//! Runs the examples as their readers do, and reads what they print.

use std::path::PathBuf;
use std::process::Command;

/// Runs an example to its end and returns what it printed.
///
/// `cargo test` builds the examples of a package before it runs the tests.
fn run(example: &str) -> String {
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test.parent().and_then(|deps| deps.parent()).expect("tests lie in deps");
    let path: PathBuf = profile.join("examples").join(example);
    let output = Command::new(&path)
        // No engine listens there: the test must not depend on what the machine has.
        .env("DOCKER_HOST", "unix:///nonexistent/docker.sock")
        .env("PROPTEST_CASES", "64")
        .output()
        .unwrap_or_else(|error| panic!("{} does not run: {error}", path.display()));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{example} failed: {errors}");
    String::from_utf8(output.stdout).expect("an example prints UTF-8")
}

#[test]
fn embed_runs_three_pods() {
    let printed = run("embed");
    let pods: Vec<&str> = printed.lines().filter(|line| line.starts_with("web-")).collect();
    assert_eq!(pods.len(), 3, "{printed}");
    assert!(pods.iter().all(|line| line.contains("runs on local at 127.")), "{printed}");
}

#[test]
fn custom_scheduler_fills_the_cheapest_nodes() {
    let printed = run("custom_scheduler");
    assert!(printed.contains("small costs 15 and has 2 pods"), "{printed}");
    assert!(printed.contains("medium costs 40 and has 2 pods"), "{printed}");
    assert!(printed.contains("large costs 90 and has 1 pods"), "{printed}");
    assert!(printed.contains("would go to"), "{printed}");
}

#[test]
fn custom_controller_keeps_its_config_map() {
    let printed = run("custom_controller");
    assert!(printed.contains(r#"scaled: {"available": "0", "wanted": "5"}"#), "{printed}");
    assert!(printed.ends_with("gone with its deployment\n"), "{printed}");
}

#[test]
fn custom_runtime_starts_restarts_and_removes() {
    let printed = run("custom_runtime");
    assert!(printed.contains("start  web (run 1)"), "{printed}");
    assert!(printed.ends_with("0 pods are left\n"), "{printed}");
}

#[test]
fn property_test_finds_nothing() {
    let printed = run("property_test");
    assert!(printed.contains("64 clusters: no node was over-committed"), "{printed}");
}
