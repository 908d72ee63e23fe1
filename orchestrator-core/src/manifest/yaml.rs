//! YAML events to values: the only file that knows the YAML parser. Iterative, so that depth costs no stack.

use std::collections::BTreeMap;

use granit_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Tag};
use serde_json::{Map, Value};

use super::{Bounds, DEPTH_MAX, Defect, Parsed, scalar, shortened};

/// The most bytes of text that anchors and aliases may copy.
const ALIAS_BYTES_MAX: usize = 16 << 20;

pub(super) fn parse(text: &str, bounds: Bounds) -> Result<Vec<Parsed>, Defect> {
    // One above ours, so that the precise refusal is ours.
    let nesting = DEPTH_MAX + 1;
    let options = granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: nesting,
        block_nesting_limit: nesting,
    };
    let mut documents = Vec::new();
    let mut builder = Builder::new(bounds);
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| scan_defect(&error))?;
        let at = span.start;
        match event {
            Event::DocumentStart(..) => builder.begin(),
            Event::DocumentEnd => {
                if documents.len() >= bounds.documents_max {
                    return Err(defect(&at, bounds.too_many_documents()));
                }
                documents.extend(builder.finish());
            }
            Event::Scalar(text, style, anchor, tag) => {
                builder.scalar(&text, style, anchor, tag.as_deref(), &at)?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                no_custom_tag(tag.as_deref(), &at)?;
                builder.open(Content::Sequence(Vec::new()), anchor, &at)?;
            }
            Event::MappingStart(_, anchor, tag) => {
                no_custom_tag(tag.as_deref(), &at)?;
                let mapping = Mapping { entries: Map::new(), key: None, merged: Vec::new() };
                builder.open(Content::Mapping(mapping), anchor, &at)?;
            }
            Event::SequenceEnd | Event::MappingEnd => builder.close(&at)?,
            Event::Alias(anchor) => builder.alias(anchor, &at)?,
            _ => {}
        }
    }
    Ok(documents)
}

fn scan_defect(error: &ScanError) -> Defect {
    let at = error.marker();
    if matches!(error.kind(), granit_parser::ErrorKind::RecursionLimitExceeded) {
        return too_deep(at);
    }
    defect(at, error.info())
}

fn defect(at: &Marker, message: String) -> Defect {
    Defect { line: at.line(), column: at.col() + 1, message }
}

fn too_deep(at: &Marker) -> Defect {
    defect(at, format!("nested more than {DEPTH_MAX} levels deep"))
}

fn no_custom_tag(tag: Option<&Tag>, at: &Marker) -> Result<(), Defect> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema() && tag.original() != "!" => {
            Err(defect(at, format!("the tag {} means nothing here", tag.original())))
        }
        Some(_) | None => Ok(()),
    }
}

/// A finished node, with what it weighs.
#[derive(Clone)]
struct Node {
    value: Value,
    values: usize,
    text_bytes: usize,
    depth: usize,
}

struct Mapping {
    entries: Map<String, Value>,
    /// The key whose value comes next; `true` for the merge key `<<`.
    key: Option<(String, bool)>,
    /// Mappings to merge, the strongest first.
    merged: Vec<Map<String, Value>>,
}

enum Content {
    Mapping(Mapping),
    Sequence(Vec<Value>),
}

struct Frame {
    content: Content,
    anchor: usize,
    values: usize,
    text_bytes: usize,
    depth: usize,
    /// How long the path was before this frame's current step.
    path_len: usize,
}

struct Builder {
    bounds: Bounds,
    stack: Vec<Frame>,
    root: Option<Value>,
    line: usize,
    path: String,
    places: BTreeMap<String, usize>,
    anchors: BTreeMap<usize, Node>,
    /// Counted over the whole manifest.
    values: usize,
    alias_bytes: usize,
    place_bytes: usize,
}

