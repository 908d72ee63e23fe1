//! How one more server gets the keys of its cluster: over TLS that a join token pins, once.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use orchestrator_core::model::Sensitive;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};

use crate::client::{Client, ClientError};
use crate::node::{JoinRole, JoinToken};
use crate::pki::{Pki, PkiError, Token, fingerprint};
use crate::private_file;

/// Where servers join.
pub(crate) const JOIN_SERVER_PATH: &str = "/apis/orchestrator.dev/v1/join-server";
/// The most files of keys.
const FILES_MAX: usize = 32;
/// The most bytes of such a file.
const FILE_BYTES_MAX: usize = 64 << 10;

/// Asks to join as a server.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct JoinServerRequest {
    /// The server's name.
    pub(crate) server: String,
    /// Something that nobody else knows, so that the same one may ask again if the answer was lost.
    pub(crate) nonce: Sensitive<String>,
}

/// The keys.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct JoinServerAnswer {
    /// What the directory of keys holds, by the names of the files.
    pub(crate) files: Files,
}

/// Texts by the names of the files that they are in.
type Files = BTreeMap<String, Sensitive<String>>;

/// Why a server could not join.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinServerError {
    /// The server that was asked refused, or could not be reached.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// There are no random numbers.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The token lets something else join.
    #[error("the token is not one for servers; `orchd token create --role server` prints one")]
    Role,
    /// The answer is not what it should be.
    #[error("the server's answer cannot be used: {0}")]
    Answer(String),
    /// The directory holds something that would be lost.
    #[error(
        "{} holds something already, which joining would overwrite; move it away, then join again",
        directory.display()
    )]
    NotEmpty {
        /// The directory.
        directory: PathBuf,
    },
    /// The keys could not be written.
    #[error("writing keys below {}", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Gets the keys of the cluster of a token's maker from one of its servers, and writes them into a directory that is not there
/// yet, or is empty. `name` is what the new server is called.
///
/// # Errors
/// [`JoinServerError`]; then the directory is as it was.
pub async fn join_as_server(
    server: &str,
    token: &JoinToken,
    name: &str,
    directory: &Path,
) -> Result<(), JoinServerError> {
    if token.role() != JoinRole::Server {
        return Err(JoinServerError::Role);
    }
    // Before the token is used up.
    if std::fs::read_dir(directory).is_ok_and(|mut found| found.next().is_some()) {
        return Err(JoinServerError::NotEmpty { directory: directory.to_owned() });
    }
    let unusable = |error: serde_json::Error| JoinServerError::Answer(error.to_string());
    let nonce = Sensitive(Token::random()?.reveal().to_owned());
    let asked = JoinServerRequest { server: name.to_owned(), nonce };
    let client = Client::pinned(server, token.root(), token.credential())?;
    let asked = serde_json::to_value(&asked).map_err(unusable)?;
    let answer = client.post(JOIN_SERVER_PATH, &asked).await?;
    let JoinServerAnswer { files } = serde_json::from_value(answer).map_err(unusable)?;
    check(&files, token.root()).map_err(JoinServerError::Answer)?;
    write(directory, &files)
        .map_err(|source| JoinServerError::Write { path: directory.to_owned(), source })
}

fn check(files: &Files, root: &str) -> Result<(), String> {
    let is_name = |name: &str| {
        !name.starts_with('.')
            && name.bytes().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte)
            })
    };
    if let Some(name) = files.keys().find(|name| name.is_empty() || !is_name(name)) {
        return Err(format!("{name:?} can be no name of a file of keys"));
    }
    if files.len() > FILES_MAX {
        return Err(format!("{} files, at most {FILES_MAX}", files.len()));
    }
    let certificate = files.get(Pki::ROOT).ok_or("it has no root.crt")?;
    let certificate = CertificateDer::from_pem_slice(certificate.0.as_bytes());
    match certificate.is_ok_and(|certificate| fingerprint(&certificate) == root) {
        true => Ok(()),
        false => Err("its root is not the one that the token names".to_owned()),
    }
}

/// All or nothing: into a directory beside it, which then takes its place.
fn write(directory: &Path, files: &Files) -> io::Result<()> {
    let new = directory.with_extension("new");
    if new.exists() {
        std::fs::remove_dir_all(&new)?;
    }
    private_file::directory(&new)?;
    for (name, content) in files {
        private_file::write(&new.join(name), content.0.as_bytes())?;
    }
    // One that is there must be empty: keys are not lost.
    match std::fs::remove_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    std::fs::rename(&new, directory)
}

/// The keys that a server gives to one more: every file of the directory but the root's key.
///
/// # Errors
/// When a file cannot be read, or is none of ours.
pub(crate) fn shared_files(directory: &Path) -> Result<JoinServerAnswer, PkiError> {
    let failed = |source| PkiError::File { action: "reading", path: directory.to_owned(), source };
    let mut answer = JoinServerAnswer { files: Files::new() };
    for entry in std::fs::read_dir(directory).map_err(failed)?.take(FILES_MAX + 1) {
        let path = entry.map_err(failed)?.path();
        let name = name_of(&path);
        // The root's key stays: it may be kept elsewhere, and is needed once in years. What is half written has another ending.
        if name != Pki::ROOT_KEY && !name.ends_with(".new") && path.is_file() {
            answer.files.insert(name, read(&path)?);
        }
    }
    Ok(answer)
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn read(path: &Path) -> Result<Sensitive<String>, PkiError> {
    let failed = |source| PkiError::File { action: "reading", path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX as u64 {
        return Err(PkiError::Content { path: path.to_owned(), expected: "a file of keys" });
    }
    std::fs::read_to_string(path).map(Sensitive).map_err(failed)
}
