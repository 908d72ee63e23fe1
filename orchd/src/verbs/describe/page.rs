//! `Page`: fields under each other, titles, tables and blocks of text.

use std::fmt;

use orchestrator_core::model::StringMap;

use crate::out::clean;
use crate::verbs::columns::Columns;

/// How far the values of fields are to the right.
const VALUE_AT: usize = 18;
/// By how much what is nested is indented.
const INDENT: usize = 2;

/// A description that is being written.
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    /// The description.
    pub fn into_text(self) -> String {
        self.0
    }

    /// Writes `Name:   value`.
    pub fn field(&mut self, name: &str, value: impl fmt::Display) {
        self.nested(0, name, value);
    }

    /// Writes a field that belongs to something above it.
    pub fn nested(&mut self, depth: usize, name: &str, value: impl fmt::Display) {
        let indent = depth * INDENT;
        let name = format!("{}:", clean(name));
        let value = clean(&value.to_string());
        let value = if value.is_empty() { "-" } else { &value };
        let width = VALUE_AT.saturating_sub(indent);
        self.0.push_str(&format!("{:indent$}{name:<width$} {value}\n", ""));
    }

    /// Writes a field whose value is pairs, one a line; nothing if there are none.
    pub fn pairs(&mut self, name: &str, pairs: &StringMap) {
        let lines = pairs.iter().map(|(name, value)| format!("{name}={value}"));
        self.lines(0, name, lines);
    }

    /// Writes a field whose value is several lines; nothing if there are none.
    pub fn lines(&mut self, depth: usize, name: &str, lines: impl IntoIterator<Item = String>) {
        for (index, line) in lines.into_iter().enumerate() {
            match index {
                0 => self.nested(depth, name, line),
                _ => self.0.push_str(&format!("{:VALUE_AT$} {}\n", "", clean(&line))),
            }
        }
    }

    /// Writes the title of what follows.
    pub fn title(&mut self, title: &str) {
        self.0.push_str(&format!("{title}:\n"));
    }

    /// Writes the name of one of several things.
    pub fn item(&mut self, depth: usize, name: &str) {
        self.0.push_str(&format!("{:1$}{2}:\n", "", depth * INDENT, clean(name)));
    }

    /// Writes lines as they are, indented.
    pub fn block(&mut self, text: &str) {
        for line in text.lines() {
            self.0.push_str(&format!("{:INDENT$}{}\n", "", clean(line)));
        }
    }

    /// Writes a table with its title; nothing if it has no rows.
    pub fn table(
        &mut self,
        title: &str,
        header: &[&str],
        rows: impl IntoIterator<Item = Vec<String>>,
    ) {
        let rows: Vec<_> = rows.into_iter().collect();
        if !rows.is_empty() {
            self.title(title);
            self.block(&Columns::layout(header, &rows));
        }
    }
}
