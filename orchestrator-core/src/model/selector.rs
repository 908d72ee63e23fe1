//! Selectors: `LabelSelector` as objects carry it, and the query form clients send (`app=web,tier!=db`).

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::meta::StringMap;

/// Selects objects by their labels; an empty selector selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    /// Requirements with operators; all must hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<LabelRequirement>,
    /// Labels that must be there with these values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: StringMap,
}

/// One requirement of a [`LabelSelector`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelRequirement {
    /// The label's name.
    pub key: String,
    /// How it is compared.
    pub operator: SelectorOperator,
    /// The values, for `In` and `NotIn`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// How a label is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SelectorOperator {
    /// The label is absent.
    DoesNotExist,
    /// The label is there.
    #[default]
    Exists,
    /// The label is there with one of the values.
    In,
    /// The label is absent or has none of the values.
    NotIn,
}

impl LabelRequirement {
    /// Whether the labels meet the requirement.
    pub fn matches(&self, labels: &StringMap) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            SelectorOperator::DoesNotExist => value.is_none(),
            SelectorOperator::Exists => value.is_some(),
            SelectorOperator::In => value.is_some_and(|value| self.values.contains(value)),
            SelectorOperator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
        }
    }
}

impl LabelSelector {
    /// Selects objects that have all of these labels.
    pub fn from_labels(labels: StringMap) -> Self {
        Self { match_labels: labels, match_expressions: Vec::new() }
    }

    /// Whether the labels are selected.
    pub fn matches(&self, labels: &StringMap) -> bool {
        self.match_labels.iter().all(|(name, value)| labels.get(name) == Some(value))
            && self.match_expressions.iter().all(|requirement| requirement.matches(labels))
    }

    /// Whether the selector selects everything.
    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }
}

/// Prints the query form, `app=web,tier in (a,b)`.
impl std::fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut terms: Vec<String> =
            self.match_labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        for LabelRequirement { key, operator, values } in &self.match_expressions {
            terms.push(match operator {
                SelectorOperator::DoesNotExist => format!("!{key}"),
                SelectorOperator::Exists => key.clone(),
                SelectorOperator::In => format!("{key} in ({})", values.join(",")),
                SelectorOperator::NotIn => format!("{key} notin ({})", values.join(",")),
            });
        }
        f.write_str(&terms.join(","))
    }
}

/// A text that is not a selector.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not a selector: {reason}")]
pub struct InvalidSelector {
    text: String,
    reason: String,
}

/// Parses the query form: terms `name=value`, `name==value`, `name!=value`, `name`, `!name`,
/// `name in (a,b)`, `name notin (a,b)`, joined by commas.
impl FromStr for LabelSelector {
    type Err = InvalidSelector;

    fn from_str(text: &str) -> Result<Self, InvalidSelector> {
        let mut selector = Self::default();
        for term in terms(text) {
            let requirement = requirement(term.trim())
                .map_err(|reason| InvalidSelector { text: text.to_owned(), reason })?;
            selector.match_expressions.push(requirement);
        }
        Ok(selector)
    }
}

/// Splits at commas outside parentheses; an empty text has no terms.
fn terms(text: &str) -> Vec<&str> {
    let mut depth = 0i32;
    let mut parts = Vec::new();
    let mut start = 0;
    for (index, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    if !text[start..].trim().is_empty() || !parts.is_empty() {
        parts.push(&text[start..]);
    }
    parts
}

fn requirement(term: &str) -> Result<LabelRequirement, String> {
    let make = |key: &str, operator, values: Vec<String>| {
        let key = key.trim();
        match values.iter().find(|value| !is_label_value(value)) {
            _ if !is_label_name(key) => Err(format!("{key:?} is not a label name")),
            Some(value) => Err(format!("{value:?} is not a label value")),
            None => Ok(LabelRequirement { key: key.to_owned(), operator, values }),
        }
    };
    if let Some((key, list)) = term.strip_suffix(')').and_then(|rest| rest.split_once('(')) {
        let values = list.split(',').map(|value| value.trim().to_owned()).collect();
        return match key.trim().rsplit_once(char::is_whitespace) {
            Some((key, "in")) => make(key, SelectorOperator::In, values),
            Some((key, "notin")) => make(key, SelectorOperator::NotIn, values),
            _ => Err(format!("expected `name in (…)` or `name notin (…)`, not {term:?}")),
        };
    }
    if term.contains(['(', ')']) {
        return Err(format!("a parenthesis is not closed, or not opened, in {term:?}"));
    }
    if let Some((key, value)) = term.split_once("!=") {
        return make(key, SelectorOperator::NotIn, vec![value.trim().to_owned()]);
    }
    if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return make(key, SelectorOperator::In, vec![value.trim().to_owned()]);
    }
    match term.strip_prefix('!') {
        Some(key) => make(key, SelectorOperator::DoesNotExist, Vec::new()),
        None => make(term, SelectorOperator::Exists, Vec::new()),
    }
}

/// Whether `name` is a label name: an optional DNS subdomain and `/`, then at most 63 of `A-Za-z0-9-_.`
/// that begin and end with a letter or digit.
pub fn is_label_name(name: &str) -> bool {
    let (prefix, name) = match name.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, name),
    };
    prefix.is_none_or(super::ids::is_dns_subdomain) && !name.is_empty() && is_label_value(name)
}

/// Whether `value` is a label value: empty, or at most 63 of `A-Za-z0-9-_.` that begin and end with a
/// letter or digit.
pub fn is_label_value(value: &str) -> bool {
    let bytes = value.as_bytes();
    bytes.len() <= 63
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
        && bytes.first().is_none_or(u8::is_ascii_alphanumeric)
        && bytes.last().is_none_or(u8::is_ascii_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(selector: &str, labels: &[(&str, &str)], matches: bool) {
        let labels =
            labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let parsed: LabelSelector = selector.parse().expect(selector);
        assert_eq!(parsed.matches(&labels), matches, "{selector}");
    }

    #[test]
    fn the_query_form_selects_as_kubernetes_does() {
        let web = [("app", "web"), ("tier", "front")];
        check("", &web, true);
        check("app=web", &web, true);
        check("app==web,tier=front", &web, true);
        check("app!=web", &web, false);
        check("missing!=x", &web, true);
        check("app in (api, web)", &web, true);
        check("app notin (api,web)", &web, false);
        check("tier", &web, true);
        check("!tier", &web, false);
        check("!missing", &web, true);
    }

    #[test]
    fn what_is_no_selector_is_refused_with_its_reason() {
        let bad = [
            "=x",
            "a b",
            "app in web",
            "app foo (x)",
            ",",
            "a=b,",
            "../x=1",
            "a===b",
            "a in (b c)",
        ];
        for bad in bad {
            assert!(bad.parse::<LabelSelector>().is_err(), "{bad:?}");
        }
        let error = "a in (b".parse::<LabelSelector>().expect_err("one is open").to_string();
        assert!(error.contains("a parenthesis is not closed"), "{error}");
    }
}