impl Builder {
    fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            stack: Vec::new(),
            root: None,
            line: 0,
            path: String::new(),
            places: BTreeMap::new(),
            anchors: BTreeMap::new(),
            values: 0,
            alias_bytes: 0,
            place_bytes: 0,
        }
    }

    fn begin(&mut self) {
        let Self { values, alias_bytes, place_bytes, .. } = *self;
        *self = Self { values, alias_bytes, place_bytes, ..Self::new(self.bounds) };
    }

    /// Remembers the line of the path, as long as there is room: a long key repeats itself in each path below it.
    fn note_place(&mut self, at: &Marker) {
        let bytes = self.place_bytes.saturating_add(self.path.len());
        if bytes <= self.bounds.place_bytes_max {
            self.place_bytes = bytes;
            self.places.insert(self.path.clone(), at.line());
        }
    }

    fn finish(&mut self) -> Option<Parsed> {
        let value = self.root.take().filter(|value| !value.is_null())?;
        Some(Parsed { value, line: self.line, places: std::mem::take(&mut self.places) })
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        at: &Marker,
    ) -> Result<(), Defect> {
        no_custom_tag(tag, at)?;
        if self.take_key(text, style, at)? {
            return Ok(());
        }
        let is_text = style != ScalarStyle::Plain
            || tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str") || tag.original() == "!");
        let value = if is_text {
            Value::String(text.to_owned())
        } else {
            scalar::resolve(text).map_err(|message| defect(at, message))?
        };
        let node = Node { value, values: 1, text_bytes: text.len(), depth: 0 };
        self.add(node, anchor, at)
    }

    /// Takes a scalar as a key if a mapping waits for one.
    fn take_key(&mut self, text: &str, style: ScalarStyle, at: &Marker) -> Result<bool, Defect> {
        let Some(Frame { content: Content::Mapping(mapping), path_len, .. }) =
            self.stack.last_mut()
        else {
            return Ok(false);
        };
        if mapping.key.is_some() {
            return Ok(false);
        }
        self.path.truncate(*path_len);
        let is_merge = text == "<<" && style == ScalarStyle::Plain;
        if !is_merge {
            if !self.path.is_empty() {
                self.path.push('.');
            }
            self.path.push_str(text);
            if mapping.entries.contains_key(text) {
                let mut message = format!("{}: given twice", shortened(&self.path));
                if let Some(first) = self.places.get(&self.path) {
                    message.push_str(&format!(", first on line {first}"));
                }
                return Err(defect(at, message));
            }
        }
        mapping.key = Some((text.to_owned(), is_merge));
        if !is_merge {
            self.note_place(at);
        }
        Ok(true)
    }

    fn open(&mut self, content: Content, anchor: usize, at: &Marker) -> Result<(), Defect> {
        if self.stack.len() >= DEPTH_MAX {
            return Err(too_deep(at));
        }
        self.expect_value(at)?;
        self.step_into_sequence(at);
        let path_len = self.path.len();
        self.stack.push(Frame { content, anchor, values: 1, text_bytes: 0, depth: 0, path_len });
        Ok(())
    }

    fn close(&mut self, at: &Marker) -> Result<(), Defect> {
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        self.path.truncate(frame.path_len);
        let value = match frame.content {
            Content::Sequence(items) => Value::Array(items),
            Content::Mapping(Mapping { mut entries, merged, .. }) => {
                for (name, value) in merged.into_iter().flatten() {
                    entries.entry(name).or_insert(value);
                }
                Value::Object(entries)
            }
        };
        let node = Node {
            value,
            values: frame.values,
            text_bytes: frame.text_bytes,
            depth: frame.depth + 1,
        };
        self.put(node, frame.anchor, at)
    }

    fn alias(&mut self, anchor: usize, at: &Marker) -> Result<(), Defect> {
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(defect(at, "an alias inside of what it stands for".to_owned()));
        };
        let (values, text_bytes) = (node.values, node.text_bytes);
        self.count_copy(values, text_bytes, at)?;
        let Some(node) = self.anchors.get(&anchor) else { return Ok(()) };
        if self.stack.len() + node.depth > DEPTH_MAX {
            return Err(too_deep(at));
        }
        let node = node.clone();
        self.expect_value(at)?;
        self.step_into_sequence(at);
        self.put(node, 0, at)
    }

    fn add(&mut self, node: Node, anchor: usize, at: &Marker) -> Result<(), Defect> {
        self.expect_value(at)?;
        self.step_into_sequence(at);
        self.put(node, anchor, at)
    }

    /// Checks that a mapping does not wait for a key now, and counts the value.
    fn expect_value(&mut self, at: &Marker) -> Result<(), Defect> {
        if let Some(Frame { content: Content::Mapping(mapping), .. }) = self.stack.last()
            && mapping.key.is_none()
        {
            return Err(defect(
                at,
                "a key must be text, not a list, a mapping or an alias".to_owned(),
            ));
        }
        if self.stack.is_empty() {
            self.line = at.line();
            if self.bounds.place_bytes_max > 0 {
                self.places.insert(String::new(), at.line());
            }
        }
        self.values += 1;
        let values_max = self.bounds.values_max;
        if self.values > values_max {
            return Err(defect(at, format!("it holds more than {values_max} values")));
        }
        Ok(())
    }

    /// Appends the index of the next element to the path, when a sequence is open.
    fn step_into_sequence(&mut self, at: &Marker) {
        if let Some(Frame { content: Content::Sequence(items), path_len, .. }) = self.stack.last() {
            self.path.truncate(*path_len);
            self.path.push_str(&format!("[{}]", items.len()));
            self.note_place(at);
        }
    }

    /// Counts a copy that an anchor keeps or an alias makes: anchors within anchors multiply too.
    fn count_copy(&mut self, values: usize, bytes: usize, at: &Marker) -> Result<(), Defect> {
        self.values = self.values.saturating_add(values);
        self.alias_bytes = self.alias_bytes.saturating_add(bytes);
        let values_max = self.bounds.values_max;
        if self.values <= values_max && self.alias_bytes <= ALIAS_BYTES_MAX {
            return Ok(());
        }
        let message = format!(
            "aliases blow the manifest up to more than {values_max} values or {ALIAS_BYTES_MAX} bytes"
        );
        Err(defect(at, message))
    }

    /// Puts a finished node where it belongs.
    fn put(&mut self, node: Node, anchor: usize, at: &Marker) -> Result<(), Defect> {
        if anchor != 0 {
            self.count_copy(node.values, node.text_bytes, at)?;
            self.anchors.insert(anchor, node.clone());
        }
        let Some(frame) = self.stack.last_mut() else {
            self.root = Some(node.value);
            return Ok(());
        };
        frame.values += node.values;
        frame.text_bytes += node.text_bytes;
        frame.depth = frame.depth.max(node.depth);
        match &mut frame.content {
            Content::Sequence(items) => items.push(node.value),
            Content::Mapping(mapping) => match mapping.key.take() {
                Some((_, true)) => mapping.merged.extend(mergeable(node.value, at)?),
                Some((key, false)) => {
                    frame.text_bytes += key.len();
                    mapping.entries.insert(key, node.value);
                }
                None => {}
            },
        }
        Ok(())
    }
}

fn mergeable(value: Value, at: &Marker) -> Result<Vec<Map<String, Value>>, Defect> {
    let items = match value {
        Value::Array(items) => items,
        other => vec![other],
    };
    items
        .into_iter()
        .map(|item| match item {
            Value::Object(map) => Ok(map),
            _ => Err(defect(at, "<< takes a mapping or a list of mappings".to_owned())),
        })
        .collect()
}
