//! What `k8s-pb` says: the number and type of every field, and the markers in its comments that say how it merges.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use syn::{Attribute, Field, GenericArgument, Item, ItemStruct, PathArguments, Type};

use crate::sources::{doc_lines, folded, package, rust_files};

/// Messages by their full name, such as `core/v1.Pod`.
pub type Messages = BTreeMap<String, Message>;

/// A message.
pub struct Message {
    pub markers: Vec<String>,
    pub fields: Vec<ProtoField>,
}

/// A field of a message.
pub struct ProtoField {
    pub number: u32,
    /// Its name, [`folded`].
    pub name: String,
    /// Its name in Rust's way: `pod_ip`.
    pub snake: String,
    pub shape: Shape,
    /// A scalar (`string`, `int32`, …), or the full name of a message.
    pub of: String,
    /// The markers in its comment, such as `listType=map`.
    pub markers: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    One,
    List,
    Map,
}

/// Reads every message.
pub fn read(directory: &Path) -> Result<Messages> {
    let mut messages = Messages::new();
    for path in rust_files(directory)? {
        let below = path.strip_prefix(directory)?;
        let Some(package) = package(below) else { continue };
        let text = std::fs::read_to_string(&path)?;
        let file = syn::parse_file(&text).with_context(|| format!("{}", path.display()))?;
        let module: Vec<String> = below
            .parent()
            .into_iter()
            .flatten()
            .filter_map(|part| part.to_str())
            .map(str::to_owned)
            .collect();
        for item in file.items {
            let Item::Struct(item) = item else { continue };
            let name = format!("{package}.{}", item.ident);
            let message = message(&item, &module).with_context(|| name.clone())?;
            messages.insert(name, message);
        }
    }
    Ok(messages)
}

fn message(item: &ItemStruct, module: &[String]) -> Result<Message> {
    let fields = item.fields.iter().map(|field| proto_field(field, module));
    let fields = fields.collect::<Result<_>>()?;
    Ok(Message { markers: markers(&item.attrs), fields })
}

fn markers(attributes: &[Attribute]) -> Vec<String> {
    let lines = doc_lines(attributes);
    lines.iter().filter_map(|line| line.strip_prefix('+').map(str::to_owned)).collect()
}

fn proto_field(field: &Field, module: &[String]) -> Result<ProtoField> {
    let snake = field.ident.as_ref().context("a field without a name")?.to_string();
    let attribute = field.attrs.iter().find(|attribute| attribute.path().is_ident("prost"));
    let attribute = attribute.with_context(|| format!("{snake} has no number"))?;
    let syn::Meta::List(list) = &attribute.meta else {
        bail!("{snake}: an attribute of another form")
    };
    let tokens = list.tokens.to_string();
    let words: Vec<&str> =
        tokens.split(", ").flat_map(|part| part.split(',')).map(str::trim).collect();
    let quoted = |start: &str| {
        let word = words.iter().position(|word| word.starts_with(start))?;
        tokens.split(words[word]).nth(1).map(|_| words[word..].join(", "))
    };
    let number = quoted("tag").and_then(|text| text.split('"').nth(1).map(str::to_owned));
    let number =
        number.and_then(|text| text.parse().ok()).with_context(|| format!("{snake}: {tokens}"))?;
    let first = *words.first().context("an empty attribute")?;
    let (shape, scalar) = if first.starts_with("btree_map") {
        let of = words.get(1).map(|word| word.trim_matches('"')).context("a map of nothing")?;
        (Shape::Map, of)
    } else {
        let shape = if words.contains(&"repeated") { Shape::List } else { Shape::One };
        (shape, first.split([' ', '=']).next().unwrap_or_default())
    };
    let of = match scalar {
        "message" => {
            innermost(&field.ty, module).with_context(|| format!("the type of {snake}"))?
        }
        scalar => scalar.to_owned(),
    };
    let name = folded(&snake);
    let snake = snake.trim_start_matches("r#").to_owned();
    Ok(ProtoField { number, name, snake, shape, of, markers: markers(&field.attrs) })
}

/// The full name of the message that a field's type has at its heart.
fn innermost(ty: &Type, module: &[String]) -> Option<String> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last()?;
    if let PathArguments::AngleBracketed(arguments) = &last.arguments {
        return match arguments.args.last()? {
            GenericArgument::Type(inner) => innermost(inner, module),
            _ => None,
        };
    }
    let mut at = module.to_vec();
    for segment in &path.path.segments {
        match segment.ident.to_string().as_str() {
            "super" => drop(at.pop()),
            name => at.push(name.to_owned()),
        }
    }
    let name = at.pop()?;
    let below: std::path::PathBuf = at.iter().collect();
    Some(format!("{}.{name}", package(&below.join("mod.rs"))?))
}
