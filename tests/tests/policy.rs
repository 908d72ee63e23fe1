//! The rules for dependencies in `deny.toml`, checked without a network: licences, bans, sources, wildcards.
//!
//! `cargo deny check` reads the same file and checks advisories too; this test needs nothing but cargo.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The strings of the list that begins with `start` in the policy.
fn list<'p>(policy: &'p str, start: &str) -> Vec<&'p str> {
    let (_, rest) = policy.split_once(start).expect("deny.toml has the list");
    let (list, _) = rest.split_once("\n]").expect("the list ends on a line of its own");
    list.lines().filter_map(|line| line.trim().split('"').nth(1)).collect()
}

/// The one source of crates that `deny.toml` knows.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Whether one of the alternatives of a licence expression is allowed as a whole.
fn allowed(expression: &str, allow: &[&str]) -> bool {
    let expression = expression.replace('/', " OR ").replace(['(', ')'], "");
    expression.split(" OR ").any(|all| all.split(" AND ").all(|one| allow.contains(&one.trim())))
}

fn packages() -> Vec<Value> {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace");
    let arguments =
        ["metadata", "--offline", "--format-version", "1", "--all-features", "--filter-platform"];
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .arg(target)
        .current_dir(root)
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let used: Vec<&Value> = metadata["resolve"]["nodes"]
        .as_array()
        .expect("nodes")
        .iter()
        .map(|node| &node["id"])
        .collect();
    let all = metadata["packages"].as_array().expect("packages");
    all.iter().filter(|package| used.contains(&&package["id"])).cloned().collect()
}

#[test]
fn dependencies_keep_to_the_policy() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deny.toml");
    let policy = std::fs::read_to_string(path).expect("deny.toml");
    let allow = list(&policy, "\nallow = [");
    let banned = list(&policy, "\ndeny = [");
    assert!(allow.contains(&"MIT") && banned.contains(&"openssl-sys"), "{allow:?} {banned:?}");
    let packages = packages();
    assert!(packages.len() > 100, "only {} packages were looked at", packages.len());
    let mut broken = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let licence = package["license"].as_str().unwrap_or_default();
        if !allowed(licence, &allow) {
            broken.push(format!("{name}: licence {licence:?}"));
        }
        if banned.contains(&name) {
            broken.push(format!("{name}: banned"));
        }
        let own = package["source"].is_null();
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            if own && dependency["req"] == "*" && dependency["path"].is_null() {
                broken.push(format!("{name}: any version of {}", dependency["name"]));
            }
        }
        if package["source"].as_str().is_some_and(|source| source != CRATES_IO) {
            broken.push(format!("{name}: source {}", package["source"]));
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn an_expression_is_allowed_if_one_alternative_is() {
    let allow = ["MIT", "Apache-2.0"];
    for good in ["MIT", "MIT OR GPL-3.0", "GPL-3.0/MIT", "(MIT AND Apache-2.0) OR GPL-3.0"] {
        assert!(allowed(good, &allow), "{good}");
    }
    for bad in ["", "GPL-3.0", "MIT AND GPL-3.0"] {
        assert!(!allowed(bad, &allow), "{bad:?}");
    }
}
