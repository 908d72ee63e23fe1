//! `Fences`: the fence as this store last saw it, and whether a commit of unknown fate may still be under way.
//!
//! A call that nobody answers may be done long after its caller has given up: by a member that was paused, or from a connection's
//! buffer. Every commit demands the revision of the fence. Once that has moved, no commit from before can happen any more, and what
//! is read then is the last word on them. Invariant: `StateStore::revision` answers only when nothing is in doubt.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use orchestrator_core::model::Revision;

use crate::error::OpenError;
use crate::layout::Layout;
use crate::txn::Fence;
use crate::wire::KeyValue;

/// The newest format of the state that this program reads. It writes the first that can say what there is to say.
pub const FORMAT_VERSION: u32 = 2;
/// What the fence holds, before the number of the format.
const MARK: &str = "orchestrator state, format ";
/// What follows in format 2: the revision after which the state's begin, and whether it can be used.
const BASE: &str = ", revisions after ";
const UNFINISHED: &str = "unfinished";
const MOVED: &str = "moved to ";

/// Whether a state can be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Standing {
    /// It can.
    #[default]
    Whole,
    /// It is being filled, or was not filled to its end.
    Unfinished,
    /// It was moved away and goes on elsewhere.
    Moved {
        /// Where, as the one who has moved it says.
        to: String,
    },
}

/// What the fence says of the state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Format {
    /// Revisions begin after this one.
    pub base: Revision,
    pub standing: Standing,
}

impl Format {
    /// What the fence holds.
    pub(crate) fn bytes(&self) -> Bytes {
        let Self { base, standing } = self;
        match standing {
            Standing::Whole if *base == Revision::default() => format!("{MARK}1").into(),
            Standing::Whole => format!("{MARK}2{BASE}{base}").into(),
            Standing::Unfinished => format!("{MARK}2{BASE}{base}, {UNFINISHED}").into(),
            Standing::Moved { to } => format!("{MARK}2{BASE}{base}, {MOVED}{to}").into(),
        }
    }

    /// Reads what stands behind the mark: the number of the format, and what it says.
    fn parse(text: &str) -> Option<(u32, Self)> {
        let (version, rest) = text.split_at(text.find(',').unwrap_or(text.len()));
        let version = version.parse().ok()?;
        if version > FORMAT_VERSION || rest.is_empty() {
            return Some((version, Self::default()));
        }
        let rest = rest.strip_prefix(BASE)?;
        let (base, standing) = match rest.split_once(", ") {
            None => (rest, Standing::Whole),
            Some((base, UNFINISHED)) => (base, Standing::Unfinished),
            Some((base, moved)) => {
                (base, Standing::Moved { to: moved.strip_prefix(MOVED)?.to_owned() })
            }
        };
        Some((version, Self { base: Revision(base.parse().ok()?), standing }))
    }
}

/// Reads the fence of a state.
///
/// # Errors
/// [`OpenError::Foreign`] and [`OpenError::Newer`].
pub(crate) fn check_format(
    layout: &Layout,
    found: &KeyValue,
) -> Result<(Fence, Format), OpenError> {
    let text = String::from_utf8_lossy(&found.value);
    match text.strip_prefix(MARK).and_then(Format::parse) {
        None => Err(OpenError::Foreign {
            key: String::from_utf8_lossy(&layout.fence()).into_owned(),
            found: text.chars().take(80).collect(),
        }),
        Some((found, _)) if found > FORMAT_VERSION => {
            Err(OpenError::Newer { found, supported: FORMAT_VERSION })
        }
        Some((_, format)) => Ok((Fence(found.mod_revision), format)),
    }
}

/// What a store knows of the fence.
#[derive(Debug)]
pub(crate) struct Fences {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    current: Fence,
    /// The newest fence that a commit of unknown fate has demanded, until it has moved.
    in_doubt: Option<Fence>,
}

impl Fences {
    pub(crate) const fn new(current: Fence) -> Self {
        Self { state: Mutex::new(State { current, in_doubt: None }) }
    }

    /// What a commit is to demand.
    pub(crate) fn current(&self) -> Fence {
        self.lock().current
    }

    /// Whether a commit may still happen of which its writer knows nothing.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.lock().in_doubt.is_some()
    }

    /// Takes note of where the fence is.
    pub(crate) fn saw(&self, fence: Fence) {
        let mut state = self.lock();
        state.current = state.current.max(fence);
        state.in_doubt = state.in_doubt.filter(|demanded| *demanded >= state.current);
    }

    /// Holds a commit that demands `fence` for doubtful unless its fate is told.
    pub(crate) const fn doubt(&self, fence: Fence) -> Doubt<'_> {
        Doubt { fence: Some(fence), fences: self }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No change leaves it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A commit under way. Dropped without an answer, also because its caller went away, its fate is in doubt.
#[derive(Debug)]
pub(crate) struct Doubt<'a> {
    fence: Option<Fence>,
    fences: &'a Fences,
}

impl Doubt<'_> {
    /// The fate is known.
    pub(crate) fn dispel(mut self) {
        self.fence = None;
    }
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if let Some(fence) = self.fence {
            let mut state = self.fences.lock();
            if fence >= state.current {
                state.in_doubt = state.in_doubt.max(Some(fence));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubt_lasts_until_the_fence_has_moved() {
        let fences = Fences::new(Fence(5));
        fences.doubt(fences.current()).dispel();
        assert!(!fences.is_in_doubt());
        drop(fences.doubt(fences.current()));
        fences.saw(Fence(5));
        assert!(fences.is_in_doubt());
        fences.saw(Fence(6));
        assert!(!fences.is_in_doubt());
        drop(fences.doubt(Fence(5)));
        assert!(!fences.is_in_doubt(), "it demanded a fence that has moved since");
        fences.saw(Fence(4));
        assert_eq!(fences.current(), Fence(6), "an old answer changes nothing");
    }

    #[test]
    fn only_a_known_format_is_used() {
        let layout = Layout::new("/a");
        let check = |value: Bytes| {
            check_format(&layout, &KeyValue { value, mod_revision: 3, ..KeyValue::default() })
        };
        let moved = |to: &str| Standing::Moved { to: to.to_owned() };
        for base in [Revision::default(), Revision(7)] {
            for standing in [
                Standing::Whole,
                Standing::Unfinished,
                moved("etcd://a,b/c"),
                moved("sqlite:/a, unfinished"),
            ] {
                let format = Format { base, standing };
                assert_eq!(check(format.bytes()).expect("ours"), (Fence(3), format));
            }
        }
        assert_eq!(
            check("orchestrator state, format 1".into()).expect("ours").1,
            Format::default()
        );
        for newer in ["3", "3, something else"] {
            let newer = check(format!("{MARK}{newer}").into());
            assert!(matches!(newer, Err(OpenError::Newer { found: 3, supported: 2 })), "{newer:?}");
        }
        for foreign in [
            "",
            "x",
            "orchestrator state, format x",
            "orchestrator state, format 2, x",
            "orchestrator state, format 2, revisions after 7, x",
        ] {
            let refused = check(foreign.into());
            assert!(matches!(refused, Err(OpenError::Foreign { .. })), "{refused:?}");
        }
    }
}
