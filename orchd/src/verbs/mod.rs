//! The client verbs: each asks a server through its API and prints the answer. No orchestration happens here.

pub mod apply;
pub mod columns;
pub mod delete;
pub mod describe;
mod duration;
pub mod events;
pub mod explain;
mod follow;
pub mod get;
mod json_path;
pub mod logs;
mod manifests;
pub mod node;
pub mod scale;
pub mod session;
mod target;
pub mod token;
pub mod wait;

use orchestrator_core::model::LabelSelector;
use serde_json::Value;

/// Checks a label selector given on the command line; an empty one selects everything.
fn label_selector(text: &str) -> Result<String, String> {
    text.parse::<LabelSelector>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// How objects are printed for programs.
fn json(value: &Value) -> String {
    // The alternate form of a JSON value is the indented one.
    format!("{value:#}\n")
}

/// The text at a JSON pointer; empty if there is none.
fn text_at<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The label selector of an object that has pods, as text; empty if it has none.
fn selector_of(object: &Value) -> String {
    let selector = object.pointer("/spec/selector").cloned().unwrap_or_default();
    serde_json::from_value::<LabelSelector>(selector)
        .map(|selector| selector.to_string())
        .unwrap_or_default()
}
