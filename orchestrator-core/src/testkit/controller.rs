//! The conformance suite of [`Controller`]: one test per duty, over generated clusters.
//!
//! A controller of your own is tested like the built-in ones: call [`controller_conformance!`](crate::controller_conformance)
//! in a test module with a function that makes it.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::{Strategy, TestCaseError, any, prop_assert, prop_assert_eq};
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

use super::objects::{CLUSTER_NOW, Cluster, Shape, clusters};
use super::sandbox::{Sandbox, Unsettled};
use crate::controller::{Controller, Decision};
use crate::model::{Key, Kind, Part};
use crate::store::{Expect, RecordKey};
use crate::world::{ObjectWrite, Proposal, World};

/// How many clusters each duty is tested on.
pub const CONTROLLER_CASES: u32 = 32;

/// Makes the tests of the suite; takes an expression of type `fn() -> Box<dyn Controller>`.
///
/// ```
/// # use orchestrator_core::controller::{Controller, GarbageCollector};
/// mod garbage_collector {
///     # use super::*;
///     orchestrator_core::controller_conformance!(|| Box::new(GarbageCollector));
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! controller_conformance {
    ($make:expr) => {
        $crate::controller_conformance!(@each $make;
            co1_equal_worlds_give_equal_decisions,
            co2_every_write_carries_a_precondition_from_its_world,
            co3_applied_decisions_come_to_rest,
            co4_a_key_that_does_not_exist_is_no_error,
            co5_lost_repeated_and_reordered_changes_alter_nothing,
            co6_a_repeated_decision_doubles_nothing,
            co7_a_decision_on_an_older_world_does_no_harm,
            co8_nothing_decodable_makes_it_panic,
        );
    };
    (@each $make:expr; $($clause:ident),+ $(,)?) => {
        $(
            #[test]
            fn $clause() {
                $crate::testkit::controller::$clause($make);
            }
        )+
    };
}

/// Makes a controller to test.
pub type Make = fn() -> Box<dyn Controller>;

/// CO1.
pub fn co1_equal_worlds_give_equal_decisions(make: Make) {
    check(clusters(Shape::Absurd), |cluster| {
        // The same objects, put together in another order: maps must not show how they grew.
        let forth = build(make, &cluster);
        let mut back = build(make, &Cluster { objects: vec![], heard: cluster.heard.clone() });
        back.load(&forth);
        prop_assert_eq!(forth.world().revision(), back.world().revision());
        for key in interesting(&forth) {
            let once = decide(&forth, &key);
            prop_assert_eq!(&once, &decide(&forth, &key), "asked twice about {}", key);
            prop_assert_eq!(&once, &decide(&back, &key), "of an equal world, about {}", key);
        }
        Ok(())
    });
}

/// CO2.
pub fn co2_every_write_carries_a_precondition_from_its_world(make: Make) {
    check(clusters(Shape::Absurd), |cluster| {
        let sandbox = build(make, &cluster);
        for key in interesting(&sandbox) {
            for proposal in decide(&sandbox, &key).proposals {
                let txn = proposal.to_txn();
                prop_assert_eq!(txn.defect(), None);
                let unmet = unmet(sandbox.world(), &proposal);
                prop_assert_eq!(unmet, None, "{} proposed {:?}", key, proposal);
            }
        }
        Ok(())
    });
}

/// CO3.
pub fn co3_applied_decisions_come_to_rest(make: Make) {
    check(clusters(Shape::Absurd), |cluster| {
        let mut sandbox = build(make, &cluster);
        settle(&mut sandbox)?;
        let commits = sandbox.commits;
        sandbox.restart();
        settle(&mut sandbox)?;
        prop_assert_eq!(sandbox.commits, commits, "it wrote again after coming to rest");
        Ok(())
    });
}

