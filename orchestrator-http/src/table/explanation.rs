//! Where a pod could run, as a table: a row for each node, the best first.

use std::cmp::Reverse;

use orchestrator_core::scheduler::{Explanation, NodeVerdict};
use serde_json::{Value, json};

use super::{Column, described, number, table, text};

const COLUMNS: &[Column] =
    &[("Node", "string", "name", false), text("Fits"), number("Total"), text("Why Not")];

/// Returns the table.
pub(crate) fn explanation(explanation: &Explanation) -> Value {
    let mut verdicts: Vec<_> = explanation.nodes.iter().collect();
    verdicts.sort_by_key(|verdict| (!verdict.fits, Reverse(verdict.total), &verdict.node));
    let chosen = explanation.chosen.as_deref();
    let rows = verdicts.into_iter().map(|verdict| row(verdict, chosen)).collect();
    table(&json!({}), &described(COLUMNS), rows)
}

fn row(verdict: &NodeVerdict, chosen: Option<&str>) -> Value {
    let fits = match verdict.fits {
        true if chosen == Some(verdict.node.as_str()) => "chosen",
        true => "yes",
        false => "no",
    };
    let reasons: Vec<_> = verdict.failures.iter().map(|failure| failure.message.as_str()).collect();
    json!({ "cells": [verdict.node, fits, verdict.total, reasons.join("; ")] })
}
