//! Queries: `?labelSelector=…&limit=…` as typed options.

use orchestrator_core::api::{FieldErrorKind, FieldValidation, WriteOptions};
use orchestrator_core::model::{Kind, LabelSelector, Revision};

use crate::fields::FieldSelector;
use crate::status::Failure;

/// The most parameters of a query that are looked at.
const PARAMETERS_MAX: usize = 100;
/// The most bytes of a `fieldManager`, as in Kubernetes.
const FIELD_MANAGER_BYTES_MAX: usize = 128;

/// The parameters of a query, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query; `None` reads as empty. Odd forms (`?&limit=2`) are fine.
    ///
    /// # Errors
    /// 400 for what is not UTF-8 once decoded, and for more than 100 parameters.
    pub(crate) fn parse(query: Option<&str>) -> Result<Self, Failure> {
        let mut parameters = Vec::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            if parameters.len() >= PARAMETERS_MAX {
                let message = format!("more than {PARAMETERS_MAX} parameters in the query");
                return Err(Failure::bad_request(message));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = |text: &str| {
                percent_decode(&text.replace('+', " ")).ok_or_else(|| {
                    Failure::bad_request(format!("{text:?} in the query is not UTF-8"))
                })
            };
            parameters.push((decoded(name)?, decoded(value)?));
        }
        Ok(Self(parameters))
    }

    /// Returns the first value of a parameter, if it is there and not empty.
    pub(crate) fn text<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).find(|value| !value.is_empty())
    }

    /// Returns every value of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Reads a switch as Kubernetes does: there and neither `false` nor `0`.
    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        let value = self.all(name).next()?;
        Some(!(value == "0" || value.eq_ignore_ascii_case("false")))
    }

    /// Reads a whole number.
    ///
    /// # Errors
    /// 400 when it is none.
    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>, Failure> {
        let parse = |value: &str| {
            value.parse().map_err(|_| {
                Failure::bad_request(format!("{name}: {value:?} is not a whole number"))
            })
        };
        self.text(name).map(parse).transpose()
    }

    /// Reads how a write is to be done. Who does not name itself is known by what its user agent begins with.
    ///
    /// # Errors
    /// 400 for a `dryRun` or `fieldValidation` that does not exist, and for no name.
    pub(crate) fn write_options(&self, agent: Option<&str>) -> Result<WriteOptions, Failure> {
        let validation = match self.text("fieldValidation") {
            // The default of Kubernetes.
            None | Some("Warn") => FieldValidation::Warn,
            Some("Ignore") => FieldValidation::Ignore,
            Some("Strict") => FieldValidation::Strict,
            Some(other) => {
                return Err(Failure::bad_request(format!(
                    "fieldValidation: {other:?} is none of Ignore, Warn, Strict"
                )));
            }
        };
        let manager = match self.text("fieldManager").filter(|manager| !manager.is_empty()) {
            Some(manager) => manager,
            None => agent.and_then(|agent| agent.split('/').next()).unwrap_or_default(),
        };
        let is_good = |c: char| !c.is_control();
        if manager.len() > FIELD_MANAGER_BYTES_MAX || !manager.chars().all(is_good) {
            return Err(Failure::bad_request(format!(
                "fieldManager: at most {FIELD_MANAGER_BYTES_MAX} printable characters make one"
            )));
        }
        let dry_run = dry_run(self.all("dryRun"))?;
        Ok(WriteOptions { dry_run, manager: manager.to_owned(), validation })
    }
}

/// Reads `dryRun`: absent, or `All`.
pub(crate) fn dry_run<'a>(values: impl Iterator<Item = &'a str>) -> Result<bool, Failure> {
    let mut wanted = false;
    for value in values.filter(|value| !value.is_empty()) {
        if value != "All" {
            return Err(Failure::bad_request(format!("dryRun: {value:?} must be \"All\"")));
        }
        wanted = true;
    }
    Ok(wanted)
}

