//! Tokens of service accounts: signed, with an end, and good for as long as their account is there.
//!
//! They are JSON web tokens with the claims that Kubernetes' have, so that clients can read who they are. The signature
//! (ES256) is made with a key of the directory of keys; whoever has the key's public half can check it.

use std::path::Path;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use orchestrator_core::model::{Kind, ServiceAccount, Time, Uid};
use rcgen::KeyPair;
use serde::{Deserialize, Serialize};

use crate::pki::{self, Pki, PkiError};

/// Who makes the tokens, and for whom: the name by which Kubernetes' own tokens call the API.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc";

/// The most bytes of a token that is looked at.
const TOKEN_BYTES_MAX: usize = 16 << 10;
/// How far clocks may be apart, in seconds.
const LEEWAY_SECONDS: u64 = 5;

/// Makes tokens of service accounts, and knows them again.
pub(crate) struct AccountTokens {
    sign: EncodingKey,
    verify: DecodingKey,
    rules: Validation,
}

impl std::fmt::Debug for AccountTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccountTokens").finish_non_exhaustive()
    }
}

/// Whose a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// The account's uid.
    pub(crate) uid: Uid,
    /// The object with which the token ends.
    pub(crate) bound: Option<Bound>,
}

/// An object of the account's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) uid: Uid,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    aud: Vec<String>,
    exp: i64,
    iat: i64,
    iss: String,
    jti: String,
    nbf: i64,
    sub: String,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Kubernetes,
}

/// The claims that Kubernetes has beside the usual ones.
#[derive(Serialize, Deserialize)]
struct Kubernetes {
    namespace: String,
    serviceaccount: Named,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod: Option<Named>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<Named>,
}

#[derive(Serialize, Deserialize)]
struct Named {
    name: String,
    uid: Uid,
}

/// Makes what is missing of a cluster's keys in a directory, which [`Server::bind`](crate::Server::bind) would make else: all that
/// sign something, and the administrator's token. `now` is in seconds since the Unix epoch.
///
/// # Errors
/// [`PkiError`] when a file cannot be read or written, or is not what it should be.
pub fn make_keys(directory: &Path, now: i64) -> Result<(), PkiError> {
    Pki::open(directory, now)?;
    AccountTokens::open(directory).map(drop)
}

impl AccountTokens {
    /// Opens the key `sa.key` of a directory, and makes one if there is none.
    ///
    /// # Errors
    /// [`PkiError`] when the file cannot be read or written, or is no key.
    pub(crate) fn open(directory: &Path) -> Result<Self, PkiError> {
        let path = directory.join(Pki::ACCOUNTS);
        let key = match pki::read_key(&path)? {
            Some(key) => key,
            None => {
                let key = KeyPair::generate().map_err(PkiError::Certificate)?;
                pki::write(&path, &key.serialize_pem())?;
                key
            }
        };
        let mut rules = Validation::new(Algorithm::ES256);
        // Whom a token is for is compared with who asks.
        rules.validate_aud = false;
        rules.set_issuer(&[ISSUER]);
        rules.set_required_spec_claims(&["aud", "exp", "iss", "nbf", "sub"]);
        // Times are compared with the caller's clock.
        (rules.validate_exp, rules.validate_nbf) = (false, false);
        Ok(Self {
            sign: EncodingKey::from_ec_der(&key.serialize_der()),
            verify: DecodingKey::from_ec_der(key.public_key_raw()),
            rules,
        })
    }

