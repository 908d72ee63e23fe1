//! `CustomKind`: the identity of a kind that a CustomResourceDefinition defines.
//!
//! A handle to names that are kept once and for as long as the process lives, so that a kind stays as cheap to copy and to
//! compare as a built-in one. How many there may be is bounded. Equality and order are those of the names, never of where
//! they lie, so that no decision depends on the order in which kinds became known.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use super::ids::{is_dns_label, is_dns_subdomain};

/// The most custom kinds that a process keeps the names of, those of definitions deleted since among them.
pub const CUSTOM_KINDS_MAX: usize = 4_096;
/// The most versions of custom kinds that a process keeps the names of.
pub const CUSTOM_VERSIONS_MAX: usize = 4 * CUSTOM_KINDS_MAX;

/// A kind that a CustomResourceDefinition defines, together with the version in which it is spoken of.
///
/// The version is no part of the identity: the same object is read in each of its versions.
#[derive(Clone, Copy)]
pub struct CustomKind {
    names: &'static Names,
    api_version: &'static str,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Names {
    group: String,
    plural: String,
    kind: String,
    is_namespaced: bool,
    /// Under which name a store keeps the objects: enough to know the kind without its definition.
    record_name: String,
}

static NAMES: Mutex<BTreeSet<&'static Names>> = Mutex::new(BTreeSet::new());
static VERSIONS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// What ends the name that a store knows the kind by.
const NAMESPACED: &str = ":Namespaced";
const CLUSTER: &str = ":Cluster";

impl CustomKind {
    /// Finds the kind with these names; `None` when they can be none of a kind, or when [`CUSTOM_KINDS_MAX`] are known.
    pub fn new(group: &str, kind: &str, plural: &str, is_namespaced: bool) -> Option<Self> {
        let is_word = |text: &str| is_dns_label(&text.to_ascii_lowercase());
        if !(is_dns_subdomain(group) && is_word(kind) && is_dns_label(plural)) {
            return None;
        }
        let scope = if is_namespaced { NAMESPACED } else { CLUSTER };
        let names = Names {
            group: group.to_owned(),
            plural: plural.to_owned(),
            kind: kind.to_owned(),
            is_namespaced,
            record_name: format!("{kind}.{plural}.{group}{scope}"),
        };
        let mut known = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
        let names = match known.get(&names) {
            Some(found) => *found,
            None if known.len() >= CUSTOM_KINDS_MAX => return None,
            None => {
                let kept: &'static Names = Box::leak(Box::new(names));
                known.insert(kept);
                kept
            }
        };
        Some(Self { names, api_version: &names.group })
    }

    /// Lists the kinds of a group that are known by a name; more than one only when they came to be known one after the other.
    pub(crate) fn named(group: &str, kind: &str) -> Vec<Self> {
        let known = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.iter().filter(|names| names.group == group && names.kind == kind);
        found.map(|names| Self { names, api_version: &names.group }).collect()
    }

    /// Reads the name that a store knows the kind by.
    pub(super) fn from_record_name(text: &str) -> Option<Self> {
        let (names, is_namespaced) = match text.strip_suffix(NAMESPACED) {
            Some(names) => (names, true),
            None => (text.strip_suffix(CLUSTER)?, false),
        };
        let mut names = names.splitn(3, '.');
        let (kind, plural, group) = (names.next()?, names.next()?, names.next()?);
        Self::new(group, kind, plural, is_namespaced)
    }

    /// The same kind, spoken of in another version such as `v1`; `None` for what can be no version, or when
    /// [`CUSTOM_VERSIONS_MAX`] are known.
    pub fn at_version(self, version: &str) -> Option<Self> {
        if !is_dns_label(version) {
            return None;
        }
        let api_version = format!("{}/{version}", self.names.group);
        let mut known = VERSIONS.lock().unwrap_or_else(PoisonError::into_inner);
        let api_version = match known.get(api_version.as_str()) {
            Some(found) => *found,
            None if known.len() >= CUSTOM_VERSIONS_MAX => return None,
            None => {
                let kept: &'static str = Box::leak(api_version.into_boxed_str());
                known.insert(kept);
                kept
            }
        };
        Some(Self { api_version, ..self })
    }

