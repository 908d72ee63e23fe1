//! `orchd explain`: why a pod is where it is, or why it is nowhere.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Context as _;
use orchestrator_core::manifest;
use orchestrator_core::model::Kind;
use orchestrator_core::scheduler::Explanation;

use super::columns::Columns;
use super::session::{ClientArgs, Session};
use super::target;
use crate::out::{text, usage};

pub const EXAMPLES: &str = "\
Examples:
  orchd explain pod web-5d8f
  orchd explain pod/web-5d8f -o json

Asks the scheduler about every node as things are now, as if the pod were not placed yet.";

/// In which form an explanation is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// Everything, as JSON
    Json,
    /// A table of the nodes
    Table,
    /// Everything, as YAML
    Yaml,
}

/// Options of `orchd explain`.
#[derive(Debug, clap::Args)]
pub struct ExplainArgs {
    /// What: pod NAME or pod/NAME
    #[arg(required = true, value_name = "WHAT")]
    what: Vec<String>,
    /// The form of the output: table, json or yaml
    #[arg(short, long, value_enum, hide_possible_values = true, value_name = "FORM", default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    client: ClientArgs,
}

/// Explains where a pod could run.
pub async fn explain(args: ExplainArgs) -> anyhow::Result<()> {
    let session = Session::open(&args.client)?;
    let key = target::single(&args.what, &session)?;
    if key.kind != Kind::Pod {
        return Err(usage(format!(
            "only a pod has a place to explain, not a {}; `orchd get pods` lists them",
            key.kind
        )));
    }
    let value = session.client.explain(&key).await;
    let value = value.map_err(|error| session.explain(&key, error))?;
    match args.output {
        Output::Json => text(super::json(&value)),
        Output::Yaml => text(manifest::to_yaml(&value)),
        Output::Table => {
            let explanation =
                serde_json::from_value(value).context("cannot read the explanation")?;
            text(page(&explanation))
        }
    }
}

fn page(explanation: &Explanation) -> String {
    let mut page = String::new();
    let requests: Vec<_> =
        explanation.requests.iter().map(|(name, quantity)| format!("{name}={quantity}")).collect();
    let requests = if requests.is_empty() { "nothing".to_owned() } else { requests.join(", ") };
    let _ = writeln!(
        page,
        "pod {}/{} requests {requests}; scheduler {}",
        explanation.namespace, explanation.pod, explanation.scheduler
    );
    let _ = match (&explanation.node, &explanation.chosen) {
        (Some(node), Some(chosen)) if node == chosen => {
            writeln!(page, "It is on {node}, which is what the scheduler would choose now.")
        }
        (Some(node), Some(chosen)) => {
            writeln!(page, "It is on {node}; now the scheduler would choose {chosen}.")
        }
        (Some(node), None) => {
            writeln!(page, "It is on {node}; now it would fit nowhere: {}", explanation.message)
        }
        (None, Some(chosen)) => writeln!(page, "It is on no node yet; {chosen} would be chosen."),
        (None, None) => writeln!(page, "It fits nowhere: {}", explanation.message),
    };
    page.push('\n');
    page + &nodes(explanation)
}

/// A line per node, the best first, and one for each further reason against it.
fn nodes(explanation: &Explanation) -> String {
    let mut weights = BTreeMap::new();
    for line in explanation.nodes.iter().flat_map(|verdict| &verdict.scores) {
        weights.insert(line.name.as_str(), line.weight);
    }
    let mut header = vec!["Node".to_owned(), "Fits".to_owned(), "Total".to_owned()];
    header.extend(weights.iter().map(|(name, weight)| format!("{name}×{weight}")));
    header.push("Why not".to_owned());

    let mut verdicts: Vec<_> = explanation.nodes.iter().collect();
    verdicts
        .sort_by_key(|verdict| (!verdict.fits, std::cmp::Reverse(verdict.total), &verdict.node));
    let mut rows = Vec::new();
    for verdict in verdicts {
        let is_chosen = explanation.chosen.as_ref() == Some(&verdict.node);
        let fits = match (is_chosen, verdict.fits) {
            (true, _) => "chosen",
            (false, true) => "yes",
            (false, false) => "no",
        };
        let total = verdict.total.map(|total| total.to_string()).unwrap_or_default();
        let mut row = vec![verdict.node.clone(), fits.to_owned(), total];
        for name in weights.keys() {
            let line = verdict.scores.iter().find(|line| line.name == *name);
            row.push(line.map(|line| line.score.to_string()).unwrap_or_default());
        }
        let mut reasons = verdict.failures.iter().map(|failure| {
            let filter = serde_json::to_value(failure.filter).unwrap_or_default();
            format!("{}: {}", filter.as_str().unwrap_or_default(), failure.message)
        });
        row.push(reasons.next().unwrap_or_default());
        let width = row.len();
        rows.push(row);
        for reason in reasons {
            let mut row = vec![String::new(); width];
            row[width - 1] = reason;
            rows.push(row);
        }
    }
    if rows.is_empty() {
        return "There are no nodes.\n".to_owned();
    }
    // Score names keep their case: they are names, not words.
    let mut columns = Columns::default();
    let header: Vec<_> = header
        .into_iter()
        .map(|name| if name.contains('×') { name } else { name.to_uppercase() })
        .collect();
    columns.fit(&header);
    rows.iter().for_each(|row| columns.fit(row));
    std::iter::once(&header).chain(&rows).map(|row| columns.line(row)).collect()
}