    /// Makes a token that is good from now on for so many seconds, for these audiences (the API itself if there are none).
    ///
    /// # Errors
    /// When the cryptography fails.
    pub(crate) fn issue(
        &self,
        holder: &Holder,
        audiences: Vec<String>,
        now: Time,
        seconds: i64,
    ) -> Result<String, String> {
        let from = now.as_seconds();
        let bound = |kind| {
            let bound = holder.bound.as_ref().filter(|bound| bound.kind == kind);
            bound.map(|bound| Named { name: bound.name.clone(), uid: bound.uid })
        };
        let claims = Claims {
            aud: if audiences.is_empty() { vec![ISSUER.to_owned()] } else { audiences },
            exp: from.saturating_add(seconds),
            iat: from,
            iss: ISSUER.to_owned(),
            jti: token_id().map_err(|error| error.to_string())?,
            nbf: from,
            sub: ServiceAccount::user_name(&holder.namespace, &holder.name),
            kubernetes: Kubernetes {
                namespace: holder.namespace.clone(),
                serviceaccount: Named { name: holder.name.clone(), uid: holder.uid },
                pod: bound(Kind::Pod),
                secret: bound(Kind::Secret),
            },
        };
        jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &self.sign)
            .map_err(|error| error.to_string())
    }

    /// Whose a token is; `None` when it is none of ours, not for us, or over.
    pub(crate) fn holder(&self, token: &str, now: Time) -> Option<Holder> {
        self.holder_for(token, &[ISSUER.to_owned()], now).map(|(holder, _)| holder)
    }

    /// Whose a token is, and for whom of these it is; `None` when it is none of ours, for none of them, or over.
    pub(crate) fn holder_for(
        &self,
        token: &str,
        audiences: &[String],
        now: Time,
    ) -> Option<(Holder, Vec<String>)> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let decoded = jsonwebtoken::decode::<Claims>(token, &self.verify, &self.rules);
        let claims = match decoded {
            Ok(decoded) => decoded.claims,
            Err(error) => {
                if !matches!(error.kind(), ErrorKind::InvalidToken) {
                    tracing::debug!(%error, "a token is refused");
                }
                return None;
            }
        };
        let (now, leeway) = (now.as_seconds(), LEEWAY_SECONDS.cast_signed());
        if now >= claims.exp.saturating_add(leeway) || now.saturating_add(leeway) < claims.nbf {
            return None;
        }
        let meant = audiences.iter().filter(|audience| claims.aud.contains(audience));
        let audiences: Vec<String> = meant.cloned().collect();
        if audiences.is_empty() {
            return None;
        }
        let Kubernetes { namespace, serviceaccount, pod, secret } = claims.kubernetes;
        let bound = |kind| move |Named { name, uid }: Named| Bound { kind, name, uid };
        let bound = pod.map(bound(Kind::Pod)).or(secret.map(bound(Kind::Secret)));
        let (name, uid) = (serviceaccount.name, serviceaccount.uid);
        Some((Holder { namespace, name, uid, bound }, audiences))
    }
}

/// A name of a token that no other has.
fn token_id() -> Result<String, PkiError> {
    pki::Token::random().map(|token| token.reveal()[..32].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_seconds(1_790_000_000);

    fn holder() -> Holder {
        Holder {
            namespace: "default".to_owned(),
            name: "robot".to_owned(),
            uid: Uid::default(),
            bound: Some(Bound { kind: Kind::Pod, name: "web".to_owned(), uid: Uid::default() }),
        }
    }

    fn later(seconds: i64) -> Time {
        Time::from_seconds(NOW.as_seconds() + seconds)
    }

    #[test]
    fn a_token_tells_its_holder_until_it_ends() {
        let directory = tempfile::tempdir().expect("a directory");
        let tokens = AccountTokens::open(directory.path()).expect("a key");
        let token = tokens.issue(&holder(), Vec::new(), NOW, 600).expect("signed");
        assert_eq!(tokens.holder(&token, NOW), Some(holder()));
        assert_eq!(tokens.holder(&token, later(599)), Some(holder()));
        assert_eq!(tokens.holder(&token, later(700)), None, "it is over");
        assert_eq!(tokens.holder(&token, later(-60)), None, "it has not begun");
        let again = AccountTokens::open(directory.path()).expect("the same key");
        assert_eq!(again.holder(&token, NOW), Some(holder()));
    }

    #[test]
    fn tokens_of_others_for_others_or_tampered_with_tell_nobody() {
        let (one, two) =
            (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let tokens = AccountTokens::open(one.path()).expect("a key");
        let strangers = AccountTokens::open(two.path()).expect("a key");
        let token = strangers.issue(&holder(), Vec::new(), NOW, 600).expect("signed");
        assert_eq!(tokens.holder(&token, NOW), None);
        let token = tokens.issue(&holder(), vec!["vault".to_owned()], NOW, 600).expect("signed");
        assert_eq!(tokens.holder(&token, NOW), None, "it is for somebody else");
        let both = ["vault".to_owned(), "other".to_owned()];
        let (found, audiences) = tokens.holder_for(&token, &both, NOW).expect("it is for one");
        assert_eq!((found, audiences), (holder(), vec!["vault".to_owned()]));
        let token = tokens.issue(&holder(), Vec::new(), NOW, 600).expect("signed");
        let (head, signature) = token.rsplit_once('.').expect("three parts");
        let (header, claims) = head.split_once('.').expect("three parts");
        assert_eq!(tokens.holder(&format!("{header}.{claims}x.{signature}"), NOW), None);
        let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
        assert_eq!(tokens.holder(&format!("{none}.{claims}."), NOW), None, "unsigned");
        assert_eq!(tokens.holder("", NOW), None);
    }
}