    /// The same kind in the version that an `apiVersion` names; `None` when that is of another group.
    pub(super) fn at_api_version(self, api_version: &str) -> Option<Self> {
        let (group, version) = api_version.split_once('/')?;
        if group == self.names.group { self.at_version(version) } else { None }
    }

    /// The name of the kind, such as `Widget`.
    pub const fn name(self) -> &'static str {
        self.names.kind.as_str()
    }

    /// The plural, such as `widgets`.
    pub const fn plural(self) -> &'static str {
        self.names.plural.as_str()
    }

    /// The group, such as `example.com`.
    pub const fn group(self) -> &'static str {
        self.names.group.as_str()
    }

    /// The `apiVersion` in which the kind is spoken of, such as `example.com/v1`; the group alone when that is left open.
    pub const fn api_version(self) -> &'static str {
        self.api_version
    }

    /// The version in which the kind is spoken of, such as `v1`; empty when that is left open.
    pub fn version(self) -> &'static str {
        self.api_version.split_once('/').map_or("", |(_, version)| version)
    }

    /// Whether its objects live in a namespace.
    pub const fn is_namespaced(self) -> bool {
        self.names.is_namespaced
    }

    /// Under which name a store keeps its objects.
    pub(super) const fn record_name(self) -> &'static str {
        self.names.record_name.as_str()
    }

    /// The name of the definition.
    pub fn definition_name(self) -> String {
        format!("{}.{}", self.names.plural, self.names.group)
    }
}

impl fmt::Debug for CustomKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names.record_name)
    }
}

impl PartialEq for CustomKind {
    fn eq(&self, other: &Self) -> bool {
        // The names are kept once.
        std::ptr::eq(self.names, other.names)
    }
}

impl Eq for CustomKind {}

impl PartialOrd for CustomKind {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for CustomKind {
    fn cmp(&self, other: &Self) -> Ordering {
        if self == other { Ordering::Equal } else { self.names.cmp(other.names) }
    }
}

impl Hash for CustomKind {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.names.record_name.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Key, Kind};

    fn kind(group: &str, plural: &str) -> CustomKind {
        CustomKind::new(group, "Widget", plural, true).expect("names of a kind")
    }

    #[test]
    fn a_kind_is_its_names_whatever_the_version() {
        let widget = kind("example.com", "widgets");
        let newer = kind("example.com", "widgets").at_version("v2").expect("a version");
        assert_eq!(widget, newer);
        assert_eq!((newer.api_version(), newer.version()), ("example.com/v2", "v2"));
        assert!(kind("a.example", "widgets") < kind("b.example", "widgets"));
        assert!(kind("a.example", "gadgets") < kind("a.example", "widgets"));
        let cluster = CustomKind::new("example.com", "Widget", "widgets", false);
        assert_ne!(Some(widget), cluster);
    }

    #[test]
    fn a_stored_key_is_read_without_the_definition() {
        let key = Key::new(Kind::Custom(kind("example.com", "widgets")), "default", "a");
        assert_eq!(key.to_string(), "Widget.widgets.example.com:Namespaced/default/a");
        assert_eq!(key.to_string().parse::<Key>().expect("own output"), key);
        for bad in ["Widget.widgets:Cluster", "Widget.widgets.example.com", ".a.b:Cluster"] {
            assert!(CustomKind::from_record_name(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn what_can_be_no_name_makes_no_kind() {
        assert!(CustomKind::new("example.com", "Wid/get", "widgets", true).is_none());
        assert!(CustomKind::new("example.com", "Widget", "wid.gets", true).is_none());
        assert!(CustomKind::new("", "Widget", "widgets", true).is_none());
        assert!(kind("example.com", "widgets").at_version("v1/x").is_none());
    }
}
