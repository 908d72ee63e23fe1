//! `JoinToken`: the text by which an agent or a server joins a cluster, once.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use orchestrator_core::model::{Key, Kind, Sensitive, Time};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::pki::{PkiError, Token, fingerprint, sha256};

/// The type of the secrets that join tokens are kept as.
pub const JOIN_TOKEN_TYPE: &str = "orchestrator.dev/join-token";
/// The namespace of those secrets.
pub const JOIN_TOKEN_NAMESPACE: &str = "kube-system";
/// What their names begin with; the token's id follows.
pub const JOIN_TOKEN_PREFIX: &str = "join-token-";
/// What every join token begins with: its form; what joins by it follows.
const FORM: &str = "orch1";
/// The characters of an id.
const ID_CHARS: usize = 8;

/// What joins by a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinRole {
    /// A node.
    Agent,
    /// One more server, which gets the cluster's keys.
    Server,
}

impl JoinRole {
    const ALL: [Self; 2] = [Self::Agent, Self::Server];

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Server => "server",
        }
    }

    /// Finds a role by its word.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// A text by which an agent, or a server, joins a cluster: `orch1.agent.ID.ROOT.SECRET`. It names the cluster's root by its SHA-256, so that
/// the agent talks to no other; the cluster keeps nothing of the secret but its SHA-256. It is good for one node.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    role: JoinRole,
    id: String,
    root: String,
    secret: Sensitive<String>,
}

/// A text that is no join token.
#[derive(Debug, thiserror::Error)]
#[error(
    "this is no join token: {0}; `orchd token create` prints one, such as orch1.agent.0a1b2c3d.…"
)]
pub struct JoinTokenError(&'static str);

impl JoinToken {
    /// Makes a token for a cluster with this root, in PEM, by which something of this role may join.
    ///
    /// # Errors
    /// [`PkiError`] when the root is no certificate, or there are no random bytes.
    pub fn new(root_pem: &str, role: JoinRole) -> Result<Self, PkiError> {
        let root =
            CertificateDer::from_pem_slice(root_pem.as_bytes()).map_err(|_| PkiError::Content {
                path: "certificate-authority".into(),
                expected: "a PEM certificate",
            })?;
        let random = Token::random()?;
        let (id, _) = random.reveal().split_at(ID_CHARS);
        let secret = Sensitive(Token::random()?.reveal().to_owned());
        Ok(Self { role, id: id.to_owned(), root: fingerprint(&root), secret })
    }

    /// By what the token is listed and revoked.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What may join by it.
    pub const fn role(&self) -> JoinRole {
        self.role
    }

    /// The whole text. Whoever has it can join.
    pub fn reveal(&self) -> String {
        format!("{FORM}.{}.{}.{}.{}", self.role.name(), self.id, self.root, self.secret.0)
    }

    /// The SHA-256 of the cluster's root.
    pub(crate) fn root(&self) -> &str {
        &self.root
    }

    /// What the server is shown of it.
    pub(crate) fn credential(&self) -> Token {
        Token::new(format!("{}.{}", self.id, self.secret.0))
    }

    /// The secret to be stored, so that the cluster knows the token until it expires; for the node of one name alone, if one
    /// is given.
    pub fn to_secret(&self, expires: Time, node: Option<&str>) -> Value {
        let encoded = |text: &str| Value::String(STANDARD.encode(text));
        let mut data = json!({
            "expires": encoded(&expires.to_string()),
            "role": encoded(self.role.name()),
            "secretSha256": encoded(&sha256(self.secret.0.as_bytes())),
        });
        if let Some(node) = node {
            data["node"] = encoded(node);
        }
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": join_token_key(&self.id).name, "namespace": JOIN_TOKEN_NAMESPACE },
            "type": JOIN_TOKEN_TYPE,
            "data": data,
        })
    }
}

/// The secret that a token of this id is kept as.
pub fn join_token_key(id: &str) -> Key {
    Key::new(Kind::Secret, JOIN_TOKEN_NAMESPACE, &format!("{JOIN_TOKEN_PREFIX}{id}"))
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({})", self.id)
    }
}

impl FromStr for JoinToken {
    type Err = JoinTokenError;

    fn from_str(text: &str) -> Result<Self, JoinTokenError> {
        let rest = text.trim().strip_prefix(FORM).and_then(|rest| rest.strip_prefix('.'));
        let (role, rest) = rest
            .and_then(|rest| rest.split_once('.'))
            .and_then(|(role, rest)| Some((JoinRole::find(role)?, rest)))
            .ok_or(JoinTokenError("it does not begin with orch1.agent or orch1.server"))?;
        let [id, root, secret] = rest.split('.').collect::<Vec<_>>()[..] else {
            return Err(JoinTokenError("it has not five parts"));
        };
        let is_hex = |text: &str, chars: usize| {
            text.len() == chars && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        if !is_hex(id, ID_CHARS) || !is_hex(root, 64) || !is_hex(secret, 64) {
            return Err(JoinTokenError("a part of it was cut off or changed"));
        }
        let secret = Sensitive(secret.to_owned());
        Ok(Self { role, id: id.to_owned(), root: root.to_ascii_lowercase(), secret })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written_and_does_not_show_itself() {
        let directory = tempfile::tempdir().expect("a directory");
        let pki = crate::Pki::open(directory.path(), 1_790_000_000).expect("made");
        for role in JoinRole::ALL {
            let token = JoinToken::new(pki.ca_pem(), role).expect("made");
            assert_eq!(token.reveal().parse::<JoinToken>().expect("well-formed"), token);
        }
        let token = JoinToken::new(pki.ca_pem(), JoinRole::Agent).expect("made");
        let shown = format!("{token:?} {}", token.to_secret(Time::from_seconds(0), None));
        assert!(!shown.contains(&token.secret.0), "{shown}");
        for (text, says) in [
            ("", "does not begin"),
            ("orch1.user.a.b.c", "does not begin"),
            ("orch1.agent.0a1b2c3d", "five parts"),
            (&token.reveal()[..100], "cut off"),
        ] {
            let error = text.parse::<JoinToken>().expect_err(text).to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
