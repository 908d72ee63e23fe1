//! Mutants of inputs: bytes that are changed anywhere, and JSON that is changed in its parts.

use serde_json::{Map, Value, json};

/// Texts that mean something to somebody.
const WORDS: [&str; 44] = [
    "null",
    "true",
    "{}",
    "[]",
    "\"\"",
    "-1",
    "0",
    "1e999",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551616",
    "0.1",
    "\\u0000",
    "\\ud800",
    "$patch",
    "delete",
    "replace",
    "merge",
    "$retainKeys",
    "$setElementOrder/",
    "$deleteFromPrimitiveList/",
    "metadata",
    "name",
    "namespace",
    "labels",
    "annotations",
    "managedFields",
    "resourceVersion",
    "spec",
    "status",
    "containers",
    "ports",
    "env",
    "<<: *a",
    "&a ",
    "*a",
    "---\n",
    "? ",
    "| \n",
    "!!str ",
    ".inf",
    "25%",
    "1Gi",
    "2024-01-01T00:00:00Z",
];
/// The most bytes of a mutant.
const BYTES_MAX: usize = 64 << 10;

/// Makes mutants, the same from the same seed.
#[derive(Clone, Debug)]
pub struct Mutator(u64);

impl Mutator {
    /// Makes a mutator of a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// A number below `end`, which is not 0.
    fn below(&mut self, end: usize) -> usize {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap_or(0) % end
    }

    fn word(&mut self) -> &'static str {
        WORDS[self.below(WORDS.len())]
    }

    /// Makes a mutant of an input, with pieces of another.
    pub fn mutate(&mut self, input: &[u8], other: &[u8]) -> Vec<u8> {
        let mut bytes = input.to_vec();
        let line = input.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        // Mostly one change: of many, one is wrong, and hides what the others do.
        let changes = [1, 1, 1, 2, 5][self.below(5)];
        for _ in 0..changes {
            let tree = serde_json::from_slice::<Value>(bytes.get(line..).unwrap_or_default());
            match tree {
                Ok(mut tree) if self.below(4) > 0 => {
                    let other_line =
                        other.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                    let graft = serde_json::from_slice(&other[other_line..]).unwrap_or(Value::Null);
                    self.change_tree(&mut tree, &graft);
                    bytes.truncate(line);
                    bytes.extend(tree.to_string().bytes());
                }
                _ => self.change_bytes(&mut bytes, other),
            }
        }
        bytes.truncate(BYTES_MAX);
        bytes
    }

    fn change_bytes(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(bytes.len() + 1);
        let length = self.below(bytes.len() - at + 1).min(1 + self.below(64));
        match self.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = u8::try_from(self.below(256)).unwrap_or(0),
            2 => drop(bytes.drain(at..at + length)),
            3 => {
                let piece = bytes[at..at + length].to_vec();
                let times = 1 + self.below(4);
                drop(bytes.splice(at..at, piece.repeat(times)));
            }
            4 if !other.is_empty() => {
                let from = self.below(other.len());
                let piece = &other[from..(from + 1 + self.below(64)).min(other.len())];
                drop(bytes.splice(at..at + length, piece.iter().copied()));
            }
            5 => bytes.truncate(at),
            _ => drop(bytes.splice(at..at, self.word().bytes())),
        }
    }

    fn change_tree(&mut self, tree: &mut Value, graft: &Value) {
        // Goes down by chance, and changes what it stops at.
        let stops = self.below(4) == 0;
        match tree {
            Value::Object(map) if !map.is_empty() && !stops => {
                let index = self.below(map.len());
                let inner = map.values_mut().nth(index).expect("below its length");
                self.change_tree(inner, graft);
            }
            Value::Array(list) if !list.is_empty() && !stops => {
                let index = self.below(list.len());
                self.change_tree(&mut list[index], graft);
            }
            Value::Object(map) => self.change_map(map, graft),
            Value::Array(list) => match self.below(4) {
                0 => list.clear(),
                1 => list.extend(list.clone().into_iter().take(8)),
                2 => list.reverse(),
                _ => list.push(self.value(graft)),
            },
            scalar => *scalar = self.value(graft),
        }
    }

    fn change_map(&mut self, map: &mut Map<String, Value>, graft: &Value) {
        let index = self.below(map.len().max(1));
        let name = map.keys().nth(index).cloned().unwrap_or_default();
        match self.below(5) {
            0 => drop(map.remove(&name)),
            1 => {
                let value = map.remove(&name).unwrap_or_default();
                map.insert(self.word().to_owned(), value);
            }
            2 => drop(map.insert(self.word().to_owned(), self.value(graft))),
            3 => {
                let directive = ["$setElementOrder/", "$deleteFromPrimitiveList/"][self.below(2)];
                let value = map.get(&name).cloned().unwrap_or_default();
                map.insert(format!("{directive}{name}"), value);
            }
            _ => drop(map.insert(name, self.value(graft))),
        }
    }

    /// A value that is often wrong where it comes to lie.
    fn value(&mut self, graft: &Value) -> Value {
        match self.below(9) {
            0 => Value::Null,
            1 => json!({}),
            2 => json!([]),
            3 => json!(-1),
            4 => json!(i64::MAX),
            5 => json!(self.word()),
            6 => json!(self.below(70_000)),
            7 => {
                let mut inner = graft;
                while let Some(next) = inner.as_object().filter(|map| !map.is_empty()) {
                    let index = self.below(next.len());
                    inner = next.values().nth(index).expect("below its length");
                    if self.below(3) == 0 {
                        break;
                    }
                }
                inner.clone()
            }
            _ => {
                let directive = ["delete", "replace", "merge", "x"][self.below(4)];
                json!({ "$patch": directive })
            }
        }
    }
}
