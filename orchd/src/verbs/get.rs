//! `orchd get`: objects as tables for people, or as JSON, YAML or names for programs.

use std::collections::BTreeSet;

use orchestrator_core::manifest;
use orchestrator_core::model::Kind;
use orchestrator_http::{Selector, WatchEvent};
use serde_json::{Value, json};

use super::columns::Columns;
use super::follow::Follower;
use super::session::{ClientArgs, Session};
use super::target::{self, Target};
use super::text_at;
use crate::out::{Stop, line, remark, text, usage, while_read};

pub const EXAMPLES: &str = "\
Examples:
  orchd get pods                        in the current namespace
  orchd get pods -o wide -l app=web     with addresses and nodes
  orchd get deploy,rs,po -A             several kinds, everywhere
  orchd get deployment/web -o yaml      one object, all of it
  orchd get pods -w                     and then what becomes of them
  orchd get all";

/// In which form objects are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// JSON; with -w one object a line
    Json,
    /// KIND/NAME, a line each
    Name,
    /// The usual columns
    Table,
    /// More columns
    Wide,
    /// YAML; with -w one document per object
    Yaml,
}

/// Options of `orchd get`.
#[derive(Debug, clap::Args)]
pub struct GetArgs {
    /// What: KIND, KIND,KIND, KIND NAME… or KIND/NAME…
    #[arg(required = true, value_name = "WHAT")]
    what: Vec<String>,
    /// The form of the output: table, wide, json, yaml or name
    #[arg(short, long, value_enum, hide_possible_values = true, value_name = "FORM", default_value_t = Output::Table)]
    output: Output,
    /// Go on with what becomes of the objects
    #[arg(short, long)]
    watch: bool,
    /// Only objects with these labels, such as app=web,tier!=test
    #[arg(
        short = 'l',
        long,
        value_name = "SELECTOR",
        value_parser = super::label_selector,
        default_value = "",
        hide_default_value = true
    )]
    selector: String,
    /// Only objects with these fields, such as status.phase=Running
    #[arg(long, value_name = "SELECTOR", default_value = "", hide_default_value = true)]
    field_selector: String,
    /// In every namespace
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Print tables without their header
    #[arg(long)]
    no_headers: bool,
    #[command(flatten)]
    client: ClientArgs,
}

impl GetArgs {
    /// Asks for every object of a kind.
    pub fn all_of(kind: &str, output: Output, client: ClientArgs) -> Self {
        Self {
            what: vec![kind.to_owned()],
            output,
            watch: false,
            selector: String::new(),
            field_selector: String::new(),
            all_namespaces: false,
            no_headers: false,
            client,
        }
    }
}

/// Prints objects.
pub async fn get(args: GetArgs) -> anyhow::Result<()> {
    let targets = target::parse(&args.what)?;
    let selects = !args.selector.is_empty() || !args.field_selector.is_empty();
    if let Some(Target::One(_, name)) = targets.iter().find(|target| is_one(target)) {
        if selects {
            return Err(usage(format!("a selector does not go with a name ({name})")));
        }
        if args.all_namespaces {
            return Err(usage(format!("-A does not go with a name ({name}); use -n")));
        }
    }
    let session = Session::open(&args.client)?;
    let get = Get { args, session };
    match (targets.as_slice(), get.args.watch) {
        ([target], true) => while_read(get.watch(target)).await,
        (_, true) => Err(usage("-w follows one kind or one object")),
        (targets, false) if get.as_table() => get.tables(targets).await,
        (targets, false) => get.objects(targets).await,
    }
}

const fn is_one(target: &Target) -> bool {
    matches!(target, Target::One(..))
}

struct Get {
    args: GetArgs,
    session: Session,
}

impl Get {
    const fn as_table(&self) -> bool {
        matches!(self.args.output, Output::Table | Output::Wide)
    }

    fn selector(&self, target: &Target) -> Selector {
        match target {
            Target::One(_, name) => Selector::name(name),
            Target::Every(_) => Selector {
                labels: self.args.selector.clone(),
                fields: self.args.field_selector.clone(),
            },
        }
    }

    fn scope(&self, kind: Kind) -> Option<&str> {
        self.session.scope(kind, self.args.all_namespaces)
    }

