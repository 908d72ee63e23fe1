//! A scale as a table of one row.

use orchestrator_core::model::Time;
use serde_json::{Value, json};

use super::{AGE, Column, NAME, age, described, number, table};

const COLUMNS: &[Column] = &[NAME, number("Desired"), number("Available"), AGE];

/// Returns the table of a scale.
pub(crate) fn scale(scale: &Value, now: Time) -> Value {
    let created = scale["metadata"]["creationTimestamp"].as_str().and_then(|at| at.parse().ok());
    let wanted = scale["spec"]["replicas"].as_i64().unwrap_or_default();
    let there = scale["status"]["replicas"].as_i64().unwrap_or_default();
    let cells = json!([scale["metadata"]["name"], wanted, there, age(created, now)]);
    let metadata = json!({ "resourceVersion": scale["metadata"]["resourceVersion"] });
    table(&metadata, &described(COLUMNS), vec![json!({ "cells": cells, "object": scale })])
}
