//! Evictions and the budgets they heed.

use super::*;

/// A world with a running pod under a budget that allows so many evictions.
fn bench(allowed: i32, policy: &str, is_ready: bool) -> Bench {
    let mut bench = Bench::new();
    let mut sent = pod("web");
    sent["metadata"]["labels"] = json!({ "app": "web" });
    bench.create(Kind::Pod, "default", sent);
    bench.create(Kind::Node, "", node("n1"));
    bench
        .submit(&Request::Bind { pod: key(Kind::Pod, "web"), node: "n1".to_owned() })
        .expect("bound");
    let ready = if is_ready { "True" } else { "False" };
    status(
        &mut bench,
        &key(Kind::Pod, "web"),
        json!({ "phase": "Running", "conditions": [{ "type": "Ready", "status": ready }] }),
    );
    budget(&mut bench, "web", policy);
    status(
        &mut bench,
        &key(Kind::PodDisruptionBudget, "web"),
        json!({
            "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1, "observedGeneration": 1,
            "disruptionsAllowed": allowed,
        }),
    );
    bench
}

fn status(bench: &mut Bench, key: &Key, status: Value) {
    bench
        .submit(&patch(key, Part::Status, Patch::Merge(json!({ "status": status }))))
        .expect("valid");
}

fn budget(bench: &mut Bench, name: &str, policy: &str) {
    let sent = json!({
        "metadata": { "name": name },
        "spec": {
            "minAvailable": 1,
            "selector": { "matchLabels": { "app": "web" } },
            "unhealthyPodEvictionPolicy": policy,
        },
    });
    bench.create(Kind::PodDisruptionBudget, "default", sent);
}

fn evict(bench: &mut Bench) -> Result<Effect, Rejection> {
    let pod = key(Kind::Pod, "web");
    bench.submit(&Request::Evict { pod, options: DeleteOptions::default() })
}

#[test]
fn an_eviction_takes_from_the_budget_in_the_transaction_that_deletes_the_pod() {
    let mut bench = bench(1, "IfHealthyBudget", true);
    evict(&mut bench).expect("allowed");
    assert!(bench.json(&key(Kind::Pod, "web"))["metadata"]["deletionTimestamp"].is_string());
    let budget = bench.json(&key(Kind::PodDisruptionBudget, "web"));
    assert_eq!(budget["status"]["disruptionsAllowed"], 0);
}

#[test]
fn a_budget_with_nothing_left_refuses_and_says_why() {
    let mut bench = bench(0, "IfHealthyBudget", true);
    match evict(&mut bench) {
        Err(Rejection::DisruptionBudget { cause, retry_after_seconds: 0 }) => {
            assert_eq!(cause, "The disruption budget web needs 1 healthy pods and has 1 currently");
        }
        other => panic!("{other:?}"),
    }
    assert!(bench.json(&key(Kind::Pod, "web"))["metadata"]["deletionTimestamp"].is_null());
    // Deleting heeds no budget.
    let request = Request::Delete { key: key(Kind::Pod, "web"), options: DeleteOptions::default() };
    bench.submit(&request).expect("deleted");
}

#[test]
fn a_changed_budget_refuses_until_its_controller_has_looked() {
    let mut bench = bench(1, "IfHealthyBudget", true);
    let budget = key(Kind::PodDisruptionBudget, "web");
    bench.submit(&merge(&budget, json!({ "spec": { "minAvailable": 0 } }))).expect("changed");
    match evict(&mut bench) {
        Err(Rejection::DisruptionBudget { cause, retry_after_seconds }) => {
            assert!(cause.contains("still being processed") && retry_after_seconds > 0, "{cause}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pod_that_is_not_ready_goes_if_enough_others_are_or_the_budget_does_not_mind() {
    evict(&mut bench(0, "IfHealthyBudget", false)).expect("as healthy as it need be");
    let mut short = bench(0, "IfHealthyBudget", false);
    status(
        &mut short,
        &key(Kind::PodDisruptionBudget, "web"),
        json!({ "currentHealthy": 0, "desiredHealthy": 1, "observedGeneration": 1 }),
    );
    evict(&mut short).expect_err("too few are healthy");
    let mut lenient = bench(0, "AlwaysAllow", false);
    status(
        &mut lenient,
        &key(Kind::PodDisruptionBudget, "web"),
        json!({ "currentHealthy": 0, "desiredHealthy": 1, "observedGeneration": 1 }),
    );
    evict(&mut lenient).expect("allowed");
}

#[test]
fn two_budgets_for_one_pod_are_refused_by_name() {
    let mut bench = bench(1, "IfHealthyBudget", true);
    budget(&mut bench, "other", "AlwaysAllow");
    let refused = evict(&mut bench).expect_err("two budgets").to_string();
    assert!(refused.contains("\"other\"") && refused.contains("\"web\""), "{refused}");
}

#[test]
fn only_pods_are_evicted() {
    let mut bench = bench(1, "IfHealthyBudget", true);
    let pod = key(Kind::PodDisruptionBudget, "web");
    bench.submit(&Request::Evict { pod, options: DeleteOptions::default() }).expect_err("no pod");
}