/// How a given revision binds a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RevisionMatch {
    Exact,
    NotOlderThan,
}

/// Options of a list or watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListOptions {
    pub(crate) labels: LabelSelector,
    pub(crate) fields: FieldSelector,
    pub(crate) limit: Option<usize>,
    pub(crate) resume: Option<String>,
    /// `None` when it is not given; 0 means any.
    pub(crate) revision: Option<Revision>,
    pub(crate) revision_match: Option<RevisionMatch>,
    pub(crate) watch: bool,
    pub(crate) timeout_seconds: Option<u64>,
    pub(crate) bookmarks: bool,
    pub(crate) initial_events: bool,
}

impl ListOptions {
    /// Reads the options of a list or watch of a kind.
    ///
    /// # Errors
    /// 400 for what cannot be read, 422 for what contradicts itself.
    pub(crate) fn read(query: &Query, kind: Kind) -> Result<Self, Failure> {
        let fields = FieldSelector::parse(kind, query.text("fieldSelector").unwrap_or_default())?;
        Ok(Self { fields, ..Self::read_without_fields(query)? })
    }

    /// As [`Self::read`], for what no field is known of: it is not looked at what fields are selected.
    pub(crate) fn read_without_fields(query: &Query) -> Result<Self, Failure> {
        let labels = query.text("labelSelector").unwrap_or_default();
        let labels: LabelSelector = labels.parse().map_err(|error| {
            Failure::bad_request(format!("unable to parse labelSelector: {error}"))
        })?;
        let revision = query.text("resourceVersion").map(|text| {
            text.parse::<Revision>().map_err(|_| {
                let message = format!("resourceVersion: {text:?} is not one of this server");
                Failure::bad_request(message)
            })
        });
        let revision_match = match query.text("resourceVersionMatch") {
            None => None,
            Some("Exact") => Some(RevisionMatch::Exact),
            Some("NotOlderThan") => Some(RevisionMatch::NotOlderThan),
            Some(other) => {
                let message = format!(
                    "Unsupported value: {other:?}: supported values: \"Exact\", \"NotOlderThan\""
                );
                let kind = FieldErrorKind::NotSupported;
                return Err(Failure::invalid_options("resourceVersionMatch", kind, &message));
            }
        };
        let seconds = query.number("timeoutSeconds")?;
        let options = Self {
            labels,
            fields: FieldSelector::default(),
            limit: query
                .number("limit")?
                .filter(|limit| *limit > 0)
                .and_then(|limit| limit.try_into().ok()),
            resume: query.text("continue").map(str::to_owned),
            revision: revision.transpose()?,
            revision_match,
            watch: query.flag("watch").unwrap_or(false),
            timeout_seconds: seconds.filter(|seconds| *seconds > 0).map(i64::unsigned_abs),
            bookmarks: query.flag("allowWatchBookmarks").unwrap_or(false),
            initial_events: query.flag("sendInitialEvents").unwrap_or(false),
        };
        options.check(query.flag("sendInitialEvents").is_some())?;
        Ok(options)
    }

    fn check(&self, initial_events_given: bool) -> Result<(), Failure> {
        let forbidden = |field: &str, message: &str| {
            Err(Failure::invalid_options(field, FieldErrorKind::Forbidden, message))
        };
        match (self.watch, initial_events_given, self.revision_match) {
            (false, true, _) => {
                return forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list");
            }
            (true, true, Some(RevisionMatch::NotOlderThan)) => {}
            (true, true, _) => {
                let message =
                    "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
                return forbidden("resourceVersionMatch", message);
            }
            (true, false, Some(_)) => {
                let message = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                return forbidden("resourceVersionMatch", message);
            }
            (false, false, Some(_)) if self.resume.is_some() => {
                let message = "resourceVersionMatch is forbidden when continue is provided";
                return forbidden("resourceVersionMatch", message);
            }
            (false, false, Some(_)) if self.revision.is_none() => {
                let message =
                    "resourceVersionMatch is forbidden unless resourceVersion is provided";
                return forbidden("resourceVersionMatch", message);
            }
            (false, false, Some(RevisionMatch::Exact)) if self.revision == Some(Revision::ZERO) => {
                let message =
                    "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"";
                return forbidden("resourceVersionMatch", message);
            }
            (_, false, _) => {}
        }
        if self.resume.is_some() && self.revision.is_some_and(|revision| revision != Revision::ZERO)
        {
            let message = "specifying resource version is not allowed when using continue";
            return Err(Failure::bad_request(message));
        }
        Ok(())
    }
}

