//! What our own model says about its fields: those that have a comment here are those that we implement.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use syn::{Attribute, Item};

use crate::sources::{doc_lines, rust_files};

/// Types that are called otherwise in Kubernetes: (there, here).
const CALLED_OTHERWISE: [(&str, &str); 14] = [
    ("ContainerStateRunning", "StateRunning"),
    ("ContainerStateTerminated", "StateTerminated"),
    ("ContainerStateWaiting", "StateWaiting"),
    ("DeploymentCondition", "Condition"),
    ("HTTPGetAction", "HttpGetAction"),
    ("HTTPHeader", "HttpHeader"),
    ("LabelSelectorRequirement", "LabelRequirement"),
    ("NamespaceCondition", "Condition"),
    ("PodCondition", "Condition"),
    ("PodIP", "PodIp"),
    ("PodTemplateSpec", "PodTemplate"),
    ("ReplicaSetCondition", "Condition"),
    ("RollingUpdateDeployment", "RollingUpdate"),
    ("TCPSocketAction", "TcpSocketAction"),
];

/// Comments of one type.
#[derive(Default)]
pub struct TypeDocs {
    pub text: String,
    /// By the name in JSON.
    pub fields: BTreeMap<String, String>,
}

/// Comments of types, by their name in Rust.
pub struct Docs(BTreeMap<String, TypeDocs>);

impl Docs {
    /// The comments of the type that models a message, given by its name without the package.
    pub fn of(&self, message: &str) -> Option<&TypeDocs> {
        let mut otherwise = CALLED_OTHERWISE.iter();
        let name = otherwise.find(|(there, _)| *there == message).map_or(message, |(_, here)| here);
        self.0.get(name)
    }
}

/// Reads every type of the model.
pub fn read(directory: &Path) -> Result<Docs> {
    let mut docs = BTreeMap::new();
    for path in rust_files(directory)? {
        for item in syn::parse_file(&std::fs::read_to_string(&path)?)?.items {
            let Item::Struct(item) = item else { continue };
            let mut found = TypeDocs { text: paragraph(&item.attrs), fields: BTreeMap::new() };
            for field in &item.fields {
                let Some(ident) = &field.ident else { continue };
                let name = renamed(&field.attrs).unwrap_or_else(|| camel(&ident.to_string()));
                found.fields.insert(name, paragraph(&field.attrs));
            }
            docs.insert(item.ident.to_string(), found);
        }
    }
    Ok(Docs(docs))
}

/// The first paragraph of a comment, on one line, with links shown as what they say.
fn paragraph(attributes: &[Attribute]) -> String {
    let lines = doc_lines(attributes);
    let first: Vec<&str> =
        lines.iter().map(String::as_str).take_while(|line| !line.is_empty()).collect();
    first.join(" ").replace("[`", "`").replace("`]", "`")
}

/// The name that `#[serde(rename = "…")]` gives.
fn renamed(attributes: &[Attribute]) -> Option<String> {
    let serde = attributes.iter().filter(|attribute| attribute.path().is_ident("serde"));
    serde
        .filter_map(|attribute| match &attribute.meta {
            syn::Meta::List(list) => Some(list.tokens.to_string()),
            _ => None,
        })
        .find_map(|tokens| {
            let (_, rest) = tokens.split_once("rename = \"")?;
            rest.split_once('"').map(|(name, _)| name.to_owned())
        })
}

/// `pod_ip` as serde's `camelCase` spells it: `podIp`.
pub fn camel(snake: &str) -> String {
    let mut name = String::new();
    for (index, part) in snake.trim_start_matches("r#").split('_').enumerate() {
        let mut letters = part.chars();
        match letters.next() {
            Some(first) if index > 0 => name.extend(first.to_uppercase().chain(letters)),
            Some(first) => name.extend(std::iter::once(first).chain(letters)),
            None => {}
        }
    }
    name
}
