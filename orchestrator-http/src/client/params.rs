//! What requests of a client are given besides the object: selectors and options.

use serde_json::{Value, json};

/// Which objects are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// A label selector, such as `app=web`; empty selects everything.
    pub labels: String,
    /// A field selector, such as `status.phase=Running`; empty selects everything.
    pub fields: String,
}

/// How a write is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteParams {
    /// Whether to go through every step but write nothing.
    pub dry_run: bool,
    /// Whether an unknown or duplicate field is an error; else it comes back as a warning.
    pub strict: bool,
}

impl Default for WriteParams {
    fn default() -> Self {
        Self { dry_run: false, strict: true }
    }
}

/// How an object is to be deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteParams {
    /// `Background` (the default), `Foreground` or `Orphan`.
    pub propagation: Option<String>,
    /// Seconds of grace for a pod; its own by default.
    pub grace_seconds: Option<i64>,
    /// Whether to go through every step but write nothing.
    pub dry_run: bool,
}

/// Which part of a log is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogParams {
    /// The container; needed when the pod has several.
    pub container: Option<String>,
    /// Whether to wait for more until the container ends.
    pub follow: bool,
    /// Whether the run before the newest is meant.
    pub previous: bool,
    /// Only this many lines from the end.
    pub tail_lines: Option<usize>,
    /// Only lines of the last so many seconds.
    pub since_seconds: Option<u64>,
    /// Whether each line begins with its time.
    pub timestamps: bool,
}

impl Selector {
    /// Selects by labels.
    pub fn labels(labels: impl Into<String>) -> Self {
        Self { labels: labels.into(), ..Self::default() }
    }

    /// Selects the object of a name.
    pub fn name(name: &str) -> Self {
        Self { fields: format!("metadata.name={name}"), ..Self::default() }
    }

    pub(super) fn query(&self) -> Vec<(&'static str, String)> {
        [("labelSelector", &self.labels), ("fieldSelector", &self.fields)]
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name, value.clone()))
            .collect()
    }
}

impl WriteParams {
    pub(super) fn query(self) -> Vec<(&'static str, String)> {
        let validation = if self.strict { "Strict" } else { "Warn" };
        let mut query =
            vec![("fieldManager", "orchd".to_owned()), ("fieldValidation", validation.to_owned())];
        if self.dry_run {
            query.push(("dryRun", "All".to_owned()));
        }
        query
    }
}

impl DeleteParams {
    pub(super) fn body(&self) -> Value {
        let mut body = json!({ "kind": "DeleteOptions", "apiVersion": "v1" });
        if let Some(propagation) = &self.propagation {
            body["propagationPolicy"] = propagation.as_str().into();
        }
        if let Some(seconds) = self.grace_seconds {
            body["gracePeriodSeconds"] = seconds.into();
        }
        if self.dry_run {
            body["dryRun"] = json!(["All"]);
        }
        body
    }
}

impl LogParams {
    pub(super) fn query(&self) -> Vec<(&'static str, String)> {
        let flag = |wanted: bool| wanted.then(|| "true".to_owned());
        [
            ("container", self.container.clone()),
            ("follow", flag(self.follow)),
            ("previous", flag(self.previous)),
            ("tailLines", self.tail_lines.map(|lines| lines.to_string())),
            ("sinceSeconds", self.since_seconds.map(|seconds| seconds.to_string())),
            ("timestamps", flag(self.timestamps)),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }
}
