//! The field table: what Kubernetes' objects are made of, field by field.
//!
//! One table serves all who must know more of a field than its type in our model: which fields Kubernetes has at all
//! (and whether we implement them), how lists merge in a patch, the numbers of fields in protobuf, OpenAPI. It is written
//! by `xtask` and committed; a field is added by writing the table anew, never by hand. Depends on nothing.

mod parse;
mod place;
#[cfg(test)]
mod tests;
mod unknown;

use std::collections::BTreeMap;
use std::sync::LazyLock;

pub use place::Place;
pub use unknown::take_unknown;

/// The table, read once.
static SCHEMA: LazyLock<Schema> = LazyLock::new(|| parse::parse(include_str!("kubernetes.fields")));

/// Every message.
#[derive(Debug)]
pub struct Schema {
    messages: Vec<Message>,
    by_name: BTreeMap<&'static str, MessageId>,
}

/// Which message of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageId(usize);

/// A kind of object, or a part of one.
#[derive(Debug)]
pub struct Message {
    /// Its name with its package, such as `core/v1.PodSpec`.
    pub name: &'static str,
    /// What it is; empty when the model has no such type.
    pub doc: &'static str,
    /// Whether it changes hands as a whole (server-side apply).
    pub is_atomic: bool,
    /// Its fields, by number, as protobuf has them.
    fields: Vec<Field>,
    /// Its fields as JSON has them: those of inline messages are among them.
    in_json: BTreeMap<&'static str, Field>,
}

/// A field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its number in protobuf.
    pub number: u32,
    /// Its name in JSON.
    pub name: &'static str,
    /// How many values it has.
    pub shape: Shape,
    /// What its values are.
    pub of: Type,
    /// Whether the fields of its message lie in the message around it.
    pub is_inline: bool,
    /// Whether clients expect it in every answer.
    pub is_required: bool,
    /// Whether 0, `false` or an empty text says something else than nothing at all. (Protobuf writes both alike.)
    pub keeps_zero: bool,
    /// How a list merges in a strategic merge patch.
    pub merge: Merge,
    /// Whether a map is replaced, not merged, in a strategic merge patch.
    pub is_replaced: bool,
    /// Whether a patch that names the field drops what it does not name in it.
    pub retain_keys: bool,
    /// Who may own what of it in a server-side apply.
    pub ownership: Ownership,
    /// What the model says of it; `None` when we do not implement it.
    pub doc: Option<&'static str>,
}

/// How many values a field has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One.
    One,
    /// A list.
    List,
    /// One for each of any number of names.
    Map,
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// `true` or `false`.
    Bool,
    /// Bytes; base64 in JSON.
    Bytes,
    /// Who owns which fields; any object in JSON.
    FieldsV1,
    /// A whole number of 32 bits.
    Int32,
    /// A whole number of 64 bits.
    Int64,
    /// A whole number or a text.
    IntOrString,
    /// A message.
    Message(MessageId),
    /// A time with microseconds.
    MicroTime,
    /// A quantity; a text in JSON.
    Quantity,
    /// A text.
    String,
    /// A time with seconds.
    Time,
}

/// How a list merges in a strategic merge patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// The new one replaces the old one.
    Replace,
    /// Elements with the same value of this field are the same.
    ByKey(&'static str),
    /// Equal elements are the same.
    Set,
}

/// Who may own what of a field in a server-side apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Each part of it by itself.
    Granular,
    /// All of it by one.
    Atomic,
    /// Each element of a list, known by the values of these fields, joined by commas.
    ByKeys(&'static str),
    /// Each element of a list, known by its value.
    Set,
}

/// The table.
pub fn schema() -> &'static Schema {
    &SCHEMA
}

impl Schema {
    /// Finds a message by its name, such as `core/v1.Pod`.
    pub fn find(&self, name: &str) -> Option<&Message> {
        self.by_name.get(name).map(|id| self.message(*id))
    }

    /// Finds the message of a kind, such as (`apps/v1`, `Deployment`) or (`v1`, `Pod`).
    pub fn of_kind(&self, api_version: &str, kind: &str) -> Option<&Message> {
        match api_version.split_once('/') {
            // Groups such as `rbac.authorization.k8s.io` are in packages such as `rbac`. Of those of others nothing is known.
            Some((group, version)) => match group.split_once('.') {
                Some((package, rest)) if rest == "k8s.io" || rest.ends_with(".k8s.io") => {
                    self.find(&format!("{package}/{version}.{kind}"))
                }
                Some(_) => None,
                None => self.find(&format!("{group}/{version}.{kind}")),
            },
            None => self.find(&format!("core/{api_version}.{kind}")),
        }
    }

    /// The message of an id of this table.
    pub fn message(&self, id: MessageId) -> &Message {
        &self.messages[id.0]
    }

    /// Every message, by name.
    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        self.messages.iter()
    }
}

impl Message {
    /// Finds a field by its name in JSON, also one of an inline message.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.in_json.get(name)
    }

    /// Finds a field by its number in protobuf.
    pub fn numbered(&self, number: u32) -> Option<&Field> {
        let found = self.fields.binary_search_by_key(&number, |field| field.number);
        found.ok().map(|index| &self.fields[index])
    }

    /// Its fields as JSON has them, by name.
    pub fn fields(&self) -> impl Iterator<Item = &Field> {
        self.in_json.values()
    }
}

impl Field {
    /// The message that its values are, if they are messages.
    pub fn message(&self) -> Option<&'static Message> {
        match self.of {
            Type::Message(id) => Some(schema().message(id)),
            _ => None,
        }
    }
}
