//! The built-in controllers do their duties.

mod cluster_role {
    crate::controller_conformance!(|| Box::new(crate::controller::ClusterRoles));
}

mod definition {
    crate::controller_conformance!(|| Box::new(crate::controller::Definitions));
}

mod deployment {
    crate::controller_conformance!(|| Box::new(crate::controller::DeploymentController));
}

mod disruption_budget {
    crate::controller_conformance!(|| Box::new(crate::controller::DisruptionBudgets));
}

mod event_expiry {
    crate::controller_conformance!(|| Box::new(crate::controller::EventExpiry));
}

mod garbage_collector {
    crate::controller_conformance!(|| Box::new(crate::controller::GarbageCollector));
}

mod namespace {
    crate::controller_conformance!(|| Box::new(crate::controller::NamespaceController));
}

mod node_health {
    crate::controller_conformance!(|| Box::new(crate::controller::NodeHealth));
}

mod node_slices {
    crate::controller_conformance!(|| Box::new(crate::controller::NodeSlices));
}

mod pod_collector {
    crate::controller_conformance!(|| Box::new(crate::controller::PodCollector));
}

mod replica_set {
    crate::controller_conformance!(|| Box::new(crate::controller::ReplicaSetController));
}

mod service_account {
    crate::controller_conformance!(|| Box::new(crate::controller::DefaultServiceAccounts));
}

mod taint_eviction {
    crate::controller_conformance!(|| Box::new(crate::controller::TaintEviction));
}

mod together {
    use proptest::prelude::{prop_assert_eq, proptest};
    use proptest::test_runner::{Config, TestCaseError};

    use crate::controller::built_in;
    use crate::testkit::objects::{CLUSTER_NOW, Shape, clusters};
    use crate::testkit::sandbox::Sandbox;

    proptest! {
        #![proptest_config(Config { cases: 64, failure_persistence: None, ..Config::default() })]

        #[test]
        fn s34_all_controllers_together_come_to_rest(cluster in clusters(Shape::Absurd)) {
            let mut sandbox = Sandbox::new(built_in());
            sandbox.now = CLUSTER_NOW;
            cluster.objects.iter().for_each(|object| sandbox.put(object.clone()));
            cluster.heard.iter().for_each(|signal| sandbox.hear(signal.clone()));
            let fail = |error: crate::testkit::sandbox::Unsettled| {
                TestCaseError::fail(error.to_string())
            };
            sandbox.settle().map_err(fail)?;
            let commits = sandbox.commits;
            for _ in 0..3 {
                sandbox.restart();
                sandbox.settle().map_err(fail)?;
            }
            prop_assert_eq!(sandbox.commits, commits, "they wrote again after coming to rest");
        }
    }
}
