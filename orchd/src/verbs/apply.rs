//! `orchd apply`: makes the cluster have what manifests say.

use std::path::PathBuf;

use orchestrator_core::manifest::Document;
use orchestrator_core::model::Key;
use orchestrator_http::{ClientError, WriteParams};
use serde_json::Value;

use super::session::{ClientArgs, Session};
use super::{manifests, target};
use crate::out::{Stop, line, remark};

pub const EXAMPLES: &str = "\
Examples:
  orchd apply -f web.yaml
  orchd apply -f base/ -f extra.yaml -n staging
  cat web.yaml | orchd apply -f -
  orchd apply -f web.yaml --dry-run

An unknown field is an error that names its file and line. What an earlier apply had and this one lacks goes.";

/// Options of `orchd apply`.
#[derive(Debug, clap::Args)]
pub struct ApplyArgs {
    /// A manifest (YAML or JSON), a directory of them, or - for standard input; may be repeated
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    file: Vec<PathBuf>,
    /// Go through every check, but write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// Applies every object of the manifests in their order; one that is refused does not hinder the others.
pub async fn apply(args: ApplyArgs) -> anyhow::Result<()> {
    let documents = manifests::read(&args.file)?;
    let session = Session::open(&args.client)?;
    // All keys first: a manifest that makes no sense changes nothing.
    let mut keys = Vec::with_capacity(documents.len());
    for document in &documents {
        keys.push(manifests::key(document, &session)?);
    }
    let params = WriteParams { dry_run: args.dry_run, ..WriteParams::default() };
    let mut failed = false;
    for (document, key) in documents.iter().zip(&keys) {
        match apply_one(&session, document, key, params).await {
            Ok(effect) => {
                let note = if args.dry_run { " (dry run)" } else { "" };
                line(format_args!("{} {effect}{note}", target::with_kind(key)))?;
            }
            Err(error @ ClientError::Refused { .. }) => {
                failed = true;
                for complaint in manifests::complaints(document, &error) {
                    remark(format_args!("error: {complaint}"));
                }
            }
            // Nobody is there to talk to: the others would fare no better.
            Err(error) => return Err(error.into()),
        }
    }
    if failed { Err(Stop::Told.into()) } else { Ok(()) }
}

async fn apply_one(
    session: &Session,
    document: &Document,
    key: &Key,
    params: WriteParams,
) -> Result<&'static str, ClientError> {
    let before = match session.client.get(key).await {
        Ok(before) => Some(before),
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error),
    };
    let reply = session.client.apply(key, &document.value, params).await?;
    for warning in &reply.warnings {
        remark(format_args!("warning: {}", manifests::at_mentioned(document, warning)));
    }
    Ok(match before {
        _ if reply.created => "created",
        Some(before) if wanted(&before) == wanted(&reply.value) => "unchanged",
        Some(_) | None => "configured",
    })
}

/// What people want of an object, without what the cluster itself writes down.
fn wanted(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in ["generation", "managedFields", "resourceVersion"] {
            metadata.remove(field);
        }
    }
    object
}