/// Decodes `%xx`; `None` when the result is not UTF-8. A `%` that begins no escape stays.
pub(crate) fn percent_decode(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let digit =
            |offset: usize| bytes.get(at + offset).and_then(|byte| char::from(*byte).to_digit(16));
        match (byte, digit(1), digit(2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high * 16 + low).unwrap_or_default());
                at += 3;
            }
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8(decoded).ok()
}

/// Encodes everything but letters, digits and `-._~`.
pub(crate) fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<ListOptions, Failure> {
        ListOptions::read(&Query::parse(Some(query))?, Kind::Pod)
    }

    #[test]
    fn options_are_read_as_clients_write_them() {
        let options = read("&limit=2&labelSelector=app%3Dweb%2Ctier+in+(a,b)&watch=1&timeoutSeconds=5&allowWatchBookmarks=true").expect("fine");
        assert_eq!(
            (options.limit, options.watch, options.timeout_seconds, options.bookmarks),
            (Some(2), true, Some(5), true)
        );
        assert_eq!(options.labels.to_string(), "app in (web),tier in (a,b)");
        assert!(!read("watch=false").expect("fine").watch);
        assert_eq!(read("resourceVersion=&limit=0").expect("fine").revision, None);
    }

    #[test]
    fn what_cannot_be_or_contradicts_itself_is_refused() {
        let code = |query: &str| read(query).expect_err(query).code.as_u16();
        for query in [
            "limit=x",
            "labelSelector=a%20b",
            "resourceVersion=abc",
            "fieldSelector=spec.bogus=1",
            "x=%ff",
            "continue=abc&resourceVersion=5",
        ] {
            assert_eq!(code(query), 400, "{query}");
        }
        for query in [
            "resourceVersionMatch=Exact",
            "resourceVersionMatch=Exact&resourceVersion=0",
            "resourceVersionMatch=Newest&resourceVersion=1",
            "resourceVersionMatch=Exact&resourceVersion=5&continue=abc",
            "sendInitialEvents=true",
            "watch=1&sendInitialEvents=true",
            "watch=1&resourceVersion=1&resourceVersionMatch=NotOlderThan",
        ] {
            assert_eq!(code(query), 422, "{query}");
        }
        assert!(read("watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan").is_ok());
    }

    #[test]
    fn a_dry_run_is_all_or_nothing() {
        let options = |query| {
            Query::parse(Some(query)).expect("fine").write_options(Some("kubectl/v1.32 (linux)"))
        };
        assert!(options("dryRun=All").expect("fine").dry_run);
        assert!(!options("").expect("fine").dry_run);
        assert_eq!(options("").expect("fine").manager, "kubectl");
        assert_eq!(options("fieldManager=me").expect("fine").manager, "me");
        assert!(options("dryRun=Some").is_err());
        assert!(options("fieldValidation=Lax").is_err());
        assert!(options("fieldManager=a%0Ab").is_err());
    }

    #[test]
    fn what_is_encoded_decodes_to_itself() {
        for text in ["a b", "a=b,c!=d", "é/%", ""] {
            assert_eq!(percent_decode(&percent_encode(text)).as_deref(), Some(text));
        }
    }
}