    /// Prints a table per kind.
    async fn tables(&self, targets: &[Target]) -> anyhow::Result<()> {
        let kinds: BTreeSet<_> = targets.iter().map(Target::kind).collect();
        let mut failed = false;
        let mut is_first = true;
        for same in targets.chunk_by(|one, next| one.kind() == next.kind()) {
            let kind = same[0].kind();
            let mut layout = Layout::new(kind, self, kinds.len() > 1);
            let mut rows = Vec::new();
            for target in same {
                let selector = self.selector(target);
                let table = self.session.client.table(kind, self.scope(kind), &selector).await?;
                let found = layout.read(&table);
                if let (Target::One(_, name), true) = (target, found.is_empty()) {
                    failed |= self.object(kind, name).await.is_none();
                }
                rows.extend(found);
            }
            if rows.is_empty() {
                if !failed && targets.len() == 1 {
                    self.remark_on_nothing(kind.plural(), kind.is_namespaced());
                }
                continue;
            }
            if !std::mem::take(&mut is_first) {
                line("")?;
            }
            rows.iter().for_each(|row| layout.columns.fit(row));
            let mut page = layout.header_line(self.args.no_headers);
            rows.iter().for_each(|row| page.push_str(&layout.columns.line(row)));
            text(page)?;
        }
        if is_first && !failed && targets.len() > 1 {
            self.remark_on_nothing("objects", true);
        }
        if failed { Err(Stop::Told.into()) } else { Ok(()) }
    }

    /// Prints objects for programs.
    async fn objects(&self, targets: &[Target]) -> anyhow::Result<()> {
        let mut items = Vec::new();
        let mut failed = false;
        for target in targets {
            let kind = target.kind();
            match target {
                Target::One(_, name) => match self.object(kind, name).await {
                    Some(object) => items.push(object),
                    None => failed = true,
                },
                Target::Every(_) => {
                    let selector = self.selector(target);
                    let list = self.session.client.list(kind, self.scope(kind), &selector).await?;
                    items.extend(list["items"].as_array().cloned().unwrap_or_default());
                }
            }
        }
        let whole = match (targets, items.pop()) {
            ([Target::One(..)], Some(object)) => object,
            ([Target::One(..)], None) => return Err(Stop::Told.into()),
            (_, last) => {
                items.extend(last);
                json!({ "apiVersion": "v1", "kind": "List", "metadata": {}, "items": items })
            }
        };
        match self.args.output {
            Output::Name => {
                let items = whole["items"].as_array().cloned();
                for item in items.unwrap_or_else(|| vec![whole]) {
                    line(name_of(&item))?;
                }
            }
            Output::Json | Output::Table | Output::Wide => text(super::json(&whole))?,
            Output::Yaml => text(manifest::to_yaml(&whole))?,
        }
        if failed { Err(Stop::Told.into()) } else { Ok(()) }
    }

    /// Prints what there is, then every change, until interrupted.
    async fn watch(&self, target: &Target) -> anyhow::Result<()> {
        let kind = target.kind();
        let selector = self.selector(target);
        let client = &self.session.client;
        if let Target::One(_, name) = target {
            // A name that is not there is an error, as without -w.
            self.object(kind, name).await.ok_or(Stop::Told)?;
        }
        let scope = self.scope(kind);
        if !self.as_table() {
            let mut follower = Follower::new(client, kind, scope, &selector, "");
            loop {
                let (WatchEvent::Added(object)
                | WatchEvent::Bookmark(object)
                | WatchEvent::Deleted(object)
                | WatchEvent::Modified(object)) = follower.next().await?;
                match self.args.output {
                    Output::Name => line(name_of(&object))?,
                    Output::Yaml => text(format!("---\n{}", manifest::to_yaml(&object)))?,
                    Output::Json | Output::Table | Output::Wide => line(object)?,
                }
            }
        }
        let table = client.table(kind, scope, &selector).await?;
        let mut layout = Layout::new(kind, self, false);
        let rows = layout.read(&table);
        rows.iter().for_each(|row| layout.columns.fit(row));
        let mut is_header_due = true;
        for row in &rows {
            layout.print(row, std::mem::take(&mut is_header_due) && !self.args.no_headers)?;
        }
        let revision = text_at(&table, "/metadata/resourceVersion");
        let mut follower = Follower::new(client, kind, scope, &selector, revision).with_tables();
        loop {
            let (table, is_gone) = match follower.next().await? {
                WatchEvent::Deleted(table) => (table, true),
                WatchEvent::Added(table)
                | WatchEvent::Bookmark(table)
                | WatchEvent::Modified(table) => (table, false),
            };
            for mut row in layout.read(&table) {
                layout.columns.fit(&row);
                if is_gone {
                    row.push("(deleted)".to_owned());
                }
                layout.print(&row, std::mem::take(&mut is_header_due) && !self.args.no_headers)?;
            }
        }
    }

