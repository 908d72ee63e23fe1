//! `JsonPath`: the part of kubectl's `{.status.phase}` that names one field: names and indexes.

use serde_json::Value;

/// A path to one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(usize),
}

impl JsonPath {
    /// Reads a path, with or without braces: `{.status.conditions[0].type}`. A dot in a name is written `\.`.
    ///
    /// # Errors
    /// What is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no path to a field; write it as {{.status.phase}}");
        let inner = text.strip_prefix('{').map_or(Some(text), |rest| rest.strip_suffix('}'));
        let mut rest = inner.ok_or_else(wrong)?.trim_start_matches('$');
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('[') {
                let (index, after) = after.split_once(']').ok_or_else(wrong)?;
                steps.push(Step::Index(index.parse().map_err(|_| wrong())?));
                rest = after;
                continue;
            }
            rest = rest.strip_prefix('.').ok_or_else(wrong)?;
            let mut name = String::new();
            let mut characters = rest.char_indices();
            let mut end = rest.len();
            while let Some((at, c)) = characters.next() {
                match c {
                    '\\' => name.extend(characters.next().map(|(_, escaped)| escaped)),
                    '.' | '[' => {
                        end = at;
                        break;
                    }
                    '{' | '}' | '*' | '?' | '@' | '(' | ')' => return Err(wrong()),
                    c => name.push(c),
                }
            }
            rest = &rest[end..];
            if name.is_empty() {
                return Err(wrong());
            }
            steps.push(Step::Field(name));
        }
        if steps.is_empty() { Err(wrong()) } else { Ok(Self(steps)) }
    }

    /// Finds the field.
    pub fn find<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        self.0.iter().try_fold(value, |value, step| match step {
            Step::Field(name) => value.get(name),
            Step::Index(index) => value.get(index),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_leads_to_a_field() {
        let value = json!({ "a": { "b.c": [{ "d": 1 }, 2] } });
        let find = |path: &str| JsonPath::parse(path).expect(path).find(&value).cloned();
        assert_eq!(find("{.a.b\\.c[0].d}"), Some(json!(1)));
        assert_eq!(find(".a.b\\.c[1]"), Some(json!(2)));
        assert_eq!(find("{$.a.x}"), None);
        for path in ["", "{}", "{.a", "a", "{.a[*]}", "{..a}", "{.a[x]}"] {
            assert!(JsonPath::parse(path).is_err(), "{path:?}");
        }
    }
}
