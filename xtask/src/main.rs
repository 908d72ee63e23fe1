//! Tasks for those who work on this project. `cargo run --manifest-path xtask/Cargo.toml -- fields` writes the field
//! table anew; `fields --check` fails when the committed one is not what would be written.

mod json_names;
mod model_docs;
mod protobuf;
mod sources;
mod table;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

/// Where the field table lies, from the root of the project.
const TABLE: &str = "orchestrator-core/src/schema/kubernetes.fields";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        ["fields"] => fields(false),
        ["fields", "--check"] => fields(true),
        _ => {
            eprintln!("usage: xtask fields [--check]");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn fields(check: bool) -> Result<()> {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask/ lies in the project")?;
    let sources = sources::find(root)?;
    let messages = protobuf::read(&sources.protobuf)?;
    let names = json_names::read(&sources.openapi)?;
    let docs = model_docs::read(&root.join("orchestrator-core/src/model"))?;
    let text = table::write(&messages, &names, &docs)?;
    let path = root.join(TABLE);
    if !check {
        return std::fs::write(&path, text).with_context(|| format!("cannot write {TABLE}"));
    }
    if std::fs::read_to_string(&path).unwrap_or_default() != text {
        bail!(
            "{TABLE} is stale; `cargo run --manifest-path xtask/Cargo.toml -- fields` writes it anew"
        );
    }
    Ok(())
}