    /// Reads one object; says so if it cannot be read.
    async fn object(&self, kind: Kind, name: &str) -> Option<Value> {
        let key = self.session.key(kind, name);
        match self.session.client.get(&key).await {
            Ok(object) => Some(object),
            Err(error) => {
                remark(format_args!("error: {}", self.session.explain(&key, error)));
                None
            }
        }
    }

    fn remark_on_nothing(&self, what: &str, is_namespaced: bool) {
        let selectors = [self.args.selector.as_str(), self.args.field_selector.as_str()];
        let selectors: Vec<_> = selectors.into_iter().filter(|text| !text.is_empty()).collect();
        let such = match selectors.is_empty() {
            true => String::new(),
            false => format!(" with {}", selectors.join(" and ")),
        };
        match self.args.all_namespaces || !is_namespaced {
            true => remark(format_args!("no {what}{such}")),
            false => remark(format_args!(
                "no {what}{such} in namespace {:?}; -A shows all namespaces",
                self.session.namespace
            )),
        }
    }
}

/// The name of an object with its kind.
fn name_of(object: &Value) -> String {
    let name = text_at(object, "/metadata/name");
    match Kind::from_name(text_at(object, "/kind")) {
        Some(kind) => format!("{}/{name}", target::resource(kind)),
        None => name.to_owned(),
    }
}

/// How the server's tables of one kind are printed.
struct Layout {
    kind: Kind,
    is_wide: bool,
    /// Whether each name is printed with its kind.
    with_kind: bool,
    with_namespace: bool,
    header: Vec<String>,
    /// Which of the server's columns are printed.
    shown: Vec<bool>,
    /// Which of the server's columns is the name.
    name: Option<usize>,
    columns: Columns,
}

impl Layout {
    fn new(kind: Kind, get: &Get, with_kind: bool) -> Self {
        Self {
            kind,
            is_wide: get.args.output == Output::Wide,
            with_kind,
            with_namespace: get.args.all_namespaces && kind.is_namespaced(),
            header: Vec::new(),
            shown: Vec::new(),
            name: None,
            columns: Columns::default(),
        }
    }

    /// Takes the rows out of a Table; the first one tells the columns.
    fn read(&mut self, table: &Value) -> Vec<Vec<String>> {
        let definitions = table["columnDefinitions"].as_array();
        if let (Some(definitions), true) = (definitions, self.shown.is_empty()) {
            let is_shown =
                |column: &Value| self.is_wide || column["priority"].as_i64().unwrap_or(0) == 0;
            self.shown = definitions.iter().map(is_shown).collect();
            self.name = definitions.iter().position(|column| column["format"] == "name");
            let names = definitions.iter().zip(&self.shown).filter(|(_, shown)| **shown);
            let names = names.map(|(column, _)| text_at(column, "/name").to_uppercase());
            let namespace = self.with_namespace.then(|| "NAMESPACE".to_owned());
            self.header = namespace.into_iter().chain(names).collect();
            self.columns.fit(&self.header);
        }
        let rows = table["rows"].as_array().into_iter().flatten();
        rows.map(|row| self.row(row)).collect()
    }

    fn row(&self, row: &Value) -> Vec<String> {
        let namespace = text_at(row, "/object/metadata/namespace").to_owned();
        let mut cells: Vec<_> = self.with_namespace.then_some(namespace).into_iter().collect();
        for (index, cell) in row["cells"].as_array().into_iter().flatten().enumerate() {
            if !self.shown.get(index).copied().unwrap_or(false) {
                continue;
            }
            let cell = cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
            cells.push(match self.with_kind && self.name == Some(index) {
                true => format!("{}/{cell}", target::resource(self.kind)),
                false => cell,
            });
        }
        cells
    }

    fn header_line(&self, omitted: bool) -> String {
        if omitted { String::new() } else { self.columns.line(&self.header) }
    }

    fn print(&self, row: &[String], with_header: bool) -> anyhow::Result<()> {
        let header = self.header_line(!with_header);
        text(header + &self.columns.line(row))
    }
}
