//! The built-in controllers do their duties.

mod deployment {
    crate::controller_conformance!(|| Box::new(crate::controller::DeploymentController));
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

mod pod_collector {
    crate::controller_conformance!(|| Box::new(crate::controller::PodCollector));
}

mod replica_set {
    crate::controller_conformance!(|| Box::new(crate::controller::ReplicaSetController));
}

mod taint_eviction {
    crate::controller_conformance!(|| Box::new(crate::controller::TaintEviction));
}
