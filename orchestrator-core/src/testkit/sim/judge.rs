//! What must be true once a healed cluster has come to rest.

use std::sync::Arc;

use super::Simulation;
use crate::model::{Deployment, Pod};
use crate::scheduler::{ClusterView, feasible};

impl Simulation {
    /// L1: what is wanted is what there is.
    pub(super) fn judge(&self) -> Result<(), String> {
        for deployment in self.truth.all::<Deployment>(None) {
            if deployment.metadata.is_deleting() {
                return Err(format!("L3: {} is still being deleted", deployment.metadata.name));
            }
            self.judge_deployment(deployment)?;
        }
        for pod in self.truth.all::<Pod>(None) {
            if pod.metadata.is_deleting() {
                return Err(format!("L3: {} is still being deleted", pod.metadata.name));
            }
            if pod.metadata.controller().is_none_or(|owner| self.truth.by_uid(owner.uid).is_none())
            {
                return Err(format!("S24: {} outlived its owner", pod.metadata.name));
            }
        }
        for machine in &self.machines {
            for sandbox in machine.observe() {
                let known = self
                    .truth
                    .pods_on(&machine.name)
                    .any(|pod| pod.metadata.uid == sandbox.key.pod);
                if !known {
                    return Err(format!(
                        "S18: {} runs on {} and nobody wants it",
                        sandbox.name, machine.name
                    ));
                }
            }
        }
        Ok(())
    }

    fn judge_deployment(&self, deployment: &Arc<Deployment>) -> Result<(), String> {
        let name = &deployment.metadata.name;
        let wanted = deployment.spec.replicas.unwrap_or(1).max(0).unsigned_abs() as usize;
        let selected = |pod: &&Arc<Pod>| {
            pod.is_active() && deployment.spec.selector.matches(&pod.metadata.labels)
        };
        let pods: Vec<_> = self.truth.all::<Pod>(Some("default")).filter(selected).collect();
        let view = ClusterView::from_world(&self.truth);
        let stuck = pods.iter().filter(|pod| !pod.is_bound());
        for pod in stuck.clone() {
            if let Some(node) = view.nodes().find(|node| feasible(pod, node.name(), &view).is_ok())
            {
                return Err(format!(
                    "L4: {} is pending though it fits {}",
                    pod.metadata.name,
                    node.name()
                ));
            }
        }
        if stuck.count() > 0 {
            // The cluster is full: a rollout may rightly be waiting for room.
            return Ok(());
        }
        let template = &deployment.spec.template.spec;
        let new = pods.iter().filter(|pod| pod.spec == *template && pod.is_ready()).count();
        if pods.len() != wanted || new != wanted {
            return Err(format!(
                "L1: {name} wants {wanted} pods; there are {}, {new} of them new and ready",
                pods.len()
            ));
        }
        let status = &deployment.status;
        let told = status.observed_generation == deployment.metadata.generation
            && usize::try_from(status.available_replicas) == Ok(wanted);
        if told {
            Ok(())
        } else {
            Err(format!("L1: the status of {name} is out of date: {status:?}"))
        }
    }
}