/// CO4.
pub fn co4_a_key_that_does_not_exist_is_no_error(make: Make) {
    let nothing = Sandbox::new(vec![make()]);
    for kind in Kind::ALL {
        let decision = decide(&nothing, &Key::new(kind, "default", "nobody"));
        assert!(decision.is_quiet(), "{kind} in an empty world: {decision:?}");
    }
    check(clusters(Shape::Sound), |cluster| {
        let sandbox = build(make, &cluster);
        for kind in Kind::ALL {
            for name in ["nobody", "n1", "rs0", "c1"] {
                let key = Key::new(kind, "default", name);
                if sandbox.world().get(&key).is_some() {
                    continue;
                }
                for proposal in decide(&sandbox, &key).proposals {
                    let creates = |write: &ObjectWrite| matches!(write, ObjectWrite::Create { .. });
                    prop_assert!(!proposal.writes.iter().any(creates), "{} made something", key);
                }
            }
        }
        Ok(())
    });
}

/// CO5.
pub fn co5_lost_repeated_and_reordered_changes_alter_nothing(make: Make) {
    check((clusters(Shape::Sound), vec(any::<u8>(), 1..40)), |(cluster, choices)| {
        let expected = outcome(make, &cluster)?;
        let mut sandbox = build(make, &cluster);
        for choice in choices {
            let at = usize::from(choice >> 2) % sandbox.queue().len().max(1);
            let Some((controller, key)) = sandbox.queue().iter().nth(at).cloned() else { break };
            match choice % 4 {
                0 => sandbox.forget(Some(&(controller, key))),
                1 => {
                    sandbox.run(controller, &key);
                    sandbox.run(controller, &key);
                }
                _ => drop(sandbox.run(controller, &key)),
            }
        }
        sandbox.forget(None);
        sandbox.restart();
        settle(&mut sandbox)?;
        prop_assert_eq!(canonical(sandbox.world()), expected);
        Ok(())
    });
}

/// CO6.
pub fn co6_a_repeated_decision_doubles_nothing(make: Make) {
    check((clusters(Shape::Sound), any::<u8>()), |(cluster, cut)| {
        let expected = outcome(make, &cluster)?;
        let mut sandbox = build(make, &cluster);
        while let Some((controller, key)) = sandbox.queue().first().cloned() {
            sandbox.forget(Some(&(controller, key.clone())));
            // The program dies somewhere in the middle and decides again; then the first answer comes late.
            let decision = decide(&sandbox, &key);
            let cut = usize::from(cut) % (decision.proposals.len() + 1);
            let mut first = decision.clone();
            first.proposals.truncate(cut);
            sandbox.execute(controller, &key, &first);
            sandbox.run(controller, &key);
            sandbox.forget(Some(&(controller, key.clone())));
            for proposal in &decision.proposals {
                let creates = |write: &ObjectWrite| matches!(write, ObjectWrite::Create { .. });
                let held = sandbox.commit(proposal).is_ok();
                prop_assert!(!(held && proposal.writes.iter().any(creates)), "{} doubled", key);
            }
            prop_assert!(sandbox.commits < 5_000, "it never comes to rest");
        }
        sandbox.restart();
        settle(&mut sandbox)?;
        prop_assert_eq!(canonical(sandbox.world()), expected);
        Ok(())
    });
}

/// CO7.
pub fn co7_a_decision_on_an_older_world_does_no_harm(make: Make) {
    check(clusters(Shape::Sound), |cluster| {
        let expected = outcome(make, &cluster)?;
        let mut sandbox = build(make, &cluster);
        let mut old = Vec::new();
        while let Some((controller, key)) = sandbox.queue().first().cloned() {
            old.extend(interesting(&sandbox).into_iter().map(|key| (decide(&sandbox, &key), key)));
            sandbox.run(controller, &key);
            prop_assert!(old.len() < 20_000, "it never comes to rest");
        }
        for (decision, key) in old {
            sandbox.execute(0, &key, &decision);
        }
        settle(&mut sandbox)?;
        prop_assert_eq!(canonical(sandbox.world()), expected);
        Ok(())
    });
}

