//! Seeded simulations of a whole cluster: whatever goes wrong, the invariants hold and the cluster comes to rest
//! as wanted.

use orchestrator_core::testkit::sim::{CrashPoint, commits_without_a_crash, crash_at, simulate};

/// The seeds within which a deliberate bug must be found.
#[cfg(feature = "mutants")]
const BUG_SEEDS: u64 = 80;

/// How many seeds are tried; `ORCH_SIM_SEEDS` asks for more.
#[allow(clippy::disallowed_methods)] // a test, not the core
fn seeds() -> u64 {
    let wanted = std::env::var("ORCH_SIM_SEEDS").unwrap_or_else(|_| "80".to_owned());
    wanted.parse().ok().filter(|seeds| *seeds > 0).expect("ORCH_SIM_SEEDS is a number above 0")
}

#[test]
fn whatever_goes_wrong_the_cluster_comes_to_rest_as_wanted() {
    let broken: Vec<String> = (0..seeds()).filter_map(|seed| simulate(seed).err()).collect();
    assert!(broken.is_empty(), "{} of {} seeds:\n{}", broken.len(), seeds(), broken.join("\n"));
}

#[test]
fn equal_seeds_give_equal_runs() {
    for seed in [1, 7, 23] {
        assert_eq!(simulate(seed), simulate(seed), "seed {seed}");
    }
}

#[test]
fn s37_a_crash_before_or_after_any_commit_does_no_harm() {
    let commits = commits_without_a_crash().expect("nothing goes wrong");
    assert!(commits > 20, "a life of {commits} commits is none");
    let points =
        (0..commits).flat_map(|commit| [true, false].map(|applied| CrashPoint { commit, applied }));
    let broken: Vec<String> = points.filter_map(|point| crash_at(point).err()).collect();
    assert!(broken.is_empty(), "{} crashes:\n{}", broken.len(), broken.join("\n"));
}

/// The simulator can fail: every deliberate bug is found within these seeds.
#[cfg(feature = "mutants")]
#[test]
fn every_deliberate_bug_is_found() {
    use orchestrator_core::mutants::{Mutant, with};

    let find = |mutant| (0..BUG_SEEDS).find_map(|seed| with(mutant, || simulate(seed)).err());
    // Without the bug each of these seeds passes, as the test above shows: only the bug can be what is found.
    assert!(seeds() >= BUG_SEEDS);
    let missed: Vec<_> = Mutant::ALL.into_iter().filter(|mutant| find(*mutant).is_none()).collect();
    assert!(missed.is_empty(), "not found: {missed:?}");
}
