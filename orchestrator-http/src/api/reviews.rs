//! Reviews: who asks and what they may do, and the same of others for those who may ask it.

use orchestrator_core::api::{Asked, Attributes, Caller, permits, permitted_rules};
use serde_json::{Value, json};

use super::Api;
use super::identity::is_alive;
use crate::account_tokens::ISSUER;
use crate::registry::{AnswerKind, Answered};
use crate::status::Failure;

impl Api {
    /// Answers a review.
    ///
    /// # Errors
    /// 400 when it does not say what is asked.
    pub(super) fn review(
        &self,
        answered: &Answered,
        namespace: Option<&str>,
        caller: &Caller,
        asked: &Value,
    ) -> Result<Value, Failure> {
        let world = self.inner.cluster.world();
        let text = |path: &str| asked.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let status = match answered.kind {
            AnswerKind::Access => {
                json!({ "allowed": permits(&world, caller, &attributes(asked, None)?) })
            }
            AnswerKind::AccessOf => {
                let (who, what) = (somebody(asked)?, attributes(asked, namespace)?);
                json!({ "allowed": permits(&world, &who, &what) })
            }
            AnswerKind::Rules => {
                let rules = permitted_rules(&world, caller, text("/spec/namespace"));
                let (paths, resources): (Vec<_>, Vec<_>) =
                    rules.into_iter().partition(|rule| !rule.non_resource_urls.is_empty());
                json!({
                    "resourceRules": resources,
                    "nonResourceRules": paths,
                    // What a node may do is not told by rules.
                    "incomplete": matches!(caller, Caller::Node { .. }),
                })
            }
            AnswerKind::Token => {
                let audiences = asked.pointer("/spec/audiences").and_then(Value::as_array);
                let mut audiences: Vec<String> = audiences
                    .into_iter()
                    .flatten()
                    .filter_map(|audience| audience.as_str().map(str::to_owned))
                    .collect();
                if audiences.is_empty() {
                    audiences.push(ISSUER.to_owned());
                }
                let found = self.inner.credentials.as_ref().and_then(|credentials| {
                    let token = text("/spec/token");
                    credentials.accounts.holder_for(token, &audiences, self.now())
                });
                match found.filter(|(holder, _)| is_alive(&world, holder)) {
                    Some((holder, audiences)) => {
                        let who = Caller::service_account(&holder.namespace, &holder.name);
                        let mut user = user_info(&who);
                        user["uid"] = holder.uid.to_string().into();
                        json!({ "authenticated": true, "user": user, "audiences": audiences })
                    }
                    None => json!({
                        "authenticated": false,
                        "error": "the token is no valid token of a service account of this cluster",
                    }),
                }
            }
            AnswerKind::NodeMetrics | AnswerKind::PodMetrics => {
                return Err(Failure::method_not_allowed());
            }
            AnswerKind::WhoAmI => json!({ "userInfo": user_info(caller) }),
        };
        Ok(json!({
            "kind": answered.kind_name,
            "apiVersion": answered.api_version(),
            "metadata": { "creationTimestamp": null },
            "spec": if answered.kind == AnswerKind::Token {
                // A token is told to nobody.
                json!({})
            } else {
                asked.get("spec").cloned().unwrap_or_else(|| json!({}))
            },
            "status": status,
        }))
    }
}

fn user_info(caller: &Caller) -> Value {
    json!({ "username": caller.user_name(), "groups": caller.groups() })
}

/// The user that a review is about.
fn somebody(asked: &Value) -> Result<Caller, Failure> {
    let name = asked.pointer("/spec/user").and_then(Value::as_str).unwrap_or_default();
    let groups = asked.pointer("/spec/groups").and_then(Value::as_array);
    let groups: Vec<String> = groups
        .into_iter()
        .flatten()
        .filter_map(|group| group.as_str().map(str::to_owned))
        .collect();
    if name.is_empty() && groups.is_empty() {
        return Err(Failure::bad_request("spec.user: a user, or spec.groups, is needed"));
    }
    Ok(Caller::user(name, groups))
}

/// What a review asks about; of one namespace alone if its path names that.
fn attributes(asked: &Value, namespace: Option<&str>) -> Result<Attributes, Failure> {
    let read = |of: &Value, field: &str| {
        of.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let part = |name: &str| asked.get("spec")?.get(name).filter(|part| part.is_object());
    match (part("resourceAttributes"), part("nonResourceAttributes")) {
        (Some(of), None) => {
            let said = read(of, "namespace");
            if let Some(namespace) = namespace.filter(|namespace| *namespace != said) {
                return Err(Failure::bad_request(format!(
                    "spec.resourceAttributes.namespace: {said:?} must be that of the path, {namespace:?}"
                )));
            }
            let asked = Asked::Resource {
                group: read(of, "group"),
                resource: read(of, "resource"),
                subresource: read(of, "subresource"),
                namespace: said,
                name: read(of, "name"),
            };
            Ok(Attributes { verb: read(of, "verb"), asked })
        }
        (None, Some(of)) if namespace.is_none() => {
            Ok(Attributes::path(&read(of, "verb"), &read(of, "path")))
        }
        _ => Err(Failure::bad_request(
            "spec: exactly one of resourceAttributes and nonResourceAttributes is needed",
        )),
    }
}
