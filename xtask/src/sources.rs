//! Where cargo keeps the sources of the crates that are read.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// Directories with sources.
pub struct Sources {
    /// Of `k8s-pb`: numbers and types of fields, and how lists merge.
    pub protobuf: PathBuf,
    /// Of the newest version in `k8s-openapi`: names in JSON, and which fields are required.
    pub openapi: PathBuf,
}

/// Fetches the crates if need be, and finds them.
pub fn find(root: &Path) -> Result<Sources> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--all-features", "--format-version", "1"])
        .arg("--manifest-path")
        .arg(root.join("xtask/Cargo.toml"))
        .output()
        .context("cargo does not run")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let source = |name: &str| -> Result<PathBuf> {
        let mut packages = metadata["packages"].as_array().into_iter().flatten();
        let package = packages.find(|package| package["name"] == name);
        let manifest = package.and_then(|package| package["manifest_path"].as_str());
        let manifest = manifest.with_context(|| format!("cargo knows no {name}"))?;
        Ok(Path::new(manifest).with_file_name("src"))
    };
    let openapi = source("k8s-openapi")?;
    let mut versions: Vec<PathBuf> = directories(&openapi)?;
    versions.sort();
    let newest = versions.pop().context("k8s-openapi has no version")?;
    Ok(Sources { protobuf: source("k8s-pb")?, openapi: newest })
}

fn directories(path: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(path)?.collect::<std::io::Result<Vec<_>>>()?;
    Ok(entries.into_iter().map(|entry| entry.path()).filter(|path| path.is_dir()).collect())
}

/// Every Rust file below a directory, in path order.
pub fn rust_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(next) = left.pop() {
        for entry in
            std::fs::read_dir(&next).with_context(|| format!("cannot read {}", next.display()))?
        {
            let path = entry?.path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// The package of a path below the sources: `api/core/v1/mod.rs` and `api/core/v1/pod.rs` are in `core/v1`.
pub fn package(below: &Path) -> Option<String> {
    let parts: Vec<&str> = below.parent()?.iter().filter_map(|part| part.to_str()).collect();
    match parts.as_slice() {
        ["api", group, version] => Some(format!("{group}/{version}")),
        ["apimachinery", "pkg", "apis", group, version] => Some(format!("{group}/{version}")),
        ["apimachinery", "pkg", "api" | "util", name] => Some((*name).to_owned()),
        ["apimachinery", "pkg", name] => Some((*name).to_owned()),
        _ => None,
    }
}

/// The text of a doc comment, a string per line.
pub fn doc_lines(attributes: &[syn::Attribute]) -> Vec<String> {
    let text = |attribute: &syn::Attribute| match &attribute.meta {
        syn::Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => {
                Some(text.value().trim().to_owned())
            }
            _ => None,
        },
        _ => None,
    };
    attributes.iter().filter_map(text).collect()
}

/// A field's name without what tells spellings apart: `pod_i_ps`, `podIPs` and `r#type`, `type` are the same.
pub fn folded(name: &str) -> String {
    name.trim_start_matches("r#").replace('_', "").to_lowercase()
}