/// CO8.
pub fn co8_nothing_decodable_makes_it_panic(make: Make) {
    check((clusters(Shape::Absurd), any::<i64>()), |(cluster, now)| {
        let mut sandbox = build(make, &cluster);
        for now in [CLUSTER_NOW.as_millis(), 0, now] {
            sandbox.now = crate::model::Timestamp::from_millis(now);
            for key in interesting(&sandbox) {
                drop(decide(&sandbox, &key));
            }
        }
        Ok(())
    });
}

/// Runs a test on many generated values.
///
/// # Panics
/// With the smallest value found that fails the test.
#[track_caller]
fn check<S: Strategy>(strategy: S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let config = Config { cases: CONTROLLER_CASES, failure_persistence: None, ..Config::default() };
    if let Err(error) = TestRunner::new(config).run(&strategy, test) {
        panic!("{error}");
    }
}

fn build(make: Make, cluster: &Cluster) -> Sandbox {
    let mut sandbox = Sandbox::new(vec![make()]);
    sandbox.now = CLUSTER_NOW;
    for object in &cluster.objects {
        sandbox.put(object.clone());
    }
    for signal in &cluster.heard {
        sandbox.hear(signal.clone());
    }
    sandbox
}

/// Every key that could be run: the queue, every object, and names nobody has.
fn interesting(sandbox: &Sandbox) -> BTreeSet<Key> {
    let queued = sandbox.queue().iter().map(|(_, key)| key.clone());
    let there = sandbox.world().iter().map(|(key, _)| key.clone());
    queued.chain(there).chain([Key::node("n1"), Key::new(Kind::Event, "", "")]).collect()
}

fn decide(sandbox: &Sandbox, key: &Key) -> Decision {
    sandbox.controllers()[0].reconcile(key, sandbox.world(), sandbox.now)
}

fn settle(sandbox: &mut Sandbox) -> Result<usize, TestCaseError> {
    sandbox.settle().map_err(|unsettled: Unsettled| TestCaseError::fail(unsettled.to_string()))
}

/// What the controller makes of a cluster when nothing goes wrong.
fn outcome(make: Make, cluster: &Cluster) -> Result<BTreeMap<Key, Value>, TestCaseError> {
    let mut sandbox = build(make, cluster);
    settle(&mut sandbox)?;
    Ok(canonical(sandbox.world()))
}

/// The objects without what depends on the way they came about: revisions, uids of children and generations.
fn canonical(world: &World) -> BTreeMap<Key, Value> {
    let mut objects = BTreeMap::new();
    for (key, stored) in world.iter() {
        let mut value = stored.object.to_value();
        let owners = value["metadata"]["ownerReferences"].as_array_mut();
        for owner in owners.into_iter().flatten() {
            drop(owner["uid"].take());
        }
        for name in ["uid", "resourceVersion", "generation"] {
            drop(value["metadata"][name].take());
        }
        if value["status"].is_object() {
            drop(value["status"]["observedGeneration"].take());
        }
        objects.insert(key.clone(), value);
    }
    objects
}

/// The first record about which the proposal believes something that is not so in the world.
fn unmet(world: &World, proposal: &Proposal) -> Option<RecordKey> {
    let txn = proposal.to_txn();
    let guards = txn.guards.iter().map(|guard| (&guard.key, guard.expect));
    let writes = txn.writes.iter().map(|write| (write.key(), write.expect()));
    let mut all = guards.chain(writes);
    all.find_map(|(key, expect)| {
        let stored = world.get(&key.object);
        let current = stored.and_then(|stored| match key.part {
            Part::Main => Some(stored.main),
            Part::Status => stored.status,
        });
        let holds = match expect {
            Expect::Absent => current.is_none(),
            Expect::At(revision) => current == Some(revision),
        };
        (!holds).then(|| key.clone())
    })
}
