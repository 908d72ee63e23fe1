//! A place in a document, and what the table says of it.

use super::{Field, Merge, Message, Ownership, Shape};

/// A place in a document of a known kind. One that the table does not know is as good as any other: it has no fields
/// that are known, and merges as plain JSON does.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// What the values here are, if they are messages.
    pub message: Option<&'static Message>,
    /// How many values there are.
    pub shape: Shape,
    /// How a list merges.
    pub merge: Merge,
    /// Whether a map is replaced, not merged.
    pub is_replaced: bool,
    /// Who may own what of it.
    pub ownership: Ownership,
    /// Whether what a patch does not name goes.
    pub retain_keys: bool,
}

impl Place {
    /// The whole of a document.
    pub const fn root(message: Option<&'static Message>) -> Self {
        Self {
            message,
            shape: Shape::One,
            merge: Merge::Replace,
            is_replaced: false,
            ownership: Ownership::Granular,
            retain_keys: false,
        }
    }

    /// The place of a field (or of a name in a map) in this one.
    pub fn child(&self, name: &str) -> Self {
        match self.shape {
            Shape::One => match self.message.and_then(|message| message.field(name)) {
                Some(field) => Self::of(field),
                None => Self::root(None),
            },
            Shape::Map => Self::root(self.message),
            Shape::List => Self::root(None),
        }
    }

    /// The place of an element of the list that is here.
    pub const fn element(&self) -> Self {
        // What a patch drops, it drops in each element.
        Self { retain_keys: self.retain_keys, ..Self::root(self.message) }
    }

    fn of(field: &Field) -> Self {
        Self {
            message: field.message(),
            shape: field.shape,
            merge: field.merge,
            is_replaced: field.is_replaced,
            ownership: field.ownership,
            retain_keys: field.retain_keys && field.shape != Shape::Map,
        }
    }
}
