//! What strangers' bytes must not do: each target is a function of bytes that panics when something does not hold.
//!
//! `cargo fuzz` runs them with coverage (see `README.md`); the workspace's tests run them on the seeds and on mutants of
//! these. Beyond not panicking: what is read can be written and read again; what a patch makes is valid; what is refused is
//! told in few words; the same input comes to the same.

mod documents;
mod mutate;
mod patches;
mod wire;
mod world;

pub use mutate::Mutator;

/// A target: its name, which is that of its seeds' directory, and what it does.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name.
    pub name: &'static str,
    /// Looks at an input, and says whether it was taken as what it should be. Panics when something does not hold.
    pub run: fn(&[u8]) -> bool,
}

/// Every target.
pub const TARGETS: [Target; 10] = [
    Target { name: "decode", run: documents::decode },
    Target { name: "yaml", run: documents::yaml },
    Target { name: "protobuf", run: wire::protobuf },
    Target { name: "patch_json", run: patches::json },
    Target { name: "patch_merge", run: patches::merge },
    Target { name: "patch_strategic", run: patches::strategic },
    Target { name: "apply_server_side", run: patches::apply_server_side },
    Target { name: "apply_three_way", run: patches::apply_three_way },
    Target { name: "selectors", run: wire::selectors },
    Target { name: "query", run: wire::query },
];

/// Runs a target by its name.
///
/// # Panics
/// When there is none, and when what the target looks at does not hold.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target");
    let _ = (target.run)(input);
}
