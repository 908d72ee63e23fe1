//! Manifests that a user names with `-f`, and complaints about them that say file and line.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use orchestrator_core::manifest::{self, Document, MANIFEST_BYTES_MAX};
use orchestrator_core::model::{Key, Kind, is_dns_label};
use orchestrator_http::ClientError;

use super::session::Session;
use super::text_at;

/// What a manifest's file is called when it comes through standard input.
const STDIN: &str = "stdin";
/// Which files of a directory are manifests.
const EXTENSIONS: [&str; 3] = ["json", "yaml", "yml"];

/// Reads every object of the manifests: files, directories (their manifests in name order) and `-` for standard input.
///
/// # Errors
/// What cannot be read, and the first that is no manifest, with file, line and column.
pub fn read(names: &[PathBuf]) -> anyhow::Result<Vec<Document>> {
    let mut documents = Vec::new();
    for name in names {
        if name.as_os_str() == "-" {
            documents.extend(manifest::parse(&read_limited(std::io::stdin(), STDIN)?, STDIN)?);
            continue;
        }
        for path in files(name)? {
            let shown = path.display().to_string();
            let file =
                std::fs::File::open(&path).with_context(|| format!("cannot open {shown}"))?;
            documents.extend(manifest::parse(&read_limited(file, &shown)?, &shown)?);
        }
    }
    if documents.is_empty() {
        let names: Vec<_> = names.iter().map(|name| name.display().to_string()).collect();
        bail!("{}: there is no object in it", names.join(", "));
    }
    Ok(documents)
}

/// Finds out which object a document is.
///
/// # Errors
/// What is missing or not served, with file and line.
pub fn key(document: &Document, session: &Session) -> anyhow::Result<Key> {
    let value = &document.value;
    let word = text_at(value, "/kind");
    let kind = match Kind::from_name(word) {
        Some(kind) => kind,
        None if word.is_empty() => bail!(at(document, "kind", "kind: Required value")),
        None => {
            let served = Kind::ALL.map(Kind::name).join(", ");
            let message = format!("kind: {word:?} is not served here; what is: {served}");
            bail!(at(document, "kind", &message));
        }
    };
    let version = text_at(value, "/apiVersion");
    if version != kind.api_version() {
        let wanted = kind.api_version();
        let message = format!("apiVersion: {version:?} has no {kind}; it is in {wanted:?}");
        bail!(at(document, "apiVersion", &message));
    }
    let name = text_at(value, "/metadata/name");
    if name.is_empty() {
        bail!(at(document, "metadata.name", "metadata.name: Required value"));
    }
    if let Some(right) = kind.name_rule().broken_by(name) {
        let message = format!("metadata.name: Invalid value: {name:?}: {right}");
        bail!(at(document, "metadata.name", &message));
    }
    let own = text_at(value, "/metadata/namespace");
    let mut key = session.key(kind, name);
    if !own.is_empty() && kind.is_namespaced() {
        if session.namespace_is_given && own != session.namespace {
            let message = format!(
                "metadata.namespace: {own:?} is not the namespace {:?} given with -n",
                session.namespace
            );
            bail!(at(document, "metadata.namespace", &message));
        }
        if !is_dns_label(own) {
            let message = format!(
                "metadata.namespace: Invalid value: {own:?}: a lower-case RFC 1123 label is needed, such as \"default\""
            );
            bail!(at(document, "metadata.namespace", &message));
        }
        key.namespace = own.into();
    }
    Ok(key)
}

/// Says what the server has against a document: one line per complaint, each with file and line.
pub fn complaints(document: &Document, error: &ClientError) -> Vec<String> {
    if let ClientError::Refused { causes, message, code, .. } = error {
        let about_fields: Vec<_> = causes
            .iter()
            .filter(|cause| !cause.field.is_empty())
            .map(|cause| at(document, &cause.field, &format!("{}: {}", cause.field, cause.message)))
            .collect();
        if !about_fields.is_empty() {
            return about_fields;
        }
        if *code == 400 {
            // What comes before is the kind, which the file says itself.
            let decoding = message.split_once("cannot be handled as a ");
            let message = decoding
                .and_then(|(_, rest)| rest.split_once(": "))
                .map_or(message.as_str(), |(_, rest)| {
                    rest.strip_prefix("strict decoding error: ").unwrap_or(rest)
                });
            return split_fields(message).map(|part| at_mentioned(document, part)).collect();
        }
    }
    if error.to_string().starts_with("namespaces \"") {
        let message = format!("{error}; apply a manifest with that Namespace first");
        return vec![at(document, "metadata.namespace", &message)];
    }
    vec![format!("{}:{}: {error}", document.source, document.line)]
}

/// Puts file and line before a message that names a field somewhere.
pub fn at_mentioned(document: &Document, message: &str) -> String {
    let mentioned = manifest::locate_mentioned(document, message);
    let line = mentioned.first().map_or(document.line, |(_, line)| *line);
    format!("{}:{line}: {message}", document.source)
}

/// Puts file and line of a field before a message.
fn at(document: &Document, field: &str, message: &str) -> String {
    let line = manifest::locate(document, field).unwrap_or(document.line);
    format!("{}:{line}: {message}", document.source)
}

/// Splits `unknown field "a", duplicate field "b"`.
fn split_fields(message: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(message);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        let next = [", unknown field ", ", duplicate field "]
            .iter()
            .filter_map(|separator| text.find(separator))
            .min();
        match next {
            Some(end) => {
                rest = Some(&text[end + 2..]);
                Some(&text[..end])
            }
            None => Some(text),
        }
    })
}

/// The files a name stands for: itself, or the manifests in a directory.
fn files(name: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let shown = || format!("cannot read {}", name.display());
    if !std::fs::metadata(name).with_context(shown)?.is_dir() {
        return Ok(vec![name.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(name).with_context(shown)? {
        let path = entry.with_context(shown)?.path();
        let extension = path.extension().and_then(std::ffi::OsStr::to_str).unwrap_or_default();
        if path.is_file() && EXTENSIONS.contains(&extension) {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        bail!("{}: the directory has no {} file", name.display(), EXTENSIONS.join(", "));
    }
    Ok(files)
}

/// Reads all, or a byte more than a manifest may have: enough for the parser to refuse it.
fn read_limited(source: impl std::io::Read, name: &str) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = MANIFEST_BYTES_MAX as u64 + 1;
    source.take(limit).read_to_end(&mut bytes).with_context(|| format!("cannot read {name}"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::split_fields;

    #[test]
    fn several_fields_in_one_message_are_told_apart() {
        let parts: Vec<_> =
            split_fields(r#"unknown field "a.b", unknown field "c", duplicate field "d, e""#)
                .collect();
        let expected =
            [r#"unknown field "a.b""#, r#"unknown field "c""#, r#"duplicate field "d, e""#];
        assert_eq!(parts, expected);
    }
}
