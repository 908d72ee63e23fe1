//! From the table's text to [`Schema`]. The text is part of the program: what cannot be read is a mistake of `xtask`'s,
//! which a test would find, and is left out.

use std::collections::BTreeMap;

use super::{Field, Merge, Message, MessageId, Ownership, Schema, Shape, Type};

/// Reads the table.
pub(super) fn parse(text: &'static str) -> Schema {
    let lines = || text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let names = lines().filter(|line| !line.starts_with(' ')).map(|line| word(line));
    let by_name: BTreeMap<_, _> =
        names.enumerate().map(|(index, name)| (name, MessageId(index))).collect();
    let mut messages: Vec<Message> = Vec::with_capacity(by_name.len());
    for line in lines() {
        match (line.strip_prefix("  "), messages.last_mut()) {
            (Some(line), Some(message)) => message.fields.extend(field(line, &by_name)),
            (Some(_), None) => {}
            (None, _) => messages.push(message(line)),
        }
    }
    for index in 0..messages.len() {
        let mut in_json = BTreeMap::new();
        collect(&messages, &messages[index], &mut in_json);
        messages[index].in_json = in_json;
    }
    Schema { messages, by_name }
}

/// Collects the fields of a message as JSON has them.
fn collect(messages: &[Message], message: &Message, found: &mut BTreeMap<&'static str, Field>) {
    for field in &message.fields {
        match field.of {
            Type::Message(id) if field.is_inline => collect(messages, &messages[id.0], found),
            _ => drop(found.insert(field.name, *field)),
        }
    }
}

fn word(line: &'static str) -> &'static str {
    line.split(' ').next().unwrap_or_default()
}

/// Splits what the model says from a line.
fn documented(line: &'static str) -> (&'static str, Option<&'static str>) {
    match line.split_once(" | ") {
        Some((facts, doc)) => (facts, Some(doc)),
        None => (line, None),
    }
}

fn message(line: &'static str) -> Message {
    let (facts, doc) = documented(line);
    Message {
        name: word(facts),
        doc: doc.unwrap_or_default(),
        is_atomic: facts.ends_with(" atomic"),
        fields: Vec::new(),
        in_json: BTreeMap::new(),
    }
}

fn field(line: &'static str, ids: &BTreeMap<&'static str, MessageId>) -> Option<Field> {
    let (facts, doc) = documented(line);
    let mut words = facts.split(' ');
    let number = words.next()?.parse().ok()?;
    let name = words.next()?;
    let of = words.next()?;
    let (shape, of) = match (of.strip_prefix("map[]"), of.strip_prefix("[]")) {
        (Some(of), _) => (Shape::Map, of),
        (None, Some(of)) => (Shape::List, of),
        (None, None) => (Shape::One, of),
    };
    let of = match of {
        "bool" => Type::Bool,
        "bytes" => Type::Bytes,
        "fieldsV1" => Type::FieldsV1,
        "int32" => Type::Int32,
        "int64" => Type::Int64,
        "intOrString" => Type::IntOrString,
        "microTime" => Type::MicroTime,
        "quantity" => Type::Quantity,
        "string" => Type::String,
        "time" => Type::Time,
        message => Type::Message(*ids.get(message)?),
    };
    let mut field = Field {
        number,
        name,
        shape,
        of,
        is_inline: false,
        is_required: false,
        keeps_zero: false,
        merge: Merge::Replace,
        is_replaced: false,
        retain_keys: false,
        ownership: Ownership::Granular,
        doc,
    };
    for flag in words {
        match flag.split_once('=') {
            Some(("list", "set")) => field.ownership = Ownership::Set,
            Some(("list", keys)) => {
                field.ownership = Ownership::ByKeys(keys.strip_prefix("map:")?);
            }
            Some(("merge", key)) => field.merge = Merge::ByKey(key),
            Some(_) => return None,
            None => match flag {
                "atomic" => field.ownership = Ownership::Atomic,
                "inline" => field.is_inline = true,
                "keepsZero" => field.keeps_zero = true,
                "merge" => field.merge = Merge::Set,
                "replace" => field.is_replaced = true,
                "required" => field.is_required = true,
                "retainKeys" => field.retain_keys = true,
                _ => return None,
            },
        }
    }
    Some(field)
}
