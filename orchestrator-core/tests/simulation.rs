//! Seeded simulations of a whole cluster: whatever goes wrong, the invariants hold and the cluster comes to rest
//! as wanted.

use orchestrator_core::testkit::sim::simulate;

#[test]
fn whatever_goes_wrong_the_cluster_comes_to_rest_as_wanted() {
    let seeds: u64 =
        std::env::var("ORCH_SIM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(30);
    let broken: Vec<String> = (0..seeds).filter_map(|seed| simulate(seed).err()).collect();
    assert!(broken.is_empty(), "{} of {seeds} seeds:\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn equal_seeds_give_equal_runs() {
    for seed in [1, 7, 23] {
        assert_eq!(simulate(seed), simulate(seed), "seed {seed}");
    }
}
