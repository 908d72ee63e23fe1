//! Patches of every kind: the result is valid, or the patch is refused.

use orchestrator_core::api::{Patch, Preconditions, Rejection, Request, WriteOptions};
use orchestrator_core::manifest;
use orchestrator_core::model::{Key, Kind, Part};
use serde_json::Value;

use crate::world::{bench, first_line, is_short, kind_of, options};

/// The most bytes that an object may have: its two records, and what is said only on output.
const OBJECT_BYTES_MAX: usize = 2 * orchestrator_core::api::OBJECT_BYTES_MAX + (64 << 10);

/// A kind, a line end, and a JSON patch.
pub(crate) fn json(input: &[u8]) -> bool {
    patch(input, Again::May, |body| Some(Patch::Json(manifest::read_json(body).ok()?.0)))
}

/// A kind, a line end, and a merge patch.
pub(crate) fn merge(input: &[u8]) -> bool {
    patch(input, Again::IsNothing, |body| Some(Patch::Merge(manifest::read_json(body).ok()?.0)))
}

/// A kind, a line end, and a strategic merge patch.
pub(crate) fn strategic(input: &[u8]) -> bool {
    patch(input, Again::May, |body| Some(Patch::Strategic(manifest::read_json(body).ok()?.0)))
}

/// A kind, a line end, and a manifest for a server-side apply.
pub(crate) fn apply_server_side(input: &[u8]) -> bool {
    patch(input, Again::IsNothing, |body| {
        let manifest = manifest::read_yaml(body, "fuzz").ok()?;
        Some(Patch::ApplyServerSide { manifest, force: body.len() % 2 == 0 })
    })
}

/// A kind, a line end, and a manifest for an apply with the manifest applied last.
pub(crate) fn apply_three_way(input: &[u8]) -> bool {
    patch(input, Again::IsNothing, |body| {
        Some(Patch::Apply(manifest::read_yaml(body, "fuzz").ok()?))
    })
}

/// What the same patch does when it comes again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Again {
    /// Nothing, or it is refused because the object is another.
    IsNothing,
    /// Whatever: it may add an element once more.
    May,
}

fn patch(input: &[u8], again: Again, read: impl Fn(&[u8]) -> Option<Patch>) -> bool {
    let (kind, body) = kind_of(input);
    // `Pod status` patches the status.
    let part = if first_line(input).0.ends_with(b"status") { Part::Status } else { Part::Main };
    let Some(patch) = read(body) else { return false };
    let mut bench = bench();
    let key = Key::new(kind, if kind.is_namespaced() { "default" } else { "" }, "a");
    let key = if kind == Kind::Namespace { Key::new(kind, "", "default") } else { key };
    let request = Request::Patch {
        key: key.clone(),
        part,
        patch,
        preconditions: Preconditions::default(),
        options: WriteOptions { manager: "fuzz".to_owned(), ..options() },
    };
    let effect = match bench.submit(&request) {
        Ok(effect) => effect,
        Err(rejection) => return is_short(&rejection, input),
    };
    if effect.deleted {
        return true;
    }
    let object = bench.value(&key).expect("what was patched is there");
    let length = object.to_string().len();
    assert!(length <= OBJECT_BYTES_MAX, "an object of {length} bytes");
    check_valid(&mut bench, &key, part, object);
    if again == Again::IsNothing {
        match bench.submit(&request) {
            Ok(effect) => {
                let changed = effect.proposal.map(|_| effect.reply.to_value());
                assert_eq!(changed, None, "a second time nothing changes");
            }
            Err(Rejection::Conflict { .. }) => {}
            Err(rejection) => panic!("a second time it is refused: {rejection}"),
        }
    }
    true
}

/// What is stored is what a client may send: it is admitted, and changes nothing.
fn check_valid(bench: &mut crate::world::Bench, key: &Key, part: Part, object: Value) {
    let update = Request::Update { key: key.clone(), part, object, options: options() };
    let same = bench.submit(&update).expect("the result is valid");
    assert!(same.proposal.is_none(), "and as it is stored: {:?}", same.reply);
}
