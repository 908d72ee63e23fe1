//! What `k8s-openapi` says: how fields are spelt in JSON, and which are required.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use syn::{Item, Type};

use crate::sources::{folded, package, rust_files};

/// Spellings and required fields.
#[derive(Default)]
pub struct Names {
    /// By the full name of the type in lower case.
    types: BTreeMap<String, TypeNames>,
    /// Spellings anywhere, for fields of messages that JSON has only inside others.
    anywhere: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Default)]
struct TypeNames {
    /// The full name of the type.
    name: String,
    /// Spelling by folded name.
    spelling: BTreeMap<String, String>,
    /// Folded names.
    required: BTreeSet<String>,
}

impl Names {
    /// How a type is called, given its name in any spelling.
    pub fn type_name(&self, message: &str) -> Option<&str> {
        self.types.get(&message.to_lowercase()).map(|names| names.name.as_str())
    }

    /// How a type's own field is spelt.
    pub fn own(&self, message: &str, folded: &str) -> Option<&str> {
        self.types.get(&message.to_lowercase())?.spelling.get(folded).map(String::as_str)
    }

    /// How a field of this name is spelt everywhere, if there is one way.
    pub fn anywhere(&self, folded: &str) -> Option<&str> {
        let spellings = self.anywhere.get(folded)?;
        spellings.first().filter(|_| spellings.len() == 1).map(String::as_str)
    }

    pub fn is_required(&self, message: &str, folded: &str) -> bool {
        let names = self.types.get(&message.to_lowercase());
        names.is_some_and(|names| names.required.contains(folded))
    }
}

/// Reads every type.
pub fn read(directory: &Path) -> Result<Names> {
    let mut names = Names::default();
    for path in rust_files(directory)? {
        let below = path.strip_prefix(directory)?;
        let Some(package) = package(below) else { continue };
        let text = std::fs::read_to_string(&path)?;
        let file = syn::parse_file(&text)?;
        let first = file.items.iter().find_map(|item| match item {
            Item::Struct(item) => Some(item),
            _ => None,
        });
        let Some(item) = first else { continue };
        let name = format!("{package}.{}", item.ident);
        let mut found = TypeNames { name: name.clone(), ..TypeNames::default() };
        for (spelling, _) in
            text.lines().filter_map(|line| line.trim().split_once("\" => Field::Key_"))
        {
            let spelling = spelling.trim_start_matches('"').to_owned();
            names.anywhere.entry(folded(&spelling)).or_default().insert(spelling.clone());
            found.spelling.insert(folded(&spelling), spelling);
        }
        for field in &item.fields {
            if let (Some(ident), false) = (&field.ident, is_option(&field.ty)) {
                found.required.insert(folded(&ident.to_string()));
            }
        }
        names.types.insert(name.to_lowercase(), found);
    }
    Ok(names)
}

fn is_option(ty: &Type) -> bool {
    matches!(ty, Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "Option"))
}
