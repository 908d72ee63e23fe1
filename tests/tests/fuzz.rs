//! The fuzz targets on their seeds, and on mutants of these: the same in every run.
//!
//! `FUZZ_CASES` is the number of mutants of each target, `FUZZ_SEED` makes others. What goes wrong lies in the directory of
//! temporary files, as a file for the seeds.

use std::path::Path;

use orchestrator_fuzz::{Mutator, TARGETS, Target};

/// How many mutants each target sees.
const CASES: u64 = 400;

fn from_environment(name: &str, otherwise: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(otherwise, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name}: {text:?} is no number"))
    })
}

fn seeds(target: Target) -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target.name);
    let mut seeds: Vec<_> = std::fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| {
            let path = entry.expect("a readable directory").path();
            (path.display().to_string(), std::fs::read(&path).expect("a readable seed"))
        })
        .collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "{}: no seeds", target.name);
    seeds
}

/// Whether the target takes an input.
fn look(target: Target, input: &[u8], what: &str) -> bool {
    let outcome = std::panic::catch_unwind(|| (target.run)(input));
    outcome.unwrap_or_else(|panic| {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{}", target.name));
        let kept = std::fs::write(&file, input).map(|()| file.display().to_string());
        let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
        panic!("{}: {what} fails: {text}; the input: {kept:?}", target.name);
    })
}

#[track_caller]
fn replay(name: &str) {
    let target = TARGETS.into_iter().find(|target| target.name == name).expect("a target");
    let seeds = seeds(target);
    for (path, seed) in &seeds {
        let is_taken = look(target, seed, path);
        assert_eq!(is_taken, !path.contains("/refused-"), "{path} is a seed of what is taken");
    }
    let seed = from_environment("FUZZ_SEED", 0);
    for case in 0..from_environment("FUZZ_CASES", CASES) {
        let pick = |at: u64| &seeds[usize::try_from(at).unwrap_or(0) % seeds.len()].1;
        let mutant = Mutator::new(seed << 32 | case).mutate(pick(case), pick(case / 7));
        let _ = look(target, &mutant, &format!("mutant {case} of FUZZ_SEED={seed}"));
    }
}

macro_rules! replayed {
    ($($target:ident)+) => {
        $(#[test]
        fn $target() {
            replay(stringify!($target));
        })+

        #[test]
        fn every_target_is_replayed() {
            let replayed = [$(stringify!($target)),+];
            assert!(TARGETS.iter().map(|target| target.name).eq(replayed));
        }
    };
}

replayed! {
    decode
    yaml
    protobuf
    patch_json
    patch_merge
    patch_strategic
    apply_server_side
    apply_three_way
    selectors
    query
}
