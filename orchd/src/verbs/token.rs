//! `orchd token`: the tokens by which agents and servers join.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use orchestrator_core::model::{Kind, Time};
use orchestrator_http::{
    DeleteParams, JOIN_TOKEN_NAMESPACE, JOIN_TOKEN_PREFIX, JOIN_TOKEN_TYPE, JoinRole, JoinToken,
    Selector, WriteParams, brief_duration, join_token_key,
};
use serde_json::Value;

use super::columns::Columns;
use super::session::{ClientArgs, Session};
use super::{duration, json, text_at};
use crate::arguments::node_name;
use crate::clock::seconds_now;
use crate::out::{line, text, usage};

pub const EXAMPLES: &str = "\
Examples:
  orchd token create
  orchd token create --ttl 10m --node node-1
  orchd token create --role server
  orchd token list
  orchd token revoke 0a1b2c3d

A token is good for one node or server. Whoever has it can join as that: hand it over as you would a password. One for a server is worth \
as much as the cluster: whoever joins as a server gets its keys.";

/// How long a token is good at most.
const TTL_MAX: Duration = Duration::from_secs(24 * 3_600);

#[derive(Debug, clap::Subcommand)]
pub enum TokenVerb {
    /// Print a token by which one agent or server can join
    Create {
        /// What may join by it
        #[arg(long, value_name = "ROLE", value_parser = ["agent", "server"], default_value = "agent")]
        role: String,
        /// How long it is good, such as 10m; at most 24h
        #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "1h")]
        ttl: Duration,
        /// The only node that it is good for, or server [default: any name that is free]
        #[arg(long, value_name = "NAME", value_parser = node_name)]
        node: Option<String>,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// List the tokens there are; what would let somebody in is not shown
    List {
        /// For programs
        #[arg(short, long, value_name = "FORMAT", value_parser = ["json"])]
        output: Option<String>,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Make a token good for nothing; a node that has joined by it stays
    Revoke {
        /// The token's id, as listed, or the whole token
        #[arg(value_name = "ID")]
        id: String,
        #[command(flatten)]
        client: ClientArgs,
    },
}

/// Makes, lists or revokes tokens.
pub async fn token(verb: TokenVerb) -> anyhow::Result<()> {
    match verb {
        TokenVerb::Create { role, ttl, node, client } => {
            let role = JoinRole::find(&role).unwrap_or(JoinRole::Agent);
            create(&Session::open(&client)?, role, ttl, node.as_deref()).await
        }
        TokenVerb::List { output, client } => {
            list(&Session::open(&client)?, output.is_some()).await
        }
        TokenVerb::Revoke { id, client } => {
            let id = token_id(&id).map_err(usage)?;
            revoke(&Session::open(&client)?, &id).await
        }
    }
}

async fn create(
    session: &Session,
    role: JoinRole,
    ttl: Duration,
    node: Option<&str>,
) -> anyhow::Result<()> {
    if ttl.is_zero() || ttl > TTL_MAX {
        return Err(usage("--ttl: more than nothing and at most 24h is needed"));
    }
    line(new_token(session, role, ttl, node).await?.reveal())
}

/// Makes a token and records its hash.
pub async fn new_token(
    session: &Session,
    role: JoinRole,
    ttl: Duration,
    node: Option<&str>,
) -> anyhow::Result<JoinToken> {
    let Some(root) = &session.ca_pem else {
        bail!(
            "the kubeconfig names no certificate authority; use the one in the server's data directory"
        );
    };
    let token = JoinToken::new(root, role).context("cannot make a token")?;
    let ttl = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
    let expires = Time::from_seconds(seconds_now() + ttl);
    let secret = token.to_secret(expires, node);
    let params = WriteParams::default();
    session.client.create(Kind::Secret, Some(JOIN_TOKEN_NAMESPACE), &secret, params).await?;
    Ok(token)
}

/// A token as it is listed.
struct Listed {
    id: String,
    role: String,
    expires: Option<Time>,
    node: String,
    is_used: bool,
}

impl Listed {
    fn read(secret: &Value) -> Option<Self> {
        let id = text_at(secret, "/metadata/name").strip_prefix(JOIN_TOKEN_PREFIX)?.to_owned();
        if text_at(secret, "/type") != JOIN_TOKEN_TYPE {
            return None;
        }
        let field = |name: &str| {
            let bytes = STANDARD.decode(text_at(secret, &format!("/data/{name}"))).ok();
            bytes.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
        };
        let is_used = !field("key").is_empty();
        let role = field("role");
        let role = if role.is_empty() { JoinRole::Agent.name().to_owned() } else { role };
        Some(Self {
            id,
            role,
            expires: field("expires").parse().ok(),
            node: field("node"),
            is_used,
        })
    }

    fn state(&self, now: i64) -> String {
        match self.expires {
            _ if self.is_used => "used".to_owned(),
            Some(expires) if expires.as_seconds() > now => {
                format!("good for {}", brief_duration(expires.as_seconds() - now))
            }
            Some(_) | None => "expired".to_owned(),
        }
    }
}

async fn list(session: &Session, for_programs: bool) -> anyhow::Result<()> {
    let all =
        session.client.list(Kind::Secret, Some(JOIN_TOKEN_NAMESPACE), &Selector::default()).await?;
    let items = all.get("items").and_then(Value::as_array);
    let tokens: Vec<_> = items.into_iter().flatten().filter_map(Listed::read).collect();
    let now = seconds_now();
    if for_programs {
        let tokens: Vec<Value> = tokens
            .iter()
            .map(|token| {
                serde_json::json!({
                    "id": token.id,
                    "role": token.role,
                    "node": token.node,
                    "expires": token.expires.map(|time| time.to_string()),
                    "used": token.is_used,
                })
            })
            .collect();
        return text(json(&Value::Array(tokens)));
    }
    if tokens.is_empty() {
        crate::out::remark("there are no tokens; `orchd token create` makes one");
        return Ok(());
    }
    let row = |token: &Listed| {
        let node = if token.node.is_empty() { "<any>" } else { &token.node };
        vec![token.id.clone(), token.role.clone(), node.to_owned(), token.state(now)]
    };
    let rows: Vec<_> = tokens.iter().map(row).collect();
    text(Columns::layout(&["Id", "Role", "Name", "State"], &rows))
}

/// Reads the id of a token, or the one of a whole token.
fn token_id(text: &str) -> Result<String, String> {
    if let Ok(token) = text.parse::<JoinToken>() {
        return Ok(token.id().to_owned());
    }
    // What may be most of a token is not repeated.
    match !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        true => Ok(text.to_owned()),
        false => Err(
            "ID: eight digits such as 0a1b2c3d are needed, or the whole token; `orchd token list` lists all there are"
                .to_owned(),
        ),
    }
}

async fn revoke(session: &Session, id: &str) -> anyhow::Result<()> {
    let deleted = session.client.delete(&join_token_key(id), &DeleteParams::default()).await;
    match deleted {
        Ok(_) => line(format_args!("token {id} revoked")),
        Err(error) if error.is_not_found() => {
            Err(anyhow!("there is no token {id:?}; `orchd token list` lists all there are"))
        }
        Err(error) => Err(error.into()),
    }
}
